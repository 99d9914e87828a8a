"""Isolating instances and keeping their disks, on the simulator and through boto3 on moto."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bot.actions.aws_ec2_isolate import Isolate
from bot.actions.aws_ec2_snapshot import TakeSnapshot
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.outcome import Done, Failed, Grade, Pending, Skipped
from bot.errors import Rejected
from bot.sandbox.clock import SimClock
from tests.actions.aws_target import HANGING, REFUSED, THROTTLED, Drill
from tests.actions.driver import stage
from tests.aws_estate import Estate, Simulated, fresh

NOWHERE = "i-0123456789abcdef0"


@pytest.fixture
def isolate(aws_estate: Estate) -> Drill:
    return Drill(aws_estate, Isolate())


@pytest.fixture
def snapshot(aws_estate: Estate) -> Drill:
    return Drill(aws_estate, TakeSnapshot())


def target(drill: Drill, instance: str, **aws: Any) -> Mapping[str, Any]:
    """Of agent-7, whose `aws` section lists the instance unless it says something else."""
    agent = Agent("agent-7", aws=AwsIdentity(**(aws or {"instances": (instance,)})))
    (params,) = drill.targets(agent, instance=instance)
    return params


@pytest.mark.parametrize("action", [Isolate(), TakeSnapshot()])
def test_an_instance_is_named_by_id_or_arn_and_by_nothing_else(action):
    arn = f"arn:aws:ec2:eu-west-1:111111111111:instance/{NOWHERE}"
    bare = Agent("a")
    (by_id,) = action.targets({"agent": "a", "instance": NOWHERE}, bare)
    (by_arn,) = action.targets({"agent": "a", "instance": arn, "connection": "prod"}, bare)
    assert by_id.id == by_arn.id == f"ec2-instance:{NOWHERE}"
    assert (by_id.system, by_arn.system, by_arn.params["account"]) == ("aws", "prod", "111111111111")
    (of_agent,) = action.targets({"agent": "a", "instance": NOWHERE}, Agent("a", aws=AwsIdentity(connection="dev")))
    assert of_agent.system == "dev"
    for hostile in ("", "i-1; drop", "vol-0123456789abcdef0", f"{NOWHERE}\n"):
        with pytest.raises(ValueError, match="is no EC2 instance"):
            action.targets({"agent": "a", "instance": hostile}, bare)


@pytest.mark.parametrize("action", [Isolate(), TakeSnapshot()])
def test_an_instance_that_aws_does_not_know_is_no_success(clock: SimClock, action):
    drill = Drill(Simulated(clock), action)
    elsewhere = f"arn:aws:ec2:us-east-1:999999999999:instance/{NOWHERE}"
    for named, said in {NOWHERE: "another region", elsewhere: "account 999999999999"}.items():
        outcome = drill.run(target(drill, named))
        assert isinstance(outcome, Failed)
        assert said in outcome.why


# Isolation --------------------------------------------------------------------------------------------------------


def test_every_interface_is_isolated_read_back_and_released(isolate: Drill):
    before = isolate.estate.add_instance(interfaces=2)
    params = target(isolate, before.id)
    assert isolate.verify(params) is None
    done = isolate.done(params, twice=True)
    assert done.grade is Grade.CONFIG
    assert done.evidence["interfaces"] == sorted(before.interfaces)
    assert "tracked connections may live on" in done.evidence["effect"]
    verified = isolate.verify(params)
    assert verified is not None
    assert verified.evidence == done.evidence
    second = isolate.done(params, key="test.0/INC-8/3.0")
    assert second.undo != done.undo, "the second incident found it isolated: the engine keeps the first undo"
    for _ in range(2):
        assert isinstance(isolate.undo(params, done), Done)
    assert isolate.estate.account.ec2.instance(before.id) == before
    assert isolate.verify(params) is None


def test_a_group_that_got_a_rule_isolates_nothing(clock: SimClock):
    estate = Simulated(clock)
    drill = Drill(estate, Isolate())
    instance = estate.add_instance()
    params = target(drill, instance.id)
    assert estate.sim.ec2.takes_new_flows(instance.id)
    group = drill.done(params).evidence["group"]
    assert not estate.sim.ec2.takes_new_flows(instance.id)
    estate.sim.ec2.rules[group] = (1, 0)
    assert drill.verify(params) is None
    drill.done(params)
    assert not estate.sim.ec2.takes_new_flows(instance.id)


def test_isolating_through_trouble(isolate: Drill):
    before = isolate.estate.add_instance(interfaces=2)
    params = target(isolate, before.id)
    isolate.estate.faults.add("instance", THROTTLED, times=2)
    isolate.estate.faults.add("set_interface_groups", HANGING, after=True)
    done = isolate.done(params)
    assert done.undo == {"groups": {each: list(groups) for each, groups in before.interfaces.items()}}


def test_refused_everywhere_is_failed_and_half_done_is_unverified_with_its_undo(isolate: Drill):
    before = isolate.estate.add_instance(interfaces=2)
    params = target(isolate, before.id)
    isolate.estate.faults.add("set_interface_groups", REFUSED, times=2)
    assert isinstance(isolate.run(params), Failed)
    assert isolate.estate.account.ec2.instance(before.id) == before
    saved = isolate.action.run(params, isolate.ports, key=isolate.key)
    assert isinstance(saved, Pending)
    isolate.estate.faults.add("set_interface_groups", Rejected("aws", "no"))
    half = stage(isolate.action, params, isolate.ports, key=isolate.key, so_far=saved.so_far)
    assert isinstance(half, Pending)
    assert isolate.verify(params) is None
    isolate.estate.clock.forward(minutes=2)
    isolate.estate.faults.add("set_interface_groups", Rejected("aws", "no"))
    given_up = stage(isolate.action, params, isolate.ports, key=isolate.key, so_far=half.so_far)
    assert isinstance(given_up, Done)
    assert (given_up.grade, given_up.evidence["why"]) == (Grade.UNVERIFIED, "aws: no")
    assert isinstance(isolate.undo(params, given_up), Done)
    assert isolate.estate.account.ec2.instance(before.id) == before


AGENTS = "arn:aws:iam::123456789012:instance-profile/agent-7"
OTHERS = "arn:aws:iam::123456789012:instance-profile/payroll"


@pytest.mark.parametrize(
    ("known", "its_own"),
    [
        ({"instance_tags": (("agent", "agent-7"),)}, True),
        ({"instance_tags": (("agent", "agent-7"), ("env", "prod"))}, True),
        ({"instance_tags": (("agent", "agent-7"), ("env", "test"))}, False),
        ({"instance_tags": (("agent", "agent-9"),)}, False),
        ({"instance_profiles": (OTHERS, AGENTS)}, True),
        ({"instance_profiles": (OTHERS,)}, False),
        ({"instances": (NOWHERE,)}, False),
        ({"region": "us-east-1"}, False),
    ],
)
def test_only_an_instance_of_the_agent_is_isolated(clock: SimClock, known: dict[str, Any], its_own: bool):
    estate = Simulated(clock)
    drill = Drill(estate, Isolate())
    before = estate.sim.ec2.add_instance(tags={"agent": "agent-7", "env": "prod"}, profile_arn=AGENTS)
    params = target(drill, before.id, **known)
    if its_own:
        assert drill.done(params).grade is Grade.CONFIG
        assert not estate.sim.ec2.takes_new_flows(before.id)
        return
    why = f"{before.id} is not known to belong to agent-7: add it to agents.yaml, or isolate it by hand"
    assert drill.run(params) == Failed(retryable=False, why=why)
    assert estate.account.ec2.instance(before.id) == before


def test_an_instance_without_profile_is_nobodys(clock: SimClock):
    drill = Drill(Simulated(clock), Isolate())
    instance = drill.estate.add_instance()
    assert isinstance(drill.run(target(drill, instance.id, instance_profiles=(AGENTS,))), Failed)


def test_the_instances_of_an_unknown_agent_are_not_known():
    for agent in (None, Agent("agent-9")):
        with pytest.raises(ValueError, match="agent agent-7 is not enrolled"):
            Isolate().targets({"agent": "agent-7", "instance": NOWHERE}, agent)


def test_what_was_isolated_is_released_although_it_is_no_longer_listed(isolate: Drill):
    before = isolate.estate.add_instance()
    done = isolate.done(target(isolate, before.id))
    assert isinstance(isolate.undo(target(isolate, before.id, region="us-east-1"), done), Done)
    assert isolate.estate.account.ec2.instance(before.id) == before


def test_a_terminated_instance_talks_to_nobody(isolate: Drill):
    instance = isolate.estate.add_instance()
    params = target(isolate, instance.id)
    isolate.estate.terminate(instance.id)
    assert isolate.done(params).nothing_held
    assert isolate.verify(params) is not None


def test_a_protected_instance_is_left_alone(isolate: Drill):
    instance = isolate.estate.add_instance()
    isolate.untouchable[f"ec2-instance:{instance.id}"] = "it runs the bot"
    assert isolate.run(target(isolate, instance.id)) == Skipped("it runs the bot")


# Snapshots --------------------------------------------------------------------------------------------------------


def test_snapshots_are_taken_once_and_waited_for(snapshot: Drill):
    instance = snapshot.estate.add_instance(volumes=2)
    params = target(snapshot, instance.id)
    assert snapshot.verify(params) is None
    done = snapshot.done(params, twice=True)
    assert (done.grade, done.undo) == (Grade.CONFIG, None)
    assert done.evidence["volumes"] == sorted(instance.volumes)
    assert len(done.evidence["snapshots"]) == 2, "one a volume, although each stage ran twice"
    assert snapshot.done(params).evidence == done.evidence, "the same decision finds its own"
    assert snapshot.done(params, key=f"test.0/INC-8/{fresh('d')}").evidence != done.evidence
    tagged = snapshot.estate.account.ec2.snapshots_tagged("firedoor:incident", "INC-8")
    assert {each.volume for each in tagged} >= set(instance.volumes)
    assert snapshot.verify(params) is not None


def test_a_snapshot_call_without_an_answer_is_looked_for_before_it_is_repeated(snapshot: Drill):
    instance = snapshot.estate.add_instance()
    params = target(snapshot, instance.id)
    snapshot.estate.faults.add("snapshot_instance", HANGING, after=True)
    assert len(snapshot.done(params).evidence["snapshots"]) == 1
    assert len(snapshot.estate.account.ec2.snapshots_tagged("firedoor:instance", instance.id)) == 1


def test_a_process_that_stood_still_looks_again_before_it_takes_snapshots(clock: SimClock):
    estate = Simulated(clock)
    instance = estate.add_instance()
    snapshot, key = Drill(estate, TakeSnapshot()), f"test.0/INC-9/{fresh('d')}"
    params, describe = target(snapshot, instance.id), estate.account.ec2.instance

    def asleep(*args: Any) -> Any:
        estate.account.ec2.instance = describe
        snapshot.done(params, key=key)  # by the peer that took over
        clock.forward(seconds=10)
        return describe(*args)

    estate.account.ec2.instance = asleep
    assert len(snapshot.done(params, key=key).evidence["snapshots"]) == 1
    assert len(estate.account.ec2.snapshots_tagged("firedoor:instance", instance.id)) == 1


def test_snapshots_through_trouble(snapshot: Drill):
    instance = snapshot.estate.add_instance()
    params = target(snapshot, instance.id)
    snapshot.estate.faults.add("snapshots_tagged", THROTTLED)
    snapshot.estate.faults.add("snapshot_instance", THROTTLED)
    snapshot.done(params)
    snapshot.estate.faults.add("snapshot_instance", REFUSED)
    assert isinstance(snapshot.run(params, key=f"test.0/INC-9/{fresh('d')}"), Failed)


def test_nothing_is_left_of_a_terminated_instance(snapshot: Drill):
    instance = snapshot.estate.add_instance()
    snapshot.estate.terminate(instance.id)
    assert snapshot.done(target(snapshot, instance.id)).nothing_held


def test_snapshots_that_were_deleted_meanwhile_are_not_taken_again(clock: SimClock, monkeypatch):
    drill = Drill(Simulated(clock), TakeSnapshot())
    params = target(drill, drill.estate.add_instance().id)
    begun = stage(drill.action, params, drill.ports, key=drill.key)
    assert isinstance(begun, Pending)
    monkeypatch.setattr(drill.estate.account.ec2, "snapshots_tagged", lambda _key, _value: ())
    waiting = stage(drill.action, params, drill.ports, key=drill.key, so_far=begun.so_far)
    assert isinstance(waiting, Pending)
    clock.forward(minutes=3)
    outcome = stage(drill.action, params, drill.ports, key=drill.key, so_far=waiting.so_far)
    assert isinstance(outcome, Failed)
    assert begun.so_far["snapshots"][0] in outcome.why
