"""Two bots on one PostgreSQL: alerts that meet, a click, a kill in the middle, a process that stood still."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from bot.commands.records import records
from bot.domain.agent import Mode
from bot.domain.events import Acknowledged, PageSent
from bot.domain.record import Entry
from tests.stories import siem
from tests.stories.town import ACCOUNT, TRUST, Town, free_port, until

SEED = int(os.environ["FIREDOOR_SEED"])  # set by conftest
CHANGE, EXPOSURE = "unintended_production_change", "data_exposure"
ROOM = "C0INCIDENTS"

pytestmark = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)


@dataclass(frozen=True)
class Agent:
    """Whom an incident is about, and everything it holds."""

    name: str
    user: str
    key: str
    instance: str

    @property
    def entity(self) -> str:
        return f"e-{self.name}"


class Pair:
    """Two replicas, each at an address of its own."""

    def __init__(self, town: Town) -> None:
        self.town, self.ports = town, (town.port, free_port())
        with ThreadPoolExecutor(2) as both:
            self.served = list(both.map(lambda port: town.serve(port=port), self.ports))

    def post(self, number: int, body: Any, source: str = siem.NAME) -> dict[str, Any]:
        answer = self.town.post(body, source, url=self.served[number].url)
        assert answer.status_code == 202, answer.text
        (receipt,) = answer.json()["alerts"]
        return dict(receipt)

    def restart(self, number: int) -> None:
        self.served[number] = self.town.serve(port=self.ports[number])


@pytest.fixture
def town(tmp_path: Path, moto: str, store_url: str) -> Iterator[Town]:
    with Town(tmp_path / "operator", moto, store_url, minute=60) as built:
        siem.add(built)
        yield built


def hire(town: Town, name: str) -> Agent:
    """Another agent, with as much in its hands as agent-7 has. Before the bots start."""
    iam, ec2 = town.aws("iam"), town.aws("ec2")
    called = f"{name}-{town.id}"
    role = iam.create_role(RoleName=called, Path="/agents/", AssumeRolePolicyDocument=str(TRUST).replace("'", '"'))
    iam.create_user(UserName=called)
    key = iam.create_access_key(UserName=called)["AccessKey"]["AccessKeyId"]
    image = ec2.describe_instances(InstanceIds=[town.instance])["Reservations"][0]["Instances"][0]["ImageId"]
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    agent = Agent(name, called, key, instance)
    town.vault.add_entity(agent.entity, name)
    town.vault.issue_lease(f"aws/creds/{name}/", name)
    town.gateway.enroll(name)
    with town.editing("agents.yaml") as body:
        known = body["agents"]["agent-7"]
        held = {"roles": [role["Role"]["Arn"]], "users": [called], "access_keys": [key], "instances": [instance]}
        body["agents"][name] = {
            **known,
            "aws": {**known["aws"], **held, "mode_parameter": f"/agents/{called}/mode"},
            "vault": {
                "connection": "vault",
                "entity_id": agent.entity,
                "lease_prefixes": [f"aws/creds/{name}/"],
                "mode_path": f"agents/{name}/mode",
            },
        }
    return agent


def finding(town: Town, agent: Agent) -> dict[str, Any]:
    body = town.finding()
    body["detail"]["resource"]["accessKeyDetails"] |= {"accessKeyId": agent.key, "userName": agent.user}
    body["detail"]["resource"]["instanceDetails"]["instanceId"] = agent.instance
    return body


def entries(town: Town, incident: str) -> tuple[Entry, ...]:
    with mock.patch.dict(os.environ, town.env), records(town.folder) as kept:
        return kept.entries(incident)


def test_alerts_and_clicks_that_reach_both_count_once(town: Town) -> None:
    names = [f"racer-{n}" for n in range(3)]
    with town.editing("agents.yaml") as body:
        for name in names:
            town.gateway.enroll(name)
            body["agents"][name] = {"owner": "sre-1", "gateways": ["agents"]}
    pair = Pair(town)
    opened: dict[tuple[str, str], str] = {}
    with ThreadPoolExecutor(2) as both:
        for name in names:
            for type in (CHANGE, EXPOSURE):
                same = type == EXPOSURE  # one and the same alert, or two that are news to one another
                bodies = [siem.alert(name, type, rule="one" if same else "", severity="medium") for _ in pair.served]
                receipts = list(both.map(pair.post, (0, 1), bodies))
                assert {one["status"] for one in receipts} == {"opened", "repeated" if same else "attached"}, receipts
                (opened[name, type],) = {one["incident"] for one in receipts}
    assert sorted(town.incidents()) == sorted(opened.values())
    for (_, type), incident in opened.items():
        told = town.show(incident)
        assert told["alerts_total"] == (1 if type == EXPOSURE else 2)

    first = opened[names[0], CHANGE]
    asked = until(
        lambda: [
            m
            for m in town.workspace.direct_messages("U0SRE1")
            if m.metadata and m.metadata["event_payload"]["key"].startswith(f"{first}/escalation/")
        ]
    )
    town.workspace.fault("duplicate")
    assert town.slack.click("U0SRE1", asked[0].channel, asked[0].ts, "ack").wait(20)
    until(lambda: town.show(first)["acked_by"] == "sre-1")
    assert sum(isinstance(entry.event, Acknowledged) for entry in entries(town, first)) == 1
    assert town.firedoor("incident", "verify").returncode == 0


@pytest.mark.parametrize("rounds", [1, pytest.param(6, marks=pytest.mark.soak)])
def test_one_is_killed_and_one_stands_still_in_the_middle(town: Town, rounds: int) -> None:
    chance = random.Random(SEED)
    agents = [(hire(town, f"sleeper-{n}"), hire(town, f"worker-{n}")) for n in range(rounds)]
    pair = Pair(town)
    incidents: dict[str, Agent] = {}
    for turn, (sleeper, worker) in enumerate(agents):
        one = turn % 2
        for agent, sign in ((sleeper, signal.SIGSTOP), (worker, signal.SIGKILL)):
            incident = pair.post(one, finding(town, agent), "guardduty-web")["incident"]
            incidents[incident] = agent
            time.sleep(chance.uniform(0, 1.5))
            pair.served[one].process.send_signal(sign)
            contained(town, incident)  # by the other: at once after a kill, when the lease has run out after a stop
            if sign is signal.SIGSTOP:
                pair.served[one].process.send_signal(signal.SIGCONT)
                until(pair.served[one].ready, 60)
        if turn + 1 < rounds:
            pair.restart(one)
    until(lambda: all(p["state"] != "queued" for id in incidents for p in town.show(id)["pages"]), 60)
    time.sleep(2)  # for what a waking process might still do
    for incident, agent in incidents.items():
        assert_cut_once(town, agent)
        assert_told_once(town, incident)
    verified = town.firedoor("incident", "verify")
    assert verified.returncode == 0, verified.stdout


def contained(town: Town, incident: str) -> None:
    until(lambda: town.show(incident)["containment"] == "contained", 120, lambda: str(unsettled(town, incident)))


def unsettled(town: Town, incident: str) -> list[tuple[str, str, str]]:
    steps = town.show(incident)["steps"].items()
    return [(name, run["status"], run["why"]) for name, run in steps if run["status"] != "done"]


def assert_cut_once(town: Town, agent: Agent) -> None:
    iam, ec2 = town.aws("iam"), town.aws("ec2")
    assert town.gateway.agent(agent.name).mode is Mode.SHADOW
    modes = [one for one in town.gateway.agent(agent.name).activity if one["kind"] == "mode"]
    assert len(modes) == 1, modes
    entity = town.vault.read_entity(agent.entity)
    assert entity is not None
    assert entity.disabled
    assert not town.vault.leases_of(agent.name)
    (key,) = iam.list_access_keys(UserName=agent.user)["AccessKeyMetadata"]
    assert key["Status"] == "Inactive"
    mounted = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [agent.instance]}])["Volumes"]
    volumes = [volume["VolumeId"] for volume in mounted]
    assert volumes
    snapshots = ec2.describe_snapshots(Filters=[{"Name": "volume-id", "Values": volumes}], OwnerIds=[ACCOUNT])
    assert sorted(one["VolumeId"] for one in snapshots["Snapshots"]) == sorted(volumes)


def assert_told_once(town: Town, incident: str) -> None:
    """No decision is settled twice, no card stands twice, and a page that came twice says that it may have."""
    kept = entries(town, incident)
    settled = Counter(decision for entry in kept if (decision := getattr(entry.event, "decision", "")))
    assert {decision: n for decision, n in settled.items() if n > 1} == {}
    sent = [entry.event for entry in kept if isinstance(entry.event, PageSent)]
    marked = {event.key for event in sent if event.may_repeat}
    keys: Counter[str] = Counter()
    for person in town.people.values():
        for message in town.workspace.direct_messages(person["slack"]):
            assert message.metadata
            keys[message.metadata["event_payload"]["key"]] += 1
    twice = {key for key, count in keys.items() if count > 1 and key.startswith(f"{incident}/")}
    assert twice <= marked
    room = [m.metadata["event_payload"]["key"] for m in town.workspace.messages(ROOM) if m.metadata]
    of_it = Counter(key for key in room if key.startswith(f"{incident}/"))
    assert sum(n - 1 for n in of_it.values()) <= 1, "but what was on its way when the process was stopped"
    cards = [m for m in town.workspace.messages(ROOM) if not m.is_reply and f"{incident} " in m.text]
    assert len(cards) == 1
