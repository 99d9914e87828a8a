"""One instance's signed line to Firedoor."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bot.agent import signature

CONNECT = 5.0  # seconds
MOST = 64 * 1024  # bytes of an answer


class Away(Exception):
    """No answer to use. `retry_after`: seconds that Firedoor asked for, or None."""

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Reply:
    """A signed answer, and the signed time of it."""

    status: int
    body: bytes
    at: int


class Link:
    """One connection that is kept. Not for several threads at once."""

    def __init__(self, url: str, instance: str, key: bytes, tls: ssl.SSLContext | None = None) -> None:
        """Raises ValueError for a URL that is no base."""
        parts = urlsplit(url.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"{url!r} is not the http(s) address of Firedoor")
        self._https, self._host, self._port, self._base = (
            parts.scheme == "https",
            parts.hostname,
            parts.port,
            parts.path,
        )
        self._instance, self._key, self._tls = instance, key, tls
        self._connection: http.client.HTTPConnection | None = None
        self._over = False

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, patience: float) -> Reply:
        """Raises Away, and Untrusted for an answer that Firedoor did not sign for this very request."""
        content = b"" if body is None else json.dumps(body).encode()
        message_id = str(uuid.uuid4())
        headers = signature.signed(self._key, message_id, time.time(), content)
        headers |= {"firedoor-instance": self._instance, "accept": "application/json", "user-agent": "firedoor-agent"}
        if content:
            headers["content-type"] = "application/json"
        try:
            status, answered, content = self._exchange(method, self._base + path, headers, content, patience)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise Away(f"Firedoor is not heard: {str(error) or type(error).__name__}") from error
        if status in (429, 502, 503, 504):  # a proxy cannot sign
            raise Away(f"Firedoor is busy ({status})", _seconds(answered.get("retry-after", "")))
        if status not in (200, 409):
            raise Away(f"Firedoor answered {status}: {_words(status)}")
        return Reply(status, content, signature.checked(self._key, answered, content, message_id, time.time()))

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None

    def interrupt(self) -> None:
        """From another thread: whoever waits for an answer gets none, and nobody asks again."""
        self._over = True
        connection = self._connection
        if connection and (sock := connection.sock):
            with contextlib.suppress(OSError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], content: bytes, patience: float
    ) -> tuple[int, dict[str, str], bytes]:
        """A kept connection may have been closed at the other end meanwhile: then once more on a new one. That is safe,
        for both requests may be sent twice."""
        kept = self._connection is not None
        connection = self._connection or self._connect()
        try:
            return self._once(connection, method, path, headers, content, patience)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if not kept:
                raise
            self.close()
        return self._once(self._connect(), method, path, headers, content, patience)

    def _once(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes,
        patience: float,
    ) -> tuple[int, dict[str, str], bytes]:
        if connection.sock:
            connection.sock.settimeout(patience)
        connection.request(method, path, content or None, dict(headers))
        response = connection.getresponse()
        found = response.read(MOST + 1)
        if len(found) > MOST:
            raise ValueError(f"the answer is larger than {MOST // 1024} KiB")
        if response.will_close:
            self.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, found

    def _connect(self) -> http.client.HTTPConnection:
        if self._over:
            raise ConnectionAbortedError("the client was closed")
        if self._https:
            tls = self._tls or ssl.create_default_context()
            made: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT, context=tls
            )
        else:
            made = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT)
        made.connect()
        self._connection = made
        return made


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _words(status: int) -> str:
    match status:
        case 401 | 403:
            return "this instance is not enrolled there, its key was revoked, or a clock is wrong"
        case 404:
            return "there is no agents' API under this address"
        case _:
            return "that is not in the contract"
