"""Whether a policy allows less than another: proved, or not believed.

IAM: each pair of action and resource that the new policy allows must lie within one statement of the old, under at
least its conditions, and every denial of the old must stand in the new. What cannot be compared (NotAction,
NotResource, variables) cannot be told, and is no less. Vault's policies are compared in `acl`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Word = Literal["narrower", "same", "wider", "unclear"]
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`diff`: what is taken away (`-`), what stays or is added (`+`), a line each."""

    word: Word
    why: str
    diff: tuple[str, ...]


class Unclear(ValueError):
    """Something stands in a policy that cannot be compared."""


def compare(old: Sequence[Document], new: Sequence[Document]) -> Verdict:
    """Of the documents in force together, and those that are to take their place."""
    try:
        before, after = [*_statements(*old)], [*_statements(*new)]
        diff = _diff(before, after)
        if why := _more(before, after):
            return Verdict("wider", why, diff)
        if not _more(after, before):
            return Verdict("same", "it allows exactly as much", diff)
        return Verdict("narrower", "", diff)
    except Unclear as error:
        return Verdict("unclear", str(error), ())


@dataclass(frozen=True, slots=True)
class _Statement:
    allows: bool
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: frozenset[str]  # `operator key values`, as JSON

    def __str__(self) -> str:
        limits = f" if {'; '.join(sorted(self.conditions))}" if self.conditions else ""
        verb = "allow" if self.allows else "deny"
        return f"{verb} {', '.join(self.actions)} on {', '.join(self.resources)}{limits}"


def _statements(*documents: Document) -> Iterator[_Statement]:
    for document in documents:
        for one in _several(document.get("Statement", ())):
            if not isinstance(one, Mapping):
                raise Unclear("a statement is a mapping")
            if unknown := {*one} - {"Sid", "Effect", "Action", "Resource", "Condition"}:
                raise Unclear(f"{', '.join(sorted(unknown))} cannot be compared")
            if one.get("Effect") not in ("Allow", "Deny"):
                raise Unclear(f"Effect is Allow or Deny, not {one.get('Effect')!r}")
            yield _Statement(
                one["Effect"] == "Allow",
                tuple(action.lower() for action in _texts(one, "Action")),
                _texts(one, "Resource"),
                frozenset(_conditions(one.get("Condition", {}))),
            )


def _texts(statement: Mapping[str, Any], element: str) -> tuple[str, ...]:
    found = tuple(_several(statement.get(element, ())))
    if not found or not all(isinstance(one, str) for one in found):
        raise Unclear(f"a statement needs a {element} of texts")
    if variable := next((one for one in found if "${" in one), ""):
        raise Unclear(f"the variable in {variable} cannot be compared")
    return tuple(sorted(found))


def _conditions(condition: Any) -> Iterator[str]:
    if not isinstance(condition, Mapping):
        raise Unclear("Condition is a mapping")
    for operator, keys in condition.items():
        if not isinstance(keys, Mapping):
            raise Unclear(f"{operator} needs a mapping")
        for key, values in keys.items():
            yield json.dumps([operator, key.lower(), sorted(map(str, _several(values)))])


def _more(old: Sequence[_Statement], new: Sequence[_Statement]) -> str:
    """What the new allows beyond the old, or ''."""
    for statement in new:
        if not statement.allows:
            continue
        for action in statement.actions:
            for resource in statement.resources:
                if not any(_within(action, resource, statement.conditions, one) for one in old if one.allows):
                    return f"{action} on {resource} is not within any statement that allows it now"
    for denial in old:
        if not denial.allows and not any(_denies_as_much(one, denial) for one in new):
            return f"the denial of {', '.join(denial.actions)} on {', '.join(denial.resources)} would be gone"
    return ""


def _within(action: str, resource: str, conditions: frozenset[str], old: _Statement) -> bool:
    covered = any(covers(one, action) for one in old.actions) and any(covers(one, resource) for one in old.resources)
    return covered and old.conditions <= conditions


def _denies_as_much(new: _Statement, old: _Statement) -> bool:
    """With no condition more: each would let something through."""
    if new.allows or not new.conditions <= old.conditions:
        return False
    actions = all(any(covers(one, action) for one in new.actions) for action in old.actions)
    return actions and all(any(covers(one, resource) for one in new.resources) for resource in old.resources)


def covers(pattern: str, other: str) -> bool:
    """Everything that `other` stands for, `pattern` stands for too. Of `*` and `?` in `other` only a wildcard of
    `pattern` can be sure."""
    row = [True] + [False] * len(other)
    for char in pattern:
        if char == "*":
            reach, following = False, []
            for known in row:
                reach = reach or known
                following.append(reach)
        else:
            meets = [here != "*" and (here == char or char == "?") for here in other]
            following = [False, *(known and met for known, met in zip(row, meets, strict=False))]
        row = following
    return row[-1]


def _diff(old: Sequence[_Statement], new: Sequence[_Statement]) -> tuple[str, ...]:
    before, after = dict.fromkeys(map(str, old)), dict.fromkeys(map(str, new))
    gone = [f"- {one}" for one in before if one not in after]
    kept = [f"  {one}" for one in after if one in before]
    return (*gone, *kept, *(f"+ {one}" for one in after if one not in before))


def _several(value: Any) -> Sequence[Any]:
    return (value,) if isinstance(value, str | bool | int | float | Mapping) else value
