"""When it is looked at what the agent holds: at the opening; when containment has settled, and once more when the logs
have caught up; and shortly before people are paged that it has not. It holds up nothing but the steps that read it."""

from __future__ import annotations

from datetime import timedelta

from bot.domain.approval import ApprovalState
from bot.domain.containment import Containment
from bot.domain.decisions import AskApproval, PlanStep, Survey
from bot.domain.events import DeadlinePassed, Phase, Surveyed
from bot.domain.planning import plan
from bot.domain.playbook import Step
from bot.domain.reach import reach_names, reads_reach
from bot.domain.state import Incident, StepStatus
from bot.domain.turn import Turn

AHEAD = timedelta(minutes=1)  # before the page about containment, so that it can name what is alive
CAUGHT_UP = timedelta(minutes=15)  # CloudTrail lists events within this
DEADLINE = "survey"

_SETTLED = (Containment.CONTAINED, Containment.PARTIAL, Containment.UNKNOWN)
_AGAIN = (StepStatus.LEFT_OUT, StepStatus.DONE, StepStatus.FAILED, StepStatus.UNKNOWN, StepStatus.SKIPPED)


def look(turn: Turn) -> None:
    """Decides whether to look now. One look at a time: what changes meanwhile is looked at after it."""
    now = turn.now
    if now.agent is None or now.over or now.survey_out:
        return
    settles = now.containment is not turn.before.containment or now.containment is not now.surveyed_at
    if not now.surveys:
        page = now.timers.get("containment")
        again = page - AHEAD if page and page - AHEAD > turn.at else None
        turn.do(Survey(turn.next_id, now.id, Phase.BEFORE, again))
    elif now.containment in _SETTLED and settles:
        turn.do(Survey(turn.next_id, now.id, Phase.AFTER, turn.at + CAUGHT_UP))
    elif isinstance(turn.event, DeadlinePassed) and turn.event.name == DEADLINE:
        turn.do(Survey(turn.next_id, now.id, Phase.AFTER))


def awaits(incident: Incident, step: Step) -> bool:
    """Whether a step that reads `reach` has to wait for the first look."""
    return incident.agent is not None and not incident.surveys and reads_reach(step)


def plan_again(turn: Turn) -> None:
    """A later look found what a settled step is to cut: it is planned again, for that and for all it has cut so far."""
    if not isinstance(turn.event, Surveyed) or not turn.now.started or turn.now.over or not _chained(turn.now):
        return
    for run in tuple(turn.now.steps.values()):
        if run.pseudo or run.status not in _AGAIN or run.accepted:
            continue
        step = turn.now.spec(run.id)
        if not step.contains or not reads_reach(step):
            continue
        fresh = plan(turn.now, step, turn.next_id)
        if fresh.calls and fresh.status != StepStatus.OBSERVED:
            turn.do(fresh)
            _ask(turn, fresh)


def _ask(turn: Turn, fresh: PlanStep) -> None:
    run = turn.now.steps[fresh.step]
    asked = turn.now.approvals.get(run.request)
    is_open = asked is not None and asked.state is ApprovalState.OPEN
    if run.status is StepStatus.AWAITING_APPROVAL and not is_open:
        turn.do(AskApproval(turn.next_id, turn.now.id, fresh.step, fresh.hash))


def _chained(incident: Incident) -> bool:
    return bool(reach_names(incident.reach)["chained"])
