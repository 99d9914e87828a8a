"""What the doctor says of GitHub, asked of the stand-in server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from bot.adapters.github import AppKey, HttpGithub
from bot.config import EXAMPLE, load
from bot.config.connections import GithubConnection
from bot.config.secrets import SecretRef
from bot.doctor import Finding, State, examine, github
from bot.domain.agent import GithubIdentity
from bot.sandbox.clock import SimClock
from tests.github_estate import APP, INSTALLED, Town, key, town


def told(here: Town, installation: int, token: str = "token") -> list[Finding]:
    config = load(EXAMPLE)
    own = GithubConnection("", token=SecretRef("env", "T"))
    app = GithubConnection("", app_id=APP, private_key=SecretRef("env", "K"))
    settings = replace(config.settings, connections={"github": own, "agents_app": app})
    agent = replace(config.agents.agents["agent-7"], github=GithubIdentity(app="agents_app", installation=installation))
    agents = replace(config.agents, agents={"agent-7": agent})

    def connect(name: str, made: GithubConnection) -> HttpGithub:
        assert here.server
        if made.app_id:
            return HttpGithub(name, here.server.url, here.clock, app=AppKey(APP, lambda: key()[0]))
        return HttpGithub(name, here.server.url, here.clock, token=lambda: token)

    return [*examine([*github.checks(replace(config, settings=settings, agents=agents), connect)])]


def test_both_credentials_are_tried_and_the_installation_is_looked_up() -> None:
    with town("http", SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC))) as here:
        assert [(one.state, one.subject) for one in told(here, INSTALLED)] == [
            (State.OK, "github"),
            (State.OK, "agents_app"),
            (State.OK, "agents_app agent-7"),
        ]
        here.sim.suspend(INSTALLED)
        assert "suspended now" in told(here, INSTALLED)[-1].what
        assert told(here, 4)[-1].state is State.FAIL
        assert told(here, INSTALLED, "old")[0].state is State.FAIL
