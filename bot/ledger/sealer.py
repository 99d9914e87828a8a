"""Takes what the record holds into the log, in batches: first each entry gets its place (in the store, once and for
all), then the log is extended up to there. A crash in between leaves places without files, which come next time."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bot.errors import Conflict, RecordBroken
from bot.ledger import note
from bot.ledger.log import CHECKPOINT, Checkpoint, Log
from bot.ledger.shelf import Shelf
from bot.ledger.stamp import Authority, verified
from bot.store import Store
from bot.store.seal import key_id

A_TIME = 2048  # entries between two checkpoints, at most
TURN = 60.0  # seconds for which one replica publishes
KEYS = "record-keys"
KEYS_TITLE = "firedoor record keys"


@dataclass(frozen=True, slots=True)
class Sealer:
    """`anchors` keeps each checkpoint where the log's own place cannot reach; locked for `retain` where it can be."""

    store: Store
    log: Log
    shelf: Shelf
    anchors: Shelf
    replica: str
    retain: timedelta
    authority: Authority | None = None
    stamp_every: timedelta = timedelta(hours=1)

    def seal(self) -> int:
        """Brings the log up to the record; returns how many entries it gained. 0 where another replica is at it.
        Raises Unavailable, RecordBroken where what is published is not what was sealed."""
        gained = 0
        if not self._mine():
            return 0
        while True:
            try:
                with self.store.transaction() as tx:
                    given = tx.seal(A_TIME)
            except Conflict:  # another process sealed at the same time: its places stand
                continue
            gained += self._publish()
            if given < A_TIME:
                return gained

    def _publish(self) -> int:
        published = self.log.checkpoint()
        size = published.size if published else 0
        with self.store.reading() as tx:
            sealed = tx.sealed()
        if size > sealed:
            raise RecordBroken(
                f"the published log has {size} entries and the store knows of {sealed}: "
                "the store was restored from a backup, or this is another installation's log"
            )
        if published and (signed := self.shelf.read(CHECKPOINT)):
            self._anchor(signed.decode())  # a crash may have come before it
        keys = self.log.sign(keys_text(self.store.trusted_keys)).encode()
        if sealed and self.shelf.read(KEYS) != keys:
            self.shelf.write(KEYS, keys)
        start = size
        while size < sealed and self._mine():
            with self.store.reading() as tx:
                entries = list(tx.signed(size, min(A_TIME, sealed - size)))
            if len(entries) != min(A_TIME, sealed - size):
                raise RecordBroken(f"an entry that was sealed at a place from {size} on is no longer in the store")
            self._anchor(self.log.extend(entries))
            size += len(entries)
        return size - start

    def _anchor(self, signed: str) -> None:
        size = Checkpoint.parse(note.open_note(signed, self.log.key)).size
        with self.store.reading() as tx:
            until = tx.now() + self.retain
        self.anchors.anchor(anchor_path(size), signed.encode(), until)

    def stamp(self) -> bool:
        """Has the newest checkpoint stamped, unless that was done, or another one was less than `stamp_every` ago.
        Raises Unavailable, Rejected: sealing goes on without."""
        published = self.log.checkpoint()
        if self.authority is None or published is None or not self._mine():
            return False
        newest, last = anchor_path(published.size), max(self.anchors.names("timestamps"), default="")
        with self.store.reading() as tx:
            now = tx.now()
        if last == stamp_path(newest) or (last and self._stamped_at(last, self.authority) + self.stamp_every > now):
            return False
        self.anchors.anchor(stamp_path(newest), self.authority.stamp(self._kept(newest)), now + self.retain)
        return True

    def _stamped_at(self, path: str, authority: Authority) -> datetime:
        try:
            return verified(self._kept(path), self._kept(anchor_of(path)), authority.roots)
        except RecordBroken:  # an audit names it; here it only counts for nothing
            return datetime.min.replace(tzinfo=UTC)

    def _kept(self, path: str) -> bytes:
        data = self.anchors.read(path)
        if data is None:
            raise RecordBroken(f"{path} is not where the anchors are kept")
        return data

    def _mine(self) -> bool:
        with self.store.transaction() as tx:
            return tx.take_turn("ledger", self.replica, TURN)


def anchor_path(size: int) -> str:
    return f"anchors/{size:016d}"


def stamp_path(anchor: str) -> str:
    """Where the timestamp of an anchored checkpoint lies."""
    return f"timestamps/{anchor.rpartition('/')[2]}"


def anchor_of(stamp: str) -> str:
    return f"anchors/{stamp.rpartition('/')[2]}"


def keys_text(keys: Iterable[bytes]) -> str:
    lines = [f"{key_id(raw)} {base64.b64encode(raw).decode()}" for raw in keys]
    return "\n".join([KEYS_TITLE, *lines, ""])
