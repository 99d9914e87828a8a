"""EC2 of the simulated account and region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bot.errors import Rejected
from bot.ports import Instance, Snapshot
from bot.sandbox.aws_core import AwsCore


@dataclass(frozen=True, slots=True)
class _Taken:
    snapshot: Snapshot
    tags: Mapping[str, str]
    begun: datetime


@dataclass(slots=True)
class _Controls:
    metadata: bool = True
    protected: bool = False
    shutdown: str = "terminate"


class SimEc2:
    """ports.Ec2. `rules` are the numbers of ingress and egress rules by group id, for scenarios to change."""

    def __init__(self, estate: AwsCore, snapshot_time: timedelta) -> None:
        self._estate, self._snapshot_time = estate, snapshot_time
        self.instances: dict[str, Instance] = {}
        self.rules: dict[str, tuple[int, int]] = {}
        self._quarantine: dict[str, str] = {}  # VPC -> group
        self._taken: list[_Taken] = []
        self._controls: dict[str, _Controls] = {}
        self.acls: dict[str, int] = {}  # network ACL -> rules
        self._shared: dict[str, set[str]] = {}  # snapshot -> accounts
        self.locked: dict[str, int] = {}  # snapshot -> days
        self._acl_of: dict[str, str] = {}  # subnet -> network ACL

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

    def profile(self, instance_id: str) -> str:
        with self._estate.call("profile"):
            return self._there(instance_id).profile_arn

    def set_profile(self, instance_id: str, profile_arn: str) -> None:
        with self._estate.call("set_profile"):
            held = self._there(instance_id)
            if profile_arn and held.profile_arn:
                raise self._estate.refusal(f"{instance_id} has a profile already (IncorrectState)")
            self.instances[instance_id] = replace(held, profile_arn=profile_arn)

    def metadata(self, instance_id: str) -> tuple[bool, bool]:
        with self._estate.call("metadata"):
            return self._of(instance_id).metadata, True

    def set_metadata(self, instance_id: str, on: bool) -> None:
        with self._estate.call("set_metadata"):
            self._of(instance_id).metadata = on

    def preservation(self, instance_id: str) -> tuple[bool, str]:
        with self._estate.call("preservation"):
            held = self._of(instance_id)
            return held.protected, held.shutdown

    def set_preservation(self, instance_id: str, protected: bool, shutdown: str) -> None:
        with self._estate.call("set_preservation"):
            held = self._of(instance_id)
            held.protected, held.shutdown = protected, shutdown

    def network_acls(self, instance_id: str) -> Mapping[str, str]:
        with self._estate.call("network_acls"):
            subnet = _subnet(self._there(instance_id).vpc)
            return {subnet: self._acl(subnet)}

    def subnet_interfaces(self, subnet: str) -> int:
        with self._estate.call("subnet_interfaces"):
            return sum(len(each.interfaces) for each in self.instances.values() if _subnet(each.vpc) == subnet)

    def closed_acl(self, vpc: str) -> str:
        with self._estate.call("closed_acl"):
            closed = f"acl-closed-{vpc}"
            self.acls[closed] = 0
            return closed

    def acl_rules(self, acl: str) -> int | None:
        with self._estate.call("acl_rules"):
            return self.acls.get(acl)

    def set_network_acl(self, subnet: str, acl: str) -> None:
        with self._estate.call("set_network_acl"):
            if acl not in self.acls:
                raise self._estate.refusal(f"no network ACL {acl} (InvalidNetworkAclID.NotFound)")
            self._acl_of[subnet] = acl

    def snapshot_shares(self, snapshot: str) -> tuple[str, ...]:
        with self._estate.call("snapshot_shares"):
            return tuple(sorted(self._shared.get(snapshot, ())))

    def share_snapshot(self, snapshot: str, account: str, shared: bool) -> None:
        with self._estate.call("share_snapshot"):
            held = self._shared.setdefault(snapshot, set())
            (held.add if shared else held.discard)(account)

    def snapshot_locked(self, snapshot: str) -> bool:
        with self._estate.call("snapshot_locked"):
            return snapshot in self.locked

    def lock_snapshot(self, snapshot: str, days: int) -> None:
        with self._estate.call("lock_snapshot"):
            self.locked.setdefault(snapshot, days)

    def keeps_live_flows(self, instance_id: str) -> bool:
        """Whether a connection that is open already goes on: security groups do not end it, a network ACL does."""
        return self.acls[self._acl(_subnet(self.instances[instance_id].vpc))] > 0

    def _acl(self, subnet: str) -> str:
        acl = self._acl_of.setdefault(subnet, f"acl-{subnet}")
        self.acls.setdefault(acl, 2)
        return acl

    def _there(self, instance_id: str) -> Instance:
        if instance_id not in self.instances:
            raise self._estate.refusal(f"no instance {instance_id} (InvalidInstanceID.NotFound)")
        return self.instances[instance_id]

    def _of(self, instance_id: str) -> _Controls:
        self._there(instance_id)
        return self._controls.setdefault(instance_id, _Controls())

    def _now(self, taken: _Taken) -> Snapshot:
        complete = self._estate.clock.now() >= taken.begun + self._snapshot_time
        return replace(taken.snapshot, state="completed") if complete else taken.snapshot


class SimScaling:
    """ports.Scaling. `groups`: group -> (desired, least)."""

    def __init__(self, estate: AwsCore) -> None:
        self._estate = estate
        self.groups: dict[str, tuple[int, int]] = {}
        self._members: dict[str, tuple[str, str]] = {}

    def add(self, group: str, instance_id: str, *, least: int = 0) -> None:
        desired, _ = self.groups.get(group, (0, 0))
        self.groups[group] = (desired + 1, least)
        self._members[instance_id] = (group, "InService")

    def membership(self, instance_id: str) -> tuple[str, str] | None:
        with self._estate.call("membership"):
            return self._members.get(instance_id)

    def enter_standby(self, group: str, instance_id: str, *, replace: bool) -> None:
        with self._estate.call("enter_standby"):
            self._move(group, instance_id, "InService", "Standby", 0 if replace else -1)

    def exit_standby(self, group: str, instance_id: str) -> None:
        with self._estate.call("exit_standby"):
            self._move(group, instance_id, "Standby", "InService", 1)

    def _move(self, group: str, instance_id: str, source: str, goal: str, more: int) -> None:
        if self._members.get(instance_id) != (group, source):
            raise self._estate.refusal(f"{instance_id} is not {source} in {group} (ValidationError)")
        desired, least = self.groups[group]
        if desired + more < least:
            raise self._estate.refusal(f"{group} would run fewer than its minimum of {least} (ValidationError)")
        self.groups[group] = (desired + more, least)
        self._members[instance_id] = (group, goal)


def _subnet(vpc: str) -> str:
    return f"subnet-{vpc}"
