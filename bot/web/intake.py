"""Alerts over HTTP: `POST /v1/alerts/{source}`, the one hot path, and the way in that the queues share.

A sender has its answer only after the commit; until then it may send again, and a signed delivery that comes again gets
its first answer. Nothing that looks like a secret goes past this file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

from bot.config import Config, SecretRef
from bot.config.reading import Problems
from bot.domain.alert import Alert, AlertText
from bot.domain.source import SourceRules
from bot.engine.engine import Engine
from bot.engine.intake import Arrival, Delivery, Taken
from bot.engine.responder import Responder
from bot.errors import BadAlert, Conflict, RecordBroken, Unavailable
from bot.sources import read
from bot.sources.authentication import NotAuthentic, authenticate
from bot.sources.body import decode
from bot.web.http import Answer, Receive, Scope, Send, TurnedAway, as_json, headers_of, only, read_body, turned_away
from bot.web.metrics import Metrics

log = logging.getLogger(__name__)

T = TypeVar("T")
PATH = "/v1/alerts/"
LARGE = 32 * 1024  # bytes; a body over it is read beside the event loop
PATIENCE = 30.0  # seconds that a sender waits for the commit
AGAIN = 2.0  # seconds after which a sender may try again
HEARD_FOR = 60.0  # seconds for which further alerts of one agent and severity wait their turn
SHORTEST_SECRET = 16  # characters
_TYPES = ("application/json", "text/plain", "text/json")  # SNS says text/plain of its JSON


@dataclass(slots=True)
class Bucket:
    """`rate` a second, and at most a second's worth at once. `now` is any monotonic seconds."""

    rate: float
    left: float = field(init=False)
    at: float | None = None

    def __post_init__(self) -> None:
        self.left = self.rate

    def take(self, now: float) -> bool:
        if self.at is not None:
            self.left = min(self.rate, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Answers:
    """Brings what the writer has committed to the event loop that waits for it: one call a batch, however many wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: dict[Future[Any], asyncio.Future[Any]] = {}

    async def of(self, engine: Engine, work: Callable[[Responder], T], *, urgent: bool) -> T:
        answer: asyncio.Future[T] = self.loop.create_future()
        # The writer may be done before `submit` returns; it is heard only when this loop runs again.
        job = engine.writer.submit(work, urgent=urgent, done=self.committed)
        self._waiting[job] = answer
        try:
            async with asyncio.timeout(PATIENCE):
                return await answer
        finally:
            self._waiting.pop(job, None)

    def committed(self, group: list[tuple[Future[Any], Any]]) -> None:
        """In the writer's thread."""
        try:
            self.loop.call_soon_threadsafe(self._tell, group)
        except RuntimeError:  # the loop is closed: the server went down before the writer, and nobody waits any more
            log.warning(
                "%d deliveries were committed after the server stopped: their senders will send again", len(group)
            )

    def _tell(self, group: list[tuple[Future[Any], Any]]) -> None:
        for job, value in group:
            answer = self._waiting.pop(job, None)
            if answer is None or answer.done():  # the sender went away
                continue
            if isinstance(value, BaseException):
                answer.set_exception(value)
            else:
                answer.set_result(value)


class Heard:
    """Which agents were spoken of lately, and how gravely: in a storm the first word about an agent of ours does not
    queue behind the thousandth about another. Only a hint; what is decided is decided by the record."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._until: dict[tuple[str, int, bool], float] = {}  # bounded by agents.yaml

    def has(self, delivery: Delivery) -> bool:
        """Nothing in it is the first word for a while; an agent that is not ours is never urgent."""
        now = self._monotonic()
        return all(self._until.get(key, 0.0) > now for key in self._keys(delivery))

    def add(self, delivery: Delivery) -> None:
        until = self._monotonic() + HEARD_FOR
        self._until.update(dict.fromkeys(self._keys(delivery), until))

    def _keys(self, delivery: Delivery) -> list[tuple[str, int, bool]]:
        return [(a.agent.id, int(a.alert.severity_id), bool(a.distrust)) for a in delivery.alerts if a.agent]


class Intake:
    """`secrets` by source, the newest first, as `source_secrets` reads them at start."""

    def __init__(
        self,
        engine: Engine,
        secrets: Mapping[str, Sequence[bytes]],
        metrics: Metrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._secrets, self._metrics, self._monotonic = engine, secrets, metrics, monotonic
        config = engine.world.config
        self._limits = config.settings.intake
        self._sources = {name: source.rules for name, source in config.sources.items()}
        self._buckets = {name: Bucket(self._limits.rate) for name in self._sources}
        self._heard = Heard(monotonic)
        self._answers: Answers | None = None

    # HTTP -------------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix(PATH)
        source = self._sources.get(name)
        if source is None:
            answer = turned_away(TurnedAway(404, "no_such_source", "There is no source of this name in sources.yaml."))
        else:
            answer = await self._answer(source, scope, receive)
        await answer.send(send)

    async def _answer(self, source: SourceRules, scope: Scope, receive: Receive) -> Answer:
        try:
            taken = await self._deliver(source, scope, receive)
        except TurnedAway as error:
            return self._turn_away(source, error)
        except NotAuthentic as error:
            return self._turn_away(source, TurnedAway(error.status, "not_authentic", str(error)))
        except BadAlert as error:
            return self._turn_away(source, TurnedAway(error.status, "bad_alert", str(error)))
        except Unavailable as error:
            log.warning("an alert of %s could not be stored, it was told to come again: %s", source.name, error)
            return self._turn_away(source, _come_again("store_away", error.retry_after))
        except (Conflict, RecordBroken) as error:
            log.error("an alert of %s could not be recorded, it was told to come again: %s", source.name, error)
            return self._turn_away(source, _come_again("not_recorded"))
        except TimeoutError:
            return self._turn_away(source, _come_again("too_slow"))
        alerts = [
            {"id": receipt.alert, "status": receipt.status, "incident": receipt.incident, "why": receipt.why}
            for receipt in taken.receipts
        ]
        return as_json(202, {"alerts": alerts})

    async def _deliver(self, source: SourceRules, scope: Scope, receive: Receive) -> Taken:
        only(scope, "POST")
        headers = headers_of(scope)
        _check_type(headers.get("content-type", ""))
        body = await read_body(scope, receive, self._limits.body)
        now = self._engine.world.ports.clock.now()
        id = authenticate(source, headers, body, now, self._secrets.get(source.name, ())) or ""
        if not self._buckets[source.name].take(self._monotonic()):  # after it: nobody uses up another's share
            why = f"{source.name} sends more than {self._limits.rate} deliveries a second."
            raise TurnedAway(429, "too_many", why, retry_after=1)
        if self.is_full:
            raise _come_again("queue_full")
        encoding = headers.get("content-encoding", "")
        if len(body) > LARGE or encoding:
            loop = asyncio.get_running_loop()
            delivery = await loop.run_in_executor(None, self._read, source, body, encoding, id)
        else:
            delivery = self._read(source, body, encoding, id)
        if not delivery.alerts:
            return Taken(())
        taken = await self._here().of(self._engine, delivery, urgent=not self._heard.has(delivery))
        self._heard.add(delivery)
        self._count(source, taken)
        return taken

    def _here(self) -> Answers:
        loop = asyncio.get_running_loop()
        if self._answers is None or self._answers.loop is not loop:
            self._answers = Answers(loop)
        return self._answers

    def _turn_away(self, source: SourceRules, error: TurnedAway) -> Answer:
        known = {"source": source.name, "status": error.status, "why": error.code}
        log.info("a delivery was turned away: %s: %s (%s)", source.name, error, error.code, extra=known)
        self._metrics.received(source.name, error.code)
        return turned_away(error)

    # Shared with the queues -------------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        return self._engine.writer.waiting >= self._limits.queue

    def take(self, source_name: str, payload: bytes, id: str = "") -> Future[Taken]:
        """A delivery that is authentic by the way it came. Raises BadAlert for one that cannot be read; the future
        fails with Unavailable, Conflict or RecordBroken where it could not be written. `id` as in `Delivery`."""
        source = self._sources[source_name]
        delivery = self._read(source, payload, "", id)
        future = self._engine.submit(delivery, urgent=not self._heard.has(delivery))
        self._heard.add(delivery)
        future.add_done_callback(lambda done: None if done.exception() else self._count(source, done.result()))
        return future

    def quarantine(self, source_name: str, reason: str, payload: bytes, id: str) -> Future[None]:
        """Keeps what nobody could read, without secrets; the same `id` again changes nothing. Fails as `take`."""
        log.error("what came from %s is in quarantine: %s", source_name, reason, extra={"id": id})
        self._metrics.received(source_name, "quarantined")
        body = self._engine.world.redactor.text(payload.decode("utf-8", "replace")).encode("utf-8", "replace")
        return self._engine.submit(
            lambda responder: responder.tx.quarantine(source_name, reason, body, responder.now, id), urgent=False
        )

    def turn_away(self, source_name: str, why: str) -> None:
        """Counts what is no alert; `why` is a word of the code."""
        self._metrics.received(source_name, why)

    def _read(self, source: SourceRules, body: bytes, encoding: str, id: str) -> Delivery:
        """Raises BadAlert."""
        redactor = self._engine.world.redactor
        payload = redactor.json(decode(body, encoding, self._limits.body))
        alerts = tuple(_without_secrets(alert, redactor.text) for alert in read(source, payload))
        if len(alerts) == 1:
            bodies = [json.dumps(payload).encode()]
        else:  # each keeps its own part, so that erasing one incident erases it
            bodies = [_as_read(alert) for alert in alerts]
        directory = self._engine.world.ports.directory
        pairs = zip(alerts, bodies, strict=True)
        return Delivery(tuple(Arrival.of(directory, alert, source, kept) for alert, kept in pairs), id)

    def _count(self, source: SourceRules, taken: Taken) -> None:
        for receipt in taken.receipts:
            self._metrics.received(source.name, "sent_again" if taken.again else receipt.status)


def source_secrets(config: Config, secret: Callable[[SecretRef], str]) -> dict[str, tuple[bytes, ...]]:
    """Every source's secrets, read once. Raises ConfigError for one that is missing, ConfigErrors for all that are too
    short to be one."""
    found: dict[str, tuple[bytes, ...]] = {}
    problems = Problems()
    for name, source in config.sources.items():
        values = [(ref, secret(ref)) for ref in source.secrets]
        for ref, value in values:
            if len(value) < SHORTEST_SECRET:
                problem = f"the secret of the source {name!r} is shorter than {SHORTEST_SECRET} characters."
                problems.add(str(ref), problem, "Make one: openssl rand -base64 32")
        found[name] = tuple(value.encode() for _, value in values)
    problems.raise_any()
    return found


def _without_secrets(alert: Alert, redact: Callable[[str], str]) -> Alert:
    """Its text once more: a reader may have put together what stood apart."""
    text = AlertText(redact(alert.text.title), redact(alert.text.message))
    return alert if text == alert.text else replace(alert, text=text)


def _as_read(alert: Alert) -> bytes:
    return json.dumps(asdict(alert), default=str).encode()


def _check_type(content_type: str) -> None:
    """A missing one is JSON too."""
    given = content_type.partition(";")[0].strip().lower()
    if given and given not in _TYPES and not given.endswith("+json"):
        raise TurnedAway(415, "not_json", "The content type is not application/json.")


def _come_again(code: str, after: float | None = None) -> TurnedAway:
    whys = {
        "queue_full": "More alerts wait than can be written now.",
        "store_away": "The store does not answer.",
        "not_recorded": "The record did not take it; the operators' log says why.",
        "too_slow": "It was not written in time; it may be yet.",
    }
    return TurnedAway(503, code, f"{whys[code]} Send it again.", retry_after=after or AGAIN)
