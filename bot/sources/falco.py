"""Falco, its own `http_output` or falcosidekick's webhook: one event, or a list of them.

Falco gives no id before 0.41: then it is a hash of rule, time, host and fields. The agent is the pod's (or container's)
label `agent` or `agent_id`, or a custom field of that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from bot.domain.alert import Alert, AlertText, Resource, Severity
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.sources import identity
from bot.sources.fields import Fields, digest, severity

SEVERITIES = {
    **dict.fromkeys(("emergency", "alert", "critical"), Severity.CRITICAL),
    "error": Severity.HIGH,
    "warning": Severity.MEDIUM,
    "notice": Severity.LOW,
    **dict.fromkeys(("informational", "info", "debug"), Severity.INFORMATIONAL),
}

# Only these of the output fields become labels: the others (command lines, file names) are free text.
_LABELS = {
    "k8s.ns.name": "namespace",
    "k8s.pod.name": "pod",
    "container.image.repository": "image",
    "k8s.cluster.name": "cluster",
    "ka.verb": "verb",
    "ct.name": "event",
}
_LABEL_FIELD = re.compile(r"(?:k8s\.pod|container)\.label(?:\.|\[)([^\]]+)\]?")


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    if isinstance(payload, list):
        return tuple(_event(Fields(event, f"falco[{n}]"), source) for n, event in enumerate(payload))
    return (_event(Fields(payload, "falco"), source),)


def _event(event: Fields, source: SourceRules) -> Alert:
    fields = event.texts("output_fields")
    host = event.text("hostname")
    time = event.time("time")
    rule = event.needed("rule")
    pod_labels = _pod_labels(fields)
    labels = {name: fields[field] for field, name in _LABELS.items() if fields.get(field)}
    labels |= {"tags": ",".join(map(str, event.items("tags")))} if "tags" in event else {}
    labels |= {"host": host} if host else {}
    return Alert(
        uid=event.text("uuid") or digest(rule, event.text("time"), host, dict(fields)),
        source=source.name,
        product="falco",
        rule=rule,
        severity_id=severity(event.needed("priority"), source.severity_map, SEVERITIES),
        time=time,
        agent_uid=identity.agent_in(pod_labels),
        actors=_actors(fields, pod_labels),
        resources=_resources(fields, labels),
        types=identity.types_in(pod_labels),
        labels=labels,
        account=identity.account_in(fields.get("ct.account", fields.get("ct.user.accountid", ""))),
        region=fields.get("ct.region", ""),
        text=AlertText(rule, event.text("output")),
        unmapped=event.rest("rule", "priority", "time", "uuid", "output", "hostname", "tags"),
    )


def _pod_labels(fields: Mapping[str, str]) -> dict[str, str]:
    """Of `k8s.pod.labels` (`app:web, agent:a-7`), `k8s.pod.label.agent`, `k8s.pod.label[agent]`, and custom fields."""
    pairs = (pair.strip().partition(":") for pair in fields.get("k8s.pod.labels", "").split(","))
    found = {name: value for name, _, value in pairs if value}
    for field, value in fields.items():
        if match := _LABEL_FIELD.fullmatch(field):
            found[match[1]] = value
        elif "." not in field:
            found[field] = value
    return {name: value for name, value in found.items() if value not in ("<NA>", "")}


def _actors(fields: Mapping[str, str], labels: Mapping[str, str]) -> tuple[str, ...]:
    found = [*identity.actors_in(labels)]
    found += [actor for name in ("ka.user.name", "ct.user.arn") for actor in identity.actors_of(fields.get(name, ""))]
    found.append(fields.get("ct.user.accesskeyid", ""))
    if (namespace := fields.get("k8s.ns.name", "")) and (name := fields.get("k8s.sa.name", "")):
        found.append(identity.service_account(namespace, name))
    return tuple(dict.fromkeys(actor for actor in found if actor not in ("", "<NA>")))


def _resources(fields: Mapping[str, str], labels: Mapping[str, str]) -> tuple[Resource, ...]:
    target = "/".join(filter(None, (fields.get(f"ka.target.{part}") for part in ("namespace", "resource", "name"))))
    if target:
        return (Resource(target, f"Kubernetes::{fields.get('ka.target.resource', 'object')}"),)
    if labels.get("pod"):
        return identity.resources_in(labels)
    if (container := fields.get("container.id", "")) and container not in ("host", "<NA>"):
        return (Resource(container, identity.CONTAINER, fields.get("container.name", "")),)
    return identity.resources_in(labels)
