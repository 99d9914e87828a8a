"""What follows from an event: the one function that decides. Pure and total; time and state come in, decisions go out.

`advance` reads top to bottom: the playbook moves, people are paged, papers are drafted, the room is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import cast

from bot.domain import fallback
from bot.domain.approval import ApprovalState
from bot.domain.comeback import recover, recovered
from bot.domain.containment import Containment
from bot.domain.decisions import (
    AskApproval,
    AskPermit,
    Decision,
    DraftDocument,
    EndPermit,
    PlaceHold,
    PlanStep,
    Post,
    ReleaseHold,
    RunAction,
)
from bot.domain.events import (
    Absorbed,
    Acknowledged,
    AgentResolved,
    ApprovalsAudited,
    AuditAsked,
    DeadlinePassed,
    Escalated,
    Event,
    Hold,
    MadePrivate,
    Merged,
    Overridden,
    Pinned,
    Released,
    RoleTaken,
    Silenced,
    Status,
    StatusChanged,
    Summoned,
    TaskAdded,
    TaskChanged,
    Unacknowledged,
    UpdateGiven,
    Verb,
    Verified,
)
from bot.domain.incident import Incident, StepRun, StepStatus, apply, is_held
from bot.domain.paging import PAGE_ESCALATE, lost_reason, notify, page_people
from bot.domain.planning import must_ask, names_of, permit_group, plan
from bot.domain.playbook import OnError, Step
from bot.domain.room import keep_room, open_channel
from bot.domain.state import AUDIT, GATES, SATISFIED
from bot.domain.survey import awaits, look, plan_again
from bot.domain.turn import Turn


def advance(incident: Incident, event: Event, at: datetime) -> tuple[Incident, tuple[Decision, ...]]:
    """One event in, the new state and what is to be done out. Deterministic; ids count up from `.0`."""
    turn = Turn(incident, apply(incident, event, at), event, at)
    open_channel(turn)
    _progress(turn)
    page_people(turn)
    look(turn)
    _papers(turn)
    _room(turn)
    return turn.now, tuple(turn.decisions)


# The playbook ---------------------------------------------------------------------------------------------------


def _progress(turn: Turn) -> None:
    event = turn.event
    if isinstance(event, Released):
        _release(turn, event)
    if isinstance(event, AgentResolved):
        _replan_asked(turn)
    if turn.now.contain and not turn.before.contain:
        _stop_asking(turn)
    if not turn.now.frozen.playbook and not turn.now.measures and not turn.now.replay_out:
        recover(turn)
        return
    plan_again(turn)
    moved = True
    while moved:
        before = len(turn.decisions)
        if not turn.now.over:
            for run in tuple(turn.now.steps.values()):
                if run.status is StepStatus.WAITING and (turn.now.started or run.id in turn.now.measures):
                    _consider(turn, turn.now.spec(run.id))
        if turn.now.started and not turn.now.over:
            _ask_permits(turn)
            _fail(turn)
        recover(turn)
        for run in tuple(turn.now.steps.values()):
            if (measure := turn.now.measures.get(run.id)) and (measure.kind in GATES or measure.step.contains):
                continue  # begun by `recover`
            if run.status is StepStatus.READY:
                _start(turn, run)
            elif run.status is StepStatus.RUNNING and not is_held(turn.now, run):
                _continue(turn, run)
        moved = len(turn.decisions) > before
    _end_permit(turn)


def _consider(turn: Turn, step: Step) -> None:
    """A step that waits: may it go now?"""
    steps = turn.now.steps
    if any(not steps[other].settled for other in (*step.needs, *step.after)):
        return
    goes_on = step.stage is not None and step.stage.number > 0  # of a rollout, whose stages wait for success
    unmet = [other for other in step.needs if not _satisfied(turn.now, steps[other], strictly=goes_on)]
    if unmet:
        why = f"needs {', '.join(unmet)}"
        turn.do(PlanStep(turn.next_id, step.id, StepStatus.SKIPPED, why=why))
        return
    if awaits(turn.now, step):
        return
    status, why = fallback.verdict(turn.now, step)
    if status is StepStatus.WAITING:
        return
    if status is not None:
        turn.do(PlanStep(turn.next_id, step.id, status, why=why))
        return
    turn.do(plan(turn.now, step, turn.next_id))
    if turn.now.steps[step.id].status is StepStatus.AWAITING_APPROVAL:
        turn.do(AskApproval(turn.next_id, turn.now.id, step.id, turn.now.steps[step.id].hash))
    elif turn.now.steps[step.id].status is StepStatus.AWAITING_FORM:
        turn.do(Post(turn.next_id, turn.now.id, f"form:{step.id}"))
        manual = step.manual
        if manual:
            notify(turn, (manual.assignee,), f"form:{step.id}", turn.at + manual.due)


def _satisfied(incident: Incident, run: StepRun, *, strictly: bool) -> bool:
    if run.status in SATISFIED or run.accepted:
        return True
    return not strictly and incident.spec(run.id).on_error is OnError.CONTINUE


def _ask_permits(turn: Turn) -> None:
    """One question for all containing steps that became ready together, one for each group. Those that go through a
    list (children, chained roles, what the alert names) ask after the agent's own, which their number must not hold
    back."""
    waiting: dict[tuple[str, bool], list[StepRun]] = {}
    names = names_of(turn.now)
    asked = {step for d in turn.decisions if isinstance(d, AskPermit) for step in d.steps}
    for run in turn.now.steps.values():
        granted = run.status is StepStatus.READY and not run.permitted
        if (run.status is StepStatus.AWAITING_PERMIT and _just_planned(turn, run.id)) or granted:
            group = permit_group(turn.now, turn.now.spec(run.id), names)
            if group is not None and run.id not in asked:
                spreads = group == "" and turn.now.spec(run.id).foreach is not None
                waiting.setdefault((group, spreads), []).append(run)
    playbook = turn.now.frozen.playbook
    for (group, _), runs in sorted(waiting.items(), key=lambda one: one[0][1]):
        turn.do(
            AskPermit(
                id=turn.next_id,
                incident=turn.now.id,
                steps=tuple(run.id for run in runs),
                playbook=playbook.id if playbook else "",
                agent=turn.now.begun.agent_uid,
                contains=group == "",
                group=group,
                targets=tuple(call.plan.target for run in runs for call in run.calls.values()) if group == "" else (),
            )
        )


def _just_planned(turn: Turn, step: str) -> bool:
    return any(isinstance(d, PlanStep) and d.step == step for d in turn.decisions)


def _start(turn: Turn, run: StepRun) -> None:
    if not is_held(turn.now, run):
        _continue(turn, run)
        return
    step, playbook = turn.now.spec(run.id), turn.now.frozen.playbook
    trail = turn.now.frozen.catalogue.trail(run.action)
    for call in run.calls.values():
        hold = Hold(
            incident=turn.now.id,
            step=run.id,
            action=run.action,
            params=call.plan.params,
            system=call.plan.system,
            level=call.plan.level,
            timeout=step.timeout.total_seconds(),
            attempts=step.retry.attempts,
            backoff=step.retry.backoff,
            factor=step.retry.factor,
            max_delay=step.retry.max,
            checks=tuple(each.total_seconds() for each in playbook.verify) if playbook else (),
            trail=trail.total_seconds() if trail else 0.0,
        )
        turn.do(PlaceHold(turn.next_id, call.plan.target, call.plan.name, hold))


def _continue(turn: Turn, run: StepRun) -> None:
    """Every call that is neither out nor over nor waiting for its time goes now."""
    step = turn.now.spec(run.id)
    undoes = turn.now.steps[run.id.partition(":")[2]].calls if run.id.startswith("undo:") else {}
    for call in run.calls.values():
        if call.final or call.decision or (call.again_at and call.again_at > turn.at):
            continue
        id = turn.next_id
        turn.do(
            RunAction(
                id=id,
                key=call.key or id,
                incident=turn.now.id,
                step=run.id,
                call=call.plan.name,
                target=call.plan.target,
                action=run.action,
                verb=Verb.UNDO if undoes else Verb.RUN,
                params=call.plan.params,
                system=call.plan.system,
                timeout=step.timeout.total_seconds(),
                so_far=call.so_far,
                undo=undoes[call.plan.name].undo if undoes else None,
            )
        )


def _fail(turn: Turn) -> None:
    """A failed run: what completed is rolled back in reverse, one at a time, then `on_failure` is called."""
    playbook = turn.now.frozen.playbook
    steps = turn.now.steps
    failed = [
        run
        for run in steps.values()
        if run.status is StepStatus.FAILED
        and not run.accepted
        and not run.pseudo
        and turn.now.spec(run.id).on_error is OnError.FAIL
    ]
    if not failed or playbook is None:
        return
    # A cut that failed is no reason to take back what was mended: only a failed mending step rolls back.
    if any(not is_held(turn.now, run) for run in failed):
        busy = any(run.status is StepStatus.RUNNING and not is_held(turn.now, run) for run in steps.values())
        undone = [run for run in steps.values() if run.id.startswith("rollback:")]
        if busy or any(not run.settled for run in undone):
            return
        mended = [run for run in steps.values() if _can_roll_back(turn.now, run)]
        if mended:
            last = max(mended, key=lambda run: (cast(datetime, run.settled_at), list(steps).index(run.id)))
            turn.do(plan(turn.now, turn.now.spec(f"rollback:{last.id}"), turn.next_id))
            return
    if any(run.id.startswith("on_failure:") for run in steps.values()):
        return
    for number, call in enumerate(playbook.on_failure):
        if call.uses != PAGE_ESCALATE:
            turn.do(plan(turn.now, turn.now.spec(f"on_failure:{number}"), turn.next_id))


def _can_roll_back(incident: Incident, run: StepRun) -> bool:
    if run.pseudo or run.status is not StepStatus.DONE or is_held(incident, run):
        return False
    return incident.spec(run.id).rollback is not None and f"rollback:{run.id}" not in incident.steps


def _replan_asked(turn: Turn) -> None:
    """The agent changed while somebody was asked, or before what they approved could start: what they were shown is no
    longer what would be done."""
    for run in tuple(turn.now.steps.values()):
        if not run.request or run.status not in (StepStatus.AWAITING_APPROVAL, StepStatus.DEFERRED):
            continue
        fresh = plan(turn.now, turn.now.spec(run.id), turn.next_id)
        if fresh.hash != run.hash:
            turn.do(fresh)
            if turn.now.steps[run.id].status is StepStatus.AWAITING_APPROVAL:
                turn.do(AskApproval(turn.next_id, turn.now.id, run.id, fresh.hash))


def _stop_asking(turn: Turn) -> None:
    """A trusted word came: what was only put to people for want of it goes now. The step's own approvals stay."""
    for run in tuple(turn.now.steps.values()):
        if run.status is StepStatus.AWAITING_APPROVAL and not must_ask(turn.now, turn.now.spec(run.id)):
            turn.do(plan(turn.now, turn.now.spec(run.id), turn.next_id))


def _release(turn: Turn, event: Released) -> None:
    for call in turn.now.steps[event.step].calls.values():
        if not call.held or (call.verb is Verb.UNDO and call.final):
            continue  # let go already: the release failed at another of its targets and is asked for again
        turn.do(ReleaseHold(turn.next_id, call.plan.target, turn.now.id, event.step, event.by))


def _end_permit(turn: Turn) -> None:
    """The commit that settles the last step of a group lets the next incident in."""
    playbook = turn.now.frozen.playbook
    if playbook is None or playbook.concurrency is None:
        return
    runs = turn.now.steps.values()
    for group in dict.fromkeys(run.group for run in runs if run.permitted and run.group):
        mine = [run for run in runs if run.group == group]  # those that just asked for it too
        before = [turn.before.steps[run.id] for run in mine]
        if all(run.settled for run in mine) and not all(run.settled for run in before):
            turn.do(EndPermit(turn.next_id, turn.now.id, group))


# Papers and the room --------------------------------------------------------------------------------------------


def _papers(turn: Turn) -> None:
    """The internal brief and the first customer notice are drafted when containment has settled, at the latest when
    they are due; the postmortem when the incident is resolved."""
    settled = turn.now.containment in (Containment.CONTAINED, Containment.PARTIAL, Containment.UNKNOWN)
    late = isinstance(turn.event, DeadlinePassed) and turn.event.name == "phase:communication"
    wanted: list[str] = []
    if settled or late or turn.now.status is Status.RESOLVED:
        wanted += ["internal-brief", "customer-initial"]
    if turn.now.status is Status.RESOLVED:
        wanted.append("postmortem")
    for kind in wanted:
        if kind not in turn.now.drafted and turn.now.status is not Status.FALSE_POSITIVE:
            turn.do(DraftDocument(turn.next_id, turn.now.id, kind))
    if isinstance(turn.event, AuditAsked) or _has_new_evidence(turn):
        turn.do(DraftDocument(turn.next_id, turn.now.id, AUDIT))


def _has_new_evidence(turn: Turn) -> bool:
    """What an agent did is known as soon as its logs are kept: whoever is asked whether an approval was bypassed (A3)
    has the answer beside the question."""
    return any(
        run.outputs.get("manifest_sha256") and run.outputs != turn.before.steps[run.id].outputs
        for run in turn.now.steps.values()
        if run.id in turn.before.steps
    )


def _heard(turn: Turn) -> Iterator[str]:
    """What people said in the room, by the purpose of the post that says it to all."""
    now = turn.now
    if turn.before.opened and now.severity is not turn.before.severity:
        yield "severity"
    match turn.event:
        case RoleTaken(role=role):
            yield f"role:{role}"
        case TaskAdded(task=task) | TaskChanged(task=task):
            yield f"task:{task}"
        case UpdateGiven():
            yield f"update:{now.updates}"
        case DeadlinePassed(name="update"):
            yield "reminder"
        case Escalated():
            yield "escalated"
        case Summoned(person=person):
            yield f"summoned:{person}"
        case Silenced():
            yield "silenced"
        case Pinned():
            yield "pinned"
        case MadePrivate():
            yield "private"
        case Merged() | Absorbed():
            yield "merged"
        case StatusChanged(status=Status.FALSE_POSITIVE):
            yield "false_positive"


def _lost_or_clean(before: Incident, event: Verified) -> Iterator[str]:
    if reason := lost_reason(before, event):
        yield reason
    elif event.after and not event.after.why:
        known = before.steps[event.step].calls[event.call].after
        if known is None or known.verdict != event.after.verdict:
            yield f"unused:{event.step}"


def _room(turn: Turn) -> None:
    """The card is edited in place, one edit at a time; what changed is said once in its thread."""
    before, now, event = turn.before, turn.now, turn.event
    facts = []
    if isinstance(event, Acknowledged):
        facts.append("acknowledged")
    if isinstance(event, Unacknowledged) or (isinstance(event, DeadlinePassed) and event.name == "ack"):
        facts.append("unacknowledged")
    if now.containment is not before.containment and now.containment not in (Containment.RUNNING, Containment.NONE):
        facts.append(f"containment:{now.containment}")
    if isinstance(event, Verified):
        facts += _lost_or_clean(before, event)
    if isinstance(event, StatusChanged):
        facts.append(f"status:{now.status}")
    if isinstance(event, Overridden):
        facts.append(f"overridden:{event.step}")
    if isinstance(event, ApprovalsAudited):
        facts.append("audited")
    facts += recovered(before, now, event)
    facts += _heard(turn)
    for asked in now.approvals.values():
        was = before.approvals.get(asked.request)
        # One whose message came after the decision says so at once: it was written before it.
        fresh = was is not None and was.message is None and (asked.given or asked.state is not ApprovalState.OPEN)
        if asked.message and was and (fresh or was.looks != asked.looks):
            facts.append(f"request:{asked.request}")
    for fact in facts:
        turn.do(Post(turn.next_id, now.id, fact))
    keep_room(turn)
