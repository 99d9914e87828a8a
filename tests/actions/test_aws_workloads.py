"""What is particular to functions, containers, secrets, databases, snapshots and the organization."""

from __future__ import annotations

from typing import Any

import pytest

from bot.actions import Action
from bot.actions.aws_ec2_share_snapshot import ShareSnapshot
from bot.actions.aws_ecs_stop import StopService
from bot.actions.aws_ecs_stop_task import StopTask
from bot.actions.aws_lambda_stop import StopFunction
from bot.actions.aws_rds_snapshot import TakeDatabaseSnapshot
from bot.actions.aws_scp_deny import DenyByOrganization
from bot.actions.aws_secret_deny import DenySecret
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.outcome import Done, Failed, Grade
from bot.sandbox.clock import SimClock
from tests.actions.aws_target import HANGING, REFUSED, THROTTLED, Drill
from tests.aws_estate import Estate, Simulated, fresh

ROLE = "arn:aws:iam::111111111111:role/agent"
AGENT = Agent("agent-7", aws=AwsIdentity(account="111111111111", roles=(ROLE,)))
OTHERS = "arn:aws:iam::111111111111:role/payroll"


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        (StopFunction(), {"function": "nowhere"}),
        (StopService(), {"service": "nowhere"}),
        (StopTask(), {"task": "0123456789abcdef0123456789abcdef"}),
        (ShareSnapshot(), {"instance": "i-0123456789abcdef0", "account": "210987654321"}),
    ],
    ids=lambda each: each.id if isinstance(each, Action) else "",
)
def test_what_is_not_there_is_not_taken_for_contained(aws_estate: Estate, action: Action, asked: dict[str, Any]):
    drill = Drill(aws_estate, action)
    (params,) = drill.targets(AGENT, **asked)
    outcome = drill.run(params)
    assert isinstance(outcome, Failed)
    assert drill.verify(params) is None


def test_what_runs_as_somebody_else_is_refused(clock: SimClock):
    estate = Simulated(clock)
    cluster, task = estate.add_task(OTHERS)
    service = estate.add_service(OTHERS)
    for action, asked in (
        (StopFunction(), {"function": estate.add_function(OTHERS)}),
        (StopService(), {"cluster": service, "service": service}),
        (StopTask(), {"cluster": cluster, "task": task}),
    ):
        drill = Drill(estate, action)
        (params,) = drill.targets(AGENT, **asked)
        outcome = drill.run(params)
        assert isinstance(outcome, Failed)
        assert "role/payroll, which is no role of agent-7" in outcome.why
        assert drill.verify(params) is None


def test_a_daemon_service_is_refused_with_another_way(clock: SimClock):
    estate = Simulated(clock)
    estate.sim.containers.add_service("c", "d", ROLE, daemon=True)
    drill = Drill(estate, StopService())
    (params,) = drill.targets(AGENT, cluster="c", service="d")
    outcome = drill.run(params)
    assert isinstance(outcome, Failed)
    assert "isolate its instances" in outcome.why


def test_a_stopped_function_takes_no_calls_and_gets_its_own_reservation_back(clock: SimClock):
    estate = Simulated(clock)
    name, drill = estate.add_function(ROLE), Drill(estate, StopFunction())
    estate.account.functions.set_concurrency(name, 5)
    where = f"arn:aws:lambda:us-east-1:111111111111:function:{name}:live"
    (params,) = drill.targets(AGENT, function=where)
    done = drill.done(params)
    assert not estate.sim.functions.runs(name)
    assert done.evidence["still_running"] == 3
    assert isinstance(drill.undo(params, done), Done)
    assert estate.account.functions.concurrency(name) == 5


def test_a_service_is_stopped_once_its_last_task_has_ended(clock: SimClock):
    estate = Simulated(clock)
    name, drill = estate.add_service(ROLE), Drill(estate, StopService())
    (params,) = drill.targets(AGENT, cluster=name, service=name)
    began = clock.now()
    assert drill.done(params).grade is Grade.CONFIG
    assert (clock.now() - began).total_seconds() >= 30


def test_a_secret_is_denied_to_the_agent_alone_and_its_policy_kept(clock: SimClock):
    estate = Simulated(clock)
    arn, secret = estate.add_role("agent"), estate.add_secret()
    estate.add_role("payroll")
    theirs = {"Sid": "Theirs", "Effect": "Allow", "Principal": {"AWS": OTHERS}, "Action": "*", "Resource": "*"}
    estate.account.secrets.set_policy(secret, {"Version": "2012-10-17", "Statement": [theirs]})
    drill = Drill(estate, DenySecret())
    (params,) = drill.targets(Agent("agent-7", aws=AwsIdentity(account=estate.id, roles=(arn,))), secret=secret)
    done = drill.done(params)
    agents, others = estate.sim.assume("agent"), estate.sim.assume("payroll")
    assert not estate.sim.attempt(agents, "secretsmanager:GetSecretValue", secret)
    assert estate.sim.attempt(others, "secretsmanager:GetSecretValue", secret)
    assert estate.sim.attempt(agents, "s3:GetObject")
    assert isinstance(drill.undo(params, done), Done)
    assert estate.account.secrets.policy(secret) == {"Version": "2012-10-17", "Statement": [theirs]}


def test_the_organization_denies_an_identity_center_role_and_users_under_a_path(clock: SimClock):
    estate = Simulated(clock)
    arn = estate.add_role("AWSReservedSSO_Admin_0123", path="/aws-reserved/sso.amazonaws.com/")
    session = estate.sim.assume("AWSReservedSSO_Admin_0123")
    drill = Drill(estate, DenyByOrganization())
    agent = Agent("agent-7", aws=AwsIdentity(account=estate.id, roles=(arn,), users=("bot",)))
    (params,) = drill.targets(agent, connection="aws")
    done = drill.done(params)
    assert estate.sim.decide(session, "s3:GetObject") == "explicitDeny"
    assert isinstance(drill.undo(params, done), Done)
    assert estate.sim.decide(session, "s3:GetObject") == "allowed"


def test_what_no_service_control_policy_reaches_is_refused(clock: SimClock):
    estate = Simulated(clock)
    drill = Drill(estate, DenyByOrganization())
    linked = "arn:aws:iam::111111111111:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
    managing = f"arn:aws:iam::{estate.sim.organization.management}:role/agent"
    for arn, said in ((linked, "stop what runs in that service"), (managing, "management account")):
        (params,) = drill.targets(Agent("agent-7", aws=AwsIdentity(roles=(arn,))), connection="aws")
        outcome = drill.run(params)
        assert isinstance(outcome, Failed)
        assert said in outcome.why


def test_a_database_is_kept_once_however_often_it_is_asked(aws_estate: Estate):
    id = aws_estate.add_database()
    drill = Drill(aws_estate, TakeDatabaseSnapshot())
    (params,) = drill.targets(None, database=id)
    assert drill.verify(params) is None
    aws_estate.faults.add("snapshots", THROTTLED)
    aws_estate.faults.add("take_snapshot", HANGING, after=True)
    done = drill.done(params, key="a.0/INC-7/1.0", twice=True)
    assert drill.done(params, key="a.0/INC-7/1.0").evidence == done.evidence
    ours = [each.id for each in aws_estate.account.databases.snapshots(id) if each.id.startswith("firedoor-")]
    assert ours == [done.evidence["snapshot"]]
    assert str(done.evidence["snapshot"]).startswith("firedoor-inc-7-")
    verified = drill.verify(params)
    assert verified is not None
    assert verified.evidence == done.evidence


def test_a_database_that_cannot_be_kept_is_said(clock: SimClock):
    estate = Simulated(clock)
    drill = Drill(estate, TakeDatabaseSnapshot())
    estate.sim.databases.add("member", cluster="aurora-1")
    for id, said in (("member", "cluster aurora-1"), ("nowhere", "knows no database")):
        (params,) = drill.targets(None, database=f"arn:aws:rds:us-east-1:111111111111:db:{id}")
        outcome = drill.run(params)
        assert isinstance(outcome, Failed)
        assert said in outcome.why
    estate.sim.databases.add("mine")
    estate.faults.add("take_snapshot", REFUSED)
    (params,) = drill.targets(None, database="mine")
    assert isinstance(drill.run(params), Failed)


def test_shared_snapshots_are_locked_too(clock: SimClock):
    """On the simulator alone: moto knows no lock_snapshot."""
    estate = Simulated(clock)
    made = estate.add_instance(volumes=2)
    taken = estate.account.ec2.snapshot_instance(made.id, {"firedoor:instance": made.id})
    drill = Drill(estate, ShareSnapshot())
    (params,) = drill.targets(None, instance=made.id, account="210987654321", lock_days=30)
    done = drill.done(params, twice=True)
    assert done.evidence["locked"] == 2
    assert estate.sim.ec2.locked == {each.id: 30 for each in taken}
    assert isinstance(drill.undo(params, done), Done)
    assert estate.sim.ec2.locked, "a lock stays until it is over"
    for wrong in ({"account": "1"}, {"account": "210987654321", "lock_days": -1}):
        with pytest.raises(ValueError, match=r"no AWS account|lock_days"):
            drill.targets(None, instance=made.id, **wrong)


def test_names_that_are_none_are_refused():
    for action, asked in (
        (StopFunction(), {"function": "a b"}),
        (StopTask(), {"task": "arn:aws:ecs:task"}),
        (DenySecret(), {"secret": fresh("s")}),
        (TakeDatabaseSnapshot(), {"database": "1"}),
    ):
        with pytest.raises(ValueError, match=r"is no "):
            action.targets({"agent": "agent-7", **asked}, AGENT)
