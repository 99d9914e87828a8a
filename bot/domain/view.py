"""What expressions see: plain mappings made of the domain's objects, and the shapes the loader checks names against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bot.domain.agent import Agent
from bot.domain.alert import Alert, AlertText, Resource, Sev, Severity

# A shape mirrors the views below: a mapping has exactly these keys, a one-element tuple is a list of that shape, None
# is anything. tests/domain/test_view.py holds the two together.
Shape = Mapping[str, Any] | tuple[Any] | None

RESOURCE: Shape = dict.fromkeys(("uid", "type", "name", "region", "account", "criticality", "labels"))
ALERT: Mapping[str, Shape] = {
    **dict.fromkeys(("uid", "source", "product", "rule", "severity_id", "time", "agent_uid", "types", "labels")),
    **dict.fromkeys(("account", "region")),
    "resources": (RESOURCE,),
}
ALERT_WITH_TEXT: Mapping[str, Shape] = {**ALERT, "title": None, "message": None}
AGENT: Mapping[str, Shape] = {
    **dict.fromkeys(("id", "name", "owner", "team", "gateways", "labels")),
    "delegates": (None,),
    "vault": dict.fromkeys(
        ("connection", "namespace", "entity_id", "lease_prefixes", "approles", "token_accessors", "mode_path")
    ),
    "aws": dict.fromkeys(("connection", "account", "region", "roles", "users", "access_keys", "mode_parameter")),
    "kubernetes": dict.fromkeys(("connection", "namespaces", "workloads", "pod_labels")),
}
REACH: Mapping[str, Shape] = {
    "chained": (dict.fromkeys(("agent", "role", "session", "connection")),),
    "unread": (None,),
}
INCIDENT: Mapping[str, Shape] = dict.fromkeys(("id", "severity", "type", "status", "opened_at"))


def time_text(moment: datetime) -> str:
    """ISO 8601 in UTC with a `Z`, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def resource_names(resource: Resource) -> dict[str, Any]:
    return {
        "uid": resource.uid,
        "type": resource.type,
        "name": resource.name,
        "region": resource.region,
        "account": resource.account,
        "criticality": resource.criticality,
        "labels": dict(resource.labels),
    }


def alert_names(alert: Alert, text: AlertText | None = None) -> dict[str, Any]:
    """`alert` in expressions. `text` is given to triggers and classification rules only."""
    return {
        "uid": alert.uid,
        "source": alert.source,
        "product": alert.product,
        "rule": alert.rule,
        "severity_id": int(alert.severity_id),
        "time": time_text(alert.time),
        "agent_uid": alert.agent_uid,
        "resources": [resource_names(resource) for resource in alert.resources],
        "types": list(alert.types),
        "labels": dict(alert.labels),
        "account": alert.account,
        "region": alert.region,
    } | ({} if text is None else {"title": text.title, "message": text.message})


def declared_names(*, severity: Sev, agent_uid: str, type: str, at: datetime) -> dict[str, Any]:
    """`alert` in expressions while a person's word stands in for one: as severe as the incident, and about nothing but
    the agent. Without it no step that asks for the alert could be planned."""
    severity_id = Severity(Severity.FATAL - severity)  # SEV1: critical, SEV4: low
    alert = Alert("", "", "", "", severity_id, at, agent_uid=agent_uid, types=(type,))
    return alert_names(alert)


def agent_names(agent: Agent, delegates: Sequence[Agent] = ()) -> dict[str, Any]:
    """`agent` in expressions. `delegates` are everybody who acts for it and for those in turn; `vault`, `aws` and
    `kubernetes` are null where it has none. Leave the name out for an unknown agent, so that using it is an error."""
    vault, aws, kubernetes = agent.vault, agent.aws, agent.kubernetes
    return {
        "id": agent.id,
        "name": agent.name,
        "owner": agent.owner,
        "team": agent.team,
        "gateways": list(agent.gateways),
        "labels": dict(agent.labels),
        "delegates": [child.id for child in delegates] or list(agent.delegates),
        "vault": vault
        and {
            "connection": vault.connection,
            "namespace": vault.namespace,
            "entity_id": vault.entity_id,
            "lease_prefixes": list(vault.lease_prefixes),
            "approles": list(vault.approles),
            "token_accessors": list(vault.token_accessors),
            "mode_path": vault.mode_path,
        },
        "aws": aws
        and {
            "connection": aws.connection,
            "account": aws.account,
            "region": aws.region,
            "roles": list(aws.roles),
            "users": list(aws.users),
            "access_keys": list(aws.access_keys),
            "mode_parameter": aws.mode_parameter,
        },
        "kubernetes": kubernetes
        and {
            "connection": kubernetes.connection,
            "namespaces": list(kubernetes.namespaces),
            "workloads": list(kubernetes.workloads),
            "pod_labels": dict(kubernetes.pod_labels),
        },
    }


def incident_names(*, id: str, severity: str, type: str, status: str, opened_at: datetime) -> dict[str, Any]:
    """`incident` in expressions."""
    return {"id": id, "severity": severity, "type": type, "status": status, "opened_at": time_text(opened_at)}
