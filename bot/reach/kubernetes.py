"""Kubernetes: the agent's service accounts with their tokens, its pods, and the workloads that start them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from bot.domain.agent import Agent, KubernetesIdentity
from bot.domain.reach import Alive, Held
from bot.errors import Denied, Rejected
from bot.ports import Cluster, NetworkPolicy, Pod, Ports, connected
from bot.ports.kubernetes import REVOKED, WORKLOADS
from bot.reach import Found, Limit, Look, Unread, each

PODS = 100  # of a namespace that are told


def looks(agent: Agent, ports: Ports) -> Iterator[Look]:
    if agent.kubernetes or agent.service_accounts:
        known = agent.kubernetes or KubernetesIdentity()
        yield Look(known.connection, partial(_look, agent, known, ports))


def _look(agent: Agent, known: KubernetesIdentity, ports: Ports) -> Iterator[Found]:
    cluster = connected(ports.clusters, known.connection)
    accounts = [(user.split(":")[2], user.split(":")[3]) for user in agent.service_accounts if user.count(":") == 3]
    if odd := [user for user in agent.service_accounts if user.count(":") != 3]:
        yield Unread(f"{known.connection}: {odd[0]!r} is no service account (system:serviceaccount:NAMESPACE:NAME)")
    workloads = [tuple(text.split("/")) for text in known.workloads if text.count("/") == 2]
    named = known.namespaces or (*(namespace for namespace, _ in accounts), *(where for where, *_ in workloads))
    places = {name: _Place(agent, known, cluster, name, accounts) for name in dict.fromkeys(named)}
    for namespace, name in dict.fromkeys(accounts):
        place = places.get(namespace) or _Place(agent, known, cluster, namespace, accounts)
        yield from each(partial(_account, place, name))
    for place in places.values():
        yield from each(partial(_pods, place))
    for namespace, kind, name in dict.fromkeys(workloads):
        yield from each(partial(_workload, agent, known, cluster, namespace, kind, name))
    if accounts:
        yield Limit(f"{known.connection}: tokens that an account was issued are listed nowhere, those in Secrets aside")


@dataclass
class _Place:
    """One namespace, read once."""

    agent: Agent
    known: KubernetesIdentity
    cluster: Cluster
    namespace: str
    accounts: Sequence[tuple[str, str]]

    @cached_property
    def pods(self) -> tuple[Pod, ...]:
        """The agent's own that may run. Raises SystemFailure."""
        labels = dict(self.known.pod_labels)
        return tuple(
            pod
            for pod in self.cluster.pods(self.namespace)
            if pod.runs
            and (
                (pod.namespace, pod.service_account) in self.accounts
                or (labels and labels.items() <= pod.labels.items())
            )
        )


def _account(place: _Place, name: str) -> Iterator[Found]:
    """A token is good for the account that it was issued for: an account that was made anew is alive in what got a new
    one, and in nothing else."""
    user, system, agent = f"system:serviceaccount:{place.namespace}:{name}", place.known.connection, place.agent.id
    found = place.cluster.service_account(place.namespace, name)
    if found is None:
        yield Held("service-account", user, system, agent, alive=Alive.NO, why="there is no such account")
        return
    alive, why = Alive.YES, ""
    if REVOKED in found.annotations:
        running = [pod for pod in place.pods if pod.service_account == name]
        alive = Alive.YES if running else Alive.NO
        got = f"{len(running)} pods run as it and get new ones" if running else "no pod runs as it"
        why = f"tokens from before are refused; {got}"
    yield Held("service-account", user, system, agent, alive=alive, why=why)
    for secret in place.cluster.token_secrets(place.namespace, name):
        yield Held("account-token", f"{place.namespace}/{secret}", system, agent, of=user, alive=Alive.YES)


def _pods(place: _Place) -> Iterator[Found]:
    pods = place.pods
    policies: tuple[NetworkPolicy, ...] = ()
    try:
        policies = place.cluster.network_policies(place.namespace) if pods else ()
    except (Denied, Rejected) as refused:  # then each counts as one that has its network
        yield Unread(str(refused))
    for pod in pods[:PODS]:
        of = f"system:serviceaccount:{pod.namespace}:{pod.service_account}"
        denied = _is_denied(pod, policies)
        said = [
            pod.phase.lower(),
            "ending" if pod.terminating else "",
            "on its node's network" if pod.host_network else "",
        ]
        said += ["no network, where the cluster enforces policies"] if denied else []
        alive, why = Alive.UNKNOWN if denied else Alive.YES, ", ".join(filter(None, said))
        id = f"{pod.namespace}/{pod.name}"
        yield Held("pod", id, place.known.connection, place.agent.id, of=of, alive=alive, why=why)
    if len(pods) > PODS:
        yield Unread(f"{place.known.connection}: {len(pods) - PODS} more pods in {place.namespace}")


def _is_denied(pod: Pod, policies: Sequence[NetworkPolicy]) -> bool:
    """Policies add up: one has to bind it either way, and none of them to let anything through."""
    bound = [policy for policy in policies if policy.selects(pod.labels)]
    ways = {way for policy in bound for way in policy.spec.get("policyTypes", ())}
    return ways >= {"Ingress", "Egress"} and not pod.host_network and not any(policy.allows for policy in bound)


def _workload(
    agent: Agent, known: KubernetesIdentity, cluster: Cluster, namespace: str, kind: str, name: str
) -> Iterator[Found]:
    id = f"{namespace}/{kind}/{name}"
    if kind not in WORKLOADS:
        yield Unread(f"{known.connection}: {id} is of a kind that is not looked at")
        return
    found = cluster.workload(kind, namespace, name)
    if found is None:
        yield Held("workload", id, known.connection, agent.id, alive=Alive.NO, why="there is no such workload")
        return
    jobs = [job for job in cluster.jobs(namespace, found.uid) if not job.stopped] if kind == "CronJob" else []
    state = "suspended" if found.suspended else "" if found.replicas is None else f"{found.replicas} replicas"
    said = ["has ended" if found.finished else state, f"{len(jobs)} of its jobs run" if jobs else ""]
    alive = Alive.NO if found.stopped and not jobs else Alive.YES
    yield Held("workload", id, known.connection, agent.id, alive=alive, why=", ".join(filter(None, said)))
