"""Two replicas on one PostgreSQL and one workspace, by Socket Mode: each interaction counts once, whichever gets it or
dies of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot.domain.events import Acknowledged, ApprovalGiven, Pinned
from bot.sandbox.workspace import WorkspaceServer
from bot.store import Signer
from tests.slack.desk import HEAD, INFRA, INFRA2, ROOM, SECOPS, SOON, SRE, Desk, Loop, by_socket, workspace

PEOPLE = (SRE, SECOPS, HEAD, INFRA, INFRA2)
CLICKS = 50

pytestmark = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)


@dataclass
class House:
    """One workspace and the replicas that serve it."""

    url: str
    key: Path
    server: WorkspaceServer
    loop: Loop
    desks: list[Desk] = field(default_factory=list)
    doors: list[AbstractAsyncContextManager[None]] = field(default_factory=list)

    def replica(self, name: str, *, rooms: bool = False) -> Desk:
        """Its engine; not yet connected to the workspace."""
        desk = Desk(self.url, self.server, rooms=rooms, replica=name, signer=Signer.load(self.key))
        desk.engine.start()
        self.desks.append(desk)
        return desk

    def join(self, desk: Desk) -> None:
        """Connects it."""
        self.doors.append(by_socket(desk))
        self.loop.run(self.doors[-1].__aenter__())

    def leave(self) -> None:
        for door in self.doors:
            self.loop.run(door.__aexit__(None, None, None))
        for desk in self.desks:
            desk.engine.stop()
            desk.store.close()

    def connect(self, process: subprocess.Popen[str], dies: str, *, rooms: bool = False) -> None:
        """Another process becomes a replica, which dies as tests.slack.replica says."""
        names = ("bot_token", "app_token", "api_url")
        order = {"store": self.url, "key": str(self.key), "dies": dies, "rooms": rooms}
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(order | {"server": {n: getattr(self.server, n) for n in names}}) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"


@pytest.fixture
def house(store_url: str, tmp_path: Path) -> Iterator[House]:
    Signer.generate(tmp_path / "key")
    loop = Loop()
    with WorkspaceServer(workspace(), event_retries=(0.5,) * 60, environ={}) as server:
        house = House(store_url, tmp_path / "key", server, loop)
        yield house
        house.leave()
    loop.stop()


def test_fifty_clicks_that_two_replicas_get_twice_are_one_each(house: House) -> None:
    """Every delivery is repeated, and the repetition reaches the other replica."""
    desks = [house.replica(name) for name in ("replica-1", "replica-2")]
    for desk in desks:
        house.join(desk)
    desk, server = desks[0], house.server
    id = desk.alert()
    card, request = desk.card(id), desk.request(id)
    server.workspace.fault("duplicate", "interactive", times=CLICKS)
    bodies = [server.workspace.clicked(PEOPLE[n % 5], ROOM, card.ts, "ack") for n in range(CLICKS // 2)]
    bodies += [server.workspace.clicked(PEOPLE[n % 5], ROOM, request.ts, "approve") for n in range(CLICKS // 2)]
    sent = [server.deliver("interactive", body) for body in bodies]
    with ThreadPoolExecutor(16) as crowd:
        assert all(crowd.map(lambda delivery: delivery.wait(SOON), sent))
    desk.until(lambda: "GRANTED" in str(desk.now(request).blocks), "granted")
    desk.until(lambda: sum(len(desk.told(user)) for user in PEOPLE) == CLICKS - 1, "all but who acknowledged hear once")
    assert len(desk.events(id, Acknowledged)) == 1
    given = Counter(said.by for said in desk.events(id, ApprovalGiven))
    assert set(given.values()) == {1}
    asked = desk.state(id).approvals[desk.state(id).steps["quarantine_role"].request]
    assert asked.state == "granted"
    assert {who for who, _ in asked.given} == set(given)


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_click_that_kills_its_replica_counts_once_when_it_is_pressed_again(house: House, dies: str) -> None:
    with doomed() as process:
        desk = house.replica("replica-1")
        id = desk.alert()
        request = desk.request(id)
        house.connect(process, dies)
        desk.click(HEAD, request, "approve")  # acknowledged to Slack, and then nothing
        assert process.wait(SOON) == -9
    house.join(desk)
    assert desk.told(HEAD) == []
    desk.click(HEAD, request, "approve")
    desk.hears(HEAD, "You approved this already" if dies == "after" else "Still missing: 1 infra owner")
    desk.until(lambda: "Approved so far" in str(desk.now(request).blocks), "the request shows it")
    assert [said.by for said in desk.events(id, ApprovalGiven)] == ["head-of-security"]


@pytest.mark.parametrize("dies", ["before", pytest.param("after", marks=pytest.mark.soak)])
def test_a_pushpin_that_kills_its_replica_is_delivered_again_to_the_other(house: House, dies: str) -> None:
    with doomed() as process:
        desk = house.replica("replica-1", rooms=True)
        id = desk.alert()
        channel = desk.until(lambda: desk.state(id).channel, "its channel")
        desk.until(lambda: HEAD in house.server.workspace.channels[channel].members, "who is on duty is let in")
        said = house.server.workspace.say(HEAD, channel, "The backup of 02:30 is good")
        house.connect(process, dies, rooms=True)
        house.server.act("react", HEAD, channel=channel, ts=said.ts, name="pushpin")
        assert process.wait(SOON) == -9
    house.join(desk)
    desk.until(lambda: f"{channel}/{said.ts}" in desk.state(id).pins, "pinned")
    assert [event.by for event in desk.events(id, Pinned)] == ["head-of-security"]


def doomed() -> subprocess.Popen[str]:
    """Imports what it needs, and waits for its order."""
    command = [sys.executable, "-m", "tests.slack.replica"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
