"""Clusters, and where they run an agent, in the operator's files."""

from __future__ import annotations

import pytest

from bot.config.checks import check
from bot.config.connections import KubernetesConnection
from bot.config.secrets import SecretRef
from tests.config.folder import Folder

TOP, AGENT = "\nconnections:\n", "  agent-7:\n    name:"


def with_cluster(folder: Folder, made: str) -> Folder:
    return folder.edit("firedoor.yaml", TOP, f"{TOP}  kubernetes: {{kind: kubernetes, {made}}}\n")


def with_agent(folder: Folder, said: str) -> Folder:
    return folder.edit("agents.yaml", AGENT, f"  agent-7:\n    kubernetes: {{{said}}}\n    name:")


def found(folder: Folder) -> list[str]:
    """What the loaders refuse, or else what the checks find."""
    return folder.problems() or [str(problem) for problem in check(folder.load(), folder.actions)]


@pytest.mark.parametrize(
    ("made", "known"),
    [
        ("in_cluster: true", KubernetesConnection(in_cluster=True)),
        ("kubeconfig: kubeconfig, context: prod", KubernetesConnection(kubeconfig="kubeconfig", context="prod")),
        (
            'url: "https://10.0.0.1:6443", token: env:T, ca: ca.pem, read_timeout: 4',
            KubernetesConnection("https://10.0.0.1:6443", SecretRef("env", "T"), "ca.pem", read_timeout=4),
        ),
    ],
)
def test_three_ways_into_a_cluster(folder: Folder, made: str, known: KubernetesConnection) -> None:
    assert with_cluster(folder, made).load().settings.connections["kubernetes"] == known


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("in_cluster: false", "needs one of 'url', 'kubeconfig' and 'in_cluster'"),
        ("in_cluster: true, kubeconfig: k", "needs one of"),
        ('url: "https://k"', "'url' and 'token' belong together"),
        ("in_cluster: true, token: env:T", "'url' and 'token' belong together"),
        ('url: "http://k.example.net", token: env:T', "it is https, or on this machine"),
    ],
)
def test_a_connection_that_is_none(folder: Folder, made: str, said: str) -> None:
    assert any(said in problem for problem in with_cluster(folder, made).problems())


def test_an_agent_that_a_cluster_runs(folder: Folder) -> None:
    said = "workloads: [agents/Deployment/agent-7, agents/CronJob/x], pod_labels: {app: agent-7}"
    agents = with_agent(with_cluster(folder, "in_cluster: true"), said).load().agents
    known = agents.agents["agent-7"].kubernetes
    assert known is not None
    assert known.workloads == ("agents/Deployment/agent-7", "agents/CronJob/x")
    assert known.pod_labels == (("app", "agent-7"),)
    assert agents.count("k8s-workload") == 2


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("workloads: [agent-7]", "'agent-7' is no workload that can be stopped"),
        ("workloads: [agents/DaemonSet/agent-7]", "is no workload that can be stopped"),
        ("namespaces: [kube-system]", "'kube-system' belongs to the cluster itself"),
        ("workloads: [kube-system/Deployment/x]", "'kube-system' belongs to the cluster itself"),
        ("connection: vault", "the connection 'vault' is not of kind kubernetes"),
        ("connection: elsewhere", "the connection 'elsewhere' is not in firedoor.yaml"),
    ],
)
def test_an_agent_that_is_wrong(folder: Folder, said: str, problem: str) -> None:
    assert any(problem in each for each in found(with_agent(with_cluster(folder, "in_cluster: true"), said)))


def test_a_step_without_a_cluster(folder: Folder) -> None:
    step = '  k: {uses: k8s.revoke_tokens, with: {agent: "${{ agent.id }}"}, contains: true}\n'
    folder.edit("playbooks/data-exposure.yaml", "\nsteps:\n", f"\nsteps:\n{step}")
    assert any("needs kubernetes, and no connection" in each for each in found(folder))
