"""What a door keeps to say again, and how much still waits to be done."""

from __future__ import annotations

from datetime import timedelta

from bot.sandbox.clock import SimClock
from bot.store import Store


def test_an_answer_is_kept_with_the_first_and_recalled_until_it_expires(store: Store, clock: SimClock):
    with store.transaction() as tx:
        assert tx.recall("m-1", tx.now()) is None
        assert tx.seen("m-1", tx.now(), tx.now() + timedelta(minutes=5)) is None
        tx.answered("m-1", '["INC-1"]')
    with store.transaction() as tx:
        assert tx.recall("m-1", tx.now()) == '["INC-1"]'
        assert tx.seen("m-1", tx.now(), tx.now() + timedelta(minutes=5), "another") == '["INC-1"]'
    clock.forward(minutes=5)
    with store.reading() as tx:
        assert tx.recall("m-1", tx.now()) is None


def test_an_empty_outbox_has_no_oldest(store: Store):
    with store.reading() as tx:
        assert tx.backlog() == (0, None)
