"""`github.revoke_installation`: the tokens of an agent's GitHub App are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import github
from bot.actions.switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.playbook import Target
from bot.ports import Github, Ports


class RevokeInstallation(Switch[Github]):
    """Suspends the installation of the agent's GitHub App: every token that it was given, and every new one, is refused
    in that account. Before that a token with the right to read metadata is taken in hand; where GitHub then refuses it,
    the outcome is `verified-effect`, else `verified-config`. Only the app itself can suspend its installation, so
    `github.app` of agents.yaml names a connection with a key of that app, which the agent must not have: with one it
    could lift the suspension. Personal access tokens and deploy keys of the agent are not reached, nor are runs that
    are under way (github.cancel_runs). Releasing lifts the suspension, if it was not there before."""

    id = "github.revoke_installation"
    params = (github.AGENT,)
    outputs = ("installation", "account", "suspended", "token_refused", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {"github": (github.APP_KEY,)}
    example = 'uses: github.revoke_installation\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    best_grade = Grade.EFFECT

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = github.identity(params, agent)
        if agent is None or known is None:
            return ()
        if not known.app or not known.installation:
            raise ValueError(
                f"agents.yaml names no github.app and installation of {agent.id}: only the app itself can suspend its "
                "installation. Add them, or let an owner suspend it by hand in the account's settings"
            )
        concrete = {"agent": agent.id, "connection": known.app, "installation": known.installation}
        return (Target(f"github-installation:{known.installation}", concrete, known.app),)

    def system(self, params: Mapping[str, Any], ports: Ports) -> Github:
        return github.system(params, ports)

    def name(self, params: Mapping[str, Any]) -> str:
        return f"installation {params['installation']}"

    def absent(self, params: Mapping[str, Any], system: Github) -> Done | Failed | None:
        """GitHub says the same of an installation that was taken away and of another app's: no evidence."""
        if system.installation(params["installation"]):
            return None
        return Failed(
            False,
            f"the app of connection {params['connection']} knows no {self.name(params)}: it was uninstalled, or it is "
            "another app's",
        )

    def state(self, params: Mapping[str, Any], system: Github) -> bool:
        found = system.installation(params["installation"])
        return found is not None and found.suspended

    def change(self, params: Mapping[str, Any], system: Github, key: str) -> Mapping[str, Any]:
        if not self.state(params, system):
            system.take_probe(params["installation"])
            system.suspend(params["installation"])
        return {}

    def seen(self, params: Mapping[str, Any], system: Github, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = system.installation(params["installation"])
        if found is None or not found.suspended:
            return None
        refused = system.probe_refused(found.id)
        if refused is False:  # GitHub says suspended, and still takes its token
            return None
        return {
            "installation": found.id,
            "account": found.account,
            "suspended": True,
            "token_refused": refused is True,
        }

    def grade(self, evidence: Mapping[str, Any]) -> Grade:
        return Grade.EFFECT if evidence["token_refused"] else Grade.CONFIG

    def restore(self, params: Mapping[str, Any], system: Github, before: bool) -> str:
        if self.state(params, system) and not before:
            system.unsuspend(params["installation"])
        same = self.state(params, system) == before
        return "" if same else f"{self.name(params)} is not as it was: look whether somebody else suspended it"
