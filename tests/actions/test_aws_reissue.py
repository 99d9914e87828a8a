"""A role or a user gets a narrower policy in place of its own: on the simulator, and through boto3 on moto."""

from __future__ import annotations

from typing import Any

import pytest

from bot.actions.aws_iam_reissue import POLICY, Reissue
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.outcome import Done, Failed
from tests.actions.aws_target import HANGING, REFUSED, THROTTLED, Drill
from tests.aws_estate import ADMIN, Estate, fresh

CUT = "firedoor-inc-7"


def statement(action: str, resource: str) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}


DENIED = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}]}
LESS = statement("s3:GetObject", "arn:aws:s3:::orders/*")


@pytest.fixture
def drill(aws_estate: Estate) -> Drill:
    return Drill(aws_estate, Reissue())


@pytest.fixture(params=["role", "user"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made(drill: Drill, kind: str) -> tuple[str, Agent]:
    """With an inline policy of its own and a cut of ours; a role has AdministratorAccess too."""
    name, iam = fresh("agent"), drill.estate.account.iam
    if kind == "role":
        arn = drill.estate.add_role(name)
        iam.put_role_policy(name, "own", statement("s3:*", "*"))
        iam.put_role_policy(name, CUT, DENIED)
        return name, Agent("agent-7", aws=AwsIdentity(roles=(arn,)))
    drill.estate.add_user(name)
    iam.put_user_policy(name, "own", statement("s3:*", "*"))
    iam.put_user_policy(name, CUT, DENIED)
    return name, Agent("agent-7", aws=AwsIdentity(account=drill.estate.id, users=(name,)))


def names(drill: Drill, kind: str, name: str) -> set[str]:
    iam = drill.estate.account.iam
    found = iam.role_policies(name) if kind == "role" else iam.user_policies(name)
    return {one.name for one in found or () if one.kind in ("inline", "managed") and not one.group}


def wanted(drill: Drill, agent: Agent, policy: dict[str, Any] = LESS) -> dict[str, Any]:
    """What is applied, after it was read and found to be less."""
    (params,) = drill.targets(agent, policy=policy)
    read = drill.done(params)
    assert read.evidence["verdict"] == "narrower", read.evidence["why"]
    (params,) = drill.targets(agent, policy=policy, apply=True, before=read.evidence["digest"])
    return dict(params)


def test_it_is_read_given_read_back_and_given_again(drill: Drill, kind: str) -> None:
    name, agent = made(drill, kind)
    before = names(drill, kind, name)
    params = wanted(drill, agent)
    assert names(drill, kind, name) == before, "reading changes nothing"
    assert drill.verify(params) is None
    done = drill.done(params, twice=True)
    assert done.evidence[kind] in (name, agent.aws.roles[0] if agent.aws and agent.aws.roles else name)
    assert names(drill, kind, name) == {POLICY, CUT}
    assert drill.verify(params) is not None
    assert isinstance(drill.run(params), Done)
    assert names(drill, kind, name) == {POLICY, CUT}


def test_more_the_same_and_what_changed_are_refused(drill: Drill, kind: str) -> None:
    name, agent = made(drill, kind)
    params = wanted(drill, agent)
    (wide,) = drill.targets(agent, policy={"Statement": [{"Effect": "Allow", "NotAction": "a:b", "Resource": "*"}]})
    assert drill.done(wide).evidence["verdict"] == "unclear"
    iam = drill.estate.account.iam
    put = iam.put_role_policy if kind == "role" else iam.put_user_policy
    put(name, "meanwhile", statement("sqs:*", "*"))
    outcome = drill.run(params)
    assert isinstance(outcome, Failed)
    assert "changed since this was approved" in outcome.why
    assert POLICY not in names(drill, kind, name)


def test_throttled_and_hanging_are_waited_out_and_a_refusal_is_said(drill: Drill, kind: str) -> None:
    name, agent = made(drill, kind)
    params = wanted(drill, agent)
    write = f"put_{kind}_policy"
    drill.estate.faults.add(write, REFUSED)
    assert isinstance(drill.run(params), Failed)
    drill.estate.faults.add(write, THROTTLED)
    drill.estate.faults.add(write, HANGING)
    assert isinstance(drill.run(params), Done)
    assert names(drill, kind, name) == {POLICY, CUT}


def test_one_that_is_gone_is_said(drill: Drill, kind: str) -> None:
    name, agent = made(drill, kind)
    params = wanted(drill, agent)
    absent = dict(params) | ({"user": fresh("nobody")} if kind == "user" else {"role": params.get("role", "") + "x"})
    outcome = drill.run(absent)
    assert isinstance(outcome, Failed)
    assert "gone" in outcome.why
    assert POLICY not in names(drill, kind, name)


def test_what_a_user_has_by_its_groups_stays_and_is_shown(drill: Drill) -> None:
    name, agent = made(drill, "user")
    drill.estate.add_group(fresh("group"), name, "of-all", statement("sqs:SendMessage", "*"), ADMIN)
    (params,) = drill.targets(agent, policy=LESS)
    read = drill.done(params)
    assert read.evidence["verdict"] == "same", "its group lets it do everything still"
    name, agent = made(drill, "user")
    drill.estate.add_group(fresh("group"), name, "of-all", statement("sqs:SendMessage", "*"))
    params = wanted(drill, agent)
    drill.done(params)
    assert names(drill, "user", name) == {POLICY, CUT}
    (params,) = drill.targets(agent, policy=LESS)
    assert "  allow sqs:sendmessage on *" in drill.done(params).evidence["diff"]


def test_which_one_is_meant_has_to_be_clear() -> None:
    one = Agent("a", aws=AwsIdentity(users=("u",), roles=("arn:aws:iam::123456789012:role/r",)))
    action, params = Reissue(), {"agent": "a", "policy": LESS}
    assert [each.id for each in action.targets(params, one)] == ["iam-role:arn:aws:iam::123456789012:role/r"]
    assert [each.id for each in action.targets({**params, "user": "u"}, one)] == ["iam-user:u"]
    for told, said in (({"user": "v"}, "user is one of u"), ({"user": "u", "role": "r"}, "not both")):
        with pytest.raises(ValueError, match=said):
            action.targets({**params, **told}, one)
    with pytest.raises(ValueError, match="user is one of u, v"):
        action.targets(params, Agent("a", aws=AwsIdentity(users=("u", "v"))))
