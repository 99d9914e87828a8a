"""SQLite or PostgreSQL behind one face: connections, transactions, bulk inserts and what their errors mean.

Statements are written once, with `:name` parameters, and run on the raw driver.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg
from sqlalchemy import URL, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection, QueuePool

from bot.errors import ConfigError, Conflict, FiredoorError, Unavailable

Row = tuple[Any, ...]

BUSY_SECONDS = 10.0  # how long a writer waits for another one on the same SQLite file
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")


def open_database(url: str, *, read_only: bool) -> Database:
    """`sqlite:///path` or `postgresql://...`. Raises ConfigError for anything else, and for SQLite in memory."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigError(
            "store.url", "this is not a database URL.", "Use sqlite:///PATH or postgresql://..."
        ) from error
    match parsed.get_backend_name():
        case "sqlite":
            return Sqlite(parsed, read_only)
        case "postgresql" | "postgres":
            return Postgres(parsed.set(drivername="postgresql+psycopg"), read_only)
        case other:
            raise ConfigError("store.url", f"{other!r} is not supported.", "Use sqlite:///PATH or postgresql://...")


def lock_number(name: str) -> int:
    """The PostgreSQL advisory lock of a name: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(f"firedoor {name}".encode()).digest()[:8], signed=True)


class Database(ABC):
    """One database, its pool and its dialect. Raw connections are in autocommit; `begin` and `end` are explicit."""

    json_items: ClassVar[str]  # the members of the JSON list :ids, as a subquery
    claim_lock: ClassVar[str]  # so that two claims take different rows
    row_lock: ClassVar[str]  # so that what was read stays so until the end of the transaction
    begin_writing: ClassVar[str]
    begin_reading: ClassVar[str]

    def __init__(self, engine: Engine, where: str) -> None:
        self.engine, self.where = engine, where

    @abstractmethod
    def spell(self, sql: str) -> str:
        """A statement with `:name` parameters as the driver wants it."""

    @abstractmethod
    def insert(self, raw: Any, table: Table, rows: Sequence[Row], conflict: str) -> None: ...

    @abstractmethod
    def translate(self, error: Exception, *, committing: bool) -> FiredoorError | None:
        """What a driver's error means here, or None for a fault of our own."""

    def writing(self) -> AbstractContextManager[None]:
        """Held around a write transaction."""
        return nullcontext()

    def batch(self, raw: Any) -> AbstractContextManager[Any]:  # noqa: ARG002 - SQLite has no use for the connection
        """Statements inside go out together."""
        return nullcontext()

    def overwriting(self, raw: Any) -> AbstractContextManager[Any]:  # noqa: ARG002 - PostgreSQL has no such thing
        """What is deleted inside is overwritten on disk, where the database can do that."""
        return nullcontext()

    def time(self, raw: Any) -> int | None:  # noqa: ARG002 - SQLite has no clock of its own
        """The database's own time in microseconds, where it has one."""
        return None

    def connect(self) -> PoolProxiedConnection:
        return self.engine.raw_connection()

    def begin(self, statement: str) -> PoolProxiedConnection:
        """A connection with a transaction begun. One that died in the pool is replaced."""
        connection = self.connect()
        try:
            connection.driver_connection.execute(statement)  # type: ignore[union-attr]  # a checked-out one is connected
        except psycopg.OperationalError:
            connection.invalidate()
            connection.close()
            self.engine.dispose()
            connection = self.connect()
            connection.driver_connection.execute(statement)  # type: ignore[union-attr]  # as above
        except BaseException:  # whatever it was, the pool gets its connection back
            connection.close()
            raise
        return connection

    @contextmanager
    def transaction(self, statement: str) -> Iterator[Any]:
        """A raw connection inside a transaction that `statement` began: committed on a clean exit."""
        with self.translated():
            connection = self.begin(statement)
        raw: Any = connection.driver_connection
        try:
            yield raw
            with self.translated(committing=True):
                raw.execute("COMMIT")
        except BaseException:  # the caller's own errors too: nothing of theirs is committed
            self._roll_back(connection)
            raise
        finally:
            connection.close()

    def _roll_back(self, connection: PoolProxiedConnection) -> None:
        """Best effort: a connection that cannot roll back is thrown away, which does the same."""
        raw: Any = connection.driver_connection
        try:
            raw.rollback()
        except (sqlite3.Error, psycopg.Error):
            connection.invalidate()

    @contextmanager
    def translated(self, *, committing: bool = False) -> Any:
        try:
            yield
        except (sqlite3.Error, psycopg.Error, PoolTimeout) as error:
            known = self.translate(error, committing=committing)
            if known is None:
                raise
            raise known from error

    def close(self) -> None:
        self.engine.dispose()


class Sqlite(Database):
    json_items = "SELECT value FROM json_each(:ids)"
    claim_lock = ""
    row_lock = ""
    begin_writing = "BEGIN IMMEDIATE"
    begin_reading = "BEGIN"

    def __init__(self, url: URL, read_only: bool) -> None:
        if not url.database or url.database == ":memory:":
            raise ConfigError("store.url", "the record needs a file.", "Use sqlite:///PATH")
        self.path = Path(url.database)
        if read_only and not self.path.exists():
            raise ConfigError(
                str(self.path), "there is no store here.", "Start `firedoor serve` once, or check store.url."
            )
        if not read_only and not self.path.parent.is_dir():
            raise ConfigError(str(self.path), "its folder does not exist.", f"Run: mkdir -p {self.path.parent}")
        self._address = f"file:{quote(str(self.path.absolute()))}?mode={'ro' if read_only else 'rwc'}"
        self._read_only = read_only
        # Waiting here wakes up at once; SQLite's own busy handler sleeps in steps of up to 100 ms.
        self._one_writer = threading.Lock()
        engine = create_engine("sqlite://", creator=self._connect, poolclass=QueuePool, pool_use_lifo=True)
        super().__init__(engine, str(self.path))

    def _connect(self) -> sqlite3.Connection:
        raw = sqlite3.connect(
            self._address, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        raw.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
        if not self._read_only:
            try:
                _write_ahead(raw)
                raw.execute("PRAGMA synchronous = FULL")
            except BaseException:  # an interrupt too must not leave the file open
                raw.close()
                raise
        return raw

    @contextmanager
    def writing(self) -> Any:
        if not self._one_writer.acquire(timeout=BUSY_SECONDS):
            raise Unavailable("store", f"another transaction has held {self.path} for {BUSY_SECONDS:.0f} s")
        try:
            yield
        finally:
            self._one_writer.release()

    @contextmanager
    def overwriting(self, raw: Any) -> Any:
        raw.execute("PRAGMA secure_delete = ON")
        try:
            yield
        finally:
            raw.execute("PRAGMA secure_delete = OFF")

    def spell(self, sql: str) -> str:
        return sql

    def insert(self, raw: Any, table: Table, rows: Sequence[Row], conflict: str) -> None:
        raw.executemany(_sqlite_insert(table, conflict), rows)

    def translate(self, error: Exception, *, committing: bool) -> FiredoorError | None:
        match getattr(error, "sqlite_errorname", ""):
            case "SQLITE_CONSTRAINT_UNIQUE" | "SQLITE_CONSTRAINT_PRIMARYKEY":
                return Conflict(str(error))
            case str(name) if name.startswith(
                ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_CANTOPEN", "SQLITE_READONLY")
            ):
                return Unavailable("store", f"{self.path}: {error}", sent=committing)
            case _:
                return None


def _write_ahead(raw: sqlite3.Connection) -> None:
    """Switches a new file to write-ahead logging; later it is so already. SQLite's busy handler does not wait here: it
    says at once that the file is locked where two processes switch, or one switches while another writes."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                raise
        time.sleep(0.005)


class Postgres(Database):
    json_items = "SELECT value FROM json_array_elements_text(CAST(:ids AS json))"
    claim_lock = "FOR UPDATE SKIP LOCKED"
    row_lock = "FOR UPDATE"
    begin_writing = "BEGIN"
    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

    # A replica that hangs inside a transaction must not hold its row locks (the counter's, say) for long.
    SETTINGS = "SET idle_in_transaction_session_timeout = '4s'; SET lock_timeout = '10s'; SET TimeZone = 'UTC'"

    def __init__(self, url: URL, read_only: bool) -> None:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_use_lifo=True, pool_timeout=10, max_overflow=20)

        name = f"firedoor {secrets.token_hex(8)}"  # of this process: all its sessions are known by it

        @event.listens_for(engine, "connect")
        def _settle(raw: Any, record: ConnectionPoolEntry) -> None:
            record.info["pool"] = engine.pool
            settings = f"{self.SETTINGS}; SET application_name = '{name}'"
            raw.execute(settings + ("; SET default_transaction_read_only = on" if read_only else ""))

        @event.listens_for(engine, "checkin")
        def _end(_raw: Any, record: ConnectionPoolEntry) -> None:
            if record.info.get("pool") is not engine.pool:  # disposed of meanwhile: nobody would ever close it
                record.close()

        super().__init__(engine, url.render_as_string())

    def spell(self, sql: str) -> str:
        return _postgres_spelling(sql)

    def insert(self, raw: Any, table: Table, rows: Sequence[Row], conflict: str) -> None:
        names = table.columns.keys()
        values = json.dumps([dict(zip(names, row, strict=True)) for row in rows], default=_hex, ensure_ascii=False)
        raw.execute(_postgres_insert(table, conflict), (values,))

    def batch(self, raw: Any) -> AbstractContextManager[Any]:
        return raw.pipeline()  # type: ignore[no-any-return]  # psycopg.Pipeline is a context manager

    def time(self, raw: Any) -> int | None:
        row = raw.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
        return int(row[0])

    def translate(self, error: Exception, *, committing: bool) -> FiredoorError | None:
        match error:
            case (
                psycopg.errors.UniqueViolation()
                | psycopg.errors.SerializationFailure()
                | psycopg.errors.DeadlockDetected()
            ):
                return Conflict(str(error).splitlines()[0])
            case psycopg.OperationalError() | psycopg.errors.ReadOnlySqlTransaction() | PoolTimeout():
                why = (str(error) or type(error).__name__).splitlines()[0]
                return Unavailable("store", why, sent=committing)
            case psycopg.errors.IdleInTransactionSessionTimeout():
                return Unavailable("store", "this process stood still inside a transaction, which was rolled back")
            case _:
                return None


def as_list(values: Iterable[str]) -> str:
    """The `:ids` of `json_items`."""
    return json.dumps([*values])


@cache
def _sqlite_insert(table: Table, conflict: str) -> str:
    names = ", ".join(f'"{name}"' for name in table.columns.keys())  # noqa: SIM118 - a column collection, not a dict
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join("?" * len(table.columns))}) {conflict}'


@cache
def _postgres_insert(table: Table, conflict: str) -> str:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it so
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    types = ", ".join(f'"{column.name}" {column.type.compile(dialect)}' for column in table.columns)
    source = f"SELECT {names} FROM json_to_recordset(%s::json) AS given({types})"
    return f'INSERT INTO "{table.name}" ({names}) {source} {conflict}'


@cache
def _postgres_spelling(sql: str) -> str:
    return _PARAMETER.sub(r"%(\1)s", sql)


def _hex(value: Any) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    raise TypeError(f"not a column value: {value!r}")
