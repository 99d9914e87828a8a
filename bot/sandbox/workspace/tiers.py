"""Slack's rate limits, where they are switched on: a bucket for each method, and one a second for each channel."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime

from bot.errors import Unavailable

POSTS_BURST = 5  # messages that one channel takes at once, before it is one a second


@dataclass(slots=True)
class Tiers:
    """`allowed` takes one call out of its bucket. Raises Unavailable with `retry_after` where it is empty."""

    on: bool = False
    _buckets: dict[str, tuple[float, datetime]] = field(default_factory=dict)

    def switch(self, on: bool) -> None:
        self.on = on
        self._buckets.clear()

    def allowed(self, method: str, a_minute: int, channel: str, now: datetime) -> None:
        if not self.on:
            return
        most, a_second = (a_minute, a_minute / 60) if a_minute else (POSTS_BURST, 1.0)
        name = method if a_minute else f"{method} {channel}"
        left, since = self._buckets.get(name, (most, now))
        left = min(most, left + a_second * (now - since).total_seconds())
        if left < 1:
            raise Unavailable("slack", "ratelimited", retry_after=math.ceil((1 - left) / a_second))
        self._buckets[name] = left - 1, now
