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


class SimEc2:
    """ports.Ec2. `rules` are the numbers of ingress and egress rules by group id, for scenarios to change."""

    def __init__(self, estate: AwsCore, snapshot_time: timedelta) -> None:
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
