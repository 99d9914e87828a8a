"""The client against the bot's own agents' API, over a socket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bot.adapters.clock import SystemClock
from bot.agent import Firedoor, Mode, Shadowed
from bot.domain import agent as ours
from bot.engine import switchboard
from bot.ports import InstanceMode
from bot.web.server import Server
from tests.agent.test_client import Clock, eventually
from tests.web.desk import Desk, make_desk


@dataclass
class House:
    desk: Desk
    url: str

    def enrol(self, instance: str = "pod-1") -> str:
        """Its key."""
        serial = self.desk.engine.submit(switchboard.enroll("agent-7", instance, "sre-1", "cli")).result()
        return self.desk.bot.instance_keys.of("agent-7", instance, serial)

    def order(self, mode: ours.Mode) -> int:
        board = self.desk.engine.switchboard
        state = board.acks("agent-7")
        epoch = (state.epoch if state else 0) + 1
        board.order("agent-7", mode, epoch, f"nonce-{epoch}", "INC-1")
        return epoch

    def said(self) -> dict[str, InstanceMode]:
        state = self.desk.engine.switchboard.acks("agent-7")
        return {one.instance: one for one in state.instances} if state else {}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    desk = make_desk(tmp_path / "firedoor.db", SystemClock())
    server = Server(desk.app)
    yield House(desk, server.start())
    desk.engine.switchboard.close()
    server.stop()
    desk.stop()


def test_a_switch_reaches_the_agent_and_its_word_reaches_the_bot(house: House) -> None:
    with Firedoor(house.url, "agent-7/pod-1", house.enrol()) as agent:
        assert agent.wait_for_order()
        assert agent.mode is Mode.ACTIVE
        assert agent.tool()(lambda: "done")() == "done"

        epoch = house.order(ours.Mode.SHADOW)
        eventually(lambda: agent.status.acknowledged == epoch)
        assert agent.mode is Mode.SHADOW
        assert isinstance(agent.tool()(lambda: "done")(), Shadowed)
        assert house.said()["pod-1"] == InstanceMode("pod-1", epoch, ours.Mode.SHADOW, 1)

        last = house.order(ours.Mode.DISABLED)
        eventually(lambda: agent.status.acknowledged == last)
        assert agent.mode is Mode.DISABLED


def test_two_instances_have_a_key_each(house: House) -> None:
    keys = [house.enrol("pod-1"), house.enrol("pod-2")]
    with Firedoor(house.url, "agent-7/pod-1", keys[1]) as wrong:
        eventually(lambda: "enrolled" in wrong.status.trouble)
        assert wrong.mode is Mode.SHADOW
    with Firedoor(house.url, "agent-7/pod-1", keys[0]) as one, Firedoor(house.url, "agent-7/pod-2", keys[1]) as other:
        epoch = house.order(ours.Mode.ADVISORY)
        eventually(lambda: {agent.status.acknowledged for agent in (one, other)} == {epoch})
        assert (one.mode, other.mode) == (Mode.ADVISORY, Mode.ADVISORY)


def test_a_key_that_was_revoked_renews_no_lease(house: House) -> None:
    clock = Clock()
    with Firedoor(house.url, "agent-7/pod-1", house.enrol(), clock=clock) as agent:
        assert agent.wait_for_order()
        house.desk.engine.submit(switchboard.revoke("agent-7", "pod-1", "sre-1", "cli")).result()
        eventually(lambda: "revoked" in agent.status.trouble)
        clock.ahead += 60
        assert agent.mode is Mode.SHADOW


def test_an_agent_that_comes_while_it_is_held_is_held(house: House) -> None:
    house.desk.opened()
    house.desk.engine.settle()
    with Firedoor(house.url, "agent-7/pod-9", house.enrol("pod-9")) as agent:
        assert agent.wait_for_order()
        assert agent.mode is Mode.SHADOW
        assert "INC-1" in agent.status.why
