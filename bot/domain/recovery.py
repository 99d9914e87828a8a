"""The way back after an incident: what it changed is taken back, credentials are given again with less scope, and the
agent returns stage by stage.

People ask, two others approve, and every stage of the return needs a clean replay that is newer than whatever changed.
An alert about the agent ends its return: the playbook cuts anew what it had cut. `admit` refuses, `heard` is what the
rest means for the state; `comeback` decides what follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from bot.domain.approval import ApprovalState
from bot.domain.calls import Call
from bot.domain.events import (
    ActionSettled,
    AlertReceived,
    AlertsCounted,
    Event,
    ReissueAsked,
    ReplayAsked,
    Replayed,
    ReturnAsked,
    ReturnStopped,
    RollbackAsked,
    Status,
)
from bot.domain.outcome import Done
from bot.domain.planning import MODE_ACTION, mode_holds, way_back
from bot.domain.state import STAGES, Incident, Measure, MeasureKind, ReplayState, StepRun, StepStatus, timed
from bot.errors import Refused

BY_TIME = "the playbook's time is over"  # which ends its own steps, and none of recovery


def admit(incident: Incident, event: Event) -> None:
    """Raises Refused."""
    match event:
        case RollbackAsked():
            _not_over(incident)
            _not_twice(incident, MeasureKind.ROLLBACK)
            backs = way_back(incident)
            if not any(back.run for back in backs):
                by_hand = "; ".join(f"{back.step}: {back.why}" for back in backs)
                why = f"{incident.id} completed nothing that can be taken back. {by_hand}".strip()
                raise Refused("nothing_to_take_back", why)
        case ReissueAsked():
            _recovers(incident)
            _not_twice(incident, MeasureKind.READ, MeasureKind.REISSUE)
            try:
                incident.frozen.catalogue.targets(event.action, {**event.params, "apply": False}, incident.agent)
            except ValueError as error:
                raise Refused("no_such_credential", f"This cannot be re-issued: {error}") from None
        case ReturnAsked(to=to):
            _recovers(incident)
            _not_twice(incident, *STAGES)
            _next_stage(incident, to)
            _ready_to_return(incident, to)
            replayed(incident)
        case ReplayAsked():
            _not_over(incident)
            if incident.replay_out:
                raise Refused("already", f"{incident.id} is being replayed already.")
        case Replayed(decision=decision):
            if decision != incident.replay_out:
                raise Refused("already_settled", f"{decision} is settled already.")
        case ReturnStopped():
            if not is_returning(incident):
                raise Refused("no_return", f"The agent of {incident.id} is on no way back.")


def replayed(incident: Incident, rules: str | None = None) -> None:
    """Raises Refused where no clean replay stands behind a stage of the return. `rules` is the digest of the operator's
    files as they are now, where they can be looked at: a file that was edited since makes the replay too old."""
    last = incident.replay
    how = f"Play it again: firedoor incident replay {incident.id}"
    if last is None:
        raise Refused("no_replay", f"{incident.id} was not replayed yet. {how}")
    if not last.clean:
        found = "; ".join(last.findings[:3])
        raise Refused("replay_not_clean", f"The last replay of {incident.id} was not clean: {found}. {how}")
    if incident.changed_at and last.at <= incident.changed_at:
        moment = f"{incident.changed_at:%Y-%m-%d %H:%M:%S}"
        raise Refused("replay_too_old", f"Something changed at {moment} UTC, after the last replay. {how}")
    if rules is not None and rules != last.rules:
        raise Refused("replay_too_old", f"The playbooks or settings were edited after the last replay. {how}")


def is_stage(incident: Incident, request: str) -> bool:
    """Whether an approval is of a stage, which needs its replay when it is approved too."""
    asked = incident.approvals.get(request)
    measure = incident.measures.get(asked.step) if asked else None
    return measure is not None and measure.kind in STAGES


def asker(incident: Incident, request: str) -> set[str]:
    """Who asked for what this request is about, and so cannot approve it."""
    asked = incident.approvals.get(request)
    measure = incident.measures.get(asked.step) if asked else None
    return {measure.by} if measure else set()


def stage(incident: Incident) -> MeasureKind | None:
    """How far the agent has come on its way back."""
    reached = [m.kind for m in _stages(incident) if incident.steps[m.id].status in _REACHED]
    return reached[-1] if reached else None


def is_returning(incident: Incident) -> bool:
    """A stage was reached, or is on its way: what is only asked for can wait for its approval."""
    begun = (StepStatus.RUNNING, StepStatus.READY, StepStatus.FAILED, StepStatus.UNKNOWN, *_REACHED)
    return any(incident.steps[m.id].status in begun for m in _stages(incident))


_REACHED = (StepStatus.DONE, StepStatus.RELEASING, StepStatus.RELEASED)


def _stages(incident: Incident) -> list[Measure]:
    return [m for m in incident.measures.values() if m.kind in STAGES and not m.stopped]


def following(incident: Incident) -> MeasureKind:
    """The next stage of the return. Raises Refused after the last."""
    now = stage(incident)
    if now is STAGES[-1]:
        raise Refused("already", f"The agent of {incident.id} is active already.")
    return STAGES[STAGES.index(now) + 1] if now else STAGES[0]


def _next_stage(incident: Incident, to: str) -> None:
    now, after = stage(incident), following(incident)
    if to != after:
        known = to in tuple(map(str, STAGES))
        stands = f"it is {now}" if now else "it has not begun its return"
        why = f"the next stage is {after}" if known else f"there is no stage {to!r}"
        raise Refused("wrong_stage", f"One stage at a time: {why}; {stands}.")


def _ready_to_return(incident: Incident, to: str) -> None:
    if incident.agent is None:
        raise Refused("no_agent", f"{incident.id} is about no enrolled agent: there is nobody to bring back.")
    unsure = [run.id for run in mode_holds(incident) if not run.settled or run.status is StepStatus.RELEASING]
    if unsure:
        raise Refused("not_settled", f"{', '.join(unsure)} is under way: wait for its answer.")
    try:
        params = {"agent": incident.begun.agent_uid, "mode": to}
        incident.frozen.catalogue.targets(MODE_ACTION, params, incident.agent)
    except ValueError as error:
        raise Refused("no_mode", f"{error}: release its steps one by one instead.") from None


def _recovers(incident: Incident) -> None:
    """The commander's word that the cause is known and mended."""
    _not_over(incident)
    if incident.status is not Status.RECOVERING:
        how = f"When it is known and mended: firedoor incident status {incident.id} recovering"
        raise Refused("cause_not_stated", f"{incident.id} is {incident.status}: its cause is not stated yet. {how}")


def _not_twice(incident: Incident, *kinds: MeasureKind) -> None:
    for measure in incident.measures.values():
        run = incident.steps[measure.id]
        if measure.kind in kinds and not measure.stopped and not run.settled:
            by = f"request {run.request}" if run.request else str(run.status).replace("_", " ")
            raise Refused("already", f"{measure.by} asked for this already: {measure.id}, {by}.")


def _not_over(incident: Incident) -> None:
    if incident.over:
        raise Refused("already_over", f"{incident.id} is already {incident.status}.")


# What approvers are shown -----------------------------------------------------------------------------------------


def particulars(incident: Incident, step: str) -> Mapping[str, tuple[str, ...]]:
    """What a measure was planned to do, by heading and line: the list of a rollback, the difference that a re-issue
    makes, what a stage takes the place of. {} for every other step. The words of policies are untrusted text."""
    measure = incident.measures.get(step)
    if measure is None:
        return {}
    run = incident.steps[step]
    match measure.kind:
        case MeasureKind.ROLLBACK:
            shown = {"Taken back, one at a time, in this order": tuple(_taken_back(incident, run))}
            if not run.settled:
                shown["Left to people"] = tuple(f"{one.step}: {one.why}" for one in way_back(incident) if not one.run)
        case MeasureKind.REISSUE:
            read = incident.steps[measure.needs[0]].outputs
            diff = [str(line) for line in read.get("diff") or ()]
            shown = {head: tuple(line[2:] for line in diff if line.startswith(sign)) for sign, head in _DIFF.items()}
        case MeasureKind.SHADOW | MeasureKind.ADVISORY:
            others = (held for held in mode_holds(incident) if held.id != step and not run.settled)
            shown = {"In the place of": tuple(f"{held.id} ({held.action})" for held in others)}
        case MeasureKind.ACTIVE:
            shown = {"Let go": tuple(_held_by(name, call) for name, call in run.calls.items())}
        case MeasureKind.READ:
            shown = {}
    return {heading: lines for heading, lines in shown.items() if lines}


_DIFF = {"- ": "Taken away", "  ": "Stays as it is", "+ ": "Given instead, each within what stood"}


def _taken_back(incident: Incident, gate: StepRun) -> Iterator[str]:
    for number, (name, call) in enumerate(gate.calls.items(), 1):
        id, _, own = name.partition("|")
        kind, _, step = id.partition(":")
        spec, done = incident.spec(id), incident.steps[step].calls.get(own)
        values = done.undo if kind == "undo" and done and done.undo else call.plan.params
        how = "restores what it saved" if kind == "undo" else "its rollback"
        does = f"{step}: {how}, {spec.call.uses if spec.call else '-'} on {call.plan.target}"
        yield f"{number}. {does} through {call.plan.system} {json.dumps(dict(values), sort_keys=True, default=str)}"


def _held_by(name: str, call: Call) -> str:
    return f"{name.partition('|')[0]} on {call.plan.target}"


# What it means for the state --------------------------------------------------------------------------------------


def heard(incident: Incident, event: Event, at: datetime) -> Incident:
    match event:
        case RollbackAsked(by=by):
            return _asked(incident, MeasureKind.ROLLBACK, "rollback", {}, by)
        case ReissueAsked(action=action, params=params, by=by):
            incident = _asked(incident, MeasureKind.READ, action, {**params, "apply": False}, by)
            return _asked(incident, MeasureKind.REISSUE, action, params, by, needs=(list(incident.measures)[-1],))
        case ReturnAsked(to=to, by=by):
            return _asked(incident, MeasureKind(to), MODE_ACTION, {}, by)
        case Replayed(clean=clean, rules=rules, findings=findings):
            return replace(incident, replay=ReplayState(at, clean, rules, findings), replay_out="")
        case ReturnStopped(contain=contain):
            return _put_back(incident, at, contain=contain)
        case AlertReceived(contain=contain) if not incident.over:
            return _put_back(incident, at, contain=contain)
        case AlertsCounted(last=last) if not incident.over and last > _begun_at(incident, last):
            return _put_back(incident, at, contain=incident.contain)
        case _:
            return incident


def changed(incident: Incident, at: datetime) -> Incident:
    """Something is not as it was when it was last replayed."""
    return replace(incident, changed_at=at)


def _begun_at(incident: Incident, otherwise: datetime) -> datetime:
    """When its return began, by the first stage that was settled."""
    settled = [run.settled_at for m in _stages(incident) if (run := incident.steps[m.id]).settled_at]
    return min(settled, default=otherwise)


def _asked(
    incident: Incident, kind: MeasureKind, action: str, params: Mapping[str, Any], by: str, needs: tuple[str, ...] = ()
) -> Incident:
    id = f"recover:{kind}:{len(incident.measures) + 1}"
    measure = Measure(id, kind, action, params, by, needs)
    run = StepRun(id, action=action)
    return replace(incident, measures={**incident.measures, id: measure}, steps={**incident.steps, id: run})


def _put_back(incident: Incident, at: datetime, *, contain: bool) -> Incident:
    """The agent was heard of again. By a word that may contain, what the playbook cut is cut anew, whatever was let go
    meanwhile; a stage that was asked for is off. The looser hold stays where it is: the playbook's goes above it."""
    if not incident.measures:
        return incident
    was_returning = is_returning(incident)
    incident = changed(incident, at)
    if not contain:
        return incident
    measures, steps = dict(incident.measures), dict(incident.steps)
    for measure in _stages(incident):
        measures[measure.id] = replace(measure, stopped=True)
        run = steps[measure.id]
        if not run.settled:
            steps[measure.id] = replace(run, status=StepStatus.CANCELLED, why=HEARD_AGAIN, settled_at=at)
            incident = _no_longer_asked(incident, run.request)
    incident = replace(incident, measures=measures, steps=steps)
    return _cut_anew(incident, at) if was_returning else incident


HEARD_AGAIN = "the agent was heard of again: its return is off"


def _no_longer_asked(incident: Incident, request: str) -> Incident:
    asked = incident.approvals.get(request)
    if asked is None or asked.state is not ApprovalState.OPEN:
        return incident
    withdrawn = replace(asked, state=ApprovalState.WITHDRAWN)
    incident = replace(incident, approvals={**incident.approvals, request: withdrawn})
    return timed(incident, f"approval:{request}", None)


def _cut_anew(incident: Incident, at: datetime) -> Incident:
    playbook = incident.frozen.playbook
    if playbook is None or not incident.started:
        return incident
    steps = dict(incident.steps)
    for step in playbook.steps.values():
        run = steps[step.id]
        if step.contains and run.settled and run.status not in (StepStatus.LEFT_OUT, StepStatus.OBSERVED):
            steps[step.id] = StepRun(step.id, holding=run.holding, group=run.group)
    incident = replace(incident, steps=steps, failure_paged=False, overridden=False)
    incident = timed(incident, "containment", at + timedelta(seconds=incident.begun.timers.containment))
    return timed(incident, "run", at + playbook.timeout)


def settled(before: Incident, after: Incident, event: ActionSettled, at: datetime) -> Incident:
    """What was taken back, given anew or brought one stage on has changed the world that a replay spoke of."""
    if not isinstance(event.outcome, Done) or not event.step.startswith(("rollback:", "undo:", "recover:")):
        return after
    measure = before.measures.get(event.step)
    return after if measure and measure.kind is MeasureKind.READ else changed(after, at)
