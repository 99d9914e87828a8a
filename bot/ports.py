"""Every system Firedoor talks to, as the protocol its real adapter and its simulator both satisfy.

All methods are synchronous and called from the bounded pool of their system. They return values or raise
`errors.Unavailable`, `errors.Denied` or `errors.Rejected`; vendor exceptions stop at the adapter. "Not there" is a
value (`None`, an empty tuple), because for containment it is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from bot.domain.agent import Agent, Mode
from bot.domain.redaction import Json, Redactor
from bot.errors import Rejected


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""


# Vault ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    id: str
    ttl: int  # seconds left
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    id: str
    name: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class VaultToken:
    accessor: str
    entity_id: str
    ttl: int


@dataclass(frozen=True, slots=True)
class KvValue:
    data: Mapping[str, Any]
    version: int


class Vault(Protocol):
    """HashiCorp Vault or OpenBao, one namespace."""

    def list_leases(self, prefix: str) -> tuple[str, ...]:
        """Full lease ids under a prefix, sub-prefixes walked; () where there are none (Vault says 404)."""

    def lookup_lease(self, lease_id: str) -> Lease | None:
        """None where Vault says 400 `invalid lease`: it is gone."""

    def revoke_lease(self, lease_id: str) -> None:
        """Synchronous; a missing lease succeeds too."""

    def read_entity(self, entity_id: str) -> Entity | None: ...

    def set_entity_disabled(self, entity_id: str, disabled: bool) -> None: ...

    def list_secret_ids(self, approle: str) -> tuple[str, ...]:
        """Accessors of the role's secret ids; () where there are none."""

    def destroy_secret_id(self, approle: str, accessor: str) -> None: ...

    def list_token_accessors(self) -> tuple[str, ...]: ...

    def lookup_accessor(self, accessor: str) -> VaultToken | None: ...

    def revoke_accessor(self, accessor: str) -> None:
        """Kills the token and its child tree at once; its leases are only queued. An unknown one succeeds."""

    def irrevocable_leases(self) -> int: ...

    def read_kv(self, path: str) -> KvValue | None:
        """KV v2. `path` is `mount/key...`."""

    def write_kv(self, path: str, data: Mapping[str, Any], cas: int) -> int:
        """Returns the new version. A wrong `cas` raises Rejected(retryable=True)."""


# AWS ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AccessKey:
    id: str
    user: str
    active: bool


@dataclass(frozen=True, slots=True)
class Role:
    arn: str
    name: str
    path: str
    id: str  # AROA...
    trust: Mapping[str, Any]
    boundary: str = ""  # ARN of its permissions boundary


class Iam(Protocol):
    """One account. Documents are policy documents as mappings. `user` and `role` are names, not ARNs."""

    def get_role(self, role: str) -> Role | None: ...

    def put_role_policy(self, role: str, name: str, document: Mapping[str, Any]) -> None: ...

    def get_role_policy(self, role: str, name: str) -> Mapping[str, Any] | None: ...

    def delete_role_policy(self, role: str, name: str) -> None:
        """One that is gone already succeeds."""

    def put_user_policy(self, user: str, name: str, document: Mapping[str, Any]) -> None: ...

    def get_user_policy(self, user: str, name: str) -> Mapping[str, Any] | None: ...

    def delete_user_policy(self, user: str, name: str) -> None: ...

    def attach_role_policy(self, role: str, policy_arn: str) -> None: ...

    def detach_role_policy(self, role: str, policy_arn: str) -> None: ...

    def attached_role_policies(self, role: str) -> tuple[str, ...]: ...

    def attach_user_policy(self, user: str, policy_arn: str) -> None: ...

    def detach_user_policy(self, user: str, policy_arn: str) -> None: ...

    def attached_user_policies(self, user: str) -> tuple[str, ...]: ...

    def list_access_keys(self, user: str) -> tuple[AccessKey, ...] | None:
        """None where the user is gone."""

    def set_access_key_active(self, user: str, key_id: str, active: bool) -> None: ...

    def set_trust(self, role: str, document: Mapping[str, Any]) -> None:
        """Replaces the role's trust policy."""

    def set_boundary(self, role: str, policy_arn: str) -> None:
        """Replaces the role's permissions boundary; '' takes it away."""

    def has_console(self, user: str) -> bool:
        """Whether the user has a console password. False too where the user is gone."""

    def delete_console(self, user: str) -> None: ...

    def server_time(self) -> datetime:
        """AWS's own clock (the Date header of an STS answer: STS stamps the sessions), in whole seconds: the cutoff for
        session revocation."""


@dataclass(frozen=True, slots=True)
class Instance:
    id: str
    state: str
    vpc: str
    interfaces: Mapping[str, tuple[str, ...]]  # ENI id -> security group ids
    volumes: tuple[str, ...]
    tags: Mapping[str, str] = field(default_factory=dict)
    profile_arn: str = ""  # of its instance profile


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    volume: str
    state: str  # pending | completed | error


class Ec2(Protocol):
    """One account and region."""

    def instance(self, instance_id: str) -> Instance | None: ...

    def quarantine_group(self, vpc: str) -> str:
        """The id of the VPC's group `firedoor-quarantine`, made when missing, its rules taken away. Repeatable."""

    def group_rules(self, group_id: str) -> tuple[int, int] | None:
        """Numbers of ingress and egress rules; None where the group is gone."""

    def set_interface_groups(self, interface: str, groups: Sequence[str]) -> None: ...

    def snapshots_tagged(self, key: str, value: str) -> tuple[Snapshot, ...]: ...

    def snapshot_instance(self, instance_id: str, tags: Mapping[str, str]) -> tuple[Snapshot, ...]:
        """One snapshot a volume, taken together. NOT idempotent: look for the tag first."""

    def profile(self, instance_id: str) -> str:
        """ARN of the instance profile that is attached, or ''."""

    def set_profile(self, instance_id: str, profile_arn: str) -> None:
        """Attaches it; '' detaches the one there is."""

    def metadata(self, instance_id: str) -> tuple[bool, bool]:
        """Whether the instance answers at its metadata address; whether the last change of that was applied."""

    def set_metadata(self, instance_id: str, on: bool) -> None: ...

    def preservation(self, instance_id: str) -> tuple[bool, str]:
        """Whether it is protected from termination; what its own shutdown does (`stop` or `terminate`)."""

    def set_preservation(self, instance_id: str, protected: bool, shutdown: str) -> None: ...

    def network_acls(self, instance_id: str) -> Mapping[str, str]:
        """Subnet -> network ACL, of every subnet that the instance has an interface in."""

    def subnet_interfaces(self, subnet: str) -> int:
        """How many interfaces, of whatever instance or service, are in the subnet."""

    def closed_acl(self, vpc: str) -> str:
        """The id of the VPC's network ACL `firedoor-closed`, made when missing, which lets nothing through."""

    def acl_rules(self, acl: str) -> int | None:
        """How many rules it has besides the last one, which denies; None where it is gone."""

    def set_network_acl(self, subnet: str, acl: str) -> None: ...

    def snapshot_shares(self, snapshot: str) -> tuple[str, ...]:
        """The accounts that may use it."""

    def share_snapshot(self, snapshot: str, account: str, shared: bool) -> None: ...

    def snapshot_locked(self, snapshot: str) -> bool: ...

    def lock_snapshot(self, snapshot: str, days: int) -> None:
        """So that it cannot be deleted for that long (governance mode). One that is locked already stays as it is."""


class Scaling(Protocol):
    """EC2 Auto Scaling, one account and region."""

    def membership(self, instance_id: str) -> tuple[str, str] | None:
        """(group, lifecycle state such as `InService` or `Standby`); None where it is in no group."""

    def enter_standby(self, group: str, instance_id: str, *, replace: bool) -> None:
        """`replace`: the group starts another instance in its place; otherwise it runs one fewer."""

    def exit_standby(self, group: str, instance_id: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Database:
    id: str
    status: str
    cluster: str = ""  # of Aurora, whose snapshots are the cluster's


@dataclass(frozen=True, slots=True)
class DatabaseSnapshot:
    id: str
    status: str  # creating | available | failed
    arn: str


class Databases(Protocol):
    """RDS, one account and region."""

    def database(self, id: str) -> Database | None: ...

    def snapshots(self, database: str) -> tuple[DatabaseSnapshot, ...]: ...

    def take_snapshot(self, database: str, snapshot: str, tags: Mapping[str, str]) -> None:
        """Under that id. One that exists already succeeds."""


@dataclass(frozen=True, slots=True)
class Function:
    arn: str
    role: str  # ARN that it runs as
    timeout: int  # seconds


class Functions(Protocol):
    """Lambda, one account and region."""

    def function(self, name: str) -> Function | None: ...

    def concurrency(self, name: str) -> int | None:
        """How many may run at once, where that is reserved."""

    def set_concurrency(self, name: str, reserved: int | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Tasks:
    """A service of ECS, or one task (`desired` is 1 until it is to stop)."""

    desired: int
    live: int  # running and pending
    role: str  # ARN of the task role
    daemon: bool = False  # one on every container instance: there is no number to set


class Containers(Protocol):
    """ECS, one account and region."""

    def service(self, cluster: str, service: str) -> Tasks | None: ...

    def set_desired(self, cluster: str, service: str, desired: int) -> None: ...

    def task(self, cluster: str, task: str) -> Tasks | None: ...

    def stop_task(self, cluster: str, task: str, reason: str) -> None: ...


class Secrets(Protocol):
    """Secrets Manager, one account and region."""

    def policy(self, secret: str) -> Mapping[str, Any] | None:
        """The resource policy, {} where it has none; None where the secret is gone."""

    def set_policy(self, secret: str, document: Mapping[str, Any]) -> None:
        """{} takes it away."""


@dataclass(frozen=True, slots=True)
class ControlPolicy:
    id: str
    document: Mapping[str, Any]
    targets: tuple[str, ...]


class Organization(Protocol):
    """AWS Organizations, through its management account or a delegated administrator."""

    def management_account(self) -> str: ...

    def policy(self, name: str) -> ControlPolicy | None: ...

    def put_policy(self, name: str, document: Mapping[str, Any]) -> str:
        """Makes or overwrites the service control policy of that name; returns its id."""

    def attach(self, policy: str, target: str) -> None: ...

    def detach(self, policy: str, target: str) -> None: ...

    def delete(self, policy: str) -> None: ...


class Parameters(Protocol):
    """SSM Parameter Store, one account and region."""

    def put(self, name: str, value: str) -> int:
        """Overwrites; returns the version, a monotonic epoch."""

    def get(self, name: str) -> tuple[str, int] | None: ...


class CloudTrail(Protocol):
    def events(self, attribute: str, value: str, since: datetime, until: datetime) -> tuple[Mapping[str, Any], ...]:
        """Management events by one lookup attribute (AccessKeyId, Username, ResourceName). Minutes of lag."""


class _NotConnected:
    """Stands for a service that an account was made without."""

    def __getattr__(self, method: str) -> Any:
        raise Rejected("aws", f"this connection was made without the service that has {method}")


_NOT_CONNECTED: Any = _NotConnected()


@dataclass(frozen=True, slots=True)
class AwsAccount:
    iam: Iam
    ec2: Ec2
    parameters: Parameters
    cloudtrail: CloudTrail
    account: str = ""  # its twelve digits: "not there" is an answer only in the account that was meant
    scaling: Scaling = _NOT_CONNECTED
    databases: Databases = _NOT_CONNECTED
    functions: Functions = _NOT_CONNECTED
    containers: Containers = _NOT_CONNECTED
    secrets: Secrets = _NOT_CONNECTED
    organization: Organization = _NOT_CONNECTED


# Agents' side ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstanceMode:
    instance: str
    epoch: int
    mode: Mode
    last_effect_seq: int = 0


@dataclass(frozen=True, slots=True)
class GatewayState:
    mode: Mode
    epoch: int
    nonce: str
    instances: tuple[InstanceMode, ...] = ()


class Gateway(Protocol):
    """The signed HTTP contract of semantics.md (an agent's side)."""

    def set_mode(
        self, agent: str, mode: Mode, epoch: int, nonce: str, incident: str, not_after: datetime | None
    ) -> GatewayState:
        """An older epoch raises Rejected(retryable=True) whose text names the gateway's current epoch."""

    def canary(self, agent: str, nonce: str, effect: str) -> bool:
        """True when the gateway refused the harmless side effect; False when it let it pass."""

    def state(self, agent: str) -> GatewayState | None: ...

    def activity(self, agent: str, limit: int = 1000) -> tuple[Mapping[str, Any], ...]:
        """The agent's interaction log as the gateway kept it, oldest first (GET /v1/agents/{id}/activity)."""


class Endpoint(Protocol):
    """A configured HTTP connection (`http.call`): base URL and credential are the operator's, never an alert's."""

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, key: str, timeout: float
    ) -> tuple[int, Mapping[str, Any]]:
        """Sends `Idempotency-Key: key`; follows no redirect; answers (status, JSON body or {})."""


# Evidence -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredObject:
    address: str  # file path or s3://bucket/key?versionId=...
    sha256: str  # hex, of the bytes as read back
    size: int
    locked_until: datetime | None


class Evidence(Protocol):
    """Content-addressed, write-once store: a folder, or a bucket with Object Lock."""

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        """Stores under its SHA-256 and reads it back. The same bytes again: the same address, no second copy."""

    def get(self, address: str) -> bytes | None: ...


# People ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PageMessage:
    """What a person is sent. `key` is (incident, level, round, person, way): the receiver's idempotency key."""

    key: str
    incident: str
    person: str
    address: str  # Slack user id, e-mail address or URL, by way
    subject: str
    body: str  # plain text, already redacted
    ack_url: str = ""
    actions: tuple[str, ...] = ()  # Slack buttons: "acknowledge"
    blocks: tuple[Mapping[str, Any], ...] = ()  # Slack only
    again: bool = False  # an earlier send may have left before a crash: a way that keeps a trace looks for it first


class Pager(Protocol):
    """One way to reach a person."""

    def send(self, message: PageMessage) -> str:
        """Returns the receiver's own reference (message ts, Message-ID, response id)."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`key` is put into the message metadata, so that a resend can look for its own trace."""

    key: str
    text: str  # fallback and notification text
    blocks: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class MessageRef:
    channel: str
    ts: str


@dataclass(frozen=True, slots=True)
class ChatChannel:
    """`shared`: people of another organisation read it too."""

    id: str
    name: str
    private: bool = False
    archived: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class ChatFile:
    """`name` with its ending, which tells Slack how to show it; `title` is what people read."""

    name: str
    title: str
    data: bytes


class Chat(Protocol):
    """Slack, as a port (semantics 18). Each call is one that Slack limits by its own method; a limit that is used up
    is `Unavailable` with `retry_after`, before anything is sent."""

    def post(self, channel: str, message: ChatMessage, *, thread: str = "", again: bool = False) -> MessageRef:
        """`again`: a crash may have hidden an earlier send; look for `key` in the channel's history first."""

    def update(self, ref: MessageRef, message: ChatMessage) -> None: ...

    def direct(self, user: str, message: ChatMessage, *, again: bool = False) -> MessageRef: ...

    def ephemeral(self, channel: str, user: str, text: str) -> None: ...

    def open_channel(self, name: str, *, private: bool, purpose: str) -> ChatChannel:
        """A channel of this name with the bot in it. Repeatable: one that an earlier try made is known by its
        `purpose`. Where the name is somebody else's it gets a number behind it."""

    def channel(self, channel: str) -> ChatChannel | None:
        """None where it does not exist, or the bot cannot see it."""

    def invite(self, channel: str, users: Sequence[str]) -> Mapping[str, str]:
        """Whom Slack refused, and why. Who is in it already counts as let in."""

    def set_topic(self, channel: str, topic: str) -> None: ...

    def bookmark(self, channel: str, title: str, link: str) -> None:
        """At the top of the channel; one with this link that is there already is left alone."""

    def pin(self, ref: MessageRef) -> None:
        """One that is pinned already stays so."""

    def archive(self, channel: str) -> None:
        """One that is archived already stays so."""

    def upload(
        self, channel: str, files: Sequence[ChatFile], *, comment: str, thread: str = "", again: bool = False
    ) -> None:
        """All in one message. `again`: looks first whether our own message with these files stands there."""


class Directory(Protocol):
    """The agents as they are configured right now (live, law 8)."""

    def agent(self, agent_id: str) -> Agent | None: ...

    def by_actor(self, actors: Sequence[str]) -> Agent | None:
        """The agent that one of these identifiers belongs to; None when none or more than one."""

    def protected(self, target: str) -> str:
        """Why this target (an ARN, entity id, instance id, agent id) must not be touched, or ''."""

    def count(self, kind: str) -> int:
        """How many enrolled targets of a kind (`agent`, `iam-role`, ...) there are: the base of targets_percent."""


# The bundle -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything an action may reach, chosen once in `wiring`. Mappings are keyed by the connection's name."""

    clock: Clock
    directory: Directory
    vaults: Mapping[str, Vault] = field(default_factory=dict)
    aws: Mapping[str, AwsAccount] = field(default_factory=dict)
    gateways: Mapping[str, Gateway] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    evidence: Evidence | None = None
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
