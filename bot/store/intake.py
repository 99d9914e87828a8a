"""What arrives: alerts kept once, repeats counted, bodies seen before, and what could not be read."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bot.store import tables
from bot.store.artefacts import Artefacts
from bot.store.database import as_list
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


@dataclass(slots=True)
class _Window:
    """Of one news and incident, what was counted in this transaction included. Microseconds."""

    incident: str
    total: int = 0
    first: int = 0
    end: int = 0


class Intake(Artefacts):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._windows: dict[str, dict[str, _Window]] = {}  # by news and incident, of the news that was asked for

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

    def foresee_repeats(self, dedup_keys: Iterable[str]) -> None:
        """Reads what is known of these in one statement, for those who ask of each; nobody else counts them meanwhile.
        What ended but was not told of yet is still known."""
        self._must_write()
        unknown = dict.fromkeys(key for key in dedup_keys if key not in self._windows)
        if not unknown:
            return
        rows = self._rows(
            f"""SELECT key, incident, total, first, window_end FROM dedup WHERE key IN ({self._database.json_items})
            ORDER BY key, incident {self._database.row_lock}""",
            {"ids": as_list(unknown)},
        )
        self._windows |= {key: {} for key in unknown}
        for key, incident, total, first, end in rows:
            self._windows[key][incident] = _Window(incident, total, first, end)

    def is_repeat(self, dedup_key: str, at: datetime) -> bool:
        return self._open_window(dedup_key, micros(at)) is not None

    def remember(self, dedup_key: str, incident: str, at: datetime, window_end: datetime) -> None:
        """From now to `window_end` the same news is a repeat. This one is told of by an entry of its own."""
        self.foresee_repeats((dedup_key,))
        window = self._windows[dedup_key].setdefault(incident, _Window(incident))
        window.total += 1
        window.first, window.end = micros(at), micros(window_end)
        self._count(dedup_key, window, window.first, told=1)

    def repeat(self, dedup_key: str, at: datetime, n: int = 1) -> DedupHit | None:
        """Counts `n` alerts of one news if its window is open at that time."""
        time = micros(at)
        window = self._open_window(dedup_key, time)
        if window is None:
            return None
        window.total += n
        self._count(dedup_key, window, time, untold=n)
        return DedupHit(window.incident, window.total, moment(window.first), moment(window.end))

    def _open_window(self, dedup_key: str, time: int) -> _Window | None:
        self.foresee_repeats((dedup_key,))
        windows = [window for window in self._windows[dedup_key].values() if window.end > time]
        return max(windows, key=lambda window: window.end, default=None)

    def _count(self, dedup_key: str, window: _Window, time: int, *, told: int = 0, untold: int = 0) -> None:
        """Adds to the row that waits. Counts that no entry tells of yet survive the end of a window."""
        key = (dedup_key, window.incident)
        _, _, _, last, _, total, reported, since = self._waits(tables.dedup, key) or (*key, 0, 0, 0, 0, 0, None)
        last = max(last, time) if untold else last or time
        since = time if since is None and untold else since
        counts = (total + told + untold, reported + told, since)
        self._wait(tables.dedup, key, (*key, window.first, last, window.end, *counts))

    def forget(self, incident: str) -> None:
        """Closes the incident's windows. What was counted and not told yet is kept until it is."""
        self._must_write()
        self._settle(tables.dedup)
        self._run("DELETE FROM dedup WHERE incident = :incident AND unreported_since IS NULL", {"incident": incident})
        self._run("UPDATE dedup SET window_end = 0 WHERE incident = :incident", {"incident": incident})
        self._windows.clear()

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
        self._windows.clear()

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
