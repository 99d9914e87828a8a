"""What is particular to the controls of instances."""

from __future__ import annotations

import pytest

from bot.actions.aws_asg_standby import Standby
from bot.actions.aws_ec2_cut_flows import CutFlows
from bot.actions.aws_ec2_detach_profile import DetachProfile
from bot.actions.aws_ec2_disable_imds import DisableImds
from bot.actions.aws_ec2_isolate import Isolate
from bot.actions.aws_ec2_preserve import Preserve
from bot.actions.aws_switch import OfInstance
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.outcome import Done, Failed
from bot.sandbox.clock import SimClock
from tests.actions.aws_target import Drill
from tests.aws_estate import Estate, Simulated

ALL: list[OfInstance] = [Standby(), CutFlows(), DetachProfile(), DisableImds(), Preserve()]


def of(*instances: str) -> Agent:
    return Agent("agent-7", aws=AwsIdentity(instances=instances))


@pytest.mark.parametrize("action", ALL, ids=lambda action: action.id)
def test_an_instance_of_nobody_knows_whom_is_refused(clock: SimClock, action: OfInstance):
    drill = Drill(Simulated(clock), action)
    made = drill.estate.add_instance().id
    drill.estate.give_profile(made)
    (params,) = drill.targets(of("i-0123456789abcdef0"), instance=made)
    outcome = drill.run(params)
    assert isinstance(outcome, Failed)
    assert "is not known to belong to agent-7" in outcome.why
    assert drill.verify(params) is None


def test_a_subnet_is_not_cut_off_before_somebody_said_that_it_is_meant(aws_estate: Estate):
    drill, made = Drill(aws_estate, CutFlows()), aws_estate.add_instance(interfaces=2)
    (params,) = drill.targets(of(made.id), instance=made.id, whole_subnet="yes, true")
    outcome = drill.run(params)
    assert isinstance(outcome, Failed)
    assert "(2 interfaces)" in outcome.why
    assert "whole_subnet: true" in outcome.why
    assert drill.verify(params) is None


def test_an_isolated_instance_keeps_its_live_flows_until_they_are_cut(clock: SimClock):
    estate = Simulated(clock)
    made, neighbour = estate.add_instance(), estate.add_instance()
    isolate, cut = Drill(estate, Isolate()), Drill(estate, CutFlows())
    (params,) = isolate.targets(of(made.id), instance=made.id)
    isolate.done(params)
    assert not estate.sim.ec2.takes_new_flows(made.id)
    assert estate.sim.ec2.keeps_live_flows(made.id)
    (params,) = cut.targets(of(made.id), instance=made.id, whole_subnet=True)
    done = cut.done(params)
    assert done.evidence["interfaces"] == 2, "the neighbour's too"
    assert not estate.sim.ec2.keeps_live_flows(neighbour.id)
    assert isinstance(cut.undo(params, done), Done)
    assert estate.sim.ec2.keeps_live_flows(made.id)


def test_what_somebody_else_did_meanwhile_is_left(aws_estate: Estate):
    made = aws_estate.add_instance()
    aws_estate.give_profile(made.id)
    drill = Drill(aws_estate, DetachProfile())
    (params,) = drill.targets(of(made.id), instance=made.id)
    done = drill.done(params)
    theirs = aws_estate.give_profile(made.id)
    outcome = drill.undo(params, done)
    assert isinstance(outcome, Failed)
    assert theirs in outcome.why
    assert aws_estate.account.ec2.profile(made.id) == theirs


def test_an_instance_in_no_group_needs_no_standby(aws_estate: Estate):
    drill, made = Drill(aws_estate, Standby()), aws_estate.add_instance()
    (params,) = drill.targets(of(made.id), instance=made.id)
    assert "in no Auto Scaling group" in drill.done(params).nothing_held


def test_a_group_at_its_minimum_says_no_unless_another_may_start(clock: SimClock):
    estate = Simulated(clock)
    drill, made = Drill(estate, Standby()), estate.add_instance()
    estate.sim.scaling.add("agents", made.id, least=1)
    (params,) = drill.targets(of(made.id), instance=made.id)
    outcome = drill.run(params)
    assert isinstance(outcome, Failed)
    assert "minimum" in outcome.why
    (params,) = drill.targets(of(made.id), instance=made.id, replace=True)
    assert drill.done(params).evidence["lifecycle"] == "Standby"
    assert estate.sim.scaling.groups["agents"] == (1, 1)
