"""The agents' API: what an instance is to be in, and what it says it is in.

    GET  /agents/v1/mode?since=EPOCH&wait=SECONDS    the order, with a renewed lease; a newer one than `since` at once
    POST /agents/v1/acks                             {agent, instance, epoch, nonce, mode, last_effect_seq, ts}
    GET  /agents/v1/openapi.json                     all of this for machines

Every request is signed with the instance's own key and names the instance in `firedoor-instance: AGENT/INSTANCE`, every
answer to one is signed with that key under the request's `webhook-id`. The key opens these two doors and no other.

Nothing is kept here that another replica would need: leases are in the answers, and who waits is told by whatever this
process learns of the record.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from typing import Any
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bot.adapters.signing import BadSignature, sign, verify
from bot.domain.agent import Mode
from bot.domain.handshake import SAID, Ack, Instance, Instances, Order, Why
from bot.engine.engine import Engine
from bot.engine.switchboard import REFRESH, acknowledge
from bot.errors import Conflict, RecordBroken, Refused, Unavailable
from bot.web.http import (
    Answer,
    Disconnected,
    Header,
    Receive,
    Scope,
    TurnedAway,
    as_json,
    headers_of,
    not_found,
    only,
    read_body,
    turned_away,
)
from bot.web.intake import Answers, Bucket
from bot.web.openapi import document

log = logging.getLogger(__name__)

PATH = "/agents/v1/"
WHO = "firedoor-instance"
LARGEST = 4 * 1024  # bytes of a body
LONGEST = 30.0  # seconds that a question is held
RATE = 5  # requests a second and instance
QUESTIONS = 4  # of one instance that are held at a time
STRANGERS = 20  # looks into the store a second for instances that this process does not know
OUT_OF_DATE = 15.0  # seconds without the store after which nobody's lease is renewed from memory
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SAFE_INTEGER = 2**53 - 1


class InstanceKeys:
    """What each instance signs with: derived from one key that is this purpose's own, so that no replica keeps any."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._derived = lru_cache(16_384)(self._derive)

    def of(self, agent: str, instance: str, serial: int) -> str:
        """`whsec_` + Base64. Another serial is another key."""
        return self._derived(agent, instance, serial)

    def _derive(self, agent: str, instance: str, serial: int) -> str:
        info = b"firedoor instance\0" + json.dumps([agent, instance, serial]).encode()
        key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._key)
        return "whsec_" + base64.b64encode(key).decode()


@dataclass(frozen=True, slots=True)
class Caller:
    """An instance that proved itself. `message`: the id its answer carries."""

    agent: str
    instance: Instance
    key: str
    message: str


@dataclass(slots=True)
class Held:
    """Who of one instance is here, and how often it asked."""

    bucket: Bucket = field(default_factory=lambda: Bucket(RATE))
    questions: int = 0


class AgentsApi:
    """On bare ASGI. `lease`: for how long an order is good without being renewed."""

    def __init__(
        self,
        engine: Engine,
        keys: InstanceKeys,
        *,
        lease: timedelta = timedelta(seconds=45),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._board, self.keys, self._lease = engine, engine.switchboard, keys, lease
        self._monotonic = monotonic
        self._held: dict[tuple[str, str], Held] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}  # by agent
        self._strangers = Bucket(STRANGERS)
        self._seen = -OUT_OF_DATE * 2  # when the store was last asked what peers have written
        self._refreshing: asyncio.Future[None] | None = None
        self._reading: dict[str, asyncio.Future[Instances]] = {}  # by agent
        self._watch: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answers: Answers | None = None
        self._board.listeners.append(self._changed)

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Raises TurnedAway where nobody is known who could read a signature."""
        path: str = scope["path"].removeprefix(PATH)
        if path == "openapi.json":
            only(scope, "GET", "HEAD")
            return as_json(200, document())
        if path not in ("mode", "acks"):
            raise not_found()
        only(scope, "GET" if path == "mode" else "POST")
        self._here()
        body = await read_body(scope, receive, LARGEST)
        caller = await self._caller(scope, body)
        try:
            self._take(caller)
            answer = await (self._mode(scope, receive, caller) if path == "mode" else self._ack(caller, body))
        except TurnedAway as error:
            answer = turned_away(error)
        except (Unavailable, Conflict, RecordBroken, TimeoutError) as error:
            log.warning("an instance was told to come again: %s", error)
            answer = turned_away(_not_now())
        return self._signed(answer, caller)

    @property
    def waiting(self) -> int:
        """Questions that are held."""
        return sum(map(len, self._waiting.values()))

    # Who asks ---------------------------------------------------------------------------------------------------

    async def _caller(self, scope: Scope, body: bytes) -> Caller:
        headers = headers_of(scope)
        agent, _, name = headers.get(WHO, "").partition("/")
        if NAME.fullmatch(agent) and NAME.fullmatch(name) and agent in self._engine.world.config.agents.agents:
            now = self._engine.world.ports.clock.now()
            for known in (self._board.remembered(agent) or await self._read(agent), None):
                known = known or await self._looked(agent)
                instance = known.all.get(name) if known else None
                if instance is None or instance.revoked:
                    continue
                key = self.keys.of(agent, name, instance.serial)
                try:
                    return Caller(agent, instance, key, verify([key], headers, body, now))
                except BadSignature as error:
                    log.debug("%s/%s: %s", agent, name, error)
        raise TurnedAway(401, "not_authentic", "This is not signed by an enrolled instance, or not now.")

    async def _looked(self, agent: str) -> Instances | None:
        """It may have been enrolled at a peer just now. Strangers are not worth more than a few looks a second; who is
        none has been known for REFRESH seconds at the latest."""
        if self._strangers.take(self._monotonic()):
            return await self._read(agent)
        try:
            await self._up_to_date()
        except (Unavailable, RecordBroken) as error:
            raise _not_now() from error
        return self._board.remembered(agent)

    async def _read(self, agent: str) -> Instances:
        """Once for all who ask meanwhile."""
        reading = self._reading.get(agent)
        if reading is None:
            reading = self._reading[agent] = asyncio.ensure_future(asyncio.to_thread(self._board.read, agent))
            reading.add_done_callback(partial(self._was_read, agent))
        try:
            return await asyncio.shield(reading)
        except (Unavailable, RecordBroken) as error:
            raise _not_now() from error

    def _was_read(self, agent: str, done: asyncio.Future[Instances]) -> None:
        self._reading.pop(agent, None)
        if not done.cancelled():
            done.exception()  # seen: whoever waits for it raises it

    def _take(self, caller: Caller) -> None:
        held = self._held.setdefault((caller.agent, caller.instance.name), Held())
        if not held.bucket.take(self._monotonic()):
            raise TurnedAway(429, "too_many", f"More than {RATE} requests a second.", retry_after=1)

    def _signed(self, answer: Answer, caller: Caller) -> Answer:
        signed = sign([caller.key], caller.message, self._engine.world.ports.clock.now(), answer.body)
        headers: list[Header] = [(name.encode(), value.encode()) for name, value in signed.items()]
        return Answer(answer.status, answer.body, (*answer.headers, *headers))

    # What is ordered --------------------------------------------------------------------------------------------

    async def _mode(self, scope: Scope, receive: Receive, caller: Caller) -> Answer:
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        since, wait = _whole(asked, "since"), min(_seconds(asked, "wait"), LONGEST)
        await self._up_to_date()
        if wait and self._order(caller).epoch <= since:
            with self._question(caller):
                await self._hold(caller, since, self._monotonic() + wait, receive)
            await self._up_to_date()
        return as_json(200, self._said(caller))

    async def _hold(self, caller: Caller, since: int, until: float, receive: Receive) -> None:
        """Until something newer is ordered, this instance is no more, or the time is over."""
        gone = asyncio.ensure_future(receive())
        try:
            while self._order(caller).epoch <= since and not self._board.closed:
                left = until - self._monotonic()
                if left <= 0:
                    return
                with self._wait(caller.agent) as changed:
                    await asyncio.wait((changed, gone), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise Disconnected("an instance went away while it waited")
        finally:
            gone.cancel()

    def _order(self, caller: Caller) -> Order:
        state = self._board.remembered(caller.agent)
        instance = state.all.get(caller.instance.name) if state else None
        if state is None or instance is None or instance.revoked or instance.serial != caller.instance.serial:
            raise TurnedAway(401, "not_authentic", "This is not signed by an enrolled instance, or not now.")
        return state.order

    def _said(self, caller: Caller) -> dict[str, Any]:
        order, world = self._order(caller), self._engine.world
        now = world.ports.clock.now()
        agent = world.config.agents.agent(caller.agent)
        return {
            "agent": caller.agent,
            "instance": caller.instance.name,
            "mode": order.mode.name.lower(),
            "epoch": order.epoch,
            "nonce": order.nonce,
            "incident": order.incident or None,
            "lease": {
                "until": (now + self._lease).isoformat(timespec="milliseconds"),
                "renew_after": (now + self._lease / 3).isoformat(timespec="milliseconds"),
            },
            "on_lease_loss": agent.on_lease_loss if agent else "shadow",
            "issued_at": now.isoformat(timespec="milliseconds"),
        }

    # What it says -----------------------------------------------------------------------------------------------

    async def _ack(self, caller: Caller, body: bytes) -> Answer:
        ack = _read(body, caller)
        answers = self._answers
        assert answers is not None  # _here has made it
        try:
            job = acknowledge(caller.agent, caller.instance.serial, ack)
            why, state = await answers.of(self._engine, job, urgent=False)
        except Refused:
            raise TurnedAway(401, "not_authentic", "This is not signed by an enrolled instance, or not now.") from None
        order = state.order
        if why in (Why.STALE, Why.NONCE):
            return as_json(409, {"code": str(why), "message": _sentence(why), "epoch": order.epoch})
        if why in (Why.AHEAD, Why.LOOSER):
            return as_json(422, {"code": str(why), "message": _sentence(why), "epoch": order.epoch})
        return as_json(200, {"accepted": True, "epoch": ack.epoch, "mode": ack.mode.name.lower()})

    # Who waits --------------------------------------------------------------------------------------------------

    def _here(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._answers = loop, Answers(loop)
            self._refreshing = self._watch = None
            self._waiting.clear()
            self._reading.clear()

    @contextmanager
    def _question(self, caller: Caller) -> Iterator[None]:
        held = self._held[caller.agent, caller.instance.name]
        if held.questions >= QUESTIONS:
            raise TurnedAway(429, "too_many", f"{QUESTIONS} questions are held already.", retry_after=5)
        held.questions += 1
        try:
            yield
        finally:
            held.questions -= 1

    @contextmanager
    def _wait(self, agent: str) -> Iterator[asyncio.Future[None]]:
        changed = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(agent, set())
        waiting.add(changed)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.ensure_future(self._watch_peers())
        try:
            yield changed
        finally:
            waiting.discard(changed)
            if not waiting and self._waiting.get(agent) is waiting:
                del self._waiting[agent]

    async def _watch_peers(self) -> None:
        """While somebody waits: what another replica orders reaches those who wait here within a second."""
        while self._waiting:
            await asyncio.sleep(REFRESH)
            try:
                await self._up_to_date(serve=True)
            except Unavailable as error:
                log.warning("what peers order cannot be read: %s", error)
            except RecordBroken as error:
                log.error("instances cannot be read: %s", error)

    async def _up_to_date(self, *, serve: bool = False) -> None:
        """What is remembered is no older than `REFRESH`; or, where the store is away, than OUT_OF_DATE: then a peer may
        have ordered something else for long, and no lease is renewed on that. With `serve` a failure is raised."""
        age = self._monotonic() - self._seen
        if 0 <= age < REFRESH:
            return
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        try:
            await asyncio.shield(self._refreshing)
        except Unavailable:
            if serve or not 0 <= self._monotonic() - self._seen < OUT_OF_DATE:
                raise

    async def _refresh(self) -> None:
        began = self._monotonic()
        await asyncio.to_thread(self._board.refresh)
        self._seen = began

    def _refreshed(self, done: asyncio.Future[None]) -> None:
        self._refreshing = None
        if not done.cancelled():
            done.exception()  # seen: whoever waits for it raises it

    def _changed(self, agents: frozenset[str]) -> None:
        """From any thread."""
        loop = self._loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(self._wake, agents)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("agents changed after the server stopped")

    def _wake(self, agents: frozenset[str]) -> None:
        for agent in agents & self._waiting.keys():
            for changed in self._waiting[agent]:
                if not changed.done():
                    changed.set_result(None)


def _read(body: bytes, caller: Caller) -> Ack:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise TurnedAway(400, "not_json", "The body is not JSON.") from None
    if not isinstance(said, dict):
        raise _bad("The body is not a JSON object.")
    if (said.get("agent"), said.get("instance")) != (caller.agent, caller.instance.name):
        raise _bad("agent and instance are not those of the key.")
    mode, nonce = said.get("mode"), said.get("nonce")
    if not isinstance(mode, str) or mode.upper() not in Mode.__members__:
        raise _bad("mode: one of active, advisory, shadow, disabled is wanted here.")
    if not isinstance(nonce, str) or len(nonce) > 128:
        raise _bad("nonce: that of the order is wanted here.")
    epoch, sequence = _number(said, "epoch"), _number(said, "last_effect_seq")
    return Ack(caller.instance.name, epoch, nonce, Mode[mode.upper()], sequence, _moment(said.get("ts")))


def _number(said: dict[str, Any], name: str) -> int:
    value = said.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SAFE_INTEGER:
        raise _bad(f"{name}: a whole number is wanted here.")
    return value


def _moment(value: object) -> datetime:
    """Unix seconds, or RFC 3339 with an offset."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        at = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 64 else None
    except (ValueError, OverflowError, OSError):
        at = None
    if at is None or at.tzinfo is None:
        raise _bad("ts: Unix seconds, or a time with its offset, are wanted here.")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise _bad("ts: a time that there is is wanted here.") from None


def _whole(asked: dict[str, str], name: str) -> int:
    text = asked.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise _bad(f"{name}: a whole number is wanted here.")
    return int(text)


def _seconds(asked: dict[str, str], name: str) -> float:
    text = asked.get(name, "0")
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", text, re.ASCII):
        raise _bad(f"{name}: seconds are wanted here.")
    return float(text)


def _sentence(why: Why) -> str:
    return f"{SAID[why][:1].upper()}{SAID[why][1:]}."


def _not_now() -> TurnedAway:
    return TurnedAway(503, "not_now", "Firedoor cannot tell right now.", retry_after=2)


def _bad(why: str) -> TurnedAway:
    return TurnedAway(422, "bad_field", why)
