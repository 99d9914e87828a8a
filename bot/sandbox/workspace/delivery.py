"""Payloads on their way to the bot: over Socket Mode, or as signed POSTs to its request URL."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.websockets import WebSocket, WebSocketDisconnect

from bot.sandbox.workspace.rooms import APP, BOT_USER
from bot.sandbox.workspace.state import Workspace

CONNECTIONS_MAX = 10
EVENT_RETRIES = (0.0, 60.0, 300.0)  # seconds before each further attempt


@dataclass(slots=True, eq=False)
class Delivery:
    """One payload. `kind` is Socket Mode's: `interactive`, `events_api` or `slash_commands`. `then` is called once, as
    soon as it is known whether it was acknowledged; `result` is what it answered."""

    kind: str
    payload: dict[str, Any]
    then: Callable[[Delivery], dict[str, Any]] | None = None
    result: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    late: int = 0  # acks that came after their attempt was given up
    acked: bool = False
    answer: dict[str, Any] = field(default_factory=dict)  # what the ack carried
    _settled: threading.Event = field(default_factory=threading.Event)
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def wait(self, seconds: float) -> bool:
        """True once it was acknowledged; False when it was given up, or not settled in time. Not for the loop."""
        return self._settled.wait(seconds) and self.acked

    async def settled(self) -> None:
        """Once it is known. In the server's loop only."""
        if not self._settled.is_set():
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting

    @property
    def is_echo(self) -> bool:
        """Of something that the bot did itself."""
        event = self.payload.get("event") or {}
        author = event.get("user") or (event.get("message") or event.get("previous_message") or {}).get("user")
        return self.kind == "events_api" and author == BOT_USER

    def settle(self) -> None:
        try:
            if self.then is not None:
                self.result = self.then(self)
        finally:
            self._settled.set()
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_result(None)


@dataclass(slots=True, eq=False)
class _Connection:
    socket: WebSocket
    sent: dict[str, tuple[Delivery, asyncio.Future[bool]]] = field(default_factory=dict)


class Post:
    """Delivers each payload to one connection, or to the request URL where there is one. An event that is not
    acknowledged within `ack_within` seconds, or whose connection breaks, goes out again after each of `event_retries`
    (seconds); of an interaction or a command the person is told that it failed."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        ack_within: float,
        request_url: str,
        signing_secret: str,
        event_retries: Sequence[float] = EVENT_RETRIES,
    ) -> None:
        self._workspace, self._ack_within = workspace, ack_within
        self._retries = event_retries
        self._request_url, self._secret = request_url, signing_secret
        self._connections: list[_Connection] = []
        self._turns: Counter[str] = Counter()  # by kind: none takes another's turn
        self._arrived = asyncio.Condition()
        self._http = httpx.AsyncClient(timeout=ack_within, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def deliver(self, delivery: Delivery) -> None:
        twice = self._workspace.take_delivery_fault("duplicate", delivery.kind, echo=delivery.is_echo)
        try:
            delivery.acked = any(await asyncio.gather(*(self._attempt(delivery) for _ in range(1 + twice))))
            for wait in self._retries if delivery.kind == "events_api" else ():
                if delivery.acked:
                    break
                await asyncio.sleep(wait)
                delivery.acked = await self._attempt(delivery)
        finally:
            delivery.settle()

    async def serve(self, socket: WebSocket) -> None:
        """One Socket Mode connection, from hello to its end."""
        if not self._workspace.redeem(socket.query_params.get("ticket", "")):
            await socket.close()  # before the handshake: the client gets a 403
            return
        await socket.accept()
        if len(self._connections) >= CONNECTIONS_MAX:
            await socket.send_json({"type": "disconnect", "reason": "too_many_websockets"})
            await socket.close()
            return
        connection = _Connection(socket)
        try:
            await socket.send_json(
                {
                    "type": "hello",
                    "num_connections": len(self._connections) + 1,
                    "connection_info": {"app_id": APP},
                    "debug_info": {"host": "sandbox", "approximate_connection_time": 18060},
                }
            )
            self._connections.append(connection)
            self._workspace.connected(+1)
            async with self._arrived:
                self._arrived.notify_all()
            async for text in socket.iter_text():
                _acknowledge(connection, text)
        except WebSocketDisconnect:
            return
        finally:
            self._drop(connection)

    async def _attempt(self, delivery: Delivery) -> bool:
        delivery.attempts += 1
        attempt = delivery.attempts
        if self._request_url:
            return await self._attempt_by_http(delivery, attempt)
        connection = await self._next_connection(delivery.kind)
        if connection is None:
            return False
        if self._workspace.take_delivery_fault("disconnect", delivery.kind, echo=delivery.is_echo):
            await self._refresh(connection)
            delivery.attempts -= 1
            return await self._attempt(delivery)
        envelope_id = str(uuid.uuid4())
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        connection.sent[envelope_id] = (delivery, answered)
        envelope: dict[str, Any] = {
            "type": delivery.kind,
            "envelope_id": envelope_id,
            "payload": delivery.payload,
            "accepts_response_payload": delivery.kind != "events_api",
        }
        if attempt > 1:
            envelope |= {"retry_attempt": attempt - 1, "retry_reason": "timeout"}
        try:
            await connection.socket.send_json(envelope)
        except (WebSocketDisconnect, RuntimeError):  # Starlette says RuntimeError for a socket that is closing
            self._drop(connection)
            delivery.attempts -= 1
            return await self._attempt(delivery)  # nothing went out: another connection gets it
        try:
            return await asyncio.wait_for(answered, self._ack_within)
        except TimeoutError:
            return False

    async def _attempt_by_http(self, delivery: Delivery, attempt: int) -> bool:
        payload = json.dumps(delivery.payload)
        body, kind = {
            "interactive": (urlencode({"payload": payload}), "application/x-www-form-urlencoded"),
            "slash_commands": (urlencode(delivery.payload), "application/x-www-form-urlencoded"),
            "events_api": (payload, "application/json"),
        }[delivery.kind]
        headers = {"Content-Type": kind, **self._signed(body)}
        if attempt > 1:
            headers |= {"X-Slack-Retry-Num": str(attempt - 1), "X-Slack-Retry-Reason": "http_timeout"}
        try:
            answer = await self._http.post(self._request_url, content=body, headers=headers)
        except httpx.HTTPError:
            return False
        if answer.is_success and answer.headers.get("content-type", "").startswith("application/json"):
            delivery.answer = answer.json()
        elif answer.is_success and answer.text:
            delivery.answer = {"text": answer.text}
        return answer.is_success

    def _signed(self, body: str) -> dict[str, str]:
        at = str(int(self._workspace.clock.now().timestamp()))
        signature = hmac.new(self._secret.encode(), f"v0:{at}:{body}".encode(), hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={signature}"}

    async def _next_connection(self, kind: str) -> _Connection | None:
        """In turn; waits for one to come as long as it would for an ack."""
        try:
            async with asyncio.timeout(self._ack_within), self._arrived:
                await self._arrived.wait_for(lambda: self._connections)
        except TimeoutError:
            return None
        self._turns[kind] += 1
        return self._connections[self._turns[kind] % len(self._connections)]

    async def _refresh(self, connection: _Connection) -> None:
        """Tells the client to come back on a new connection; this one gets nothing more."""
        self._drop(connection)
        await connection.socket.send_json({"type": "disconnect", "reason": "refresh_requested"})

    def _drop(self, connection: _Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._workspace.connected(-1)
        for _, answered in connection.sent.values():
            if not answered.done():
                answered.set_result(False)


def _acknowledge(connection: _Connection, text: str) -> None:
    message = json.loads(text)
    known = connection.sent.get(message.get("envelope_id", ""))
    if known is None:
        return
    delivery, answered = known
    if answered.done():
        delivery.late += 1
        return
    delivery.answer = message.get("payload") or {}
    answered.set_result(True)
