"""A line between the bot and a system, that a test can cut, or answer in the system's place."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

Answer = Callable[[bytes], bytes]  # the head of an HTTP request -> the whole response


class Line:
    """Carries bytes both ways. `to` is `http://host:port`, or the path of a server's Unix socket; then `at` is the path
    to serve at. `cut` breaks every connection and refuses new ones; `answer` is given instead of the system's."""

    def __init__(self, to: str, at: Path | None = None) -> None:
        self._to, self._at = to, at
        self._answer: Answer | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._port = 0
        self.mend()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()

    def cut(self) -> None:
        listener, self._listener = self._listener, None
        if listener:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
            listener.close()
        if self._at:
            self._at.unlink(missing_ok=True)
        self._break()

    def mend(self) -> None:
        """Back to carrying, from whatever state."""
        self._answer = None
        if self._listener is None:
            if self._at:
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(self._at))
            else:
                listener = socket.socket()
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", self._port))
                self._port = listener.getsockname()[1]
            listener.listen(64)
            self._listener = listener
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        self._break()

    def answer(self, answer: Answer) -> None:
        self._answer = answer
        self._break()

    def _break(self) -> None:
        with self._lock:
            ended, self._open = self._open, set()
        for one in ended:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(near)
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        if answer := self._answer:
            with near, suppress(OSError):
                near.sendall(answer(_request(near)))
            return
        far = socket.socket(socket.AF_UNIX if self._at else socket.AF_INET)
        try:
            far.connect(self._to if self._at else (urlsplit(self._to).hostname, urlsplit(self._to).port))
        except OSError:
            near.close()
            return
        with self._lock:
            self._open.add(far)
        back = threading.Thread(target=_carry, args=(far, near), daemon=True)
        back.start()
        _carry(near, far)
        back.join()
        with self._lock:
            self._open -= {near, far}
        near.close()
        far.close()


def _carry(source: socket.socket, goal: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            goal.sendall(chunk)
    with suppress(OSError):
        goal.shutdown(socket.SHUT_WR)


def _request(near: socket.socket) -> bytes:
    """Reads one whole request, so that its sender is ready to listen; returns its head."""
    read = b""
    while b"\r\n\r\n" not in read:
        if not (chunk := near.recv(65536)):
            return read
        read += chunk
    head, _, body = read.partition(b"\r\n\r\n")
    length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length:")), 0)
    if b"100-continue" in head.lower() and len(body) < length:
        near.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while len(body) < length:
        if not (chunk := near.recv(65536)):
            break
        body += chunk
    return head
