"""Pods that enrol themselves, by tokens that a simulated cluster judges; and all who try it with another token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.adapters.kubernetes import KubernetesCluster, by_token
from bot.adapters.signing import sign, verify
from bot.domain.agent import KubernetesIdentity
from bot.domain.events import InstanceEnrolled
from bot.domain.timeline import narrate
from bot.engine import switchboard
from bot.ports import Clock, Cluster
from bot.sandbox.clock import SimClock
from bot.sandbox.kubernetes import SimCluster
from bot.sandbox.kubernetes_server import KubernetesServer
from bot.web.http import TurnedAway, turned_away
from bot.web.pods import RATE, Pods
from tests.web.desk import Desk, make_desk

ENROL = "/agents/v1/enrol"
HERE = "agents"


@dataclass
class House:
    desk: Desk
    sim: SimCluster

    def asks(self, token: object, agent: object = "agent-7", **more: Any) -> httpx.Response:
        return self.desk.ask("POST", ENROL, json={"agent": agent, "token": token, **more})

    def token(self, account: str = "agent-7", *, pod: str = "", audience: str = "firedoor", **how: Any) -> str:
        return self.sim.issue(HERE, account, pod=pod or self.pods(account)[0], audience=audience, **how)

    def pods(self, account: str = "agent-7") -> list[str]:
        return [pod.name for pod in self.sim.pods(HERE, f"app={account}")]

    def enrolled(self) -> list[InstanceEnrolled]:
        entries = self.desk.engine.entries("instances:agent-7")
        return [entry.event for entry in entries if isinstance(entry.event, InstanceEnrolled)]


@contextmanager
def housed(path: Path, clock: Clock, sim: SimCluster, cluster: Cluster) -> Iterator[House]:
    """agent-7 has an account in the cluster, and its pods may enrol themselves; agent-9 has one, and they may not."""
    desk = make_desk(path / "firedoor.db", clock)
    agents: Any = desk.engine.world.config.agents.agents
    before = dict(agents)
    for id, may in (("agent-7", True), ("agent-9", False)):
        sim.add_workload("Deployment", HERE, id, account=id)
        account = f"system:serviceaccount:{HERE}:{id}"
        agents[id] = replace(agents[id], service_accounts=(account,), kubernetes=KubernetesIdentity(enrol=may))
    desk.engine.world.ports.clusters["kubernetes"] = cluster  # type: ignore[index]  # as if it had been configured
    yield House(desk, sim)
    desk.stop()
    agents.update(before)  # the example is read once for all tests


@pytest.fixture
def house(tmp_path: Path, clock: SimClock) -> Iterator[House]:
    sim = SimCluster(clock)
    with housed(tmp_path, clock, sim, sim) as house:
        yield house


def test_a_pod_enrols_itself_once_and_its_key_opens_the_agents_api(house: House, clock: SimClock) -> None:
    pod = house.pods()[0]
    answer = house.asks(house.token(pod=pod))
    assert answer.status_code == 200, answer.text
    key = answer.json().pop("key")
    assert answer.json() | {"key": ""} == {"agent": "agent-7", "instance": pod, "serial": 1, "key": ""}
    headers = {**sign([key], "m-1", clock.now(), b""), "firedoor-instance": f"agent-7/{pod}"}
    order = house.desk.ask("GET", "/agents/v1/mode", headers=headers)
    assert order.json()["mode"] == "active"
    verify([key], order.headers, order.content, clock.now())
    (event,) = house.enrolled()
    assert (event.by, event.via) == (f"system:serviceaccount:{HERE}:agent-7", "kubernetes")
    assert key.encode() not in house.desk.bytes_on_disk()
    said = "".join(line.text for line in narrate(house.desk.engine.entries("instances:agent-7")))
    assert f"system:serviceaccount:{HERE}:agent-7 enrolled instance {pod} of agent agent-7" in said


def test_a_token_that_is_replayed_and_another_of_the_same_pod_get_no_second_key(house: House) -> None:
    one, two = house.pods()[:2]
    token = house.token(pod=one)
    assert house.asks(token).status_code == 200
    for again in (token, house.token(pod=one)):
        answer = house.asks(again)
        assert (answer.status_code, answer.json()["code"]) == (409, "enrolled_before")
    house.desk.engine.submit(switchboard.revoke("agent-7", one, "sre-1", "cli")).result()
    assert house.asks(house.token(pod=one)).status_code == 409, "whom people revoked cannot come back by itself"
    house.desk.engine.submit(switchboard.enroll("agent-7", one, "sre-1", "cli")).result()
    assert house.asks(house.token(pod=one)).status_code == 409, "nor does it void the key that a person gave it"
    assert house.asks(house.token(pod=two)).status_code == 200
    assert len(house.enrolled()) == 3


def test_a_pod_of_the_same_name_that_came_after_it_is_another(house: House, clock: SimClock) -> None:
    pod = house.pods()[0]
    old = house.token(pod=pod)
    first = house.asks(old).json()
    held = house.sim.objects["pods", HERE, pod]
    house.sim.objects["pods", HERE, pod] = {**held, "metadata": {**held["metadata"], "uid": "another-pod"}}
    clock.forward(seconds=11)  # for so long the API server remembers what it has seen
    assert house.asks(old).status_code == 401, "its token ended with it"
    second = house.asks(house.token(pod=pod)).json()
    assert (second["instance"], second["serial"]) == (pod, 2)
    assert second["key"] != first["key"]


def test_tokens_that_are_not_taken(house: House, clock: SimClock) -> None:
    short = house.token(hours=0.01)
    clock.forward(minutes=2)
    pod = house.pods()[0]
    gone = house.token(pod=pod)
    del house.sim.objects["pods", HERE, pod]
    house.sim.add_account(HERE, "nobody")
    refused = {
        "expired": short,
        "of a pod that is gone": gone,
        "for the API server": house.token(audience=""),
        "for another installation": house.token(audience="firedoor-test"),
        "of another agent's account": house.token("agent-9"),
        "of nobody's account": house.sim.issue(HERE, "nobody", audience="firedoor"),
        "bound to no pod": house.sim.issue(HERE, "agent-7", audience="firedoor"),
        "garbage": "ey.ey.ey",
    }
    answers = {name: house.asks(token) for name, token in refused.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(refused, 401)
    assert len({answer.text for answer in answers.values()}) == 1, "nobody learns what was wrong with it"
    assert house.enrolled() == []


def test_nobody_enrols_where_agents_yaml_does_not_let_them_and_no_cluster_is_asked(house: House) -> None:
    house.sim.away = True
    for agent in ("agent-9", "agent-8", "", "agent-7/x"):
        assert house.asks("t", agent).status_code == 401
    assert house.asks("t").status_code == 503


def test_an_account_that_two_agents_claim_is_nobodys(house: House) -> None:
    agents: Any = house.desk.engine.world.config.agents.agents
    agents["agent-9"] = replace(agents["agent-9"], service_accounts=agents["agent-7"].service_accounts)
    assert house.asks(house.token()).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[" * 2000, 400),
        (b"[]", 422),
        (b'{"agent": "agent-7"}', 422),
        (b'{"agent": "agent-7", "token": 7}', 422),
        (b'{"agent": ["agent-7"], "token": "t"}', 422),
        (b'{"agent": "agent-7", "token": " "}', 422),
        (json.dumps({"agent": "agent-7", "token": "\u00e9"}).encode(), 422),
        (b'{"agent": "agent-7", "token": "' + b"t" * 5000 + b'"}', 413),
    ],
    ids=["half", "deep", "list", "no-token", "number", "agents", "blank", "not-ascii", "large"],
)
def test_garbage_is_turned_away(house: House, body: bytes, status: int) -> None:
    assert house.desk.ask("POST", ENROL, content=body).status_code == status
    assert house.desk.ask("GET", ENROL).status_code == 405


def test_a_flood_reaches_the_cluster_a_few_times_only(house: House) -> None:
    pods = Pods(house.desk.engine, house.desk.bot.instance_keys, monotonic=lambda: 0.0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await (await pods.answer(scope, receive)).send(send)
        except TurnedAway as error:
            await turned_away(error).send(send)

    house.desk.app = app
    assert [house.asks("ey.ey.ey").status_code for _ in range(RATE + 2)] == [401] * RATE + [429] * 2


def test_a_cluster_that_is_away_or_denies_the_bot_is_no_verdict_on_the_pod(house: House) -> None:
    token = house.token()
    house.sim.denied.add("create tokenreviews")
    assert house.asks(token).status_code == 503
    house.sim.denied.clear()
    assert house.asks(token).status_code == 200


def test_the_same_by_the_official_client(tmp_path: Path, clock: SimClock) -> None:
    sim = SimCluster(clock)
    with KubernetesServer(sim, "the-bots-own-token", hang=2) as server:
        client = KubernetesCluster(by_token(server.url, lambda: "the-bots-own-token"))
        with closing(client), housed(tmp_path, clock, sim, client) as house:
            token = house.token()
            assert [house.asks(one).status_code for one in (house.token(audience=""), token, token)] == [401, 200, 409]
