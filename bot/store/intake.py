"""What arrives: alerts kept once, repeats counted, bodies seen before, and what could not be read."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import datetime

from bot.store import tables
from bot.store.artefacts import Artefacts
from bot.store.session import micros, moment


@dataclass(frozen=True, slots=True)
class DedupHit:
    """A repeat inside its window. `count` is the total of that news, the first alert included."""

    incident: str
    count: int
    first: datetime
    window_end: datetime


@dataclass(frozen=True, slots=True)
class Repeats:
    """Repeats that no entry tells of yet: `count` of them between `first` and `last`."""

    dedup_key: str
    incident: str
    count: int
    first: datetime
    last: datetime
    total: int


@dataclass(frozen=True, slots=True)
class RawAlert:
    """An alert as it came in, redacted. `body` is None once erased."""

    id: str
    source: str
    dedup_key: str
    received_at: datetime
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A payload that no source could read."""

    id: str
    source: str
    reason: str
    at: datetime
    body: bytes


# The one open window of a key. Counts that an entry does not tell of yet survive the end of a window.
_REPEAT = """UPDATE dedup SET total = total + :n, last = CASE WHEN last > :at THEN last ELSE :at END,
        unreported_since = coalesce(unreported_since, :at)
    WHERE key = :key AND incident = (SELECT incident FROM dedup WHERE key = :key AND window_end > :at
        ORDER BY window_end DESC LIMIT 1)
    RETURNING incident, total, first, window_end"""


class Intake(Artefacts):
    def save_alert(
        self,
        id: str,
        source: str,
        dedup_key: str,
        incident: str | None,
        received_at: datetime,
        body: bytes,
        uid: str = "",
    ) -> None:
        """Keeps a redacted alert, encrypted under its incident's key or the store's. `uid` is the source's own id of
        it (else `id`). The same `id` again changes nothing."""
        uid = (uid or id).replace("\0", "\ufffd")  # PostgreSQL texts cannot hold it
        key, sealed = self._seal(incident, body, f"alert {id}")
        self._wait(tables.alerts, id, (id, source, uid, dedup_key, incident, micros(received_at), key, sealed))

    def alerts(self, incident: str) -> tuple[RawAlert, ...]:
        """In the order they came."""
        self._settle(tables.alerts, tables.keys)
        rows = self._rows(
            """SELECT alerts.id, source, dedup_key, received_at, sealed, key_id, wrapped
            FROM alerts LEFT JOIN keys ON keys.id = key_id
            WHERE alerts.incident = :incident ORDER BY received_at, alerts.id""",
            {"incident": incident},
        )
        return tuple(
            RawAlert(id, source, key, moment(at), self._unseal(key_id, wrapped, sealed, f"alert {id}"))
            for id, source, key, at, sealed, key_id, wrapped in rows
        )

    def has_alert(self, source: str, uid: str) -> bool:
        self._settle(tables.alerts)
        uid = uid.replace("\0", "\ufffd")
        found = self._row(
            "SELECT 1 FROM alerts WHERE source = :source AND uid = :uid LIMIT 1", {"source": source, "uid": uid}
        )
        return found is not None

    def remember(self, dedup_key: str, incident: str, at: datetime, window_end: datetime) -> None:
        """From now to `window_end` the same news is a repeat. This one is told of by an entry of its own."""
        self._settle_if(dedup_key)
        time = micros(at)
        row = (dedup_key, incident, time, time, micros(window_end), 1, 1, None)
        self._wait(tables.dedup, dedup_key, row)

    def repeat(self, dedup_key: str, at: datetime, n: int = 1) -> DedupHit | None:
        """Counts `n` alerts of one news if its window is open at that time."""
        self._must_write()
        self._settle_if(dedup_key)
        row = self._row(_REPEAT, {"key": dedup_key, "at": micros(at), "n": n})
        return DedupHit(row[0], row[1], moment(row[2]), moment(row[3])) if row else None

    def forget(self, incident: str) -> None:
        """Closes the incident's windows. What was counted and not told yet is kept until it is."""
        self._must_write()
        self._settle(tables.dedup)
        self._run("DELETE FROM dedup WHERE incident = :incident AND unreported_since IS NULL", {"incident": incident})
        self._run("UPDATE dedup SET window_end = 0 WHERE incident = :incident", {"incident": incident})

    def unreported(self, before: datetime) -> tuple[Repeats, ...]:
        """Repeats to tell of whose first came at or before a moment. Those another transaction is telling of are left
        to it."""
        self._settle(tables.dedup)
        lock = self._database.claim_lock if self._writable else ""
        rows = self._rows(
            f"""SELECT key, incident, total - reported, unreported_since, last, total FROM dedup
            WHERE unreported_since <= :before ORDER BY unreported_since {lock}""",
            {"before": micros(before)},
        )
        return tuple(Repeats(k, incident, n, moment(a), moment(z), total) for k, incident, n, a, z, total in rows)

    def mark_reported(self, dedup_key: str, at: datetime, incident: str | None = None) -> None:
        """Told of, in the transaction that asked `unreported`. `incident` narrows it where one key counted for two."""
        self._must_write()
        self._settle(tables.dedup)
        values = {"key": dedup_key, "at": micros(at), "incident": incident, "any": incident is None}
        mine = "key = :key AND (:any OR incident = :incident)"
        self._run(f"DELETE FROM dedup WHERE {mine} AND window_end = 0 AND unreported_since <= :at", values)
        self._run(f"UPDATE dedup SET reported = total, unreported_since = NULL WHERE {mine}", values)

    def seen(self, id: str, at: datetime, expires: datetime, answer: str = "") -> str | None:
        """The first time None, and `answer` is kept until `expires`; after that the first answer."""
        self._must_write()
        values = {"id": id, "at": micros(at), "expires": micros(expires), "answer": answer}
        first = self._row(
            """INSERT INTO seen (id, expires, answer) VALUES (:id, :expires, :answer)
            ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, answer = excluded.answer
            WHERE seen.expires <= :at RETURNING id""",
            values,
        )
        if first:
            if zlib.crc32(id.encode()) % 256 == 0:  # now and then, whoever comes
                self._run("DELETE FROM seen WHERE expires <= :at", values)
            return None
        row = self._row("SELECT answer FROM seen WHERE id = :id", values)
        return row[0] if row else None

    def recall(self, id: str, at: datetime) -> str | None:
        """The answer kept under an id, without asking to keep one; None where there is none, or it has expired."""
        row = self._row("SELECT answer FROM seen WHERE id = :id AND expires > :at", {"id": id, "at": micros(at)})
        return row[0] if row else None

    def answered(self, id: str, answer: str) -> None:
        """What is to be said to those who come again with an id that was `seen` in this transaction."""
        self._must_write()
        self._run("UPDATE seen SET answer = :answer WHERE id = :id", {"id": id, "answer": answer})

    def quarantine(self, source: str, reason: str, body: bytes, at: datetime, id: str) -> None:
        """Keeps what no source could read, encrypted under the store's key. The same `id` again changes nothing."""
        _, sealed = self._seal(None, body, f"quarantine {id}")
        self._wait(tables.quarantine, id, (id, source, reason.replace("\0", "\ufffd"), micros(at), sealed))

    def quarantined(self) -> tuple[Quarantined, ...]:
        self._settle(tables.quarantine)
        rows = self._rows("SELECT id, source, reason, at, sealed FROM quarantine ORDER BY at, id")
        return tuple(
            Quarantined(id, source, reason, moment(at), self._unseal("", None, sealed, f"quarantine {id}") or b"")
            for id, source, reason, at, sealed in rows
        )

    def _settle_if(self, dedup_key: str) -> None:
        if self._waits(tables.dedup, dedup_key):
            self.flush()
