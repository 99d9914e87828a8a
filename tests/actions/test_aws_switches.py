"""What every aws.* action of the usual shape keeps, on the simulator and through boto3 on moto."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from bot.actions.aws_asg_standby import Standby
from bot.actions.aws_ec2_cut_flows import CutFlows
from bot.actions.aws_ec2_detach_profile import DetachProfile
from bot.actions.aws_ec2_disable_imds import DisableImds
from bot.actions.aws_ec2_preserve import Preserve
from bot.actions.aws_ec2_share_snapshot import ShareSnapshot
from bot.actions.aws_ecs_stop import StopService
from bot.actions.aws_ecs_stop_task import StopTask
from bot.actions.aws_iam_boundary import Boundary
from bot.actions.aws_iam_delete_console import DeleteConsole
from bot.actions.aws_iam_revoke_session import RevokeSession
from bot.actions.aws_iam_revoke_user_sessions import RevokeUserSessions
from bot.actions.aws_iam_stop_reassume import StopReassume
from bot.actions.aws_lambda_stop import StopFunction
from bot.actions.aws_scp_deny import DenyByOrganization
from bot.actions.aws_secret_deny import DenySecret
from bot.actions.aws_switch import OfInstance, Switch
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.outcome import Done, Failed, Grade, Skipped
from bot.sandbox.clock import SimClock
from tests.actions.aws_target import HANGING, REFUSED, THROTTLED, Drill
from tests.aws_estate import Estate, Simulated, fresh

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}
SECRET = "arn:aws:secretsmanager:us-east-1:111111111111:secret:s-AbCdEf"
OTHER = {"account": "210987654321"}
Prepared = tuple[Agent, str]  # the agent, and what `gone` takes away


@dataclass(frozen=True)
class Case:
    action: Switch
    prepare: Callable[[Estate, str], Prepared]
    read: str  # a method that reads, and the one that changes
    write: str
    gone: Callable[[Estate, str], None] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    named: str = ""  # the parameter that names what was prepared

    def __str__(self) -> str:
        return self.action.id


def role(estate: Estate, name: str) -> Prepared:
    arn = estate.add_role(name)
    estate.account.iam.set_trust(name, TRUST)
    return Agent("agent-7", aws=AwsIdentity(account=estate.id, roles=(arn,))), name


def user(estate: Estate, name: str) -> Prepared:
    estate.add_user(name)
    estate.add_console(name)
    return Agent("agent-7", aws=AwsIdentity(account=estate.id, users=(name,))), name


def drop_role(estate: Estate, name: str) -> None:
    estate.drop_role(name)


def drop_user(estate: Estate, name: str) -> None:
    if estate.account.iam.has_console(name):
        estate.account.iam.delete_console(name)
    estate.drop_user(name)


def instance(estate: Estate, name: str) -> Prepared:  # noqa: ARG001 - it gets an id
    made = estate.add_instance(interfaces=2)
    estate.give_profile(made.id)
    return Agent("agent-7", aws=AwsIdentity(account=estate.id, instances=(made.id,))), made.id


def grouped(estate: Estate, name: str) -> Prepared:
    agent, made = instance(estate, name)
    estate.join_group(made)
    return agent, made


def function(estate: Estate, name: str) -> Prepared:
    agent, _ = role(estate, name)
    return agent, estate.add_function(agent.aws.roles[0] if agent.aws else "")


def service(estate: Estate, name: str) -> Prepared:
    agent, _ = role(estate, name)
    return agent, estate.add_service(agent.aws.roles[0] if agent.aws else "")


def task(estate: Estate, name: str) -> Prepared:
    agent, _ = role(estate, name)
    return agent, "/".join(estate.add_task(agent.aws.roles[0] if agent.aws else ""))


def secret(estate: Estate, name: str) -> Prepared:
    aws = AwsIdentity(account=estate.id, roles=(f"arn:aws:iam::{estate.id}:role/{name}",), users=(name,))
    return Agent("agent-7", aws=aws), estate.add_secret()


def member(estate: Estate, name: str) -> Prepared:
    owner = estate.member()
    return Agent("agent-7", aws=AwsIdentity(account=owner, roles=(f"arn:aws:iam::{owner}:role/{name}",))), owner


def snapshots(estate: Estate, name: str) -> Prepared:
    agent, made = instance(estate, name)
    estate.account.ec2.snapshot_instance(made, {"firedoor:instance": made})
    return agent, made


def drop_secret(estate: Estate, name: str) -> None:
    estate.drop_secret(name)


def terminate(estate: Estate, name: str) -> None:
    estate.terminate(name)


CASES = [
    Case(StopReassume(), role, "get_role", "set_trust", drop_role),
    Case(RevokeSession(), role, "get_role_policy", "put_role_policy", drop_role, {"session": "worker-3"}),
    Case(RevokeUserSessions(), user, "get_user_policy", "put_user_policy", drop_user),
    Case(DeleteConsole(), user, "has_console", "delete_console", drop_user),
    Case(Boundary(), role, "get_role", "set_boundary", drop_role),
    Case(DetachProfile(), instance, "profile", "set_profile", terminate),
    Case(DisableImds(), instance, "metadata", "set_metadata", terminate),
    Case(Preserve(), instance, "preservation", "set_preservation", terminate),
    Case(Standby(), grouped, "membership", "enter_standby", terminate),
    Case(CutFlows(), instance, "network_acls", "set_network_acl", terminate, {"whole_subnet": True}),
    Case(StopFunction(), function, "concurrency", "set_concurrency", named="function"),
    Case(StopService(), service, "service", "set_desired", named="service"),
    Case(StopTask(), task, "task", "stop_task", named="task"),
    Case(DenySecret(), secret, "policy", "set_policy", drop_secret, named="secret"),
    Case(ShareSnapshot(), snapshots, "snapshot_shares", "share_snapshot", named="instance", params=OTHER),
    Case(DenyByOrganization(), member, "policy", "put_policy", params={"connection": "aws"}),
]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@dataclass
class Ready:
    drill: Drill
    params: Mapping[str, Any]
    name: str


@pytest.fixture
def ready(case: Case, aws_estate: Estate) -> Ready:
    return prepared(case, aws_estate)


def prepared(case: Case, estate: Estate) -> Ready:
    agent, name = case.prepare(estate, fresh("x"))
    drill = Drill(estate, case.action)
    asked: dict[str, Any] = {**case.params}
    if case.named or isinstance(case.action, OfInstance):
        asked[case.named or "instance"] = name
    if case.named in ("task", "service"):
        asked["cluster"], _, asked[case.named] = name.rpartition("/") if "/" in name else (name, "", name)
    (params,) = drill.targets(agent, **asked)
    return Ready(drill, params, name)


def test_it_is_done_read_back_repeated_and_given_back(case: Case, ready: Ready):
    drill, params, account = ready.drill, ready.params, ready.drill.estate.account
    assert drill.verify(params) is None
    before = case.action.state(params, account)
    done = drill.done(params, twice=True)
    assert done.grade is Grade.CONFIG
    assert not done.nothing_held
    verified = drill.verify(params)
    assert verified is not None
    assert verified.evidence.items() <= done.evidence.items()
    again = drill.done(params, key="test.0/INC-8/3.0")  # another incident
    assert again.grade is Grade.CONFIG
    if not case.action.undoable:
        return
    assert done.undo == {"before": before}
    assert isinstance(drill.undo(params, again), Done)
    assert drill.verify(params) is not None, "it was so before that incident"
    for _ in range(2):
        assert isinstance(drill.undo(params, done), Done)
        assert case.action.state(params, account) == before
    assert drill.verify(params) is None


def test_trouble_is_waited_out_and_a_refusal_is_said(case: Case, ready: Ready):
    drill, params = ready.drill, ready.params
    before = case.action.state(params, drill.estate.account)
    drill.estate.faults.add(case.write, REFUSED)
    refused = drill.run(params)
    assert isinstance(refused, Failed)
    assert not refused.retryable
    assert drill.verify(params) is None
    drill.estate.faults.add(case.read, THROTTLED, times=3)
    drill.estate.faults.add(case.write, HANGING)  # once before it took effect, once after
    drill.estate.faults.add(case.write, HANGING, after=True)
    done = drill.done(params)
    assert done.grade is Grade.CONFIG
    if case.action.undoable:
        assert done.undo == {"before": before}, "what hung was carried out, and is not taken for what was there before"


def test_what_is_gone_holds_nothing(case: Case, ready: Ready):
    if case.gone is None:  # what is not there may be elsewhere: see test_what_is_not_there_is_not_taken_for_contained
        return
    case.gone(ready.drill.estate, ready.name)
    assert ready.drill.done(ready.params).nothing_held


def test_what_is_protected_is_left_alone(case: Case, clock: SimClock):
    ready = prepared(case, Simulated(clock))
    ready.drill.untouchable |= dict.fromkeys(("agent-7", ready.name), "runs the plant")
    assert ready.drill.run(ready.params) == Skipped("runs the plant")
    assert ready.drill.verify(ready.params) is None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nothing_of_an_agent_without_aws(case: Case):
    asked = {"agent": "a", "instance": "i-0123456789abcdef0", **case.params}
    asked |= {"function": "f", "service": "s", "task": "t", "secret": SECRET}
    if isinstance(case.action, ShareSnapshot):
        return  # bound to no agent
    with pytest.raises(ValueError, match="agent"):
        case.action.targets(asked, None)
    if not isinstance(case.action, OfInstance):
        assert case.action.targets(asked, Agent("a")) == ()
