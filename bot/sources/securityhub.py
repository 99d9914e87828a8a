"""AWS Security Hub: findings in ASFF, in an EventBridge event (`detail.findings`), in `Findings`, or one by itself."""

from __future__ import annotations

from bot.domain.alert import Alert, AlertText, Resource
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.errors import BadAlert
from bot.sources import identity
from bot.sources.fields import NAMES, Fields, severity

# ASFF's own words for resources -> CloudFormation types.
TYPES = {
    "AwsEc2Instance": "AWS::EC2::Instance",
    "AwsEc2Volume": "AWS::EC2::Volume",
    "AwsEc2NetworkInterface": "AWS::EC2::NetworkInterface",
    "AwsEc2SecurityGroup": "AWS::EC2::SecurityGroup",
    "AwsEc2Vpc": "AWS::EC2::VPC",
    "AwsIamAccessKey": "AWS::IAM::AccessKey",
    "AwsIamRole": "AWS::IAM::Role",
    "AwsIamUser": "AWS::IAM::User",
    "AwsIamPolicy": "AWS::IAM::ManagedPolicy",
    "AwsS3Bucket": "AWS::S3::Bucket",
    "AwsLambdaFunction": "AWS::Lambda::Function",
    "AwsRdsDbInstance": "AWS::RDS::DBInstance",
    "AwsEcsCluster": "AWS::ECS::Cluster",
    "AwsEcsService": "AWS::ECS::Service",
    "AwsEcsTask": "AWS::ECS::Task",
    "AwsEksCluster": "AWS::EKS::Cluster",
    "AwsSecretsManagerSecret": "AWS::SecretsManager::Secret",
    "AwsKmsKey": "AWS::KMS::Key",
    "AwsDynamoDbTable": "AWS::DynamoDB::Table",
    "AwsSqsQueue": "AWS::SQS::Queue",
    "AwsSnsTopic": "AWS::SNS::Topic",
    "AwsAccount": "AWS::::Account",
    "Container": identity.CONTAINER,
}


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    envelope = Fields(payload, "securityhub")
    if "detail" in envelope:
        if "source" in envelope and envelope.text("source") != "aws.securityhub":
            raise BadAlert("securityhub.source: expected aws.securityhub: this queue or rule also carries other events")
        envelope = envelope.at("detail")
    if "findings" in envelope:
        return tuple(_finding(finding, source) for finding in envelope.each("findings"))
    return (_finding(envelope, source),)


def _finding(finding: Fields, source: SourceRules) -> Alert:
    grade = finding.at("Severity")
    label = grade.get("Label")
    workflow = finding.at("Workflow").text("Status")
    resources = list(finding.each("Resources"))
    return Alert(
        uid=finding.needed("Id"),
        source=source.name,
        product="securityhub",
        rule=finding.needed("GeneratorId"),
        # Findings of before 2019's Label carry a number of 0-100 only.
        severity_id=severity(label, source.severity_map, NAMES)
        if label is not None
        else severity(grade.get("Normalized"), source.severity_map, _NORMALIZED),
        time=finding.time("UpdatedAt", "CreatedAt"),
        actors=tuple(dict.fromkeys(actor for resource in resources for actor in _actors(resource, finding))),
        resources=tuple(_resource(resource, finding) for resource in resources),
        labels={"workflow": workflow, "record_state": finding.text("RecordState")},
        account=finding.text("AwsAccountId"),
        region=finding.text("Region"),
        resolved=workflow in ("RESOLVED", "SUPPRESSED") or finding.text("RecordState") == "ARCHIVED",
        text=AlertText(finding.text("Title"), finding.text("Description")),
        unmapped=finding.rest("Id", "GeneratorId", "Severity", "UpdatedAt", "Title", "Description", "AwsAccountId"),
    )


_NORMALIZED = {"0": 1, "1": 2, "40": 3, "70": 4, "90": 5}  # as Security Hub itself derives the label


def _resource(resource: Fields, finding: Fields) -> Resource:
    kind = resource.needed("Type")
    uid = _key_id(resource) if kind == "AwsIamAccessKey" else resource.needed("Id")
    return identity.resource(
        uid,
        type=TYPES.get(kind, kind),
        region=resource.text("Region") or finding.text("Region"),
        account=finding.text("AwsAccountId"),
        criticality=resource.texts("Tags").get("criticality", ""),
    )


def _key_id(resource: Fields) -> str:
    """The bare key id of `AWS::IAM::AccessKey:AKIA...`, `arn:...:access-key/AKIA...` or `AKIA...`."""
    details = resource.at("Details").at("AwsIamAccessKey")
    return details.text("AccessKeyId") or resource.needed("Id").replace("/", ":").rsplit(":", 1)[-1]


def _actors(resource: Fields, finding: Fields) -> tuple[str, ...]:
    account = finding.text("AwsAccountId")
    match resource.text("Type"):
        case "AwsIamAccessKey":
            details = resource.at("Details").at("AwsIamAccessKey")
            name = details.text("PrincipalName") or details.text("UserName")
            found = [_key_id(resource), details.text("PrincipalId")]
            if name and details.text("PrincipalType") in ("Role", "AssumedRole"):
                found.append(identity.role_arn(resource.text("Partition"), account, name))
            elif name:
                found.append(identity.user(account, name))
            return tuple(filter(None, found))
        case "AwsIamRole" | "AwsIamUser":
            return identity.actors_of(resource.text("Id"))
        case "AwsEc2Instance":
            profile = resource.at("Details").at("AwsEc2Instance").text("IamInstanceProfileArn")
            return (profile,) if profile else ()
        case "AwsLambdaFunction":
            return identity.actors_of(resource.at("Details").at("AwsLambdaFunction").text("Role"))
        case _:
            return ()
