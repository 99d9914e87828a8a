"""Kubernetes: does the cluster know the bot, and may it do what its playbooks need on these agents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from bot.adapters.kubernetes import KubernetesCluster
from bot.config import Config
from bot.config.connections import KubernetesConnection
from bot.doctor import Check, Finding, State

Roles = Mapping[str, Sequence[Mapping[str, Any]]]  # connection -> manifests of kind Role


def checks(
    config: Config, connect: Callable[[str, KubernetesConnection], KubernetesCluster], roles: Roles
) -> Iterator[Check]:
    """`roles`: what `firedoor actions policy` prints."""
    for name, made in config.settings.connections.items():
        if isinstance(made, KubernetesConnection):
            agents = {user: each.id for each in config.agents.agents.values() for user in each.service_accounts}
            yield Check(name, partial(_cluster, name, partial(connect, name, made), agents, roles.get(name, ())))


def _cluster(
    name: str, connect: Callable[[], KubernetesCluster], agents: Mapping[str, str], roles: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    with closing(connect()) as cluster:
        own = cluster.identity()
        if own in agents:
            todo = "Give the bot a service account of its own: bot and agents share no credential."
            yield Finding(State.FAIL, name, f"the bot is {own} there, which is an account of {agents[own]}", todo)
        else:
            yield Finding(State.OK, name, f"the cluster knows the bot as {own}")
        asked = [*_asked(roles)]
        lacking = [each for each in asked if not cluster.allowed(*each)]
    if lacking:
        words = "; ".join(
            f"{verb} {resource} in {namespace or 'the whole cluster'}" for namespace, verb, _, resource, _ in lacking
        )
        yield Finding(State.FAIL, f"{name} policy", f"it lacks: {words}", "Compare: firedoor actions policy")
    elif asked:
        yield Finding(State.OK, f"{name} policy", f"it may do what its playbooks need ({len(asked)} rights)")
    else:
        todo = "Use a k8s action in a playbook, or take the connection out."
        yield Finding(State.WARN, f"{name} policy", "no playbook needs anything of this cluster", todo)


def _asked(roles: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str, str]]:
    """(namespace, verb, group, resource, name)."""
    for role in roles:
        for rule in role["rules"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames", [""]):
                    yield role["metadata"].get("namespace", ""), verb, rule["apiGroups"][0], rule["resources"][0], name
