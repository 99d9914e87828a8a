"""Decisions wait in the outbox and are performed by one replica at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from bot.domain.decisions import Post
from bot.domain.decisions import RunAction as Run
from bot.domain.events import Verb
from bot.sandbox.clock import SimClock
from bot.store import Claim, Store

SECOND = timedelta(seconds=1)


def fill(store: Store, clock: SimClock, count: int, owner: str | None = None, wait: timedelta = 0 * SECOND) -> None:
    now = clock.now()
    with store.transaction() as tx:
        for number in range(count):
            tx.enqueue(
                Post(f"INC-1/1.{number}", "INC-1", "card"),
                stream="INC-1",
                priority=number % 2,
                owner=owner,
                lease_until=now + 3 * SECOND if owner else None,
                not_before=now + wait,
            )


def claim(store: Store, owner: str, limit: int = 100, dead: tuple[str, ...] = ()) -> tuple[Claim, ...]:
    with store.transaction() as tx:
        return tx.claim(owner, tx.now() + 3 * SECOND, limit, dead=dead)


def ids(claims: tuple[Claim, ...]) -> list[str]:
    return [claimed.decision.id for claimed in claims]


def test_a_decision_comes_back_as_it_was(store: Store, clock: SimClock) -> None:
    run = Run("INC-1/1.0", "INC-1/1.0", "INC-1", "a", "0:x", "x", "vault.revoke", Verb.RUN, {"a": [1.5]}, "vault", 2.5)
    now = clock.now()
    with store.transaction() as tx:
        tx.enqueue(run, stream="x", priority=3, owner="r-1", lease_until=now, not_before=now)
        assert tx.queued("x") == (Claim(run, "x", 1, now, now, 3, "r-1"),)
        assert tx.queued("y") == ()
        assert tx.dequeue(["INC-1/1.0", "INC-9/9.9"]) == {"INC-1/1.0"}
        assert tx.queued() == ()
        assert tx.dequeue([]) == set()


def test_the_most_urgent_go_first(store: Store, clock: SimClock) -> None:
    fill(store, clock, 4)
    assert ids(claim(store, "r-1", 2)) == ["INC-1/1.0", "INC-1/1.2"]
    assert ids(claim(store, "r-1")) == ["INC-1/1.1", "INC-1/1.3"]
    assert claim(store, "r-1") == ()


def test_claims_of_two_replicas_are_disjoint(open_store: Callable[..., Store], clock: SimClock) -> None:
    stores = {"r-1": open_store(), "r-2": open_store()}
    fill(stores["r-1"], clock, 200)
    got: dict[str, list[str]] = {"r-1": [], "r-2": []}
    barrier = threading.Barrier(2)

    def takes(owner: str) -> None:
        barrier.wait()
        while claims := claim(stores[owner], owner, 7):
            got[owner] += ids(claims)

    threads = [threading.Thread(target=takes, args=(owner,)) for owner in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got["r-1"]) + len(got["r-2"]) == 200
    assert len({*got["r-1"], *got["r-2"]}) == 200


def test_two_open_claims_do_not_wait_for_each_other(open_store: Callable[..., Store], clock: SimClock) -> None:
    one, two = open_store(), open_store()
    if not one._database.claim_lock:
        assert one._database.begin_writing == "BEGIN IMMEDIATE"  # SQLite: one writer, nothing to show
        return
    fill(one, clock, 4)
    with one.transaction() as tx, two.transaction() as other:
        first = tx.claim("r-1", clock.now() + SECOND, 2)
        second = other.claim("r-2", clock.now() + SECOND, 10)
    assert sorted(ids(first) + ids(second)) == [f"INC-1/1.{n}" for n in range(4)]


def test_a_dead_owners_claims_are_taken_over_at_once(store: Store, clock: SimClock) -> None:
    fill(store, clock, 2, owner="r-1")
    assert claim(store, "r-2") == ()
    taken = claim(store, "r-2", dead=("r-0", "r-1"))
    assert [(c.claims, c.owner) for c in taken] == [(2, "r-2"), (2, "r-2")]


def test_a_hung_owner_loses_its_claims_with_its_lease(store: Store, clock: SimClock) -> None:
    fill(store, clock, 1, owner="r-1")
    clock.forward(seconds=2)
    with store.transaction() as tx:
        tx.renew_leases("r-1", clock.now() + 3 * SECOND)
    clock.forward(seconds=2)
    assert claim(store, "r-2") == ()
    clock.forward(seconds=2)
    assert ids(claim(store, "r-2")) == ["INC-1/1.0"]
    with store.transaction() as tx:
        tx.renew_leases("r-1", clock.now() + 60 * SECOND)  # the hung one wakes up: not its own any more
        assert tx.queued()[0].owner == "r-2"


def test_a_postponed_decision_waits_and_its_claim_does_not_count(store: Store, clock: SimClock) -> None:
    fill(store, clock, 1, owner="r-1")
    later = clock.now() + 30 * SECOND
    with store.transaction() as tx:
        assert tx.next_queued_at() is None
        tx.postpone("INC-1/1.0", later, "r-1")
        assert tx.queued()[0] == Claim(Post("INC-1/1.0", "INC-1", "card"), "INC-1", 1, clock.now(), later, 0, "r-1")
        tx.postpone("INC-1/1.0", later, holder="r-2")  # it is not theirs
        assert tx.holder("INC-1/1.0") == "r-1"
        tx.postpone("INC-1/1.0", later, holder="r-1")
        assert tx.next_queued_at() == later
    assert claim(store, "r-2") == ()
    clock.forward(seconds=30)
    assert [c.claims for c in claim(store, "r-2")] == [1]


def test_a_leaving_replica_lets_go(store: Store, clock: SimClock) -> None:
    fill(store, clock, 2, owner="r-1")
    with store.transaction() as tx:
        tx.disown("r-1")
        assert tx.next_queued_at() == clock.now()
    assert [c.claims for c in claim(store, "r-2")] == [2, 2]


@pytest.mark.parametrize("rolled_back", [True, False])
def test_the_outbox_is_written_with_its_entry_or_not_at_all(store: Store, clock: SimClock, rolled_back: bool) -> None:
    def enqueues() -> None:
        with store.transaction() as tx:
            now: datetime = clock.now()
            post = Post("INC-1/1.0", "INC-1", "card")
            tx.enqueue(post, stream="INC-1", priority=0, owner=None, lease_until=None, not_before=now)
            tx.flush()
            if rolled_back:
                raise LookupError

    if rolled_back:
        with pytest.raises(LookupError):
            enqueues()
    else:
        enqueues()
    assert len(claim(store, "r-1")) == (0 if rolled_back else 1)
