"""The engine as a whole: what the doors call, and how it starts, shares the work with its peers, and stops."""

from __future__ import annotations

import gc
import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from bot.domain.events import Opened
from bot.domain.incident import Incident, fold
from bot.domain.record import Entry
from bot.engine.intake import tell_repeats
from bot.engine.operators import Operators
from bot.engine.performer import Performer
from bot.engine.responder import Effects, Responder, no_such_incident
from bot.engine.switchboard import Switchboard
from bot.engine.timers import Timers
from bot.engine.world import World
from bot.engine.writer import Writer
from bot.errors import FiredoorError, Refused, Unavailable
from bot.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
TICK = 0.4  # seconds between looks at peers, leases and postponed decisions
TELL = timedelta(minutes=1)
CLAIM = 500
JUMP = timedelta(seconds=1)  # a clock that was set, or a machine that slept


class Engine:
    """Threads and timers run between `start` and `stop`. Without `start` (drills) everything happens on the caller's
    thread: `writer.submit` commits at once, `settle` carries out what waits and rings what is due."""

    def __init__(self, store: Store, world: World, *, threads: bool = True) -> None:
        self.switchboard = Switchboard(store, lambda job: self.writer.submit(job))
        world = replace(world, ports=replace(world.ports, switchboard=self.switchboard))
        self.store, self.world = store, world
        self.performer = Performer(store, world, lambda: self.writer, threads=threads)
        self.writer = Writer(store, world, self._effects, self.switchboard.read_before)
        self.operators = Operators(store, world)
        self.performer.hear = self.writer.hear = self.operators.hear
        self.timers = Timers(store, self.wake) if threads else None
        self._stopping = threading.Event()
        self._ticker: threading.Thread | None = None
        self._reader: threading.Thread | None = None
        self._told: datetime | None = None
        self._renewed = -math.inf  # monotonic
        self._started: datetime | None = None  # when this machine's monotonic clock began, by the store's
        self._gone: frozenset[str] = frozenset()  # replicas known to be dead

    # Life -------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Joins the replicas, takes over what a former process left, and wakes what is overdue."""
        self.store.join(self.world.replica, self.world.lease)
        self.writer.start()
        self._claim()
        if self.timers:
            self.timers.start()
        self._ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        self._ticker.start()
        self._reader = threading.Thread(target=self._read_instances, name="switchboard", daemon=True)
        self._reader.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)  # long pauses come from collecting what never dies
        sys.setswitchinterval(0.0005)  # seconds: the writer and pages wait so long for a thread that draws up papers

    def stop(self) -> None:
        """Finishes what is under way; what is not done is handed to the next process."""
        self._stopping.set()
        if self._ticker:
            self._ticker.join()
        if self._reader:
            self._reader.join()
        if self.timers:
            self.timers.stop()
        self.performer.stop()
        begun = self.performer.begun
        try:
            self.writer.submit(lambda responder: responder.tx.disown(self.world.replica, begun)).result(5)
        except (FiredoorError, TimeoutError) as error:
            log.warning("claims could not be handed back, their lease will run out: %s", error)
        self.writer.stop()
        self.store.leave(self.world.replica)
        gc.unfreeze()

    def _tick(self) -> None:
        while not self._stopping.wait(TICK):
            try:
                self.performer.give_up_late()
                self._claim()
                self._tell()
                self.operators.look()
            except FiredoorError as error:
                log.warning("the store does not answer: %s", error)
            except Exception:  # the ticker is the heartbeat: it must outlive any one fault
                log.exception("a tick failed")

    def _read_instances(self) -> None:
        """Beside everything else, so that neither an order nor a thousand instances wait for it."""
        try:
            self.switchboard.read_all(self.world.config.agents.agents, self._stopping.is_set)
        except Unavailable as error:
            log.warning("instances are read when they are asked for: %s", error)

    def _claim(self) -> None:
        """Takes decisions that nobody holds, that were postponed until now, or whose replica is gone."""
        renew = time.monotonic() - self._renewed > self.world.lease / 4
        if renew:
            self._renewed = time.monotonic()
            self.store.renew(self.world.replica, self.world.lease)
        dead = tuple(replica for replica in self.store.dead_replicas() if replica != self.world.replica)

        def claim(responder: Responder) -> datetime:
            until = responder.now + timedelta(seconds=self.world.lease)
            if renew:  # of what we have in hand: what a failed commit may have left to us comes free
                responder.tx.renew_leases(self.world.replica, until, self.performer.in_hand)
            claims = responder.tx.claim(self.world.replica, until, CLAIM, dead=dead)
            responder.effects.claims.extend(claims)
            return responder.now

        started = self.writer.submit(claim).result(30) - timedelta(seconds=time.monotonic())
        jumped = self._started is not None and abs(started - self._started) > JUMP
        if self.timers and (jumped or not self._gone.issuperset(dead)):
            self.timers.sweep()  # what is armed is armed for other moments; what a dead peer had armed is ours to ring
        self._started, self._gone = started, frozenset(dead)

    def _tell(self) -> None:
        now = self.world.ports.clock.now()
        if self._told is None or now - self._told >= TELL / 4 or now < self._told:
            self._told = now
            self.writer.submit(tell_repeats, urgent=False).add_done_callback(_log_failure)

    def _effects(self, effects: Effects) -> None:
        self.switchboard.heard(effects.written)
        self.performer.accept(effects.claims)
        if self.timers:
            for stream, at in effects.wakes.items():
                self.timers.arm(stream, at)

    def faults(self) -> tuple[str, ...]:
        """What keeps it from serving; () where nothing does. The store is not asked."""
        threads = {"writer": self.writer.alive, "timers": self.timers is None or self.timers.alive}
        threads["ticker"] = self._ticker is None or self._ticker.is_alive()
        stopped = tuple(f"the {name} has stopped: restart this process" for name, alive in threads.items() if not alive)
        return (*stopped, "this process is stopping") if self._stopping.is_set() else stopped

    # What the doors call ----------------------------------------------------------------------------------------

    def submit(self, job: Callable[[Responder], T], *, urgent: bool = True) -> Future[T]:
        return self.writer.submit(job, urgent=urgent)

    def wake(self, stream: str) -> None:
        """Something may be due. A failure is logged and met again by the next sweep."""
        future = self.writer.submit(lambda responder: responder.wake(stream))
        future.add_done_callback(_log_failure)

    def incident(self, id: str) -> Incident:
        """The state as the store has it now."""
        with self.store.reading() as tx:
            return Responder(tx, self.world, self.writer.known, catch_up=True).incident(id)

    def entries(self, id: str) -> tuple[Entry, ...]:
        with self.store.reading() as tx:
            return tx.read(id)

    def replay(self, id: str) -> Incident:
        """Folds the verified record again. Raises RecordBroken."""
        entries = self.entries(id)
        if not entries or not isinstance(entries[0].event, Opened):
            raise no_such_incident(id)
        with self.store.reading() as tx:
            frozen = self.world.rulebook.frozen(entries[0].event.pins, tx.pinned)
        return fold(Incident(id, frozen), entries)

    # Without threads --------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Carries out what waits and rings what is due now, until both are quiet."""
        for _ in range(10_000):
            done = self.performer.run_waiting()
            with self.store.reading() as tx:
                due = tx.due(tx.now(), 1_000)
            for stream, _at in due:
                self.writer.submit(partial(Responder.wake, stream=stream)).result()
            self.writer.submit(self._take_postponed).result()
            self.writer.submit(tell_repeats).result()
            self.operators.look(wait=True)
            if not done and not due and not self.performer.waiting:
                return
        raise RuntimeError("the engine does not come to rest")

    def _take_postponed(self, responder: Responder) -> None:
        until = responder.now + timedelta(seconds=self.world.lease)
        responder.effects.claims.extend(responder.tx.claim(self.world.replica, until, CLAIM))

    def next_moment(self) -> datetime | None:
        """When something happens next if nobody does anything."""
        with self.store.reading() as tx:
            rows = tx.due(datetime.max.replace(tzinfo=tx.now().tzinfo), 1)
            postponed = tx.next_queued_at()
            counted = [repeats.first + TELL for repeats in tx.unreported(tx.now())]
        moments = [*(at for _, at in rows), *counted] + ([postponed] if postponed else [])
        return min(moments, default=None)


def _log_failure(future: Future[Any]) -> None:
    error = future.exception()
    if error is not None and not isinstance(error, Refused):
        log.warning("failed, and met again by the next sweep: %s", error)
