"""Sources as an operator would configure them, and the recorded payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bot.domain.source import Auth, SourceRules
from bot.sources import READERS

PAYLOADS = Path(__file__).parent / "payloads"

CROWDSTRIKE = {"80": 5, "60": 4, "40": 3, "20": 2, "0": 1}
FIELD_MAP = {
    "alerts": "resources[]",
    "uid": "composite_id",
    "rule": "display_name || name",
    "severity": "severity",
    "time": "timestamp",
    "agent": "device.tags.agent",
    "actors": "[principal]",
    "resources": "[{uid: device.hostname, type: 'Host'}]",
    "labels": "device.tags",
    "resolved": "status == 'closed'",
    "title": "name",
    "message": "cmdline",
}
SLACK = {
    "auth": Auth.SLACK,
    "channels": ("C0SIEM",),
    "apps": ("A0SPLUNK", "B0LEGACY"),
    "field_map": {"rule": "attachments[0].title", "text": "[text, attachments[0].text]"},
    "patterns": {
        "severity": r"Severity: (\w++)",
        "agent": r"(?:host|agent)=([\w.-]++)",
        "resolved": r"^RESOLVED",
        "resources": r"arn:aws:[\w:/-]++",
    },
    "severity_map": {"page": 5},
}


def rules(kind: str, **changes: Any) -> SourceRules:
    given: dict[str, Any] = {"name": f"{kind}-prod", "kind": kind, "owner": "person-1", "auth": Auth.HMAC}
    if kind == "generic":
        given |= {"field_map": FIELD_MAP, "severity_map": CROWDSTRIKE, "product": "crowdstrike"}
    if kind == "slack":
        given |= SLACK
    return SourceRules(**given | changes)


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())


KINDS = sorted(READERS)
