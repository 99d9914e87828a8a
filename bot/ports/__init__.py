"""Every system Firedoor talks to, as the protocol its real adapter and its simulator both satisfy.

All methods are synchronous and called from the bounded pool of their system. They return values or raise
`errors.Unavailable`, `errors.Denied` or `errors.Rejected`; vendor exceptions stop at the adapter. "Not there" is a
value (`None`, an empty tuple), because for containment it is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from bot.domain.redaction import Json, Redactor
from bot.errors import Rejected
from bot.ports.agents import Directory, Endpoint, Gateway, GatewayState, InstanceMode, Switchboard
from bot.ports.aws import (
    AccessKey,
    AwsAccount,
    CloudTrail,
    Containers,
    ControlPolicy,
    Database,
    Databases,
    DatabaseSnapshot,
    Ec2,
    Function,
    Functions,
    Iam,
    Instance,
    Logged,
    Organization,
    Parameters,
    PolicyVersion,
    Role,
    Scaling,
    Secrets,
    Snapshot,
    Tasks,
)
from bot.ports.evidence import AuditLog, Evidence, Retention, StoredObject
from bot.ports.github import Environment, Github, Installation, RefPattern, Run, Workflow
from bot.ports.kubernetes import Autoscaler, Cluster, NetworkPolicy, Pod, PodToken, ServiceAccount, Workload
from bot.ports.opa import Opa
from bot.ports.people import Chat, ChatChannel, ChatFile, ChatMessage, MessageRef, PageMessage, Pager
from bot.ports.vault import Entity, KvValue, Lease, Vault, VaultToken

__all__ = [
    "AccessKey",
    "AuditLog",
    "Autoscaler",
    "AwsAccount",
    "Chat",
    "ChatChannel",
    "ChatFile",
    "ChatMessage",
    "Clock",
    "CloudTrail",
    "Cluster",
    "Containers",
    "ControlPolicy",
    "Database",
    "DatabaseSnapshot",
    "Databases",
    "Directory",
    "Ec2",
    "Endpoint",
    "Entity",
    "Environment",
    "Evidence",
    "Function",
    "Functions",
    "Gateway",
    "GatewayState",
    "Github",
    "Iam",
    "Installation",
    "Instance",
    "InstanceMode",
    "KvValue",
    "Lease",
    "Logged",
    "MessageRef",
    "NetworkPolicy",
    "Opa",
    "Organization",
    "PageMessage",
    "Pager",
    "Parameters",
    "Pod",
    "PodToken",
    "PolicyVersion",
    "Ports",
    "RefPattern",
    "Retention",
    "Role",
    "Run",
    "Scaling",
    "Secrets",
    "ServiceAccount",
    "Snapshot",
    "StoredObject",
    "Switchboard",
    "Tasks",
    "Vault",
    "VaultToken",
    "Workflow",
    "Workload",
    "connected",
]


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything an action may reach, chosen once in `wiring`. Mappings are keyed by the connection's name."""

    clock: Clock
    directory: Directory
    vaults: Mapping[str, Vault] = field(default_factory=dict)
    aws: Mapping[str, AwsAccount] = field(default_factory=dict)
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    githubs: Mapping[str, Github] = field(default_factory=dict)
    gateways: Mapping[str, Gateway] = field(default_factory=dict)
    switchboard: Switchboard | None = None  # of the instances that are enrolled here
    opas: Mapping[str, tuple[Opa, ...]] = field(default_factory=dict)  # every replica
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    evidence: Evidence | None = None
    audits: Mapping[str, AuditLog] = field(default_factory=dict)  # by the name of the Vault connection
    retain: timedelta = timedelta(days=365)  # how long evidence is locked
    pagers: Mapping[str, Pager] = field(default_factory=dict)
    chat: Chat | None = None
    salt: bytes = b""  # the installation's redaction salt
    redactor: Redactor | None = None  # which knows the secrets that this process was given

    def clean(self, value: Json) -> Json:
        """Without secrets: for what an action stores itself, and somebody else reads (evidence)."""
        return (self.redactor or Redactor(self.salt)).json(value)


T = TypeVar("T")


def connected(connections: Mapping[str, T], name: str) -> T:
    """The connection of that name. Rejected where none is configured, which `firedoor check` would have said."""
    try:
        return connections[name]
    except KeyError:
        raise Rejected(name, "no connection of this name is configured: add it, and run firedoor check") from None
