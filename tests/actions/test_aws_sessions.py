"""What is particular to closing roles and ending sessions: what the simulated account then refuses."""

from __future__ import annotations

import pytest

from bot.actions.aws_iam_boundary import Boundary
from bot.actions.aws_iam_revoke_session import POLICY, RevokeSession
from bot.actions.aws_iam_stop_reassume import StopReassume
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.outcome import Done, Failed
from bot.errors import Rejected
from bot.sandbox.clock import SimClock
from tests.actions.aws_target import Drill
from tests.aws_estate import Estate, Simulated, fresh

ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"


def of_role(*arns: str) -> Agent:
    return Agent("agent-7", aws=AwsIdentity(roles=arns))


def test_a_closed_role_is_assumed_by_nobody_and_its_sessions_go_on(clock: SimClock):
    estate = Simulated(clock)
    drill = Drill(estate, StopReassume())
    (params,) = drill.targets(of_role(estate.add_role("agent")))
    old = estate.sim.assume("agent")
    done = drill.done(params)
    with pytest.raises(Rejected, match="AssumeRole"):
        estate.sim.assume("agent")
    assert estate.sim.attempt(old, "s3:GetObject")
    assert isinstance(drill.undo(params, done), Done)
    assert estate.sim.attempt(estate.sim.assume("agent"), "s3:GetObject")


def test_a_trust_policy_that_somebody_changed_meanwhile_is_left_alone(aws_estate: Estate):
    drill, name = Drill(aws_estate, StopReassume()), fresh("x")
    (params,) = drill.targets(of_role(aws_estate.add_role(name)))
    done = drill.done(params)
    theirs = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
    }
    aws_estate.account.iam.set_trust(name, theirs)
    assert drill.verify(params) is None
    outcome = drill.undo(params, done)
    assert isinstance(outcome, Failed)
    assert "by hand" in outcome.why
    role = aws_estate.account.iam.get_role(name)
    assert role is not None
    assert role.trust == theirs


def test_one_session_is_ended_and_no_other(clock: SimClock):
    estate = Simulated(clock)
    drill = Drill(estate, RevokeSession())
    agent = of_role(estate.add_role("agent"))
    one, two, other = (estate.sim.assume("agent", name) for name in ("one", "two", "other"))
    clock.forward(seconds=1)
    (first,) = drill.targets(agent, session=f"arn:aws:sts::{estate.id}:assumed-role/agent/one")
    (second,) = drill.targets(agent, session=two.userid)
    done = [drill.done(first), drill.done(second)]
    assert [estate.sim.attempt(each, "s3:GetObject") for each in (one, two, other)] == [False, False, True]
    assert isinstance(drill.undo(first, done[0]), Done)
    assert [estate.sim.attempt(each, "s3:GetObject") for each in (one, two, other)] == [True, False, True]
    assert isinstance(drill.undo(second, done[1]), Done)
    assert estate.account.iam.get_role_policy("agent", POLICY) is None
    clock.forward(seconds=60)
    drill.done(first)
    clock.forward(seconds=31)
    assert estate.sim.attempt(estate.sim.assume("agent", "one"), "s3:GetObject"), (
        "assumed anew it works: as the help says"
    )


def test_a_session_of_another_role_is_not_guessed_at(clock: SimClock):
    drill = Drill(Simulated(clock), RevokeSession())
    agent = of_role(drill.estate.add_role("agent"))
    with pytest.raises(ValueError, match="none of this agent's roles"):
        drill.targets(agent, session=f"arn:aws:sts::{drill.estate.id}:assumed-role/else/one")
    for wrong in ("", "a b", "arn:aws:iam::111111111111:role/agent"):
        with pytest.raises(ValueError, match="names no session"):
            drill.targets(agent, session=wrong)
    (params,) = drill.targets(agent, session="AROA00000000000000999:one")
    assert drill.done(params).nothing_held


def test_a_bound_role_can_do_nothing_and_gets_its_old_boundary_back(clock: SimClock):
    estate = Simulated(clock)
    drill = Drill(estate, Boundary())
    (params,) = drill.targets(of_role(estate.add_role("agent")))
    estate.account.iam.set_boundary("agent", ADMIN)
    session = estate.sim.assume("agent")
    assert estate.sim.attempt(session, "s3:GetObject")
    done = drill.done(params)
    assert estate.sim.decide(session, "s3:GetObject") == "explicitDeny"
    assert isinstance(drill.undo(params, done), Done)
    assert estate.sim.iam.role("agent").boundary == ADMIN
    assert estate.sim.attempt(session, "s3:GetObject")
