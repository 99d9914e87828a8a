"""Which entries the ledger has taken, and in which order: the bridge between streams and one log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from bot.store import tables
from bot.store.session import Session, micros

_STREAMS_A_TIME = 500


@dataclass(frozen=True, slots=True)
class Signed:
    """An entry as it was signed: what an outsider needs to check it."""

    stream: str
    version: int
    body: bytes
    key_id: str
    signature: str  # base64


class Leaves(Session):
    def seal(self, most: int) -> int:
        """Gives the entries that have no place in the log yet their places, at most about `most`; returns how many."""
        self._must_write()
        self.flush()
        self.lock("ledger")
        behind = self._rows(
            """SELECT s.stream, coalesce(t.version, 0) FROM streams AS s LEFT JOIN sealed AS t ON t.stream = s.stream
                WHERE s.version > coalesce(t.version, 0) ORDER BY s.since, s.stream LIMIT :limit""",
            {"limit": _STREAMS_A_TIME},
        )
        found: list[tuple[int, str, int]] = []
        for stream, version in behind:
            if len(found) >= most:
                break
            rows = self._rows(
                """SELECT at, version FROM entries WHERE stream = :stream AND version > :version
                    ORDER BY version LIMIT :n""",
                {"stream": stream, "version": version, "n": most},
            )
            found += [(at, stream, number) for at, number in rows]
        start = self.sealed()
        leaves = [(start + n, stream, version) for n, (_, stream, version) in enumerate(sorted(found))]
        if leaves:
            last = {stream: version for _, stream, version in leaves}
            with self._database.translated():
                self._database.insert(self._raw, tables.leaves, leaves, "")
                again = "ON CONFLICT (stream) DO UPDATE SET version = excluded.version"
                self._database.insert(self._raw, tables.sealed, [*last.items()], again)
        return len(leaves)

    def sealed(self) -> int:
        """How many entries have a place: the size that the log should have."""
        row = self._row("SELECT max(seq) FROM leaves")
        return 0 if row is None or row[0] is None else int(row[0]) + 1

    def signed(self, first: int, most: int) -> Iterator[Signed]:
        """The entries from a place on, in the log's order."""
        rows = self._rows(
            """SELECT l.stream, l.version, e.body, e.key_id, e.signature FROM leaves AS l
                JOIN entries AS e ON e.stream = l.stream AND e.version = l.version
                WHERE l.seq >= :first AND l.seq < :last ORDER BY l.seq""",
            {"first": first, "last": first + most},
        )
        for stream, version, body, key_id, signature in rows:
            yield Signed(stream, version, body.encode(), key_id, signature)

    def place(self, stream: str, version: int) -> int | None:
        """Where an entry stands in the log; None where it was not sealed yet."""
        row = self._row(
            "SELECT seq FROM leaves WHERE stream = :stream AND version = :version",
            {"stream": stream, "version": version},
        )
        return None if row is None else int(row[0])

    def take_turn(self, name: str, owner: str, seconds: float) -> bool:
        """Whether this replica does `name` for now: nobody else has a turn that runs still."""
        self._must_write()
        now = self.now()
        rows = self._rows(
            """INSERT INTO turns (name, owner, until) VALUES (:name, :owner, :until)
                ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
                WHERE turns.owner = :owner OR turns.until <= :now RETURNING owner""",
            {"name": name, "owner": owner, "until": micros(now + timedelta(seconds=seconds)), "now": micros(now)},
        )
        return bool(rows)
