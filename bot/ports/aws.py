"""AWS by service: what the actions call, and what they read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bot.errors import Rejected


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


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """A policy in force, as it was read. `name` is an inline policy's name, or a managed one's ARN."""

    kind: str  # inline | managed | boundary | trust
    name: str
    version: str  # of a managed one: v7
    document: Mapping[str, Any]
    group: str = ""  # of a user: which of its groups has it


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

    def role_policies(self, role: str) -> tuple[PolicyVersion, ...] | None:
        """Everything that says what the role may do, and who may be it; None where it is gone."""

    def user_policies(self, user: str) -> tuple[PolicyVersion, ...] | None:
        """The user's own, and those of each of its groups; None where it is gone."""

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


@dataclass(frozen=True, slots=True)
class Logged:
    """Events of CloudTrail, the newest first, got with so many `pages` of questions. Not `whole`: older ones than these
    were not read (too many, or AWS stopped answering), and nothing may be concluded from their absence."""

    events: tuple[Mapping[str, Any], ...]
    pages: int = 1
    whole: bool = True


class CloudTrail(Protocol):
    def events(self, attribute: str, value: str, since: datetime, until: datetime, pages: int = 10) -> Logged:
        """Management events by one lookup attribute (AccessKeyId, Username, ResourceName), of `pages` pages of 50 at
        most: a busy key has thousands, and AWS answers two questions a second. Minutes of lag."""


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
