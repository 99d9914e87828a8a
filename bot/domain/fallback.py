"""What is done where a step is not proved in time: steps that wait for another's proof and are left out when it comes.

`unproved: {after: 60s, then: [revoke]}` of step `shadow` makes `revoke` wait. How `shadow` stands is the answer:

    proved: every call Done at its required grade .............. revoke is left out
    failed, unknown, or done below its grade .................... revoke runs at once
    neither within `after` of its first call .................... revoke runs then, and shadow is followed on
    taken as it is by a person, released, or no part of the plan  revoke is left out
    refused, cancelled or skipped: nobody tried ................. revoke is skipped, and counts as not contained

A word of the agent is none of these: an acknowledgement without a refused canary is below `verified-effect`.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto
from typing import assert_never

from bot.domain.containment import holds
from bot.domain.playbook import Step
from bot.domain.state import Incident, StepRun, StepStatus, timed

TIMER = "unproved:"


class Proof(Enum):
    OPEN = auto()  # nobody can say yet
    PROVED = auto()
    UNPROVED = auto()
    UNTRIED = auto()  # and nobody will
    MOOT = auto()  # it is no question any more


def proof(incident: Incident, step: str) -> Proof:
    """Of the step that others wait for."""
    run = incident.steps[step]
    if run.accepted:
        return Proof.MOOT
    match run.status:
        case StepStatus.DONE:
            return Proof.PROVED if _proved(incident, run) else Proof.UNPROVED
        case StepStatus.FAILED | StepStatus.UNKNOWN:
            return Proof.UNPROVED
        case StepStatus.LEFT_OUT | StepStatus.RELEASING | StepStatus.RELEASED:
            return Proof.MOOT
        case StepStatus.OBSERVED:
            return Proof.UNPROVED  # what would be done is said in any case
        case StepStatus.REFUSED | StepStatus.CANCELLED | StepStatus.SKIPPED:
            return Proof.UNPROVED if run.overdue else Proof.UNTRIED
        case _:
            return Proof.UNPROVED if run.overdue else Proof.OPEN


def verdict(incident: Incident, step: Step) -> tuple[StepStatus | None, str]:
    """What becomes of a step that waits for another's proof: (WAITING, '') waits on, (None, '') goes."""
    other = step.unless
    if not other:
        return None, ""
    match proof(incident, other):
        case Proof.OPEN:
            return StepStatus.WAITING, ""
        case Proof.UNPROVED:
            return None, ""
        case Proof.PROVED:
            return StepStatus.LEFT_OUT, f"{other} is proved"
        case Proof.MOOT:
            return StepStatus.LEFT_OUT, f"{other} is not to be proved any more"
        case Proof.UNTRIED:
            return StepStatus.SKIPPED, f"{other} was not tried"
        case never:
            assert_never(never)


def begun(incident: Incident, step: str, at: datetime) -> Incident:
    """Its first call leaves: from now on it has its time to be proved."""
    after = incident.spec(step).unproved
    name = f"{TIMER}{step}"
    if after is None or name in incident.timers or incident.steps[step].overdue:
        return incident
    return timed(incident, name, at + after)


def settled(incident: Incident) -> Incident:
    """No clock runs for what is decided."""
    for name in [name for name in incident.timers if name.startswith(TIMER)]:
        if proof(incident, name.removeprefix(TIMER)) is not Proof.OPEN:
            incident = timed(incident, name, None)
    return incident


def newly_unproved(before: Incident, now: Incident) -> tuple[str, ...]:
    """Steps that others waited for, and that this event left without proof."""
    return tuple(
        run.id
        for run in now.steps.values()
        if not run.pseudo
        and run.status is not StepStatus.OBSERVED
        and now.spec(run.id).unproved is not None
        and proof(now, run.id) is Proof.UNPROVED
        and (run.id not in before.steps or proof(before, run.id) is not Proof.UNPROVED)
    )


def _proved(incident: Incident, run: StepRun) -> bool:
    required = incident.spec(run.id).require
    return all(holds(call.outcome, required) for call in run.calls.values())
