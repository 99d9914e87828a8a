"""Agent gateways: what the agent may do through them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bot.domain.agent import Agent, Mode
from bot.domain.reach import Alive, Held
from bot.ports import Ports, connected
from bot.reach import Found, Look


def looks(agent: Agent, ports: Ports) -> Iterator[Look]:
    for name in agent.gateways:
        yield Look(name, partial(_look, agent.id, name, ports))


def _look(agent: str, name: str, ports: Ports) -> Iterator[Found]:
    """What a gateway says is its word, not a proof: a mode is proved by agent.set_mode."""
    state = connected(ports.gateways, name).state(agent)
    if state is None:
        yield Held("gateway", name, name, agent, of=agent, alive=Alive.NO, why="it does not know the agent")
        return
    alive = Alive.YES if state.mode < Mode.SHADOW else Alive.NO
    yield Held("gateway", name, name, agent, of=agent, alive=alive, why=f"mode {state.mode.name.lower()}")
