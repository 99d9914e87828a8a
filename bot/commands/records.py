"""The record as reading commands see it: opened read only, beside a running server or without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bot.adapters.clock import SystemClock
from bot.config import Config, load
from bot.domain import containment
from bot.domain.containment import Target
from bot.domain.events import Opened, TextRef
from bot.domain.incident import Incident, fold
from bot.domain.record import Entry
from bot.engine.rulebook import Rulebook
from bot.errors import Refused
from bot.store import Store, Transaction


@dataclass(frozen=True, slots=True)
class Records:
    """One consistent view of the store."""

    config: Config
    store: Store
    rulebook: Rulebook
    tx: Transaction
    templates: Path

    def entries(self, id: str) -> tuple[Entry, ...]:
        """Verified. Raises Refused where there is no such incident, RecordBroken."""
        entries = self.tx.read(id)
        if not entries or not isinstance(entries[0].event, Opened):
            raise Refused("no_such_incident", f"There is no incident {id!r}. See: firedoor incident list")
        return entries

    def incident(self, id: str, entries: tuple[Entry, ...]) -> Incident:
        """The fold of its record, on the rules it was frozen with."""
        opened = entries[0].event
        assert isinstance(opened, Opened)
        return fold(Incident(id, self.rulebook.frozen(opened.pins, self.tx.pinned)), entries)

    def target(self, id: str) -> Target:
        state = Target(id)
        for entry in self.tx.read(id):
            state = containment.take(containment.apply(state, entry.event, entry.at), entry.decisions)
        return state

    def text(self, ref: TextRef) -> str | None:
        """None where it was erased."""
        data = self.tx.get_text(ref)
        return None if data is None else data.decode()


@contextmanager
def records(folder: Path) -> Iterator[Records]:
    """Raises ConfigError where configuration, keys or store are missing, Unavailable where the store is away."""
    from bot import wiring  # here: every client library comes with it, and help and plan need none of them

    config = load(folder)
    keys = wiring.read_keys(config, folder)
    store = wiring.open_store(config, folder, keys, SystemClock(), read_only=True)
    try:
        with store.reading() as tx:
            yield Records(config, store, Rulebook(config, folder), tx, wiring.templates(folder))
    finally:
        store.close()
