"""What kind of incident an alert is: ordered rules, the first that matches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.domain.alert import Alert
from bot.domain.expression import Expression, ExpressionError, holds

UNCLASSIFIED = "unclassified"
TEXT_MAX = 160  # characters of a rule that are said


@dataclass(frozen=True, slots=True)
class Rule:
    """`where` is its file and line, `text` the condition as it stands there: both answer "why this type?"."""

    condition: Expression
    type: str
    where: str
    text: str = ""

    @property
    def words(self) -> str:
        text = self.text if len(self.text) <= TEXT_MAX else f"{self.text[: TEXT_MAX - 1]}…"
        return f"the rule{f' “{text}”' if text else ''} ({self.where}) gives this type"


@dataclass(frozen=True, slots=True)
class Classified:
    """`errors` are rules that could not be evaluated; each counts as not matching."""

    type: str
    why: str
    errors: tuple[str, ...] = ()


def classify(rules: Iterable[Rule], names: Mapping[str, Any]) -> Classified:
    """`names`: `alert` (with its text) and, where it is known, `agent`."""
    errors: list[str] = []
    for rule in rules:
        try:
            if holds(rule.condition, names):
                return Classified(rule.type, rule.words, tuple(errors))
        except ExpressionError as error:
            errors.append(f"{rule.where}: {error}")
    return Classified(UNCLASSIFIED, "no classification rule matched", tuple(errors))


def quieting(alert: Alert, agent: str, type: str, incident: str) -> tuple[str, ...]:
    """The lines of a classification rule that, in front of the others, would have left this alert, and what is like it,
    unclassified: the proposal after a false alarm of this `type`."""
    signs = {"alert.source": alert.source, "alert.product": alert.product, "alert.rule": alert.rule or ""}
    signs["alert.agent_uid"] = agent if alert.agent_uid else ""
    wanted = " and ".join(f"{name} == {_literal(value)}" for name, value in signs.items() if value)
    condition = f"${{{{ {wanted} }}}}"
    return (f"  # {incident} was a false alarm ({type})", f"  - if: {_scalar(condition)}", f"    type: {UNCLASSIFIED}")


def _literal(text: str) -> str:
    """As a string of the expression language, on one line."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _scalar(text: str) -> str:
    """As a YAML scalar: bare where that reads the same, else double-quoted."""
    if text.isascii() and text.isprintable() and ": " not in text and " #" not in text:
        return text
    return json.dumps(text)
