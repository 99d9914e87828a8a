"""The small expression language of playbooks: values in, value out, bounded, total but for `ExpressionError`.

`config.expressions` parses the text (Jinja2's own parser) into these nodes; only what stands here can ever run. Names
resolve to mapping keys, never to attributes of Python objects; a missing name is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ExpressionError(ValueError):
    """An expression cannot be evaluated: a missing name, a wrong type, or its budget is used up."""


@dataclass(frozen=True, slots=True)
class Literal:
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """`of.key` or `of[key]`."""

    of: Expression
    key: Expression


@dataclass(frozen=True, slots=True)
class Unary:
    op: str  # not | -
    of: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    op: str  # and | or | + | - | * | / | // | % | ~
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Compare:
    """`left op right`; chains are nested in `and` by the parser."""

    op: str  # == | != | < | <= | > | >= | in | not in
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Choice:
    """`yes if test else no`."""

    test: Expression
    yes: Expression
    no: Expression


@dataclass(frozen=True, slots=True)
class Filter:
    """`of | name(arguments)`; see FILTERS."""

    of: Expression
    name: str
    arguments: tuple[Expression, ...] = ()


Expression = Literal | ListOf | Name | Item | Unary | Binary | Compare | Choice | Filter


@dataclass(frozen=True, slots=True)
class Template:
    """A `with` value. One `${{ }}` alone keeps its value's type; text around it makes a string; mappings and lists hold
    templates. `parts` is set for text, `value` for everything else."""

    value: Expression | Mapping[str, Template] | tuple[Template, ...] | None = None
    parts: tuple[str | Expression, ...] = ()


def evaluate(expression: Expression, names: Mapping[str, Any]) -> Any:
    raise NotImplementedError


def render(template: Template, names: Mapping[str, Any]) -> Any:
    raise NotImplementedError
