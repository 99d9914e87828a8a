"""An AWS account that fits in memory: what the sandbox, the drills and the tests contain agents in."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from bot.domain.iam import Decision, evaluate
from bot.errors import Rejected
from bot.ports import AccessKey, AwsAccount, Clock, Instance, Role, Snapshot, StoredObject
from bot.sandbox.faults import Faults

Document = Mapping[str, Any]


def _statement(effect: str) -> Document:
    return {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": "*", "Resource": "*"}]}


MANAGED: Mapping[str, Document] = {
    "arn:aws:iam::aws:policy/AdministratorAccess": _statement("Allow"),
    "arn:aws:iam::aws:policy/AWSDenyAll": _statement("Deny"),
}


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials of a role: what an agent works with."""

    role: str  # name
    userid: str  # AROA...:session
    key: str  # ASIA...
    issued: datetime
    expires: datetime


@dataclass(slots=True)
class _Principal:
    arn: str
    inline: dict[str, Document] = field(default_factory=dict)
    attached: list[str] = field(default_factory=list)

    def documents(self) -> tuple[Document, ...]:
        return (*self.inline.values(), *(MANAGED[arn] for arn in self.attached))


class SimAws:
    """One account and region. `iam`, `ec2`, `parameters` and `cloudtrail` are its ports. Policies are evaluated as AWS
    evaluates them, so that what is contained really is refused: see `attempt`.

    Trouble: `faults` scripts single calls of any port by the method's name (`put_parameter`, `get_parameter` and
    `lookup_events` for the parameters and the trail). Snapshots complete `snapshot_seconds` after they were begun,
    events are listed `trail_lag` seconds after they happened.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        account: str = "111111111111",
        region: str = "us-east-1",
        system: str = "aws",
        snapshot_seconds: float = 30,
        trail_lag: float = 120,
    ) -> None:
        self.faults = Faults()
        self.id, self.region, self.system, self.clock = account, region, system, clock
        self.iam, self.ec2 = SimIam(self), SimEc2(self, timedelta(seconds=snapshot_seconds))
        self.parameters, self.cloudtrail = SimParameters(self), SimCloudTrail(self, timedelta(seconds=trail_lag))
        self._lock = threading.RLock()
        self._numbers = count(1)

    def account(self) -> AwsAccount:
        return AwsAccount(self.iam, self.ec2, self.parameters, self.cloudtrail, self.id)

    # The agents' side -------------------------------------------------------------------------------------------

    def assume(self, role: str, session: str = "agent", *, hours: float = 1) -> Session:
        """Fresh credentials of a role, by name. Rejected where it is gone."""
        with self._lock:
            held, now = self.iam.role(role), self.clock.now()
            return Session(role, f"{held.id}:{session}", self.new("ASIA"), now, now + timedelta(hours=hours))

    def decide(self, credential: Session | str, action: str, resource: str = "*") -> Decision:
        """What AWS would answer to a session, or to the access key of that id."""
        with self._lock:
            if isinstance(credential, str):
                key = self.iam.keys.get(credential)
                if key is None or not key.active:
                    return "implicitDeny"
                return evaluate(self.iam.users[key.user].documents(), action, resource, {"aws:username": key.user})
            now = self.clock.now()
            if now >= credential.expires or credential.role not in self.iam.roles:
                return "implicitDeny"
            context: dict[str, str | datetime] = {
                "aws:TokenIssueTime": credential.issued,
                "aws:userid": credential.userid,
                "aws:CurrentTime": now,
            }
            return evaluate(self.iam.roles[credential.role].documents(), action, resource, context)

    def attempt(self, credential: Session | str, action: str, resource: str = "*") -> bool:
        """The agent tries something: whether it got through. Either way CloudTrail sees it."""
        passed = self.decide(credential, action, resource) == "allowed"
        self.cloudtrail.record(credential, action, passed)
        return passed

    # For the ports ----------------------------------------------------------------------------------------------

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        with self._lock:
            self.faults.before(method)
            yield
            self.faults.after(method)

    def refusal(self, why: str) -> Rejected:
        return Rejected(self.system, why)

    def new(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):017d}"


class SimIam:
    """ports.Iam."""

    def __init__(self, estate: SimAws) -> None:
        self._estate = estate
        self.roles: dict[str, _Principal] = {}
        self.users: dict[str, _Principal] = {}
        self.keys: dict[str, AccessKey] = {}
        self._known: dict[str, Role] = {}

    def add_role(self, name: str, *, path: str = "/", attached: Sequence[str] = ("AdministratorAccess",)) -> str:
        """A role with these AWS-managed policies; returns its ARN."""
        arn = f"arn:aws:iam::{self._estate.id}:role{path}{name}"
        self.roles[name] = _Principal(arn, attached=[f"arn:aws:iam::aws:policy/{each}" for each in attached])
        self._known[name] = Role(arn, name, path, self._estate.new("AROA"), _statement("Allow"))
        return arn

    def add_user(self, name: str, *, attached: Sequence[str] = ("AdministratorAccess",)) -> None:
        arn = f"arn:aws:iam::{self._estate.id}:user/{name}"
        self.users[name] = _Principal(arn, attached=[f"arn:aws:iam::aws:policy/{each}" for each in attached])

    def add_key(self, user: str, *, id: str = "", active: bool = True) -> str:
        """A long-term access key of that user; returns its id."""
        key = AccessKey(id or self._estate.new("AKIA"), user, active)
        self.keys[key.id] = key
        return key.id

    def role(self, name: str) -> Role:
        self._principal(self.roles, name)
        return self._known[name]

    def get_role(self, role: str) -> Role | None:
        with self._estate.call("get_role"):
            return self._known[role] if role in self.roles else None

    def put_role_policy(self, role: str, name: str, document: Document) -> None:
        with self._estate.call("put_role_policy"):
            self._changeable(role).inline[name] = _copy(document)

    def get_role_policy(self, role: str, name: str) -> Document | None:
        with self._estate.call("get_role_policy"):
            return self.roles[role].inline.get(name) if role in self.roles else None

    def delete_role_policy(self, role: str, name: str) -> None:
        with self._estate.call("delete_role_policy"):
            if role in self.roles:
                self.roles[role].inline.pop(name, None)

    def put_user_policy(self, user: str, name: str, document: Document) -> None:
        with self._estate.call("put_user_policy"):
            self._principal(self.users, user).inline[name] = _copy(document)

    def get_user_policy(self, user: str, name: str) -> Document | None:
        with self._estate.call("get_user_policy"):
            return self.users[user].inline.get(name) if user in self.users else None

    def delete_user_policy(self, user: str, name: str) -> None:
        with self._estate.call("delete_user_policy"):
            if user in self.users:
                self.users[user].inline.pop(name, None)

    def attach_role_policy(self, role: str, policy_arn: str) -> None:
        with self._estate.call("attach_role_policy"):
            self._attach(self._changeable(role), policy_arn)

    def detach_role_policy(self, role: str, policy_arn: str) -> None:
        with self._estate.call("detach_role_policy"):
            _detach(self.roles.get(role), policy_arn)

    def attached_role_policies(self, role: str) -> tuple[str, ...]:
        with self._estate.call("attached_role_policies"):
            return tuple(self.roles[role].attached) if role in self.roles else ()

    def attach_user_policy(self, user: str, policy_arn: str) -> None:
        with self._estate.call("attach_user_policy"):
            self._attach(self._principal(self.users, user), policy_arn)

    def detach_user_policy(self, user: str, policy_arn: str) -> None:
        with self._estate.call("detach_user_policy"):
            _detach(self.users.get(user), policy_arn)

    def attached_user_policies(self, user: str) -> tuple[str, ...]:
        with self._estate.call("attached_user_policies"):
            return tuple(self.users[user].attached) if user in self.users else ()

    def list_access_keys(self, user: str) -> tuple[AccessKey, ...] | None:
        with self._estate.call("list_access_keys"):
            if user not in self.users:
                return None
            return tuple(key for key in self.keys.values() if key.user == user)

    def set_access_key_active(self, user: str, key_id: str, active: bool) -> None:
        with self._estate.call("set_access_key_active"):
            key = self.keys.get(key_id)
            if key is None or key.user != user:
                raise self._estate.refusal(f"the access key with id {key_id} cannot be found (NoSuchEntity)")
            self.keys[key_id] = replace(key, active=active)

    def server_time(self) -> datetime:
        with self._estate.call("server_time"):
            return self._estate.clock.now().replace(microsecond=0)

    def _principal(self, among: Mapping[str, _Principal], name: str) -> _Principal:
        if name not in among:
            raise self._estate.refusal(f"{name} cannot be found (NoSuchEntity)")
        return among[name]

    def _changeable(self, role: str) -> _Principal:
        found = self._principal(self.roles, role)
        if self._known[role].path.startswith("/aws-service-role/") or role.startswith("AWSReservedSSO_"):
            raise self._estate.refusal(f"{role} can only be changed by the service it belongs to (UnmodifiableEntity)")
        return found

    def _attach(self, principal: _Principal, policy_arn: str) -> None:
        if policy_arn not in MANAGED:
            raise self._estate.refusal(f"policy {policy_arn} does not exist or is not attachable (NoSuchEntity)")
        if policy_arn not in principal.attached:
            principal.attached.append(policy_arn)


@dataclass(frozen=True, slots=True)
class _Taken:
    snapshot: Snapshot
    tags: Mapping[str, str]
    begun: datetime


class SimEc2:
    """ports.Ec2. `rules` are the numbers of ingress and egress rules by group id, for scenarios to change."""

    def __init__(self, estate: SimAws, snapshot_time: timedelta) -> None:
        self._estate, self._snapshot_time = estate, snapshot_time
        self.instances: dict[str, Instance] = {}
        self.rules: dict[str, tuple[int, int]] = {}
        self._quarantine: dict[str, str] = {}  # VPC -> group
        self._taken: list[_Taken] = []

    def add_instance(
        self,
        *,
        id: str = "",
        vpc: str = "vpc-1",
        interfaces: int = 1,
        volumes: int = 1,
        tags: Mapping[str, str] | None = None,
        profile_arn: str = "",
    ) -> Instance:
        """A running instance, its interfaces in one open group of its own."""
        new = self._estate.new
        group = new("sg-")
        self.rules[group] = (1, 1)
        instance = Instance(
            id=id or new("i-"),
            state="running",
            vpc=vpc,
            interfaces={new("eni-"): (group,) for _ in range(interfaces)},
            volumes=tuple(new("vol-") for _ in range(volumes)),
            tags=dict(tags or {}),
            profile_arn=profile_arn,
        )
        self.instances[instance.id] = instance
        return instance

    def terminate(self, instance_id: str) -> None:
        gone = replace(self.instances[instance_id], state="terminated", interfaces={}, volumes=())
        self.instances[instance_id] = gone

    def takes_new_flows(self, instance_id: str) -> bool:
        """Whether any interface has a group with a rule."""
        groups = {group for each in self.instances[instance_id].interfaces.values() for group in each}
        return any(any(self.rules[group]) for group in groups)

    def instance(self, instance_id: str) -> Instance | None:
        with self._estate.call("instance"):
            return self.instances.get(instance_id)

    def quarantine_group(self, vpc: str) -> str:
        with self._estate.call("quarantine_group"):
            group = self._quarantine.get(vpc) or self._estate.new("sg-")
            self._quarantine[vpc] = group
            self.rules[group] = (0, 0)
            return group

    def group_rules(self, group_id: str) -> tuple[int, int] | None:
        with self._estate.call("group_rules"):
            return self.rules.get(group_id)

    def set_interface_groups(self, interface: str, groups: Sequence[str]) -> None:
        with self._estate.call("set_interface_groups"):
            if unknown := [group for group in groups if group not in self.rules]:
                raise self._estate.refusal(f"no security group {', '.join(unknown)} (InvalidGroup.NotFound)")
            for instance in self.instances.values():
                if interface in instance.interfaces:
                    changed = {**instance.interfaces, interface: tuple(groups)}
                    self.instances[instance.id] = replace(instance, interfaces=changed)
                    return
            why = f"no network interface {interface} (InvalidNetworkInterfaceID.NotFound)"
            raise Rejected(self._estate.system, why, retryable=True)

    def snapshots_tagged(self, key: str, value: str) -> tuple[Snapshot, ...]:
        with self._estate.call("snapshots_tagged"):
            return tuple(self._now(taken) for taken in self._taken if taken.tags.get(key) == value)

    def snapshot_instance(self, instance_id: str, tags: Mapping[str, str]) -> tuple[Snapshot, ...]:
        with self._estate.call("snapshot_instance"):
            if instance_id not in self.instances:
                raise self._estate.refusal(f"no instance {instance_id} (InvalidInstanceID.NotFound)")
            now = self._estate.clock.now()
            volumes = self.instances[instance_id].volumes
            made = [Snapshot(self._estate.new("snap-"), volume, "pending") for volume in volumes]
            self._taken += [_Taken(snapshot, dict(tags), now) for snapshot in made]
            return tuple(made)

    def _now(self, taken: _Taken) -> Snapshot:
        complete = self._estate.clock.now() >= taken.begun + self._snapshot_time
        return replace(taken.snapshot, state="completed") if complete else taken.snapshot


class SimParameters:
    """ports.Parameters."""

    def __init__(self, estate: SimAws) -> None:
        self._estate = estate
        self._values: dict[str, tuple[str, int]] = {}

    def put(self, name: str, value: str) -> int:
        with self._estate.call("put_parameter"):
            version = self._values.get(name, ("", 0))[1] + 1
            self._values[name] = (value, version)
            return version

    def get(self, name: str) -> tuple[str, int] | None:
        with self._estate.call("get_parameter"):
            return self._values.get(name)


class SimCloudTrail:
    """ports.CloudTrail: what agents attempted, once the lag is over."""

    def __init__(self, estate: SimAws, lag: timedelta) -> None:
        self._estate, self._lag = estate, lag
        self._events: list[tuple[datetime, Mapping[str, Any]]] = []

    def record(self, credential: Session | str, action: str, passed: bool) -> None:
        service, _, name = action.partition(":")
        now = self._estate.clock.now()
        if isinstance(credential, Session):
            who = {"type": "AssumedRole", "principalId": credential.userid, "accessKeyId": credential.key}
        else:
            key = self._estate.iam.keys.get(credential)
            who = {"type": "IAMUser", "userName": key.user if key else "", "accessKeyId": credential}
        event: dict[str, Any] = {
            "eventID": self._estate.new("event-"),
            "eventTime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventSource": f"{service}.amazonaws.com",
            "eventName": name,
            "userIdentity": who,
        }
        self._events.append((now, event if passed else event | {"errorCode": "AccessDenied"}))

    def events(self, attribute: str, value: str, since: datetime, until: datetime) -> tuple[Mapping[str, Any], ...]:
        """By AccessKeyId, Username or EventName."""
        with self._estate.call("lookup_events"):
            listed = min(until, self._estate.clock.now() - self._lag)
            return tuple(
                event
                for at, event in reversed(self._events)  # the newest first, as AWS does
                if since <= at <= listed and _attribute(event, attribute) == value
            )


class SimEvidence:
    """ports.Evidence in memory; it locks as a bucket with Object Lock does."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._objects: dict[str, tuple[bytes, datetime | None]] = {}
        self.names: dict[str, list[str]] = {}  # address -> the names it was stored by

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        self.faults.before("put")
        digest = hashlib.sha256(data).hexdigest()
        address = f"memory://sha256/{digest}"
        _, locked = self._objects.get(address, (data, None))
        locked = max(filter(None, (locked, retain_until)), default=None)
        self._objects[address] = (data, locked)
        self.names.setdefault(address, []).append(name)
        self.faults.after("put")
        return StoredObject(address, digest, len(data), locked)

    def get(self, address: str) -> bytes | None:
        self.faults.before("get")
        return self._objects[address][0] if address in self._objects else None


def _copy(document: Document) -> Document:
    copied: Document = json.loads(json.dumps(document))
    return copied


def _detach(principal: _Principal | None, policy_arn: str) -> None:
    if principal and policy_arn in principal.attached:
        principal.attached.remove(policy_arn)


def _attribute(event: Mapping[str, Any], attribute: str) -> Any:
    match attribute:
        case "AccessKeyId":
            return event["userIdentity"]["accessKeyId"]
        case "Username":
            return event["userIdentity"].get("userName")
        case _:
            return event.get(attribute)
