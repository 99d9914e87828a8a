"""`github.block_environment`: nothing is deployed there any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar

from bot.actions import github
from bot.actions.switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Target
from bot.errors import Rejected
from bot.ports import Environment, Github, Ports, RefPattern
from bot.ports.github import BLOCKED

NOTHING = BLOCKED


class BlockEnvironment(Switch[Github]):
    """Lets no branch and no tag deploy to each of the agent's GitHub environments: its jobs are refused, and with them
    the environment's secrets. Reviewers, wait timer and self-review stay as they are. Jobs that are in it already go on
    (github.cancel_runs), and whoever administers the repository can change it back. `admins_bypass` says that
    administrators may pass the environment's rules. Releasing restores the branches and tags that could deploy."""

    id = "github.block_environment"
    params = (github.AGENT,)
    outputs = ("repository", "environment", "patterns", "admins_bypass", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {"github": ("Actions: read", "Administration: write")}
    example = 'uses: github.block_environment\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    named = ("agent", "repository")

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = github.identity(params, agent)
        return github.things(agent, known, "environment", known.environments) if agent and known else ()

    def system(self, params: Mapping[str, Any], ports: Ports) -> Github:
        return github.system(params, ports)

    def name(self, params: Mapping[str, Any]) -> str:
        return f"environment {params['environment']} of {params['repository']}"

    def absent(self, params: Mapping[str, Any], system: Github) -> Done | Failed | None:
        if system.environment(params["repository"], params["environment"]):
            return None
        return Failed(False, f"GitHub knows no {self.name(params)}, or the bot may not see it: correct agents.yaml")

    def state(self, params: Mapping[str, Any], system: Github) -> dict[str, Any]:
        held = asdict(self._read(params, system))
        return {
            "branches": held["branches"],
            "patterns": [[one["name"], one["type"]] for one in held["patterns"]],
            "wait_timer": held["wait_timer"],
            "reviewers": [list(one) for one in held["reviewers"]],
            "prevent_self_review": held["prevent_self_review"],
        }

    def change(self, params: Mapping[str, Any], system: Github, key: str) -> Mapping[str, Any]:
        held = self._read(params, system)
        if (held.branches, held.patterns) != ("patterns", (NOTHING,)):
            system.set_environment(params["repository"], replace(held, branches="patterns", patterns=(NOTHING,)))
        return {}

    def seen(self, params: Mapping[str, Any], system: Github, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        held = self._read(params, system)
        if (held.branches, held.patterns) != ("patterns", (NOTHING,)):
            return None
        return {
            "repository": params["repository"],
            "environment": params["environment"],
            "patterns": [NOTHING.name],
            "admins_bypass": held.admins_bypass,
        }

    def restore(self, params: Mapping[str, Any], system: Github, before: Mapping[str, Any]) -> str:
        if self.state(params, system) != before:
            wanted = Environment(
                name=params["environment"],
                branches=before["branches"],
                patterns=tuple(RefPattern(*each) for each in before["patterns"]),
                wait_timer=before["wait_timer"],
                reviewers=tuple((kind, id) for kind, id in before["reviewers"]),
                prevent_self_review=before["prevent_self_review"],
            )
            system.set_environment(params["repository"], wanted)
        same = self.state(params, system) == before
        return "" if same else f"GitHub took the call, but {self.name(params)} is not as it was: compare it by hand"

    def _read(self, params: Mapping[str, Any], system: Github) -> Environment:
        held = system.environment(params["repository"], params["environment"])
        if held is None:
            raise Rejected(params["connection"], f"{self.name(params)} was there, and is not any more", retryable=True)
        return held
