"""Slack's message timestamps: seconds and a counter, unique and rising in one workspace."""

from __future__ import annotations

from bot.ports import Clock


class Stamps:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> str:
        """`1767225600.000100`: the clock's time in microseconds, or one more than the last where it stands still."""
        self._last = max(self._last + 1, round(self._clock.now().timestamp() * 1_000_000))
        return f"{self._last // 1_000_000}.{self._last % 1_000_000:06d}"
