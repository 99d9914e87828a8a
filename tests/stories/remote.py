"""Objects of the test's process, called from another one over loopback: a company that outlives whoever is killed."""

from __future__ import annotations

import pickle
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.errors import SystemFailure

BEFORE, AFTER = "before", "after"
TOWN = "town"


@dataclass
class Served:
    """`objects` by name. `watch` is told of every call, before its effect and after, and may kill who calls. What is
    said to the `town` is between the test and its processes: it is no call to a system."""

    objects: Mapping[str, Any]
    watch: Callable[[str, str, int], None] | None = None  # what, when, and which call it is
    calls: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                outer._answer(self.rfile, self.wfile)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _tell(self, what: str, when: str, number: int) -> None:
        if self.watch and number:
            self.watch(what, when, number)

    def _answer(self, read: Any, write: Any) -> None:
        try:
            name, method, args, kwargs = pickle.load(read)
        except (EOFError, ConnectionResetError):
            return  # killed before it had said what it wanted
        what, number = f"{name}.{method}", 0
        if name != TOWN:
            with self._lock:
                self.calls.append(what)
                number = len(self.calls)
        self._tell(what, BEFORE, number)
        answer: tuple[Any, ...]
        try:
            answer = ("value", getattr(self.objects[name], method)(*args, **kwargs))
        except SystemFailure as error:
            answer = ("failure", type(error), error.system, error.why, getattr(error, "retryable", None))
        self._tell(what, AFTER, number)
        try:
            pickle.dump(answer, write)
        except (BrokenPipeError, ConnectionResetError):
            return  # nobody is there to hear it any more


@dataclass(frozen=True)
class Remote:
    """One of those objects, seen from the other process. A call that gets no answer raises ConnectionError."""

    port: int
    name: str

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Any:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
                stream = connection.makefile("rwb")
                pickle.dump((self.name, method, args, kwargs), stream)
                stream.flush()
                kind, *answer = pickle.load(stream)
            if kind == "value":
                return answer[0]
            cls, system, why, retryable = answer
            raise cls(system, why) if retryable is None else cls(system, why, retryable=retryable)

        return call
