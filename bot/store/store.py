"""The record on SQL: opened, read and written in transactions, and verified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bot.errors import ConfigError
from bot.ports import Clock
from bot.store import schema
from bot.store.database import Database, open_database
from bot.store.entries import Entries
from bot.store.faults import Faults
from bot.store.intake import Intake
from bot.store.leaves import Leaves
from bot.store.outbox import Outbox
from bot.store.permits import Permits
from bot.store.replicas import replicas
from bot.store.seal import Signer
from bot.store.session import Identity, micros, moment

_SKEW_REFRESH = timedelta(seconds=5)


class Transaction(Entries, Outbox, Intake, Permits, Faults, Leaves):
    """One transaction. Rows that are only written wait and go out together; what reads them writes them first."""


class Store:
    """One database. Safe to use from several threads; each transaction belongs to one."""

    def __init__(self, database: Database, identity: Identity, clock: Clock, *, read_only: bool, virtual: bool) -> None:
        self._database, self._identity, self._clock = database, identity, clock
        self._read_only, self._virtual = read_only, virtual
        self._skew = timedelta()
        self._skew_at: datetime | None = None
        self._replicas = replicas(database, self._now)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        install: str,
        mode: str,
        signer: Signer,
        master_key: bytes,
        clock: Clock,
        epoch: int = 1,
        read_only: bool = False,
        virtual: bool = False,
    ) -> Store:
        """Opens `sqlite:///PATH` or `postgresql://...`, bringing its tables up to date unless `read_only`.

        `master_key`: 32 bytes. `virtual`: `clock` is the only time there is (drills), the database's is not asked.
        Raises ConfigError where the store is another installation's or mode's, or a newer release's; Unavailable where
        it cannot be reached."""
        if len(master_key) != 32:
            raise ConfigError("master key", f"it has {len(master_key)} bytes; 32 are needed.")
        own = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"firedoor store").derive(master_key)
        identity = Identity(install, epoch, mode, signer, AESGCM(master_key), AESGCM(own))
        database = open_database(url, read_only=read_only)
        try:
            with database.translated():
                schema.prepare(database, {"install": install, "mode": mode}, read_only=read_only)
        except BaseException:  # an interrupt too must not leave connections behind
            database.close()
            raise
        return cls(database, identity, clock, read_only=read_only, virtual=virtual)

    @property
    def public_key(self) -> bytes:
        """Raw, 32 bytes: what the entries written now verify with."""
        return self._identity.signer.public()

    @property
    def trusted_keys(self) -> tuple[bytes, ...]:
        """Raw: every key that entries here may be signed with."""
        return self._identity.signer.trusted

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commits on a clean exit. Raises Conflict where another writer was first, Unavailable where the database is
        not there; nothing is written then, unless `sent`: it went away during the commit, which may have happened.
        Never nested: on SQLite the inner one would wait for the outer."""
        if self._read_only:
            raise RuntimeError("this store was opened to be read only")
        with self._database.writing(), self._database.transaction(self._database.begin_writing) as raw:
            transaction = Transaction(self._database, raw, self._identity, self._now, writable=True)
            yield transaction
            transaction.flush()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """One consistent view of the store, for reading."""
        with self._database.transaction(self._database.begin_reading) as raw:
            yield Transaction(self._database, raw, self._identity, self._now, writable=False)

    def verify(self, stream: str) -> int:
        """Checks every entry of a stream; returns how many there are. Raises RecordBroken."""
        with self.reading() as tx:
            return len(tx.read(stream))

    def database_now(self) -> datetime:
        """The database's own time (the clock's on SQLite). Raises Unavailable: a health check."""
        with self.reading() as tx:
            self._skew_at = None
            return tx.now()

    def join(self, replica: str, lease_seconds: float) -> None:
        """Starts serving. Raises ConfigError where another process serves this SQLite file, or under this name."""
        self._replicas.join(replica, lease_seconds)

    def renew(self, replica: str, lease_seconds: float) -> None:
        self._replicas.renew(replica, lease_seconds)

    def leave(self, replica: str) -> None:
        self._replicas.leave(replica)

    def serving(self) -> tuple[str, ...]:
        """Replicas whose lease runs."""
        with self.reading() as tx:
            rows = tx._rows("SELECT id FROM replicas WHERE lease_until > :now ORDER BY id", {"now": micros(tx.now())})
            return tuple(str(row[0]) for row in rows)

    def dead_replicas(self) -> tuple[str, ...]:
        """Replicas that were killed, or whose lease ran out."""
        return self._replicas.dead()

    def close(self) -> None:
        self._replicas.end()
        self._database.close()

    def _now(self, raw: Any) -> datetime:
        """The process clock, corrected every 5 s by the database's (semantics 6)."""
        now = self._clock.now()
        if self._virtual:
            return now
        if self._skew_at is None or abs(now - self._skew_at) > _SKEW_REFRESH:
            with self._database.translated():
                database_time = self._database.time(raw)
            self._skew = timedelta() if database_time is None else moment(database_time) - now
            self._skew_at = now
        return now + self._skew
