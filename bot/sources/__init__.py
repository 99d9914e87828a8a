"""Alerts in: from what a source sends to `Alert`, one module a source. Adding one: its module, its line in READERS.

The path of a delivery: `authentication.authenticate`, `body.decode`, `domain.redaction.redact`, `read`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from bot.domain.alert import Alert, AlertText, Resource
from bot.domain.placement import clamp
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.errors import BadAlert
from bot.sources import alertmanager, falco, generic, grafana, guardduty, opa, securityhub, slack
from bot.sources.fields import clean, identifier

Reader = Callable[[Json, SourceRules], tuple[Alert, ...]]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "alertmanager": alertmanager.read,
        "falco": falco.read,
        "generic": generic.read,
        "grafana": grafana.read,
        "guardduty": guardduty.read,
        "opa": opa.read,
        "securityhub": securityhub.read,
        "slack": slack.read,
    }
)

MOST_ALERTS = 5_000  # in one delivery
MOST_RESOURCES, MOST_ACTORS, MOST_TYPES, MOST_LABELS = 100, 50, 10, 64
TITLE, MESSAGE, LABEL, UNMAPPED = 512, 8_192, 512, 32_768  # characters


def read(source: SourceRules, payload: object) -> tuple[Alert, ...]:
    """What a delivery says, as far as its source may say it: severities up to `max_severity`, only the agents and types
    it may speak of (what was not believed is kept in `unmapped`). () is a delivery without news. Raises BadAlert, which
    names the field and what was expected, and nothing else; then none of the delivery counts."""
    if (reader := READERS.get(source.kind)) is None:
        raise BadAlert(f"source {source.name!r} is of kind {source.kind!r}; the kinds are: {', '.join(READERS)}")
    alerts = reader(clean(payload, source.kind), source)
    if len(alerts) > MOST_ALERTS:
        raise BadAlert(f"{source.kind}: {len(alerts)} alerts in one delivery, over {MOST_ALERTS}: send fewer at once")
    return tuple(_bounded(alert, source) for alert in alerts)


def _bounded(alert: Alert, source: SourceRules) -> Alert:
    agent = identifier(alert.agent_uid) if alert.agent_uid else None
    types = tuple(dict.fromkeys(identifier(one, 128) for one in alert.types))[:MOST_TYPES]
    notes: dict[str, Json] = {}
    if agent and not source.speaks_of(agent):
        notes["firedoor.agent_not_believed"], agent = agent, None
    if refused := [one for one in types if not source.may_claim(one)]:
        notes["firedoor.types_not_believed"] = [*refused]
    if len(alert.resources) > MOST_RESOURCES:
        notes["firedoor.resources_left_out"] = len(alert.resources) - MOST_RESOURCES
    return replace(
        alert,
        uid=identifier(alert.uid),
        product=identifier(alert.product, 64),
        rule=identifier(alert.rule),
        severity_id=clamp(alert.severity_id, source.max_severity),
        agent_uid=agent or None,
        actors=tuple(dict.fromkeys(identifier(actor) for actor in alert.actors))[:MOST_ACTORS],
        resources=tuple(_bounded_resource(one) for one in alert.resources[:MOST_RESOURCES]),
        types=tuple(one for one in types if one not in refused),
        labels=_bounded_labels(alert.labels),
        account=identifier(alert.account, 64),
        region=identifier(alert.region, 64),
        text=AlertText(_cut(alert.text.title, TITLE), _cut(alert.text.message, MESSAGE)),
        unmapped={**_bounded_rest(alert.unmapped), **notes},
    )


def _bounded_resource(one: Resource) -> Resource:
    return Resource(
        uid=identifier(one.uid),
        type=identifier(one.type, 128),
        name=identifier(one.name, 256),
        region=identifier(one.region, 64),
        account=identifier(one.account, 64),
        criticality=identifier(one.criticality, 64),
        labels=_bounded_labels(one.labels),
    )


def _bounded_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Empty ones left out; of more than MOST_LABELS the first by name."""
    kept = sorted(name for name, value in labels.items() if value)[:MOST_LABELS]
    return {identifier(name, 128): identifier(labels[name], LABEL) for name in kept}


def _bounded_rest(rest: Mapping[str, Json]) -> dict[str, Json]:
    """Up to UNMAPPED characters of JSON, whole fields, the small ones first; the names of the others are kept."""
    if len(json.dumps(rest)) <= UNMAPPED:
        return dict(rest)
    sizes = {name: len(name) + len(json.dumps(value)) for name, value in rest.items()}
    kept: dict[str, Json] = {}
    room = UNMAPPED
    for name in sorted(sizes, key=lambda name: (sizes[name], name)):
        if (room := room - sizes[name]) < 0:
            break
        kept[name] = rest[name]
    left_out: list[Json] = [identifier(name, 64) for name in sorted(rest.keys() - kept.keys())[:MOST_LABELS]]
    return {**kept, "firedoor.left_out": left_out}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
