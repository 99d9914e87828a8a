"""Numbers, concurrency groups and runs, and who serves the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from bot.errors import ConfigError, Conflict
from bot.sandbox.clock import SimClock
from bot.store import Store
from bot.store.database import Sqlite

MINUTE = timedelta(minutes=1)


def test_numbers_have_no_gaps(store: Store) -> None:
    with store.transaction() as tx:
        assert [tx.next_number("INC"), tx.next_number("INC"), tx.next_number("q", 5)] == [1, 2, 1]
    with store.transaction() as tx:
        assert [tx.next_number("INC", 3), tx.next_number("INC"), tx.next_number("q")] == [3, 6, 6]


def test_a_group_has_one_holder_and_wakes_the_longest_waiter(store: Store, clock: SimClock) -> None:
    now = clock.now()
    with store.transaction() as tx:
        assert tx.take_group("agent-7", "INC-1", "restore", now)
        assert tx.take_group("agent-7", "INC-1", "restore", now + MINUTE)
        assert not tx.take_group("agent-7", "INC-3", "restore", now + 2 * MINUTE)
        assert not tx.take_group("agent-7", "INC-2", "restore", now + MINUTE)
        assert not tx.take_group("agent-7", "INC-4", "restore", now + 3 * MINUTE)
        assert tx.take_group("agent-8", "INC-4", "other", now)
    with store.transaction() as tx:
        assert tx.end_group("INC-3", "restore") is None  # a waiter gives up
        assert tx.end_group("INC-1", "restore") == ("INC-2", "restore", "agent-7")
        assert tx.take_group("agent-7", "INC-2", "restore", now)
        assert tx.end_group("INC-1", "restore") is None
        assert tx.end_group("INC-2", "restore") == ("INC-4", "restore", "agent-7")
        assert tx.end_group("INC-4", "restore") is None
        assert tx.take_group("agent-7", "INC-5", "restore", now)


def test_of_many_threads_one_holds_and_each_gets_its_turn(open_store: Callable[..., Store], clock: SimClock) -> None:
    stores = [open_store() for _ in range(3)]
    barrier, held = threading.Barrier(3), []

    def takes(number: int) -> None:
        barrier.wait()
        with stores[number].transaction() as tx:
            if tx.take_group("g", f"INC-{number}", "s", clock.now()):
                held.append(f"INC-{number}")

    threads = [threading.Thread(target=takes, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    for _ in range(2):
        with stores[0].transaction() as tx:
            following = tx.end_group(held[-1], "s")
            assert following
            held.append(following[0])
    assert sorted(held) == ["INC-0", "INC-1", "INC-2"]


def test_runs_are_counted_since_a_moment(store: Store, clock: SimClock) -> None:
    now = clock.now()
    with store.transaction() as tx:
        tx.lock("leak/agent-7")
        for minute in range(3):
            tx.add_run("leak/agent-7", "INC-1", now + minute * MINUTE)
        tx.add_run("leak/agent-8", "INC-1", now)
        assert tx.count_runs("leak/agent-7", now) == 3
        assert tx.count_runs("leak/agent-7", now + MINUTE) == 2
        assert tx.count_runs("leak/agent-9", now) == 0


def test_a_lock_keeps_others_out_until_the_end(open_store: Callable[..., Store], clock: SimClock) -> None:
    stores, barrier = (open_store(), open_store()), threading.Barrier(2)
    granted = []

    def runs(number: int) -> None:
        barrier.wait()
        with stores[number].transaction() as tx:
            tx.lock("one run only")
            if tx.count_runs("k", clock.now()) == 0:
                tx.add_run("k", f"INC-{number}", clock.now())
                granted.append(number)

    threads = [threading.Thread(target=runs, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 1


def test_a_second_server_is_refused(open_store: Callable[..., Store]) -> None:
    first, second = open_store(), open_store()
    first.join("r-1", 3)
    first.join("r-1", 3)  # its own lock is no obstacle
    if isinstance(second._database, Sqlite):
        with pytest.raises(ConfigError, match=r"firedoor\.db: another Firedoor process serves this file"):
            second.join("r-2", 3)
    else:
        with pytest.raises(ConfigError, match="'r-1' serves this store already"):
            second.join("r-1", 3)
    first.leave("r-1")
    second.join("r-1", 3)
    second.close()
    first.join("r-1", 3)


def test_a_killed_replica_is_dead_at_once_and_a_hung_one_after_its_lease(
    open_store: Callable[..., Store], clock: SimClock
) -> None:
    killed, alive = open_store(), open_store()
    killed.join("r-1", 3)
    killed.renew("r-1", 3)
    assert alive.dead_replicas() == ()
    killed.close()  # as the end of its process does
    alive.join("r-2", 3)
    assert alive.dead_replicas() == ("r-1",)
    if not isinstance(alive._database, Sqlite):
        hung = open_store()
        hung.join("r-3", 3)
        assert alive.dead_replicas() == ("r-1",)
        clock.forward(seconds=4)
        alive.renew("r-2", 3)
        assert alive.dead_replicas() == ("r-1", "r-3")
    clock.forward(hours=48)
    alive.leave("r-2")
    assert alive.dead_replicas() == ()


def test_a_lost_session_lock_is_taken_again(open_store: Callable[..., Store]) -> None:
    store, other = open_store(), open_store()
    store.join("r-1", 3)
    if isinstance(store._database, Sqlite):
        return  # a file lock is not lost
    with other.transaction() as tx:
        tx._run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    assert other.dead_replicas() == ("r-1",)
    store.renew("r-1", 3)
    assert other.dead_replicas() == ()


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_who_is_slow_to_renew_its_lease_ends_no_session_of_its_own(
    open_store: Callable[..., Store], clock: SimClock
) -> None:
    store = open_store()
    store.join("r-1", 3)
    clock.forward(seconds=4)
    with store.reading() as tx:
        assert store.dead_replicas() == ("r-1",)
        assert tx.backlog()[0] == 0  # this connection lives


def test_a_connection_that_died_in_the_pool_is_replaced(open_store: Callable[..., Store]) -> None:
    store, other = open_store(), open_store()
    if isinstance(store._database, Sqlite):
        return  # nothing to lose
    with store.transaction() as tx:
        tx.next_number("INC")
    with other.transaction() as tx:
        tx._run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
    with store.transaction() as tx:
        assert tx.next_number("INC") == 2


def test_numbers_of_two_writers_never_meet(open_store: Callable[..., Store]) -> None:
    stores, taken = [open_store(), open_store()], []

    def takes(store: Store) -> None:
        for _ in range(10):
            try:
                with store.transaction() as tx:
                    taken.append(tx.next_number("INC"))
            except Conflict:
                pytest.fail("a counter waits, it does not conflict")

    threads = [threading.Thread(target=takes, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 21))
