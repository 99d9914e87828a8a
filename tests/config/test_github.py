"""`github` in agents.yaml and firedoor.yaml."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.actions import registry
from bot.config import EXAMPLE, check, load
from bot.config.connections import GithubConnection
from bot.config.secrets import SecretRef
from bot.domain.agent import GithubIdentity
from tests.config.folder import Folder

GITHUB = """\
    github:
      app: agents_app
      installation: 77
      login: "agent-7[bot]"
      workflows: ["acme/shop:deploy.yml"]
      environments: ["acme/shop:eu/production"]
    vault:
      connection: vault
      entity_id: e-7
"""
VAULT = "    vault:\n      connection: vault\n      entity_id: e-7\n"
CONNECTIONS = """\
connections:
  github: {kind: github, url: "https://github.example/api/v3", token: env:GITHUB_TOKEN}
  agents_app: {kind: github, app_id: "1234", private_key: file:secrets/agents-app.pem}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path, registry())
    return made.edit("agents.yaml", VAULT, GITHUB).edit("firedoor.yaml", "connections:\n", CONNECTIONS)


def test_it_is_read(folder: Folder) -> None:
    config = folder.load()
    agent = config.agents.agents["agent-7"]
    assert agent.github == GithubIdentity(
        app="agents_app",
        installation=77,
        login="agent-7[bot]",
        workflows=("acme/shop:deploy.yml",),
        environments=("acme/shop:eu/production",),
    )
    assert config.agents.by_actor(["agent-7[bot]"]) is agent
    kinds = ("github-installation", "github-workflow", "github-environment", "github-runs")
    assert [config.agents.count(kind) for kind in kinds] == [1, 1, 1, 0]
    token = GithubConnection("https://github.example/api/v3", token=SecretRef("env", "GITHUB_TOKEN"))
    assert config.settings.connections["github"] == token
    app = config.settings.connections["agents_app"]
    assert isinstance(app, GithubConnection)
    assert (app.url, app.app_id) == ("https://api.github.com", "1234")
    assert not [one for one in check(config, registry()) if "github" in str(one).lower()]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("installation: 77", "installation: 0", "'app' and 'installation' belong together"),
        ("app: agents_app", "app: github", "'app' is the bot's own access too"),
        ("acme/shop:deploy.yml", "deploy.yml", "is not how GitHub's workflows are written"),
        ("acme/shop:eu/production", "production", "is not how GitHub's environments are written"),
        ("installation: 77", "installation: seventy", "must be a whole number"),
        ("login:", "logins:", "logins"),
    ],
    ids=["installation", "shared", "workflow", "environment", "number", "key"],
)
def test_what_is_wrong_is_said_with_its_line(folder: Folder, old: str, new: str, told: str) -> None:
    problems = folder.edit("agents.yaml", old, new).problems()
    assert any(told in problem and "agents.yaml:" in problem for problem in problems), problems


@pytest.mark.parametrize(
    "credential",
    ["timeout: 5", 'app_id: "1"', "private_key: env:K", 'token: env:T, app_id: "1", private_key: env:K'],
    ids=["none", "id alone", "key alone", "both"],
)
def test_a_connection_has_one_credential(folder: Folder, credential: str) -> None:
    old = 'app_id: "1234", private_key: file:secrets/agents-app.pem'
    problems = folder.edit("firedoor.yaml", old, credential).problems()
    assert any("either 'token', or 'app_id' and 'private_key'" in problem for problem in problems), problems


def test_a_token_cannot_suspend_and_a_missing_connection_is_named() -> None:
    config = load(EXAMPLE)
    agent = replace(config.agents.agents["agent-7"], github=GithubIdentity(app="agents_app", installation=77))
    agents = replace(config.agents, agents={**config.agents.agents, "agent-7": agent})
    told = [str(one) for one in check(replace(config, agents=agents), registry()) if one.blocking]
    assert sum("the connection" in one and "is not in firedoor.yaml" in one for one in told) == 2
    token = GithubConnection("https://api.github.com", token=SecretRef("env", "T"))
    settings = replace(
        config.settings, connections={**config.settings.connections, "github": token, "agents_app": token}
    )
    told = [str(one) for one in check(replace(config, agents=agents, settings=settings), registry()) if one.blocking]
    assert any("that connection is a token's" in one for one in told)
