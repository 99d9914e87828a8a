"""An incident's state: the fold of its record. `admit` guards it, `apply` and `take` build it; `response` decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

from bot.domain import approval as approvals
from bot.domain.agent import Agent
from bot.domain.alert import Alert, Sev
from bot.domain.approval import Approval, ApprovalState
from bot.domain.calls import Call
from bot.domain.containment import Containment, verdict
from bot.domain.escalation import Contact, Matrix, Roster, next_moment
from bot.domain.outcome import Done, Failed, Grade, Outcome, Skipped, Unknown
from bot.domain.playbook import ApprovalRule, Catalogue, OnTimeout, Playbook, Step
from bot.domain.record import (
    Acknowledged,
    ActionSettled,
    AgentResolved,
    AlertReceived,
    AlertsCounted,
    ApprovalGiven,
    ApprovalRefused,
    AskApproval,
    AskPermit,
    DeadlinePassed,
    Decision,
    Deferred,
    DocumentDrafted,
    DraftDocument,
    Entry,
    Event,
    FormSubmitted,
    Linked,
    Notify,
    Opened,
    Overridden,
    Page,
    PageFailed,
    PageSent,
    Permitted,
    PlaceHold,
    PlanStep,
    Post,
    Posted,
    PostFailed,
    Released,
    ReleaseHold,
    RosterResolved,
    RunAction,
    Status,
    StatusChanged,
    TextRef,
    Unacknowledged,
    Verb,
    Withdraw,
)
from bot.domain.runbook import Runbook
from bot.errors import Refused


class StepStatus(StrEnum):
    WAITING = "waiting"
    LEFT_OUT = "left_out"  # its `if` was false: no part of the plan
    OBSERVED = "observed"  # rung observe: said, not done
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_PERMIT = "awaiting_permit"
    DEFERRED = "deferred"
    READY = "ready"  # may start now
    RUNNING = "running"
    AWAITING_FORM = "awaiting_form"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    REFUSED = "refused"  # or its approval expired
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    RELEASING = "releasing"
    RELEASED = "released"


SETTLED = frozenset(
    {
        StepStatus.LEFT_OUT,
        StepStatus.OBSERVED,
        StepStatus.DONE,
        StepStatus.SKIPPED,
        StepStatus.FAILED,
        StepStatus.REFUSED,
        StepStatus.UNKNOWN,
        StepStatus.CANCELLED,
        StepStatus.RELEASING,
        StepStatus.RELEASED,
    }
)
SATISFIED = frozenset({StepStatus.LEFT_OUT, StepStatus.DONE, StepStatus.RELEASING, StepStatus.RELEASED})

# People's word on the incident: from -> to.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.OPEN: frozenset({Status.INVESTIGATING, Status.RECOVERING, Status.RESOLVED, Status.FALSE_POSITIVE}),
    Status.INVESTIGATING: frozenset({Status.RECOVERING, Status.RESOLVED, Status.FALSE_POSITIVE}),
    Status.RECOVERING: frozenset({Status.INVESTIGATING, Status.RESOLVED, Status.FALSE_POSITIVE}),
    Status.RESOLVED: frozenset({Status.REVIEWED, Status.INVESTIGATING}),
    Status.REVIEWED: frozenset({Status.INVESTIGATING}),
    Status.FALSE_POSITIVE: frozenset({Status.INVESTIGATING}),
}
OVER = frozenset({Status.RESOLVED, Status.REVIEWED, Status.FALSE_POSITIVE})
NEWS_KEPT = 100
SURVIVES_RESOLVE = "phase:review"


@dataclass(frozen=True, slots=True)
class Frozen:
    """What an incident runs on, resolved from its pins: rules that edits cannot reach (law 8)."""

    matrix: Matrix
    catalogue: Catalogue
    playbook: Playbook | None = None
    runbook: Runbook | None = None


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step of the playbook, a `rollback:<step>` or an `on_failure:<n>`."""

    id: str
    status: StepStatus = StepStatus.WAITING
    action: str = ""
    calls: Mapping[str, Call] = field(default_factory=dict)
    why: str = ""
    hash: str = ""
    request: str = ""  # the approval that is asked for it
    permitted: bool = False
    accepted: bool = False  # a person took its result as it is
    settled_at: datetime | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        return self.status in SETTLED


@dataclass(frozen=True, slots=True)
class PageState:
    page: Page | Notify
    state: str = "queued"  # queued | sent | failed | withdrawn


@dataclass(frozen=True, slots=True)
class Incident:
    id: str
    frozen: Frozen
    version: int = 0
    at: datetime | None = None
    opened: Opened | None = None
    opened_at: datetime | None = None
    status: Status = Status.OPEN
    containment: Containment = Containment.NONE
    contained_at: datetime | None = None
    agent: Agent | None = None
    roster: Roster = field(default_factory=dict)
    alerts: int = 0
    news: tuple[datetime, ...] = ()  # when the latest alerts were taken in
    repeats: int = 0
    steps: Mapping[str, StepRun] = field(default_factory=dict)
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    timers: Mapping[str, datetime] = field(default_factory=dict)  # deadlines other than those of calls
    pages: Mapping[str, PageState] = field(default_factory=dict)
    outstanding: frozenset[str] = frozenset()  # queued decisions not settled yet, pages aside
    acked_by: str = ""
    acked_at: datetime | None = None
    first_ack_at: datetime | None = None
    skipped: int = 0  # levels that had nobody to page
    overridden: bool = False  # a person took the containment as it is
    failure_handled: bool = False
    containment_round: int = 0
    card: tuple[str, str] | None = None  # (channel, ts)
    card_out: str = ""  # the card edit under way
    shown: tuple[object, ...] = ()  # what the card showed when it was last written
    drafted: frozenset[str] = frozenset()
    documents: Mapping[str, TextRef] = field(default_factory=dict)
    linked: tuple[str, ...] = ()
    resolved_at: datetime | None = None

    # What others ask of it --------------------------------------------------------------------------------------

    @property
    def alert(self) -> Alert | None:
        return self.opened.alert if self.opened else None

    @property
    def severity(self) -> Sev:
        return self.begun.severity

    @property
    def type(self) -> str:
        return self.begun.type

    @property
    def begun(self) -> Opened:
        if self.opened is None:
            raise Refused("not_open", f"{self.id} does not exist.")
        return self.opened

    @property
    def start(self) -> datetime:
        return cast(datetime, self.opened_at)

    @property
    def over(self) -> bool:
        return self.status in OVER

    def spec(self, step: str) -> Step:
        """The step as written; the pseudo-steps are made from the call they stand for."""
        playbook = cast(Playbook, self.frozen.playbook)
        kind, _, rest = step.partition(":")
        if kind == "rollback" and rest:
            return replace(
                playbook.steps[rest],
                id=step,
                call=playbook.steps[rest].rollback,
                rollback=None,
                approval=None,
                needs=(),
                after=(),
            )
        if kind == "on_failure" and rest:
            return Step(id=step, call=playbook.on_failure[int(rest)])
        return playbook.steps[step]

    def contact(self, person: str) -> Contact | None:
        return next((c for contacts in self.roster.values() for c in contacts if c.person == person), None)

    def contacts(self, roles: Iterable[str]) -> tuple[Contact, ...]:
        """Everybody on call for these roles, each once."""
        found = {contact.person: contact for role in roles for contact in self.roster.get(role, ())}
        return tuple(found.values())

    def deadlines(self) -> dict[str, datetime]:
        """Everything that is to happen at a time, by name."""
        calls = {
            f"again:{run.id}|{call.plan.name}": call.again_at
            for run in self.steps.values()
            for call in run.calls.values()
            if call.again_at and not is_held(self, run)
        }
        return {**self.timers, **calls}

    def wants(self, decision: str) -> bool:
        """Is this queued decision still to be performed?"""
        page = self.pages.get(decision)
        return page.state == "queued" if page else decision in self.outstanding


def is_held(incident: Incident, run: StepRun) -> bool:
    """Its calls are made by target streams, which also own their retries."""
    return bool(incident.frozen.playbook) and incident.spec(run.id).contains


def due(incident: Incident, now: datetime) -> tuple[DeadlinePassed, ...]:
    """What the clock has to say, earliest first."""
    ripe = sorted((at, name) for name, at in incident.deadlines().items() if at <= now)
    return tuple(DeadlinePassed(name, at) for at, name in ripe)


def next_deadline(incident: Incident) -> datetime | None:
    return min(incident.deadlines().values(), default=None)


# admit ----------------------------------------------------------------------------------------------------------


def admit(incident: Incident, event: Event) -> None:
    """Raises Refused for what must not be written; says nothing else."""
    if isinstance(event, Opened):
        if incident.opened:
            raise Refused("already_open", f"{incident.id} is open already.")
        return
    _ = incident.begun
    match event:
        case ActionSettled() if not event.final or is_held(incident, _run(incident, event.step)):
            return  # the target's stream has admitted it
        case ActionSettled(decision=decision) | DocumentDrafted(decision=decision):
            _outstanding(incident, decision)
        case Posted(decision=decision) | PostFailed(decision=decision):
            _outstanding(incident, decision)
        case PageSent(decision=decision) | PageFailed(decision=decision):
            if decision not in incident.pages or incident.pages[decision].state in ("sent", "failed"):
                raise Refused("already_settled", f"{decision} is settled already.")
        case Acknowledged(by=by):
            _not_over(incident)
            if incident.acked_by:
                who = "you" if incident.acked_by == by else incident.acked_by
                raise Refused("already_acknowledged", f"{incident.id} is already acknowledged by {who}.")
        case Unacknowledged():
            _not_over(incident)
            if not incident.acked_by:
                raise Refused("not_acknowledged", f"{incident.id} is not acknowledged.")
        case ApprovalGiven(request=request, by=by, groups=groups, hash=hash):
            approvals.admit(incident.approvals.get(request), by, groups, hash, _initiators(incident))
        case ApprovalRefused(request=request, by=by, groups=groups):
            approvals.admit(incident.approvals.get(request), by, groups, None, set())
        case FormSubmitted(step=step):
            if _run(incident, step).status is not StepStatus.AWAITING_FORM:
                raise Refused("no_form", f"Step {step} of {incident.id} is not waiting for a form.")
        case Permitted(steps=steps) | Deferred(steps=steps):
            waiting = (StepStatus.AWAITING_PERMIT, StepStatus.DEFERRED)
            if not any(_run(incident, step).status in waiting for step in steps):
                raise Refused("not_waiting", f"No step of {', '.join(steps)} waits for a permit.")
        case Overridden(step=step):
            _not_over(incident)
            can = (StepStatus.DEFERRED, StepStatus.UNKNOWN, StepStatus.FAILED, StepStatus.REFUSED, StepStatus.RUNNING)
            if _run(incident, step).status not in can:
                raise Refused("nothing_to_override", f"Step {step} is {_run(incident, step).status}.")
        case Released(step=step):
            run = _run(incident, step)
            if not is_held(incident, run) or run.status not in (
                StepStatus.RUNNING,
                StepStatus.DONE,
                StepStatus.FAILED,
                StepStatus.UNKNOWN,
            ):
                raise Refused("not_held", f"{incident.id} holds nothing by step {step} ({run.status}).")
            if not incident.frozen.catalogue.undoable(run.action):
                raise Refused("not_undoable", f"{run.action} cannot be undone.")
        case StatusChanged(status=status):
            if status not in TRANSITIONS[incident.status]:
                raise Refused("already", f"{incident.id} is {incident.status}; it cannot become {status}.")
        case DeadlinePassed(name=name, due=at):
            if incident.deadlines().get(name) != at:
                raise Refused("not_due", f"{incident.id} has no deadline {name} at {at.isoformat()}.")
        case _:
            return


def _run(incident: Incident, step: str) -> StepRun:
    run = incident.steps.get(step)
    if run is None:
        known = ", ".join(incident.steps) or "none"
        raise Refused("no_such_step", f"{incident.id} has no step {step!r}. Its steps: {known}.")
    return run


def _outstanding(incident: Incident, decision: str) -> None:
    if decision not in incident.outstanding:
        raise Refused("already_settled", f"{decision} is settled already.")


def _not_over(incident: Incident) -> None:
    if incident.over:
        raise Refused("already_over", f"{incident.id} is already {incident.status}.")


def _initiators(incident: Incident) -> set[str]:
    return {incident.begun.initiator, incident.begun.declared_by} - {""}


# The fold -------------------------------------------------------------------------------------------------------


def fold(incident: Incident, entries: Iterable[Entry]) -> Incident:
    """Replay: the recorded decisions count, whatever today's rules would decide."""
    for entry in entries:
        incident = take(apply(incident, entry.event, entry.at), entry.decisions, entry.at)
    return incident


def apply(incident: Incident, event: Event, at: datetime) -> Incident:
    """The facts of one event."""
    after = _facts(replace(incident, version=incident.version + 1, at=at), event, at)
    return _judged(after, at)


def _facts(incident: Incident, event: Event, at: datetime) -> Incident:
    match event:
        case Opened():
            return _begin(incident, event, at)
        case AlertReceived():
            return replace(incident, alerts=incident.alerts + 1, news=(*incident.news[-NEWS_KEPT:], at))
        case AlertsCounted(count=count):
            return replace(incident, repeats=incident.repeats + count)
        case RosterResolved(roster=roster):
            return replace(incident, roster=roster)
        case AgentResolved(agent=agent):
            return replace(incident, agent=agent)
        case ActionSettled():
            return _settled(_less(incident, event.decision), event, at)
        case PageSent(decision=decision):
            return _paged(incident, decision, "sent")
        case PageFailed(decision=decision):
            return _paged(incident, decision, "failed")
        case Posted(decision=decision, purpose=purpose, channel=channel, ts=ts):
            incident = _less(incident, decision)
            if purpose == "card":
                incident = replace(incident, card=(channel, ts), card_out="")
            return incident
        case PostFailed(decision=decision, purpose=purpose):
            incident = _less(incident, decision)
            return replace(incident, card_out="") if purpose == "card" else incident
        case Acknowledged(by=by):
            ttl = timedelta(seconds=incident.begun.timers.ack_ttl)
            incident = replace(incident, acked_by=by, acked_at=at, first_ack_at=incident.first_ack_at or at)
            return _timer(_timer(incident, "escalation", None), "ack", at + ttl)
        case Unacknowledged():
            return _unacked(incident, at)
        case ApprovalGiven(request=request, by=by, groups=groups):
            given = incident.approvals[request].with_yes(by, groups)
            incident = replace(incident, approvals={**incident.approvals, request: given})
            if given.state is not ApprovalState.GRANTED:
                return incident
            return _timer(_step(incident, given.step, status=StepStatus.READY), f"approval:{request}", None)
        case ApprovalRefused(request=request, by=by):
            return _closed(incident, request, ApprovalState.REFUSED, f"refused by {by}", at)
        case FormSubmitted(step=step, values=values):
            incident = _step(incident, step, status=StepStatus.DONE, settled_at=at, outputs=values)
            return _timer(incident, f"form:{step}", None)
        case Permitted(steps=steps):
            for step in steps:
                incident = _step(incident, step, status=StepStatus.READY, permitted=True, why="")
            return incident
        case Deferred(steps=steps, why=why):
            for step in steps:
                incident = _step(incident, step, status=StepStatus.DEFERRED, why=why)
            return incident
        case Overridden(step=step, accept=accept):
            return _override(incident, step, accept, at)
        case DeadlinePassed(name=name, due=due_at):
            return _passed(incident, name, due_at, at)
        case StatusChanged(status=status):
            return _status(incident, status, at)
        case Released(step=step):
            return _step(incident, step, status=StepStatus.RELEASING)
        case DocumentDrafted(decision=decision, kind=kind, artefact=artefact):
            incident = _less(incident, decision)
            return replace(incident, documents={**incident.documents, kind: artefact})
        case Linked(incident=other):
            return replace(incident, linked=(*incident.linked, other))
        case _:
            return incident


def _begin(incident: Incident, opened: Opened, at: datetime) -> Incident:
    frozen, timers = incident.frozen, {}
    timers["escalation"] = next_moment(frozen.matrix, at, at)
    timers["containment"] = at + timedelta(seconds=opened.timers.containment)
    if frozen.runbook:
        timers |= {f"phase:{phase.name}": at + phase.due for phase in frozen.runbook.phases if phase.due}
    steps: dict[str, StepRun] = {}
    if frozen.playbook:
        steps = {step: StepRun(step) for step in frozen.playbook.steps}
        timers["run"] = at + frozen.playbook.timeout
    return replace(
        incident,
        opened=opened,
        opened_at=at,
        agent=opened.agent,
        roster=opened.roster,
        alerts=1 if opened.alert else 0,
        steps=steps,
        timers=timers,
        linked=opened.linked,
    )


def _settled(incident: Incident, event: ActionSettled, at: datetime) -> Incident:
    run = incident.steps.get(event.step)
    if run is None or event.call not in run.calls:
        return incident
    call = run.calls[event.call]
    if event.verb is Verb.UNDO:
        return _undone(incident, run, event, at)
    if is_held(incident, run):
        call = replace(call, outcome=event.outcome, final=event.final)
    else:
        call = call.settled(event.outcome, at, incident.spec(run.id).retry)
    calls = {**run.calls, event.call: call}
    run = replace(run, calls=calls)
    if run.status is StepStatus.RUNNING and all(c.final for c in calls.values()):
        run = _closing(run, at)
    return replace(incident, steps={**incident.steps, run.id: run})


def _closing(run: StepRun, at: datetime) -> StepRun:
    """All calls are final: what the step as a whole is."""
    outcomes = [call.outcome for call in run.calls.values()]
    why = "; ".join(o.why for o in outcomes if isinstance(o, Failed | Skipped | Unknown))
    if any(isinstance(o, Unknown) for o in outcomes):
        status = StepStatus.UNKNOWN
    elif any(isinstance(o, Failed) for o in outcomes):
        status = StepStatus.FAILED
    elif all(isinstance(o, Skipped) for o in outcomes):
        status = StepStatus.SKIPPED
    else:
        status = StepStatus.DONE
    return replace(run, status=status, why=why, settled_at=at, outputs=_outputs(outcomes))


def _outputs(outcomes: list[Outcome | None]) -> Mapping[str, Any]:
    """One call: what it read back. Several: each key as the list of what they read back."""
    done = [o.evidence for o in outcomes if isinstance(o, Done)]
    if len(outcomes) == 1:
        return done[0] if done else {}
    keys = dict.fromkeys(key for evidence in done for key in evidence)
    return {key: [evidence.get(key) for evidence in done] for key in keys}


def _undone(incident: Incident, run: StepRun, event: ActionSettled, at: datetime) -> Incident:
    call = replace(run.calls[event.call], verb=Verb.UNDO, final=event.final)
    if event.final and not isinstance(event.outcome, Done | Skipped):
        why = f"release failed: {getattr(event.outcome, 'why', '')}"
        return _step(incident, run.id, status=StepStatus.FAILED, why=why)
    calls = {**run.calls, event.call: call}
    incident = _step(incident, run.id, calls=calls, why=event.outcome.why if isinstance(event.outcome, Skipped) else "")
    if all(c.verb is Verb.UNDO and c.final for c in calls.values()):
        incident = _step(incident, run.id, status=StepStatus.RELEASED, settled_at=at)
    return incident


def _override(incident: Incident, step: str, accept: bool, at: datetime) -> Incident:
    if accept:
        run = incident.steps[step]
        kept = run.status if run.settled else StepStatus.CANCELLED
        return replace(
            _step(incident, step, accepted=True, status=kept, settled_at=run.settled_at or at), overridden=True
        )
    fresh = {name: Call(call.plan) for name, call in incident.steps[step].calls.items()}
    return _step(incident, step, status=StepStatus.READY, permitted=True, calls=fresh, why="", settled_at=None)


def _passed(incident: Incident, name: str, due_at: datetime, at: datetime) -> Incident:
    incident = _timer(incident, name, None)
    kind, _, rest = name.partition(":")
    match kind:
        case "escalation":
            return _timer(incident, name, next_moment(incident.frozen.matrix, incident.start, at))
        case "containment":
            repeat = timedelta(seconds=incident.begun.timers.containment_repeat)
            missed = max(0, (at - due_at) // repeat)  # a night without the process is one page, not a hundred
            return replace(
                _timer(incident, name, due_at + (missed + 1) * repeat), containment_round=incident.containment_round + 1
            )
        case "ack":
            return _unacked(incident, at)
        case "again":
            step, _, call = rest.partition("|")
            calls = incident.steps[step].calls
            return _step(incident, step, calls={**calls, call: replace(calls[call], again_at=None)})
        case "approval":
            asked = incident.approvals[rest]
            if asked.on_timeout is OnTimeout.REFUSE:
                return _closed(incident, rest, ApprovalState.EXPIRED, "nobody decided in time", at)
            return _timer(incident, name, at + (asked.expires_at - asked.asked_at))
        case "run":
            return _cancel(incident, "the playbook's time is over", at)
        case _:
            return incident


def _closed(incident: Incident, request: str, state: ApprovalState, why: str, at: datetime) -> Incident:
    asked = replace(incident.approvals[request], state=state)
    incident = replace(incident, approvals={**incident.approvals, request: asked})
    incident = _step(incident, asked.step, status=StepStatus.REFUSED, why=why, settled_at=at)
    return _timer(incident, f"approval:{request}", None)


def _status(incident: Incident, status: Status, at: datetime) -> Incident:
    was_over = incident.over
    incident = replace(incident, status=status)
    if incident.over and not was_over:
        kept = {name: due_at for name, due_at in incident.timers.items() if name == SURVIVES_RESOLVE}
        return _cancel(replace(incident, timers=kept, resolved_at=at), f"the incident is {status}", at)
    if was_over and not incident.over:
        incident = replace(incident, acked_by="", acked_at=None, resolved_at=None)
        return _timer(incident, "escalation", next_moment(incident.frozen.matrix, incident.start, at))
    return incident


def _cancel(incident: Incident, why: str, at: datetime) -> Incident:
    """What has not begun does not begin. Containing steps under way go on: only a person stops them."""
    stoppable = {
        StepStatus.WAITING,
        StepStatus.AWAITING_APPROVAL,
        StepStatus.AWAITING_PERMIT,
        StepStatus.DEFERRED,
        StepStatus.AWAITING_FORM,
        StepStatus.READY,
    }
    for run in incident.steps.values():
        running = run.status is StepStatus.RUNNING and not is_held(incident, run)
        if run.status in stoppable or running:
            calls = {name: replace(call, again_at=None) for name, call in run.calls.items()}
            incident = _step(incident, run.id, status=StepStatus.CANCELLED, why=why, settled_at=at, calls=calls)
            incident = _timer(_timer(incident, f"approval:{run.request}", None), f"form:{run.id}", None)
    return incident


def _unacked(incident: Incident, at: datetime) -> Incident:
    incident = replace(incident, acked_by="", acked_at=None)
    moment = next_moment(incident.frozen.matrix, incident.start, at)
    return _timer(_timer(incident, "ack", None), "escalation", moment)


def _judged(incident: Incident, at: datetime) -> Incident:
    """Containment follows from the steps, never from anybody's say."""
    found = verdict(_containing(incident))
    if found is incident.containment:
        return incident
    contained_at = at if found is Containment.CONTAINED else incident.contained_at
    return replace(incident, containment=found, contained_at=contained_at)


def _containing(incident: Incident) -> Iterable[tuple[Outcome | None, Grade]]:
    for run in incident.steps.values():
        if not is_held(incident, run) or run.status in (StepStatus.LEFT_OUT, StepStatus.RELEASED, StepStatus.OBSERVED):
            continue
        required = incident.spec(run.id).require
        if run.calls and run.status in (StepStatus.DONE, StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.RELEASING):
            yield from ((call.outcome, required) for call in run.calls.values())
        elif run.status is StepStatus.DONE:
            yield Done(Grade.CONFIG, nothing_held=run.why), required
        elif run.settled:
            yield Skipped(run.why), required
        else:
            yield None, required


# What decisions mean for the state ------------------------------------------------------------------------------


def take(incident: Incident, decisions: Iterable[Decision], at: datetime) -> Incident:
    for decision in decisions:
        incident = _taken(incident, decision, at)
    return _judged(incident, at)


def _taken(incident: Incident, decision: Decision, at: datetime) -> Incident:
    match decision:
        case PlanStep(step=step, status=status, action=action, calls=planned, why=why, hash=hash):
            run = incident.steps.get(step) or StepRun(step)
            fresh = {plan.name: Call(plan) for plan in planned}
            settled_at = at if StepStatus(status) in SETTLED else None
            run = replace(
                run, status=StepStatus(status), action=action, calls=fresh, why=why, hash=hash, settled_at=settled_at
            )
            incident = replace(incident, steps={**incident.steps, step: run})
            if run.status is StepStatus.AWAITING_FORM:
                form = incident.spec(step).manual
                incident = _timer(incident, f"form:{step}", at + form.due if form else None)
            if step.startswith(("rollback:", "on_failure:")):
                incident = replace(incident, failure_handled=True)
            return incident
        case RunAction(step=step, call=call, id=id):
            calls = incident.steps[step].calls
            sent = calls[call].sent(decision)
            incident = _step(incident, step, status=StepStatus.RUNNING, calls={**calls, call: sent})
            return replace(incident, outstanding=incident.outstanding | {id})
        case PlaceHold(hold=hold):
            return _step(incident, hold.step, status=StepStatus.RUNNING)
        case ReleaseHold(step=step):
            return _step(incident, step, status=StepStatus.RELEASING)
        case AskApproval(id=id, step=step, hash=hash):
            return _asked(incident, id, step, hash, at)
        case AskPermit(steps=steps):
            for step in steps:
                incident = _step(incident, step, status=StepStatus.AWAITING_PERMIT)
            return incident
        case Page(id=id, reason=reason):
            handled = incident.failure_handled or reason == "on_failure"
            return replace(incident, pages={**incident.pages, id: PageState(decision)}, failure_handled=handled)
        case Notify(id=id):
            return replace(incident, pages={**incident.pages, id: PageState(decision)})
        case Post(id=id, purpose=purpose):
            incident = replace(incident, outstanding=incident.outstanding | {id})
            if purpose == "card":
                return replace(incident, card_out=id, shown=facts_of_card(incident))
            if purpose.startswith(("nobody_on_call:", "unreachable:")):
                return replace(incident, skipped=incident.skipped + 1)
            return incident
        case DraftDocument(id=id, kind=kind):
            return replace(incident, outstanding=incident.outstanding | {id}, drafted=incident.drafted | {kind})
        case Withdraw(decisions=ids):
            for id in ids:
                incident = _paged(incident, id, "withdrawn")
            return incident
        case _:
            return incident


def _asked(incident: Incident, request: str, step: str, hash: str, at: datetime) -> Incident:
    rule = approval_rule(incident, step)
    former = incident.approvals.get(incident.steps[step].request)
    known = dict(incident.approvals)
    if former and former.state is ApprovalState.OPEN:
        known[former.request] = replace(former, state=ApprovalState.SUPERSEDED)
        incident = _timer(incident, f"approval:{former.request}", None)
    known[request] = Approval(request, step, hash, rule.each, at, at + rule.timeout, rule.on_timeout)
    incident = replace(incident, approvals=known, outstanding=incident.outstanding | {request})
    incident = _step(incident, step, status=StepStatus.AWAITING_APPROVAL, request=request)
    return _timer(incident, f"approval:{request}", at + rule.timeout)


def approval_rule(incident: Incident, step: str) -> ApprovalRule:
    """The step's own, or that of a playbook (or source) that may only propose."""
    return incident.spec(step).approval or ApprovalRule({"security_team|incident_commander": 1})


def facts_of_card(incident: Incident) -> tuple[object, ...]:
    """What the card shows: when it changes, the card is edited."""
    steps = tuple((run.id, run.status, tuple(c.outcome for c in run.calls.values())) for run in incident.steps.values())
    asked = tuple((a.request, a.state, a.given) for a in incident.approvals.values())
    return (incident.status, incident.containment, incident.acked_by, steps, asked, incident.alerts)


# Small moves ----------------------------------------------------------------------------------------------------


def _step(incident: Incident, step: str, **changes: Any) -> Incident:
    return replace(incident, steps={**incident.steps, step: replace(incident.steps[step], **changes)})


def _timer(incident: Incident, name: str, at: datetime | None) -> Incident:
    timers = {key: value for key, value in incident.timers.items() if key != name}
    return replace(incident, timers=timers if at is None else {**timers, name: at})


def _paged(incident: Incident, decision: str, state: str) -> Incident:
    if decision not in incident.pages:
        return incident
    return replace(incident, pages={**incident.pages, decision: replace(incident.pages[decision], state=state)})


def _less(incident: Incident, decision: str) -> Incident:
    return replace(incident, outstanding=incident.outstanding - {decision})
