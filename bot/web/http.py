"""One request and its answer on bare ASGI: all that the doors here need of HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from bot.errors import FiredoorError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

PATIENCE = 30.0  # seconds for a body to arrive
_JSON: Header = (b"content-type", b"application/json")
_ALWAYS: tuple[Header, ...] = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class TurnedAway(FiredoorError):
    """A request that is not carried out. `code` is stable, the text is for people. `retry_after` in seconds."""

    def __init__(self, status: int, code: str, why: str, *, retry_after: float | None = None, allow: str = "") -> None:
        self.status, self.code, self.retry_after, self.allow = status, code, retry_after, allow
        super().__init__(why)


class Disconnected(FiredoorError):
    """The client went away in the middle of its request: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    headers: tuple[Header, ...] = (_JSON,)

    async def send(self, send: Send, *, head: bool = False) -> None:
        length = (b"content-length", str(len(self.body)).encode())
        headers = [*self.headers, length, *_ALWAYS]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if head else self.body})


def as_json(status: int, value: Any, *headers: Header) -> Answer:
    return Answer(status, json.dumps(value).encode(), (_JSON, *headers))


def turned_away(error: TurnedAway) -> Answer:
    """`{"code", "message"}`."""
    headers: list[Header] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if error.allow:
        headers.append((b"allow", error.allow.encode()))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Firedoor"))
    return as_json(error.status, {"code": error.code, "message": str(error)}, *headers)


def not_found() -> TurnedAway:
    return TurnedAway(404, "not_found", "There is nothing here.")


def only(scope: Scope, *methods: str) -> None:
    if scope["method"] not in methods:
        allow = ", ".join(methods)
        raise TurnedAway(405, "wrong_method", f"This address takes {allow}.", allow=allow)


def headers_of(scope: Scope) -> dict[str, str]:
    """By lower-case name; of several with one name the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Raises TurnedAway: 413 as soon as it is known to be over `limit` bytes, 408 where it takes too long."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:19]) > limit:
            raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):  # nearly always
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    try:
        async with asyncio.timeout(PATIENCE):
            return await _pieces(message, receive, limit)
    except TimeoutError:
        raise TurnedAway(408, "too_slow", f"The body did not arrive within {PATIENCE:.0f} s.") from None


async def _pieces(message: Message, receive: Receive, limit: int) -> bytes:
    body = bytearray()
    while True:
        if message["type"] == "http.disconnect":
            raise Disconnected("the client went away in the middle of its body")
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()


def _too_large(limit: int) -> TurnedAway:
    return TurnedAway(413, "too_large", f"The body is over {limit} bytes: send less at once.")
