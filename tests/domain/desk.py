"""Several incidents and the targets they share, in memory: the responder without store, clock or thread.

`Desk` checks on every append what must hold of every one: ids are unique, nothing is due that was just handled,
no escalation page leaves after an acknowledgement, contained means verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from bot.domain import containment
from bot.domain.agent import Agent
from bot.domain.containment import Containment
from bot.domain.decisions import (
    AskApproval,
    AskPermit,
    Decision,
    DraftDocument,
    EndPermit,
    Invite,
    Notify,
    OpenChannel,
    Page,
    PageKind,
    PlaceHold,
    PlanStep,
    Post,
    ReleaseHold,
    Replay,
    RunAction,
    Survey,
    Withdraw,
)
from bot.domain.escalation import Matrix
from bot.domain.events import (
    Absorbed,
    ActionSettled,
    ChannelOpened,
    DeadlinePassed,
    Deferred,
    DocumentDrafted,
    Event,
    HoldPlaced,
    HoldReleased,
    Invited,
    Merged,
    PageFailed,
    PageSent,
    Permitted,
    Posted,
    Released,
    SeverityChanged,
    Standing,
    Surveyed,
    TextRef,
    Verb,
    Verified,
)
from bot.domain.expression import Expression, Literal, Template
from bot.domain.incident import Frozen, Incident, StepStatus, admit, due, fold, is_held, next_deadline
from bot.domain.outcome import Done, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Call, Playbook, Step, Target
from bot.domain.reach import Held, Reach
from bot.domain.record import Entry
from bot.domain.response import advance
from bot.domain.runbook import Runbook
from bot.errors import Refused
from tests.domain.incidents import MATRIX, RUNBOOK, START, minutes, opened


class Estate:
    """A Catalogue. `mode` and `deny` hold the agent and its role at `level`, `lock` cannot be undone, `none` finds
    nothing to act on, anything else works on a job."""

    def targets(self, action: str, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        if agent is None:
            raise ValueError("the agent is not enrolled")
        kinds = {
            "mode": ("agent",),
            "agent.set_mode": ("agent",),
            "deny": ("iam-role",),
            "lock": ("iam-role",),
            "both": ("agent", "iam-role"),
        }
        if action == "none":
            return ()
        level = int(params.get("level", 1))
        return tuple(
            Target(f"{kind}:{params.get('name', agent.id)}", dict(params), "sys", level=level)
            for kind in kinds.get(action, ("job",))
        )

    def version(self, action: str) -> int:  # noqa: ARG002 - the Catalogue's shape
        return 1

    def undoable(self, action: str) -> bool:
        return action != "lock"

    def trail(self, action: str) -> timedelta | None:
        return minutes(15) if action == "deny" else None


def value(plain: str | int | bool) -> Template:
    return Template(Literal(plain))


def call(action: str, **arguments: Any) -> Call:
    templates = {key: Template(v) if isinstance(v, Expression) else value(v) for key, v in arguments.items()}
    return Call(action, templates)


def step(id: str, action: str = "work", arguments: Mapping[str, Any] | None = None, **changes: Any) -> Step:
    return Step(id, None if "manual" in changes else call(action, **(arguments or {})), **changes)


def playbook(*steps: Step, **changes: Any) -> Playbook:
    """Its cuts are not looked at again, unless it says so."""
    return Playbook("book", "1.0.0", "p" * 64, {one.id: one for one in steps}, **{"verify": (), **changes})


@dataclass
class Desk:
    """`permit` says '' or why not now. Messages and papers are answered at once where `eager`; calls and pages wait in
    `queue` for the test."""

    permit: Callable[[AskPermit], str] = lambda _: ""
    eager: bool = True
    now: datetime = START
    incidents: dict[str, Incident] = field(default_factory=dict)
    targets: dict[str, containment.Target] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    queue: dict[str, tuple[str, Decision]] = field(default_factory=dict)  # decision id -> (stream, decision)
    surveys: dict[str, Survey] = field(default_factory=dict)  # looks that are under way
    groups: dict[str, list[str]] = field(default_factory=dict)  # concurrency group -> holder, then waiters
    ids: set[str] = field(default_factory=set)

    # Events -----------------------------------------------------------------------------------------------------

    def open(
        self, book: Playbook | None = None, matrix: Matrix = MATRIX, runbook: Runbook | None = RUNBOOK, **changes: Any
    ) -> str:
        id = changes.pop("incident", f"INC-{len(self.incidents) + 1}")
        self.incidents[id] = Incident(id, Frozen(matrix, Estate(), book, runbook))
        self.happen(id, opened(incident=id, **{"notify": (), **changes}))
        return id

    def happen(self, id: str, event: Event) -> tuple[Decision, ...]:
        """Raises Refused, and then nothing has changed."""
        admit(self.incidents[id], event)
        return self._append(id, event)

    def merge(self, id: str, into: str) -> None:
        """Both entries or, raising Refused, none."""
        merged = Merged(into, "a")
        absorbed = Absorbed(id, "a", severity=self.incidents[id].severity)
        admit(self.incidents[id], merged)
        admit(self.incidents[into], absorbed)
        self.happen(id, merged)
        self.happen(into, absorbed)

    def refuses(self, id: str, event: Event) -> str:
        """The code of the refusal; an AssertionError where the event is taken."""
        before = self.incidents[id]
        try:
            admit(before, event)
        except Refused as refused:
            return refused.code
        raise AssertionError(f"{event} is admitted")

    def _append(self, id: str, event: Event) -> tuple[Decision, ...]:
        before = self.incidents[id]
        after, decisions = advance(before, event, self.now)
        self.incidents[id] = after
        self._keep(id, after.version, event, decisions)
        check(before, after, event, decisions, self.entries[id])
        for decision in decisions:
            self._within(id, decision)
        for one, (stream, decision) in tuple(self.queue.items()):
            if stream == id and isinstance(decision, RunAction) and not self.incidents[id].wants(one):
                del self.queue[one]  # the performer asks too before it begins
        return decisions

    def _append_target(self, id: str, event: Event) -> None:
        before = self.targets.get(id) or containment.Target(id)
        try:
            containment.admit(before, event)
        except Refused as refused:
            raise AssertionError(f"{id} refuses {event}: {refused}") from refused
        after, decisions = containment.advance(before, event, self.now)
        self.targets[id] = after
        self._keep(id, after.version, event, decisions)
        wanted = after.call.decision if after.call else ""
        for one, (stream, _) in tuple(self.queue.items()):
            if stream == id and one != wanted:
                del self.queue[one]  # a look that made way
        for decision in decisions:
            self.queue[decision.id] = (id, decision)
        for (incident, name, call_name), why in containment.released(before, after, event):
            self._append(incident, ActionSettled(f"{id}/{after.version}", name, call_name, Verb.UNDO, Skipped(why)))

    def _keep(self, stream: str, version: int, event: Event, decisions: Iterable[Decision]) -> None:
        decisions = tuple(decisions)
        self.entries.setdefault(stream, []).append(Entry(stream, version, self.now, event, decisions))
        for number, decision in enumerate(decisions):
            assert decision.id == f"{stream}/{version}.{number}"
            assert decision.id not in self.ids
            self.ids.add(decision.id)

    def _within(self, id: str, decision: Decision) -> None:
        match decision:
            case PlaceHold(target=target, hold=hold, call=name, instead=instead):
                self._append_target(target, HoldPlaced(target, hold, name, instead))
            case ReleaseHold(target=target, incident=incident, step=name, by=by):
                self._append_target(target, HoldReleased(target, incident, name, by))
            case AskPermit(steps=steps, group=group):
                why = self._take(group, id) if group else self.permit(decision)
                self._append(id, Deferred(steps, why, group) if why else Permitted(steps, group))
            case EndPermit(group=group):
                self._end(group, id)
            case Replay():
                self.queue[decision.id] = (id, decision)
            case Withdraw(decisions=ids):
                for gone in ids:
                    self.queue.pop(gone, None)
            case Post() | AskApproval() | DraftDocument() | OpenChannel() | Invite() if self.eager:
                self.answer(decision)
            case Survey():
                self.surveys[decision.id] = decision
            case Page() | Notify() | RunAction() | Post() | AskApproval() | DraftDocument() | OpenChannel() | Invite():
                self.queue[decision.id] = (id, decision)

    def _take(self, group: str, id: str) -> str:
        members = self.groups.setdefault(group, [])
        if id not in members:
            members.append(id)
        return "" if members[0] == id else f"{members[0]} works in {group}"

    def _end(self, group: str, id: str) -> None:
        members = self.groups.get(group, [])
        if id in members:
            members.remove(id)
        while members:
            waiter = self.incidents[members[0]]
            waits = (StepStatus.AWAITING_PERMIT, StepStatus.DEFERRED)
            steps = tuple(r.id for r in waiter.steps.values() if r.status in waits and not is_held(waiter, r))
            if steps and not waiter.over:
                self._append(waiter.id, Permitted(steps, group))
                return
            members.pop(0)

    # Answers ----------------------------------------------------------------------------------------------------

    def answer(self, decision: Post | AskApproval | DraftDocument | OpenChannel | Invite) -> None:
        self.queue.pop(decision.id, None)
        if not self.incidents[decision.incident].wants(decision.id):
            return  # the performer asks too before it begins
        match decision:
            case Post(id=id, incident=incident, purpose=purpose):
                self.happen(incident, Posted(id, purpose, "C1", "1.0"))
            case AskApproval(id=id, incident=incident):
                self.happen(incident, Posted(id, f"approval:{id}", "C1", "1.0"))
            case DraftDocument(id=id, incident=incident, kind=kind):
                self.happen(incident, DocumentDrafted(id, kind, TextRef(kind, "d")))
            case OpenChannel(id=id, incident=incident, name=name, private=private):
                self.happen(incident, ChannelOpened(id, f"C-{name}", name, private))
            case Invite(id=id, incident=incident):
                self.happen(incident, Invited(id))

    def calls(self, step: str = "", incident: str = "") -> list[RunAction]:
        found = [d for _, d in self.queue.values() if isinstance(d, RunAction)]
        return [d for d in found if (not step or d.step == step) and (not incident or d.incident == incident)]

    def survey(self, *held: Held, unread: tuple[str, ...] = ()) -> Survey:
        """The oldest look that is under way comes back."""
        decision = self.surveys.pop(next(iter(self.surveys)))
        self.happen(decision.incident, Surveyed(decision.id, decision.phase, Reach.of(held, unread)))
        return decision

    def settle(self, step: str | RunAction, outcome: Outcome, incident: str = "") -> RunAction:
        """The first outstanding call of this step comes back."""
        sent = step if isinstance(step, RunAction) else self.calls(step, incident)[0]
        assert sent.verb is not Verb.VERIFY, "a look is answered by `look`"
        stream, _ = self.queue.pop(sent.id)
        event = ActionSettled(sent.id, sent.step, sent.call, sent.verb, outcome)
        if stream in self.incidents:
            self.happen(stream, event)
            return sent
        before = self.targets[stream]
        waiting, final = before.waiting(), containment.is_final(before, outcome, self.now)
        self._append_target(stream, replace(event, final=final))
        for who, name, call_name in waiting:
            self.happen(who, replace(event, step=name, call=call_name, final=final))
        return sent

    def look(self, sent: RunAction, standing: Standing, **found: Any) -> Verified:
        """A look comes back."""
        self.queue.pop(sent.id)
        event = Verified(sent.id, sent.step, sent.call, standing, **found)
        told = containment.told_of(self.targets[sent.target], event)
        self._append_target(sent.target, event)
        for who, name, call_name in told:
            self.happen(who, replace(event, step=name, call=call_name))
        return event

    def settle_all(self, outcome: Outcome) -> None:
        while calls := self.calls():
            self.settle(calls[0], outcome)

    def pages(self, kind: PageKind | None = PageKind.ESCALATION, incident: str = "INC-1") -> list[Page]:
        """Those that have not left."""
        found = [d for _, d in self.queue.values() if isinstance(d, Page) and d.incident == incident]
        return [page for page in found if kind is None or page.kind is kind]

    def notices(self) -> list[Notify]:
        return [d for _, d in self.queue.values() if isinstance(d, Notify)]

    def send(self, kind: PageKind | None = PageKind.ESCALATION) -> list[tuple[str, tuple[int, ...]]]:
        """Everything queued leaves: (person, levels)."""
        sent = self.pages(kind)
        for page in sent:
            del self.queue[page.id]
            self.happen(page.incident, PageSent(page.id, page.key, page.person, page.way))
        return sorted((page.person, page.levels) for page in sent)

    def fail(self, page: Page | Notify) -> None:
        del self.queue[page.id]
        self.happen(page.incident, PageFailed(page.id, page.key, page.person, page.way, "no answer"))

    # Time -------------------------------------------------------------------------------------------------------

    def next_moment(self) -> datetime | None:
        moments = [next_deadline(i) for i in self.incidents.values()] + [t.next_deadline for t in self.targets.values()]
        return min((at for at in moments if at), default=None)

    def forward(self, count: float) -> None:
        """Minutes pass, and every deadline on the way is met when it is due."""
        end = self.now + minutes(count)
        while (at := self.next_moment()) and at <= end:
            self.now = max(self.now, at)
            self.wake()
        self.now = end

    def sleep(self, count: float) -> None:
        """The process is away for so many minutes, and then wakes."""
        self.now += minutes(count)
        self.wake()

    def wake(self) -> None:
        for id in tuple(self.incidents):
            for _ in range(200):
                ripe = due(self.incidents[id], self.now)
                if not ripe:
                    break
                self.happen(id, ripe[0])
            else:
                raise AssertionError(f"{id} does not come to rest: {ripe}")
        for id in tuple(self.targets):
            at = self.targets[id].next_deadline
            if at and at <= self.now:
                self._append_target(id, DeadlinePassed("again", at))
                at = self.targets[id].next_deadline
                assert at is None or at > self.now

    # The state --------------------------------------------------------------------------------------------------

    def status(self, step: str, incident: str = "INC-1") -> str:
        return str(self.incidents[incident].steps[step].status)

    def request(self, step: str, incident: str = "INC-1") -> str:
        return self.incidents[incident].steps[step].request

    def folded(self, id: str) -> Incident:
        return fold(Incident(id, self.incidents[id].frozen), self.entries[id])

    def folded_target(self, id: str) -> containment.Target:
        target = containment.Target(id)
        for entry in self.entries[id]:
            after = containment.apply(target, entry.event, entry.at)
            target = containment.take(after, tuple(d for d in entry.decisions))
        return target

    def force(self, target: str, action: str) -> int:
        control = self.targets[target].controls[action]
        return control.in_force.level if control.in_force else 0


# What holds of every append ---------------------------------------------------------------------------------------


def check(
    before: Incident, after: Incident, event: Event, decisions: tuple[Decision, ...], entries: list[Entry]
) -> None:
    assert after.version == before.version + 1
    for decision in decisions:
        if isinstance(decision, Page) and decision.kind is PageKind.ESCALATION:
            assert not after.acked_by, "an escalation page after the acknowledgement"
            assert not after.over, "an escalation page after the end"
            # The next way of a page that failed is no repeat.
            if after.is_silent(after.at or START) and not isinstance(event, PageFailed):
                assert not _reached(before, decision), "a page repeated in the silence"
        assert not isinstance(decision, ReleaseHold) or isinstance(event, Released), "only people let go"
    if isinstance(event, SeverityChanged):
        assert after.containment is before.containment
        assert {id: run for id, run in after.steps.items() if run.holding} == {
            id: run for id, run in before.steps.items() if run.holding
        }
    if "update" in after.timers:
        assert not after.over
    for state in after.pages.values():
        if isinstance(state.page, Page) and state.state == "queued":
            assert not after.over
            assert not (after.acked_by and state.page.kind is PageKind.ESCALATION)
    if isinstance(event, DeadlinePassed):
        assert after.deadlines().get(event.name) != event.due, f"{event.name} is due again at once"
    assert (after.containment is Containment.CONTAINED) == is_contained(after, entries)
    assert after.containment is not Containment.CONTAINED or "containment" not in after.timers


def _reached(incident: Incident, page: Page) -> bool:
    """This person for this level, by a page that left or is about to."""
    return any(
        isinstance(state.page, Page)
        and (state.page.kind, state.page.person) == (page.kind, page.person)
        and max(state.page.levels) == max(page.levels)
        and state.state in ("queued", "sent")
        for state in incident.pages.values()
    )


def is_contained(incident: Incident, entries: list[Entry]) -> bool:
    """Law 5, read from the record alone: some containing step, and each of its calls at its grade."""
    book = incident.frozen.playbook
    planned: dict[str, set[str]] = {}
    latest: dict[tuple[str, str], Outcome] = {}
    used: dict[tuple[str, str], int] = {}  # after the cut, by the system's log
    out: set[str] = set()
    for entry in entries:
        settled = entry.event
        if isinstance(settled, ActionSettled):
            key = (settled.step, settled.call)
            if settled.verb is Verb.UNDO:
                latest.pop(key, None)
            elif settled.final:
                latest[key] = settled.outcome
        if isinstance(settled, Verified):
            key = (settled.step, settled.call)
            known = latest.get(key)
            evidence = known.evidence if isinstance(known, Done) else {}
            if settled.after:
                used[key] = settled.after.count
            if settled.standing is Standing.LOST or settled.alive:
                latest.pop(key, None)  # until it is put back
            elif settled.standing is Standing.STANDS:
                latest[key] = Done(settled.grade, evidence)
            elif isinstance(known, Done):
                latest[key] = Done(Grade.UNVERIFIED)
        for decision in entry.decisions:
            match decision:
                case PlanStep(step=step, calls=calls) if step in planned and calls:  # it cuts again, and more
                    planned[step] |= {call.name for call in calls}
                    latest = {key: outcome for key, outcome in latest.items() if key[0] != step}
                case PlaceHold(hold=hold, call=name):
                    planned.setdefault(hold.step, set()).add(name)
                    latest.pop((hold.step, name), None)
                    used.pop((hold.step, name), None)
    for run in incident.steps.values():
        if run.status in (StepStatus.LEFT_OUT, StepStatus.OBSERVED, StepStatus.RELEASED):
            out.add(run.id)
    # Where people let a cut go, a step that found nothing to hold does not stand for it.
    let_go = any(run.status is StepStatus.RELEASED for run in incident.steps.values())
    empty = {run.id for run in incident.steps.values() if run.status is StepStatus.DONE and not run.calls}
    out |= empty if let_go else set()
    counted = [one for one in (book.steps.values() if book else ()) if one.contains and one.id not in out]
    for one in counted:
        if one.id in empty:
            continue  # nothing held
        outcomes = [latest.get((one.id, name)) for name in planned.get(one.id, ())]
        good = [isinstance(o, Done) and (bool(o.nothing_held) or o.grade >= one.require) for o in outcomes]
        if not good or not all(good) or any(used.get((one.id, name)) for name in planned.get(one.id, ())):
            return False
    return bool(counted)


def later(desk: Desk, seconds: float, **fields: Any) -> Pending:
    return Pending(desk.now + timedelta(seconds=seconds), **fields)
