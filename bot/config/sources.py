"""sources.yaml: who may raise alerts, how far their word goes, and what kind of incident an alert makes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bot.config import expressions
from bot.config.reading import Problems, Section, file_section
from bot.config.secrets import SecretRef
from bot.config.yaml import Node
from bot.domain.alert import Severity
from bot.domain.classification import Rule
from bot.domain.source import ANY, Auth, SourceRules
from bot.domain.view import AGENT, ALERT_WITH_TEXT

KINDS = ("guardduty", "securityhub", "alertmanager", "grafana", "falco", "opa", "generic", "slack")
_CHANNEL, _APP = re.compile(r"[CG][A-Z0-9]{2,20}"), re.compile(r"[AB][A-Z0-9]{2,20}")
SEVERITIES = {severity.name.lower(): severity for severity in Severity}


@dataclass(frozen=True, slots=True)
class Source:
    """`secrets`: the newest first, so that one can be rotated. `queue`: an SQS URL, read through `connection`."""

    rules: SourceRules
    secrets: tuple[SecretRef, ...] = ()
    queue: str = ""
    connection: str = ""


def load_sources(path: Path, problems: Problems) -> tuple[dict[str, Source], tuple[Rule, ...]]:
    """The sources by name, and the classification rules in order."""
    with file_section(path, problems) as top:
        sources = top.each("sources", "source", _source)
        rules = [_rule(node, problems) for node in top.elements("classification")]
        return sources, tuple(rule for rule in rules if rule is not None)


def _source(name: str, section: Section) -> Source | None:
    reader = section.text("kind", choices=KINDS)
    with section.section("auth", f"the auth of {name!r}") as auth:
        kind = Auth(auth.text("kind", Auth.SLACK if reader == "slack" else None, choices=list(Auth)) or Auth.NONE)
        secrets = [auth.secret("secret"), auth.secret("previous_secret")]
        auth_header, timestamp_header = auth.text("header", ""), auth.text("timestamp_header", "")
        if (secrets[0] is not None) == (kind in (Auth.SQS, Auth.SLACK, Auth.NONE)):
            auth.report("", f"auth {kind.value} {'takes no' if secrets[0] else 'needs a'} 'secret'.")
    queue, connection = section.text("queue", ""), section.text("connection", "aws")
    if (kind is Auth.SQS) != bool(queue):
        section.report("queue", "'queue' and auth kind sqs belong together.")
    if (kind is Auth.SLACK) != (reader == "slack"):
        section.report("auth", "kind slack and auth kind slack belong together.", "Leave 'auth' out.")
    channels, apps = _heard(section, reader)
    maps, looked_for = section.section("map"), section.section("patterns")
    field_map = {key: maps.text(key) for key in maps.entries()}
    patterns = {key: looked_for.text(key) for key in looked_for.entries()}
    if bool(field_map) != (reader == "generic") and reader != "slack":
        section.report("map", f"a field map belongs to the kinds generic and slack; {name!r} is {reader}.")
    if patterns and reader != "slack":
        section.report("patterns", f"patterns belong to kind slack; {name!r} is {reader}.")
    words = section.section("severity")
    severity_map = {word: int(SEVERITIES[words.text(word, choices=SEVERITIES)]) for word in words.entries()}
    may_contain = section.flag("may_contain")
    if may_contain and kind is Auth.NONE:
        section.report("may_contain", f"{name!r} proves nothing, so it may only propose.", "Set an auth, or false.")
    rules = SourceRules(
        name=name,
        kind=reader,
        owner=section.text("owner"),
        auth=kind,
        auth_header=auth_header,
        timestamp_header=timestamp_header,
        agents=section.texts("agents", (ANY,)),
        types=section.texts("types", (ANY,)),
        max_severity=SEVERITIES[section.text("max_severity", "fatal", choices=SEVERITIES)],
        may_contain=may_contain and kind is not Auth.NONE,
        severity_map=severity_map,
        field_map=field_map,
        patterns=patterns,
        channels=channels,
        apps=apps,
        product=section.text("product", ""),
    )
    return Source(rules, tuple(secret for secret in secrets if secret), queue, connection if queue else "")


def _heard(section: Section, reader: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The channels and apps of a source of kind slack."""
    if reader != "slack":
        if "slack" in section:
            section.report("slack", f"'slack' belongs to kind slack; this is {reader}.")
        return (), ()
    with section.section("slack") as slack:
        found = slack.texts("channels"), slack.texts("apps")
        for key, values, form in zip(("channels", "apps"), found, (_CHANNEL, _APP), strict=True):
            like = "C0123456789" if key == "channels" else "A0123456789, or a bot's B0123456789"
            if not values:
                slack.report(key, f"{key!r} names none, so no message would ever count.", f"Write ids like {like}.")
            for value in values:
                if not form.fullmatch(value):
                    slack.report(key, f"{value!r} is no id of a Slack {key[:-1]}.", f"Write it like {like}.")
        return found


def _rule(node: Node, problems: Problems) -> Rule | None:
    with Section(node, problems, "a classification rule") as section:
        type, source = section.name("type"), section.text("if")
        condition = problems.attempt(partial(expressions.parse, source, section.where("if")), None)
        if condition is None:
            return None
        scope = {"alert": ALERT_WITH_TEXT, "agent": AGENT}
        expressions.check_names(condition, scope, section.where("if"), problems)
        return Rule(condition, type, node.where, expressions.inside(source))
