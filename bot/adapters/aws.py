"""IAM, EC2, SSM Parameter Store and CloudTrail of one AWS account, through boto3."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bot.adapters.aws_api import AwsApi
from bot.adapters.aws_ec2 import BotoScaling, Ec2Controls
from bot.adapters.aws_policies import IamPolicies, policy_document
from bot.adapters.aws_workloads import (
    BotoContainers,
    BotoDatabases,
    BotoFunctions,
    BotoOrganization,
    BotoSecrets,
)
from bot.errors import Rejected, Unavailable
from bot.ports import AccessKey, AwsAccount, Instance, Logged, Role, Snapshot

_GONE = ("NoSuchEntity",)
_QUARANTINE = "firedoor-quarantine"


def aws_account(
    *,
    account: str,
    region: str,
    system: str = "aws",
    endpoint_url: str | None = None,
    credentials: Mapping[str, str] | None = None,
    profile: str | None = None,
    role: str | None = None,
    external_id: str | None = None,
    connect_timeout: float = 3.0,
    read_timeout: float = 10.0,
) -> AwsAccount:
    """The ports of one account and region; nothing is called yet. Arguments as for AwsApi."""
    api = AwsApi(
        system=system,
        account=account,
        region=region,
        endpoint_url=endpoint_url,
        credentials=credentials,
        profile=profile,
        role=role,
        external_id=external_id,
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
    )
    return AwsAccount(
        BotoIam(api),
        BotoEc2(api),
        BotoParameters(api),
        BotoCloudTrail(api),
        account,
        scaling=BotoScaling(api),
        databases=BotoDatabases(api),
        functions=BotoFunctions(api),
        containers=BotoContainers(api),
        secrets=BotoSecrets(api),
        organization=BotoOrganization(api),
    )


class BotoIam(IamPolicies):
    """ports.Iam."""

    def get_role(self, role: str) -> Role | None:
        found = self._ask("get_role", RoleName=role)
        if found is None:
            self._api.confirm_account()
            return None
        data = found["Role"]
        trust = policy_document(data.get("AssumeRolePolicyDocument", {}))
        boundary = data.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
        return Role(data["Arn"], data["RoleName"], data["Path"], data["RoleId"], trust, boundary)

    def put_role_policy(self, role: str, name: str, document: Mapping[str, Any]) -> None:
        self._call("put_role_policy", RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))

    def get_role_policy(self, role: str, name: str) -> Mapping[str, Any] | None:
        found = self._ask("get_role_policy", RoleName=role, PolicyName=name)
        return policy_document(found["PolicyDocument"]) if found else None

    def delete_role_policy(self, role: str, name: str) -> None:
        self._ask("delete_role_policy", RoleName=role, PolicyName=name)

    def put_user_policy(self, user: str, name: str, document: Mapping[str, Any]) -> None:
        self._call("put_user_policy", UserName=user, PolicyName=name, PolicyDocument=json.dumps(document))

    def get_user_policy(self, user: str, name: str) -> Mapping[str, Any] | None:
        found = self._ask("get_user_policy", UserName=user, PolicyName=name)
        return policy_document(found["PolicyDocument"]) if found else None

    def delete_user_policy(self, user: str, name: str) -> None:
        self._ask("delete_user_policy", UserName=user, PolicyName=name)

    def attach_role_policy(self, role: str, policy_arn: str) -> None:
        self._call("attach_role_policy", RoleName=role, PolicyArn=policy_arn)

    def detach_role_policy(self, role: str, policy_arn: str) -> None:
        self._ask("detach_role_policy", RoleName=role, PolicyArn=policy_arn)

    def attached_role_policies(self, role: str) -> tuple[str, ...]:
        return self._attached("list_attached_role_policies", RoleName=role)

    def attach_user_policy(self, user: str, policy_arn: str) -> None:
        self._call("attach_user_policy", UserName=user, PolicyArn=policy_arn)

    def detach_user_policy(self, user: str, policy_arn: str) -> None:
        self._ask("detach_user_policy", UserName=user, PolicyArn=policy_arn)

    def attached_user_policies(self, user: str) -> tuple[str, ...]:
        return self._attached("list_attached_user_policies", UserName=user)

    def list_access_keys(self, user: str) -> tuple[AccessKey, ...] | None:
        found = self._ask("list_access_keys", UserName=user, MaxItems=100)  # a user has two at most
        if found is None:
            self._api.confirm_account()
            return None
        return tuple(
            AccessKey(key["AccessKeyId"], key["UserName"], key["Status"] == "Active")
            for key in found["AccessKeyMetadata"]
        )

    def set_access_key_active(self, user: str, key_id: str, active: bool) -> None:
        status = "Active" if active else "Inactive"
        self._call("update_access_key", UserName=user, AccessKeyId=key_id, Status=status)

    def set_trust(self, role: str, document: Mapping[str, Any]) -> None:
        self._call("update_assume_role_policy", RoleName=role, PolicyDocument=json.dumps(document))

    def set_boundary(self, role: str, policy_arn: str) -> None:
        if policy_arn:
            self._call("put_role_permissions_boundary", RoleName=role, PermissionsBoundary=policy_arn)
        else:
            self._ask("delete_role_permissions_boundary", RoleName=role)

    def has_console(self, user: str) -> bool:
        found = self._ask("get_login_profile", UserName=user)
        if found is None:
            self._api.confirm_account()
        return found is not None

    def delete_console(self, user: str) -> None:
        self._ask("delete_login_profile", UserName=user)

    def server_time(self) -> datetime:
        return self._api.server_time()

    def _call(self, operation: str, **arguments: Any) -> None:
        self._api.call("iam", operation, **arguments)

    def _ask(self, operation: str, **arguments: Any) -> Mapping[str, Any] | None:
        return self._api.ask("iam", operation, _GONE, **arguments)

    def _attached(self, operation: str, **arguments: Any) -> tuple[str, ...]:
        found: list[str] = []
        more: dict[str, str] = {}
        while (page := self._ask(operation, **arguments, **more)) is not None:
            found += [policy["PolicyArn"] for policy in page["AttachedPolicies"]]
            if not page.get("IsTruncated"):
                break
            more = {"Marker": page["Marker"]}
        return tuple(found)


class BotoEc2(Ec2Controls):
    """ports.Ec2."""

    def instance(self, instance_id: str) -> Instance | None:
        absent = ("InvalidInstanceID.NotFound",)
        found = self._api.ask("ec2", "describe_instances", absent, InstanceIds=[instance_id])
        instances = [each for reservation in (found or {}).get("Reservations", ()) for each in reservation["Instances"]]
        if not instances:
            self._api.confirm_account()
            return None
        data = instances[0]
        # Asked for by themselves: what an instance says of its interfaces lags behind a change.
        attached = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
        interfaces = self._api.pages("ec2", "describe_network_interfaces", "NetworkInterfaces", Filters=attached)
        return Instance(
            id=instance_id,
            state=data["State"]["Name"],
            vpc=data.get("VpcId", ""),
            interfaces={each["NetworkInterfaceId"]: _group_ids(each) for each in interfaces},
            volumes=tuple(sorted(each["Ebs"]["VolumeId"] for each in data["BlockDeviceMappings"] if "Ebs" in each)),
            tags={tag["Key"]: tag["Value"] for tag in data.get("Tags", ())},
            profile_arn=data.get("IamInstanceProfile", {}).get("Arn", ""),
        )

    def quarantine_group(self, vpc: str) -> str:
        group = self._quarantine(vpc)
        if group is None:
            tags = [{"Key": "Name", "Value": _QUARANTINE}]
            self._api.ask(
                "ec2",
                "create_security_group",
                ("InvalidGroup.Duplicate",),  # another replica was faster
                GroupName=_QUARANTINE,
                Description="Quarantine: no rule, no new flow. Kept by Firedoor, add nothing.",
                VpcId=vpc,
                TagSpecifications=[{"ResourceType": "security-group", "Tags": tags}],
            )
            group = self._quarantine(vpc)
        if group is None:
            raise Rejected(self._api.system, f"the new group {_QUARANTINE} of {vpc} is not listed yet", retryable=True)
        for rules, way in (("IpPermissions", "ingress"), ("IpPermissionsEgress", "egress")):
            if group[rules]:
                self._api.ask(
                    "ec2",
                    f"revoke_security_group_{way}",
                    ("InvalidPermission.NotFound",),
                    GroupId=group["GroupId"],
                    IpPermissions=group[rules],
                )
        return str(group["GroupId"])

    def group_rules(self, group_id: str) -> tuple[int, int] | None:
        found = self._api.ask("ec2", "describe_security_groups", ("InvalidGroup.NotFound",), GroupIds=[group_id])
        if found is None:
            return None
        group = found["SecurityGroups"][0]
        return len(group["IpPermissions"]), len(group["IpPermissionsEgress"])

    def set_interface_groups(self, interface: str, groups: Sequence[str]) -> None:
        self._api.call("ec2", "modify_network_interface_attribute", NetworkInterfaceId=interface, Groups=list(groups))

    def snapshots_tagged(self, key: str, value: str) -> tuple[Snapshot, ...]:
        wanted = [{"Name": f"tag:{key}", "Values": [value]}]
        found = self._api.pages("ec2", "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=wanted)
        return tuple(map(_snapshot, found))

    def snapshot_instance(self, instance_id: str, tags: Mapping[str, str]) -> tuple[Snapshot, ...]:
        marks = [{"Key": key, "Value": value} for key, value in tags.items()]
        made = self._api.call(
            "ec2",
            "create_snapshots",
            InstanceSpecification={"InstanceId": instance_id},
            Description=f"Evidence of {instance_id}, by Firedoor",
            TagSpecifications=[{"ResourceType": "snapshot", "Tags": marks}],
        )
        return tuple(map(_snapshot, made["Snapshots"]))

    def _quarantine(self, vpc: str) -> Mapping[str, Any] | None:
        wanted = [{"Name": "group-name", "Values": [_QUARANTINE]}, {"Name": "vpc-id", "Values": [vpc]}]
        return next(self._api.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=wanted), None)


class BotoParameters:
    """ports.Parameters."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def put(self, name: str, value: str) -> int:
        stored = self._api.call("ssm", "put_parameter", Name=name, Value=value, Type="String", Overwrite=True)
        return int(stored["Version"])

    def get(self, name: str) -> tuple[str, int] | None:
        found = self._api.ask("ssm", "get_parameter", ("ParameterNotFound",), Name=name, WithDecryption=True)
        return (found["Parameter"]["Value"], int(found["Parameter"]["Version"])) if found else None


class BotoCloudTrail:
    """ports.CloudTrail. AWS allows two calls a second in an account and region, 50 events each: they leave `every`
    seconds apart at least, whoever asks, and a walk from session to session is not throttled by its own questions."""

    def __init__(
        self,
        api: AwsApi,
        every: float = 0.5,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._api, self._every, self._monotonic, self._sleep = api, every, monotonic, sleep
        self._free_at = 0.0
        self._lock = threading.Lock()

    def events(self, attribute: str, value: str, since: datetime, until: datetime, pages: int = 10) -> Logged:
        asked = {
            "LookupAttributes": [{"AttributeKey": attribute, "AttributeValue": value}],
            "StartTime": since,
            "EndTime": until,
            "MaxResults": 50,
        }
        found: list[Mapping[str, Any]] = []
        more: dict[str, str] = {}
        for page in range(1, pages + 1):
            self._wait()
            try:
                answer = self._api.call("cloudtrail", "lookup_events", **asked, **more)
            except Unavailable:
                if not found:
                    raise
                return Logged(tuple(found), page, whole=False)  # a use that was read is one, whatever came after
            found += [self._event(event) for event in answer.get("Events", ())]
            if not answer.get("NextToken"):
                return Logged(tuple(found), page)
            more = {"NextToken": answer["NextToken"]}
        return Logged(tuple(found), pages, whole=False)

    def _event(self, listed: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            event = json.loads(listed["CloudTrailEvent"])
        except (KeyError, ValueError):
            event = None
        if not isinstance(event, dict):  # left out, it would be taken for a use that never was
            raise Rejected(self._api.system, f"CloudTrail's event {listed.get('EventId')} is not JSON")
        return event

    def _wait(self) -> None:
        with self._lock:
            now = self._monotonic()
            turn = max(now, self._free_at)
            self._free_at = turn + self._every
        if turn > now:
            self._sleep(turn - now)


def _group_ids(interface: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(group["GroupId"] for group in interface["Groups"])


def _snapshot(data: Mapping[str, Any]) -> Snapshot:
    return Snapshot(data["SnapshotId"], data["VolumeId"], data.get("State", "pending"))  # new ones need not say
