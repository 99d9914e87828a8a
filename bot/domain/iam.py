"""What AWS would answer: the part of IAM's policy evaluation that containment rests on.

Judges identity policies alone (no boundary, SCP or resource policy), which is enough for a Deny: an explicit one wins
over everything. What is not understood is an error, never a guess.
Source: IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

Decision = Literal["explicitDeny", "implicitDeny", "allowed"]
ContextValue = str | bool | int | float | datetime | Sequence[str]
Test = Callable[[str, str], bool]  # what the request carries, what the policy says


class UnknownPolicy(ValueError):
    """A policy uses something that this evaluator does not know."""


def evaluate(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str, context: Mapping[str, ContextValue]
) -> Decision:
    """The answer to `action` (`s3:GetObject`) on `resource` (an ARN, or `*` for actions that have none).

    `documents` are policy documents as mappings; `context` holds the request's condition keys (`aws:TokenIssueTime`),
    names in any case, dates aware. Raises UnknownPolicy.
    """
    keys = {name.lower(): value for name, value in context.items()}
    effects = {
        statement["Effect"]
        for document in documents
        for statement in _several(document.get("Statement", ()))
        if _covers(statement, "Action", action, ignore_case=True)
        and _covers(statement, "Resource", resource)
        and _meets(statement.get("Condition", {}), keys)
    }
    if effects - {"Allow", "Deny"}:
        raise UnknownPolicy(f"Effect is Allow or Deny, not {', '.join(sorted(effects - {'Allow', 'Deny'}))}")
    if "Deny" in effects:
        return "explicitDeny"
    return "allowed" if "Allow" in effects else "implicitDeny"


STAMP = "%Y-%m-%dT%H:%M:%SZ"  # as AWS writes dates in policies


def deny_older(cutoff: str, userid: str = "") -> dict[str, Any]:
    """A statement that denies everything to credentials issued before `cutoff` (a STAMP); only to the one session where
    `userid` (`AROA...:session`) says which. Long-term keys carry no time of issue: it does not reach them."""
    older: dict[str, Any] = {"DateLessThan": {"aws:TokenIssueTime": cutoff}}
    one = {"StringEquals": {"aws:userid": userid}} if userid else {}
    return {"Effect": "Deny", "Action": ["*"], "Resource": ["*"], "Condition": {**one, **older}}


def older_denied(cutoff: str) -> dict[str, Any]:
    """The policy of that statement alone."""
    return {"Version": "2012-10-17", "Statement": [deny_older(cutoff)]}


DENY_ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Deny", "Action": ["*"], "Resource": ["*"]}],
}  # AWSDenyAll


@dataclass(frozen=True, slots=True)
class Denial:
    """A policy document that is to deny, and whom: `who` in words, `carries` the condition keys that its requests have
    besides the time of issue, `keys` whether it may hold long-term keys, which have none. `unless`: when it does not
    apply after all, in words."""

    document: Mapping[str, Any]
    who: str
    carries: Mapping[str, str] = field(default_factory=dict)
    keys: bool = False
    unless: str = ""


def foretold(denial: Denial, cutoff: datetime) -> Iterator[tuple[str, str]]:
    """(credential, what becomes of it) where the document is put in force with that cutoff: `explicitDeny`, `not
    denied` by it, or `cannot tell` with the reason. What other policies say is not known here."""
    second = timedelta(seconds=1)
    issued: dict[str, Mapping[str, ContextValue]] = {
        "a session from before": {"aws:TokenIssueTime": cutoff - second},
        "a session from after": {"aws:TokenIssueTime": cutoff + second},
    }
    for credential, time in (issued | ({"a long-term key": {}} if denial.keys else {})).items():
        try:
            said = evaluate([denial.document], "any:Action", "arn:any", {**denial.carries, **time})
        except UnknownPolicy as error:
            yield credential, f"cannot tell: {error}"
        else:
            yield credential, said if said == "explicitDeny" else "not denied"


def cutoff_of(document: Mapping[str, Any] | None) -> datetime | None:
    """The cutoff of a policy of one such statement, as written here or by the console; None for any other."""
    match document:
        case {"Statement": [{"Condition": {"DateLessThan": {"aws:TokenIssueTime": str(cutoff)}}}]}:
            try:
                return datetime.strptime(cutoff.replace(".000Z", "Z"), STAMP).replace(tzinfo=UTC)
            except ValueError:
                return None
    return None


def denies_everything(document: Mapping[str, Any], context: Mapping[str, ContextValue]) -> bool:
    """Judged by an action that nobody knows, which only a Deny of everything covers."""
    try:
        return evaluate([document], "any:Action", "arn:any", context) == "explicitDeny"
    except UnknownPolicy:
        return False


def may_assume(trust: Mapping[str, Any], principal: str, context: Mapping[str, ContextValue] | None = None) -> Decision:
    """What a role's trust policy says to `sts:AssumeRole` by a user or role (its ARN) or a service
    (`ecs-tasks.amazonaws.com`). An account stands for every principal in it. Raises UnknownPolicy."""
    named = tuple(s for s in _several(trust.get("Statement", ())) if _names(s, principal))
    document = {"Statement": [{**statement, "Resource": "*"} for statement in named]}
    return evaluate([document], "sts:AssumeRole", "*", context or {})


def _names(statement: Mapping[str, Any], principal: str) -> bool:
    if "Principal" not in statement:
        raise UnknownPolicy("a trust policy's statement needs a Principal; NotPrincipal is not known here")
    named = statement["Principal"]
    if named == "*":
        return True
    if not isinstance(named, Mapping) or set(named) - {"AWS", "Service", "Federated", "CanonicalUser"}:
        raise UnknownPolicy(f"Principal {named!r} is not known here")
    parts = principal.split(":")
    if len(parts) < 6:
        return principal in _several(named.get("Service", ()))
    account = parts[4]
    return not {"*", principal, account, f"arn:{parts[1]}:iam::{account}:root"}.isdisjoint(
        _several(named.get("AWS", ()))
    )


def trusts_nobody(trust: Mapping[str, Any]) -> bool:
    """Whether a role's trust policy lets nobody assume it: without an Allow nobody may, of any account."""
    return all(statement.get("Effect") == "Deny" for statement in _several(trust.get("Statement", ())))


def _covers(statement: Mapping[str, Any], element: str, asked: str, *, ignore_case: bool = False) -> bool:
    """`Action`/`NotAction` or `Resource`/`NotResource`: exactly one of the two stands in a statement."""
    negated = f"Not{element}"
    if (element in statement) is (negated in statement):
        raise UnknownPolicy(f"a statement needs one of {element} and {negated}")
    patterns = _several(statement.get(element, statement.get(negated)))
    covered = any(_like(asked, pattern, ignore_case=ignore_case) for pattern in patterns)
    return covered is (element in statement)


def _meets(condition: Mapping[str, Any], context: Mapping[str, ContextValue]) -> bool:
    """Operators and keys are joined by AND, the values of one key by OR (negated: none of them)."""
    return all(
        _holds(operator, context.get(key.lower()), _several(values))
        for operator, keys in condition.items()
        for key, values in keys.items()
    )


def _holds(operator: str, carried: ContextValue | None, values: Sequence[Any]) -> bool:
    if operator == "Null":
        missing = carried is None or (not isinstance(carried, (str, bool, int, float, datetime)) and not carried)
        return any(missing is (_text(value) == "true") for value in values)
    of, _, bare = operator.rpartition(":")
    name = bare.removesuffix("IfExists")
    if name not in _TESTS or of not in ("", "ForAllValues", "ForAnyValue"):
        raise UnknownPolicy(f"condition operator {operator!r} is not known here")
    if of:  # IfExists adds nothing to these: of no value, all are so and none is
        test, negated = _TESTS[name]
        each = [] if carried is None else [*_several(carried)]
        good = [any(test(_text(one), _literal(value)) for value in values) is not negated for one in each]
        return all(good) if of == "ForAllValues" else any(good)
    if carried is not None and not isinstance(carried, (str, bool, int, float, datetime)):
        raise UnknownPolicy(f"{operator!r} on a key with several values needs ForAllValues or ForAnyValue")
    test, negated = _TESTS[name]
    if carried is None:  # a missing key meets IfExists and every negated operator, and no other
        return negated or operator != name
    return any(test(_text(carried), _literal(value)) for value in values) is not negated


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _literal(value: Any) -> str:
    text = _text(value)
    if "${" in text:
        raise UnknownPolicy(f"policy variables are not known here: {text!r}")
    return text


def _several(value: Any) -> Sequence[Any]:
    """IAM lets one element stand for a list of one."""
    return (value,) if isinstance(value, (str, bool, int, float, Mapping)) else value


@cache
def _pattern(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"([*?])", _literal(pattern))
    return re.compile("".join({"*": ".*", "?": "."}.get(part) or re.escape(part) for part in parts), re.DOTALL)


def _like(text: str, pattern: str, *, ignore_case: bool = False) -> bool:
    if ignore_case:
        text, pattern = text.lower(), pattern.lower()
    return _pattern(pattern).fullmatch(text) is not None


def _arn_like(text: str, pattern: str) -> bool:
    """Each of the six parts is compared by itself: a `*` does not reach over a colon."""
    return len(asked := text.split(":", 5)) == len(wanted := pattern.split(":", 5)) and all(map(_like, asked, wanted))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UnknownPolicy(f"not a number: {text!r}") from error


def _time(text: str) -> datetime:
    """ISO 8601 (UTC where it names no zone) or epoch seconds."""
    try:
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnknownPolicy(f"not a date: {text!r}") from error
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


_TESTS: Mapping[str, tuple[Test, bool]] = {  # name -> (test, negated)
    "StringEquals": (lambda carried, value: carried == value, False),
    "StringNotEquals": (lambda carried, value: carried == value, True),
    "StringEqualsIgnoreCase": (lambda carried, value: carried.lower() == value.lower(), False),
    "StringNotEqualsIgnoreCase": (lambda carried, value: carried.lower() == value.lower(), True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
    "NumericEquals": (lambda carried, value: _number(carried) == _number(value), False),
    "NumericNotEquals": (lambda carried, value: _number(carried) == _number(value), True),
    "NumericLessThan": (lambda carried, value: _number(carried) < _number(value), False),
    "NumericLessThanEquals": (lambda carried, value: _number(carried) <= _number(value), False),
    "NumericGreaterThan": (lambda carried, value: _number(carried) > _number(value), False),
    "NumericGreaterThanEquals": (lambda carried, value: _number(carried) >= _number(value), False),
    "Bool": (lambda carried, value: carried.lower() == value.lower(), False),
    "DateEquals": (lambda carried, value: _time(carried) == _time(value), False),
    "DateNotEquals": (lambda carried, value: _time(carried) == _time(value), True),
    "DateLessThan": (lambda carried, value: _time(carried) < _time(value), False),
    "DateLessThanEquals": (lambda carried, value: _time(carried) <= _time(value), False),
    "DateGreaterThan": (lambda carried, value: _time(carried) > _time(value), False),
    "DateGreaterThanEquals": (lambda carried, value: _time(carried) >= _time(value), False),
}
