"""What `check` says of an agent's Vault namespace, and of addresses that nobody has changed."""

from __future__ import annotations

from dataclasses import replace

from bot.actions import registry
from bot.config import EXAMPLE, check, load


def test_an_agent_is_looked_for_in_the_namespace_of_its_connection():
    config = load(EXAMPLE)
    agent = config.agents.agents["agent-7"]
    assert agent.vault is not None
    moved = replace(agent, vault=replace(agent.vault, namespace="team-a/"))
    agents = replace(config.agents, agents={**config.agents.agents, "agent-7": moved})
    told = [str(one) for one in check(replace(config, agents=agents), registry()) if one.blocking]
    assert any("would seem to hold nothing" in one for one in told)
    vault = replace(config.settings.connections["vault"], namespace="team-a")
    settings = replace(config.settings, connections={**config.settings.connections, "vault": vault})
    told = [str(one) for one in check(replace(config, agents=agents, settings=settings), registry())]
    assert not any("'agent-7' lives in the Vault namespace" in one for one in told)


def test_live_with_the_addresses_of_the_example_is_advised_against():
    config = load(EXAMPLE)
    live = replace(config, settings=replace(config.settings, mode="live"))
    told = [one for one in check(live, registry()) if "still leads to" in str(one)]
    assert len(told) == 4
    assert not any(one.blocking for one in told)
    assert not any("still leads to" in str(one) for one in check(config, registry()))
