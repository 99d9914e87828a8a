"""Drives an action as the performer does, on a clock that is told the time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from bot.actions import Action
from bot.domain.outcome import Failed, Outcome, Pending
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Ports
from bot.sandbox.clock import SimClock

STAGES = 1000  # more than any action may need


def drive(
    action: Action, params: Mapping[str, Any], ports: Ports, clock: SimClock, key: str, *, twice: bool = False
) -> Outcome:
    """Runs every stage until one settles, moving the clock on to each `check_at`. An outage is waited out, refusals
    are Failed. `twice`: the process dies after each stage, before its outcome is kept, so that each runs again."""
    so_far: Mapping[str, Any] | None = None
    for _ in range(STAGES):
        for _ in range(1 + twice):
            outcome = stage(action, params, ports, key=key, so_far=so_far)
        if not isinstance(outcome, Pending):
            return outcome
        if not outcome.unavailable:
            so_far = outcome.so_far
        clock.forward(seconds=max(0.0, (outcome.check_at - clock.now()).total_seconds()))
    raise AssertionError(f"{action.id} is still pending after {STAGES} stages: {outcome}")


def stage(
    action: Action, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
) -> Outcome:
    """One call of `run`, its failures translated as the performer translates them."""
    try:
        return action.run(params, ports, key=key, so_far=so_far)
    except Unavailable as outage:
        wait = timedelta(seconds=outage.retry_after or 2)
        return Pending(ports.clock.now() + wait, so_far or {}, str(outage), unavailable=True)
    except Denied as refused:
        return Failed(False, str(refused))
    except Rejected as rejected:
        return Failed(rejected.retryable, str(rejected))
