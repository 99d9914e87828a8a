"""The cases are those of the IAM User Guide: evaluation logic, condition operators, missing keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.domain.iam import Denial, UnknownPolicy, evaluate, foretold, may_assume

CUTOFF = datetime(2026, 1, 10, 12, tzinfo=UTC)
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
DENY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": ["*"], "Resource": ["*"]}]}
REVOKE_OLDER = {  # what the console writes
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2026-01-10T12:00:00.000Z"}},
        }
    ],
}


def policy(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    return {"Statement": {"Effect": effect, "Action": "*", "Resource": "*"} | elements}


def decided(condition: dict[str, Any], **context: Any) -> bool:
    keys = {name.replace("_", ":", 1): value for name, value in context.items()}
    return evaluate([policy(Condition=condition)], "s3:GetObject", "*", keys) == "allowed"


def test_what_a_denial_would_do_and_what_nobody_can_tell():
    assert [answer for _, answer in foretold(Denial(REVOKE_OLDER, "role x"), CUTOFF)] == ["explicitDeny", "not denied"]
    key = ("a long-term key", "not denied")
    assert [*foretold(Denial(REVOKE_OLDER, "user x", keys=True), CUTOFF)][2] == key
    odd = policy("Deny", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}})
    for _, answer in foretold(Denial(odd, "role x", keys=True), CUTOFF):
        assert answer == "cannot tell: condition operator 'IpAddress' is not known here"


def test_without_a_statement_that_applies_the_denial_is_implicit():
    assert evaluate([], "s3:GetObject", "*", {}) == "implicitDeny"
    assert evaluate([policy(Action="ec2:*")], "s3:GetObject", "*", {}) == "implicitDeny"


def test_an_explicit_deny_wins_in_any_order():
    assert evaluate([ALLOW_ALL], "s3:GetObject", "*", {}) == "allowed"
    assert evaluate([ALLOW_ALL, DENY_ALL], "s3:GetObject", "*", {}) == "explicitDeny"
    assert evaluate([DENY_ALL, ALLOW_ALL], "s3:GetObject", "*", {}) == "explicitDeny"


def test_actions_ignore_case_and_resources_do_not():
    bucket = policy(Action="S3:get*", Resource="arn:aws:s3:::evidence/*")
    assert evaluate([bucket], "s3:GetObject", "arn:aws:s3:::evidence/a/b", {}) == "allowed"
    assert evaluate([bucket], "s3:GetObject", "arn:aws:s3:::Evidence/a", {}) == "implicitDeny"
    assert evaluate([bucket], "s3:PutObject", "arn:aws:s3:::evidence/a", {}) == "implicitDeny"
    assert evaluate([policy(Action="s3:Get?bject")], "s3:GetObject", "*", {}) == "allowed"


def test_not_action_and_not_resource_cover_everything_else():
    but_iam = {"Statement": [{"Effect": "Deny", "NotAction": ["iam:*"], "NotResource": "arn:aws:s3:::keep/*"}]}
    assert evaluate([but_iam], "s3:GetObject", "arn:aws:s3:::drop/a", {}) == "explicitDeny"
    assert evaluate([but_iam], "iam:GetRole", "arn:aws:s3:::drop/a", {}) == "implicitDeny"
    assert evaluate([but_iam], "s3:GetObject", "arn:aws:s3:::keep/a", {}) == "implicitDeny"


def test_revoking_older_sessions_spares_those_issued_later_and_long_term_keys():
    def at(issued: datetime | str) -> str:
        return evaluate([ALLOW_ALL, REVOKE_OLDER], "s3:GetObject", "*", {"aws:TokenIssueTime": issued})

    assert at(CUTOFF - timedelta(seconds=1)) == "explicitDeny"
    assert at("2026-01-10T11:59:59Z") == "explicitDeny"
    assert at(str(int(CUTOFF.timestamp()) - 1)) == "explicitDeny"
    assert at(CUTOFF) == "allowed"
    assert at(CUTOFF + timedelta(hours=1)) == "allowed"
    assert evaluate([ALLOW_ALL, REVOKE_OLDER], "s3:GetObject", "*", {}) == "allowed"  # the key is absent


@pytest.mark.parametrize(
    ("condition", "carried", "missing"),
    [
        ({"StringEquals": {"aws:userid": ["x", "AROA:bot"]}}, True, False),
        ({"StringEquals": {"aws:userid": "aroa:bot"}}, False, False),
        ({"StringEqualsIgnoreCase": {"aws:userid": "aroa:bot"}}, True, False),
        ({"StringNotEquals": {"aws:userid": ["x", "y"]}}, True, True),
        ({"StringNotEquals": {"aws:userid": ["x", "AROA:bot"]}}, False, True),
        ({"StringLike": {"aws:userid": "AROA:*"}}, True, False),
        ({"StringNotLike": {"aws:userid": "AROA:*"}}, False, True),
        ({"StringEqualsIfExists": {"aws:userid": "other"}}, False, True),
        ({"Null": {"aws:userid": "true"}}, False, True),
        ({"Null": {"aws:userid": False}}, True, False),
    ],
)
def test_condition_operators_with_the_key_and_without_it(condition: dict[str, Any], carried: bool, missing: bool):
    assert decided(condition, aws_userid="AROA:bot") is carried
    assert decided(condition) is missing


def test_keys_and_operators_are_joined_by_and():
    both = {"StringEquals": {"aws:userid": "a", "aws:username": "b"}, "Bool": {"aws:SecureTransport": "true"}}
    assert decided(both, aws_userid="a", aws_UserName="b", aws_SecureTransport=True)
    assert not decided(both, aws_userid="a", aws_username="b", aws_SecureTransport=False)
    assert not decided(both, aws_userid="a", aws_SecureTransport=True)


def test_dates_are_compared_as_times_and_missing_ones_match_nothing():
    window = {"DateGreaterThan": {"aws:CurrentTime": "2026-01-01"}, "DateLessThan": {"aws:CurrentTime": "2026-02-01"}}
    assert decided(window, aws_CurrentTime=CUTOFF)
    assert decided(window, aws_CurrentTime="2026-01-10T13:00:00+01:00")
    assert not decided(window, aws_CurrentTime="2026-02-01T00:00:00Z")
    assert not decided(window)
    assert decided({"DateLessThanIfExists": {"aws:TokenIssueTime": "2026-01-01"}})


def test_arn_wildcards_do_not_reach_over_a_colon():
    role = "arn:aws:iam::111111111111:role/agents/seven"
    assert decided({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/agents/*"}}, aws_PrincipalArn=role)
    assert not decided({"ArnLike": {"aws:PrincipalArn": "arn:*:role/agents/*"}}, aws_PrincipalArn=role)
    assert decided({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/*"}}, aws_PrincipalArn=role)


@pytest.mark.parametrize(
    ("document", "context", "said"),
    [
        (policy(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), {}, "IpAddress"),
        (policy(Condition={"ForSomeValue:StringLike": {"aws:TagKeys": "x"}}), {}, "ForSomeValue"),
        (policy(Condition={"StringEquals": {"aws:TagKeys": "x"}}), {"aws:TagKeys": ["x"]}, "several values"),
        (policy(Condition={"StringEquals": {"aws:userid": "${aws:username}"}}), {"aws:userid": "x"}, "variables"),
        (policy(Condition={"DateLessThan": {"aws:TokenIssueTime": "soon"}}), {"aws:TokenIssueTime": CUTOFF}, "a date"),
        (policy(effect="allow"), {}, "Effect"),
        (policy(NotAction="s3:*"), {}, "one of Action and NotAction"),
    ],
)
def test_what_is_not_understood_is_an_error_and_not_a_guess(document: Any, context: Any, said: str):
    with pytest.raises(UnknownPolicy, match=said):
        evaluate([document], "s3:GetObject", "*", context)


TAGS = {"aws:TagKeys": ["key1*"]}


@pytest.mark.parametrize(
    ("operator", "carried", "holds"),
    [
        # IAM User Guide, "Multivalued context key examples"; without a value all are so, and none is.
        ("ForAllValues:StringLike", ["key1:legal"], True),
        ("ForAllValues:StringLike", ["key1:legal", "key2:sales"], False),
        ("ForAllValues:StringLike", None, True),
        ("ForAllValues:StringLike", [], True),
        ("ForAllValues:StringLikeIfExists", ["key2"], False),
        ("ForAnyValue:StringLike", ["key1:legal", "key2:sales"], True),
        ("ForAnyValue:StringLike", ["key2"], False),
        ("ForAnyValue:StringLike", None, False),
        ("ForAnyValue:StringLikeIfExists", None, False),
        ("ForAllValues:StringNotLike", ["key2", "key3"], True),
        ("ForAllValues:StringNotLike", ["key2", "key1:hr"], False),
        ("ForAnyValue:StringNotLike", ["key1:hr", "key2"], True),
        ("ForAnyValue:StringNotLike", None, False),
        ("ForAllValues:StringLike", "key1:one", True),
    ],
)
def test_operators_on_keys_with_several_values(operator: str, carried: Any, holds: bool) -> None:
    context = {} if carried is None else {"aws:TagKeys": carried}
    found = evaluate([policy(Condition={operator: TAGS})], "iam:TagUser", "*", context)
    assert (found == "allowed") is holds


def test_an_empty_list_is_null() -> None:
    wants = {"Null": {"aws:TagKeys": "false"}, "ForAllValues:StringLike": TAGS}
    assert evaluate([policy(Condition=wants)], "iam:TagUser", "*", {"aws:TagKeys": []}) == "implicitDeny"
    assert evaluate([policy(Condition=wants)], "iam:TagUser", "*", {"aws:TagKeys": ["key1"]}) == "allowed"


@pytest.mark.parametrize(
    ("operator", "age", "holds"),
    [
        ("NumericLessThan", 3599, True),
        ("NumericLessThan", 3600, False),
        ("NumericGreaterThanEquals", "3600", True),
        ("NumericNotEquals", 3600, False),
        ("NumericNotEquals", None, True),
        ("NumericEqualsIfExists", None, True),
        ("NumericEquals", None, False),
    ],
)
def test_numbers(operator: str, age: Any, holds: bool) -> None:
    context = {} if age is None else {"aws:MultiFactorAuthAge": age}
    asked = policy(Condition={operator: {"aws:MultiFactorAuthAge": "3600"}})
    assert (evaluate([asked], "s3:GetObject", "*", context) == "allowed") is holds


ROLE = "arn:aws:iam::111111111111:role/deploy"


def trust(**elements: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": "*", **elements}]}


@pytest.mark.parametrize(
    ("principal", "asks", "decision"),
    [
        ({"AWS": ROLE}, ROLE, "allowed"),
        ({"AWS": ["arn:aws:iam::111111111111:root"]}, ROLE, "allowed"),
        ({"AWS": "111111111111"}, ROLE, "allowed"),
        ({"AWS": "222222222222"}, ROLE, "implicitDeny"),
        ({"AWS": "arn:aws:iam::111111111111:role/*"}, ROLE, "implicitDeny"),  # no wildcards inside a principal
        ({"Service": "ecs-tasks.amazonaws.com"}, ROLE, "implicitDeny"),
        ({"Service": "ecs-tasks.amazonaws.com"}, "ecs-tasks.amazonaws.com", "allowed"),
        ("*", ROLE, "allowed"),
    ],
)
def test_who_may_assume_a_role(principal: Any, asks: str, decision: str) -> None:
    assert may_assume(trust(Principal=principal), asks) == decision


def test_a_trust_policys_conditions_and_denials_count() -> None:
    outside = trust(Condition={"StringEquals": {"sts:ExternalId": "firedoor"}})
    assert may_assume(outside, ROLE, {"sts:ExternalId": "firedoor"}) == "allowed"
    assert may_assume(outside, ROLE) == "implicitDeny"
    both = {"Statement": [*trust()["Statement"], *trust(Effect="Deny", Principal={"AWS": ROLE})["Statement"]]}
    assert may_assume(both, ROLE) == "explicitDeny"
    assert may_assume(trust(Action="sts:TagSession"), ROLE) == "implicitDeny"


@pytest.mark.parametrize("principal", [{"Robot": "x"}, ["a"], 7])
def test_a_principal_that_is_not_understood_is_an_error(principal: Any) -> None:
    with pytest.raises(UnknownPolicy):
        may_assume(trust(Principal=principal), ROLE)
    nobody = {"Effect": "Deny", "Action": "sts:AssumeRole", "NotPrincipal": {"AWS": ROLE}}
    with pytest.raises(UnknownPolicy, match="NotPrincipal"):
        may_assume({"Statement": nobody}, ROLE)
