"""Brings a database's tables up to date, once, however many processes start."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

import psycopg
from sqlalchemy import Engine, NullPool, create_engine, event, text

from bot.errors import ConfigError
from bot.store.database import Database, Postgres, lock_number
from bot.store.tables import HEAD

MIGRATIONS = "bot.store:migrations"


def prepare(database: Database, owner: Mapping[str, str], *, read_only: bool) -> None:
    """Migrates where needed (never when `read_only`) and holds the store to its owner: `install` and `mode`."""
    if (found := _version(database)) != HEAD:
        if read_only:
            raise ConfigError(
                database.where,
                f"its tables are of version {found or 'none'}, this release reads {HEAD}.",
                "Start `firedoor serve` of this release once, or use the release that wrote it.",
            )
        _migrate(database, found)
    connection = database.connect()
    try:
        raw: Any = connection.driver_connection
        for name, value in owner.items():
            if not read_only:
                claim = "INSERT INTO meta (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING"
                raw.execute(database.spell(claim), {"name": name, "value": value})
            row = raw.execute(database.spell("SELECT value FROM meta WHERE name = :name"), {"name": name}).fetchone()
            if row is None or row[0] != value:
                raise ConfigError(
                    database.where,
                    f"this store belongs to {name} {row[0] if row else ''!r}, not {value!r}.",
                    "Give each installation and mode a store of its own.",
                )
    finally:
        connection.close()


def _version(database: Database) -> str | None:
    connection = database.connect()
    try:
        raw: Any = connection.driver_connection
        row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(row[0]) if row else None
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable) as error:
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorname != "SQLITE_ERROR":
            raise
        return None
    finally:
        connection.close()


def _migrate(database: Database, found: str | None) -> None:
    # Only when there is something to do: importing Alembic costs a third of a second.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    engine = _engine(database)
    try:
        with engine.begin() as connection:
            if isinstance(database, Postgres):
                connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": lock_number("migrations")})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            database.where,
            f"its tables are of version {found}, which this release does not know.",
            "Use the release that wrote it.",
        ) from error
    finally:
        engine.dispose()


def _engine(database: Database) -> Engine:
    """One that runs a migration as one transaction: by itself, SQLite's driver commits before each table."""
    if isinstance(database, Postgres):
        return create_engine(database.engine.url, poolclass=NullPool)
    engine = create_engine("sqlite://", creator=database.engine.raw_connection, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
