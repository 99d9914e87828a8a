"""Alerts from a queue: deleted only after the commit of what they said."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.sqs import Message
from bot.errors import Denied, Unavailable
from bot.web import queues
from bot.web.queues import QueueReader, Queues
from tests.web.desk import Desk, make_desk

EVENT = json.loads((Path(__file__).parents[1] / "sources/payloads/guardduty_event.json").read_text())


class SimQueue:
    """adapters.sqs.Queue in memory: what is received is out of others' hands until it is deleted or handed back."""

    def __init__(self, *bodies: str) -> None:
        self.messages = [Message(f"m-{n}", f"r-{n}-1", body) for n, body in enumerate(bodies)]
        self.in_hand: dict[str, Message] = {}
        self.deletes = True
        self.fault: Exception | None = None
        self.arrived = threading.Condition()

    def receive(self, max: int = 10, wait: int = 20) -> tuple[Message, ...]:
        with self.arrived:
            if self.fault:
                raise self.fault
            if not self.messages and wait:
                self.arrived.wait(0.02)
            taken, self.messages = self.messages[:max], self.messages[max:]
            self.in_hand |= {message.receipt: message for message in taken}
            return tuple(taken)

    def delete(self, receipts: Sequence[str]) -> tuple[str, ...]:
        if not self.deletes:
            return tuple(receipts)
        for receipt in receipts:
            del self.in_hand[receipt]
        return ()

    def extend(self, receipts: Sequence[str], seconds: int) -> tuple[str, ...]:
        assert seconds == 0
        self.time_out(receipts)
        return ()

    def time_out(self, receipts: Sequence[str] = ()) -> None:
        """They are handed out again, under another receipt."""
        for receipt in receipts or [*self.in_hand]:
            message = self.in_hand.pop(receipt)
            self.messages.append(replace(message, receipt=f"{message.receipt}+"))

    @property
    def is_empty(self) -> bool:
        return not self.messages and not self.in_hand


def test_a_finding_in_its_envelope_opens_an_incident_and_is_deleted(desk: Desk):
    queue = SimQueue(json.dumps(EVENT))
    assert _reader(desk, queue).poll() == 1
    assert queue.is_empty
    assert desk.incident("INC-1").alert.product == "guardduty"
    assert 'firedoor_alerts_total{result="opened",source="guardduty"} 1.0' in desk.ask("GET", "/metrics").text


def test_a_message_that_is_delivered_again_counts_once(desk: Desk):
    queue = SimQueue(json.dumps(EVENT))
    queue.deletes = False
    reader = _reader(desk, queue)
    reader.poll()
    kept = desk.kept()
    queue.time_out()
    queue.deletes = True
    assert reader.poll() == 1
    assert queue.is_empty
    assert desk.kept() == kept


def test_poison_goes_to_quarantine_without_its_secrets_and_lets_the_others_pass(desk: Desk):
    poison = ["{", '{"detail": {"severity": "ghp_' + "a1B2" * 9 + '"}}', "\ud800", ""]
    queue = SimQueue(*poison, json.dumps(EVENT))
    assert _reader(desk, queue).poll() == 5
    assert queue.is_empty
    with desk.engine.store.reading() as tx:
        kept = tx.quarantined()
    assert {found.id for found in kept} == {f"sqs:guardduty:m-{n}" for n in range(4)}
    assert all(found.reason and found.source == "guardduty" for found in kept)
    assert not any(b"a1B2a1B2" in found.body for found in kept)
    assert desk.incident("INC-1")


def test_while_the_store_is_away_nothing_is_deleted_and_nothing_is_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    queue = SimQueue("{", json.dumps(EVENT))
    reader = _reader(desk, queue)

    def away():
        raise Unavailable("store", "gone")

    with monkeypatch.context() as patch:
        patch.setattr(desk.engine.store, "transaction", away)
        with pytest.raises(Unavailable):
            reader.poll()
    assert len(queue.in_hand) == 2
    queue.time_out()
    assert reader.poll() == 2
    assert queue.is_empty
    assert desk.incident("INC-1")


def test_a_message_whose_alert_trips_a_bug_stays_in_the_queue_and_the_others_pass(
    live: Desk, monkeypatch: pytest.MonkeyPatch
):
    from bot.engine import intake

    genuine = intake.place

    def buggy(responder, arrival):
        if arrival.alert.uid == "buggy":
            raise KeyError("a bug")
        return genuine(responder, arrival)

    monkeypatch.setattr(intake, "place", buggy)
    bad = {**EVENT, "detail": {**EVENT["detail"], "id": "buggy"}}
    queue = SimQueue(json.dumps(bad), json.dumps(EVENT))
    assert _reader(live, queue).poll() == 1
    assert [message.id for message in queue.in_hand.values()] == ["m-0"]


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An engine with its threads, and no patience after a failure."""
    monkeypatch.setattr(queues, "PAUSE", 0.01)
    desk = make_desk(tmp_path / "firedoor.db", SystemClock(), threads=True)
    desk.engine.start()
    yield desk
    desk.engine.stop()
    desk.stop()


def test_a_thread_reads_on_through_faults_and_stops_when_it_is_told(live: Desk):
    queue = SimQueue(json.dumps(EVENT))
    queue.fault = Denied("sqs", "sqs:ReceiveMessage is not allowed")
    reading = Queues({"guardduty": _reader(live, queue)})
    reading.start()
    _until(lambda: reading.troubles() and reading.faults() == ())
    assert "guardduty is not read: sqs: sqs:ReceiveMessage is not allowed" in reading.troubles()[0]
    queue.fault = None
    _until(lambda: queue.is_empty and not reading.troubles())
    reading.stop()
    assert reading.faults() == ("the reader of the queue of guardduty has stopped: restart this process",)
    assert live.incident("INC-1")


def test_what_comes_during_a_stop_is_handed_back(desk: Desk):
    queue = SimQueue(json.dumps(EVENT))
    reader = _reader(desk, queue)
    reader.stop()
    assert reader.poll() == 0
    assert [message.receipt for message in queue.messages] == ["r-0-1+"]


def _reader(desk: Desk, queue: SimQueue) -> QueueReader:
    return QueueReader("guardduty", queue, desk.intake)


def _until(holds) -> None:
    tick = threading.Event()
    for _ in range(1_000):
        if holds():
            return
        tick.wait(0.01)
    raise AssertionError("it did not come to that in ten seconds")
