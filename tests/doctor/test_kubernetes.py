"""What the doctor asks a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bot.adapters.kubernetes import KubernetesCluster, by_token
from bot.config import EXAMPLE, Config, load
from bot.config.connections import KubernetesConnection
from bot.doctor import Finding, State, examine
from bot.doctor.kubernetes import checks
from bot.domain.agent import Agent
from bot.sandbox.clock import SimClock
from bot.sandbox.kubernetes import SimCluster
from bot.sandbox.kubernetes_server import KubernetesServer

RULES = [
    {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get", "delete"], "resourceNames": ["agent-7"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]
ROLES = {"kubernetes": [{"metadata": {"namespace": "agents"}, "rules": RULES}]}


@pytest.fixture(scope="module")
def config() -> Config:
    loaded = load(EXAMPLE)
    settings = replace(loaded.settings, connections={"kubernetes": KubernetesConnection(in_cluster=True)})
    return replace(loaded, settings=settings)


@pytest.fixture
def server(clock: SimClock) -> Iterator[KubernetesServer]:
    with KubernetesServer(SimCluster(clock), "token") as made:
        yield made


def asked(config: Config, server: KubernetesServer, *, token: str = "token", roles: object = ROLES) -> list[Finding]:
    def connect(name: str, _: KubernetesConnection) -> KubernetesCluster:
        return KubernetesCluster(by_token(server.url, lambda: token), system=name, read_timeout=2)

    return [*examine(checks(config, connect, roles))]  # type: ignore[arg-type]  # a test may leave them out


def test_in_order(config: Config, server: KubernetesServer) -> None:
    found = asked(config, server)
    assert [each.state for each in found] == [State.OK, State.OK]
    assert "system:serviceaccount:firedoor:firedoor" in found[0].what
    assert "(3 rights)" in found[1].what


def test_rights_that_lack_are_named(config: Config, server: KubernetesServer) -> None:
    server.sim.denied |= {"delete serviceaccounts", "get pods/log"}
    _, lacking = asked(config, server)
    assert lacking.state is State.FAIL
    assert lacking.what == "it lacks: delete serviceaccounts in agents; get pods/log in agents"


def test_a_wrong_token_and_nobody_there(config: Config, server: KubernetesServer) -> None:
    (wrong,) = asked(config, server, token="another")
    assert wrong.state is State.FAIL
    assert "does not know the bot's credential" in wrong.what


def test_a_bot_that_goes_by_an_agents_account(config: Config, server: KubernetesServer) -> None:
    agent = Agent("agent-7", service_accounts=(server.sim.bot,))
    shared = replace(config, agents=replace(config.agents, agents={"agent-7": agent}))
    found = asked(shared, server)
    assert found[0].state is State.FAIL
    assert "an account of agent-7" in found[0].what


def test_a_cluster_that_no_playbook_needs(config: Config, server: KubernetesServer) -> None:
    assert asked(config, server, roles={})[1].state is State.WARN
