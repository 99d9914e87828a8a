"""Prometheus Alertmanager: a webhook of version 4, `alerts` with labels and annotations.

The labels that count: `alertname`, `severity`, `agent` or `agent_id`, `incident_type`; actors by `access_key_id`,
`role_arn`, `principal_arn`, `vault_entity_id`, `token_accessor`, `service_account` with `namespace`; resources by
`resource`, `resource_arn`, `instance_id`, or `pod` with `namespace`, or `instance`.
"""

from __future__ import annotations

from bot.domain.alert import Alert, AlertText, Severity
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.sources import identity
from bot.sources.fields import NAMES, Fields, digest, severity, wrong

SEVERITIES = {**NAMES, "error": Severity.HIGH, "page": Severity.HIGH, "warning": Severity.MEDIUM}


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    return read_as("alertmanager", payload, source)


def read_as(product: str, payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    """The shape that Alertmanager and Grafana share."""
    group = Fields(payload, product)
    if "alerts" not in group:
        raise wrong(f"{product}.alerts", "a list", None)
    return tuple(_alert(product, alert, group, source) for alert in group.each("alerts"))


def _alert(product: str, alert: Fields, group: Fields, source: SourceRules) -> Alert:
    labels = alert.texts("labels")
    notes = alert.texts("annotations")
    status = alert.text("status") or group.text("status")
    if status not in ("firing", "resolved"):
        raise wrong(f"{alert.where}.status", "firing or resolved", alert.get("status"))
    word = labels.get("severity", "")
    known = severity(word, source.severity_map, SEVERITIES)
    return Alert(
        uid=alert.text("fingerprint") or digest(dict(labels)),
        source=source.name,
        product=product,
        rule=labels.get("__alert_rule_uid__") or alert.at("labels").needed("alertname"),
        severity_id=Severity.MEDIUM if known is Severity.UNKNOWN and word.lower() != "unknown" else known,
        time=alert.time("endsAt" if status == "resolved" and "endsAt" in alert else "startsAt"),
        agent_uid=identity.agent_in(labels),
        actors=identity.actors_in(labels),
        resources=identity.resources_in(labels),
        types=identity.types_in(labels),
        labels=labels,
        account=identity.account_in(labels.get("account", labels.get("account_id", ""))),
        region=labels.get("region", ""),
        resolved=status == "resolved",
        text=AlertText(
            notes.get("summary") or notes.get("title") or labels.get("alertname", ""),
            notes.get("description") or notes.get("message", ""),
        ),
        unmapped=alert.rest("labels", "status", "fingerprint", "startsAt"),
    )
