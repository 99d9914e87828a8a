"""Those who run Firedoor: told, outside of the record, of what the record can no longer say itself.

An incident whose record does not verify, or was written by a newer release, takes no entry any more, and so no page of
its own leaves. It is noted beside the record, once for all replicas, and people are paged from there.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import datetime, timedelta

from bot.config.people import COMMANDER, OPERATORS
from bot.domain.escalation import Contact
from bot.engine.responder import OPEN_STREAMS, Responder
from bot.engine.world import World
from bot.errors import ConfigError, FiredoorError, FutureEntry, RecordBroken, Refused, SystemFailure
from bot.ports import PageMessage
from bot.store import Fault, Store, Transaction

log = logging.getLogger(__name__)

LOOK = timedelta(seconds=30)  # until a record that could not be read is read again
AGAIN = timedelta(minutes=1)  # until people are told again, where nobody could be reached


class Operators:
    def __init__(self, store: Store, world: World) -> None:
        self._store, self._world = store, world
        self._heard: dict[str, str] = {}  # stream -> why, not yet noted
        self._standing: dict[str, str] = {}
        self._looked: datetime | None = None
        self._busy = threading.Lock()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each stream that nothing is written to any more."""
        return tuple(f"{why}: nothing is written to {stream} any more" for stream, why in self._standing.items())

    def hear(self, error: BaseException) -> None:
        """Of any failure; only those of the record matter here. Never blocks."""
        if isinstance(error, RecordBroken) and error.stream and error.stream not in self._standing:
            hint = " Start that release again." if isinstance(error, FutureEntry) else ""
            self._heard[error.stream] = self._world.redactor.text(f"{error}{hint}")

    def look(self, *, wait: bool = False) -> None:
        """Now and then, and at once after something was heard: in a thread of its own, for a pager may hang."""
        now = self._world.ports.clock.now()
        if not self._heard and self._looked and self._looked <= now < self._looked + LOOK:
            return
        self._looked = now
        if wait:
            self._round()
        elif not self._busy.locked():
            threading.Thread(target=self._round, name="operators", daemon=True).start()

    def _round(self) -> None:
        with self._busy:
            try:
                self._look()
            except FiredoorError as error:
                log.warning("operators could not be told, tried again: %s", error)

    def _look(self) -> None:
        heard = dict(self._heard)
        if heard:
            with self._store.transaction() as tx:
                for stream, why in heard.items():
                    tx.note_fault(stream, why)
            for stream in heard:
                self._heard.pop(stream, None)
        with self._store.reading() as tx:
            now, faults = tx.now(), tx.faults()
            mended = [fault for fault in faults if fault.stream not in heard and self._reads(tx, fault.stream)]
        for fault in mended:
            self._change(fault, None)
            log.warning("%s can be read again, and goes on", fault.stream)
        faults = tuple(fault for fault in faults if fault not in mended)
        self._standing = {fault.stream: fault.why for fault in faults}
        for fault in faults:
            if fault.again_at and fault.again_at <= now:
                self._tell(fault, now)

    def _reads(self, tx: Transaction, stream: str) -> bool:
        responder = Responder(tx, self._world, lambda _: None)
        try:
            responder.incident(stream) if stream.startswith(OPEN_STREAMS) else responder.target(stream)
        except RecordBroken:
            return False
        except Refused:
            log.warning("%s is gone", stream)
        return True

    def _change(self, before: Fault, after: Fault | None) -> bool:
        with self._store.transaction() as tx:
            return tx.change_fault(before, after)

    def _tell(self, fault: Fault, now: datetime) -> None:
        """Each operator by the first way that works. Whoever changes the note first tells; should it die before it has
        noted whom it reached, they are told again, marked."""
        begun = replace(fault, again_at=now + AGAIN, tries=fault.tries + 1)
        if not self._change(fault, begun):
            return  # another replica does
        roster = self._world.config.people.roster(now)
        reached = [
            contact.person
            for contact in roster.get(OPERATORS) or roster.get(COMMANDER, ())
            if contact.person in fault.told or self._reach(begun, contact)
        ]
        log.error("%s; told: %s", fault.why, ", ".join(reached) or "nobody could be reached")
        if reached:
            self._change(begun, replace(begun, again_at=None, told=tuple(reached)))

    def _reach(self, fault: Fault, contact: Contact) -> bool:
        stream, world = fault.stream, self._world
        text = (
            f"Firedoor cannot read the record of {stream}, and has stopped writing to it: {fault.why}. "
            "What is open there is not carried out, and nobody is paged for it: work it by hand. "
            f"See: firedoor incident verify {stream}"
        )
        for way in contact.ways:
            try:
                world.ports.pagers[way].send(
                    PageMessage(
                        key=f"{stream}/broken/{contact.person}/{way}",
                        incident=stream,
                        person=contact.person,
                        address=world.address(contact.person, way),
                        subject=f"{stream}: its record cannot be read",
                        body=world.redactor.text(text),
                        again=fault.tries > 1,
                    )
                )
            except (SystemFailure, ConfigError, KeyError) as error:
                log.warning("%s could not be told by %s: %s", contact.person, way, error)
            else:
                return True
        return False
