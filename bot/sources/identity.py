"""The names of things in alerts: resources with CloudFormation types, actors as `Agent.actors` writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from bot.domain.alert import Resource

# ARN service and resource kind -> CloudFormation type. A kind of "" is a service whose ARN has none (S3, SQS, SNS).
TYPES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("ec2", "instance"): "AWS::EC2::Instance",
        ("ec2", "volume"): "AWS::EC2::Volume",
        ("ec2", "snapshot"): "AWS::EC2::Snapshot",
        ("ec2", "network-interface"): "AWS::EC2::NetworkInterface",
        ("ec2", "security-group"): "AWS::EC2::SecurityGroup",
        ("ec2", "vpc"): "AWS::EC2::VPC",
        ("iam", "role"): "AWS::IAM::Role",
        ("iam", "user"): "AWS::IAM::User",
        ("iam", "access-key"): "AWS::IAM::AccessKey",
        ("iam", "instance-profile"): "AWS::IAM::InstanceProfile",
        ("iam", "policy"): "AWS::IAM::ManagedPolicy",
        ("s3", ""): "AWS::S3::Bucket",
        ("lambda", "function"): "AWS::Lambda::Function",
        ("rds", "db"): "AWS::RDS::DBInstance",
        ("rds", "cluster"): "AWS::RDS::DBCluster",
        ("ecs", "cluster"): "AWS::ECS::Cluster",
        ("ecs", "service"): "AWS::ECS::Service",
        ("ecs", "task"): "AWS::ECS::Task",
        ("ecs", "task-definition"): "AWS::ECS::TaskDefinition",
        ("eks", "cluster"): "AWS::EKS::Cluster",
        ("secretsmanager", "secret"): "AWS::SecretsManager::Secret",
        ("ssm", "parameter"): "AWS::SSM::Parameter",
        ("kms", "key"): "AWS::KMS::Key",
        ("dynamodb", "table"): "AWS::DynamoDB::Table",
        ("sqs", ""): "AWS::SQS::Queue",
        ("sns", ""): "AWS::SNS::Topic",
        ("bedrock", "guardrail"): "AWS::Bedrock::Guardrail",
        ("bedrock", "agent"): "AWS::Bedrock::Agent",
    }
)
POD, CONTAINER, HOST = "Kubernetes::Pod", "Container", "Host"

# What the EC2 and IAM calls of the playbooks take is the short id, not the ARN.
_BY_SHORT_ID = ("AWS::EC2::", "AWS::IAM::AccessKey")
_ARN = re.compile(r"arn:(aws[a-z-]*):([a-z0-9-]+):([a-z0-9-]*):(\d*):(.+)")
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_ACCESS_KEY = re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{12,32}")
_ACCOUNT = re.compile(r"\d{12}")


def resource(
    uid: str, *, type: str = "", name: str = "", region: str = "", account: str = "", criticality: str = ""
) -> Resource:
    """From an ARN or a short id; what is given stands before what the uid tells."""
    if arn := _ARN.fullmatch(uid):
        _, service, arn_region, arn_account, rest = arn.groups()
        kind = re.split(r"[/:]", rest, maxsplit=1)[0] if service != "s3" and re.search(r"[/:]", rest) else ""
        type, region, account = type or TYPES.get((service, kind), ""), region or arn_region, account or arn_account
        if type.startswith(_BY_SHORT_ID):
            uid = re.split(r"[/:]", uid)[-1]
    elif not type and _INSTANCE.fullmatch(uid):
        type = "AWS::EC2::Instance"
    elif not type and _ACCESS_KEY.fullmatch(uid):
        type = "AWS::IAM::AccessKey"
    return Resource(uid, type, name, region, account, criticality)


def role_arn(partition: str, account: str, role: str) -> str:
    """Of a role without a path: an alert that names a session does not tell the path."""
    return f"arn:{partition or 'aws'}:iam::{account}:role/{role}"


def user(account: str, name: str) -> str:
    return f"{account}:user/{name}"


def service_account(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def actors_of(name: str) -> tuple[str, ...]:
    """A principal as written, and what it comes from: the role of an assumed-role session, the user of a user's ARN."""
    if not (arn := _ARN.fullmatch(name)):
        return (name,) if name else ()
    partition, service, _, account, rest = arn.groups()
    parts = rest.split("/")
    if service == "sts" and parts[0] == "assumed-role" and len(parts) > 1:
        return name, role_arn(partition, account, parts[1])
    if service == "iam" and parts[0] == "user":
        return name, user(account, parts[-1])
    return (name,)


def account_in(text: str) -> str:
    """A twelve-digit account id, or ''."""
    return text if _ACCOUNT.fullmatch(text) else ""


# Labels ---------------------------------------------------------------------------------------------------------------

_AGENT_LABELS = ("agent", "agent_id", "agent-id", "ai_agent")
_ACTOR_LABELS = ("access_key_id", "role_arn", "principal_arn", "vault_entity_id", "entity_id", "token_accessor")
_RESOURCE_LABELS = ("resource", "resource_arn", "arn", "resource_id", "instance_id")
_TYPE_LABELS = ("incident_type", "firedoor_type")


def agent_in(labels: Mapping[str, str]) -> str | None:
    return _first(labels, _AGENT_LABELS) or None


def types_in(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Incident types the source claims: the label `incident_type`, several parted by commas."""
    return tuple(filter(None, (part.strip() for part in _first(labels, _TYPE_LABELS).split(","))))


def actors_in(labels: Mapping[str, str]) -> tuple[str, ...]:
    found = [actor for name in _ACTOR_LABELS for actor in actors_of(labels.get(name, ""))]
    if (account := labels.get("service_account", "")) and (namespace := labels.get("namespace", "")):
        found.append(service_account(namespace, account))
    if (name := labels.get("iam_user", "")) and (account := _first(labels, ("account", "account_id"))):
        found.append(user(account, name))
    return tuple(dict.fromkeys(found))


def resources_in(labels: Mapping[str, str]) -> tuple[Resource, ...]:
    """What is named by a resource label; else the pod, else the host."""
    named = [resource(labels[name]) for name in _RESOURCE_LABELS if labels.get(name)]
    if named:
        criticality = labels.get("criticality", "")
        return tuple({one.uid: replace(one, criticality=criticality) for one in named}.values())
    if pod := labels.get("pod", ""):
        return (Resource(uid=f"{labels.get('namespace', 'default')}/{pod}", type=POD, name=pod),)
    if host := _first(labels, ("instance", "host")):
        return (Resource(uid=host, type=HOST, name=host),)
    return ()


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")
