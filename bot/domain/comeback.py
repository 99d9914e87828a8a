"""What follows when people recover: measures that start one after the other, holds that take each other's place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import assert_never

from bot.domain.decisions import AskApproval, PlaceHold, PlannedCall, PlanStep, ReleaseHold
from bot.domain.decisions import Replay as PlayAgain
from bot.domain.events import Event, Hold, ReplayAsked, Replayed
from bot.domain.planning import mode_holds, plan, way_back
from bot.domain.state import GATES, Incident, Measure, MeasureKind, StepRun, StepStatus
from bot.domain.turn import Turn

SETTLED_BADLY = (StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.REFUSED, StepStatus.CANCELLED, StepStatus.SKIPPED)


def recover(turn: Turn) -> None:
    """One move of each measure that waits for one."""
    if isinstance(turn.event, ReplayAsked) and not turn.now.replay_out:
        turn.do(PlayAgain(turn.next_id, turn.now.id))
    for measure in tuple(turn.now.measures.values()):
        run = turn.now.steps[measure.id]
        if run.status is StepStatus.READY and (measure.kind in GATES or measure.step.contains):
            _begin(turn, measure, run)
        elif run.status is StepStatus.RUNNING and measure.kind is MeasureKind.ROLLBACK:
            _take_back(turn, run)
        elif run.status is StepStatus.RUNNING and measure.kind is MeasureKind.ACTIVE:
            _let_go(turn, run)


def _begin(turn: Turn, measure: Measure, run: StepRun) -> None:
    """Approved. What has changed since it was shown is asked anew."""
    fresh = plan(turn.now, measure.step, turn.next_id)
    if fresh.hash != run.hash:
        turn.do(fresh)
        if turn.now.steps[run.id].status is StepStatus.AWAITING_APPROVAL:
            turn.do(AskApproval(turn.next_id, turn.now.id, run.id, fresh.hash))
        return
    match measure.kind:
        case MeasureKind.SHADOW | MeasureKind.ADVISORY:
            _hold(turn, measure, run)
        case MeasureKind.ROLLBACK:
            _now(turn, run, StepStatus.RUNNING)
            _take_back(turn, turn.now.steps[run.id])
        case MeasureKind.ACTIVE:
            for held in mode_holds(turn.now):
                for call in held.calls.values():
                    turn.do(ReleaseHold(turn.next_id, call.plan.target, turn.now.id, held.id, measure.by))
            _now(turn, run, StepStatus.RUNNING)
        case MeasureKind.READ | MeasureKind.REISSUE:  # steps like any other
            return
        case _:
            assert_never(measure.kind)


def _hold(turn: Turn, measure: Measure, run: StepRun) -> None:
    """It takes the place of what this incident holds there: no moment passes in which nothing is held."""
    step = measure.step
    others = tuple(held.id for held in mode_holds(turn.now) if held.id != run.id)
    for call in run.calls.values():
        hold = Hold(
            incident=turn.now.id,
            step=run.id,
            action=run.action,
            params=call.plan.params,
            system=call.plan.system,
            level=call.plan.level,
            timeout=step.timeout.total_seconds(),
        )
        turn.do(PlaceHold(turn.next_id, call.plan.target, call.plan.name, hold, others))


def _take_back(turn: Turn, gate: StepRun) -> None:
    """One at a time, in the order that was approved; the first that fails ends it."""
    wanted = dict.fromkeys(name.partition("|")[0] for name in gate.calls)
    for id in wanted:
        run = turn.now.steps.get(id)
        if run and run.status is StepStatus.DONE:
            continue
        if run and not run.settled:
            return
        if run and run.status in SETTLED_BADLY and run.hash == gate.hash[:16] + id:
            _now(turn, gate, StepStatus.FAILED, f"stopped at {id}: {run.why or run.status}")
        else:
            _next(turn, gate, id)
        return
    _now(turn, gate, StepStatus.DONE)


def _next(turn: Turn, gate: StepRun, id: str) -> None:
    back = next((one for one in way_back(turn.now) if one.run == id), None)
    approved = _calls_of(gate, id)
    if back is None or {call.name: call for call in back.calls} != approved:
        _now(turn, gate, StepStatus.FAILED, f"stopped before {id}: it would do something else than was approved")
        return
    # Its hash says for which approval it runs: one that failed for an earlier one is tried again.
    turn.do(PlanStep(turn.next_id, id, StepStatus.READY, back.action, back.calls, hash=gate.hash[:16] + id))


def _calls_of(gate: StepRun, id: str) -> Mapping[str, PlannedCall]:
    own = {name.partition("|")[2]: call.plan for name, call in gate.calls.items() if name.partition("|")[0] == id}
    return {name: replace(plan, name=name) for name, plan in own.items()}


def _let_go(turn: Turn, gate: StepRun) -> None:
    held = [turn.now.steps[id] for id in dict.fromkeys(name.partition("|")[0] for name in gate.calls)]
    if any(run.status is StepStatus.RELEASING for run in held):
        return
    if failed := [f"{run.id}: {run.why}" for run in held if run.status is not StepStatus.RELEASED]:
        _now(turn, gate, StepStatus.FAILED, "; ".join(failed))
        return
    _now(turn, gate, StepStatus.DONE, "; ".join(dict.fromkeys(run.why for run in held if run.why)))


def _now(turn: Turn, gate: StepRun, status: StepStatus, why: str = "") -> None:
    calls = tuple(call.plan for call in gate.calls.values())
    turn.do(PlanStep(turn.next_id, gate.id, status, gate.action, calls, why, gate.hash))


def recovered(before: Incident, now: Incident, event: Event) -> Iterator[str]:
    """What is said of it in the room, by the purpose of the post."""
    if isinstance(event, Replayed):
        yield "replayed"
    for measure in now.measures.values():
        run, was = now.steps[measure.id], before.steps.get(measure.id)
        stopped = measure.stopped and not before.measures[measure.id].stopped
        settled = run.settled and (was is None or not was.settled) and measure.kind is not MeasureKind.READ
        if stopped or settled:
            yield f"recovery:{measure.id}"
