"""The escalation matrix and what of it is reached at a given moment.

Everything is computed from the opening time, so that a late wake-up, a restart or a replica that slept changes neither
the order nor the moment of anything: it only makes a page late, and says by how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Contact:
    """A person as on call right now: who, and the ways to reach them in order (`slack`, `email`, `webhook`)."""

    person: str
    ways: tuple[str, ...]


# Role -> who is on call for it now. Live (law 8): resolved at each event and recorded whenever it changed.
Roster = Mapping[str, tuple[Contact, ...]]


@dataclass(frozen=True, slots=True)
class Level:
    """`page_at` and `ack_by` count from the opening of the incident."""

    name: str
    roles: tuple[str, ...]
    page_at: timedelta
    ack_by: timedelta


@dataclass(frozen=True, slots=True)
class Matrix:
    """Levels in order. After the last `ack_by` everybody is paged. Reached levels are paged again every `repeat_every`
    until somebody acknowledges, `final_repeats` times past the last breach, then every `slow_repeat`."""

    id: str
    hash: str
    levels: tuple[Level, ...]
    repeat_every: timedelta = timedelta(minutes=5)
    final_repeats: int = 9
    slow_repeat: timedelta = timedelta(hours=1)

    @property
    def last_breach(self) -> timedelta:
        return max(level.ack_by for level in self.levels)

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(role for level in self.levels for role in level.roles))


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the clock stands: how many levels are to be paged, which have let their SLA pass, and the round."""

    levels: int  # the first N levels are reached
    breached: tuple[int, ...]  # indexes of levels whose `ack_by` has passed
    everybody: bool
    round: int  # 0 at the opening, +1 at each repeat moment


def reached(matrix: Matrix, elapsed: timedelta, floor: int = 0) -> Reached:
    """At least the first `floor` levels count as reached: those before them were empty or unreachable. Past the last
    level stands everybody."""
    by_clock = sum(level.page_at <= elapsed for level in matrix.levels)
    breached = tuple(i for i, level in enumerate(matrix.levels) if level.ack_by <= elapsed)
    everybody = elapsed >= matrix.last_breach or floor > len(matrix.levels)
    levels = len(matrix.levels) if everybody else max(by_clock, 1, floor)
    return Reached(levels, breached, everybody, _round(matrix, elapsed))


def next_moment(matrix: Matrix, opened_at: datetime, after: datetime) -> datetime:
    """When the matrix next asks for a page or a breach: strictly after `after`."""
    elapsed = after - opened_at
    fixed = {level.page_at for level in matrix.levels} | {level.ack_by for level in matrix.levels}
    coming = [moment for moment in fixed if moment > elapsed]
    coming.append(_next_repeat(matrix, elapsed))
    return opened_at + min(coming)


def _fast_end(matrix: Matrix) -> timedelta:
    return matrix.last_breach + matrix.final_repeats * matrix.repeat_every


def _round(matrix: Matrix, elapsed: timedelta) -> int:
    if elapsed <= _fast_end(matrix):
        return max(0, elapsed // matrix.repeat_every)
    return _fast_end(matrix) // matrix.repeat_every + (elapsed - _fast_end(matrix)) // matrix.slow_repeat


def _next_repeat(matrix: Matrix, elapsed: timedelta) -> timedelta:
    end = _fast_end(matrix)
    fast = (elapsed // matrix.repeat_every + 1) * matrix.repeat_every
    if fast <= end:
        return fast
    return end + ((elapsed - end) // matrix.slow_repeat + 1) * matrix.slow_repeat
