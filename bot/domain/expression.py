"""The small expression language of playbooks: values in, value out, bounded, total but for `ExpressionError`.

`config.expressions` parses the text (Jinja2's own parser) into these nodes; only what stands here can ever run. Names
resolve to mapping keys, never to attributes of Python objects; a missing name is an error.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
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


# Bounds -----------------------------------------------------------------------------------------------------------

MAX_STEPS = 10_000  # nodes visited and list elements touched by one evaluation
MAX_DEPTH = 100
MAX_TEXT = 64 * 1024  # characters
MAX_LIST = 10_000
MAX_BITS = 256  # of an integer


class _Absent:
    """What a label that is not there evaluates to: it equals nothing, is false, and is an error anywhere else."""

    def __bool__(self) -> bool:
        return False


_ABSENT = _Absent()


def evaluate(expression: Expression, names: Mapping[str, Any]) -> Any:
    """The value (JSON-like: str, int, float, bool, None, list, mapping) or `ExpressionError`. An absent label alone is
    None."""
    value = _Evaluation(names).value(expression)
    return None if value is _ABSENT else value


def holds(condition: Expression | None, names: Mapping[str, Any]) -> bool:
    """Whether an `if` is true; without one it is."""
    return condition is None or bool(evaluate(condition, names))


def render(template: Template, names: Mapping[str, Any]) -> Any:
    """The value of a `with` entry. Text parts must have a printable value: null and absent labels are errors there."""
    return _rendered(template, _Evaluation(names))


def _rendered(template: Template, evaluation: _Evaluation) -> Any:
    if template.parts:
        return _join("", [p if isinstance(p, str) else _text(evaluation.value(p)) for p in template.parts])
    match template.value:
        case None:
            return None
        case Mapping():
            return {key: _rendered(inner, evaluation) for key, inner in template.value.items()}
        case tuple():
            return [_rendered(inner, evaluation) for inner in template.value]
        case expression:
            return _present(evaluation.value(expression))


class _Evaluation:
    """One walk over one expression (or all of one template), with its budget."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names, self.steps = names, 0

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ExpressionError(f"it takes more than {MAX_STEPS} steps")

    def value(self, expression: Expression, depth: int = 0) -> Any:
        self.spend(1)
        if depth > MAX_DEPTH:
            raise ExpressionError(f"it is nested deeper than {MAX_DEPTH}")

        def inner(part: Expression) -> Any:
            return self.value(part, depth + 1)

        match expression:
            case Literal(value):
                return _plain(value)
            case ListOf(items):
                return _bounded_list([_present(inner(item)) for item in items])
            case Name(name):
                if name not in self.names:
                    raise ExpressionError(f"{name!r} is not known here")
                return _plain(self.names[name])
            case Item(of, key):
                absent_is_a_value = isinstance(of, Item) and of.key == Literal("labels")
                return _item(inner(of), inner(key), absent_is_a_value)
            case Unary("not", of):
                return not inner(of)
            case Unary("-", of):
                return -_number(inner(of))
            case Binary("and", left, right):
                return inner(left) and inner(right)
            case Binary("or", left, right):
                return inner(left) or inner(right)
            case Binary(op, left, right):
                return _arithmetic(op, inner(left), inner(right))
            case Compare(op, left, right):
                return self.compare(op, inner(left), inner(right))
            case Choice(test, yes, no):
                return inner(yes) if inner(test) else inner(no)
            case Filter(of, name, arguments):
                return self.filter(name, inner(of), tuple(_present(inner(a)) for a in arguments))
            case _:
                raise ExpressionError(f"{expression!r} is not an expression")

    def compare(self, op: str, left: Any, right: Any) -> bool:
        match op:
            case "==":
                return self.equal(left, right)
            case "!=":
                return not self.equal(left, right)
            case "in":
                return self.contains(right, left)
            case "not in":
                return not self.contains(right, left)
            case _ if op in _ORDER:
                if not (isinstance(left, str) and isinstance(right, str)):
                    left, right = _number(left), _number(right)
                return bool(_ORDER[op](left, right))
            case _:
                raise ExpressionError(f"unknown comparison {op!r}")

    def equal(self, left: Any, right: Any, depth: int = 0) -> bool:
        """Like JSON: true is not 1, a list equals a list element by element."""
        self.spend(1)
        if depth > MAX_DEPTH:
            raise ExpressionError(f"a value is nested deeper than {MAX_DEPTH}")
        if isinstance(left, _SEQUENCE) and isinstance(right, _SEQUENCE):
            return len(left) == len(right) and all(
                self.equal(a, b, depth + 1) for a, b in zip(left, right, strict=True)
            )
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            return left.keys() == right.keys() and all(self.equal(left[k], right[k], depth + 1) for k in left)
        if left is _ABSENT or right is _ABSENT or isinstance(left, bool) is not isinstance(right, bool):
            return False
        return bool(left == right)

    def contains(self, container: Any, value: Any) -> bool:
        if container is _ABSENT or value is _ABSENT:
            return False
        if isinstance(container, _SEQUENCE):
            return any(self.equal(value, each) for each in container)
        if isinstance(container, str | Mapping) and isinstance(value, str):
            return value in container
        raise ExpressionError(f"cannot look for {_kind(value)} in {_kind(container)}")

    def filter(self, name: str, value: Any, arguments: tuple[Any, ...]) -> Any:
        rule = FILTERS.get(name)
        if rule is None or not rule.fewest <= len(arguments) <= rule.most:
            raise ExpressionError(f"there is no filter {name!r} with {len(arguments)} arguments")
        if name != "default":
            _present(value)
        if isinstance(value, _SEQUENCE):
            self.spend(len(value))
        return rule.apply(self, value, *arguments)


_SEQUENCE = (list, tuple)
_ORDER: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ATTR_OPS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "in": "in"}


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
        case _Absent():
            return "an absent label"
        case _:
            return "something that is not a value"


def _plain(value: Any) -> Any:
    """Refuses what is not JSON-like, so that no method or attribute of a Python object can ever be reached."""
    if value is not None and not isinstance(value, str | bool | int | float | list | tuple | Mapping | _Absent):
        raise ExpressionError("the value is not text, number, boolean, null, list or mapping")
    return value


def _present(value: Any) -> Any:
    if value is _ABSENT:
        raise ExpressionError("a label is absent")
    return value


def _item(container: Any, key: Any, absent_is_a_value: bool) -> Any:
    if isinstance(container, Mapping) and isinstance(key, str):
        if key in container:
            return _plain(container[key])
        if absent_is_a_value:
            return _ABSENT
        raise ExpressionError(f"{key!r} is missing")
    if isinstance(container, _SEQUENCE) and isinstance(key, int) and not isinstance(key, bool):
        if -len(container) <= key < len(container):
            return _plain(container[key])
        raise ExpressionError(f"the list has no element {key}")
    raise ExpressionError(f"{_kind(container)} has no {key!r}")


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExpressionError(f"{_kind(value)} is not a number")
    return _bounded_number(value)


def _arithmetic(op: str, left: Any, right: Any) -> Any:
    if op == "~":
        return _join("", [_text(left), _text(right)])
    if op == "+" and isinstance(left, str) and isinstance(right, str):
        return _join("", [left, right])
    if op == "+" and isinstance(left, _SEQUENCE) and isinstance(right, _SEQUENCE):
        return _bounded_list([*left, *right])
    a, b = _number(left), _number(right)
    try:
        match op:
            case "+":
                result = a + b
            case "-":
                result = a - b
            case "*":
                result = a * b
            case "/":
                result = a / b
            case "//":
                result = a // b
            case "%":
                result = a % b
            case _:
                raise ExpressionError(f"unknown operator {op!r}")
    except (ZeroDivisionError, OverflowError) as error:
        raise ExpressionError(f"{op!r}: {error}") from None
    return _bounded_number(result)


def _bounded_number(value: int | float) -> int | float:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ExpressionError(f"a number has more than {MAX_BITS} bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("a number is not finite")
    return value


def _bounded_list(value: list[Any]) -> list[Any]:
    if len(value) > MAX_LIST:
        raise ExpressionError(f"a list has more than {MAX_LIST} elements")
    return value


def _join(separator: str, parts: list[str]) -> str:
    if sum(map(len, parts)) + len(separator) * len(parts) > MAX_TEXT:
        raise ExpressionError(f"a text has more than {MAX_TEXT} characters")
    return separator.join(parts)


def _text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return str(_bounded_number(value))
        case _:
            raise ExpressionError(f"{_kind(value)} cannot stand in a text")


# Filters ----------------------------------------------------------------------------------------------------------


def _list(value: Any) -> list[Any]:
    if isinstance(value, _SEQUENCE):
        return _bounded_list(list(value))
    raise ExpressionError(f"{_kind(value)} is not a list")


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ExpressionError(f"{_kind(value)} is not a text")


def _attribute(element: Any, path: Any) -> Any:
    """`uid`, or `labels.env` (where the label may be absent)."""
    value, *keys = element, *_string(path).split(".")
    for index, key in enumerate(keys):
        value = _item(value, key, absent_is_a_value=index > 0 and keys[index - 1] == "labels")
    return value


def _selected(run: _Evaluation, element: Any, path: Any, op: Any = None, wanted: Any = None) -> bool:
    found = _attribute(element, path)
    if op is None:
        return bool(found)
    if op == "contains":
        return run.contains(found, wanted)
    if op not in _ATTR_OPS:
        raise ExpressionError(f"unknown test {op!r}")
    return run.compare(_ATTR_OPS[op], found, wanted)


def _selectattr(run: _Evaluation, value: Any, *test: Any) -> list[Any]:
    return [each for each in _list(value) if _selected(run, each, *test)]


def _rejectattr(run: _Evaluation, value: Any, *test: Any) -> list[Any]:
    return [each for each in _list(value) if not _selected(run, each, *test)]


def _map(_: _Evaluation, value: Any, path: Any) -> list[Any]:
    return [_present(_attribute(each, path)) for each in _list(value)]


def _to_list(_: _Evaluation, value: Any) -> list[Any]:
    return _bounded_list(list(value)) if isinstance(value, Mapping) else _list(value)


def _first(_: _Evaluation, value: Any) -> Any:
    return _item(_list(value), 0, absent_is_a_value=False)


def _last(_: _Evaluation, value: Any) -> Any:
    return _item(_list(value), -1, absent_is_a_value=False)


def _length(_: _Evaluation, value: Any) -> int:
    if isinstance(value, str | Mapping | list | tuple):
        return len(value)
    raise ExpressionError(f"{_kind(value)} has no length")


def _unique(_: _Evaluation, value: Any) -> list[Any]:
    found = _list(value)
    if not all(isinstance(each, str | int | float | None) for each in found):
        raise ExpressionError("unique needs texts, numbers, booleans or null")
    return list({(isinstance(each, bool), each): each for each in found}.values())


def _sort(_: _Evaluation, value: Any) -> list[Any]:
    found = _list(value)
    if not all(isinstance(each, str) for each in found):
        found = [_number(each) for each in found]
    return sorted(found)


def _join_filter(_: _Evaluation, value: Any, separator: Any = "") -> str:
    return _join(_string(separator), [_text(each) for each in _list(value)])


def _default(_: _Evaluation, value: Any, otherwise: Any) -> Any:
    return otherwise if value is None or value is _ABSENT else value


def _int(_: _Evaluation, value: Any) -> int:
    if not isinstance(value, str):
        return int(_number(value))
    if not re.fullmatch("[-+]?[0-9]{1,75}", value):
        raise ExpressionError("the text is not a whole number")
    return int(value)


def _case(change: Callable[[str], str]) -> Callable[..., Any]:
    return lambda _, value: _join("", [change(_string(value))])


@dataclass(frozen=True, slots=True)
class FilterRule:
    fewest: int  # arguments
    most: int
    apply: Callable[..., Any]  # (evaluation, value, *arguments)


FILTERS: Mapping[str, FilterRule] = {
    "selectattr": FilterRule(1, 3, _selectattr),
    "rejectattr": FilterRule(1, 3, _rejectattr),
    "map": FilterRule(1, 1, _map),
    "list": FilterRule(0, 0, _to_list),
    "first": FilterRule(0, 0, _first),
    "last": FilterRule(0, 0, _last),
    "length": FilterRule(0, 0, _length),
    "lower": FilterRule(0, 0, _case(str.lower)),
    "upper": FilterRule(0, 0, _case(str.upper)),
    "unique": FilterRule(0, 0, _unique),
    "sort": FilterRule(0, 0, _sort),
    "join": FilterRule(0, 1, _join_filter),
    "default": FilterRule(1, 1, _default),
    "int": FilterRule(0, 0, _int),
    "string": FilterRule(0, 0, lambda _, value: _text(value)),
    "contains": FilterRule(1, 1, lambda run, value, wanted: run.contains(value, wanted)),
}
