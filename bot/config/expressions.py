"""`${{ ... }}` to the domain's expressions: Jinja2's parser gives the tree, an allow-list of its nodes is taken over.

Nothing of Jinja2 ever evaluates. What is not on the list (calls, tests, slices, powers, keyword arguments) is refused
with its line, and every name is checked against the shape of what it will see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import reduce
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.parser import Parser

from bot.config.reading import Problems, suggestion
from bot.config.yaml import Node
from bot.domain.expression import (
    FILTERS,
    Binary,
    Choice,
    Compare,
    Expression,
    Filter,
    Item,
    ListOf,
    Literal,
    Name,
    Template,
    Unary,
)
from bot.domain.view import Shape
from bot.errors import ConfigError

MAX_SOURCE = 2_000  # characters of one expression
MAX_DEPTH = 32

_JINJA = Environment()  # its parser is all that is used; it never renders
_BINARY: Mapping[type[nodes.BinExpr], str] = {
    nodes.And: "and",
    nodes.Or: "or",
    nodes.Add: "+",
    nodes.Sub: "-",
    nodes.Mul: "*",
    nodes.Div: "/",
    nodes.FloorDiv: "//",
    nodes.Mod: "%",
}
_COMPARE = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "lteq": "<=",
    "gt": ">",
    "gteq": ">=",
    "in": "in",
    "notin": "not in",
}
_OPENING = "${{"
_WHOLE = re.compile(r"\s*\$\{\{(.*)\}\}\s*", re.DOTALL)


def inside(text: str) -> str:
    """An expression without its `${{ }}`."""
    whole = _WHOLE.fullmatch(text)
    return (whole[1] if whole else text).strip()


def parse(text: str, where: str) -> Expression:
    """One expression, with or without its `${{ }}`. Raises ConfigError with a hint."""
    source = inside(text)
    if not source:
        raise ConfigError(where, "the expression is empty.")
    if len(source) > MAX_SOURCE:
        raise ConfigError(where, f"the expression is longer than {MAX_SOURCE} characters.")
    try:
        parser = Parser(_JINJA, source, state="variable")
        tree = parser.parse_expression()
        if not parser.stream.eos:
            raise ConfigError(where, f"the expression ends before {parser.stream.current.value!r}.")
    except TemplateSyntaxError as error:
        raise ConfigError(where, f"not an expression: {error.message}.") from None
    except RecursionError:
        raise ConfigError(where, "the expression is nested too deeply.") from None
    return _Translation(where).node(tree, 0)


def template(node: Node) -> Template:
    """A `with` value: texts are searched for `${{ }}`, mappings and lists are walked. Raises ConfigError."""
    match node.value:
        case dict():
            return Template({key: template(inner) for key, inner in node.value.items()})
        case list():
            return Template(tuple(template(inner) for inner in node.value))
        case str():
            return _text_template(node.value, node.where)
        case _:
            return Template(Literal(node.value))


def _text_template(text: str, where: str) -> Template:
    parts: list[str | Expression] = []
    rest = text
    while _OPENING in rest:
        before, _, rest = rest.partition(_OPENING)
        source, closing, rest = _closed(rest)
        if not closing:
            raise ConfigError(where, "a '${{' is not closed by '}}'.")
        if before:
            parts.append(before)
        parts.append(parse(source, where))
    if rest:
        parts.append(rest)
    match parts:
        case [] | [str()]:
            return Template(Literal(text))
        case [expression] if not isinstance(expression, str):
            return Template(expression)
        case _:
            return Template(parts=tuple(parts))


_TOKENS = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\}\}", re.DOTALL)


def _closed(text: str) -> tuple[str, str, str]:
    """Splits at the first `}}` that stands outside a quoted text."""
    for token in _TOKENS.finditer(text):
        if token[0] == "}}":
            return text[: token.start()], "}}", text[token.end() :]
    return text, "", ""


class _Translation:
    def __init__(self, where: str) -> None:
        self.where = where

    def refuse(self, problem: str, hint: str = "") -> ConfigError:
        return ConfigError(self.where, problem, hint)

    def node(self, node: nodes.Node, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            raise self.refuse(f"the expression is nested deeper than {MAX_DEPTH}.")

        def inner(part: nodes.Node) -> Expression:
            return self.node(part, depth + 1)

        match node:
            case nodes.Const(value=str() | int() | float() | None as value):
                return Literal(value)
            case nodes.List(items=items) | nodes.Tuple(items=items):
                return ListOf(tuple(map(inner, items)))
            case nodes.Name(name=name):
                return Name(name)
            case nodes.Getattr(node=of, attr=key):
                return Item(inner(of), Literal(key))
            case nodes.Getitem(node=of, arg=key) if not isinstance(key, nodes.Slice):
                return Item(inner(of), inner(key))
            case nodes.Not(node=of):
                return Unary("not", inner(of))
            case nodes.Neg(node=of):
                return Unary("-", inner(of))
            case nodes.BinExpr(left=left, right=right) if type(node) in _BINARY:
                return Binary(_BINARY[type(node)], inner(left), inner(right))
            case nodes.Concat(nodes=parts):
                return reduce(lambda a, b: Binary("~", a, b), map(inner, parts))
            case nodes.Compare(expr=first, ops=ops):
                values = [inner(first), *(inner(op.expr) for op in ops)]
                pairs = zip(ops, values[:-1], values[1:], strict=True)
                links: list[Expression] = [Compare(_COMPARE[op.op], left, right) for op, left, right in pairs]
                return reduce(lambda a, b: Binary("and", a, b), links)
            case nodes.CondExpr(test=test, expr1=yes, expr2=no):
                if no is None:
                    raise self.refuse("an 'if' without 'else' has no value.", "Write: A if TEST else B.")
                return Choice(inner(test), inner(yes), inner(no))
            case nodes.Filter():
                return self.filter(node, depth)
            case nodes.Call():
                raise self.refuse("nothing can be called in an expression.", "Use a filter: value | name(argument).")
            case nodes.Test(name=name):
                raise self.refuse(f"the test 'is {name}' is not supported.", "Use a comparison, or | default(...).")
            case _:
                raise self.refuse(f"{type(node).__name__} is not allowed in an expression.")

    def filter(self, node: nodes.Filter, depth: int) -> Expression:
        rule = FILTERS.get(node.name)
        if rule is None:
            raise self.refuse(f"unknown filter {node.name!r}.", suggestion(node.name, FILTERS))
        arguments = list(node.args)
        if node.name == "map" and not arguments and [k.key for k in node.kwargs] == ["attribute"]:
            arguments = [node.kwargs[0].value]
        elif node.kwargs or node.dyn_args or node.dyn_kwargs:
            raise self.refuse(f"the filter {node.name!r} takes plain arguments only.")
        if node.node is None or not rule.fewest <= len(arguments) <= rule.most:
            some = str(rule.fewest) if rule.fewest == rule.most else f"{rule.fewest} to {rule.most}"
            raise self.refuse(f"the filter {node.name!r} takes {some} arguments, not {len(arguments)}.")
        return Filter(
            self.node(node.node, depth + 1), node.name, tuple(self.node(each, depth + 1) for each in arguments)
        )


# Names ------------------------------------------------------------------------------------------------------------

_SAME_SHAPE = {"selectattr", "rejectattr", "list", "unique", "sort", "default"}


def names_of(expression: Expression | Template) -> frozenset[tuple[str, ...]]:
    """The paths an expression reads, as far as their keys are literal: ('alert', 'labels', 'env')."""
    found: set[tuple[str, ...]] = set()
    for part in _expressions(expression):
        _collect(part, found)
    return frozenset(found)


def check_names(value: Expression | Template, scope: Mapping[str, Shape], where: str, problems: Problems) -> None:
    """Reports every name and key that `scope` (top-level name -> shape) does not have."""
    for part in _expressions(value):
        shape_of(part, scope, where, problems)


def shape_of(expression: Expression, scope: Mapping[str, Shape], where: str, problems: Problems) -> Shape:
    """The shape of its value (None where it may be anything), reporting unknown names on the way."""

    def inner(part: Expression) -> Shape:
        return shape_of(part, scope, where, problems)

    match expression:
        case Name(name):
            if name not in scope:
                problems.add(where, f"{name!r} is not known here.", suggestion(name, scope))
            return scope.get(name)
        case Item(of, key):
            container = inner(of)
            inner(key)
            return _item_shape(container, key, _path(expression), where, problems)
        case Filter(of, name, arguments):
            container = inner(of)
            for argument in arguments:
                inner(argument)
            if isinstance(container, tuple):
                if name in ("selectattr", "rejectattr", "map") and isinstance(arguments[0], Literal):
                    first_key = Literal(str(arguments[0].value).partition(".")[0])
                    _item_shape(container[0], first_key, f"an element of {_path(of)}", where, problems)
                if name in ("first", "last"):
                    return _shape(container[0])
            return container if name in _SAME_SHAPE else None
        case Choice(test, yes, no):
            inner(test)
            shapes = inner(yes), inner(no)
            return shapes[0] if shapes[0] == shapes[1] else None
        case _:
            for part in _parts(expression):
                inner(part)
            return None


def _shape(value: Any) -> Shape:
    return value if isinstance(value, Mapping | tuple) else None


def _item_shape(container: Shape, key: Expression, path: str, where: str, problems: Problems) -> Shape:
    if isinstance(container, tuple):
        if isinstance(key, Literal) and isinstance(key.value, str):
            problems.add(where, f"{path}: a list has no {key.value!r}.", "Use | map('...'), | first, or foreach.")
            return None
        return _shape(container[0])
    if container is None or not isinstance(key, Literal):
        return None
    if key.value not in container:
        problems.add(where, f"{path}: there is no {key.value!r}.", suggestion(str(key.value), container))
        return None
    return _shape(container[str(key.value)])


def _path(expression: Expression) -> str:
    match expression:
        case Name(name):
            return name
        case Item(of, Literal(key)):
            return f"{_path(of)}.{key}"
        case Item(of) | Filter(of):
            return f"{_path(of)}[...]"
        case _:
            return "(...)"


def _parts(expression: Expression) -> tuple[Expression, ...]:
    match expression:
        case Literal() | Name():
            return ()
        case ListOf(items):
            return items
        case Item(of, key):
            return of, key
        case Unary(_, of):
            return (of,)
        case Binary(_, left, right) | Compare(_, left, right):
            return left, right
        case Choice(test, yes, no):
            return test, yes, no
        case Filter(of, _, arguments):
            return of, *arguments


def _expressions(value: Expression | Template) -> tuple[Expression, ...]:
    if not isinstance(value, Template):
        return (value,)
    match value.value:
        case None:
            return tuple(part for part in value.parts if not isinstance(part, str))
        case Mapping():
            return tuple(part for inner in value.value.values() for part in _expressions(inner))
        case tuple():
            return tuple(part for inner in value.value for part in _expressions(inner))
        case expression:
            return (expression,)


def _collect(expression: Expression, found: set[tuple[str, ...]]) -> None:
    if keys := _literal_path(expression):
        found.add(keys)
        return
    for part in _parts(expression):
        _collect(part, found)


def _literal_path(expression: Expression) -> tuple[str, ...]:
    match expression:
        case Name(name):
            return (name,)
        case Item(of, Literal(str() as key)) if path := _literal_path(of):
            return *path, key
        case _:
            return ()
