"""The record: entries appended and read back verified, streams, what is open and what is due."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from bot.domain.decisions import Decision
from bot.domain.events import Event
from bot.domain.record import RULES, SCHEMA, Entry
from bot.errors import Conflict, FutureEntry, RecordBroken
from bot.store import codec, seal, tables
from bot.store.database import as_list
from bot.store.session import Session, maybe_moment, micros, moment


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a stream."""

    version: int
    at: datetime
    digest: str


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream as it stands: a disposable view. `kind` is `incident`, `target` or `instances`; `summary` is JSON."""

    stream: str
    kind: str
    version: int
    next_due: datetime | None
    open: bool
    summary: Mapping[str, Any] = field(default_factory=dict)


# In one statement, so that a commit in between is never mistaken for a cut tail. The row at :after gives the digest
# that the next one must name.
_READ = """SELECT known.version, e.version, e.at, e.type, e.schema, e.rules, e.body, e.digest, e.key_id, e.signature
    FROM (SELECT (SELECT version FROM streams WHERE stream = :stream) AS version) AS known
    LEFT JOIN entries AS e ON e.stream = :stream AND e.version >= :after ORDER BY e.version"""
_STREAM = "SELECT stream, kind, version, next_due, open, summary FROM streams"


class Entries(Session):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._heads: dict[str, Head] = {}
        self._open: dict[str, str | None] = {}  # the open keys that were asked for

    def head(self, stream: str) -> Head | None:
        if stream in self._heads:
            return self._heads[stream]
        row = self._row(
            "SELECT version, at, digest FROM entries WHERE stream = :stream ORDER BY version DESC LIMIT 1",
            {"stream": stream},
        )
        return Head(row[0], moment(row[1]), row[2]) if row else None

    def append(
        self,
        stream: str,
        version: int,
        at: datetime,
        event: Event,
        decisions: tuple[Decision, ...],
        previous: str | None = None,
    ) -> Entry:
        """Signs an entry now and writes it at the next flush; a version that is taken is a Conflict. `previous` is the
        digest of the entry before, where the caller has it: without it the store looks."""
        if previous is None:
            previous = "" if version == 1 else self._previous(stream, version)
        identity = self._identity
        fields = codec.encode(event, decisions)
        fields |= {
            "install": identity.install,
            "epoch": identity.epoch,
            "mode": identity.mode,
            "stream": stream,
            "version": version,
            "at": codec.time_text(at),
            "rules": RULES,
            "previous": previous,
        }
        body = seal.canonical(fields)
        digest = seal.digest(body)
        signer = identity.signer
        row = (stream, version, micros(at), fields["type"], SCHEMA, RULES, body.decode(), digest, signer.key_id)
        if self._waits(tables.entries, (stream, version)):
            raise Conflict(f"{stream}/{version} was appended before in this transaction")
        self._wait(tables.entries, (stream, version), (*row, signer.sign(body)))
        self._heads[stream] = Head(version, at, digest)
        return Entry(stream, version, at, event, decisions, digest)

    def read(self, stream: str, after: int = 0) -> tuple[Entry, ...]:
        """The entries after a version, each verified: digest, signature, chain, and none missing. Raises RecordBroken
        naming stream, version and fault; FutureEntry for one of a newer release."""
        self._settle(tables.entries, tables.streams)
        rows = self._rows(_READ, {"stream": stream, "after": after})
        known = rows[0][0] or 0
        entries: list[Entry] = []
        version, previous = after, ""
        for row in rows:
            if row[1] is None:
                break
            if row[1] == after:
                previous = row[7]
                continue
            version += 1
            where = f"{stream}/{row[1]}"
            if row[1] != version:
                raise RecordBroken(f"{stream}/{version}: the entry is missing", stream)
            try:
                entry = self._verified(stream, row[1:], previous)
            except FutureEntry as error:
                raise FutureEntry(f"{where}: {error}", stream) from error
            except RecordBroken as error:
                raise RecordBroken(f"{where}: {error}", stream) from error
            entries.append(entry)
            previous = entry.digest
        if version < known:
            why = f"{stream}/{version + 1}: the entry is missing, the stream went up to {known}"
            raise RecordBroken(why, stream)
        return tuple(entries)

    def save_stream(self, row: StreamRow) -> None:
        """Replaces the view of a stream."""
        due = None if row.next_due is None else micros(row.next_due)
        summary = json.dumps(dict(row.summary), ensure_ascii=False)
        values = (row.stream, row.kind, row.version, micros(self.now()), due, row.open, summary)
        self._wait(tables.streams, row.stream, values)

    def streams(
        self, kind: str | None = None, open: bool | None = None, limit: int = 1000, newest_first: bool = True
    ) -> tuple[StreamRow, ...]:
        """By first appearance."""
        self._settle(tables.streams)
        tests = [test for test, on in (("kind = :kind", kind), ("open = :open", open)) if on is not None]
        where = f" WHERE {' AND '.join(tests)}" if tests else ""
        way = "DESC" if newest_first else "ASC"
        rows = self._rows(
            f"{_STREAM}{where} ORDER BY since {way}, length(stream) {way}, stream {way} LIMIT :limit",
            {"kind": kind, "open": open, "limit": limit},
        )
        return tuple(
            StreamRow(name, kind_, version, maybe_moment(due), bool(is_open), json.loads(summary))
            for name, kind_, version, due, is_open, summary in rows
        )

    def versions(self, kind: str) -> tuple[tuple[str, int], ...]:
        """How far each stream of a kind is."""
        self._settle(tables.streams)
        return tuple(self._rows("SELECT stream, version FROM streams WHERE kind = :kind", {"kind": kind}))

    def due(self, before: datetime, limit: int) -> tuple[tuple[str, datetime], ...]:
        """Streams whose next deadline is at or before a moment, most overdue first."""
        self._settle(tables.streams)
        rows = self._rows(
            "SELECT stream, next_due FROM streams WHERE next_due <= :before ORDER BY next_due LIMIT :limit",
            {"before": micros(before), "limit": limit},
        )
        return tuple((stream, moment(due)) for stream, due in rows)

    def take_open_key(self, key: str, incident: str) -> None:
        """Of two incidents opening with one key the first commits; the other gets errors.Conflict, here or at flush."""
        if self._waits(tables.open_keys, key):
            raise Conflict(f"open key {key!r} is taken")
        self._wait(tables.open_keys, key, (key, incident))
        self._open[key] = incident

    def open_key(self, key: str) -> str | None:
        """The open incident that holds a key."""
        self.foresee_open_keys((key,))
        return self._open[key]

    def foresee_open_keys(self, keys: Iterable[str]) -> None:
        """Looks for these in one statement, for those who ask for each."""
        unknown = dict.fromkeys(key for key in keys if key not in self._open)
        if not unknown:
            return
        sql = f"SELECT key, incident FROM open_keys WHERE key IN ({self._database.json_items})"
        self._open |= dict.fromkeys(unknown) | dict(self._rows(sql, {"ids": as_list(unknown)}))

    def open_keys(self, prefix: str) -> tuple[str, ...]:
        """The open incidents whose key begins so."""
        self._settle(tables.open_keys)
        rows = self._rows(
            "SELECT incident FROM open_keys WHERE substr(key, 1, :length) = :prefix ORDER BY incident",
            {"length": len(prefix), "prefix": prefix},
        )
        return tuple(row[0] for row in rows)

    def move_open_keys(self, incident: str, to: str) -> None:
        """What comes for the one belongs to the other."""
        self._must_write()
        self._settle(tables.open_keys)
        self._run("UPDATE open_keys SET incident = :to WHERE incident = :incident", {"incident": incident, "to": to})
        self._open.clear()

    def drop_open_keys(self, incident: str) -> None:
        self._must_write()
        self._settle(tables.open_keys)
        self._run("DELETE FROM open_keys WHERE incident = :incident", {"incident": incident})
        self._open.clear()

    def _previous(self, stream: str, version: int) -> str:
        head = self.head(stream)
        if head is None or head.version != version - 1:
            raise Conflict(f"{stream} stands at {head.version if head else 0}, so {version} cannot be appended")
        return head.digest

    def _verified(self, stream: str, row: tuple[Any, ...], previous: str) -> Entry:
        version, at, kind, schema, rules, text, digest, signed_by, signature = row
        body = text.encode()
        if seal.digest(body) != digest:
            raise RecordBroken("the digest does not fit the bytes")
        identity = self._identity
        identity.signer.verify(body, signature, signed_by)
        fields = seal.parse(text)
        time = datetime.fromisoformat(fields["at"])
        columns = {"stream": stream, "version": version, "type": kind, "schema": schema, "rules": rules}
        owner = {"install": identity.install, "mode": identity.mode}
        for name, value in (columns | owner).items():
            if fields[name] != value:
                raise RecordBroken(f"the signed bytes say {name} {fields[name]!r}, not {value!r}")
        if micros(time) != at:
            raise RecordBroken(f"the signed bytes say {fields['at']}, the row another time")
        if fields["previous"] != previous:
            raise RecordBroken("the chain is broken: it does not follow the entry before")
        event, decisions = codec.decode(fields)
        return Entry(stream, version, time, event, decisions, digest, schema, rules)
