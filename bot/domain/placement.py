"""How urgent an alert is, and which open incident it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bot.domain.alert import Alert, Sev, Severity
from bot.domain.events import Opened
from bot.domain.source import SourceRules

LEVELS: Mapping[Severity, Sev] = MappingProxyType(
    {
        Severity.UNKNOWN: Sev.SEV3,
        Severity.INFORMATIONAL: Sev.SEV4,
        Severity.LOW: Sev.SEV4,
        Severity.MEDIUM: Sev.SEV3,
        Severity.HIGH: Sev.SEV2,
        Severity.CRITICAL: Sev.SEV1,
        Severity.FATAL: Sev.SEV1,
    }
)
RAISING = frozenset({"critical", "crown-jewel"})


def clamp(severity: Severity, ceiling: Severity) -> Severity:
    """At most `ceiling`. An unknown severity weighs as much as a medium one, as in LEVELS."""

    def weight(one: Severity) -> int:
        return Severity.MEDIUM if one is Severity.UNKNOWN else one

    return severity if weight(severity) <= weight(ceiling) else ceiling


def severity_of(
    alert: Alert,
    source: SourceRules,
    levels: Mapping[Severity, Sev] = LEVELS,
    raising: frozenset[str] = RAISING,
) -> Sev:
    """The level of an incident that this alert opens. A touched resource whose criticality is in `raising` makes it one
    level more urgent, but never more than the source's own maximum."""
    sev = levels[clamp(alert.severity_id, source.max_severity)]
    if any(resource.criticality.lower() in raising for resource in alert.resources):
        sev = Sev(max(sev - 1, levels[source.max_severity], Sev.SEV1))
    return sev


def key_of(alert: Alert, incident_type: str) -> str:
    """`agent|type`, unique while an incident is open. Of an unknown agent nothing is known to join on but the news
    itself: `#<dedup key>|type`."""
    return f"{alert.agent_uid or '#' + alert.dedup_key()}|{incident_type}"


def key_of_opened(opened: Opened) -> str:
    """The same of an incident; '' where a person declared it of no agent, for nothing can join it."""
    if opened.alert:
        return key_of(opened.alert, opened.type)
    return f"{opened.agent_uid}|{opened.type}" if opened.agent_uid else ""
