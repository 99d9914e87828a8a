"""`github.disable_workflow`: nobody starts it any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import github
from bot.actions.switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Target
from bot.ports import Github, Ports
from bot.ports.github import ACTIVE


class DisableWorkflow(Switch[Github]):
    """Disables each of the agent's GitHub Actions workflows: no event, schedule or person starts a run of it. Runs that
    are under way go on (github.cancel_runs). Whoever may write to Actions in that repository can enable it again: cut
    the agent's own access too (github.revoke_installation). Releasing enables it, if it was enabled before."""

    id = "github.disable_workflow"
    params = (github.AGENT,)
    outputs = ("repository", "workflow", "state", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {"github": ("Actions: write",)}
    example = 'uses: github.disable_workflow\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    named = ("agent", "repository")

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = github.identity(params, agent)
        return github.things(agent, known, "workflow", known.workflows) if agent and known else ()

    def system(self, params: Mapping[str, Any], ports: Ports) -> Github:
        return github.system(params, ports)

    def name(self, params: Mapping[str, Any]) -> str:
        return f"{params['workflow']} of {params['repository']}"

    def absent(self, params: Mapping[str, Any], system: Github) -> Done | Failed | None:
        if system.workflow(params["repository"], params["workflow"]):
            return None
        return Failed(False, f"GitHub knows no {self.name(params)}, or the bot may not see it: correct agents.yaml")

    def state(self, params: Mapping[str, Any], system: Github) -> str:
        found = system.workflow(params["repository"], params["workflow"])
        return found.state if found else ""

    def change(self, params: Mapping[str, Any], system: Github, key: str) -> Mapping[str, Any]:
        if self.state(params, system) == ACTIVE:
            system.set_workflow(params["repository"], params["workflow"], enabled=False)
        return {}

    def seen(self, params: Mapping[str, Any], system: Github, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        state = self.state(params, system)
        if not state.startswith("disabled"):
            return None
        return {"repository": params["repository"], "workflow": params["workflow"], "state": state}

    def restore(self, params: Mapping[str, Any], system: Github, before: str) -> str:
        if before == ACTIVE and self.state(params, system) != ACTIVE:
            system.set_workflow(params["repository"], params["workflow"], enabled=True)
        same = self.state(params, system) == before
        return "" if same else f"GitHub took the call, but {self.name(params)} is not {before}"
