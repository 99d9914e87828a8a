"""`k8s.deny_network`: the agent's pods get no new connection, in or out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from bot.actions import k8s
from bot.actions.switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Failed, Grade
from bot.domain.playbook import Target
from bot.ports import Cluster, NetworkPolicy, Pod, Ports


class DenyNetwork(Switch[Cluster]):
    """Puts a NetworkPolicy that allows nothing on the agent's pods, by the `pod_labels` of agents.yaml, in each of its
    namespaces. What is proved is that the policy stands: it binds only where the cluster's network enforces policies
    (Calico and Cilium do, some others do not), and connections that were open may live on. Policies add up: where
    another one still allows these pods something, and for pods on the host's network, or pods of its accounts without
    the labels, the result is unverified and `alive` names them. Releasing takes the policy away, or puts back what
    stood under its name."""

    id = "k8s.deny_network"
    params = (k8s.AGENT, k8s.CONNECTION)
    outputs = ("policy", "pods", "connections", "alive", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kubernetes": (
            *(f"{verb} networkpolicies.networking.k8s.io" for verb in ("get", "list", "create", "update", "delete")),
            "list pods",
        )
    }
    example = 'uses: k8s.deny_network\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = k8s.identity(params, agent)
        if known is None or agent is None:
            return ()
        if not known.pod_labels:  # no label selects every pod of the namespace
            raise ValueError(f"which pods are {agent.id}'s? Add kubernetes.pod_labels to it in agents.yaml")
        concrete = {
            "agent": agent.id,
            "connection": known.connection,
            "labels": dict(known.pod_labels),
            "accounts": [k8s.user(*account) for account in k8s.accounts(agent)],
            "policy": policy_name(agent.id),
        }
        return tuple(
            Target(f"k8s-pods:{known.connection}/{each}/{agent.id}", {**concrete, "namespace": each}, known.connection)
            for each in k8s.namespaces(known, agent)
        )

    def system(self, params: Mapping[str, Any], ports: Ports) -> Cluster:
        return k8s.cluster(params, ports)

    def name(self, params: Mapping[str, Any]) -> str:
        return f"{params['namespace']}/NetworkPolicy/{params['policy']}"

    def absent(self, params: Mapping[str, Any], system: Cluster) -> None:
        """The pods of tomorrow are bound as well."""

    def unwanted(self, params: Mapping[str, Any], system: Cluster) -> Failed | None:
        found = _selected(params, system.pods(params["namespace"]))
        return k8s.off_limits(
            params["namespace"], {k8s.user(pod.namespace, pod.service_account) for pod in found}, system
        )

    def state(self, params: Mapping[str, Any], system: Cluster) -> Mapping[str, Any] | None:
        found = _policy(params, system.network_policies(params["namespace"]))
        return dict(found.spec) if found else None

    def change(self, params: Mapping[str, Any], system: Cluster, key: str) -> Mapping[str, Any]:
        system.put_network_policy(params["namespace"], params["policy"], _denying(params))
        return {}

    def seen(self, params: Mapping[str, Any], system: Cluster, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        policies = system.network_policies(params["namespace"])
        ours = _policy(params, policies)
        if ours is None or not _denies(ours, _denying(params)):
            return None
        pods = system.pods(params["namespace"])
        alive = [*_alive(params, pods, policies)]
        evidence = {
            "policy": self.name(params),
            "pods": len(_selected(params, pods)),
            "connections": "those that were open may live on; a network that enforces no policies stops none",
        }
        return evidence | ({"alive": alive} if alive else {})

    def grade(self, evidence: Mapping[str, Any]) -> Grade:
        return Grade.UNVERIFIED if evidence.get("alive") else Grade.CONFIG

    def restore(self, params: Mapping[str, Any], system: Cluster, before: Mapping[str, Any] | None) -> str:
        if before is None:
            system.delete_network_policy(params["namespace"], params["policy"])
        else:
            system.put_network_policy(params["namespace"], params["policy"], before)
        same = self.state(params, system) == before
        return "" if same else f"the cluster took the call, but {self.name(params)} does not read as before"


def policy_name(agent: str) -> str:
    return f"firedoor-deny-{re.sub(r'[^a-z0-9]+', '-', agent.lower()).strip('-')}"


def _denying(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"podSelector": {"matchLabels": params["labels"]}, "policyTypes": ["Ingress", "Egress"]}


def _denies(policy: NetworkPolicy, wanted: Mapping[str, Any]) -> bool:
    selects = policy.spec.get("podSelector") == wanted["podSelector"]
    return selects and not policy.allows and {*policy.spec.get("policyTypes", ())} == {*wanted["policyTypes"]}


def _policy(params: Mapping[str, Any], among: tuple[NetworkPolicy, ...]) -> NetworkPolicy | None:
    return next((each for each in among if each.name == params["policy"]), None)


def _selected(params: Mapping[str, Any], pods: tuple[Pod, ...]) -> list[Pod]:
    return [pod for pod in pods if pod.runs and params["labels"].items() <= pod.labels.items()]


def _alive(params: Mapping[str, Any], pods: tuple[Pod, ...], policies: tuple[NetworkPolicy, ...]) -> Iterator[str]:
    """What the policy does not reach."""
    selected = _selected(params, pods)
    for policy in policies:
        through = [pod for pod in selected if policy.selects(pod.labels)]
        if through and policy.allows:
            yield f"policy {policy.name} still lets {len(through)} of its pods through"
    for pod in selected:
        if pod.host_network:
            yield f"pod {pod.name} is on the network of its node {pod.node}"
    for pod in k8s.own_pods(params, pods):
        if pod.runs and pod not in selected:
            yield f"pod {pod.name} runs as {pod.service_account} and does not wear the labels"
