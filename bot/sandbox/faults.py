"""Scripted trouble: what a simulator raises instead of, or right after, doing what it was asked."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from bot.errors import SystemFailure


@dataclass(frozen=True, slots=True)
class _Fault:
    call: str
    error: SystemFailure
    left: int
    after: bool


class Faults:
    """The faults of one simulator. Its methods call `before(name)` before they change anything and `after(name)` once
    they have; the oldest fault that is due for that call is raised and used up by one."""

    def __init__(self) -> None:
        self._waiting: list[_Fault] = []
        self._lock = threading.Lock()

    def add(self, call: str, error: SystemFailure, times: int = 1, after: bool = False) -> None:
        """The next `times` calls of the method `call` (`*`: of any) raise `error`. `after`: the effect takes place
        first, so that the caller cannot know."""
        with self._lock:
            self._waiting.append(_Fault(call, error, times, after))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    def waiting(self) -> list[tuple[str, SystemFailure, int]]:
        """(call, error, how often still), the oldest first."""
        with self._lock:
            return [(fault.call, fault.error, fault.left) for fault in self._waiting]

    def before(self, call: str) -> None:
        self._raise_due(call, after=False)

    def after(self, call: str) -> None:
        self._raise_due(call, after=True)

    def _raise_due(self, call: str, *, after: bool) -> None:
        with self._lock:
            for at, fault in enumerate(self._waiting):
                if fault.call in (call, "*") and fault.after is after:
                    self._waiting[at : at + 1] = [replace(fault, left=fault.left - 1)] if fault.left > 1 else []
                    raise fault.error
