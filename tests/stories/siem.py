"""A second source, which names agent and type itself, and may contain."""

from __future__ import annotations

import secrets
import time
from typing import Any

from tests.stories.town import Town

NAME = "siem"


def add(town: Town) -> None:
    """To the operator's folder, before the bot starts."""
    with town.editing("sources.yaml") as body:
        body["sources"][NAME] = {
            "kind": "generic",
            "owner": "security-ops-1",
            "auth": {"kind": "bearer", "secret": "env:T_BEARER"},
            "may_contain": True,
            "map": {
                "uid": "id",
                "rule": "rule",
                "severity": "severity",
                "time": "time",
                "agent": "agent",
                "types": "types",
            },
        }
        claimed = [
            {"if": f"${{{{ '{type}' in alert.types }}}}", "type": type}
            for type in ("data_exposure", "unintended_production_change")
        ]
        body["classification"] = [*claimed, *body["classification"]]


def alert(agent: str, type: str, *, severity: str = "high", rule: str = "") -> dict[str, Any]:
    """No two are repeats of one another, unless they name one rule."""
    uid = secrets.token_hex(8)
    return {
        "id": uid,
        "rule": rule or f"rule-{uid}",
        "severity": severity,
        "time": time.time(),
        "agent": agent,
        "types": [type],
    }
