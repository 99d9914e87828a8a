"""What the `github.*` actions share: where the agent is on GitHub, and which of its things are meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.domain.agent import Agent, GithubIdentity
from bot.domain.playbook import Param, Target
from bot.ports import Github, Ports, connected

APP_KEY = "a private key of the agent's own app"  # what it takes to suspend an installation; no permission does
AGENT = Param("agent", doc="agent id; its `github` section in agents.yaml says what is its own")


def identity(params: Mapping[str, Any], agent: Agent | None) -> GithubIdentity | None:
    """The agent's `github` section; None where it has none. ValueError for an unknown agent."""
    if agent is None:
        raise ValueError(f"no agent {params.get('agent')!r} in agents.yaml: what it has on GitHub is not known")
    return agent.github


def system(params: Mapping[str, Any], ports: Ports) -> Github:
    return connected(ports.githubs, params["connection"])


def things(agent: Agent, known: GithubIdentity, kind: str, of: tuple[str, ...]) -> tuple[Target, ...]:
    """A target of each `owner/name:thing`; the thing is the parameter `kind`."""
    return tuple(
        Target(
            f"github-{kind}:{each}",
            {
                "agent": agent.id,
                "connection": known.connection,
                "repository": each.partition(":")[0],
                kind: each.partition(":")[2],
            },
            known.connection,
        )
        for each in dict.fromkeys(of)
    )
