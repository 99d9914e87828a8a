"""Alerts that come as messages of a SIEM's app: stored before Slack has its answer, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from slack_bolt.async_app import AsyncBoltRequest

from bot.adapters.clock import SystemClock
from bot.config.secrets import SecretRef
from bot.config.settings import Slack
from bot.domain.containment import Containment
from bot.errors import Unavailable
from bot.sandbox.chat import SimChat
from bot.sandbox.clock import SimClock
from bot.sandbox.workspace import Channel, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER
from bot.serving import Ear
from bot.slack import alerts
from bot.slack.alerts import AlertMessages
from bot.slack.app import build_app
from bot.web.intake import Intake
from tests.sources.rules import payload, rules
from tests.web.desk import Desk, make_desk

SIEM = rules("slack", name="siem_in_slack", owner="security-ops-1")


@pytest.fixture
def desk(tmp_path: Path, clock: SimClock) -> Iterator[Desk]:
    desk = make_desk(tmp_path / "firedoor.db", clock)
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[WorkspaceServer]:
    rooms = [Channel("C0SIEM", "siem", frozenset((BOT_USER, "U0SRE1")))]
    with WorkspaceServer(Workspace([Person("U0SRE1", "sre-1")], rooms, SystemClock())) as server:
        yield server


class Room:
    """A desk whose SIEM speaks in a channel; `says` is one delivery of Slack, answered with a status."""

    def __init__(self, desk: Desk, server: WorkspaceServer, **source: Any) -> None:
        self.desk, self.server = desk, server
        world = desk.engine.world
        self.rules = {"siem_in_slack": replace(SIEM, **source)}
        listed = {"siem_in_slack": replace(world.config.sources["siem"], rules=self.rules["siem_in_slack"])}
        desk.engine.world = replace(world, config=replace(world.config, sources={**world.config.sources, **listed}))
        self.intake = Intake(desk.engine, {}, desk.metrics)

    def says(self, *events: dict[str, Any], **body: Any) -> list[int]:
        """One after the other, each as an event of its own."""

        async def heard() -> list[int]:
            app = build_app(self.desk.engine, bot_token=self.server.bot_token, base_url=self.server.api_url)
            AlertMessages(app, self.rules, self.intake)
            requests = [
                AsyncBoltRequest(mode="socket_mode", body=envelope(event, n) | body) for n, event in enumerate(events)
            ]
            return [(await app.async_dispatch(request)).status for request in requests]

        return asyncio.run(heard())

    @property
    def counted(self) -> dict[str, float]:
        """What became of its messages."""
        lines = self.desk.metrics.exposition().decode().splitlines()
        ours = [line for line in lines if line.startswith("firedoor_alerts_total{") and "siem_in_slack" in line]
        return {line.partition('result="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in ours}


@pytest.fixture
def room(desk: Desk, server: WorkspaceServer) -> Room:
    return Room(desk, server)


def message(**fields: Any) -> dict[str, Any]:
    return {**payload("slack_message"), **fields}


def envelope(event: dict[str, Any], n: int = 0) -> dict[str, Any]:
    about = {"team_id": "T0", "api_app_id": "A0FIREDOOR", "event_id": f"Ev{n}", "event_time": 1767607200}
    return {"type": "event_callback", "event": event, "authorizations": [], **about}


def test_an_app_that_is_named_raises_an_alert_that_may_only_propose(room: Room):
    assert room.says(message()) == [200]
    incident = room.desk.incident("INC-1")
    assert incident.begun.alert.uid == "C0SIEM/1767607200.000100"
    assert "the source siem_in_slack may only propose" in incident.begun.why
    assert not incident.begun.contain
    room.desk.engine.settle()
    assert room.desk.incident("INC-1").containment is not Containment.CONTAINED
    assert room.counted == {"opened": 1}


def test_a_source_that_may_contain_does(desk: Desk, server: WorkspaceServer):
    assert Room(desk, server, may_contain=True).says(message()) == [200]
    assert desk.incident("INC-1").begun.contain


def test_a_message_counts_once_whatever_brings_it(room: Room):
    before = room.desk.kept()
    assert room.says(message(), message(), message()) == [200] * 3
    assert room.desk.kept()[1] == before[1] + 1
    assert room.counted == {"opened": 1, "sent_again": 2}


def test_nobody_else_raises_one(room: Room):
    before = room.desk.kept()
    person = {"bot_id": None, "app_id": None, "bot_profile": None, "subtype": None, "user": "U0SRE1"}
    said = [
        message(**person, username="Splunk"),
        message(app_id="A0OTHER", bot_profile=None, bot_id="B0OTHER"),
        message(thread_ts="1767607100.000100"),
        {**message(subtype="message_changed"), "message": message()},
        message(files=[{"id": "F0"}]),
        message(subtype="file_share"),
    ]
    assert room.says(*said) == [200] * len(said)
    assert room.says(message(), is_ext_shared_channel=True) == [200]
    assert room.says(message(channel="C0ELSEWHERE"), {"type": "reaction_added", "channel": "C0SIEM"})[0] == 200
    assert room.desk.kept() == before
    assert room.counted == {
        "person": 1, "other_app": 1, "thread_reply": 1, "edited": 1, "file": 2, "shared_channel": 1,
    }  # fmt: skip


def test_what_nobody_can_read_is_in_quarantine_once_and_without_its_secrets(room: Room):
    odd = message(attachments=[], text="token ghp_" + "a1B2" * 9)
    assert room.says(odd, odd) == [200, 200]
    with room.desk.engine.store.reading() as tx:
        (kept,) = tx.quarantined()
    assert "rule" in kept.reason
    assert b"[redacted:github:" in kept.body


def test_hostile_text_is_harmless_where_it_is_shown(room: Room):
    hostile = "<!channel> <https://evil.example|your bank> {{ 7*7 }} @here"
    assert room.says(message(text=hostile)) == [200]
    room.desk.engine.settle()
    chat = room.desk.engine.world.ports.chat
    assert isinstance(chat, SimChat)
    shown = str([chat.messages(channel) for channel in chat.channels])
    assert "your bank" in shown
    assert "<!channel>" not in shown
    assert "https://evil" not in shown


def test_without_a_commit_slack_has_no_answer_and_sends_again(room: Room, monkeypatch: pytest.MonkeyPatch):
    def away() -> None:
        raise Unavailable("store", "gone")

    with monkeypatch.context() as patch:
        patch.setattr(room.desk.engine.store, "transaction", away)
        assert room.says(message()) == [503]
    assert room.says(message()) == [200]
    assert room.counted == {"opened": 1}


def test_a_slow_commit_is_given_up_in_time_for_slack(room: Room, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alerts, "COMMIT", 0.05)
    monkeypatch.setattr(room.intake, "take", lambda *_: Future())
    assert room.says(message()) == [503]


def test_over_socket_mode_from_slack_to_the_record(tmp_path: Path, server: WorkspaceServer):
    desk = make_desk(tmp_path / "firedoor.db", SystemClock(), threads=True)
    room = Room(desk, server)
    ref = SecretRef("env", "UNSET")
    slack = Slack(ref, "siem", ref, api_url=server.api_url)
    desk.engine.start()
    ear = Ear(
        desk.engine, slack, server.bot_token, server.app_token,
        partial(AlertMessages, sources=room.rules, intake=room.intake),
    )  # fmt: skip
    ear.start()
    try:
        sent = [server.deliver("events_api", envelope(message(), n)) for n in (1, 1, 2)]
        assert all(delivery.wait(30) for delivery in sent)
        with desk.engine.store.reading() as tx:
            assert len(tx.alerts("INC-1")) == 1
    finally:
        ear.stop()
        desk.engine.stop()
        desk.stop()
