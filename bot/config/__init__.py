"""The operator's files, checked and frozen. `load` reads a folder; every message says file, line and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bot.actions import registry
from bot.config.agents import Agents, load_agents
from bot.config.checks import Problem, check
from bot.config.escalation import load_matrices
from bot.config.people import People, load_people
from bot.config.playbooks import Actions, load_playbooks
from bot.config.policy import load_policy
from bot.config.reading import ConfigErrors, MissingSecrets, Problems
from bot.config.runbooks import load_runbooks
from bot.config.secrets import SecretRef, resolve
from bot.config.settings import Settings, load_settings
from bot.config.sources import Source, load_sources
from bot.domain.classification import Rule
from bot.domain.escalation import Matrix
from bot.domain.investigation import PolicyAction
from bot.domain.playbook import Playbook
from bot.domain.runbook import Runbook

__all__ = ["EXAMPLE", "Config", "ConfigErrors", "MissingSecrets", "Problem", "SecretRef", "check", "load", "resolve"]

EXAMPLE = Path(__file__).parent / "example"  # a complete folder: what `firedoor init` copies


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator wrote. `matrices` and `runbooks` are keyed by incident type, the rest by id."""

    settings: Settings
    agents: Agents
    people: People
    matrices: Mapping[str, Matrix]
    sources: Mapping[str, Source]
    classification: tuple[Rule, ...]
    playbooks: Mapping[str, Playbook]
    runbooks: Mapping[str, Runbook]
    policy: Mapping[str, PolicyAction] = field(default_factory=dict)


def load(folder: Path, actions: Actions | None = None) -> Config:
    """Reads firedoor.yaml, agents.yaml, people.yaml, escalation.yaml, sources.yaml, policies/, playbooks/ and
    runbooks/. Raises ConfigError, or ConfigErrors with every problem of every file. No secret is read."""
    problems = Problems()
    sources, classification = load_sources(folder / "sources.yaml", problems)
    config = Config(
        settings=load_settings(folder / "firedoor.yaml", problems),
        agents=load_agents(folder / "agents.yaml", problems),
        people=load_people(folder / "people.yaml", problems),
        matrices=load_matrices(folder / "escalation.yaml", problems),
        sources=sources,
        classification=classification,
        playbooks=load_playbooks(folder / "playbooks", registry() if actions is None else actions, problems),
        runbooks=load_runbooks(folder / "runbooks", problems),
        policy=load_policy(folder / "policies" / "actions.yaml", problems),
    )
    problems.raise_any()
    return config
