"""What may be written into an incident's record: asked before anything is, and answered with a reason."""

from __future__ import annotations

from math import isfinite

from bot.domain import approval as approvals
from bot.domain import conversation, recovery
from bot.domain.events import (
    Acknowledged,
    ActionSettled,
    ApprovalGiven,
    ApprovalRefused,
    ApprovalsAudited,
    AuditAsked,
    ChannelFailed,
    ChannelOpened,
    DeadlinePassed,
    Deferred,
    DocumentDrafted,
    Event,
    FormSubmitted,
    HoldPlaced,
    HoldReleased,
    Invited,
    Linked,
    Opened,
    Overridden,
    PageFailed,
    PageSent,
    Permitted,
    Posted,
    PostFailed,
    Released,
    Started,
    StatusChanged,
    Surveyed,
    Unacknowledged,
    Verified,
)
from bot.domain.state import ACCEPTABLE, OVERRIDABLE, TRANSITIONS, Incident, StepRun, StepStatus, is_held
from bot.errors import Refused


def admit(incident: Incident, event: Event) -> None:
    """Raises Refused for what must not be written; says nothing else."""
    if isinstance(event, Opened):
        if incident.opened:
            raise Refused("already_open", f"{incident.id} is open already.")
        return
    _ = incident.begun
    match event:
        case ActionSettled(decision=decision, step=step):
            held = is_held(incident, _run(incident, step))  # then the target's stream has admitted it
            if not held and decision not in incident.overtaken:
                _outstanding(incident, decision)
        case Verified(step=step, call=call):  # its target's stream has admitted it
            if call not in _run(incident, step).calls:
                raise Refused("no_such_call", f"Step {step} of {incident.id} makes no call {call!r}.")
        case Surveyed(decision=decision):
            _outstanding(incident, decision)
        case Posted(decision=decision) | PostFailed(decision=decision) | DocumentDrafted(decision=decision):
            _outstanding(incident, decision)
        case ApprovalsAudited(decision=decision):
            _outstanding(incident, decision)
        case AuditAsked():
            if not any(run.outputs.get("manifest_sha256") for run in incident.steps.values()):
                raise Refused("no_evidence", f"{incident.id} has no evidence yet: an audit reads what was collected.")
        case ChannelOpened(decision=decision) | ChannelFailed(decision=decision) | Invited(decision=decision):
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
        case ApprovalGiven(request=request, by=by, groups=groups, hash=hash, also=also, proof=proof):
            asked = incident.approvals.get(request)
            started = _initiators(incident) | recovery.asker(incident, request)
            approvals.admit(asked, by, groups, hash, started, also=also, proof=proof)
            if recovery.is_stage(incident, request):
                recovery.replayed(incident)
        case ApprovalRefused(request=request, by=by, groups=groups):
            approvals.admit(incident.approvals.get(request), by, groups, None, set())
        case FormSubmitted(step=step):
            if _run(incident, step).status is not StepStatus.AWAITING_FORM:
                raise Refused("no_form", f"Step {step} of {incident.id} is not waiting for a form.")
            _filled(incident, event)
        case Permitted(steps=steps) | Deferred(steps=steps):
            waiting = (StepStatus.AWAITING_PERMIT, StepStatus.DEFERRED)
            if not any(_run(incident, step).status in waiting for step in steps):
                raise Refused("not_waiting", f"No step of {', '.join(steps)} waits for a permit.")
        case Overridden(step=step, accept=accept):
            _not_over(incident)
            run = _run(incident, step)
            if run.status not in (ACCEPTABLE if accept else OVERRIDABLE) or (accept and run.accepted):
                raise Refused("nothing_to_override", f"Step {step} is {run.status}.")
        case Released(step=step):
            run = _run(incident, step)
            if not run.holding or run.status is StepStatus.RELEASING:
                raise Refused("not_held", f"{incident.id} holds nothing by step {step} ({run.status}).")
            if not incident.frozen.catalogue.undoable(run.action):
                raise Refused("not_undoable", f"{run.action} cannot be undone.")
        case Started():
            _not_over(incident)
            if incident.frozen.playbook is None:
                raise Refused(
                    "no_playbook", f"No playbook is there for {incident.type}: contain {incident.id} by hand."
                )
            if incident.started and incident.contain:
                raise Refused("already_started", f"The playbook of {incident.id} runs already.")
        case StatusChanged(status=status):
            if status not in TRANSITIONS[incident.status]:
                raise Refused("already", f"{incident.id} is {incident.status}; it cannot become {status}.")
        case DeadlinePassed(name=name, due=at):
            if incident.deadlines().get(name) != at:
                raise Refused("not_due", f"{incident.id} has no deadline {name} at {at.isoformat()}.")
        case Linked(incident=other):
            if other in incident.linked:
                raise Refused("already", f"{incident.id} is linked to {other} already.")
        case HoldPlaced() | HoldReleased():
            raise Refused("wrong_stream", f"{type(event).__name__} does not belong to an incident.")
        case _:
            conversation.admit(incident, event)
            recovery.admit(incident, event)


def _run(incident: Incident, step: str) -> StepRun:
    run = incident.steps.get(step)
    if run is None:
        known = ", ".join(incident.steps) or "none"
        raise Refused("no_such_step", f"{incident.id} has no step {step!r}. Its steps: {known}.")
    return run


def _filled(incident: Incident, event: FormSubmitted) -> None:
    """Every field of the form, each as it is to be, and no other."""
    manual = incident.spec(event.step).manual
    form = manual.form if manual else {}
    for name, kind in form.items():
        value = event.values.get(name)
        match kind:
            case "text":
                good = name in event.texts
            case "boolean":
                good = isinstance(value, bool)
            case "number":
                good = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            case _:
                good = value in kind
        if not good:
            raise Refused("bad_form", f"The form of {event.step} asks for {name} ({kind}), not {value!r}.")
    if unknown := sorted({*event.values, *event.texts} - set(form)):
        raise Refused("bad_form", f"The form of {event.step} has no field {', '.join(unknown)}.")


def _outstanding(incident: Incident, decision: str) -> None:
    if decision not in incident.outstanding:
        raise Refused("already_settled", f"{decision} is settled already.")


def _not_over(incident: Incident) -> None:
    if incident.over:
        raise Refused("already_over", f"{incident.id} is already {incident.status}.")


def _initiators(incident: Incident) -> set[str]:
    return {incident.begun.initiator, incident.begun.declared_by} - {""}
