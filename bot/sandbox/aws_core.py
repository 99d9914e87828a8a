"""What the parts of the simulated account share: its clock, its lock, its faults."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from bot.errors import Rejected
from bot.ports import Clock
from bot.sandbox.faults import Faults


class AwsCore:
    """One account and region, by itself without a service."""

    def __init__(self, clock: Clock, account: str, region: str, system: str) -> None:
        self.faults = Faults()
        self.id, self.region, self.system, self.clock = account, region, system, clock
        self.lock = threading.RLock()
        self._numbers = count(1)

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        with self.lock:
            self.faults.before(method)
            yield
            self.faults.after(method)

    def refusal(self, why: str) -> Rejected:
        return Rejected(self.system, why)

    def new(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):017d}"
