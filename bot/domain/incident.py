"""An incident is the fold of its record: what each event says, and what each decision taken then meant.

The one door to the state for those above: `admit` guards it, `fold` rebuilds it, `due` asks what the clock has to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bot.domain import conversation, fallback, recovery
from bot.domain.admission import admit
from bot.domain.approval import Approval, ApprovalState
from bot.domain.calls import Call
from bot.domain.containment import Containment, verdict
from bot.domain.decisions import (
    AskApproval,
    AskPermit,
    Decision,
    DraftDocument,
    Invite,
    Notify,
    OpenChannel,
    Page,
    PlaceHold,
    PlanStep,
    Post,
    ReleaseHold,
    Replay,
    RunAction,
    Survey,
    Withdraw,
)
from bot.domain.escalation import next_moment, reached
from bot.domain.events import (
    Acknowledged,
    ActionSettled,
    AgentResolved,
    AlertReceived,
    AlertsCounted,
    ApprovalGiven,
    ApprovalRefused,
    ApprovalsAudited,
    ChannelFailed,
    ChannelOpened,
    DeadlinePassed,
    Deferred,
    DocumentDrafted,
    Event,
    FormSubmitted,
    Invited,
    Linked,
    Merged,
    Opened,
    Overridden,
    PageFailed,
    PageSent,
    Permitted,
    Posted,
    PostFailed,
    Released,
    Replayed,
    RosterResolved,
    Standing,
    Started,
    Status,
    StatusChanged,
    Surveyed,
    Unacknowledged,
    Verb,
    Verified,
)
from bot.domain.outcome import Done, Failed, Grade, Outcome, Skipped, Unknown
from bot.domain.playbook import ApprovalRule, OnTimeout
from bot.domain.record import Entry
from bot.domain.state import (
    SETTLED,
    SURVIVES_RESOLVE,
    Frozen,
    Incident,
    MeasureKind,
    PageState,
    StepRun,
    StepStatus,
    is_held,
)
from bot.domain.state import timed as _timer

__all__ = [
    "Frozen",
    "Incident",
    "StepRun",
    "StepStatus",
    "admit",
    "apply",
    "due",
    "facts_of_announcement",
    "facts_of_card",
    "fold",
    "is_held",
    "next_deadline",
    "take",
]

NEWS_KEPT = 100
LEFT_ALIVE = "left_alive"  # reason of a page for what may not be cut, and was found alive after the cuts
WARNINGS = ("undone:", "used:", "unread:", LEFT_ALIVE)  # the others: of pages for a cut that stood and counts no more


def due(incident: Incident, now: datetime) -> tuple[DeadlinePassed, ...]:
    """What the clock has to say, earliest first."""
    ripe = sorted((at, name) for name, at in incident.deadlines().items() if at <= now)
    return tuple(DeadlinePassed(name, at) for at, name in ripe)


def next_deadline(incident: Incident) -> datetime | None:
    return min(incident.deadlines().values(), default=None)


# The fold -------------------------------------------------------------------------------------------------------


def fold(incident: Incident, entries: Iterable[Entry]) -> Incident:
    """Replay: the recorded decisions count, whatever today's rules would decide."""
    for entry in entries:
        incident = take(apply(incident, entry.event, entry.at), entry.decisions, entry.at)
    return incident


def apply(incident: Incident, event: Event, at: datetime) -> Incident:
    """The facts of one event."""
    after = _judged(_facts(replace(incident, version=incident.version + 1, at=at), event, at), at)
    lost = incident.containment is Containment.CONTAINED and after.containment is not Containment.CONTAINED
    if isinstance(event, Verified) and lost and not after.over:  # the second clock runs again
        repeat = timedelta(seconds=after.begun.timers.containment_repeat)
        after = _timer(replace(after, containment_round=after.containment_round + 1), "containment", at + repeat)
    return after


def _facts(incident: Incident, event: Event, at: datetime) -> Incident:
    match event:
        case Opened():
            return _begin(incident, event, at)
        case AlertReceived():
            incident = replace(incident, alerts=incident.alerts + 1, news=(*incident.news[-NEWS_KEPT:], at))
            return recovery.heard(_worsened(incident, event, at), event, at)
        case AlertsCounted(count=count):
            return recovery.heard(replace(incident, repeats=incident.repeats + count), event, at)
        case RosterResolved(roster=roster):
            return replace(incident, roster=roster)
        case AgentResolved(agent=agent, delegates=delegates):
            return replace(incident, agent=agent, delegates=delegates)
        case Surveyed(decision=decision, phase=phase, reach=reach):
            surveys = {**incident.surveys, phase: reach}
            return replace(_less(incident, decision), surveys=surveys, survey_out=None)
        case ActionSettled():
            after = _settled(_less(incident, event.decision), event, at)
            return recovery.settled(incident, after, event, at)
        case Verified():
            return _looked_at(incident, event, at)
        case PageSent(decision=decision):
            return _paged(incident, decision, "sent")
        case PageFailed(decision=decision):
            return _paged(incident, decision, "failed")
        case Posted(decision=decision, purpose=purpose, channel=channel, ts=ts):
            incident = _written(_less(incident, decision), decision, (channel, ts))
            request = purpose.partition(":")[2]
            if purpose.startswith(("approval:", "asked:")) and (asked := incident.approvals.get(request)):
                shown = replace(asked, message=(channel, ts))
                incident = replace(incident, approvals={**incident.approvals, request: shown})
            return incident
        case PostFailed(decision=decision):
            return _written(_less(incident, decision), decision, None)
        case ChannelOpened(decision=decision, channel=channel, name=name, private=private):
            before = incident.channel
            incident = replace(_less(incident, decision), channel=channel, channel_name=name, channel_private=private)
            if incident.card:  # it moves: a new card is written there
                left = f"{'closed' if before else 'moved'}:{'/'.join(incident.card)}"
                incident = _less(replace(incident, card=None, card_out="", shown=(), left=left), incident.card_out)
            return replace(incident, channel_out="", members=frozenset())
        case ChannelFailed(decision=decision):
            return replace(_less(incident, decision), channel_out="")
        case Invited(decision=decision):
            return _less(incident, decision)
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
            asked = replace(incident.approvals[request], refused_by=by)
            incident = replace(incident, approvals={**incident.approvals, request: asked})
            return _closed(incident, request, ApprovalState.REFUSED, f"refused by {by}", at)
        case FormSubmitted(step=step, values=values):
            incident = _step(incident, step, status=StepStatus.DONE, settled_at=at, outputs=values)
            return _timer(incident, f"form:{step}", None)
        case Permitted(steps=steps):
            for step in _waiting(incident, steps):
                incident = _step(incident, step, status=StepStatus.READY, permitted=True, why="")
            return incident
        case Deferred(steps=steps, why=why):
            for step in _waiting(incident, steps):
                incident = _step(incident, step, status=StepStatus.DEFERRED, why=why)
            return incident
        case Overridden(step=step, accept=accept):
            return _override(incident, step, accept, at)
        case DeadlinePassed(name=name, due=due_at):
            return _passed(incident, name, due_at, at)
        case Started():
            return _start(replace(incident, contain=True), at)
        case StatusChanged(status=status):
            return _status(incident, status, at)
        case Released(step=step):
            return _step(incident, step, status=StepStatus.RELEASING)
        case DocumentDrafted(decision=decision, kind=kind, artefact=artefact):
            incident = _less(incident, decision)
            return replace(incident, documents={**incident.documents, kind: artefact})
        case ApprovalsAudited(decision=decision):
            return replace(_less(incident, decision), audited=event)
        case Linked(incident=other):
            return replace(incident, linked=(*incident.linked, other))
        case Merged(into=into):
            return _status(replace(incident, merged_into=into), Status.MERGED, at)
        case Replayed(decision=decision):
            return recovery.heard(_less(incident, decision), event, at)
        case _:
            return recovery.heard(conversation.heard(incident, event, at), event, at)


def _waiting(incident: Incident, steps: Iterable[str]) -> list[str]:
    """Those that still wait for their permit: one may have been overridden or cancelled since it was asked."""
    waits = (StepStatus.AWAITING_PERMIT, StepStatus.DEFERRED)
    return [step for step in steps if incident.steps[step].status in waits]


def _begin(incident: Incident, opened: Opened, at: datetime) -> Incident:
    frozen, timers = incident.frozen, {}
    timers["escalation"] = next_moment(frozen.matrix, at, at)
    timers["containment"] = at + timedelta(seconds=opened.timers.containment)
    timers |= _phases(frozen, at)
    steps: dict[str, StepRun] = {}
    if frozen.playbook:
        steps = {step: StepRun(step) for step in frozen.playbook.steps}
        if opened.started:
            timers["run"] = at + frozen.playbook.timeout
    incident = replace(
        incident,
        opened=opened,
        opened_at=at,
        agent=opened.agent,
        delegates=opened.delegates,
        roster=opened.roster,
        alerts=1 if opened.alert else 0,
        steps=steps,
        timers=timers,
        linked=opened.linked,
        contain=opened.contain,
        started=opened.started and frozen.playbook is not None,
    )
    return conversation.remind(incident, at)


def _phases(frozen: Frozen, start: datetime) -> dict[str, datetime]:
    phases = frozen.runbook.phases if frozen.runbook else ()
    return {f"phase:{phase.name}": start + phase.due for phase in phases if phase.due}


def _worsened(incident: Incident, event: AlertReceived, at: datetime) -> Incident:
    if event.severity < incident.severity:
        incident = conversation.rate(incident, event.severity, "", at)
    if event.contain:
        incident = replace(incident, contain=True)
    if event.start and not incident.started and incident.frozen.playbook:
        incident = _start(replace(incident, cause=event.alert), at)
    return incident


def _start(incident: Incident, at: datetime) -> Incident:
    playbook = incident.frozen.playbook
    if incident.started or playbook is None:
        return incident
    return _timer(replace(incident, started=True), "run", at + playbook.timeout)


def _settled(incident: Incident, event: ActionSettled, at: datetime) -> Incident:
    run = incident.steps.get(event.step)
    if run is None or event.call not in run.calls:
        return incident
    call = run.calls[event.call]
    if event.verb is Verb.UNDO and is_held(incident, run):
        return _undone(incident, run, event, at)
    if is_held(incident, run):
        call = replace(call, verb=event.verb, outcome=event.outcome, final=event.final)
    elif call.decision != event.decision:
        return incident  # a person had it run again meanwhile: the later answer counts
    else:
        call = call.settled(event.outcome, at, incident.spec(run.id).retry)
    calls = {**run.calls, event.call: call}
    run = replace(run, calls=calls)
    # What a person stopped waiting for may come true all the same.
    open_ended = run.status is StepStatus.RUNNING or (run.status is StepStatus.CANCELLED and run.holding)
    if open_ended and all(c.final for c in calls.values()):
        run = _closing(run, at)
    return replace(incident, steps={**incident.steps, run.id: run})


def _looked_at(incident: Incident, event: Verified, at: datetime) -> Incident:
    """A cut of ours was looked at again: it stands, nobody can tell any more, or it is being put back."""
    run = incident.steps.get(event.step)
    call = run.calls.get(event.call) if run else None
    if run is None or call is None or call.verb is Verb.UNDO:
        return incident
    call = replace(call, after=event.after or call.after, looked_at=at)
    known = call.outcome if isinstance(call.outcome, Done) else Done(Grade.UNVERIFIED)
    evidence = {key: value for key, value in known.evidence.items() if key != "why"}
    if event.standing is Standing.LOST or event.alive:
        call = replace(call, outcome=Failed(True, lost_text(event), known.undo), final=False)
        status = StepStatus.RUNNING if run.status in SETTLED - {StepStatus.CANCELLED} else run.status
        return _step(incident, run.id, calls={**run.calls, event.call: call}, status=status, settled_at=None)
    match event.standing:
        case Standing.STANDS:
            done = replace(known, grade=event.grade, evidence={**evidence, **event.evidence})
            call = replace(call, outcome=done, final=True)
        case Standing.UNREAD if call.final and isinstance(call.outcome, Done):
            why = f"it could not be looked at again: {event.why}"
            call = replace(call, outcome=replace(known, grade=Grade.UNVERIFIED, evidence={**evidence, "why": why}))
    run = replace(run, calls={**run.calls, event.call: call})
    closed = run.status in (StepStatus.RUNNING, StepStatus.DONE, StepStatus.FAILED, StepStatus.UNKNOWN)
    if closed and all(c.final for c in run.calls.values()):
        run = _closing(run, run.settled_at or at)
    return replace(incident, steps={**incident.steps, run.id: run})


def lost_text(event: Verified) -> str:
    """Why a cut counts no more."""
    if event.standing is not Standing.LOST:
        return f"used {event.after.count if event.after else 0} times after the cut"
    return event.why or "it no longer stands: somebody took it away"


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
    failed = event.final and not isinstance(event.outcome, Done | Skipped)
    call = replace(run.calls[event.call], verb=Verb.UNDO, final=event.final and not failed)
    calls = {**run.calls, event.call: call}
    if failed:  # it may hold still, or half of it: nobody has read it back
        why = f"release failed: {getattr(event.outcome, 'why', '')}"
        return _step(incident, run.id, calls=calls, status=StepStatus.FAILED, why=why)
    incident = _step(incident, run.id, calls=calls, why=event.outcome.why if isinstance(event.outcome, Skipped) else "")
    if all(c.verb is Verb.UNDO and c.final for c in calls.values() if c.held):
        incident = _step(incident, run.id, status=StepStatus.RELEASED, holding=False, settled_at=at)
    return incident


def _override(incident: Incident, step: str, accept: bool, at: datetime) -> Incident:
    if accept:
        run = incident.steps[step]
        kept = run.status if run.settled else StepStatus.CANCELLED
        incident = _step(incident, step, accepted=True, status=kept, settled_at=run.settled_at or at)
        return replace(_timer(incident, "containment", None), overridden=True) if is_held(incident, run) else incident
    calls = incident.steps[step].calls
    late = incident.outstanding & {call.decision for call in calls.values()}  # an answer that comes yet is kept
    incident = replace(incident, outstanding=incident.outstanding - late, overtaken=incident.overtaken | late)
    incident = replace(incident, failure_paged=False)
    status = StepStatus.READY if calls else StepStatus.WAITING  # one that could not be planned is planned again
    fresh = {name: Call(call.plan, held=call.held) for name, call in calls.items()}
    return _step(
        incident, step, status=status, permitted=bool(calls), accepted=False, calls=fresh, why="", settled_at=None
    )


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
        case conversation.UPDATE:
            return conversation.remind(incident, at)
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
            return _cancel(incident, recovery.BY_TIME, at)
        case "unproved":
            return _step(incident, rest, overdue=True)
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
        lasts = SURVIVES_RESOLVE if status is not Status.MERGED else ()
        kept = {name: due_at for name, due_at in incident.timers.items() if name.startswith(lasts)}
        why = f"the incident is {str(status).replace('_', ' ')}"
        return _cancel(replace(incident, timers=kept, resolved_at=at), why, at)
    if was_over and not incident.over:
        return _reopened(incident, at)
    return incident


def _reopened(incident: Incident, at: datetime) -> Incident:
    """The clocks run again, from the same opening: what lies ahead of them, not what they would have said meanwhile."""
    ahead = {name: due_at for name, due_at in _phases(incident.frozen, incident.start).items() if due_at > at}
    incident = replace(incident, resolved_at=None, timers={**ahead, **incident.timers})
    if not (incident.contained_at or incident.overridden):
        clock = incident.begun.timers
        first = incident.start + timedelta(seconds=clock.containment)
        incident = _timer(incident, "containment", max(first, at + timedelta(seconds=clock.containment_repeat)))
    return _unacked(conversation.remind(replace(incident, reminders=True), at), at)


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
        if why == recovery.BY_TIME and (run.id in incident.measures or run.id.startswith(("rollback:", "undo:"))):
            continue
        running = run.status is StepStatus.RUNNING and not is_held(incident, run)
        if run.status in stoppable or running:
            calls = {name: replace(call, again_at=None) for name, call in run.calls.items()}
            incident = _step(incident, run.id, status=StepStatus.CANCELLED, why=why, settled_at=at, calls=calls)
            incident = _timer(_withdrawn(incident, run.request, ApprovalState.WITHDRAWN), f"form:{run.id}", None)
    return incident


def _withdrawn(incident: Incident, request: str, state: ApprovalState) -> Incident:
    """Nobody can decide this request any more."""
    asked = incident.approvals.get(request)
    if asked is None or asked.state is not ApprovalState.OPEN:
        return incident
    incident = replace(incident, approvals={**incident.approvals, request: replace(asked, state=state)})
    return _timer(incident, f"approval:{request}", None)


def _unacked(incident: Incident, at: datetime) -> Incident:
    incident = replace(incident, acked_by="", acked_at=None, unacks=incident.unacks + 1)
    incident = replace(incident, silenced_until=None, silence_asked=None)  # nobody has it: people are called again
    moment = next_moment(incident.frozen.matrix, incident.start, at)
    return _timer(_timer(incident, "ack", None), "escalation", moment)


def _judged(incident: Incident, at: datetime) -> Incident:
    """Containment follows from the steps, never from anybody's say."""
    incident = fallback.settled(incident)
    found = verdict(_containing(incident))
    if found is incident.containment:
        return incident
    released = found is Containment.NONE and any(run.status is StepStatus.RELEASED for run in incident.steps.values())
    if found is Containment.CONTAINED or released:  # released by people: their word stops the clock too
        incident = _timer(_timer(incident, "containment", None), "phase:containment", None)
    contained_at = at if found is Containment.CONTAINED else incident.contained_at
    first = incident.first_contained_at or contained_at
    return replace(incident, containment=found, contained_at=contained_at, first_contained_at=first)


def _containing(incident: Incident) -> Iterable[tuple[Outcome | None, Grade]]:
    for measure in incident.measures.values():
        run = incident.steps[measure.id]
        if measure.kind is MeasureKind.SHADOW and run.holding and run.status is StepStatus.DONE:
            for call in run.calls.values():
                yield call.outcome, Grade.CONFIG
    if not incident.started:
        return
    let_go = any(run.status is StepStatus.RELEASED for run in incident.steps.values())
    for run in incident.steps.values():
        if run.id in incident.measures or not is_held(incident, run):
            continue
        if run.status in (StepStatus.LEFT_OUT, StepStatus.RELEASED, StepStatus.OBSERVED):
            continue
        required = incident.spec(run.id).require
        if run.calls and run.status in (StepStatus.DONE, StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.RELEASING):
            for call in run.calls.values():
                loose = call.verb is Verb.UNDO  # let go, or about to be
                used = call.after is not None and call.after.alive  # whatever was read back
                yield Skipped("released" if loose else "used") if loose or used else call.outcome, required
        elif run.status is StepStatus.DONE:  # nothing to act on: that counts beside cuts that stand, not beside none
            if not let_go:
                yield Done(Grade.CONFIG, nothing_held=run.why), required
        elif run.settled:
            yield Skipped(run.why), required
        else:
            yield None, required


# What decisions mean for the state ------------------------------------------------------------------------------


def take(incident: Incident, decisions: Iterable[Decision], at: datetime) -> Incident:
    """One by one and each judged at once, so that a replay passes through the very states that decided."""
    for decision in decisions:
        incident = _judged(_taken(incident, decision, at), at)
    return incident


def _taken(incident: Incident, decision: Decision, at: datetime) -> Incident:
    match decision:
        case PlanStep(step=step, status=status, action=action, calls=planned, why=why, hash=hash):
            run = incident.steps.get(step) or StepRun(step)
            incident = _withdrawn(incident, run.request, ApprovalState.SUPERSEDED)
            held = {name for name, call in run.calls.items() if call.held}
            fresh = {plan.name: Call(plan, held=plan.name in held) for plan in planned}
            settled_at = at if StepStatus(status) in SETTLED else None
            run = replace(
                run, status=StepStatus(status), action=action, calls=fresh, why=why, hash=hash, settled_at=settled_at
            )
            incident = replace(incident, steps={**incident.steps, step: run})
            if run.status is StepStatus.AWAITING_FORM:
                form = incident.spec(step).manual
                incident = _timer(incident, f"form:{step}", at + form.due if form else None)
            return incident
        case RunAction(step=step, call=call, id=id):
            calls = incident.steps[step].calls
            sent = calls[call].sent(decision)
            incident = _step(incident, step, status=StepStatus.RUNNING, calls={**calls, call: sent})
            return replace(incident, outstanding=incident.outstanding | {id})
        case PlaceHold(hold=hold, call=call):
            calls = incident.steps[hold.step].calls
            calls = {**calls, call: replace(calls[call], held=True)}
            incident = _step(incident, hold.step, status=StepStatus.RUNNING, holding=True, calls=calls)
            return fallback.begun(incident, hold.step, at)
        case ReleaseHold(step=step):
            return _step(incident, step, status=StepStatus.RELEASING)
        case AskApproval(id=id, step=step, hash=hash):
            return _asked(incident, id, step, hash, at)
        case AskPermit(steps=steps, group=group):
            for step in steps:
                incident = _step(incident, step, status=StepStatus.AWAITING_PERMIT, group=group)
            return incident
        case Page(id=id, reason=reason):
            paged = incident.failure_paged or reason == "on_failure"
            warned = {**incident.warned, reason: at} if reason.startswith(WARNINGS) else incident.warned
            pages = {**incident.pages, id: PageState(decision)}
            return replace(incident, pages=pages, failure_paged=paged, warned=warned)
        case Notify(id=id):
            return replace(incident, pages={**incident.pages, id: PageState(decision)})
        case Post(id=id, purpose=purpose):
            incident = replace(incident, outstanding=incident.outstanding | {id})
            if purpose == "card":
                return replace(incident, card_out=id, shown=facts_of_card(incident))
            if purpose == "announcement":
                return replace(incident, announcement_out=id, announced=facts_of_announcement(incident))
            if purpose.startswith(("nobody_on_call:", "unreachable:")):
                stand = reached(incident.frozen.matrix, at - incident.start, incident.floor)
                return replace(incident, floor=stand.levels + 1)
            return incident
        case OpenChannel(id=id):
            return replace(incident, outstanding=incident.outstanding | {id}, channel_out=id)
        case Invite(id=id, persons=persons):
            incident = replace(incident, outstanding=incident.outstanding | {id})
            return replace(incident, members=incident.members | {*persons})
        case DraftDocument(id=id, kind=kind):
            return replace(incident, outstanding=incident.outstanding | {id}, drafted=incident.drafted | {kind})
        case Survey(id=id, again_at=again_at):
            out = incident.outstanding | {id}
            incident = replace(incident, outstanding=out, survey_out=decision, surveyed_at=incident.containment)
            return _timer(incident, "survey", again_at)
        case Replay(id=id):
            return replace(incident, outstanding=incident.outstanding | {id}, replay_out=id)
        case Withdraw(decisions=ids):
            for id in ids:
                incident = _paged(incident, id, "withdrawn")
            return incident
        case _:
            return incident


def _asked(incident: Incident, request: str, step: str, hash: str, at: datetime) -> Incident:
    rule = approval_rule(incident, step)
    expires_at = at + rule.timeout
    asked = Approval(request, step, hash, rule.each, at, expires_at, rule.on_timeout, step_up=rule.step_up)
    incident = replace(
        incident, approvals={**incident.approvals, request: asked}, outstanding=incident.outstanding | {request}
    )
    incident = _step(incident, step, status=StepStatus.AWAITING_APPROVAL, request=request)
    return _timer(incident, f"approval:{request}", at + rule.timeout)


def approval_rule(incident: Incident, step: str) -> ApprovalRule:
    """The step's own, or that of a playbook (or source) that may only propose."""
    return incident.spec(step).approval or ApprovalRule({"security_team|incident_commander": 1})


def facts_of_card(incident: Incident) -> tuple[object, ...]:
    """What the card shows: when it changes, the card is edited."""
    steps = tuple((run.id, run.status, tuple(c.outcome for c in run.calls.values())) for run in incident.steps.values())
    asked = tuple((a.request, a.state, a.given) for a in incident.approvals.values())
    room = (incident.severity, incident.silenced_until, incident.private, *incident.roles.items())
    tasks = tuple((task.id, task.owner, task.due, task.done) for task in incident.tasks.values())
    stand = (incident.status, incident.containment, incident.acked_by, incident.alerts, incident.updates)
    recovered = (incident.replay, incident.replay_out)
    return (*stand, steps, asked, room, tasks, *incident.surveys.values(), incident.audited, *recovered)


def facts_of_announcement(incident: Incident) -> tuple[object, ...]:
    """What the announcement shows of an incident that has a channel of its own."""
    if incident.private:
        return ("private", incident.severity)
    return (incident.severity, incident.status, incident.containment)


def _written(incident: Incident, decision: str, at: tuple[str, str] | None) -> Incident:
    """A message that is edited in place stands there; None where Slack did not take it."""
    if decision == incident.card_out:
        return replace(incident, card=at or incident.card, card_out="", left="" if at else incident.left)
    if decision == incident.announcement_out:
        return replace(incident, announcement=at or incident.announcement, announcement_out="")
    return incident


# Small moves ----------------------------------------------------------------------------------------------------


def _step(incident: Incident, step: str, **changes: Any) -> Incident:
    return replace(incident, steps={**incident.steps, step: replace(incident.steps[step], **changes)})


def _paged(incident: Incident, decision: str, state: str) -> Incident:
    if decision not in incident.pages:
        return incident
    return replace(incident, pages={**incident.pages, decision: replace(incident.pages[decision], state=state)})


def _less(incident: Incident, decision: str) -> Incident:
    return replace(incident, outstanding=incident.outstanding - {decision}, overtaken=incident.overtaken - {decision})
