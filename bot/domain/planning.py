"""What exactly a step would do: rendered against the state as it is, with its targets frozen, and hashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from bot.domain.approval import fingerprint
from bot.domain.decisions import PlannedCall, PlanStep
from bot.domain.expression import ExpressionError, evaluate, render
from bot.domain.outcome import Done
from bot.domain.playbook import Call as PlaybookCall
from bot.domain.playbook import Rung, Step, Target
from bot.domain.reach import reach_names
from bot.domain.state import PSEUDO, Incident, Measure, MeasureKind, StepRun, StepStatus, is_held
from bot.domain.view import agent_names, alert_names, declared_names, incident_names


def plan(incident: Incident, step: Step, id: str) -> PlanStep:
    """Renders a step against the state as it is: what exactly would be done, and whether somebody has to be asked."""
    if measure := incident.measures.get(step.id):
        return _measured(incident, measure, id)
    names = names_of(incident)
    observes = incident.frozen.playbook is not None and incident.frozen.playbook.rung is Rung.OBSERVE
    action = step.call.uses if step.call else ""
    try:
        if step.condition is not None and not evaluate(step.condition, names):
            return PlanStep(id, step.id, StepStatus.LEFT_OUT, why="its condition is false")
        if step.manual:
            status = StepStatus.OBSERVED if observes else StepStatus.AWAITING_FORM
            return PlanStep(id, step.id, status, why="the playbook only observes" if observes else "")
        call = cast(PlaybookCall, step.call)
        calls = _calls(incident, step, call, names)
        digest = _digest(incident, step, call, calls, names)
    except ValueError as error:  # an ExpressionError is one too
        if observes:  # it may read what a step before would have put out
            why = f"the playbook only observes; what it would do cannot be said: {error}"
            return PlanStep(id, step.id, StepStatus.OBSERVED, action, why=why)
        return PlanStep(id, step.id, StepStatus.FAILED, action, why=str(error))
    if not calls:
        return PlanStep(id, step.id, StepStatus.DONE, action, why="there is nothing here that it could act on")
    if observes:
        return PlanStep(id, step.id, StepStatus.OBSERVED, action, calls, "the playbook only observes", digest)
    status = StepStatus.AWAITING_APPROVAL if must_ask(incident, step) else StepStatus.READY
    if status is StepStatus.READY and permit_group(incident, step, names) is not None:
        status = StepStatus.AWAITING_PERMIT
    return PlanStep(id, step.id, status, action, calls, hash=digest)


def _calls(incident: Incident, step: Step, call: PlaybookCall, names: dict[str, Any]) -> tuple[PlannedCall, ...]:
    items: Sequence[Any] = (None,)
    if step.foreach is not None:
        found = evaluate(step.foreach, names)
        if not isinstance(found, list | tuple):
            raise ExpressionError(f"{step.id}: foreach needs a list, it got {type(found).__name__}")
        items = found
    numbers = step.stage.part(len(items)) if step.stage else range(len(items))
    before = incident.steps.get(step.id)
    held = before.calls.values() if before and before.holding else ()
    planned = {call.plan.name: call.plan for call in held}  # planned again: what it holds, it goes on holding
    names_held = {plan.target: plan.name for plan in planned.values()}
    for number in numbers:
        item = items[number]
        scope = names if step.foreach is None else {**names, "item": item}
        arguments = {key: render(value, scope) for key, value in call.arguments.items()}
        targets: tuple[Target, ...] = incident.frozen.catalogue.targets(
            call.uses, arguments, incident.enrolled(arguments.get("agent"))
        )
        for target in targets:
            name = names_held.get(target.id) or f"{number}:{target.id}"
            planned[name] = PlannedCall(name, target.id, target.params, target.system, target.level)
    return tuple(planned.values())


def must_ask(incident: Incident, step: Step) -> bool:
    playbook = incident.frozen.playbook
    only_proposes = not incident.contain or (playbook is not None and playbook.rung is Rung.PROPOSE)
    return step.approval is not None or (step.contains and only_proposes)


def _digest(
    incident: Incident, step: Step, call: PlaybookCall, calls: tuple[PlannedCall, ...], names: dict[str, Any]
) -> str:
    """What an approval binds to."""
    rollback: dict[str, Any] | None = None
    if step.rollback:
        try:
            rollback = {key: render(value, names) for key, value in step.rollback.arguments.items()}
        except ExpressionError as error:
            rollback = {"not yet known": str(error)}  # it reads outputs of this very step
        rollback["uses"] = step.rollback.uses
    return fingerprint(
        {
            "playbook": incident.begun.pins.playbook,
            "step": step.id,
            "action": call.uses,
            "version": incident.frozen.catalogue.version(call.uses),
            "calls": [{"target": c.target, "params": c.params, "system": c.system} for c in calls],
            "rollback": rollback,
            "mode": incident.begun.mode,
            "told": {"intent": step.intent, "impact": step.impact, "cost": step.cost, "policy": step.policy},
        }
    )


def rollback_of(incident: Incident, step: str) -> tuple[str, Mapping[str, Any] | None] | None:
    """What would take a step back: the action and its values, None where they are known only once it ran."""
    back = incident.spec(step).rollback
    if back is None:
        return None
    names = names_of(incident)
    try:
        return back.uses, {key: render(value, names) for key, value in back.arguments.items()}
    except ExpressionError:
        return back.uses, None


def names_of(incident: Incident) -> dict[str, Any]:
    opened = incident.begun
    severity, alert = incident.worst_severity, incident.cause or opened.alert
    said = declared_names(severity=severity, agent_uid=opened.agent_uid, type=opened.type, at=incident.start)
    return {
        "alert": alert_names(alert) if alert else said,
        "agent": agent_names(incident.agent, incident.delegates) if incident.agent else {"id": opened.agent_uid},
        "incident": incident_names(
            id=incident.id,
            severity=severity.name,
            type=opened.type,
            status=incident.status,
            opened_at=incident.start,
        ),
        "reach": reach_names(incident.reach),
        "steps": {run.id: {"status": str(run.status), "outputs": dict(run.outputs)} for run in incident.steps.values()},
    }


def permit_group(incident: Incident, step: Step, names: dict[str, Any]) -> str | None:
    """'' for the limits that bind containing steps, a group's name for others, None where no permit is needed."""
    playbook = incident.frozen.playbook
    if step.id in incident.measures:
        return None
    if step.contains:
        return ""
    if playbook is None or playbook.concurrency is None or step.id.startswith(PSEUDO):
        return None
    try:
        return f"{playbook.id}:{render(playbook.concurrency.group, names)}"
    except ExpressionError:
        return f"{playbook.id}:"  # the group cannot be told apart: the strictest reading is one for all


# Recovery -------------------------------------------------------------------------------------------------------

MODE_ACTION = "agent.set_mode"


@dataclass(frozen=True, slots=True)
class Back:
    """A step of the record and what takes it back: the pseudo-step that does it, or `why` none can be named."""

    step: str
    run: str = ""  # rollback:<step> where it has one, undo:<step> where it saved what was before
    action: str = ""
    calls: tuple[PlannedCall, ...] = ()
    hash: str = ""
    why: str = ""


def way_back(incident: Incident) -> tuple[Back, ...]:
    """Everything that this incident changed and that is not taken back yet, the last first. What contains is no part of
    it: it is released."""
    steps = list(incident.steps)
    changed = [run for run in incident.steps.values() if _changed(incident, run)]
    changed.sort(key=lambda run: (cast(datetime, run.settled_at), steps.index(run.id)), reverse=True)
    return tuple(_back(incident, run) for run in changed)


def _changed(incident: Incident, run: StepRun) -> bool:
    if run.pseudo or run.settled_at is None or is_held(incident, run):
        return False
    back = [incident.steps.get(f"{kind}:{run.id}") for kind in ("rollback", "undo")]
    if any(one is not None and one.status is StepStatus.DONE for one in back):
        return False
    if run.status is StepStatus.UNKNOWN:
        return True
    return any(isinstance(call.outcome, Done) for call in run.calls.values())


def _back(incident: Incident, run: StepRun) -> Back:
    if run.status is not StepStatus.DONE:
        return Back(run.id, why=f"it is {run.status}: what of it happened has to be looked up by hand")
    spec = incident.spec(run.id)
    if spec.rollback:
        planned = plan(incident, incident.spec(f"rollback:{run.id}"), "")
        if planned.status != StepStatus.READY:
            return Back(run.id, why=f"its rollback cannot be planned: {planned.why or planned.status}")
        return Back(run.id, planned.step, planned.action, planned.calls, planned.hash)
    saved = {name: call for name, call in run.calls.items() if call.undo is not None}
    if not saved or not incident.frozen.catalogue.undoable(run.action):
        said = "its author says that it cannot be undone" if spec.irreversible else "it has no rollback"
        return Back(run.id, why=f"{said}, and nothing was saved to restore")
    undo = {name: [call.plan.target, call.undo] for name, call in saved.items()}
    calls = tuple(call.plan for call in saved.values())
    return Back(run.id, f"undo:{run.id}", run.action, calls, fingerprint({"action": run.action, "undo": undo}))


def mode_holds(incident: Incident) -> tuple[StepRun, ...]:
    """The steps by which this incident holds a mode of its agent."""
    return tuple(run for run in incident.steps.values() if run.holding and run.action == MODE_ACTION)


def _measured(incident: Incident, measure: Measure, id: str) -> PlanStep:
    action, asks = measure.action, StepStatus.AWAITING_APPROVAL
    told: dict[str, Any] = {}
    try:
        match measure.kind:
            case MeasureKind.ROLLBACK:
                backs = [back for back in way_back(incident) if back.run]
                calls = tuple(_named(call, back.run) for back in backs for call in back.calls)
                told = {"back": [[back.run, back.action, back.hash] for back in backs]}
            case MeasureKind.ACTIVE:
                calls = tuple(_named(c.plan, run.id) for run in mode_holds(incident) for c in run.calls.values())
            case MeasureKind.READ:
                calls, asks = _targets(incident, action, measure.params), StepStatus.READY
            case MeasureKind.REISSUE:
                read = incident.steps[measure.needs[0]].outputs
                if read.get("verdict") != "narrower":
                    why = f"this is not less scope than now: {read.get('why') or read.get('verdict')}"
                    return PlanStep(id, measure.id, StepStatus.REFUSED, action, why=why)
                calls = _targets(incident, action, {**measure.params, "apply": True, "before": read["digest"]})
                told = {"diff": read["diff"]}
            case MeasureKind.SHADOW | MeasureKind.ADVISORY:
                params = {"agent": incident.begun.agent_uid, "mode": str(measure.kind)}
                calls = _targets(incident, action, params)
    except ValueError as error:
        return PlanStep(id, measure.id, StepStatus.FAILED, action, why=str(error))
    if not calls:
        return PlanStep(id, measure.id, StepStatus.FAILED, action, why="there is nothing here that it could act on")
    digest = fingerprint(
        {
            "step": measure.id,
            "action": action,
            "version": incident.frozen.catalogue.version(action),
            "calls": [{"target": c.target, "params": c.params, "system": c.system} for c in calls],
            "mode": incident.begun.mode,
            "told": told,
        }
    )
    return PlanStep(id, measure.id, asks, action, calls, hash=digest)


def _named(call: PlannedCall, run: str) -> PlannedCall:
    return replace(call, name=f"{run}|{call.name}")


def _targets(incident: Incident, action: str, params: Mapping[str, Any]) -> tuple[PlannedCall, ...]:
    found = incident.frozen.catalogue.targets(action, params, incident.agent)
    return tuple(PlannedCall(f"0:{t.id}", t.id, t.params, t.system, t.level) for t in found)
