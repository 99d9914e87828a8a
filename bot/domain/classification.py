"""What kind of incident an alert is: ordered rules, the first that matches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bot.domain.expression import Expression, ExpressionError, holds

UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, slots=True)
class Rule:
    """`where` is its file and line, for the record's answer to "why this type?"."""

    condition: Expression
    type: str
    where: str


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
                return Classified(rule.type, rule.where, tuple(errors))
        except ExpressionError as error:
            errors.append(f"{rule.where}: {error}")
    return Classified(UNCLASSIFIED, "no classification rule matched", tuple(errors))
