"""What EC2 and Auto Scaling let one do to an instance, through boto3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.adapters.aws_api import AwsApi
from bot.errors import Rejected

_CLOSED = "firedoor-closed"
_LAST_RULE = 32767  # AWS's own: denies what no other rule allowed


class Ec2Controls:
    """The part of ports.Ec2 that does not concern security groups and snapshots."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def profile(self, instance_id: str) -> str:
        return next((str(each["IamInstanceProfile"]["Arn"]) for each in self._profiles(instance_id)), "")

    def set_profile(self, instance_id: str, profile_arn: str) -> None:
        if profile_arn:
            wanted = {"Arn": profile_arn}
            self._api.call("ec2", "associate_iam_instance_profile", InstanceId=instance_id, IamInstanceProfile=wanted)
            return
        for held in self._profiles(instance_id):
            gone = ("InvalidAssociationID.NotFound",)
            self._api.ask("ec2", "disassociate_iam_instance_profile", gone, AssociationId=held["AssociationId"])

    def metadata(self, instance_id: str) -> tuple[bool, bool]:
        options = self._described(instance_id).get("MetadataOptions", {})
        return options.get("HttpEndpoint", "enabled") == "enabled", options.get("State", "applied") == "applied"

    def set_metadata(self, instance_id: str, on: bool) -> None:
        endpoint = "enabled" if on else "disabled"
        self._api.call("ec2", "modify_instance_metadata_options", InstanceId=instance_id, HttpEndpoint=endpoint)

    def preservation(self, instance_id: str) -> tuple[bool, str]:
        protected = self._attribute(instance_id, "disableApiTermination", "DisableApiTermination")
        shutdown = self._attribute(
            instance_id, "instanceInitiatedShutdownBehavior", "InstanceInitiatedShutdownBehavior"
        )
        return bool(protected), str(shutdown or "stop")

    def set_preservation(self, instance_id: str, protected: bool, shutdown: str) -> None:
        for change in (
            {"DisableApiTermination": {"Value": protected}},
            {"InstanceInitiatedShutdownBehavior": {"Value": shutdown}},
        ):
            self._api.call("ec2", "modify_instance_attribute", InstanceId=instance_id, **change)

    def network_acls(self, instance_id: str) -> Mapping[str, str]:
        attached = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
        held = self._api.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=attached)
        return {subnet: self._acl(subnet)[1] for subnet in sorted({each["SubnetId"] for each in held})}

    def subnet_interfaces(self, subnet: str) -> int:
        wanted = [{"Name": "subnet-id", "Values": [subnet]}]
        return sum(
            1 for _ in self._api.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=wanted)
        )

    def closed_acl(self, vpc: str) -> str:
        wanted = [{"Name": "tag:Name", "Values": [_CLOSED]}, {"Name": "vpc-id", "Values": [vpc]}]
        acl = next(self._api.pages("ec2", "describe_network_acls", "NetworkAcls", Filters=wanted), None)
        if acl is None:
            tags = [{"ResourceType": "network-acl", "Tags": [{"Key": "Name", "Value": _CLOSED}]}]
            acl = self._api.call("ec2", "create_network_acl", VpcId=vpc, TagSpecifications=tags)["NetworkAcl"]
        for rule in _rules(acl):
            self._api.ask(
                "ec2",
                "delete_network_acl_entry",
                ("InvalidNetworkAclEntry.NotFound",),
                NetworkAclId=acl["NetworkAclId"],
                RuleNumber=rule["RuleNumber"],
                Egress=rule["Egress"],
            )
        return str(acl["NetworkAclId"])

    def acl_rules(self, acl: str) -> int | None:
        found = self._api.ask("ec2", "describe_network_acls", ("InvalidNetworkAclID.NotFound",), NetworkAclIds=[acl])
        return len(_rules(found["NetworkAcls"][0])) if found and found["NetworkAcls"] else None

    def set_network_acl(self, subnet: str, acl: str) -> None:
        association, held = self._acl(subnet)
        if held != acl:
            self._api.call("ec2", "replace_network_acl_association", AssociationId=association, NetworkAclId=acl)

    def snapshot_shares(self, snapshot: str) -> tuple[str, ...]:
        wanted = {"SnapshotId": snapshot, "Attribute": "createVolumePermission"}
        found = self._api.call("ec2", "describe_snapshot_attribute", **wanted)["CreateVolumePermissions"]
        return tuple(each["UserId"] for each in found if "UserId" in each)

    def share_snapshot(self, snapshot: str, account: str, shared: bool) -> None:
        self._api.call(
            "ec2",
            "modify_snapshot_attribute",
            SnapshotId=snapshot,
            Attribute="createVolumePermission",
            OperationType="add" if shared else "remove",
            UserIds=[account],
        )

    def snapshot_locked(self, snapshot: str) -> bool:
        found = self._api.call("ec2", "describe_locked_snapshots", SnapshotIds=[snapshot])["Snapshots"]
        return any(each["LockState"] in ("governance", "compliance", "compliance-cooloff") for each in found)

    def lock_snapshot(self, snapshot: str, days: int) -> None:
        if not self.snapshot_locked(snapshot):
            self._api.call("ec2", "lock_snapshot", SnapshotId=snapshot, LockMode="governance", LockDuration=days)

    def _acl(self, subnet: str) -> tuple[str, str]:
        """(association, ACL): every subnet has one."""
        wanted = [{"Name": "association.subnet-id", "Values": [subnet]}]
        for acl in self._api.pages("ec2", "describe_network_acls", "NetworkAcls", Filters=wanted):
            for each in acl["Associations"]:
                if each["SubnetId"] == subnet:
                    return each["NetworkAclAssociationId"], acl["NetworkAclId"]
        raise Rejected(self._api.system, f"no network ACL is listed for {subnet}", retryable=True)

    def _profiles(self, instance_id: str) -> list[Mapping[str, Any]]:
        wanted = [{"Name": "instance-id", "Values": [instance_id]}]
        called = "describe_iam_instance_profile_associations"
        found = self._api.pages("ec2", called, "IamInstanceProfileAssociations", Filters=wanted)
        return [each for each in found if each["State"] in ("associating", "associated")]

    def _described(self, instance_id: str) -> Mapping[str, Any]:
        found = self._api.call("ec2", "describe_instances", InstanceIds=[instance_id])
        described: Mapping[str, Any] = found["Reservations"][0]["Instances"][0]
        return described

    def _attribute(self, instance_id: str, attribute: str, key: str) -> Any:
        found = self._api.call("ec2", "describe_instance_attribute", InstanceId=instance_id, Attribute=attribute)
        return found.get(key, {}).get("Value")


class BotoScaling:
    """ports.Scaling."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def membership(self, instance_id: str) -> tuple[str, str] | None:
        answer = self._api.call("autoscaling", "describe_auto_scaling_instances", InstanceIds=[instance_id])
        found = answer["AutoScalingInstances"]
        return (found[0]["AutoScalingGroupName"], found[0]["LifecycleState"]) if found else None

    def enter_standby(self, group: str, instance_id: str, *, replace: bool) -> None:
        self._api.call(
            "autoscaling",
            "enter_standby",
            AutoScalingGroupName=group,
            InstanceIds=[instance_id],
            ShouldDecrementDesiredCapacity=not replace,
        )

    def exit_standby(self, group: str, instance_id: str) -> None:
        self._api.call("autoscaling", "exit_standby", AutoScalingGroupName=group, InstanceIds=[instance_id])


def _rules(acl: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in acl["Entries"] if each["RuleNumber"] < _LAST_RULE]
