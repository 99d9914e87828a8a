"""What the `k8s.*` actions share: which cluster, which accounts and pods are the agent's, and what is never touched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from bot.domain.agent import Agent, KubernetesIdentity
from bot.domain.outcome import Failed
from bot.domain.playbook import Param
from bot.ports import Cluster, Pod, Ports, connected
from bot.ports.kubernetes import WORKLOADS

AGENT = Param("agent", doc="agent id; `kubernetes` and `service_accounts` in agents.yaml say what it has in a cluster")
CONNECTION = Param("connection", required=False, doc="Kubernetes connection; the agent's own by default")

SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease"})  # namespaces that the cluster itself lives in
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def identity(params: Mapping[str, Any], agent: Agent | None) -> KubernetesIdentity | None:
    """What agents.yaml says of it; None where it has nothing in any cluster. ValueError for an unknown agent."""
    if agent is None:
        raise ValueError(f"no agent {params.get('agent')!r} in agents.yaml: what it has in Kubernetes is not known")
    if agent.kubernetes is None and not agent.service_accounts:
        return None
    known = agent.kubernetes or KubernetesIdentity()
    return replace(known, connection=params.get("connection") or known.connection)


def cluster(params: Mapping[str, Any], ports: Ports) -> Cluster:
    return connected(ports.clusters, params["connection"])


def accounts(agent: Agent) -> tuple[tuple[str, str], ...]:
    """(namespace, name) of each of its service accounts."""
    found = []
    for user in dict.fromkeys(agent.service_accounts):
        parts = user.split(":")
        if len(parts) != 4 or parts[:2] != ["system", "serviceaccount"] or not all(map(_NAME.fullmatch, parts[2:])):
            raise ValueError(
                f"{user!r} is no service account (system:serviceaccount:NAMESPACE:NAME): correct {agent.id} in "
                "agents.yaml"
            )
        found.append((parts[2], parts[3]))
    return tuple(found)


def user(namespace: str, account: str) -> str:
    return f"system:serviceaccount:{namespace}:{account}"


def workload(text: str) -> tuple[str, str, str]:
    """(namespace, kind, name). ValueError with the reason, where it is none that can be stopped."""
    namespace, kind, name = ([*text.split("/"), "", ""])[:3]
    if kind == "DaemonSet":
        raise ValueError(f"{text} has no number of pods: use k8s.deny_network and k8s.revoke_tokens, or delete it")
    if kind not in WORKLOADS or text.count("/") != 2 or not (_NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
        raise ValueError(f"{text!r} is no workload: write namespace/Kind/name, with a Kind of {', '.join(WORKLOADS)}")
    return namespace, kind, name


def namespaces(known: KubernetesIdentity, agent: Agent) -> tuple[str, ...]:
    """Where its pods are."""
    from_workloads = [workload(each)[0] for each in known.workloads]
    found = known.namespaces or (*(namespace for namespace, _ in accounts(agent)), *from_workloads)
    return tuple(dict.fromkeys(found))


def own_pods(params: Mapping[str, Any], found: Iterable[Pod]) -> tuple[Pod, ...]:
    """Those with all of `labels`, and those that run as one of `accounts` (user names)."""
    labels: Mapping[str, str] = params["labels"]
    return tuple(
        pod
        for pod in found
        if (labels and labels.items() <= pod.labels.items())
        or user(pod.namespace, pod.service_account) in params["accounts"]
    )


def off_limits(namespace: str, users: Iterable[str], where: Cluster) -> Failed | None:
    """Refused, whatever agents.yaml says: what the cluster needs to live, and what the bot itself runs as."""
    if namespace in SYSTEM:
        return Failed(False, f"the cluster itself runs in {namespace}: nothing there is touched, do it by hand")
    own = where.identity()
    if own in users:
        return Failed(
            False, f"{own} is the bot's own account, and it would cut itself off: give the agent one of its own"
        )
    return None
