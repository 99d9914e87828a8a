"""Which processes serve this store, and which of them are gone.

A killed one is noticed at once (its session lock falls), a hung one when its lease runs out.
"""

from __future__ import annotations

import fcntl
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import psycopg

from bot.errors import ConfigError
from bot.store.database import Database, Postgres, Sqlite, lock_number
from bot.store.session import micros

_FORGET = timedelta(days=1)
_RENEW = """INSERT INTO replicas (id, lease_until) VALUES (:id, :until)
    ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until"""


class Replicas(ABC):
    def __init__(self, database: Database, now: Callable[[Any], datetime]) -> None:
        self._database, self._now = database, now

    @abstractmethod
    def join(self, replica: str, lease_seconds: float) -> None: ...

    @abstractmethod
    def leave(self, replica: str) -> None: ...

    @abstractmethod
    def dead(self) -> tuple[str, ...]: ...

    @abstractmethod
    def end(self) -> None:
        """Lets go of the lock, as the end of the process would."""

    def renew(self, replica: str, lease_seconds: float) -> None:
        self._execute(_RENEW, lambda now: {"id": replica, "until": micros(now + timedelta(seconds=lease_seconds))})

    def _forget(self, replica: str | None = None) -> None:
        """Takes a replica off the list, and those that have been gone for long."""
        self._execute(
            "DELETE FROM replicas WHERE id = :id OR lease_until < :gone",
            lambda now: {"id": replica, "gone": micros(now - _FORGET)},
        )

    def _execute(self, sql: str, values: Callable[[datetime], dict[str, Any]]) -> None:
        database = self._database
        with database.writing(), database.transaction(database.begin_writing) as raw, database.translated():
            raw.execute(database.spell(sql), values(self._now(raw)))

    def _listed(self) -> tuple[list[tuple[str, int]], set[int], int]:
        """Replicas and their leases, the advisory locks held, and the time now in microseconds."""
        database = self._database
        with database.transaction(database.begin_reading) as raw, database.translated():
            rows = raw.execute("SELECT id, lease_until FROM replicas ORDER BY id").fetchall()
            return [(row[0], row[1]) for row in rows], self._held(raw), micros(self._now(raw))

    def _held(self, raw: Any) -> set[int]:  # noqa: ARG002 - SQLite asks the file system
        return set()


class OneProcess(Replicas):
    """SQLite: one serving process, kept so by a lock on `<file>.serving` that ends with the process."""

    def __init__(self, database: Sqlite, now: Callable[[Any], datetime]) -> None:
        super().__init__(database, now)
        self._path = f"{database.path}.serving"
        self._descriptor: int | None = None
        self._me = ""

    def join(self, replica: str, lease_seconds: float) -> None:
        if self._descriptor is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise ConfigError(
                    self._database.where,
                    "another Firedoor process serves this file.",
                    "Stop it first, or use PostgreSQL for several replicas.",
                ) from None
            self._descriptor = descriptor
        self._me = replica
        self._forget()
        self.renew(replica, lease_seconds)

    def leave(self, replica: str) -> None:
        self._forget(replica)
        self.end()

    def end(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def dead(self) -> tuple[str, ...]:
        """Holding the file's lock, everybody else is gone; without it, whose lease ran out."""
        rows, _, now = self._listed()
        serving = self._descriptor is not None
        return tuple(id for id, until in rows if (serving and id != self._me) or until < now)


class Peers(Replicas):
    """PostgreSQL: each replica holds a session advisory lock on a connection of its own."""

    def __init__(self, database: Postgres, now: Callable[[Any], datetime]) -> None:
        super().__init__(database, now)
        self._session: Any = None  # the raw connection
        self._me = ""
        self._guard = threading.Lock()

    def join(self, replica: str, lease_seconds: float) -> None:
        self._me = replica
        # A second's patience: the session of a predecessor that was just killed is about to end.
        if not self._hold("SET lock_timeout = '1s'; SELECT pg_advisory_lock({})", replica):
            raise ConfigError(
                "replica", f"a process named {replica!r} serves this store already.", "Give each its own name."
            )
        self._forget()
        super().renew(replica, lease_seconds)

    def renew(self, replica: str, lease_seconds: float) -> None:
        """Also takes the session lock again after a lost connection; while the database still thinks that the old
        session lives, the lease alone tells."""
        if not self._alive():
            self._database.engine.dispose()  # what else lies in the pool died with it
            self._hold("SET lock_timeout = '50ms'; SELECT pg_advisory_lock({})", replica)
        super().renew(replica, lease_seconds)

    def leave(self, replica: str) -> None:
        self._forget(replica)
        self.end()

    def end(self) -> None:
        with self._guard:
            self._drop()

    def dead(self) -> tuple[str, ...]:
        """One that hangs keeps its sessions, and inside them its row locks: they are ended, so that nobody waits for
        them. Should it wake up, it begins anew. Never its own: one that is slow to renew is not helped by that."""
        rows, held, now = self._listed()
        if hung := [id for id, until in rows if until < now and id != self._me and _number(id) in held]:
            self._end_sessions(hung)
        return tuple(id for id, until in rows if until < now or _number(id) not in held)

    def _end_sessions(self, replicas: list[str]) -> None:
        """Of the processes that hold these replicas' locks. Its own role may do that."""
        database = self._database
        numbers = [_number(id) for id in replicas]
        with database.transaction(database.begin_writing) as raw, database.translated():
            raw.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name IN (
                    SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)
                    WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND application_name LIKE 'firedoor %%'
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                    AND ((classid::bigint << 32) | objid::bigint) = ANY(%s))
                AND pid <> pg_backend_pid()""",
                (numbers,),
            )

    def _hold(self, sql: str, replica: str) -> bool:
        with self._guard, self._database.translated():
            self._drop()
            pooled = self._database.connect()
            session: Any = pooled.driver_connection
            pooled.detach()  # the pool must never hand it to anybody else
            try:
                session.execute(sql.format(_number(replica)))
            except psycopg.errors.LockNotAvailable:
                session.close()
                return False
            self._session = session
            return True

    def _alive(self) -> bool:
        if self._session is None:
            return False
        try:
            self._session.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _drop(self) -> None:
        if self._session is not None:
            with suppress(psycopg.OperationalError):  # gone is as good as let go
                self._session.execute("SELECT pg_advisory_unlock_all()")
            self._session.close()
            self._session = None

    def _held(self, raw: Any) -> set[int]:
        rows = raw.execute(
            """SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
            WHERE locktype = 'advisory' AND objsubid = 1 AND granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        ).fetchall()
        return {row[0] for row in rows}


def _number(replica: str) -> int:
    return lock_number(f"replica {replica}")


def replicas(database: Database, now: Callable[[Any], datetime]) -> Replicas:
    match database:
        case Sqlite():
            return OneProcess(database, now)
        case Postgres():
            return Peers(database, now)
        case _:
            raise TypeError(f"no replicas on {type(database).__name__}")
