"""Carries decisions out: each in the bounded pool of its system, its outcome back into the record.

A decision is ours while we renew its lease. What was claimed before (a crash, a hang) may have been carried out
already: actions look for their own trace, pages say "may repeat", and what can be neither looked up nor repeated is
`unknown`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, assert_never

from bot.actions import Action
from bot.config import resolve
from bot.documents import render
from bot.domain.incident import Incident
from bot.domain.outcome import Done, Failed, Outcome, Pending, Skipped, Unknown
from bot.domain.record import (
    AskApproval,
    DocumentDrafted,
    DraftDocument,
    Event,
    Notify,
    Page,
    PageFailed,
    PageSent,
    Post,
    Posted,
    PostFailed,
    Queued,
    RunAction,
    TextRef,
    Verb,
)
from bot.engine.breaker import Breaker
from bot.engine.crash import point
from bot.engine.responder import Responder
from bot.engine.world import Said, World
from bot.engine.writer import Writer
from bot.errors import ConfigError, Denied, Refused, Rejected, SystemFailure, Unavailable
from bot.ports import ChatMessage, MessageRef, PageMessage
from bot.store import Claim, Store

log = logging.getLogger(__name__)

POOL = 8  # calls under way per system
STALE = timedelta(seconds=1)  # older decisions are checked against the store before they leave (semantics 16)
PAGE_TIMEOUT = 10.0
OTHER_TIMEOUT = 30.0
PAGE_TRIES = 3  # of a person's last way


@dataclass(slots=True)
class Flight:
    """A decision under way in a thread. `given_up`: its answer, should one still come, is dropped."""

    claim: Claim
    started: float
    timeout: float
    given_up: bool = False


class Performer:
    """`threads` False carries decisions out only when `run_waiting` is called (drills)."""

    def __init__(self, store: Store, world: World, writer: Callable[[], Writer], *, threads: bool = True) -> None:
        self._store, self._world, self._writer = store, world, writer
        self._threads = threads
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._breakers: dict[str, Breaker] = {}
        self._flights: dict[str, Flight] = {}
        self._waiting: list[Claim] = []
        self._page_tries: dict[str, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def accept(self, claims: list[Claim]) -> None:
        """Claimed by us, to be carried out now."""
        for claim in sorted(claims, key=lambda c: c.priority):
            if self._threads:
                self._pool(_system(claim.decision)).submit(self._fly, claim)
            else:
                self._waiting.append(claim)

    def run_waiting(self) -> int:
        """Carries out what waits, in order of priority, until nothing is left. Returns how many decisions that were."""
        count = 0
        while self._waiting:
            self._waiting.sort(key=lambda c: (c.priority, c.enqueued_at))
            self._fly(self._waiting.pop(0))
            count += 1
        return count

    def stop(self, seconds: float = 5.0) -> None:
        """Lets calls under way finish for a while; what does not is claimed again by the next process."""
        self._stopping.set()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + seconds
        while self._flights and time.monotonic() < end:
            time.sleep(0.02)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """By system: those that were called so far."""
        return dict(self._breakers)

    @property
    def under_way(self) -> int:
        return len(self._flights)

    def give_up_late(self) -> None:
        """Calls past their timeout: the outcome is recorded without them, and their thread is written off."""
        now = time.monotonic()
        for flight in [f for f in self._flights.values() if now - f.started > f.timeout and not f.given_up]:
            flight.given_up = True
            self._flights.pop(flight.claim.decision.id, None)
            system = _system(flight.claim.decision)
            with self._lock:
                if stuck := self._pools.pop(system, None):  # what queued behind it moves to a fresh pool
                    stuck.shutdown(wait=False)
            self._late(flight)

    def _late(self, flight: Flight) -> None:
        claim, why = flight.claim, f"no answer within {flight.timeout:.0f} s"
        match claim.decision:
            case RunAction() as decision:
                self._breaker(decision.system).failed(time.monotonic())
                outcome: Outcome = Pending(self._world.ports.clock.now(), why=why, unavailable=True)
                if not self._world.actions[decision.action].repeatable(decision.params):
                    outcome = Unknown(why)
                self._settle_action(claim, decision, outcome)
            case Page() | Notify() as decision:
                failed = PageFailed(decision.id, decision.key, decision.person, decision.way, why)
                self._settle(decision, failed)
            case _:
                self._postpone(claim, 5.0)

    def _pool(self, system: str) -> ThreadPoolExecutor:
        with self._lock:
            if system not in self._pools:
                self._pools[system] = ThreadPoolExecutor(POOL, thread_name_prefix=f"perform-{system}")
            return self._pools[system]

    def _breaker(self, system: str) -> Breaker:
        return self._breakers.setdefault(system, Breaker())

    def _fly(self, claim: Claim) -> None:
        decision = claim.decision
        if self._stopping.is_set():
            return
        timeout = decision.timeout if isinstance(decision, RunAction) else OTHER_TIMEOUT
        flight = Flight(claim, time.monotonic(), PAGE_TIMEOUT if isinstance(decision, Page | Notify) else timeout)
        self._flights[decision.id] = flight
        try:
            self._perform(claim, flight)
        except Exception:  # a bug in one decision must not take the performer with it; the row stays and is shown
            log.exception("decision %s could not be carried out", decision.id)
            self._postpone(claim, 30.0)
        finally:
            if self._flights.get(decision.id) is flight:
                del self._flights[decision.id]

    def _perform(self, claim: Claim, flight: Flight) -> None:
        decision = claim.decision
        if not self._wanted(claim):
            self._write(lambda responder: responder.tx.dequeue((decision.id,)))
            return
        point(f"before-{type(decision).__name__}")
        match decision:
            case RunAction():
                outcome = self._act(decision, claim.claims)
                point("after-RunAction")
                if not flight.given_up:
                    self._settle_action(claim, decision, outcome)
            case Page() | Notify():
                self._page(claim, decision, flight)
            case Post() | AskApproval():
                self._post(claim, decision)
            case DraftDocument():
                self._draft(decision)
            case _:
                assert_never(decision)

    # Is it still wanted? ----------------------------------------------------------------------------------------

    def _wanted(self, claim: Claim) -> bool:
        decision = claim.decision
        old = claim.claims > 1 or self._world.ports.clock.now() - claim.enqueued_at > STALE
        known = None if old else self._writer().known(claim.stream)
        if known is None:
            with self._store.reading() as tx:
                responder = Responder(tx, self._world, lambda _: None)
                if not isinstance(decision, RunAction) or claim.stream.startswith("INC-"):
                    return responder.incident(claim.stream).wants(decision.id)
                target = responder.target(claim.stream)
                return target.call is not None and target.call.decision == decision.id
        if isinstance(known.state, Incident):
            return known.state.wants(decision.id)
        return known.state.call is not None and known.state.call.decision == decision.id

    def _incident(self, id: str) -> Incident:
        known = self._writer().known(id)
        if known and isinstance(known.state, Incident):
            return known.state
        with self._store.reading() as tx:
            return Responder(tx, self._world, lambda _: None).incident(id)

    # Actions ----------------------------------------------------------------------------------------------------

    def _act(self, decision: RunAction, claims: int) -> Outcome:
        ports, action = self._world.ports, self._world.actions[decision.action]
        breaker = self._breaker(decision.system)
        wait = breaker.wait(time.monotonic()) if self._threads else 0.0
        if wait:
            why = f"{decision.system} keeps failing: asked again in {wait:.0f} s"
            return Pending(ports.clock.now() + timedelta(seconds=wait), why=why, unavailable=True)
        if claims > 1 and not action.repeatable(decision.params):
            return Unknown("the process ended while this was under way; it cannot be looked up or repeated safely")
        if decision.verb is Verb.RUN and (why := self._protected(decision)):
            return Failed(retryable=False, why=why)
        outcome = self._call(action, decision, breaker)
        return _redacted(outcome, self._world.redactor.text, self._world.redactor.json)

    def _call(self, action: Action, decision: RunAction, breaker: Breaker) -> Outcome:
        ports = self._world.ports
        settings = self._world.config.settings
        key = f"{settings.install}.{settings.epoch}/{decision.key}"  # a restored backup raises the epoch
        try:
            if decision.verb is Verb.UNDO:
                outcome = action.undo(decision.params, ports, undo=decision.undo or {}, key=key)
            else:
                outcome = action.run(decision.params, ports, key=key, so_far=decision.so_far)
        except Unavailable as error:
            breaker.failed(time.monotonic())
            at = ports.clock.now() + timedelta(seconds=error.retry_after or 0.0)
            return Pending(at, why=str(error), unavailable=True)
        except Denied as error:
            return Failed(retryable=False, why=str(error))
        except Rejected as error:
            return Failed(retryable=error.retryable, why=str(error))
        except Exception as error:  # an action's bug is an answer too: people must see it, and soon
            log.exception("%s failed inside", decision.action)
            return Failed(retryable=False, why=f"{decision.action} failed inside: {type(error).__name__}")
        breaker.answered()
        return outcome

    def _protected(self, decision: RunAction) -> str:
        """Law 11: the bot's own identities and the protected list are refused, whatever asked for it."""
        named = (decision.target, *(v for v in decision.params.values() if isinstance(v, str)))
        found = (self._world.ports.directory.protected(name) for name in named if name)
        return next((f"refused: {why}" for why in found if why), "")

    def _settle_action(self, claim: Claim, decision: RunAction, outcome: Outcome) -> None:
        self._write(lambda responder: responder.settle(decision, claim.stream, outcome, claim.claims))
        point("settled-RunAction")

    # Pages ------------------------------------------------------------------------------------------------------

    def _page(self, claim: Claim, page: Page | Notify, flight: Flight) -> None:
        world, again = self._world, claim.claims > 1
        late = max(0.0, (world.ports.clock.now() - page.due).total_seconds())
        try:
            said = world.voice.page(self._incident(page.incident), page, late=late, may_repeat=again)
            receipt = self._send(page, said, again)
        except (SystemFailure, ConfigError) as error:
            if isinstance(error, Unavailable) and not page.ways and self._once_more(page):
                self._postpone(claim, error.retry_after or 2.0)
                return
            why = world.redactor.text(str(error))
            event: Event = PageFailed(page.id, page.key, page.person, page.way, why)
        else:
            event = PageSent(page.id, page.key, page.person, page.way, receipt, again, round(late, 1))
        point(f"after-{type(page).__name__}")
        if not flight.given_up:
            self._settle(page, event)

    def _once_more(self, page: Page | Notify) -> bool:
        """A person's last way gets a few tries before it counts as failed; a way with another behind it gets none."""
        self._page_tries[page.id] = self._page_tries.get(page.id, 0) + 1
        return self._page_tries[page.id] < PAGE_TRIES

    def _send(self, page: Page | Notify, said: Said, again: bool) -> str:
        world = self._world
        pager = world.ports.pagers.get(page.way)
        if pager is None:
            raise Rejected(page.way, "this way to page is not configured")
        redact = world.redactor.text
        return pager.send(
            PageMessage(
                key=page.key,
                incident=page.incident,
                person=page.person,
                address=self._address(page.person, page.way),
                subject=redact(said.subject),
                body=redact(said.text),
                ack_url=world.ack_link(page.incident, page.person) if isinstance(page, Page) else "",
                actions=("acknowledge",) if isinstance(page, Page) else (),
                blocks=said.blocks,
                again=again,
            )
        )

    def _address(self, person: str, way: str) -> str:
        found = self._world.config.people.persons.get(person)
        if found is None:
            raise Rejected(way, f"{person} is no longer in people.yaml")
        match way:
            case "slack":
                address = found.slack
            case "email":
                address = found.email
            case _:
                address = resolve(found.webhook) if found.webhook else ""
        if not address:
            raise Rejected(way, f"people.yaml has no {way} address for {person}")
        return address

    # Posts and papers -------------------------------------------------------------------------------------------

    def _post(self, claim: Claim, decision: Post | AskApproval) -> None:
        world, incident = self._world, self._incident(decision.incident)
        purpose = decision.purpose if isinstance(decision, Post) else f"approval:{decision.id}"
        chat = world.ports.chat
        if chat is None:
            self._settle(decision, PostFailed(decision.id, purpose, "no chat is configured"))
            return
        again = claim.claims > 1
        try:
            if isinstance(decision, AskApproval):
                said = world.voice.approval(incident, incident.approvals[decision.id])
            elif purpose == "card":
                said = world.voice.card(incident, self._text)
            else:
                said = world.voice.post(incident, purpose)
            message = ChatMessage(decision.id, world.redactor.text(said.text), said.blocks)
            if purpose == "card" and incident.card:
                ref = MessageRef(*incident.card)
                chat.update(ref, message)
            else:
                thread = incident.card[1] if incident.card and purpose != "card" else ""
                ref = chat.post(world.channel, message, thread=thread, again=again)
        except Unavailable as error:
            self._postpone(claim, error.retry_after or 5.0)
            return
        except SystemFailure as error:
            self._settle(decision, PostFailed(decision.id, purpose, world.redactor.text(str(error))))
            return
        point("after-Post")
        self._settle(decision, Posted(decision.id, purpose, ref.channel, ref.ts))

    def _draft(self, decision: DraftDocument) -> None:
        with self._store.reading() as tx:
            entries = tx.read(decision.incident)
            incident = Responder(tx, self._world, lambda _: None).incident(decision.incident)
            document = render(decision.kind, incident, entries, _reader(tx.get_text), self._world.templates)
        text = self._world.redactor.text(document.markdown)

        def write(responder: Responder) -> None:
            ref = responder.tx.put_text(decision.incident, text)
            responder.settled(decision, DocumentDrafted(decision.id, decision.kind, ref, document.missing))

        self._write(write)

    def _text(self, ref: TextRef) -> str | None:
        with self._store.reading() as tx:
            return _reader(tx.get_text)(ref)

    # Back into the record ---------------------------------------------------------------------------------------

    def _settle(self, decision: Queued, event: Event) -> None:
        self._write(lambda responder: responder.settled(decision, event))
        point(f"settled-{type(decision).__name__}")

    def _postpone(self, claim: Claim, seconds: float) -> None:
        at = self._world.ports.clock.now() + timedelta(seconds=seconds)
        # Handed back, not counted as a claim: it did not leave.
        self._write(lambda responder: responder.tx.postpone(claim.decision.id, at))

    def _write(self, job: Callable[[Responder], Any]) -> None:
        """An outcome is kept until the store takes it, however long the store is away."""
        delay = 0.1
        while not self._stopping.is_set():
            try:
                self._writer().submit(job).result()
                return
            except Refused as refused:
                log.info("not recorded: %s", refused)  # settled already, by another replica or by our own late answer
                return
            except Unavailable as error:
                if not self._threads:
                    raise
                log.warning("the store does not answer, an outcome waits: %s", error)
                self._stopping.wait(delay)
                delay = min(5.0, delay * 2)


def _system(decision: Queued) -> str:
    match decision:
        case RunAction(system=system):
            return system
        case Page():
            return f"pages-{decision.way}"
        case Notify():
            return f"notices-{decision.way}"
        case Post() | AskApproval():
            return "chat"
        case DraftDocument():
            return "papers"
    assert_never(decision)


def _reader(get: Callable[[TextRef], bytes | None]) -> Callable[[TextRef], str | None]:
    def read(ref: TextRef) -> str | None:
        data = get(ref)
        return None if data is None else data.decode()

    return read


def _redacted(outcome: Outcome, text: Callable[[str], str], json: Callable[[Any], Any]) -> Outcome:
    """Secrets by value, out of everything that an action read back."""
    match outcome:
        case Done(grade=grade, evidence=evidence, undo=undo, nothing_held=nothing):
            return Done(grade, _mapping(json(dict(evidence))), undo, text(nothing))
        case Pending(check_at=at, so_far=so_far, why=why, unavailable=unavailable):
            return Pending(at, so_far, text(why), unavailable)
        case Failed(retryable=retryable, why=why):
            return Failed(retryable, text(why))
        case Skipped(why=why):
            return Skipped(text(why))
        case Unknown(why=why):
            return Unknown(text(why))
    assert_never(outcome)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
