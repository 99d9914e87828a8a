"""Amazon GuardDuty: an EventBridge event (lowerCamel), a finding of its API (UpperCamel), or several in `Findings`.

In the API's answer and in events by way of some integrations the names differ in their first letter only.
"""

from __future__ import annotations

from dataclasses import replace

from bot.domain.alert import Alert, AlertText, Resource, Severity
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.errors import BadAlert
from bot.sources import identity
from bot.sources.fields import Fields, severity

SEVERITIES = {"1": Severity.LOW, "4": Severity.MEDIUM, "7": Severity.HIGH, "9": Severity.CRITICAL}

# Part of `resource`, what is its uid, its type.
_PARTS = (
    ("lambdaDetails", "functionArn", "AWS::Lambda::Function"),
    ("eksClusterDetails", "arn", "AWS::EKS::Cluster"),
    ("ecsClusterDetails", "arn", "AWS::ECS::Cluster"),
    ("rdsDbInstanceDetails", "dbInstanceArn", "AWS::RDS::DBInstance"),
    ("ebsSnapshotDetails", "snapshotArn", "AWS::EC2::Snapshot"),
    ("bedrockGuardrailDetails", "guardrailArn", "AWS::Bedrock::Guardrail"),
    ("containerDetails", "id", identity.CONTAINER),
)


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    envelope = Fields(payload, "guardduty")
    if "findings" in envelope:
        return tuple(_finding(finding, source) for finding in envelope.each("findings"))
    if "detail" not in envelope:
        return (_finding(envelope, source),)
    if "source" in envelope and envelope.text("source") != "aws.guardduty":
        raise BadAlert("guardduty.source: expected aws.guardduty: this queue or rule also carries other events")
    return (_finding(envelope.at("detail"), source),)


def _finding(finding: Fields, source: SourceRules) -> Alert:
    account, region = finding.text("accountId"), finding.text("region")
    resource = finding.at("resource")
    service = finding.at("service")
    return Alert(
        uid=finding.needed("id"),
        source=source.name,
        product="guardduty",
        rule=finding.needed("type"),
        severity_id=severity(finding.number("severity"), source.severity_map, SEVERITIES),
        time=finding.time("updatedAt", "createdAt"),
        actors=_actors(resource, finding.text("partition"), account),
        resources=_resources(resource, account, region),
        labels={"resource_type": resource.text("resourceType"), "resource_role": service.text("resourceRole")},
        account=account,
        region=region,
        resolved=service.get("archived") is True,
        text=AlertText(finding.text("title"), finding.text("description")),
        unmapped=finding.rest("id", "type", "severity", "updatedAt", "title", "description", "accountId", "region"),
    )


def _actors(resource: Fields, partition: str, account: str) -> tuple[str, ...]:
    """Whose credentials they were. Of an assumed role GuardDuty tells the role's name, without its path."""
    key = resource.at("accessKeyDetails")
    found = [key.text("accessKeyId"), key.text("principalId")]
    if name := key.text("userName"):
        match key.text("userType"):
            case "AssumedRole" | "Role":
                found.append(identity.role_arn(partition, account, name))
            case "IAMUser":
                found.append(identity.user(account, name))
    found.append(resource.at("instanceDetails").at("iamInstanceProfile").text("arn"))
    found += identity.actors_of(resource.at("lambdaDetails").text("role"))
    kubernetes = resource.at("kubernetesDetails")
    found.append(kubernetes.at("kubernetesUserDetails").text("username"))
    workload = kubernetes.at("kubernetesWorkloadDetails")
    if (namespace := workload.text("namespace")) and (name := workload.text("serviceAccountName")):
        found.append(identity.service_account(namespace, name))
    return tuple(dict.fromkeys(filter(None, found)))


def _resources(resource: Fields, account: str, region: str) -> tuple[Resource, ...]:
    def one(uid: str, kind: str, name: str = "") -> Resource:
        return identity.resource(uid, type=kind, name=name, region=region, account=account)

    found: list[Resource] = []
    key = resource.at("accessKeyDetails")
    if uid := key.text("accessKeyId"):
        found.append(one(uid, "AWS::IAM::AccessKey", key.text("userName")))
    instance = resource.at("instanceDetails")
    if uid := instance.text("instanceId"):
        tags = {tag.text("key"): tag.text("value") for tag in instance.each("tags")}
        found.append(replace(one(uid, "AWS::EC2::Instance", tags.get("Name", "")), labels=tags))
    for bucket in resource.each("s3BucketDetails"):
        if uid := bucket.text("arn") or bucket.text("name"):
            found.append(one(uid, "AWS::S3::Bucket", bucket.text("name")))
    for part, name, kind in _PARTS:
        if uid := resource.at(part).text(name):
            found.append(one(uid, kind, resource.at(part).text("name")))
    workload = resource.at("kubernetesDetails").at("kubernetesWorkloadDetails")
    if name := workload.text("name"):
        kind = identity.POD if workload.text("type").lower() in ("pods", "pod") else workload.text("type")
        found.append(one(f"{workload.text('namespace', 'default')}/{name}", kind, name))
    return tuple(found)
