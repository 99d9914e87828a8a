"""The one writer: batches, jobs that fail alone, conflicts, and what follows a commit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from bot.domain.events import Acknowledged, Status, Unacknowledged
from bot.engine import verbs
from bot.engine.responder import Effects, Responder
from bot.engine.writer import Writer
from bot.errors import Refused, Unavailable
from tests.engine.desk import Desk, desk_at


@pytest.fixture
def threaded(desk: Desk) -> Iterator[Writer]:
    """The desk's writer with a thread of its own; everything else waits."""
    desk.receive()
    writer = desk.engine.writer
    writer.start()
    yield writer
    writer.stop()


class Gate:
    """A job that holds the writer until it is opened, so that what comes meanwhile makes one batch."""

    def __init__(self, writer: Writer) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.done = writer.submit(self._wait)
        assert self.entered.wait(10)

    def _wait(self, _: Responder) -> None:
        self.entered.set()
        assert self.opened.wait(10)

    def open(self) -> None:
        self.opened.set()
        self.done.result(10)


def test_what_queues_while_one_commits_goes_together_urgent_first(threaded: Writer) -> None:
    order: list[int] = []
    sizes: list[int] = []
    threaded.watch = lambda jobs, _: sizes.append(jobs)
    gate = Gate(threaded)
    later = [threaded.submit(lambda _, n=n: order.append(n), urgent=False) for n in range(5)]
    sooner = [threaded.submit(lambda _, n=n: order.append(n)) for n in range(5, 8)]
    gate.open()
    for future in (*later, *sooner):
        future.result(10)
    assert order == [5, 6, 7, 0, 1, 2, 3, 4]
    assert sizes == [1, 8]


def test_a_refused_job_fails_alone(threaded: Writer) -> None:
    gate = Gate(threaded)
    acks = [threaded.submit(verbs.acknowledge("INC-1", person, "slack")) for person in ("sre-1", "sre-2", "dpo")]
    gate.open()
    assert acks[0].result(10).acked_by == "sre-1"
    for refused in acks[1:]:
        with pytest.raises(Refused, match="already acknowledged"):
            refused.result(10)


def test_a_job_that_fails_half_way_leaves_nothing_and_harms_no_other(desk: Desk, threaded: Writer) -> None:
    def half(responder: Responder) -> None:
        responder.append("INC-1", Acknowledged("sre-2", "slack"))
        raise Refused("no", "thought better of it")

    def broken(responder: Responder) -> None:
        responder.append("INC-1", Acknowledged("sre-2", "slack"))
        raise ZeroDivisionError

    before = len(desk.entries())
    gate = Gate(threaded)
    jobs: list[Future[Any]] = [threaded.submit(job) for job in (half, broken, verbs.acknowledge("INC-1", "sre-1", ""))]
    gate.open()
    with pytest.raises(Refused, match="thought better"):
        jobs[0].result(10)
    with pytest.raises(ZeroDivisionError):
        jobs[1].result(10)
    assert jobs[2].result(10).acked_by == "sre-1"
    assert len(desk.entries()) == before + 1


def test_a_caller_who_went_away_takes_nobody_along(threaded: Writer) -> None:
    gate = Gate(threaded)
    gone = threaded.submit(verbs.acknowledge("INC-1", "sre-2", ""))
    stays = threaded.submit(verbs.acknowledge("INC-1", "sre-1", ""))
    assert gone.cancel()
    gate.open()
    assert stays.result(10).acked_by == "sre-1"


def test_a_fault_after_the_commit_is_logged_and_nothing_is_written_twice(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.receive()

    def broken(_: int, __: Effects) -> None:
        raise RuntimeError("a full disk of metrics")

    desk.engine.writer.watch = broken
    before = len(desk.entries())
    with caplog.at_level(logging.ERROR):
        desk.ack("sre-1")
    assert "what follows a commit failed" in caplog.text
    assert len([e for e in desk.entries()[before:] if isinstance(e.event, Acknowledged)]) == 1


def test_after_the_end_whoever_comes_is_told_so(threaded: Writer) -> None:
    threaded.stop()
    with pytest.raises(Unavailable, match="stopping"):
        threaded.submit(verbs.acknowledge("INC-1", "sre-1", "")).result(1)


# Two replicas, by turns -----------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Desk, Desk]]:
    """Two replicas of one store in virtual time, each with its own memory of the streams."""
    with desk_at(tmp_path) as one:
        two = one.peer("r-2")
        one.receive()
        two.incident()
        yield one, two
        two.stop()


def test_a_conflict_is_tried_again_on_what_stands_there_now(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    two.engine.submit(verbs.note("INC-1", "seen", "sre-2")).result()  # two's memory stands here
    one.ack("sre-1")
    two.say(verbs.note("INC-1", "again", "sre-2"))
    one.say(verbs.note("INC-1", "and again", "sre-1"))
    assert two.incident().version == one.incident().version
    assert one.store.verify("INC-1") == one.incident().version


def test_nobody_is_refused_for_what_another_replica_has_changed(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    two.ack("sre-2")
    one.say(verbs.unacknowledge("INC-1", "sre-2", ""))
    assert two.ack("sre-1").acked_by == "sre-1"  # two still remembers sre-2's
    assert len(two.events(Unacknowledged)) == 1


def test_a_deadline_that_another_replica_set_is_met(pair: tuple[Desk, Desk]) -> None:
    """The other one took the ack back and died: whoever remembers the ack must not sleep through the escalation."""
    one, two = pair
    two.ack("sre-1")
    one.say(verbs.unacknowledge("INC-1", "sre-1", ""))
    before = len(two.escalated)
    two.forward(minutes=16)
    assert "head-of-security" in two.escalated[before:]


def test_of_two_that_open_the_same_one_joins(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    one.resolve()
    assert two.receive(rule="x").status == "opened"
    assert one.receive(rule="y").status == "attached"
    assert one.incident("INC-2").status is Status.OPEN
