"""agent.set_mode where OPA decides: every replica is visited, and none may let the canary pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.actions.agent_set_mode import SetMode
from bot.adapters.opa import HttpOpa
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Pending
from bot.errors import Unavailable
from bot.ports import Opa, Ports
from bot.sandbox.agents import SimGateway
from bot.sandbox.clock import SimClock
from bot.sandbox.opa import SimOpa
from bot.sandbox.opa_server import OpaServer
from tests.actions.driver import drive, stage
from tests.actions.estate import Enrolled

KEY, UNDO = "prod.1/INC-7/12.0", "prod.1/INC-7/40.0"
ACTION = SetMode()
AGENT = Agent("7", opas=("opa",))


@dataclass
class Estate:
    sims: tuple[SimOpa, ...]
    replicas: tuple[Opa, ...]
    agent: Agent = AGENT

    def __post_init__(self) -> None:
        self.clock = SimClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
        self.gateway = SimGateway("tools", self.clock)
        self.gateway.enroll("7")
        self.ports = Ports(
            self.clock, Enrolled([self.agent]), opas={"opa": self.replicas}, gateways={"tools": self.gateway}
        )
        for sim in self.sims:
            sim.write(["agents", "7", "mode"], {"mode": "active", "epoch": 2, "nonce": "x"})

    def params(self, mode: str = "shadow") -> Any:
        (target,) = ACTION.targets({"agent": "7", "mode": mode}, self.agent)
        return target.params

    def set(self, mode: str = "shadow", key: str = KEY) -> Any:
        return drive(ACTION, self.params(mode), self.ports, self.clock, key)

    def modes(self) -> list[tuple[Any, Any]]:
        found = [sim.read(["agents", "7", "mode"]) or {} for sim in self.sims]
        return [(one.get("mode"), one.get("epoch")) for one in found]


@pytest.fixture(params=["simulator", "client"])
def estate(request: pytest.FixtureRequest) -> Iterator[Estate]:
    sims = SimOpa("opa 1"), SimOpa("opa 2")
    if request.param == "simulator":
        yield Estate(sims, sims)
        return
    with ExitStack() as stack:
        servers = [stack.enter_context(OpaServer(sim)) for sim in sims]
        clients = [HttpOpa("opa", server.url, "firedoor/allow", timeout=2.0) for server in servers]
        for client in clients:
            stack.enter_context(closing(client))
        yield Estate(sims, tuple(clients))


def test_every_replica_has_the_mode_and_refuses_the_canary(estate: Estate) -> None:
    done = estate.set()
    assert isinstance(done, Done)
    assert done.grade is Grade.EFFECT
    assert done.evidence["enforced_by"] == [f"opa {replica.name}" for replica in estate.replicas]
    assert estate.modes() == [("shadow", 3), ("shadow", 3)]
    assert [sim.asked[-1]["effect"] for sim in estate.sims] == ["firedoor.canary", "firedoor.canary"]
    again = ACTION.verify(estate.params(), estate.ports)
    assert again is not None
    assert again.grade is Grade.EFFECT


def test_a_repeat_changes_nothing(estate: Estate) -> None:
    drive(ACTION, estate.params(), estate.ports, estate.clock, KEY, twice=True)
    assert estate.modes() == [("shadow", 3), ("shadow", 3)]


def test_the_undo_restores_each_replica(estate: Estate) -> None:
    estate.sims[1].write(["agents", "7", "mode"], {"mode": "advisory", "epoch": 9, "nonce": "y"})
    done = estate.set("disabled")
    assert estate.modes() == [("disabled", 10), ("disabled", 10)]
    undone = ACTION.undo(estate.params("disabled"), estate.ports, undo=done.undo, key=UNDO)
    assert isinstance(undone, Done)
    assert estate.modes() == [("active", 11), ("advisory", 11)]


def test_one_replica_that_lets_it_pass_spoils_the_proof(estate: Estate) -> None:
    estate.sims[1].lax = True
    failed = estate.set()
    assert isinstance(failed, Failed)
    assert f"{estate.replicas[1].name} let the canary pass" in failed.why
    assert ACTION.verify(estate.params(), estate.ports) is None


def test_a_path_that_a_bundle_owns_is_refused_clearly(estate: Estate) -> None:
    for sim in estate.sims:
        sim.roots = ["agents"]
    failed = estate.set()
    assert isinstance(failed, Failed)
    assert not failed.retryable
    assert "owned by bundle" in failed.why


def test_a_replica_that_is_away_holds_up_no_other(estate: Estate) -> None:
    estate.sims[0].faults.add("*", Unavailable("opa", "away"), times=1000)
    first = stage(ACTION, estate.params(), estate.ports, key=KEY)
    then = stage(ACTION, estate.params(), estate.ports, key=KEY, so_far=first.so_far)
    assert isinstance(then, Pending)
    assert then.unavailable
    assert estate.modes()[1] == ("shadow", 3)
    estate.sims[0].faults.clear()
    assert isinstance(estate.set(), Done)


def test_a_replica_that_was_started_again_is_seen_to_have_lost_it(estate: Estate) -> None:
    estate.set()
    estate.sims[1].restart()
    assert ACTION.verify(estate.params(), estate.ports) is None
    estate.set(key="prod.1/INC-7/13.0")
    assert [mode for mode, _ in estate.modes()] == ["shadow", "shadow"]


def test_a_connection_that_is_not_configured_holds_up_no_gateway() -> None:
    estate = Estate((), (), Agent("7", gateways=("tools",), opas=("gone",)))
    failed = estate.set()
    assert isinstance(failed, Failed)
    assert "no connection of this name is configured" in failed.why
    assert estate.gateway.agent("7").mode.name == "SHADOW"


def test_advisory_is_pushed_without_a_canary(estate: Estate) -> None:
    done = estate.set("advisory")
    assert isinstance(done, Done)
    assert done.grade is Grade.CONFIG
    assert [sim.asked for sim in estate.sims] == [[], []]
