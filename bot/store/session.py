"""The inside of one transaction: statements on the raw connection, and the rows that wait to be written together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Table

from bot.store import tables
from bot.store.database import Database, Row, lock_number
from bot.store.seal import Signer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_KEEP = "ON CONFLICT DO NOTHING"
_REPLACE = """ON CONFLICT (stream) DO UPDATE SET version = excluded.version, next_due = excluded.next_due,
    open = excluded.open, summary = excluded.summary"""
_AGAIN = """ON CONFLICT (key, incident) DO UPDATE SET first = excluded.first, window_end = excluded.window_end,
    last = CASE WHEN excluded.unreported_since IS NULL OR dedup.last > excluded.last THEN dedup.last
        ELSE excluded.last END,
    total = dedup.total + excluded.total, reported = dedup.reported + excluded.reported,
    unreported_since = coalesce(dedup.unreported_since, excluded.unreported_since)"""
# Every transaction writes in this order, so that two never wait for each other crosswise.
_ORDER: dict[Table, str] = {
    tables.entries: "",
    tables.streams: _REPLACE,
    tables.open_keys: "",
    tables.outbox: "",
    tables.dedup: _AGAIN,
    tables.keys: "",
    tables.texts: "",
    tables.alerts: _KEEP,
    tables.pins: _KEEP,
    tables.runs: "",
    tables.quarantine: _KEEP,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose record this is and what it is sealed with."""

    install: str
    epoch: int
    mode: str
    signer: Signer
    master: AESGCM  # wraps data keys
    own: AESGCM  # for what belongs to no incident


def micros(time: datetime) -> int:
    """An aware time as microseconds since 1970 UTC."""
    return (time - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def maybe_moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


class Session:
    """What every part of a transaction stands on."""

    def __init__(
        self,
        database: Database,
        raw: Any,
        identity: Identity,
        now: Callable[[Any], datetime],
        *,
        writable: bool,
    ) -> None:
        self._database, self._raw, self._identity, self._now = database, raw, identity, now
        self._writable = writable
        self._waiting: dict[Table, dict[Hashable, Row]] = {}

    def now(self) -> datetime:
        """The store's clock: database time on PostgreSQL, the process clock on SQLite (semantics 6)."""
        return self._now(self._raw)

    def lock(self, name: str) -> None:
        """Until the end of this transaction nobody else passes `lock(name)`. SQLite has one writer anyway."""
        if self._database.claim_lock:
            self._run("SELECT pg_advisory_xact_lock(:number)", {"number": lock_number(f"lock {name}")})

    def flush(self) -> None:
        """Writes what waits. Raises errors.Conflict where another transaction was first."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        with self._database.translated(), self._database.batch(self._raw):
            for table, conflict in _ORDER.items():
                if rows := waiting.get(table):
                    self._database.insert(self._raw, table, [*rows.values()], conflict)

    # For the parts of a transaction -----------------------------------------------------------------------------

    def _wait(self, table: Table, key: Hashable, row: Row) -> None:
        """Keeps a row for `flush`; the last one with a key wins, or the first where the table keeps that."""
        self._must_write()
        rows = self._waiting.setdefault(table, {})
        if key not in rows or _ORDER[table] is not _KEEP:
            rows[key] = row

    def _waits(self, table: Table, key: Hashable) -> Row | None:
        rows = self._waiting.get(table)
        return rows.get(key) if rows else None

    def _settle(self, *concerned: Table) -> None:
        """Flushes if a row of these tables waits: the statement that follows has to see it."""
        if any(table in self._waiting for table in concerned):
            self.flush()

    def _run(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Any:
        with self._database.translated():
            return self._raw.execute(self._database.spell(sql), parameters or {})

    def _rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        with self._database.translated():
            return list(self._raw.execute(self._database.spell(sql), parameters or {}).fetchall())

    def _row(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Row | None:
        rows = self._rows(sql, parameters)
        return rows[0] if rows else None

    def _must_write(self) -> None:
        if not self._writable:
            raise RuntimeError("this transaction only reads")
