"""What runs and what is kept in one AWS account: RDS, Lambda, ECS, Secrets Manager, Organizations, through boto3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bot.adapters.aws_api import AwsApi
from bot.ports import ControlPolicy, Database, DatabaseSnapshot, Function, Tasks

_SCP = "SERVICE_CONTROL_POLICY"


class BotoDatabases:
    """ports.Databases."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def database(self, id: str) -> Database | None:
        gone = ("DBInstanceNotFound", "DBInstanceNotFoundFault")
        found = self._api.ask("rds", "describe_db_instances", gone, DBInstanceIdentifier=id)
        if not found or not found["DBInstances"]:
            self._api.confirm_account()
            return None
        data = found["DBInstances"][0]
        return Database(data["DBInstanceIdentifier"], data["DBInstanceStatus"], data.get("DBClusterIdentifier") or "")

    def snapshots(self, database: str) -> tuple[DatabaseSnapshot, ...]:
        found = self._api.pages("rds", "describe_db_snapshots", "DBSnapshots", DBInstanceIdentifier=database)
        return tuple(
            DatabaseSnapshot(each["DBSnapshotIdentifier"], each["Status"], each["DBSnapshotArn"]) for each in found
        )

    def take_snapshot(self, database: str, snapshot: str, tags: Mapping[str, str]) -> None:
        self._api.ask(
            "rds",
            "create_db_snapshot",
            ("DBSnapshotAlreadyExists", "DBSnapshotAlreadyExistsFault"),
            DBInstanceIdentifier=database,
            DBSnapshotIdentifier=snapshot,
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
        )


class BotoFunctions:
    """ports.Functions."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def function(self, name: str) -> Function | None:
        gone = ("ResourceNotFoundException",)
        found = self._api.ask("lambda", "get_function_configuration", gone, FunctionName=name)
        if found is None:
            self._api.confirm_account()
            return None
        return Function(found["FunctionArn"], found["Role"], int(found.get("Timeout", 3)))

    def concurrency(self, name: str) -> int | None:
        found = self._api.call("lambda", "get_function_concurrency", FunctionName=name)
        reserved = found.get("ReservedConcurrentExecutions")
        return None if reserved is None else int(reserved)

    def set_concurrency(self, name: str, reserved: int | None) -> None:
        if reserved is None:
            self._api.call("lambda", "delete_function_concurrency", FunctionName=name)
        else:
            self._api.call(
                "lambda", "put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=reserved
            )


class BotoContainers:
    """ports.Containers."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def service(self, cluster: str, service: str) -> Tasks | None:
        gone = ("ClusterNotFoundException",)
        found = self._api.ask("ecs", "describe_services", gone, cluster=cluster, services=[service])
        data = next((each for each in (found or {}).get("services", ()) if each["status"] == "ACTIVE"), None)
        if data is None:
            self._api.confirm_account()
            return None
        live = data["runningCount"] + data["pendingCount"]
        daemon = data.get("schedulingStrategy") == "DAEMON"
        return Tasks(data["desiredCount"], live, self._role(data["taskDefinition"]), daemon)

    def set_desired(self, cluster: str, service: str, desired: int) -> None:
        self._api.call("ecs", "update_service", cluster=cluster, service=service, desiredCount=desired)

    def task(self, cluster: str, task: str) -> Tasks | None:
        gone = ("ClusterNotFoundException",)
        found = self._api.ask("ecs", "describe_tasks", gone, cluster=cluster, tasks=[task])
        if not found or not found["tasks"]:
            self._api.confirm_account()
            return None
        data = found["tasks"][0]
        role = data.get("overrides", {}).get("taskRoleArn") or self._role(data["taskDefinitionArn"])
        return Tasks(int(data["desiredStatus"] != "STOPPED"), int(data["lastStatus"] != "STOPPED"), role)

    def stop_task(self, cluster: str, task: str, reason: str) -> None:
        self._api.call("ecs", "stop_task", cluster=cluster, task=task, reason=reason)

    def _role(self, definition: str) -> str:
        found = self._api.call("ecs", "describe_task_definition", taskDefinition=definition)["taskDefinition"]
        return str(found.get("taskRoleArn") or "")


class BotoSecrets:
    """ports.Secrets."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def policy(self, secret: str) -> Mapping[str, Any] | None:
        found = self._api.ask("secretsmanager", "get_resource_policy", ("ResourceNotFoundException",), SecretId=secret)
        if found is None:
            self._api.confirm_account()
            return None
        document: Mapping[str, Any] = json.loads(found.get("ResourcePolicy") or "{}")
        return document

    def set_policy(self, secret: str, document: Mapping[str, Any]) -> None:
        if document:
            said = json.dumps(document)
            self._api.call("secretsmanager", "put_resource_policy", SecretId=secret, ResourcePolicy=said)
        else:
            self._api.call("secretsmanager", "delete_resource_policy", SecretId=secret)


class BotoOrganization:
    """ports.Organization."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    def management_account(self) -> str:
        return str(self._api.call("organizations", "describe_organization")["Organization"]["MasterAccountId"])

    def policy(self, name: str) -> ControlPolicy | None:
        id = self._id(name)
        if id is None:
            return None
        content = self._api.call("organizations", "describe_policy", PolicyId=id)["Policy"]["Content"]
        targets = self._api.pages("organizations", "list_targets_for_policy", "Targets", PolicyId=id)
        return ControlPolicy(id, json.loads(content), tuple(each["TargetId"] for each in targets))

    def put_policy(self, name: str, document: Mapping[str, Any]) -> str:
        content, id = json.dumps(document), self._id(name)
        if id is not None:
            self._api.call("organizations", "update_policy", PolicyId=id, Content=content)
            return id
        about = "Denies what an incident names. Kept by Firedoor."
        wanted = {"Name": name, "Description": about, "Type": _SCP, "Content": content}
        return str(self._api.call("organizations", "create_policy", **wanted)["Policy"]["PolicySummary"]["Id"])

    def attach(self, policy: str, target: str) -> None:
        done = ("DuplicatePolicyAttachmentException",)
        self._api.ask("organizations", "attach_policy", done, PolicyId=policy, TargetId=target)

    def detach(self, policy: str, target: str) -> None:
        done = ("PolicyNotAttachedException", "PolicyNotFoundException")
        self._api.ask("organizations", "detach_policy", done, PolicyId=policy, TargetId=target)

    def delete(self, policy: str) -> None:
        self._api.ask("organizations", "delete_policy", ("PolicyNotFoundException",), PolicyId=policy)

    def _id(self, name: str) -> str | None:
        listed = self._api.pages("organizations", "list_policies", "Policies", Filter=_SCP)
        return next((str(each["Id"]) for each in listed if each["Name"] == name), None)
