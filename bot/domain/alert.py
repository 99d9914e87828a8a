"""An alert as Firedoor understands it: the parts of an OCSF Detection Finding (class 2004) that decide anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """OCSF `severity_id`."""

    UNKNOWN = 0
    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5
    FATAL = 6


@dataclass(frozen=True, slots=True)
class Resource:
    """Something the alert says was touched. `type` is a CloudFormation type name where there is one
    (`AWS::EC2::Instance`, `AWS::IAM::AccessKey`, `AWS::IAM::Role`), else the source's own word."""

    uid: str
    type: str = ""
    name: str = ""
    region: str = ""
    account: str = ""
    criticality: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AlertText:
    """The free text of an alert: hostile, personal, kept in an encrypted artefact and never in an entry."""

    title: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """One finding. `time` is when it happened, by the source (aware UTC). `agent_uid` is None where the source names no
    agent: the directory then looks for one by `actors` (access key ids, role ARNs, service accounts, entity ids)."""

    uid: str  # finding_info.uid
    source: str  # the configured source's name (sources.yaml)
    product: str  # metadata.product: guardduty, securityhub, alertmanager, grafana, falco, opa, or the generic source's
    rule: str  # finding_info.analytic.uid: which detection fired
    severity_id: Severity
    time: datetime
    agent_uid: str | None = None
    actors: tuple[str, ...] = ()
    resources: tuple[Resource, ...] = ()
    types: tuple[str, ...] = ()  # finding_info.types: incident types the source itself claims
    labels: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    region: str = ""
    resolved: bool = False  # status_id: the source says that the condition ended
    text: AlertText = AlertText()
    unmapped: Mapping[str, Any] = field(default_factory=dict)

    def dedup_key(self) -> str:
        """What makes two alerts the same news: product, rule, agent and resources; never the message or the time."""
        parts = (self.product, self.rule, self.agent_uid or "", *sorted(r.uid for r in self.resources))
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]


class Sev(IntEnum):
    """How bad the incident is, for people: 1 is worst. Set from the OCSF severity by the map in `placement`."""

    SEV1 = 1
    SEV2 = 2
    SEV3 = 3
    SEV4 = 4
