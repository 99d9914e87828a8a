"""The Kubernetes half of `firedoor actions policy`: a Role for each namespace that agents live in."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bot.actions import k8s
from bot.actions.k8s_deny_network import policy_name
from bot.domain.agent import Agent
from bot.ports.kubernetes import WORKLOADS

_RBAC = "rbac.authorization.k8s.io/v1"
_PERMISSION = re.compile(r"(\w+) (\w+)(?:\.([\w.]+))?(/\w+)?")
_UNNAMED = frozenset({"list", "create"})  # RBAC cannot narrow them to a name: the request has none


def roles(permissions: Iterable[str], agents: Sequence[Agent], connection: str) -> list[dict[str, Any]]:
    """Manifests of kind Role, for the agents of one connection; of a ClusterRole besides, where pods enrol themselves:
    whose a token is belongs to no namespace."""
    here = [(agent, known) for agent in agents if (known := k8s.identity({}, agent)) and known.connection == connection]
    where = sorted({each for agent, known in here for each in k8s.namespaces(known, agent)} - k8s.SYSTEM)
    named = {namespace: _names([agent for agent, _ in here], namespace) for namespace in where}
    reviews = {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}
    whole = [{"apiVersion": _RBAC, "kind": "ClusterRole", "metadata": {"name": "firedoor"}, "rules": [reviews]}]
    return [*(whole if any(known.enrol for _, known in here) else ())] + [
        {
            "apiVersion": _RBAC,
            "kind": "Role",
            "metadata": {"name": "firedoor", "namespace": namespace},
            "rules": _rules(sorted({*permissions}), named[namespace]),
        }
        for namespace in where
    ]


def _names(agents: Sequence[Agent], namespace: str) -> Mapping[str, frozenset[str]]:
    """Resource -> the names that agents.yaml knows in this namespace."""
    found: dict[str, set[str]] = defaultdict(set)
    for agent in agents:
        found["serviceaccounts"] |= {name for where, name in k8s.accounts(agent) if where == namespace}
        found["networkpolicies"].add(policy_name(agent.id))
        for where, kind, name in map(k8s.workload, agent.kubernetes.workloads if agent.kubernetes else ()):
            if where == namespace:
                found[WORKLOADS[kind]].add(name)
    return {resource: frozenset(names) for resource, names in found.items()}


def _rules(permissions: Sequence[str], named: Mapping[str, frozenset[str]]) -> list[dict[str, Any]]:
    grouped: dict[tuple[str, str, tuple[str, ...]], list[str]] = defaultdict(list)
    for permission in permissions:
        parts = _PERMISSION.fullmatch(permission)
        if parts is None:
            raise ValueError(f"{permission!r} is no permission: write `verb resource.group/part`")
        verb, resource, group, part = parts[1], parts[2], parts[3] or "", parts[4] or ""
        started = resource == "jobs" and named.get("cronjobs")  # their names are made when they start
        if resource in WORKLOADS.values() and not (named.get(resource) or started):
            continue
        any_name = (verb in _UNNAMED and not part) or resource not in named or started
        names = () if any_name else tuple(sorted(named[resource]))
        grouped[group, resource + part, names].append(verb)
    return [
        {"apiGroups": [group], "resources": [resource], "verbs": verbs}
        | ({"resourceNames": list(names)} if names else {})
        for (group, resource, names), verbs in sorted(grouped.items())
    ]
