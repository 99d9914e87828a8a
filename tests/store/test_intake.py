"""Alerts, repeats, bodies seen before, artefacts and their erasure."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.events import TextRef
from bot.errors import RecordBroken
from bot.sandbox.clock import SimClock
from bot.store import DedupHit, Quarantined, RawAlert, Repeats, Store
from bot.store.database import Sqlite
from bot.store.session import micros

MINUTE = timedelta(minutes=1)


def test_a_repeat_counts_inside_its_window_only(store: Store, clock: SimClock) -> None:
    start, end = clock.now(), clock.now() + 10 * MINUTE
    with store.transaction() as tx:
        assert tx.repeat("k", start) is None
        tx.remember("k", "INC-1", start, end)
        assert tx.repeat("k", start + MINUTE) == DedupHit("INC-1", 2, start, end)
    with store.transaction() as tx:
        assert tx.repeat("k", start + 2 * MINUTE, 5) == DedupHit("INC-1", 7, start, end)
        assert tx.repeat("k", end) is None
        assert tx.repeat("other", start) is None


def test_repeats_are_told_of_once(store: Store, clock: SimClock) -> None:
    start, end = clock.now(), clock.now() + 10 * MINUTE
    with store.transaction() as tx:
        tx.remember("k", "INC-1", start, end)
        assert tx.unreported(end) == ()
        tx.repeat("k", start + MINUTE, 3)
        tx.repeat("k", start + 2 * MINUTE)
        assert tx.unreported(start) == ()
    with store.transaction() as tx:
        assert tx.unreported(start + MINUTE) == (Repeats("k", "INC-1", 4, start + MINUTE, start + 2 * MINUTE, 5),)
        tx.mark_reported("k", start + 2 * MINUTE)
        assert tx.unreported(end) == ()
        tx.repeat("k", start + 3 * MINUTE)
        assert tx.unreported(end) == (Repeats("k", "INC-1", 1, start + 3 * MINUTE, start + 3 * MINUTE, 6),)


def test_no_count_is_lost_when_a_window_or_an_incident_ends(store: Store, clock: SimClock) -> None:
    start, end = clock.now(), clock.now() + 10 * MINUTE
    with store.transaction() as tx:
        tx.remember("k", "INC-1", start, end)
        tx.remember("quiet", "INC-1", start, end)
        tx.repeat("k", start + MINUTE, 2)
        tx.remember("k", "INC-1", end, end + MINUTE)  # its window ended: news again
        tx.forget("INC-1")
        assert tx.repeat("k", end) is None
        tx.remember("k", "INC-2", end, end + MINUTE)
        assert tx.repeat("k", end) == DedupHit("INC-2", 2, end, end + MINUTE)
        assert tx.unreported(start + MINUTE) == (Repeats("k", "INC-1", 2, start + MINUTE, start + MINUTE, 4),)
        tx.mark_reported("k", end, "INC-1")
        assert [(r.incident, r.count) for r in tx.unreported(end)] == [("INC-2", 1)]


def test_another_transaction_cannot_tell_of_them_too(open_store: Callable[..., Store], clock: SimClock) -> None:
    one, two = open_store(), open_store()
    start = clock.now()
    with one.transaction() as tx:
        tx.remember("k", "INC-1", start, start + MINUTE)
        tx.repeat("k", start)
    if isinstance(one._database, Sqlite):
        return  # one writer at a time
    with one.transaction() as tx, two.transaction() as other:
        assert len(tx.unreported(start)) == 1
        assert other.unreported(start) == ()


def test_a_body_seen_before_gets_its_first_answer_until_it_expires(store: Store, clock: SimClock) -> None:
    now, end = clock.now(), clock.now() + MINUTE
    with store.transaction() as tx:
        assert tx.seen("s-1", now, end, "INC-1") is None
        assert tx.seen("s-1", now, end, "INC-2") == "INC-1"
    with store.transaction() as tx:
        assert tx.seen("s-1", now, end) == "INC-1"
        assert tx.seen("s-1", end, end + MINUTE, "INC-3") is None
        assert tx.seen("s-1", end, end + MINUTE) == "INC-3"


def test_expired_ones_are_swept(store: Store, clock: SimClock) -> None:
    now = clock.now()
    with store.transaction() as tx:
        for number in range(50):
            tx.seen(f"old-{number}", now, now + MINUTE)
        for number in range(1000):
            tx.seen(f"new-{number}", now + 2 * MINUTE, now + 3 * MINUTE)
        assert tx._row("SELECT count(*) FROM seen WHERE expires <= :now", {"now": micros(now + 2 * MINUTE)}) == (0,)


def test_alerts_are_kept_once(store: Store, clock: SimClock) -> None:
    now = clock.now()
    with store.transaction() as tx:
        tx.save_alert("a-1", "falco", "k", "INC-1", now, b'{"a": 1}', uid="f-\x001")
        assert tx.has_alert("falco", "f-\x001")
        tx.save_alert("a-1", "falco", "k", "INC-1", now, b"again")
        tx.save_alert("a-2", "falco", "k", None, now, b"{}")
    with store.transaction() as tx:
        tx.save_alert("a-1", "falco", "k", "INC-1", now, b"again")
        tx.save_alert("a-0", "falco", "k", "INC-1", now + MINUTE, b"\x00\xff")
        assert tx.alerts("INC-1") == (
            RawAlert("a-1", "falco", "k", now, b'{"a": 1}'),
            RawAlert("a-0", "falco", "k", now + MINUTE, b"\x00\xff"),
        )
        assert tx.has_alert("falco", "a-2")
        assert not tx.has_alert("opa", "a-2")


def test_texts_are_encrypted_and_erased_per_incident(store: Store, clock: SimClock, tmp_path: Path) -> None:
    with store.transaction() as tx:
        gone = tx.put_text("INC-1", "the customer's name")
        assert tx.get_text(gone) == b"the customer's name"
        tx.save_alert("a-1", "falco", "k", "INC-1", clock.now(), b"personal")
        kept = tx.put_text("INC-2", b"\x00binary")
    with store.transaction() as tx:
        later = tx.put_text("INC-1", "a second key")
        again = tx.put_text("INC-2", b"\x00binary")
    assert again.digest != kept.digest  # salted
    with store.transaction() as tx:
        tx.erase("INC-1")
    with store.reading() as tx:
        assert tx.get_text(gone) is None
        assert tx.get_text(later) is None
        assert [alert.body for alert in tx.alerts("INC-1")] == [None]
        assert tx.get_text(kept) == b"\x00binary"
    for file in tmp_path.glob("firedoor.db*"):
        assert b"customer's name" not in file.read_bytes()
    with store.transaction() as tx:
        assert tx.get_text(tx.put_text("INC-1", "after")) == b"after"


def test_a_text_that_is_missing_or_another_is_noticed(store: Store) -> None:
    with store.transaction() as tx:
        ref = tx.put_text("INC-1", "a")
        with pytest.raises(RecordBroken, match="not what the record says"):
            tx.get_text(TextRef(ref.artefact, "0" * 64))
        with pytest.raises(RecordBroken, match="is missing"):
            tx.get_text(TextRef("none", "0" * 64))
        tx._run("UPDATE texts SET sealed = salt")
        with pytest.raises(RecordBroken, match="does not open"):
            tx.get_text(ref)


def test_pins_are_kept_by_their_hash(store: Store) -> None:
    with store.transaction() as tx:
        assert tx.pinned("h") is None
        tx.pin("h", "playbook", "text")
        assert tx.pinned("h") == "text"
    with store.transaction() as tx:
        tx.pin("h", "playbook", "text")
    with store.reading() as tx:
        assert tx.pinned("h") == "text"


def test_quarantine(store: Store, clock: SimClock) -> None:
    with store.transaction() as tx:
        tx.quarantine("falco", "no \x00 rule", b"\x00{", clock.now(), "q-1")
        tx.quarantine("falco", "again", b"", clock.now(), "q-1")
    with store.reading() as tx:
        assert tx.quarantined() == (Quarantined("q-1", "falco", "no � rule", clock.now(), b"\x00{"),)


def test_nothing_personal_lies_open_in_the_file(store: Store, clock: SimClock, tmp_path: Path) -> None:
    with store.transaction() as tx:
        tx.quarantine("falco", "no rule", b"marker-in-quarantine", clock.now(), "q-1")
        tx.save_alert("a-1", "falco", "k", None, clock.now(), b"marker-in-alert")
    if isinstance(store._database, Sqlite):
        with sqlite3.connect(tmp_path / "firedoor.db") as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.close()
        assert b"marker-in-" not in (tmp_path / "firedoor.db").read_bytes()
    with store.reading() as tx:
        assert tx._rows("SELECT id FROM alerts WHERE sealed IS NOT NULL") == [("a-1",)]
