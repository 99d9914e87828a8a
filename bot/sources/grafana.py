"""Grafana Alerting, contact point "webhook": Alertmanager's shape, with `values`, `orgId` and links of its own, which
are carried unmapped. A rule is known by its uid where Grafana sends it, else by its name."""

from __future__ import annotations

from bot.domain.alert import Alert
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.sources.alertmanager import read_as


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    return read_as("grafana", payload, source)
