"""What holds whatever happens: random lives of incidents that share targets. What breaks a law is shrunk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from random import Random
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.domain.alert import Resource, Sev, Severity
from bot.domain.approval import ApprovalState, fingerprint
from bot.domain.conversation import next_task
from bot.domain.decisions import (
    AskApproval,
    AskPermit,
    DraftDocument,
    Invite,
    Notify,
    OpenChannel,
    Page,
    Post,
    Replay,
    RunAction,
)
from bot.domain.escalation import Contact, Matrix, next_moment, reached
from bot.domain.events import (
    Absorbed,
    Acknowledged,
    ActionSettled,
    Aftermath,
    AgentResolved,
    AlertReceived,
    ApprovalGiven,
    ApprovalRefused,
    Escalated,
    Event,
    FormSubmitted,
    MadePrivate,
    Merged,
    NoteAdded,
    Overridden,
    PageFailed,
    PageSent,
    PinChanged,
    Pinned,
    PostFailed,
    ReissueAsked,
    Released,
    ReminderSnoozed,
    ReplayAsked,
    Replayed,
    ReturnAsked,
    ReturnStopped,
    RoleTaken,
    RollbackAsked,
    RosterResolved,
    SeverityChanged,
    Silenced,
    Standing,
    Status,
    StatusChanged,
    Summoned,
    Surveyed,
    TaskAdded,
    TaskChanged,
    TextRef,
    Timers,
    Unacknowledged,
    UpdateGiven,
    Verb,
)
from bot.domain.expression import Expression, Item, ListOf, Literal, Name
from bot.domain.incident import StepStatus, admit, due, next_deadline
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped, Unknown
from bot.domain.playbook import ApprovalRule, Concurrency, Manual, OnError, OnTimeout, Playbook, Retry, Rung, Step
from bot.domain.reach import Alive, Held, Reach
from bot.domain.record import Entry
from bot.errors import Refused
from tests.domain.desk import Desk, call, minutes, playbook, step
from tests.domain.incidents import AGENT, ALERT, MATRIX, ROSTER, RUNBOOK

ONCE = (
    *(PageSent, PageFailed, ActionSettled, Acknowledged, Unacknowledged, ApprovalGiven, ApprovalRefused),
    *(SeverityChanged, RoleTaken, TaskAdded, UpdateGiven, ReminderSnoozed, Silenced, Pinned, PinChanged, MadePrivate),
)
PEOPLE = ("a", "b", "c", "owner-2")
GROUPS = (("security_team",), ("infra_owner",), ("security_team", "infra_owner"), ("sre",))


class Life:
    """A random life. What the simulated systems hold is kept beside the record, to be compared with what it claims."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.desk = Desk(permit=self._permit, eager=self._often(70))
        self.force: dict[tuple[str, str], int] = {}  # (target, action) -> the level the system is really at
        self.tampered: set[tuple[str, str]] = set()  # somebody took it away, and nobody has looked since
        self.past: list[tuple[str, Event]] = []
        for _ in range(self.random.choice((1, 2, 3))):
            self.desk.now += minutes(self.random.choice((0, 3)))
            self.desk.open(
                self._book() if self._often(95) else None,
                matrix=self._matrix(),
                runbook=self.random.choice((RUNBOOK, None)),
                roster=self._roster(),
                contain=self._often(90),
                notify=self.random.choice(((), ("sre", "cto"))),
                trigger_errors=self.random.choice(((), ("other",))),
                agent=self.random.choice((AGENT, AGENT, AGENT, None)),
                timers=Timers(updates=self.random.choice(((), (1800.0, 3600.0, 0.0, 0.0)))),
            )

    def _often(self, percent: int) -> bool:
        """By whole numbers: `random()` would mostly give the odd floats that Hypothesis likes."""
        return self.random.randrange(100) < percent

    def _permit(self, _: AskPermit) -> str:
        return "" if self._often(80) else "too many"

    def _roster(self) -> Mapping[str, tuple[Contact, ...]]:
        percent = self.random.choice((100, 60, 0))
        return {role: contacts if self._often(percent) else () for role, contacts in ROSTER.items()}

    def _matrix(self) -> Matrix:
        if self._often(60):
            return MATRIX
        odd = tuple(replace(one, page_at=one.page_at * 7 / 5, ack_by=one.ack_by * 13 / 11) for one in MATRIX.levels)
        return replace(MATRIX, levels=odd, repeat_every=minutes(self.random.choice((4, 7))))

    def _book(self) -> Playbook:
        steps: list[Step] = []
        for index in range(self.random.randint(1, 6)):
            steps.append(self._step(f"s{index}", [one.id for one in steps]))
        return playbook(
            *steps,
            rung=self.random.choice((Rung.ACT, Rung.ACT, Rung.ACT, Rung.PROPOSE, Rung.OBSERVE)),
            concurrency=self.random.choice((None, Concurrency(call("x", g="one").arguments["g"]))),
            timeout=minutes(self.random.choice((240, 20))),
            verify=self.random.choice(((), (minutes(1), minutes(5), minutes(60)))),
            on_failure=self.random.choice(((), (call("page.escalate"),), (call("page.escalate"), call("work")))),
        )

    def _step(self, id: str, earlier: list[str]) -> Step:
        pick = self.random.choice
        contains = self._often(60)
        changes: dict[str, Any] = {
            "contains": contains,
            "require": pick((Grade.CONFIG, Grade.EFFECT, Grade.UNVERIFIED)),
            "needs": tuple(self.random.sample(earlier, min(len(earlier), pick((0, 0, 1))))),
            "after": tuple(self.random.sample(earlier, min(len(earlier), pick((0, 0, 1))))),
            "on_error": pick((OnError.FAIL, OnError.FAIL, OnError.CONTINUE)),
            "condition": pick((None, None, None, Literal(False), Literal(True), Name("nothing"))),
            "retry": Retry(attempts=pick((1, 3))),
        }
        if self._often(30):
            rule = {"security_team": 1, "infra_owner": pick((0, 1))}
            each = {group: count for group, count in rule.items() if count}
            changes["approval"] = ApprovalRule(each, minutes(pick((5, 30))), pick(tuple(OnTimeout)))
        if not contains and self._often(20):
            kept = ("needs", "after", "condition", "on_error")
            manual = Manual(pick(("sre", "nobody")), {"yes": "boolean"}, minutes(10))
            return step(id, manual=manual, **{key: changes[key] for key in kept})
        foreach: Expression | None = None
        if self._often(10):
            foreach = Item(Name("reach"), Literal("chained"))
        elif self._often(20):
            foreach = pick((ListOf(()), ListOf((Literal(1), Literal(2))), Literal("no list")))
        arguments: dict[str, Any] = {"level": pick((1, 2, 3))}
        if foreach:
            found = isinstance(foreach, Item)
            arguments["name"] = Item(Name("item"), Literal("session")) if found else Name("item")
        if not contains and self._often(50):
            changes["rollback"] = call("undo_work", level=1)
        actions = ("mode", "mode", "deny", "lock", "both", "none") if contains else ("work", "work", "none")
        return step(id, pick(actions), arguments, foreach=foreach, **changes)

    # What happens -----------------------------------------------------------------------------------------------

    def live(self, moves: int) -> None:
        for _ in range(moves):
            self._move()
            self._compare()

    def _move(self) -> None:
        desk, chance = self.desk, self.random.randrange(100)
        if chance < 35 and (calls := desk.calls()):
            self._answer(self.random.choice(calls), self._outcome())
        elif chance < 38 and self.force:
            control = self.random.choice(tuple(self.force))
            self.force[control] = 0
            self.tampered.add(control)
        elif chance < 38 and desk.surveys:
            self._surveyed()
        elif chance < 50 and desk.queue:
            self._message()
        elif chance < 65:
            jump = self.random.choice((0, 0.1, 1, 5, 15, 61, 600))
            desk.sleep(jump) if self._often(50) else desk.forward(min(jump, 61))
            for incident in desk.incidents.values():
                assert due(incident, desk.now) == ()
                following = next_deadline(incident)
                assert following is None or following > desk.now
        elif chance < 67 and len(desk.incidents) > 1:
            self._merge(*self.random.sample(tuple(desk.incidents), 2))
        elif chance < 76 and self.past:
            self._again(*self.random.choice(self.past))
        else:
            id = self.random.choice(tuple(desk.incidents))
            self._try(id, self._event(id))

    def _merge(self, id: str, into: str) -> None:
        before = dict(self.desk.incidents)
        held = [run.id for run in before[id].steps.values() if run.holding]
        try:
            self.desk.merge(id, into)
        except Refused:
            assert self.desk.incidents == before
            return
        after = self.desk.incidents[id]
        assert after.over
        assert not self.desk.incidents[into].over
        assert [run.id for run in after.steps.values() if run.holding] == held, "what is held stays held"
        assert self.desk.incidents[into].severity == min(before[id].severity, before[into].severity)
        for again in (Merged(into, "a"), StatusChanged(Status.INVESTIGATING, "a")):
            assert self.desk.refuses(id, again)
        assert self.desk.refuses(into, Absorbed(id, "a"))

    def _try(self, id: str, event: Event) -> None:
        before, entries = self.desk.incidents[id], len(self.desk.entries[id])
        try:
            admit(before, event)
        except Refused:
            assert self.desk.incidents[id] is before
            assert len(self.desk.entries[id]) == entries
            return
        self.desk.happen(id, event)  # from here on nothing may raise
        self.past.append((id, event))
        if isinstance(event, AlertReceived):
            after = self.desk.incidents[id]
            assert after.severity == min(before.severity, event.severity), "an alert only makes it worse"
            assert after.contain == (before.contain or event.contain)
            assert after.started >= before.started

    def _again(self, id: str, event: Event) -> None:
        """Doubled, late, out of order: refused where it is no news."""
        if isinstance(event, ONCE) and (id, event) == self.past[-1] and self.desk.entries[id][-1].event == event:
            assert self.desk.refuses(id, event)
        else:
            self._try(id, event)

    def _outcome(self) -> Outcome:
        now, pick = self.desk.now, self.random.choice
        outcomes: tuple[Callable[[], Outcome], ...] = (
            *(lambda: Done(pick(tuple(Grade)), {"n": 1}, undo=pick((None, {"was": 0}))) for _ in range(3)),
            lambda: Done(Grade.CONFIG, nothing_held="no lease"),
            lambda: Pending(now + minutes(pick((0, 1))), {"stage": 2}),
            lambda: Pending(now, why="away", unavailable=True),
            lambda: Failed(True, "busy"),
            lambda: Failed(False, "denied"),
            lambda: Skipped("not here"),
            lambda: Unknown("lost"),
        )
        return pick(outcomes)()

    def _answer(self, sent: RunAction, outcome: Outcome) -> None:
        if sent.verb is Verb.VERIFY:
            self._look(sent, unread=self._often(30), used=self._often(20))
        else:
            self._settle(sent, outcome)

    def _look(self, sent: RunAction, *, unread: bool, used: bool) -> None:
        """A look tells what is so, or that nobody can tell."""
        control, now = (sent.target, sent.action), self.desk.now
        after = None
        if sent.so_far:
            since = datetime.fromisoformat(sent.so_far["since"])
            after = Aftermath(since, now, count=int(used), why="" if used or not unread else "away")
        if unread:
            self.desk.look(sent, Standing.UNREAD, why="away", after=after)
            return
        stands = self.force.get(control, 0) >= int(sent.params.get("level", 1))
        self.tampered.discard(control)
        grade = self.random.choice((Grade.CONFIG, Grade.EFFECT)) if stands else Grade.UNVERIFIED
        self.desk.look(sent, Standing.STANDS if stands else Standing.LOST, grade=grade, after=after)

    def _settle(self, sent: RunAction, outcome: Outcome) -> None:
        """The system does it, or not; a lost answer may mean either."""
        done = isinstance(outcome, Done) and not outcome.nothing_held
        if done or (isinstance(outcome, Unknown) and self._often(50)):
            level = int(sent.params.get("level", 1)) if sent.verb is Verb.RUN else 0
            self.force[sent.target, sent.action] = level
            self.tampered.discard((sent.target, sent.action))
        self.desk.settle(sent, outcome)
        stream = self.desk.incidents.get(sent.incident)
        if stream and not sent.contains:
            event = ActionSettled(sent.id, sent.step, sent.call, sent.verb, outcome)
            assert self.desk.refuses(sent.incident, event) == "already_settled"

    def _surveyed(self) -> None:
        """It finds sessions, of which some may be cut; or nothing, or only that it could not look."""
        pick, old = self.random.choice, next(iter(self.desk.surveys.values()))
        held = [
            Held("session", one, "aws", "a", alive=pick(tuple(Alive)), chained=True, allowed=pick((True, False)))
            for one in ("one", "two", "three")[: self.random.randrange(4)]
        ]
        self.desk.survey(*held, unread=pick(((), ("aws: away",))))
        assert self.desk.refuses(old.incident, Surveyed(old.id, old.phase, Reach())) == "already_settled"

    def _message(self) -> None:
        id, decision = self.random.choice(list(self.desk.queue.values()))
        match decision:
            case Page() | Notify():
                if self._often(50):
                    del self.desk.queue[decision.id]
                    self._try(id, PageSent(decision.id, decision.key, decision.person, decision.way))
                else:
                    self.desk.fail(decision)
                assert self.desk.refuses(id, PageSent(decision.id, decision.key, decision.person, decision.way))
            case Replay(id=one):
                del self.desk.queue[one]
                clean = self._often(80)
                self._try(id, Replayed(one, clean, "d", "r", () if clean else ("dirty",)))
            case Post(id=post, purpose=purpose) if self._often(30):
                del self.desk.queue[post]
                self._try(id, PostFailed(post, purpose, "archived"))
            case Post() | AskApproval() | DraftDocument() | OpenChannel() | Invite():
                self.desk.answer(decision)

    def _event(self, id: str) -> Event:
        incident, pick = self.desk.incidents[id], self.random.choice
        name = pick(tuple(incident.steps) or ("s0",))
        request = pick(tuple(incident.approvals) or ("none",))
        hash = incident.approvals[request].hash if request in incident.approvals else "0"
        by = pick(PEOPLE)
        groups = pick(GROUPS)
        events: tuple[Callable[[], Event], ...] = (
            lambda: Acknowledged(pick(("responder-1", "cto-1", "stranger")), "slack"),
            lambda: Unacknowledged(by, "slack"),
            lambda: ApprovalGiven(request, by, groups, pick((hash, hash, hash, "old"))),
            lambda: ApprovalGiven(request, by, groups, hash),
            lambda: ApprovalRefused(request, by, groups),
            lambda: FormSubmitted(name, by, {"yes": True}),
            lambda: Overridden(name, by, accept=pick((True, False))),
            lambda: Released(name, by),
            lambda: Released(name, by),
            lambda: StatusChanged(pick((*Status, Status.INVESTIGATING)), by),
            self._alert,
            lambda: RosterResolved(self._roster()),
            lambda: AgentResolved(pick((AGENT, None, replace(AGENT, id="agent-8")))),
            lambda: NoteAdded(by, TextRef("n", "d")),
            lambda: StatusChanged(Status.RECOVERING, by),
            self._recovery(by),
            self._recovery(by),
            self._said_in_the_room(id, by),
            self._said_in_the_room(id, by),
        )
        return pick(events)()

    def _recovery(self, by: str) -> Callable[[], Event]:
        pick = self.random.choice
        asked: tuple[Callable[[], Event], ...] = (
            lambda: RollbackAsked(by),
            lambda: ReissueAsked("work", {"policy": {}}, by),
            lambda: ReturnAsked(pick(("shadow", "shadow", "advisory", "active", "nothing")), by),
            lambda: ReplayAsked(by),
            lambda: ReturnStopped("INC-9", pick((True, False))),
        )
        return pick(asked)

    def _said_in_the_room(self, id: str, by: str) -> Callable[[], Event]:
        incident, pick = self.desk.incidents[id], self.random.choice
        later = self.desk.now + minutes(pick((-5, 3, 30, 600)))
        task = pick((*incident.tasks, "T1", "T9"))
        message, text = pick(("C1/1", "C1/2")), TextRef(f"t{self.random.randrange(3)}", "d")
        said: tuple[Callable[[], Event], ...] = (
            lambda: SeverityChanged(pick(tuple(Sev)), by),
            lambda: RoleTaken(pick(("scribe", "sre", "nothing")), pick((by, "cto-1", "")), by),
            lambda: TaskAdded(
                next_task(incident), text, pick((by, "cto-1", "")), pick((later, None)), by, ways=("slack",)
            ),
            lambda: TaskChanged(task, by, pick((by, "")), pick((later, None)), done=pick((True, False))),
            lambda: UpdateGiven(by, TextRef(f"u{incident.version}", "d"), text, text),
            lambda: ReminderSnoozed(by, pick((later, None))),
            lambda: Escalated(by, level=pick((0, 0, 2))),
            lambda: Summoned(pick(("cto-1", "dba-1")), by, ways=pick((("email", "slack"), ()))),
            lambda: Silenced(by, later),
            lambda: Silenced(by, later),
            lambda: Pinned(message, "u1", by, text, self.desk.now),
            lambda: PinChanged(message, pick((text, None))),
            lambda: MadePrivate(by),
        )
        return pick(said)

    def _alert(self) -> AlertReceived:
        """The same news or other news; from a source that may contain, or from one nobody trusts."""
        pick = self.random.choice
        alert = replace(
            ALERT,
            uid=f"finding-{self.random.randint(1, 5)}",
            source=pick((ALERT.source, "a-stranger")),
            rule=pick((ALERT.rule, ALERT.rule, "another-rule")),
            severity_id=pick(tuple(Severity)),
            time=self.desk.now + minutes(pick((0, -1, -600, 5))),
            agent_uid=pick((ALERT.agent_uid, None, "agent-8")),
            resources=pick((ALERT.resources, (), (Resource("db-orders"),))),
            types=pick(((), ("unintended_production_change",), ("data_exposure",))),
            resolved=self._often(20),
        )
        text = pick((None, TextRef("a", "d")))
        return AlertReceived(
            alert, text, "news", pick(tuple(Sev)), contain=pick((True, False)), start=pick((True, False))
        )

    # What must be so --------------------------------------------------------------------------------------------

    def _compare(self) -> None:
        self._compare_holds()
        if any(isinstance(event, Overridden) for _, event in self.past):
            return  # a person may send a second one into a group
        working = [(r.group, i.id) for i in self.desk.incidents.values() for r in i.steps.values() if r.group]
        for group, id in working:
            runs = self.desk.incidents[id].steps.values()
            if any(run.group == group and run.status is StepStatus.RUNNING for run in runs):
                assert self.desk.groups[group][0] == id, f"{id} works in {group}, which belongs to another"

    def _compare_holds(self) -> None:
        """What an incident was told is in force for it, is: no release and no other hold loosened it."""
        for target in self.desk.targets.values():
            assert sum(d.target == target.id for d in self.desk.calls() if d.contains) <= 1
        for incident in self.desk.incidents.values():
            for run in incident.steps.values():
                if not run.holding or run.status is not StepStatus.DONE:
                    continue
                for one in run.calls.values():
                    told = isinstance(one.outcome, Done) and not one.outcome.nothing_held and one.verb is Verb.RUN
                    if told and one.outcome.grade and (one.plan.target, run.action) not in self.tampered:
                        assert self.force.get((one.plan.target, run.action), 0) >= one.plan.level

    def end(self) -> None:
        """Left alone, with systems that answer, everything comes to an end."""
        for _ in range(400):
            while self.desk.queue:
                id, decision = next(iter(self.desk.queue.values()))
                match decision:
                    case RunAction(verb=Verb.VERIFY):
                        self._look(decision, unread=False, used=False)
                    case RunAction():
                        self._settle(decision, Done(Grade.EFFECT, undo={"was": 0}))
                    case Page() | Notify():
                        del self.desk.queue[decision.id]
                        self.desk.happen(id, PageSent(decision.id, decision.key, decision.person, decision.way))
                    case Replay():
                        del self.desk.queue[decision.id]
                        self.desk.happen(id, Replayed(decision.id, True, "d", "r"))
                    case Post() | AskApproval() | DraftDocument() | OpenChannel() | Invite():
                        self.desk.answer(decision)
                    case _:
                        raise AssertionError(f"nobody carries out {decision}")
                self._compare()
            if all(target.call is None for target in self.desk.targets.values()) and not self._running():
                break
            self.desk.forward(5)
        busy = {StepStatus.READY, StepStatus.RUNNING, StepStatus.RELEASING, StepStatus.AWAITING_PERMIT}
        for incident in self.desk.incidents.values():
            assert {run.id: run.status for run in incident.steps.values() if run.status in busy} == {}
            if incident.over:
                assert all(a.state is not ApprovalState.OPEN for a in incident.approvals.values())
        for group, members in self.desk.groups.items():
            if members:
                holder = self.desk.incidents[members[0]]
                mine = [run for run in holder.steps.values() if run.permitted and run.group == group]
                assert not all(run.settled for run in mine), f"{holder.id} keeps {group} for nothing"

    def _running(self) -> bool:
        return any(r.status is StepStatus.RUNNING for i in self.desk.incidents.values() for r in i.steps.values())

    def entries(self) -> list[Entry]:
        """Of all streams, in the order of their moments."""
        return sorted((e for entries in self.desk.entries.values() for e in entries), key=lambda e: e.at)

    def replay(self) -> None:
        for id, incident in self.desk.incidents.items():
            assert self.desk.folded(id) == incident
        for id, target in self.desk.targets.items():
            assert self.desk.folded_target(id) == target


def live(random: Random, moves: int) -> None:
    life = Life(random)
    try:
        life.live(moves)
        life.replay()
        life.end()
        life.replay()
    except Exception as error:  # any failure is told with the life that led to it, and goes on
        error.add_note("\n".join(f"{e.stream}/{e.version} {e.at} {e.event}" for e in life.entries()))
        raise


def lives(moves: int, examples: int) -> Callable[[Callable[[Random, int], None]], Callable[[], None]]:
    """A property of lives of up to `moves`; `--hypothesis-seed` repeats a run, and a failure is shrunk."""

    def decorate(test: Callable[[Random, int], None]) -> Callable[[], None]:
        unhurried = settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
        )
        found: Callable[[], None] = unhurried(given(st.randoms(use_true_random=False), st.integers(1, moves))(test))
        return found

    return decorate


@pytest.mark.timeout(600)  # shrinking a failure takes a while
@lives(moves=40, examples=80)
def test_any_life(random: Random, moves: int) -> None:
    live(random, moves)


@pytest.mark.parametrize("seed", range(8))
def test_lives_that_were_lived_before(seed: int) -> None:
    live(Random(seed), 60)


@pytest.mark.soak
@pytest.mark.timeout(3600)  # one that cuts a life short would look like a flaky one
@lives(moves=150, examples=3_000)
def test_very_many_lives(random: Random, moves: int) -> None:
    live(random, moves)


# Pure parts -------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, JSON, max_size=6))
def test_a_fingerprint_is_the_hash_of_the_canonical_form(plan: dict[str, Any]) -> None:
    assert fingerprint(plan) == hashlib.sha256(rfc8785.dumps(plan)).hexdigest()


def test_keys_sort_as_utf_16() -> None:
    plan = {"\ue000": 1, "\U0001f600": 2}
    assert fingerprint(plan) == hashlib.sha256(rfc8785.dumps(plan)).hexdigest()


@given(st.integers(0, 400 * 60), st.integers(0, 5))
def test_the_matrix_moves_on_and_only_upwards(seconds: int, floor: int) -> None:
    start, elapsed = ALERT.time, minutes(seconds / 60)
    following = next_moment(MATRIX, start, start + elapsed)
    assert following > start + elapsed
    now, then = reached(MATRIX, elapsed, floor), reached(MATRIX, following - start, floor)
    assert (now.levels, now.everybody, now.round) <= (then.levels, then.everybody, then.round)
    assert now.levels >= reached(MATRIX, elapsed).levels
    assert now.levels <= len(MATRIX.levels)
