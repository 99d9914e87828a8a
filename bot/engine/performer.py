"""Carries decisions out: each in the bounded pool of its system, its outcome back into the record.

A decision is ours while we renew its lease. What was claimed before (a crash, a hang) may have been carried out
already: actions look for their own trace, pages say "may repeat", and what can be neither looked up nor repeated is
`unknown`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never, cast

from bot import reach
from bot.documents import render
from bot.domain.containment import Target
from bot.domain.decisions import (
    AskApproval,
    DraftDocument,
    Invite,
    Notify,
    OpenChannel,
    Page,
    Post,
    Queued,
    Replay,
    RunAction,
    Survey,
)
from bot.domain.events import (
    ChannelFailed,
    DocumentDrafted,
    Event,
    PageFailed,
    PageSent,
    Phase,
    Posted,
    PostFailed,
    Replayed,
    Surveyed,
    TextRef,
    Verb,
    Verified,
)
from bot.domain.incident import Incident
from bot.domain.outcome import Outcome, Pending, Unknown
from bot.domain.reach import Reach, redacted
from bot.domain.state import AUDIT
from bot.engine.breaker import Breaker, Breakers
from bot.engine.calls import Calls, unread
from bot.engine.crash import point
from bot.engine.investigator import Folded, investigate
from bot.engine.pages import Pages, breaker_of
from bot.engine.responder import Responder
from bot.engine.room import Room, place, purpose_of
from bot.engine.world import World
from bot.engine.writer import Writer
from bot.errors import ConfigError, Conflict, RecordBroken, Refused, Rejected, SystemFailure, Unavailable
from bot.ports import Chat, MessageRef
from bot.store import Claim, Store

log = logging.getLogger(__name__)

POOL = 8  # calls under way per system
ONE_BY_ONE = frozenset({"chat"})  # what people read is told in the order in which it happened
BY_ITSELF = frozenset({"announcement", "files", "pin", "request"})  # posts that wait for no other, and hold up none
STORE = 1.0  # seconds until what found the store away is tried again
BEHIND = 0.5  # seconds until a post looks again whether it is its turn
AWAY = 5.0  # seconds until a chat that does not answer is asked again
ROOMLESS = timedelta(seconds=30)  # an incident without its own channel by then is told of where announcements go
BUG = 30.0  # seconds until what failed through a fault of our own is tried again
STALE = timedelta(seconds=1)  # older decisions are checked against the store before they leave (semantics 16)
PAGE_TIMEOUT = 10.0
OTHER_TIMEOUT = 30.0
AUDIT_TIMEOUT = 180.0  # of an approval audit, which reads all the evidence
REPLAY_TIMEOUT = 150.0
PAGE_TRIES = 3  # of a person's last way


@dataclass(slots=True)
class Flight:
    """A decision in our hands. `started` is None while it queues for a thread. `given_up`: its answer, should one still
    come, is dropped. `landed`: it has come, and is being recorded, however long the store is away."""

    claim: Claim
    pool: ThreadPoolExecutor | None = None
    future: Future[None] | None = None
    started: float | None = None  # monotonic
    given_up: bool = False
    landed: bool = False

    @property
    def system(self) -> str:
        return _system(self.claim.decision)

    @property
    def timeout(self) -> float:
        """Seconds, of the call."""
        match self.claim.decision:
            case RunAction(timeout=timeout):
                return timeout
            case Page() | Notify():
                return PAGE_TIMEOUT
            case DraftDocument(kind=kind) if kind == AUDIT:
                return AUDIT_TIMEOUT
            case Replay():
                return REPLAY_TIMEOUT
            case _:
                return OTHER_TIMEOUT


class Performer:
    """`threads` False carries decisions out only when `run_waiting` is called (drills)."""

    def __init__(self, store: Store, world: World, writer: Callable[[], Writer], *, threads: bool = True) -> None:
        self._store, self._world, self._writer = store, world, writer
        self.hear: Callable[[BaseException], None] = lambda _: None  # of decisions that cannot be carried out
        self._threads = threads
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._breakers = Breakers(heeded=threads)
        self._calls, self._pages = Calls(world, self._breakers), Pages(world, self._breakers)
        self._flights: dict[str, Flight] = {}  # by decision
        self._begun: set[str] = set()  # decisions that may have left and are not settled
        self._broken: set[str] = set()  # decisions that failed through a fault of our own
        self._waiting: list[Claim] = []
        self._page_tries: dict[str, int] = {}
        # By lane of the chat, '' for all of it: until then nothing is posted, and what waits goes in order after it.
        self._chat_again: dict[str, datetime] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()  # nothing new is begun
        self._over = threading.Event()  # nothing is recorded any more

    def accept(self, claims: list[Claim]) -> None:
        """Claimed by us, to be carried out now."""
        for claim in sorted(claims, key=lambda c: c.priority):
            if self._threads:
                self._launch(claim)
            else:
                self._waiting.append(claim)

    def _launch(self, claim: Claim) -> None:
        with self._lock:
            if self._stopping.is_set() or claim.decision.id in self._flights:
                return  # left to the next process; or we have it in hand still
            flight = Flight(claim)
            system = flight.system
            if system not in self._pools:
                size = 1 if system in ONE_BY_ONE else POOL
                self._pools[system] = ThreadPoolExecutor(size, thread_name_prefix=f"perform-{system}")
            self._flights[claim.decision.id] = flight
            flight.pool = self._pools[system]
            flight.future = flight.pool.submit(self._fly, flight)

    def run_waiting(self) -> int:
        """Carries out what waits, in order of priority, until nothing is left. Returns how many decisions that were."""
        count = 0
        while self._waiting:
            # In earnest a look at the opening goes beside the cuts. In line it goes before them: no time passes there.
            self._waiting.sort(key=lambda c: (not _is_first_look(c), c.priority, c.enqueued_at))
            claim = self._waiting.pop(0)
            self._flights[claim.decision.id] = flight = Flight(claim)
            self._fly(flight)
            count += 1
        return count

    def stop(self, seconds: float = 5.0) -> None:
        """Lets calls under way finish for a while; what does not is claimed again by the next process."""
        with self._lock:
            self._stopping.set()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        end = time.monotonic() + seconds
        while any(flight.started for flight in list(self._flights.values())) and time.monotonic() < end:
            time.sleep(0.02)
        self._over.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def breakers(self) -> Mapping[str, Breaker]:
        """By system: those that were called so far."""
        return self._breakers.known()

    @property
    def in_hand(self) -> tuple[str, ...]:
        """The decisions that queue here or are under way: those whose lease is to be renewed."""
        return tuple(self._flights)

    @property
    def begun(self) -> frozenset[str]:
        """Decisions that may have left, and whose outcome is not recorded."""
        return frozenset(self._begun)

    def give_up_late(self) -> None:
        """Calls past their timeout: the outcome is recorded without them, and their thread is written off."""
        now = time.monotonic()
        with self._lock:
            under_way = [flight for flight in self._flights.values() if flight.started and not flight.landed]
            late = [flight for flight in under_way if now - cast(float, flight.started) > flight.timeout]
            for flight in late:
                flight.given_up = True
                del self._flights[flight.claim.decision.id]
            behind = [claim for flight in late for claim in self._abandon(flight)]
        self.accept(behind)
        for flight in late:
            self._late(flight)

    def _abandon(self, late: Flight) -> list[Claim]:
        """Writes off the pool that a stuck thread belongs to; returns what queued behind it."""
        if late.pool is None or self._pools.get(late.system) is not late.pool:
            return []
        self._pools.pop(late.system).shutdown(wait=False, cancel_futures=True)
        behind = [f for f in self._flights.values() if f.pool is late.pool and f.future and f.future.cancelled()]
        for flight in behind:
            del self._flights[flight.claim.decision.id]
        return [flight.claim for flight in behind]

    def _late(self, flight: Flight) -> None:
        claim, why = flight.claim, f"no answer within {flight.timeout:.0f} s"
        match claim.decision:
            case RunAction() as decision:
                self._breakers.failed(decision.system, why)
                outcome: Outcome | Verified = Pending(self._world.ports.clock.now(), why=why, unavailable=True)
                if decision.verb is Verb.VERIFY:
                    outcome = unread(decision, why)
                elif not self._world.actions[decision.action].repeatable(decision.params):
                    outcome = Unknown(why)
                self._settle_action(claim, decision, outcome)
            case Page() | Notify() as decision:
                self._breakers.failed(breaker_of(decision), why)
                failed = PageFailed(decision.id, decision.key, decision.person, decision.way, why)
                self._settle(decision, failed)
            case _:
                self._postpone(claim, 5.0, left=True)

    def _fly(self, flight: Flight) -> None:
        claim = flight.claim
        if self._stopping.is_set():
            return
        flight.started = time.monotonic()
        self._begun.add(claim.decision.id)
        try:
            self._perform(claim, flight)
            self._begun.discard(claim.decision.id)
        except Unavailable as error:  # the store, before anything left; or at the end, before an outcome was recorded
            log.warning("decision %s waits: %s", claim.decision.id, error)
            if not self._over.is_set() and self._landed(flight):
                self._postpone(claim, STORE)
                self._begun.discard(claim.decision.id)
        except Exception as error:  # a bug in one decision must not take the performer with it; the row stays, is shown
            log.exception("decision %s could not be carried out", claim.decision.id)
            self.hear(error)
            self._broken.add(claim.decision.id)
            if self._landed(flight):
                self._postpone(claim, BUG, left=True)
            self._begun.discard(claim.decision.id)
        finally:
            with self._lock:
                if self._flights.get(claim.decision.id) is flight:
                    del self._flights[claim.decision.id]

    def _landed(self, flight: Flight) -> bool:
        """What came of it is known and goes into the record; False where it was given up before, which is there."""
        with self._lock:
            flight.landed = not flight.given_up
            return flight.landed

    def _perform(self, claim: Claim, flight: Flight) -> None:
        decision = claim.decision
        if not self._ours(claim):
            return
        if not self._wanted(claim):
            self._write(lambda responder: responder.tx.dequeue((decision.id,)))
            return
        point(f"before-{type(decision).__name__}")
        match decision:
            case RunAction():
                if not self._ours(claim):
                    return
                looks = decision.verb is Verb.VERIFY
                found = self._calls.look(decision) if looks else self._calls.make(decision, claim.claims)
                point("after-RunAction")
                if self._landed(flight):
                    self._settle_action(claim, decision, found)
            case Page() | Notify():
                self._page(claim, decision, flight)
            case Post() | AskApproval():
                self._post(claim, decision, flight)
            case OpenChannel():
                self._open_channel(claim, decision, flight)
            case Invite():
                self._invite(claim, decision, flight)
            case DraftDocument(kind=kind) if kind == AUDIT:
                self._audit(decision, flight)
            case DraftDocument():
                self._draft(decision, flight)
            case Survey():
                self._survey(claim, decision, flight)
            case Replay():
                self._replay(decision, flight)
            case _:
                assert_never(decision)

    # Is it still wanted? ----------------------------------------------------------------------------------------

    def _old(self, claim: Claim) -> bool:
        return claim.claims > 1 or self._world.ports.clock.now() - claim.enqueued_at > STALE

    def _ours(self, claim: Claim) -> bool:
        """A process that stood still may have lost it to a peer meanwhile. Asked before anything is done, and again
        right before it leaves."""
        if not self._old(claim):
            return True
        with self._store.reading() as tx:
            return tx.holder(claim.decision.id) == self._world.replica

    def _wanted(self, claim: Claim) -> bool:
        decision = claim.decision
        known = None if self._old(claim) else self._writer().known(claim.stream)
        if known is None:
            with self._store.reading() as tx:
                responder = Responder(tx, self._world, self._writer().known, catch_up=True)
                if not isinstance(decision, RunAction) or claim.stream.startswith("INC-"):
                    return responder.incident(claim.stream).wants(decision.id)
                target = responder.target(claim.stream)
                return target.call is not None and target.call.decision == decision.id
        if isinstance(known.state, Incident):
            return known.state.wants(decision.id)
        call = known.state.call if isinstance(known.state, Target) else None
        return call is not None and call.decision == decision.id

    def _incident(self, claim: Claim) -> Incident:
        """As it stands. What we remember may be older than what a peer has written; not so where the decision was made
        by ourselves just now."""
        known = None if self._old(claim) else self._writer().known(claim.stream)
        if known and isinstance(known.state, Incident):
            return known.state
        with self._store.reading() as tx:
            return Responder(tx, self._world, self._writer().known, catch_up=True).incident(claim.stream)

    # Actions ----------------------------------------------------------------------------------------------------

    def _settle_action(self, claim: Claim, decision: RunAction, outcome: Outcome | Verified) -> None:
        self._write(lambda responder: responder.settle(decision, claim.stream, outcome, claim.claims))
        point("settled-RunAction")

    # Pages ------------------------------------------------------------------------------------------------------

    def _page(self, claim: Claim, page: Page | Notify, flight: Flight) -> None:
        world, again = self._world, claim.claims > 1
        late = max(0.0, (world.ports.clock.now() - page.due).total_seconds())
        said = self._pages.worded(self._incident(claim), page, late=late, again=again)
        if not self._ours(claim):
            return
        try:
            receipt = self._pages.send(page, said, again=again)
        except (SystemFailure, ConfigError) as error:
            if isinstance(error, Unavailable) and not page.ways and self._once_more(page):
                if self._landed(flight):
                    self._postpone(claim, error.retry_after or 2.0, left=error.sent)
                return
            why = world.redactor.text(str(error))
            event: Event = PageFailed(page.id, page.key, page.person, page.way, why)
        else:
            event = PageSent(page.id, page.key, page.person, page.way, receipt, again, round(late, 1))
        point(f"after-{type(page).__name__}")
        if self._landed(flight):
            self._settle(page, event)

    def _once_more(self, page: Page | Notify) -> bool:
        """A person's last way gets a few tries before it counts as failed; a way with another behind it gets none."""
        self._page_tries[page.id] = self._page_tries.get(page.id, 0) + 1
        return self._page_tries[page.id] < PAGE_TRIES

    # Posts and papers -------------------------------------------------------------------------------------------

    def _post(self, claim: Claim, decision: Post | AskApproval, flight: Flight) -> None:
        world, incident = self._world, self._incident(claim)
        purpose = purpose_of(decision)
        lane, now = place(world, incident, purpose).lane, world.ports.clock.now()
        if (free := max((self._chat_again[one] for one in ("", lane) if one in self._chat_again), default=now)) > now:
            self._postpone(claim, (free - now).total_seconds())
            return
        if self._is_behind(claim, incident):
            self._postpone(claim, BEHIND)
            return
        try:
            ref = self._said(incident, decision, again=claim.claims > 1)
        except Unavailable as error:
            # What names a time is out of turn here; what does not answer is away for everybody.
            wait = error.retry_after or AWAY
            self._chat_again[lane if error.retry_after else ""] = now + timedelta(seconds=wait)
            if self._landed(flight):
                self._postpone(claim, wait, left=error.sent)
            return
        except (SystemFailure, ConfigError) as error:
            event: Event = PostFailed(decision.id, purpose, world.redactor.text(str(error)))
        else:
            self._chat_again.pop(lane, None)
            event = Posted(decision.id, purpose, ref.channel, ref.ts)
        point("after-Post")
        if self._landed(flight):
            self._settle(decision, event)

    def _said(self, incident: Incident, decision: Post | AskApproval, *, again: bool) -> MessageRef:
        room = Room(self._world, _connected(self._world.ports.chat), self._text)
        if purpose_of(decision) != "files":
            return room.say(incident, decision, again=again)
        with self._store.reading() as tx:
            entries = tx.read(decision.incident)
        return room.share(incident, entries, again=again)

    def _is_behind(self, claim: Claim, incident: Incident) -> bool:
        """Whether something is to come before this one, here or by a peer, and still waits. What fails through a fault
        of our own holds up nothing."""
        with self._store.reading() as tx:
            queued = [other.decision for other in tx.queued(claim.stream)]
        before = [one for one in queued if _place(one) < _place(claim.decision) and one.id not in self._broken]
        return any(_goes_first(one, claim.decision, incident) for one in before)

    def _open_channel(self, claim: Claim, decision: OpenChannel, flight: Flight) -> None:
        world, incident = self._world, self._incident(claim)
        try:
            event: Event = Room(world, _connected(world.ports.chat), self._text).open(incident, decision)
        except Unavailable as error:
            wait = timedelta(seconds=error.retry_after or AWAY)
            late = world.ports.clock.now() + wait - claim.enqueued_at >= ROOMLESS
            if not late or decision.private:  # a private one has nowhere else to go
                if self._landed(flight):
                    self._postpone(claim, wait.total_seconds(), left=error.sent)
                return
            event = ChannelFailed(decision.id, world.redactor.text(str(error)))
        except SystemFailure as error:
            event = ChannelFailed(decision.id, world.redactor.text(str(error)))
        point("after-OpenChannel")
        if self._landed(flight):
            self._settle(decision, event)

    def _invite(self, claim: Claim, decision: Invite, flight: Flight) -> None:
        world, incident = self._world, self._incident(claim)
        try:
            event = Room(world, _connected(world.ports.chat), self._text).invite(incident, decision)
        except Unavailable as error:
            if self._landed(flight):
                self._postpone(claim, error.retry_after or AWAY, left=error.sent)
            return
        if self._landed(flight):
            self._settle(decision, event)

    def _audit(self, decision: DraftDocument, flight: Flight) -> None:
        """Reads the evidence, which may take a while: outside every transaction of the writer."""
        world = self._world

        def other(stream: str) -> Folded | None:
            with self._store.reading() as tx:
                found = tx.read(stream)
                state = Responder(tx, world, lambda _: None).fold(stream, found).state if found else None
            return (state, found) if isinstance(state, Incident) else None

        here = other(decision.incident)
        if here is None:
            raise RecordBroken(f"{decision.incident} is no incident")
        found = investigate(*here, world.ports.evidence, world.config.policy, other)
        text = json.dumps(world.redactor.json(found.as_json()))
        point("after-DraftDocument")

        def write(responder: Responder) -> None:
            ref = responder.tx.put_text(decision.incident, text)
            responder.settled(decision, found.event(decision.id, ref))

        if self._landed(flight):
            self._write(write)
            point("settled-DraftDocument")

    def _draft(self, decision: DraftDocument, flight: Flight) -> None:
        with self._store.reading() as tx:
            entries = tx.read(decision.incident)
            incident = Responder(tx, self._world, lambda _: None).fold(decision.incident, entries).state
            if not isinstance(incident, Incident):
                raise RecordBroken(f"{decision.incident} is no incident")
            document = render(decision.kind, incident, entries, _reader(tx.get_text), self._world.templates)
        text = self._world.redactor.text(document.markdown)
        point("after-DraftDocument")

        def write(responder: Responder) -> None:
            ref = responder.tx.put_text(decision.incident, text)
            responder.settled(decision, DocumentDrafted(decision.id, decision.kind, ref, document.missing))

        if self._landed(flight):
            self._write(write)
            point("settled-DraftDocument")

    def _survey(self, claim: Claim, decision: Survey, flight: Flight) -> None:
        """It takes no longer than a look may: what has not answered by then is unread."""
        incident, world = self._incident(claim), self._world
        found = Reach()
        if incident.agent:
            found = reach.survey((incident.agent, *incident.delegates), world.ports, threads=self._threads)
        point("after-Survey")
        if self._landed(flight):
            self._settle(decision, Surveyed(decision.id, decision.phase, redacted(found, world.redactor.text)))

    def _replay(self, decision: Replay, flight: Flight) -> None:
        with self._store.reading() as tx:
            entries = tx.read(decision.incident)
        played = self._world.replay(entries, self._text)
        findings = tuple(self._world.redactor.text(each)[:300] for each in played.findings)
        point("after-Replay")
        if self._landed(flight):
            self._settle(decision, Replayed(decision.id, played.clean, played.digest, played.rules, findings))

    def _text(self, ref: TextRef) -> str | None:
        with self._store.reading() as tx:
            return _reader(tx.get_text)(ref)

    # Back into the record ---------------------------------------------------------------------------------------

    def _settle(self, decision: Queued, event: Event) -> None:
        self._write(lambda responder: responder.settled(decision, event))
        point(f"settled-{type(decision).__name__}")

    def _postpone(self, claim: Claim, seconds: float, *, left: bool = False) -> None:
        """Handed back. It counts as claimed only where it may have `left`."""
        at = self._world.ports.clock.now() + timedelta(seconds=seconds)
        me = self._world.replica
        self._write(lambda responder: responder.tx.postpone(claim.decision.id, at, left=left, holder=me))

    def _write(self, job: Callable[[Responder], Any]) -> None:
        """An outcome is kept until the store takes it, however long the store is away."""
        delay = 0.1
        while not self._over.is_set():
            try:
                self._writer().submit(job).result()
                return
            except Refused as refused:
                log.info("not recorded: %s", refused)  # settled already, by another replica or by our own late answer
                return
            except (Unavailable, Conflict) as error:
                if not self._threads:
                    raise
                log.warning("the store did not take it, an outcome waits: %s", error)
                self._over.wait(delay)
                delay = min(5.0, delay * 2)
        raise Unavailable("writer", "this process has stopped; the next one takes the decision again")


def _system(decision: Queued) -> str:
    match decision:
        case RunAction(system=system):
            return system
        case Page():
            return f"pages-{decision.way}"
        case Notify():
            return f"notices-{decision.way}"
        case DraftDocument(kind=kind) if kind == AUDIT:
            return "audits"
        case Post(purpose="files") | DraftDocument():
            return "papers"
        case Post() | AskApproval():
            return "chat"
        case OpenChannel() | Invite():
            return "rooms"
        case Survey():
            return "reach"
        case Replay():
            return "replay"
    assert_never(decision)


def _is_first_look(claim: Claim) -> bool:
    return isinstance(claim.decision, Survey) and claim.decision.phase is Phase.BEFORE


def _place(decision: Queued) -> tuple[int, int]:
    """`INC-7/12.0`: the entry that caused it, and which of its decisions it is."""
    entry, _, number = decision.id.rpartition("/")[2].partition(".")
    return int(entry), int(number)


def _goes_first(earlier: Queued, decision: Queued, incident: Incident) -> bool:
    """The channel before everything in it; posts in their order, but for those that stand by themselves. A question to
    approvers waits for the channel only."""
    match earlier:
        case OpenChannel():
            return True
        case Post(purpose="card") if incident.card:  # an edit
            return False
        case Post():
            return all(isinstance(one, Post) and _kind(one) not in BY_ITSELF for one in (earlier, decision))
    return False


def _kind(post: Post) -> str:
    return post.purpose.partition(":")[0]


def _connected(chat: Chat | None) -> Chat:
    if chat is None:
        raise Rejected("slack", "no chat is configured")
    return chat


def _reader(get: Callable[[TextRef], bytes | None]) -> Callable[[TextRef], str | None]:
    def read(ref: TextRef) -> str | None:
        data = get(ref)
        return None if data is None else data.decode()

    return read
