"""The mode that agents are held at, as it is published: from the commit of the hold to the end of the release."""

from __future__ import annotations

from bot.domain.agent import Mode
from bot.engine.modes import Modes, Standing
from bot.errors import Unavailable
from tests.engine.desk import EXPOSURE, Desk


def modes_of(desk: Desk) -> Modes:
    return Modes(desk.store, lambda: desk.config.agents.agents)


def test_every_agent_is_named_and_active_at_first(desk: Desk) -> None:
    assert modes_of(desk).refresh() == {"agent-7": Standing(), "agent-9": Standing()}


def test_a_hold_is_published_and_so_is_its_end(desk: Desk) -> None:
    modes = modes_of(desk)
    desk.receive()
    desk.forward(minutes=1)
    held = modes.refresh()["agent-7"]
    assert (held.mode, held.incident) == (Mode.SHADOW, "INC-1")
    assert modes.refresh()["agent-9"] == Standing()
    desk.release("shadow")
    desk.forward(minutes=1)
    after = modes.refresh()["agent-7"]
    assert (after.mode, after.incident) == (Mode.ACTIVE, "")
    assert after.epoch > held.epoch > 0


def test_a_hold_counts_from_its_commit_though_no_gateway_answers(desk: Desk) -> None:
    desk.gateway.faults.add("*", Unavailable("agents", "away"), times=1000)
    desk.receive()
    assert modes_of(desk).refresh()["agent-7"].mode is Mode.SHADOW
    assert desk.gateway.agent("agent-7").mode is Mode.ACTIVE


def test_what_another_incident_still_holds_stays(desk: Desk) -> None:
    modes = modes_of(desk)
    desk.receive()
    desk.receive(type=EXPOSURE, rule="exfiltration")
    desk.forward(minutes=1)
    epoch = modes.refresh()["agent-7"].epoch
    desk.release("shadow")
    desk.forward(minutes=1)
    left = modes.refresh()["agent-7"]
    assert (left.mode, left.incident) == (Mode.SHADOW, "INC-2")
    assert left.epoch >= epoch


def test_a_replica_that_comes_late_says_the_same(desk: Desk) -> None:
    modes = modes_of(desk)
    for _ in range(3):
        desk.receive()
        desk.forward(minutes=1)
        modes.refresh()
        if desk.incident().steps["shadow"].holding:
            desk.release("shadow")
            desk.forward(minutes=1)
    assert modes.refresh() == modes_of(desk).refresh()
