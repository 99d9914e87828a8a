"""The agents' side as simulated: what a liar says, and what still works for it."""

from __future__ import annotations

import pytest

from bot.domain.agent import Agent, Mode
from bot.errors import Rejected
from bot.sandbox.agents import SimSwitchboard
from bot.sandbox.clock import SimClock
from bot.sandbox.estate import Estate


def test_a_liar_acknowledges_and_goes_on_acting_where_its_gateway_lets_it(clock: SimClock) -> None:
    agent = Agent("7", gateways=("mcp",))
    estate = Estate(clock)
    estate.enrol(agent)
    liar = estate.compromise(agent)
    liar.others["assume deployer"] = lambda: True
    liar.breaks_gateway()
    estate.gateways["mcp"].set_mode("7", Mode.SHADOW, 1, "n", "INC-1", None)
    assert {one.mode for one in estate.gateways["mcp"].agent("7").instances.values()} == {Mode.SHADOW}
    assert liar.act() == ["delete_records through mcp", "assume deployer"]
    estate.gateways["mcp"].agent("7").lying = False
    assert liar.act() == ["assume deployer"]
    assert len(liar.passed) == 3


def test_the_switchboard_takes_newer_epochs_only_and_instances_repeat_what_is_ordered() -> None:
    board = SimSwitchboard()
    assert board.acks("7") is None
    board.enroll("7", "a", "b")
    board.silent.add(("7", "b"))
    board.order("7", Mode.SHADOW, 2, "n", "INC-1")
    board.order("7", Mode.SHADOW, 2, "n", "INC-1")
    assert board.ordered == [("7", Mode.SHADOW, 2, "INC-1")]
    with pytest.raises(Rejected, match="epoch 2 is ordered"):
        board.order("7", Mode.ACTIVE, 2, "other", "INC-2")
    state = board.acks("7")
    assert state is not None
    assert [(one.instance, one.epoch) for one in state.instances] == [("a", 2), ("b", 0)]
