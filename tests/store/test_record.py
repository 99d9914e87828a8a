"""Entries appended by several writers, read back verified, and every way of tampering found."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bot.domain.decisions import Post
from bot.domain.events import Acknowledged, ActionSettled, Unacknowledged, Verb
from bot.domain.outcome import Done, Grade
from bot.errors import ConfigError, Conflict, FutureEntry, RecordBroken
from bot.sandbox.clock import SimClock
from bot.store import Head, Signer, Store, StreamRow, Transaction, codec, schema, seal, tables
from bot.store.database import Sqlite, open_database

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ACK = Acknowledged("p-1", "slack")


def write(store: Store, sql: str, *values: Any) -> None:
    """Somebody with the database's password, past the store."""
    database = store._database
    if isinstance(database, Sqlite):
        with sqlite3.connect(database.path, isolation_level=None) as raw:
            raw.execute(sql, values)
        raw.close()
        return
    url = database.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.replace("?", "%s"), values)


def filled(store: Store, count: int = 3) -> None:
    with store.transaction() as tx:
        for version in range(1, count + 1):
            tx.append("INC-1", version, NOON, ACK, ())
        tx.save_stream(StreamRow("INC-1", "incident", count, None, True))


def test_what_was_appended_is_read_back(store: Store) -> None:
    settled = ActionSettled("INC-1/1.0", "shadow", "0:agent:7", Verb.RUN, Done(Grade.EFFECT, {"seen": ["a"], "n": 1.5}))
    post = Post("INC-1/2.0", "INC-1", "card")
    with store.transaction() as tx:
        assert tx.head("INC-1") is None
        first = tx.append("INC-1", 1, NOON, ACK, ())
        second = tx.append("INC-1", 2, NOON + timedelta(microseconds=1), settled, (post,), first.digest)
        assert tx.head("INC-1") == Head(2, second.at, second.digest)
        assert tx.read("INC-1") == (first, second)
    with store.reading() as tx:
        assert tx.read("INC-1") == (first, second)
        assert tx.read("INC-1", after=1) == (second,)
        assert tx.read("INC-1", after=2) == ()
        assert tx.read("INC-9") == ()
        assert tx.head("INC-1") == Head(2, second.at, second.digest)
    assert store.verify("INC-1") == 2


def test_of_two_transactions_with_one_version_the_first_wins(open_store: Callable[..., Store]) -> None:
    ours, theirs = open_store(), open_store()
    with ours.transaction() as tx:
        head = tx.append("INC-1", 1, NOON, ACK, ())
    with theirs.transaction() as tx:
        tx.append("INC-1", 2, NOON, ACK, (), head.digest)
    with pytest.raises(Conflict), ours.transaction() as tx:  # noqa: PT012 - the commit conflicts
        tx.append("INC-1", 2, NOON, Unacknowledged("p-2", "cli"), (), head.digest)
        tx.append("INC-2", 1, NOON, ACK, ())
    with ours.reading() as tx:
        assert [entry.event for entry in tx.read("INC-1")] == [ACK, ACK]
        assert tx.read("INC-2") == ()


def test_a_version_that_leaves_a_gap_is_a_conflict(store: Store) -> None:
    filled(store, 1)
    with pytest.raises(Conflict, match="stands at 1"), store.transaction() as tx:
        tx.append("INC-1", 3, NOON, ACK, ())


def test_an_error_inside_rolls_everything_back(store: Store) -> None:
    def fails(tx: Transaction) -> None:
        tx.append("INC-1", 1, NOON, ACK, ())
        assert tx.next_number("INC") == 1
        tx.flush()
        raise LookupError

    with pytest.raises(LookupError), store.transaction() as tx:
        fails(tx)
    with store.transaction() as tx:
        assert tx.read("INC-1") == ()
        assert tx.next_number("INC") == 1


def test_a_reading_transaction_refuses_to_write(store: Store) -> None:
    with store.reading() as tx, pytest.raises(RuntimeError, match="only reads"):
        tx.append("INC-1", 1, NOON, ACK, ())


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("UPDATE entries SET body = replace(body, 'p-1', 'p-2') WHERE version = 2", "INC-1/2: the digest"),
        ("UPDATE entries SET digest = 'x' WHERE version = 2", "INC-1/2: the digest"),
        (
            "UPDATE entries SET signature = (SELECT signature FROM entries WHERE version = 1) WHERE version = 2",
            "INC-1/2: the signature",
        ),
        ("UPDATE entries SET key_id = 'x' WHERE version = 2", "INC-1/2: it is signed with key x, which is not trusted"),
        ("UPDATE entries SET at = at + 1 WHERE version = 2", "INC-1/2: the signed bytes say 2026"),
        ("UPDATE entries SET type = 'Erased' WHERE version = 2", "INC-1/2: the signed bytes say type"),
        ("UPDATE entries SET version = 4 WHERE version = 3", "INC-1/3: the entry is missing"),
        ("DELETE FROM entries WHERE version = 1", "INC-1/1: the entry is missing"),
        ("DELETE FROM entries WHERE version = 2", "INC-1/2: the entry is missing"),
        ("DELETE FROM entries WHERE version = 3", "INC-1/3: the entry is missing, the stream went up to 3"),
        ("DELETE FROM entries", "INC-1/1: the entry is missing, the stream went up to 3"),
    ],
)
def test_tampering_is_found(store: Store, sql: str, fault: str) -> None:
    filled(store)
    write(store, sql)
    with pytest.raises(RecordBroken, match=fault):
        store.verify("INC-1")


def forged(store: Store, signer: Signer, version: int = 2, **changes: Any) -> None:
    """Replaces an entry by one that is well signed, and says something else."""
    with store.reading() as tx:
        previous = tx.read("INC-1")[version - 2].digest
    fields = codec.encode(ACK, ()) | {
        "install": "test", "epoch": 1, "mode": "sandbox", "stream": "INC-1", "version": version,
        "at": codec.time_text(NOON), "rules": 1, "previous": previous,
    }  # fmt: skip
    body = seal.canonical(fields | changes)
    write(
        store,
        "UPDATE entries SET body = ?, digest = ?, signature = ?, type = ?, schema = ? WHERE version = ?",
        body.decode(),
        seal.digest(body),
        signer.sign(body),
        (fields | changes)["type"],
        (fields | changes)["schema"],
        version,
    )


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"previous": "0" * 64}, "INC-1/2: the chain is broken"),
        ({"stream": "INC-2"}, "INC-1/2: the signed bytes say stream 'INC-2'"),
        ({"mode": "live"}, "INC-1/2: the signed bytes say mode 'live', not 'sandbox'"),
        ({"install": "other"}, "INC-1/2: the signed bytes say install 'other'"),
        ({"event": {"by": "p-2", "via": "cli"}}, "INC-1/3: the chain is broken"),
    ],
)
def test_a_signed_entry_in_the_wrong_place_is_found(
    store: Store, signer: Signer, changes: dict[str, Any], fault: str
) -> None:
    filled(store)
    forged(store, signer, **changes)
    with pytest.raises(RecordBroken, match=fault):
        store.verify("INC-1")


def test_an_entry_of_a_newer_release_is_told_apart(store: Store, signer: Signer) -> None:
    filled(store, 2)
    forged(store, signer, type="Adjourned")
    with pytest.raises(FutureEntry, match="INC-1/2: 'Adjourned'"):
        store.verify("INC-1")


def test_the_chain_is_checked_from_the_middle_too(store: Store, signer: Signer) -> None:
    filled(store)
    forged(store, signer, version=3, previous="0" * 64)
    with store.reading() as tx, pytest.raises(RecordBroken, match="INC-1/3: the chain"):
        tx.read("INC-1", after=2)


def test_a_record_is_read_with_its_own_key_only(open_store: Callable[..., Store]) -> None:
    filled(open_store())
    with pytest.raises(RecordBroken, match="not trusted here"):
        open_store(signer=Signer.fresh()).verify("INC-1")


def test_a_store_belongs_to_one_installation_and_mode(open_store: Callable[..., Store]) -> None:
    open_store()
    with pytest.raises(ConfigError, match="belongs to mode 'sandbox', not 'live'"):
        open_store(mode="live")
    with pytest.raises(ConfigError, match="belongs to install 'test', not 'other'"):
        open_store(install="other")


def test_a_raised_epoch_reads_what_came_before(open_store: Callable[..., Store]) -> None:
    filled(open_store(), 1)
    restored = open_store(epoch=2)
    with restored.transaction() as tx:
        tx.append("INC-1", 2, NOON, ACK, ())
    assert restored.verify("INC-1") == 2


def test_open_key_is_taken_once_of_two_threads(open_store: Callable[..., Store]) -> None:
    stores = (open_store(), open_store())
    barrier, outcomes = threading.Barrier(2), []

    def opens(number: int) -> None:
        barrier.wait()
        try:
            with stores[number].transaction() as tx:
                tx.append(f"INC-{number}", 1, NOON, ACK, ())
                tx.take_open_key("agent-7/leak", f"INC-{number}")
            outcomes.append(f"INC-{number}")
        except Conflict:
            outcomes.append("conflict")

    threads = [threading.Thread(target=opens, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = set(outcomes) - {"conflict"}
    assert "conflict" in outcomes
    with stores[0].transaction() as tx:
        assert tx.open_key("agent-7/leak") == winner
        assert [len(tx.read(f"INC-{n}")) for n in range(2)] == [int(winner == f"INC-{n}") for n in range(2)]
        tx.drop_open_keys(winner)
        assert tx.open_key("agent-7/leak") is None
        tx.take_open_key("agent-7/leak", "INC-3")
        assert tx.open_key("agent-7/leak") == "INC-3"
        with pytest.raises(Conflict):
            tx.take_open_key("agent-7/leak", "INC-4")


def test_streams_and_what_is_due(store: Store, clock: SimClock) -> None:
    def row(number: int, *, open: bool = True, kind: str = "incident", due: int | None = None) -> StreamRow:
        at = None if due is None else NOON + timedelta(minutes=due)
        return StreamRow(f"INC-{number}", kind, 1, at, open, {"title": "a"})

    with store.transaction() as tx:
        for number, due in ((9, 5), (10, 1), (2, None)):
            tx.save_stream(row(number, due=due))
        tx.save_stream(row(50, kind="target"))
    clock.forward(seconds=1)
    with store.transaction() as tx:
        tx.save_stream(row(1, due=3))
        tx.save_stream(row(9, open=False, due=7))
        tx.save_stream(row(9, open=False, due=4))
    with store.reading() as tx:
        assert [r.stream for r in tx.streams("incident")] == ["INC-1", "INC-10", "INC-9", "INC-2"]
        assert [r.stream for r in tx.streams("incident", open=True, newest_first=False)] == ["INC-2", "INC-10", "INC-1"]
        assert tx.streams("incident", open=False) == (row(9, open=False, due=4),)
        assert [r.stream for r in tx.streams(limit=2)] == ["INC-1", "INC-50"]
        minute = timedelta(minutes=1)
        assert tx.due(NOON + 3 * minute, 10) == (("INC-10", NOON + minute), ("INC-1", NOON + 3 * minute))
        assert tx.due(NOON + 30 * minute, 1) == (("INC-10", NOON + minute),)


def test_read_only_neither_writes_nor_migrates(open_store: Callable[..., Store]) -> None:
    filled(open_store())
    reader = open_store(read_only=True)
    assert reader.verify("INC-1") == 3
    with pytest.raises(RuntimeError, match="read only"), reader.transaction():
        pytest.fail("it began")


def test_read_only_needs_a_store(tmp_path: Path, clock: SimClock) -> None:
    path = tmp_path / "none.db"

    def opened() -> None:
        Store.open(
            f"sqlite:///{path}",
            install="test", mode="live", signer=Signer.fresh(), master_key=bytes(32), clock=clock, read_only=True,
        )  # fmt: skip

    with pytest.raises(ConfigError, match="there is no store here"):
        opened()
    sqlite3.connect(path).close()
    with pytest.raises(ConfigError, match="of version none"):
        opened()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://host/db", "nonsense", "sqlite:////no/such/x"]
)
def test_a_url_that_cannot_hold_a_record_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        open_database(url, read_only=False)


def test_tables_are_what_the_migrations_make(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    with schema._engine(store._database).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    config = Config()
    config.set_main_option("script_location", schema.MIGRATIONS)
    assert ScriptDirectory.from_config(config).get_heads() == [tables.HEAD]


def test_a_newer_releases_tables_are_refused(open_store: Callable[..., Store]) -> None:
    write(open_store(), "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="of version 9999"):
        open_store()


def test_two_processes_that_start_together_migrate_once(tmp_path: Path, clock: SimClock) -> None:
    failures: list[BaseException] = []

    def opens() -> None:
        try:
            Store.open(
                f"sqlite:///{tmp_path}/new.db",
                install="test", mode="live", signer=Signer.fresh(), master_key=bytes(32), clock=clock,
            ).close()  # fmt: skip
        except Exception as error:  # whatever it is fails the test below
            failures.append(error)

    threads = [threading.Thread(target=opens) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_new_file_that_another_process_is_writing_is_waited_for(tmp_path: Path, clock: SimClock) -> None:
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE theirs (id)")
    end = threading.Timer(0.2, other.execute, ("COMMIT",))
    end.start()
    url = f"sqlite:///{tmp_path}/new.db"
    Store.open(url, install="test", mode="live", signer=Signer.fresh(), master_key=bytes(32), clock=clock).close()
    end.join()
    other.close()


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_connection_that_is_out_when_the_pool_ends_is_closed_when_it_comes_back(store_url: str) -> None:
    database = open_database(store_url, read_only=False)
    with database.transaction("BEGIN") as raw:
        database.close()
    assert raw.closed


def test_postgresql_time_is_the_databases(open_store: Callable[..., Store], clock: SimClock) -> None:
    store = open_store(virtual=False)
    with store.reading() as tx:
        now = tx.now()
    if isinstance(store._database, Sqlite):
        assert now == clock.now() == store.database_now()
    else:
        assert now.year >= 2025
        clock.forward(seconds=2)  # within the refresh the process clock carries it on
        with store.reading() as tx:
            assert tx.now() == now + timedelta(seconds=2)
        assert abs(store.database_now() - now) < timedelta(minutes=1)
