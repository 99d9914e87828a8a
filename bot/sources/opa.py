"""Open Policy Agent, decision logs: a JSON array (gzipped on the wire), or one event.

A denied decision is an alert, and so is any decision on a high-risk action. What was allowed at a lower risk is none,
and neither are queries that decide nothing (their result is no boolean and holds no `allow`).
"""

from __future__ import annotations

from bot.domain.alert import Alert, AlertText, Resource, Severity
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.sources import identity
from bot.sources.fields import Fields, severity

SEVERITIES = {"denied": Severity.MEDIUM, "high": Severity.HIGH}  # the words that severity_map may redefine
_HIGH = ("high", "critical")
_YES, _NO = ("true", "allow", "allowed", "permit"), ("false", "deny", "denied")


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    events = payload if isinstance(payload, list) else [payload]
    read_in = (_event(Fields(event, f"opa[{n}]"), source) for n, event in enumerate(events))
    return tuple(alert for alert in read_in if alert is not None)


def _event(event: Fields, source: SourceRules) -> Alert | None:
    asked = event.get("input")
    query = Fields(asked if isinstance(asked, dict) else {}, f"{event.where}.input")
    denied = _allowed(event, query) is False
    high = _risk(event, query) in _HIGH
    if not denied and not high:
        return None
    agent = _named(query, "agent", "agent_id")
    action = _named(query, "action", "action_id")
    path = event.text("path")
    return Alert(
        uid=event.needed("decision_id"),
        source=source.name,
        product="opa",
        rule=f"{path}:{action}" if action else path or "unnamed",
        severity_id=severity("high" if high else "denied", source.severity_map, SEVERITIES),
        time=event.time("timestamp"),
        agent_uid=agent or None,
        actors=identity.actors_of(_named(query, "user", "user_id", "principal")),
        resources=_resources(query),
        types=_types(event),
        labels={
            "decision": "denied" if denied else "allowed",
            "risk": _risk(event, query),
            "action": action,
            "env": _named(query, "environment", "env"),
        },
        text=AlertText(f"{'Denied' if denied else 'Allowed'}: {action or path}", _named(query, "justification")),
        unmapped=event.rest("decision_id", "path", "timestamp"),
    )


def _allowed(event: Fields, query: Fields) -> bool | None:
    """None where the query decided nothing."""
    result = event.get("result")
    if isinstance(result, dict):
        result = next((result[name] for name in ("allow", "allowed", "decision") if name in result), "")
    match result:
        case bool():
            return result
        case str() if result.lower() in _YES + _NO:
            return result.lower() in _YES
        case None:
            # Undefined: every client takes that for a refusal, where it asked about an action.
            return False if _named(query, "action", "action_id") else None
        case _:
            return None


def _risk(event: Fields, query: Fields) -> str:
    """As the policy says (`result.risk`), before what the asker says (`input.risk`, `input.action.risk`)."""
    for said in (event.get("result"), event.get("input"), query.get("action")):
        if isinstance(said, dict) and isinstance(risk := said.get("risk"), str):
            return risk.lower()
    return ""


def _named(query: Fields, *names: str) -> str:
    """A field that is a string, or an object with `id` or `name`."""
    for name in names:
        value = query.get(name)
        if isinstance(value, dict):
            value = value.get("id", value.get("name"))
        if isinstance(value, str) and value:
            return value
    return ""


def _types(event: Fields) -> tuple[str, ...]:
    result = event.get("result")
    claimed = result.get("incident_type") if isinstance(result, dict) else None
    return (claimed,) if isinstance(claimed, str) and claimed else ()


def _resources(query: Fields) -> tuple[Resource, ...]:
    """Of `resource`, `resources` or `targets`: strings, or objects with `id`, `uid` or `arn` and `type`."""
    found: list[Resource] = []
    for name in ("resource", "resources", "targets"):
        value = query.get(name)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and item:
                found.append(identity.resource(item))
            elif isinstance(item, dict):
                uid = next((item[key] for key in ("arn", "uid", "id") if isinstance(item.get(key), str)), "")
                kind = item.get("type")
                if isinstance(uid, str) and uid:
                    found.append(identity.resource(uid, type=kind if isinstance(kind, str) else ""))
    return tuple(found)
