"""A circuit breaker per system: a system that keeps not answering is left alone for a while, and nothing queues up on
it. While it is open its calls wait as `Pending`; no attempt is used up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """`now` is any monotonic seconds. After `limit` failures in a row it opens for `cool` seconds; then one tries.
    `why` is what the last one was."""

    limit: int = 5
    cool: float = 10.0
    failures: int = 0
    opened_at: float | None = None
    why: str = ""

    def wait(self, now: float) -> float:
        """Seconds until the next try; 0 when a call may go. The first call after the cooling goes alone."""
        if self.opened_at is None:
            return 0.0
        left = self.opened_at + self.cool - now
        if left > 0:
            return left
        self.opened_at = now  # half open: whoever else comes waits for this one's answer
        return 0.0

    def answered(self) -> None:
        """It is up, whatever it said."""
        self.failures, self.opened_at = 0, None

    def failed(self, now: float, why: str = "") -> None:
        self.failures += 1
        self.why = why
        if self.failures >= self.limit:
            self.opened_at = now


class Breakers:
    """By system, as they are asked for. Where the clock is virtual (drills) they are not `heeded`: nothing would ever
    cool down."""

    def __init__(self, *, heeded: bool) -> None:
        self._heeded = heeded
        self._all: dict[str, Breaker] = {}

    def wait(self, system: str) -> float:
        """Seconds until the next try; 0 when a call may go."""
        return self._of(system).wait(time.monotonic()) if self._heeded else 0.0

    def why(self, system: str) -> str:
        return self._of(system).why

    def answered(self, system: str) -> None:
        self._of(system).answered()

    def failed(self, system: str, why: str) -> None:
        self._of(system).failed(time.monotonic(), why)

    def known(self) -> Mapping[str, Breaker]:
        """Those of systems that were called so far."""
        return dict(self._all)

    def _of(self, system: str) -> Breaker:
        return self._all.setdefault(system, Breaker())
