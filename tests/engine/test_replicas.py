"""Two replicas on one PostgreSQL, their threads and timers running. Killed and hung ones are in stories/test_crash."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from bot.domain.alert import Alert
from bot.domain.events import AlertReceived, Opened
from bot.domain.incident import StepStatus
from bot.engine.intake import receive
from bot.errors import Refused, Unavailable
from tests.engine.desk import EXPOSURE, PRODUCTION, SIEM, Desk

CUTS = ("shadow", "revoke_vault", "disable_keys", "revoke_sessions")
pytestmark = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)


@pytest.fixture
def pair(store_url: str) -> Iterator[tuple[Desk, Desk]]:
    one = Desk(store_url, threads=True)
    two = one.peer("r-2")
    with one.serving(), two.serving():
        yield one, two
    one.stop()
    two.stop()


def test_one_incident_whoever_takes_the_alert(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    kinds = [(agent, type) for agent in ("agent-7", "agent-9") for type in (PRODUCTION, EXPOSURE)]
    alerts = [one.alert(agent, type, rule=f"{type}-{n}") for n in range(8) for agent, type in kinds]
    with ThreadPoolExecutor(16) as senders:
        incidents = set(senders.map(_take, alerts, [one, one, two, two, two, two, one, one] * 4))
    assert len(incidents) == 4
    for incident in sorted(incidents):
        one.until(lambda id=incident: all(one.status(step, id) is StepStatus.DONE for step in CUTS))  # type: ignore[misc]  # a lambda
        one.until(lambda: one.queued() == 0)
        entries = two.entries(incident)
        assert sum(isinstance(entry.event, Opened) for entry in entries) == 1
        assert sum(isinstance(entry.event, AlertReceived) for entry in entries) == 7
        assert one.engine.replay(incident) == one.incident(incident)
        assert two.incident(incident).version == len(entries)
    assert one.alive() == one.alive("agent-9") == []
    assert len({message.key for message in one.rang}) == len(one.rang)  # nobody was paged twice
    for stream in one.streams():
        assert one.store.verify(stream)


def _take(alert: Alert, desk: Desk) -> str:
    return desk.engine.submit(partial(receive, alert=alert, source=SIEM, body=b"{}")).result(30).incident


def test_of_two_acknowledgements_one_counts(pair: tuple[Desk, Desk]) -> None:
    one, two = pair
    one.receive()
    one.until_quiet("INC-1")

    def ack(desk: Desk, person: str) -> str:
        try:
            return desk.ack(person).acked_by
        except Refused as refused:
            return refused.code

    with ThreadPoolExecutor(2) as people:
        answers = list(people.map(ack, pair, ("sre-1", "sre-2")))
    assert sorted(answers)[0] == "already_acknowledged"
    assert two.incident().acked_by in answers


def test_what_waits_is_taken_by_either(pair: tuple[Desk, Desk]) -> None:
    """A post that Slack does not take is handed back, and whoever comes first takes it."""
    one, two = pair
    one.chat.faults.add("post", Unavailable("slack", "ratelimited", retry_after=0.2), times=6)
    for desk, agent, type in (
        (one, "agent-7", PRODUCTION),
        (two, "agent-7", EXPOSURE),
        (one, "agent-9", PRODUCTION),
        (two, "agent-9", EXPOSURE),
    ):
        desk.receive(agent=agent, type=type, rule=type)
    one.until(lambda: all(one.incident(f"INC-{number}").card for number in range(1, 5)))
    one.until(lambda: one.queued() == 0)
    assert len({post.message.key for post in one.posts()}) == len(one.posts())
