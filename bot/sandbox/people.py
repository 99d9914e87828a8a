"""Simulated people and the simulated systems of other teams: what reached them, and what they answered."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.ports import PageMessage
from bot.sandbox.faults import Faults


class SimPager:
    """ports.Pager. `sent` is all that arrived, repeats included; `pages` what a receiver shows that knows the key."""

    def __init__(self, name: str = "pager", faults: Faults | None = None) -> None:
        self.name, self.faults = name, faults or Faults()
        self.sent: list[PageMessage] = []
        self._lock = threading.Lock()

    @property
    def pages(self) -> tuple[PageMessage, ...]:
        first: dict[str, PageMessage] = {}
        with self._lock:
            for message in self.sent:
                first.setdefault(message.key, message)
        return tuple(first.values())

    @property
    def paged(self) -> list[str]:
        """Whom, in order."""
        return [message.person for message in self.pages]

    def send(self, message: PageMessage) -> str:
        self.faults.before("send")
        with self._lock:
            self.sent.append(message)
            reference = f"{self.name}-{len(self.sent)}"
        self.faults.after("send")
        return reference


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    body: Mapping[str, Any] | None
    key: str


@dataclass(slots=True)
class SimEndpoint:
    """ports.Endpoint of a system that honours `Idempotency-Key`: a repeated key gets its first answer, and is performed
    once. `answers` by (method, path); anything else is answered (200, {})."""

    name: str = "endpoint"
    faults: Faults = field(default_factory=Faults)
    answers: dict[tuple[str, str], tuple[int, Mapping[str, Any]]] = field(default_factory=dict)
    received: list[Request] = field(default_factory=list)  # repeats included
    performed: dict[str, tuple[Request, tuple[int, Mapping[str, Any]]]] = field(default_factory=dict)  # by key
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        key: str,
        timeout: float,  # noqa: ARG002 - a simulator answers at once; its faults stand for timeouts
    ) -> tuple[int, Mapping[str, Any]]:
        self.faults.before("request")
        request = Request(method, path, body, key)
        with self._lock:
            self.received.append(request)
            _, answer = self.performed.setdefault(key, (request, self.answers.get((method, path), (200, {}))))
        self.faults.after("request")
        return answer
