"""What became of an action, and how sure we are. Expected failure is a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any


class Grade(IntEnum):
    """How sure we are that it took effect. Never merged, never rounded up."""

    UNVERIFIED = 0  # neither was possible; the evidence says why
    CONFIG = 1  # the state was read back
    EFFECT = 2  # a probe with what was cut was refused

    @property
    def label(self) -> str:
        return ("unverified", "verified-config", "verified-effect")[self]


@dataclass(frozen=True, slots=True)
class Done:
    """It happened. `evidence` is what was read back (enums, numbers, resource ids; it is also the step's outputs);
    `undo` what a release needs to restore, saved before the change. `nothing_held` is a reason, where there was
    nothing to cut (no lease, no key): it then counts as contained at any grade."""

    grade: Grade
    evidence: Mapping[str, Any] = field(default_factory=dict)
    undo: Mapping[str, Any] | None = None
    nothing_held: str = ""


@dataclass(frozen=True, slots=True)
class Pending:
    """Not yet: ask again at `check_at` with `so_far` (JSON), under the same key. `why` is shown on the card."""

    check_at: datetime
    so_far: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    unavailable: bool = False  # the system could not be reached; no attempt was used up


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not done, on purpose; never counts as contained."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The system answered no. `retryable` where the next answer may differ. `undo` where something may have been
    changed all the same: what a release then needs."""

    retryable: bool
    why: str
    undo: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may or may not have happened and nothing can tell. Put to a human."""

    why: str


Outcome = Done | Pending | Skipped | Failed | Unknown


def alive_until(evidence: Mapping[str, Any]) -> datetime | None:
    """By the actions' convention: an ISO time in the evidence, until which an old credential may pass."""
    value = evidence.get("alive_until")
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found and found.tzinfo else None
