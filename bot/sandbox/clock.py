"""A clock that only moves when it is told to."""

from __future__ import annotations

from datetime import datetime, timedelta


class SimClock:
    """ports.Clock for the sandbox, drills and tests. `now` is aware UTC."""

    def __init__(self, now: datetime) -> None:
        if now.utcoffset() != timedelta(0):
            raise ValueError("the simulated clock starts at an aware UTC time")
        self._now = now

    def now(self) -> datetime:
        return self._now

    def forward(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0) -> datetime:
        """Moves on and returns the new time; never backwards."""
        step = timedelta(seconds=seconds, minutes=minutes, hours=hours)
        if step < timedelta(0):
            raise ValueError("the simulated clock does not run backwards")
        self._now += step
        return self._now

    def set(self, moment: datetime) -> None:
        """Goes to that moment, backwards too: drills begin before their start."""
        self._now = moment
