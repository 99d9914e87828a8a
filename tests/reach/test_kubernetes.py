"""What an agent has in a cluster, asked of the simulator and through the official client of the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from bot.actions import registry
from bot.domain.agent import Agent, KubernetesIdentity
from bot.domain.outcome import Done
from bot.domain.reach import Alive, Held, Reach, radius
from bot.ports import Ports
from bot.reach import survey
from bot.sandbox.clock import SimClock
from tests.actions.driver import drive
from tests.actions.estate import Enrolled
from tests.cluster_estate import KINDS, ClusterEstate, cluster_estate

USER = "system:serviceaccount:agents:agent-7"
AGENT = Agent(
    "agent-7",
    service_accounts=(USER,),
    kubernetes=KubernetesIdentity(
        workloads=("agents/Deployment/agent-7", "agents/CronJob/nightly"), pod_labels=(("app", "agent-7"),)
    ),
)
ISSUED = "kubernetes: tokens that an account was issued are listed nowhere, those in Secrets aside"


@dataclass
class Looking:
    estate: ClusterEstate

    @property
    def ports(self) -> Ports:
        return Ports(self.estate.clock, Enrolled((AGENT,)), clusters={"kubernetes": self.estate.cluster})

    def look(self, *agents: Agent) -> Reach:
        return survey(agents or (AGENT,), self.ports, threads=False)

    def states(self, kind: str) -> dict[str, tuple[Alive, str]]:
        return {one.id: (one.alive, one.why) for one in self.held(kind)}

    def held(self, kind: str) -> list[Held]:
        return [one for one in self.look().held if one.kind == kind]

    def cut(self, action: str) -> None:
        chosen = registry()[action]
        for target in chosen.targets({"agent": AGENT.id}, AGENT):
            done = drive(chosen, target.params, self.ports, self.estate.clock, "test.0/INC-7/12.0")
            assert isinstance(done, Done), done


@pytest.fixture(params=KINDS)
def here(request: pytest.FixtureRequest, clock: SimClock) -> Iterator[Looking]:
    """agent-7 has a deployment of two pods and a cron job with a job under way; agent-8 has a pod beside it."""
    with cluster_estate(request.param, clock) as made:
        made.sim.add_workload("Deployment", "agents", "agent-7", account="agent-7")
        made.sim.add_workload("CronJob", "agents", "nightly", account="agent-7")
        made.sim.start_job("agents", "nightly", "nightly-1")
        made.sim.add_workload("Deployment", "agents", "agent-8", account="agent-8", number=1)
        made.sim.issue("agents", "agent-8", secret="agent-8-token")
        yield Looking(made)


def test_its_accounts_pods_and_workloads_are_told_and_nobody_elses(here: Looking) -> None:
    found = here.look()
    assert radius(found) == "1 Kubernetes account, 3 pods and 2 workloads"
    assert (found.alive, found.unread, found.limits) == (6, (), (ISSUED,))
    assert not [one for one in found.held if "agent-8" in one.id]
    assert {one.of for one in found.held if one.kind == "pod"} == {USER}
    assert here.states("workload") == {
        "agents/Deployment/agent-7": (Alive.YES, "2 replicas"),
        "agents/CronJob/nightly": (Alive.YES, "1 of its jobs run"),
    }


def test_tokens_in_secrets_are_told_by_the_secrets_name(here: Looking) -> None:
    here.estate.sim.issue("agents", "agent-7", secret="agent-7-token")
    (token,) = here.held("account-token")
    assert (token.id, token.of, token.alive) == ("agents/agent-7-token", USER, Alive.YES)


def test_an_account_whose_tokens_were_revoked_is_dead_once_no_pod_runs_as_it(here: Looking) -> None:
    here.estate.sim.issue("agents", "agent-7", secret="agent-7-token")
    here.cut("k8s.revoke_tokens")
    assert here.held("account-token") == []
    again = "tokens from before are refused; 3 pods run as it and get new ones"
    assert here.states("service-account") == {USER: (Alive.YES, again)}
    here.cut("k8s.scale_to_zero")
    assert here.states("service-account") == {USER: (Alive.NO, "tokens from before are refused; no pod runs as it")}
    assert here.look().alive == 0
    assert here.states("workload") == {
        "agents/Deployment/agent-7": (Alive.NO, "0 replicas"),
        "agents/CronJob/nightly": (Alive.NO, "suspended"),
    }


def test_a_pod_without_a_network_is_perhaps_alive_and_one_of_its_nodes_network_certainly(here: Looking) -> None:
    sim = here.estate.sim
    sim.add_workload(
        "Deployment", "agents", "host", account="agent-7", labels={"app": "agent-7"}, number=1, host_network=True
    )
    deny = {"podSelector": {"matchLabels": {"app": "agent-7"}}, "policyTypes": ["Ingress", "Egress"]}
    sim.add_policy("agents", "deny", deny)
    told = here.states("pod")
    alive = {id.partition("/")[2].rpartition("-")[0].split("-")[0]: state for id, state in told.items()}
    assert alive["agent"] == (Alive.UNKNOWN, "running, no network, where the cluster enforces policies")
    assert alive["nightly"] == (Alive.YES, "running"), "it wears no label of the policy"
    assert alive["host"] == (Alive.YES, "running, on its node's network")
    sim.add_policy("agents", "dns", {**deny, "egress": [{"ports": [{"port": 53}]}]})
    assert {state for state, _ in here.states("pod").values()} == {Alive.YES}, "policies add up"


def test_what_is_gone_is_dead(here: Looking) -> None:
    gone = replace(
        AGENT,
        service_accounts=("system:serviceaccount:agents:ghost",),
        kubernetes=KubernetesIdentity(workloads=("agents/Deployment/ghost",)),
    )
    found = here.look(gone)
    assert {(one.kind, one.alive) for one in found.held} == {("service-account", Alive.NO), ("workload", Alive.NO)}
    assert not found.unread


def test_what_is_refused_is_named_and_the_rest_told(here: Looking) -> None:
    here.estate.sim.denied = {"list secrets", "list networkpolicies"}
    found = here.look()
    assert dict(found.counts) == {"service-account": 1, "pod": 3, "workload": 2}
    assert [word for why in found.unread for word in ("secrets", "networkpolicies") if word in why] == [
        "secrets",
        "networkpolicies",
    ]


def test_a_cluster_that_is_away_is_asked_once_for_all_agents(here: Looking) -> None:
    here.estate.sim.away = True
    found = here.look(AGENT, replace(AGENT, id="agent-8"))
    assert len(found.unread) == 1
    assert "the API server does not answer" in found.unread[0]
    assert dict(found.counts) == {"agent": 1}


def test_an_account_that_is_written_wrong_and_a_cluster_that_is_not_connected_are_named(here: Looking) -> None:
    odd = replace(AGENT, service_accounts=("agents:agent-7", "system:serviceaccount:agents:agent-7"))
    (why,) = here.look(odd).unread
    assert why.startswith("kubernetes: 'agents:agent-7' is no service account")
    elsewhere = replace(AGENT, kubernetes=KubernetesIdentity(connection="other"))
    (why,) = here.look(elsewhere).unread
    assert why.startswith("other: no connection of this name is configured")
