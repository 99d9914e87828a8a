"""Each vendor's documented sample, and what Firedoor makes of it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from bot.domain.agent import Agent, AwsIdentity
from bot.domain.alert import Resource, Severity
from bot.domain.redaction import redact
from bot.errors import BadAlert
from bot.sources import READERS, read
from bot.sources.generic import problems
from tests.sources.rules import FIELD_MAP, PAYLOADS, payload, rules

AGENT = Agent(
    id="agent-7",
    service_accounts=("system:serviceaccount:agents:agent-7",),
    aws=AwsIdentity(
        account="111122223333",
        roles=("arn:aws:iam::111122223333:role/agent-7",),
        users=("agent-7-ci",),
        instance_profiles=("arn:aws:iam::111122223333:instance-profile/agent-7",),
    ),
)


def test_every_reader_has_a_recorded_payload():
    assert {path.stem.partition("_")[0] for path in PAYLOADS.glob("*.json")} == set(READERS)


def test_guardduty_event():
    (alert,) = read(rules("guardduty"), payload("guardduty_event"))
    assert alert.uid == "16afba5c5c43e07c9e3e5e2e544e95df"
    assert alert.rule == "UnauthorizedAccess:IAMUser/InstanceCredentialExfiltration.OutsideAWS"
    assert (alert.product, alert.source) == ("guardduty", "guardduty-prod")
    assert alert.severity_id is Severity.HIGH
    assert alert.time == datetime(2026, 1, 5, 10, 2, 12, 345000, tzinfo=UTC)
    assert alert.actors == (
        "ASIAIOSFODNN7EXAMPLE",
        "AROACKCEVSQ6C2EXAMPLE:i-0123456789abcdef0",
        "arn:aws:iam::111122223333:role/agent-7",
        "arn:aws:iam::111122223333:instance-profile/agent-7",
    )
    assert AGENT.actors() & {*alert.actors}
    assert [(one.uid, one.type) for one in alert.resources] == [
        ("ASIAIOSFODNN7EXAMPLE", "AWS::IAM::AccessKey"),
        ("i-0123456789abcdef0", "AWS::EC2::Instance"),
    ]
    assert alert.resources[1].labels == {"Name": "agent-7-worker", "env": "prod"}
    assert (alert.account, alert.region, alert.agent_uid, alert.resolved) == ("111122223333", "us-east-1", None, False)
    assert alert.text.title.startswith("Credentials for the EC2 instance role")
    assert alert.unmapped["service"]["count"] == 3


def test_guardduty_finding_without_its_envelope_is_the_same_alert():
    event = payload("guardduty_event")
    assert read(rules("guardduty"), event["detail"]) == read(rules("guardduty"), event)


def test_guardduty_api_answers_in_upper_camel():
    bucket, pod = read(rules("guardduty"), payload("guardduty_api"))
    assert bucket.severity_id is Severity.MEDIUM
    assert "111122223333:user/agent-7-ci" in AGENT.actors() & {*bucket.actors}
    assert Resource(
        "arn:aws:s3:::agent-7-scratch", "AWS::S3::Bucket", "agent-7-scratch", "eu-central-1", "111122223333"
    ) in (bucket.resources)
    assert bucket.resolved
    assert pod.severity_id is Severity.CRITICAL
    assert pod.actors == ("system:serviceaccount:agents:agent-7",)
    assert [(one.uid, one.type) for one in pod.resources] == [
        ("arn:aws:eks:eu-central-1:111122223333:cluster/agents", "AWS::EKS::Cluster"),
        ("agents/agent-7-0", "Kubernetes::Pod"),
    ]


def test_an_event_of_another_service_is_refused():
    with pytest.raises(BadAlert, match=r"guardduty.source: expected aws.guardduty"):
        read(rules("guardduty"), payload("securityhub_event"))
    with pytest.raises(BadAlert, match=r"securityhub.source: expected aws.securityhub"):
        read(rules("securityhub"), payload("guardduty_event"))


def test_securityhub_event_with_several_findings():
    first, second = read(rules("securityhub"), payload("securityhub_event"))
    assert first.severity_id is Severity.HIGH
    assert [(one.uid, one.type, one.criticality) for one in first.resources] == [
        ("AKIAIOSFODNN7EXAMPLE", "AWS::IAM::AccessKey", ""),
        ("i-0123456789abcdef0", "AWS::EC2::Instance", "critical"),
    ]
    assert first.actors == (
        "AKIAIOSFODNN7EXAMPLE",
        "AIDACKCEVSQ6C2EXAMPLE",
        "111122223333:user/agent-7-ci",
        "arn:aws:iam::111122223333:instance-profile/agent-7",
    )
    assert first.time == datetime(2026, 1, 5, 10, 9, tzinfo=UTC)
    assert first.unmapped["Types"] == ["TTPs/Discovery/IAMUser-AnomalousBehavior"]
    assert (first.types, first.resolved) == ((), False)
    assert (second.severity_id, second.resolved) == (Severity.MEDIUM, True)
    assert second.actors == ("arn:aws:iam::111122223333:role/agents/agent-7",)


def test_alertmanager_firing_and_resolved():
    firing, ended = read(rules("alertmanager"), payload("alertmanager"))
    assert (firing.uid, firing.rule, firing.agent_uid) == ("c0ffee0123456789", "AgentWroteToProduction", "agent-7")
    assert firing.severity_id is Severity.HIGH
    assert firing.time == datetime(2026, 1, 5, 10, 0, 0, 123456, tzinfo=UTC)
    assert firing.types == ("unintended_production_change",)
    assert firing.labels["env"] == "prod"
    assert [(one.uid, one.type) for one in firing.resources] == [
        ("arn:aws:rds:us-east-1:111122223333:db:orders", "AWS::RDS::DBInstance")
    ]
    assert firing.actors == ("AKIAIOSFODNN7EXAMPLE",)
    assert (firing.text.title, firing.text.message) == ("agent-7 changed the orders database", "12 rows by DROP")
    assert not firing.resolved
    assert (ended.resolved, ended.time) == (True, datetime(2026, 1, 5, 9, 30, tzinfo=UTC))
    assert (ended.agent_uid, ended.severity_id) == ("agent-8", Severity.MEDIUM)
    assert ended.actors == ("system:serviceaccount:agents:agent-8",)
    assert [one.uid for one in ended.resources] == ["agents/agent-8-0"]


def test_grafana_carries_its_own_fields_along():
    (alert,) = read(rules("grafana"), payload("grafana"))
    assert (alert.product, alert.severity_id, alert.agent_uid) == ("grafana", Severity.MEDIUM, "agent-7")
    assert alert.rule == "Token spend of an agent"
    assert alert.unmapped["values"] == {"B": 44.23943737541908, "C": 1}
    assert alert.resources == (Resource("gateway-1:9100", "Host", "gateway-1:9100"),)


def test_falco_event_of_a_pod():
    (alert,) = read(rules("falco"), payload("falco"))
    assert (alert.rule, alert.severity_id, alert.agent_uid) == (
        "Terminal shell in container",
        Severity.MEDIUM,
        "agent-7",
    )
    assert alert.time == datetime(2026, 1, 5, 10, 0, 0, 123456, tzinfo=UTC)
    assert alert.actors == ("system:serviceaccount:agents:agent-7",)
    assert alert.resources == (Resource("agents/agent-7-0", "Kubernetes::Pod", "agent-7-0"),)
    assert "proc.cmdline" not in alert.labels, "a command line is free text"
    assert alert.unmapped["output_fields"]["evt.time"] == "1767607200123456789", "over 2**53: kept as digits"


def test_falco_makes_up_an_id_that_repeats():
    event = payload("falco")
    (first,), (again,) = read(rules("falco"), event), read(rules("falco"), event)
    (later,) = read(rules("falco"), event | {"time": "2026-01-05T10:00:01Z"})
    (named,) = read(rules("falco"), event | {"uuid": "0b1c"})
    assert first.uid == again.uid != later.uid
    assert first.dedup_key() == later.dedup_key()
    assert named.uid == "0b1c"


@pytest.mark.parametrize(
    ("priority", "severity"),
    [
        ("Emergency", Severity.CRITICAL),
        ("Critical", Severity.CRITICAL),
        ("Error", Severity.HIGH),
        ("Notice", Severity.LOW),
        ("Informational", Severity.INFORMATIONAL),
        ("Debug", Severity.INFORMATIONAL),
        ("Loud", Severity.UNKNOWN),
    ],
)
def test_falco_priorities(priority: str, severity: Severity):
    (alert,) = read(rules("falco"), payload("falco") | {"priority": priority})
    assert alert.severity_id is severity


def test_opa_alerts_on_denials_and_on_high_risk_only():
    denied, risky, undefined = read(rules("opa"), payload("opa"))
    assert (denied.severity_id, denied.rule, denied.agent_uid) == (
        Severity.MEDIUM,
        "agent/authz/allow:create-ticket",
        "agent-7",
    )
    assert denied.actors == ("system:serviceaccount:agents:agent-7",)
    assert denied.resources[0].type == "AWS::DynamoDB::Table"
    assert denied.labels == {"decision": "denied", "action": "create-ticket", "env": "prod"}
    assert (risky.severity_id, risky.labels["decision"], risky.agent_uid) == (Severity.HIGH, "allowed", "agent-7")
    assert (undefined.uid[-1], undefined.agent_uid, undefined.severity_id) == ("5", "agent-8", Severity.MEDIUM)


@pytest.mark.parametrize("body", [[], payload("opa")[2], [payload("opa")[3]]])
def test_opa_log_without_news_is_no_alert(body: object):
    assert read(rules("opa"), body) == ()


def test_generic_source_through_its_field_map():
    first, second = read(rules("generic"), payload("generic"))
    assert (first.product, first.uid, first.rule) == ("crowdstrike", "abc:ind:42", "SuspiciousActivity")
    assert (first.severity_id, second.severity_id) == (Severity.HIGH, Severity.INFORMATIONAL)
    assert first.agent_uid == "agent-7"
    assert first.actors == (
        "arn:aws:sts::111122223333:assumed-role/agent-7/session",
        "arn:aws:iam::111122223333:role/agent-7",
    )
    assert first.labels == {"agent": "agent-7", "env": "prod"}
    assert (first.resolved, second.resolved) == (False, True)
    assert second.time == datetime(2026, 1, 5, 10, 1, tzinfo=UTC)
    assert second.agent_uid is None
    assert first.unmapped["cmdline"] == "python agent.py"


def test_generic_says_which_expression_does_not_apply():
    source = rules("generic", field_map=FIELD_MAP | {"labels": "sort(device)"})
    with pytest.raises(BadAlert, match=r"crowdstrike\[0\].labels: 'sort\(device\)' does not apply"):
        read(source, payload("generic"))


def test_generic_number_off_every_known_scale_is_unknown():
    (alert, _) = read(rules("generic", severity_map={}), payload("generic"))
    assert alert.severity_id is Severity.UNKNOWN


def test_field_maps_are_checked_before_they_are_used():
    assert problems(FIELD_MAP) == ()
    found = problems({"rule": "a..b", "tme": "x"})
    assert [line.partition(":")[0] for line in found] == ["rule", "time", "tme"]


@pytest.mark.parametrize(
    ("kind", "name", "change", "message"),
    [
        ("guardduty", "guardduty_event", {"detail": []}, "guardduty.detail: expected an object, got a list"),
        (
            "guardduty",
            "guardduty_event",
            {"detail": {"id": "1", "type": "x", "severity": "8"}},
            "guardduty.detail.severity: expected a number, got a string",
        ),
        ("alertmanager", "alertmanager", {"alerts": None}, "alertmanager.alerts: expected a list, got nothing"),
        ("grafana", "grafana", {"alerts": [3]}, r"grafana.alerts\[0\]: expected an object, got a number"),
        ("falco", "falco", {"rule": ""}, "falco.rule: expected a string that is not empty, got an empty string"),
        ("falco", "falco", {"time": "2026-01-05T10:00:00"}, "falco.time: expected a time with an offset"),
        ("falco", "falco", {"output_fields": "x"}, "falco.output_fields: expected an object, got a string"),
    ],
)
def test_a_bad_field_is_named_with_what_was_expected(kind: str, name: str, change: dict[str, object], message: str):
    with pytest.raises(BadAlert, match=message) as caught:
        read(rules(kind), payload(name) | change)
    assert caught.value.status == 422


def test_no_part_of_an_alert_is_of_another_shape_than_its_type():
    for path in PAYLOADS.glob("*.json"):
        for alert in read(rules(path.stem.partition("_")[0]), payload(path.stem)):
            flat = asdict(alert)
            assert all(isinstance(flat[name], str) for name in ("uid", "source", "product", "rule", "account"))
            assert all(isinstance(value, str) for value in alert.labels.values())
            assert alert.time.utcoffset().total_seconds() == 0


def test_redaction_takes_nothing_from_the_vendors_samples():
    for path in PAYLOADS.glob("*.json"):
        assert redact(payload(path.stem), salt=b"salt") == (payload(path.stem), ())
