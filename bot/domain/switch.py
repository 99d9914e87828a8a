"""How far the switch of an incident's agents has got, as the card and `firedoor incident show` say."""

from __future__ import annotations

from bot.domain.containment import Containment, holds
from bot.domain.events import Verb
from bot.domain.handshake import SET_MODE, TRANSITIONS, Fact, Stage
from bot.domain.incident import Incident, StepRun, StepStatus, is_held
from bot.domain.outcome import Done, Outcome

CREDENTIALS = ("vault.", "aws.iam_", "k8s.revoke_tokens", "github.revoke_installation")  # what cuts one, by its name
_ORDER = tuple(Stage)
_NOT = (StepStatus.LEFT_OUT, StepStatus.OBSERVED, StepStatus.RELEASED, StepStatus.RELEASING)


def switched(incident: Incident) -> Stage | None:
    """The stage of the agent that is furthest back; None where the incident holds no agent at a mode. `contained` needs
    all of it: the mode enforced, a credential cut beside it, and every cut verified as its step requires."""
    held = [run for run in incident.steps.values() if is_held(incident, run) and run.status not in _NOT]
    orders = [call for run in held if run.action == SET_MODE for call in run.calls.values() if call.verb is Verb.RUN]
    if not orders:
        return None
    least = min((_stage(call.outcome if call.final else None) for call in orders), key=_ORDER.index)
    cut = incident.containment is Containment.CONTAINED and any(
        _cuts(incident, run) for run in held if run.action.startswith(CREDENTIALS)
    )
    return TRANSITIONS[least][Fact.CUT] if cut and least is Stage.ENFORCED else least


def _stage(outcome: Outcome | None) -> Stage:
    said = outcome.evidence.get("stage") if isinstance(outcome, Done) else None
    return Stage(said) if said in _ORDER else Stage.REQUESTED


def _cuts(incident: Incident, run: StepRun) -> bool:
    """Something was there, and is verified cut."""
    outcomes = [call.outcome for call in run.calls.values() if call.verb is Verb.RUN]
    required = incident.spec(run.id).require
    return any(isinstance(one, Done) and not one.nothing_held and holds(one, required) for one in outcomes)
