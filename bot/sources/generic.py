"""Anything else that posts JSON: `field_map` in sources.yaml says where things are, as JMESPath expressions.

    field_map:
      alerts: "incidents[]"           # where the alerts are; without it the payload is one alert
      uid: composite_id               # without it a hash of the alert
      rule: "display_name || name"    # needed
      severity: severity              # a word or a number; severity_map translates it
      time: timestamp                 # needed; with an offset, or Unix seconds
      agent: device.tags.agent
      actors: "[user_arn, access_key]"
      resources: "resources[].{uid: arn, type: kind, criticality: tier}"    # or a list of strings
      labels: tags                    # an object of strings
      types: incident_type            # a string or a list
      resolved: "status == 'closed'"
      title: title
      message: description
      account: account
      region: region

All but `alerts` are looked up in each alert.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

import jmespath
from jmespath.exceptions import JMESPathError

from bot.domain.alert import Alert, AlertText, Resource
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.errors import BadAlert
from bot.sources import identity
from bot.sources.fields import NAMES, digest, kind, moment, severity, wrong

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)

NEEDED = ("rule", "time")
PLACES = ("alerts", "actors", "resources", "labels", "types", "resolved")
TEXTS = ("uid", "severity", "agent", "title", "message", "account", "region")
FIELDS = frozenset((*NEEDED, *PLACES, *TEXTS))
# OCSF's own numbers. A number over 6 is of a scale that only severity_map can know: unknown.
SEVERITIES = {**NAMES, **{str(n): n for n in range(7)}, "7": 0}


def problems(field_map: Mapping[str, str]) -> tuple[str, ...]:
    """What is wrong with a field map, one line each: for `firedoor check`. () where nothing is."""
    found = [
        f"{name}: unknown field. The fields are: {', '.join(sorted(FIELDS))}" for name in field_map.keys() - FIELDS
    ]
    found += [f"{name}: needed, and missing" for name in NEEDED if name not in field_map]
    for name in field_map.keys() & FIELDS:
        try:
            _compiled(field_map[name])
        except (JMESPathError, ValueError, RecursionError) as error:
            found.append(f"{name}: not a JMESPath expression: {str(error).splitlines()[0]}")
    return tuple(sorted(found))


def look(payload: Json, expression: str, source: SourceRules) -> Json:
    """What one expression finds in a payload. Raises BadAlert where it does not apply."""
    asked = replace(source, field_map={"text": expression})
    return _Reader(payload, asked, source.product or source.name).look("text")


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    product = source.product or source.name
    found = _Reader(payload, source, product).look("alerts") if "alerts" in source.field_map else [payload]
    if found is None:
        return ()
    if not isinstance(found, list):
        raise wrong(f"{product}.alerts", "a list", found)
    return tuple(_alert(_Reader(alert, source, f"{product}[{n}]"), source, product) for n, alert in enumerate(found))


def _alert(alert: _Reader, source: SourceRules, product: str) -> Alert:
    labels = alert.look("labels")
    if not isinstance(labels, dict | None):
        raise wrong(f"{alert.where}.labels", "an object", labels)
    if not (rule := alert.text("rule")):
        raise wrong(f"{alert.where}.rule", "a string that is not empty", alert.look("rule"))
    return Alert(
        uid=alert.text("uid") or digest(alert.value),
        source=source.name,
        product=product,
        rule=rule,
        severity_id=severity(alert.look("severity"), source.severity_map, SEVERITIES),
        time=moment(alert.look("time"), f"{alert.where}.time"),
        agent_uid=alert.text("agent") or None,
        actors=tuple(dict.fromkeys(actor for name in alert.texts("actors") for actor in identity.actors_of(name))),
        resources=tuple(_resource(item, alert.where) for item in _listed(alert.look("resources"))),
        types=alert.texts("types"),
        labels={key: str(value) for key, value in (labels or {}).items() if isinstance(value, str | int | float)},
        account=alert.text("account"),
        region=alert.text("region"),
        resolved=alert.look("resolved") is True,
        text=AlertText(alert.text("title"), alert.text("message")),
        unmapped=alert.value if isinstance(alert.value, dict) else {},
    )


class _Reader:
    """One alert, asked through the field map."""

    def __init__(self, value: Json, source: SourceRules, where: str) -> None:
        self.value, self.where, self._map = value, where, source.field_map

    def look(self, name: str) -> Json:
        """None where the map has no such field, or the alert has nothing there."""
        if name not in self._map:
            return None
        try:
            found = _compiled(self._map[name])(self.value)
        except (JMESPathError, ValueError, ArithmeticError, TypeError, AttributeError, RecursionError) as error:
            # jmespath's functions let Python's own errors through for some arguments they do not check.
            raise BadAlert(f"{self.where}.{name}: {self._map[name]!r} does not apply to this alert") from error
        return found

    def text(self, name: str) -> str:
        found = self.look(name)
        if found is None:
            return ""
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            raise wrong(f"{self.where}.{name}", "a string", found)
        return str(found)

    def texts(self, name: str) -> tuple[str, ...]:
        """Of a string or a list of strings; null and empty ones left out."""
        found = [item for item in _listed(self.look(name)) if item not in (None, "")]
        for item in found:
            if not isinstance(item, str):
                raise wrong(f"{self.where}.{name}", "strings", item)
        return tuple(map(str, found))


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _resource(item: Json, where: str) -> Resource:
    if isinstance(item, str) and item:
        return identity.resource(item)
    if isinstance(item, dict) and isinstance(uid := item.get("uid"), str) and uid:
        known = ("type", "name", "region", "account", "criticality")
        return identity.resource(uid, **{key: str(item[key]) for key in known if isinstance(item.get(key), str)})
    raise wrong(f"{where}.resources", "strings, or objects with uid", None if kind(item) == "nothing" else item)


@lru_cache(maxsize=512)
def _compiled(expression: str) -> Callable[[Json], Json]:
    search: Callable[[Json], Json] = jmespath.compile(expression).search
    if not _PATH.fullmatch(expression):
        return search
    names = expression.split(".")

    def follow(value: Json) -> Json:
        """What `search` finds of plain names, at a tenth of its cost."""
        for name in names:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return follow
