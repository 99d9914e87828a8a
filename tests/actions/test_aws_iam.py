"""Cutting an agent's roles, users and keys off, on the simulator and through boto3 on moto."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from bot.actions.aws_iam_boundary import Boundary
from bot.actions.aws_iam_deny_all import DenyAll
from bot.actions.aws_iam_disable_key import DisableKey
from bot.actions.aws_iam_revoke_sessions import POLICY, RevokeSessions
from bot.actions.aws_iam_stop_reassume import StopReassume
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.outcome import Done, Failed, Grade, Skipped
from bot.sandbox.clock import SimClock
from tests.actions.aws_target import HANGING, REFUSED, THROTTLED, Drill
from tests.aws_estate import Estate, Simulated, fresh

DENY_ALL = "arn:aws:iam::aws:policy/AWSDenyAll"


@pytest.fixture
def name() -> str:
    return fresh("agent")


@pytest.fixture
def sessions(aws_estate: Estate) -> Drill:
    return Drill(aws_estate, RevokeSessions())


@pytest.fixture
def deny(aws_estate: Estate) -> Drill:
    return Drill(aws_estate, DenyAll())


@pytest.fixture
def keys(aws_estate: Estate) -> Drill:
    return Drill(aws_estate, DisableKey())


def of_role(*arns: str) -> Agent:
    return Agent("agent-7", aws=AwsIdentity(roles=arns))


def of_user(estate: Estate, user: str, *keys: str) -> Agent:
    return Agent("agent-7", aws=AwsIdentity(account=estate.id, users=(user,), access_keys=keys))


# What the three have in common ------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [RevokeSessions(), DenyAll(), DisableKey()])
def test_an_agent_without_aws_holds_nothing_and_an_unknown_one_cannot_be_judged(action):
    assert action.targets({"agent": "a"}, Agent("a")) == ()
    assert action.targets({"agent": "a"}, Agent("a", aws=AwsIdentity())) == ()
    with pytest.raises(ValueError, match="no agent 'a'"):
        action.targets({"agent": "a"}, None)


@pytest.mark.parametrize(
    ("path", "name", "said"),
    [
        ("/aws-service-role/ecs.amazonaws.com/", "AWSServiceRoleForECS", "stop what runs in that service"),
        ("/aws-reserved/sso.amazonaws.com/", "AWSReservedSSO_Admin_0123", "aws.scp_deny"),
    ],
)
@pytest.mark.parametrize("action", [RevokeSessions(), DenyAll(), StopReassume(), Boundary()])
def test_a_role_that_iam_cannot_change_is_refused_with_another_way(
    clock: SimClock, action, path: str, name: str, said: str
):
    drill = Drill(Simulated(clock), action)
    (params,) = drill.targets(of_role(drill.estate.add_role(name, path=path)))
    outcome = drill.run(params)
    assert isinstance(outcome, Failed)
    assert not outcome.retryable
    assert said in outcome.why


@pytest.mark.parametrize("action", [RevokeSessions(), DenyAll()])
def test_a_role_of_another_account_or_path_is_not_taken_for_deleted(clock: SimClock, action):
    drill = Drill(Simulated(clock), action)
    drill.estate.add_role("agent", path="/real/")
    for arn, said in {
        "arn:aws:iam::999999999999:role/agent": "account 999999999999",
        f"arn:aws:iam::{drill.estate.id}:role/agent": "agents.yaml says",
    }.items():
        (params,) = drill.targets(of_role(arn))
        outcome = drill.run(params)
        assert isinstance(outcome, Failed)
        assert said in outcome.why
    with pytest.raises(ValueError, match="no ARN of a role"):
        drill.targets(of_role("agent"))


# Sessions ---------------------------------------------------------------------------------------------------------


def test_sessions_are_revoked_read_back_and_released(sessions: Drill, name: str):
    (params,) = sessions.targets(of_role(sessions.estate.add_role(name)))
    before = sessions.estate.account.iam.server_time()
    assert sessions.verify(params) is None
    done = sessions.done(params)
    assert done.grade is Grade.CONFIG
    cutoff = datetime.fromisoformat(done.evidence["cutoff"])
    assert timedelta(seconds=30) <= cutoff - before <= timedelta(seconds=60)
    assert datetime.fromisoformat(done.evidence["alive_until"]) - cutoff == timedelta(seconds=270)
    again = sessions.verify(params)
    assert again is not None
    assert again.evidence == done.evidence
    for _ in range(2):
        assert isinstance(sessions.undo(params, done), Done)
        assert sessions.estate.account.iam.get_role_policy(name, POLICY) is None
    assert sessions.verify(params) is None


def test_revoking_again_moves_the_cutoff_on_and_the_first_undo_still_restores(sessions: Drill, name: str):
    iam = sessions.estate.account.iam
    (params,) = sessions.targets(of_role(sessions.estate.add_role(name)))
    first = sessions.done(params, twice=True)
    sessions.estate.clock.forward(minutes=2)
    second = sessions.done(params, key="test.0/INC-8/3.0")
    assert second.evidence["cutoff"] >= first.evidence["cutoff"]
    assert second.undo is not None
    assert second.undo["before"]["Statement"][0]["Effect"] == "Deny"
    assert isinstance(sessions.undo(params, first), Done)
    assert iam.get_role_policy(name, POLICY) is None


def test_a_policy_of_that_name_that_denies_less_is_no_proof(sessions: Drill, name: str):
    iam = sessions.estate.account.iam
    (params,) = sessions.targets(of_role(sessions.estate.add_role(name)))
    older = {"DateLessThan": {"aws:TokenIssueTime": "2026-01-01T00:00:00Z"}}
    statement = {"Effect": "Deny", "Action": ["s3:*"], "Resource": ["*"], "Condition": older}
    for weak in (statement, statement | {"Action": ["*"], "Condition": {"Null": {"aws:TokenIssueTime": "false"}}}):
        iam.put_role_policy(name, POLICY, {"Version": "2012-10-17", "Statement": [weak]})
        assert sessions.verify(params) is None
    done = sessions.done(params)
    assert isinstance(sessions.undo(params, done), Done)
    assert iam.get_role_policy(name, POLICY) == {"Version": "2012-10-17", "Statement": [weak]}


def test_revoking_through_trouble(sessions: Drill, name: str):
    (params,) = sessions.targets(of_role(sessions.estate.add_role(name)))
    sessions.estate.faults.add("get_role_policy", THROTTLED, times=3)
    sessions.estate.faults.add("put_role_policy", HANGING, after=True)
    done = sessions.done(params)
    assert done.undo == {"before": None}, "what hung was carried out, and is not taken for what was there before"
    sessions.estate.faults.add("put_role_policy", REFUSED)
    outcome = sessions.run(params)
    assert isinstance(outcome, Failed)
    assert not outcome.retryable


def test_a_deleted_role_has_no_sessions(sessions: Drill, name: str):
    (params,) = sessions.targets(of_role(sessions.estate.add_role(name)))
    sessions.estate.drop_role(name)
    assert sessions.done(params).nothing_held


def test_the_protected_list_outranks_the_playbook(sessions: Drill, name: str):
    arn = sessions.estate.add_role(name)
    (params,) = sessions.targets(of_role(arn))
    sessions.untouchable[f"iam-role:{arn}"] = "the bot's own role"
    assert sessions.run(params) == Skipped("the bot's own role")
    assert sessions.verify(params) is None


def test_the_simulated_estate_refuses_older_sessions_only(clock: SimClock):
    estate = Simulated(clock)
    drill = Drill(estate, RevokeSessions())
    (params,) = drill.targets(of_role(estate.add_role("agent")))
    old = estate.sim.assume("agent")
    clock.forward(seconds=5)
    done = drill.done(params)
    assert not estate.sim.attempt(old, "s3:GetObject")
    clock.forward(seconds=31)
    assert estate.sim.attempt(estate.sim.assume("agent"), "s3:GetObject")
    assert isinstance(drill.undo(params, done), Done)
    assert estate.sim.attempt(old, "s3:GetObject")


# Everything -------------------------------------------------------------------------------------------------------


def test_roles_and_users_are_denied_everything_and_released(deny: Drill, name: str):
    estate = deny.estate
    arn = estate.add_role(name)
    estate.add_user(name)
    agent = Agent("agent-7", aws=AwsIdentity(account=estate.id, roles=(arn,), users=(name,)))
    targets = deny.action.targets({"agent": "agent-7"}, agent)
    assert [target.id for target in targets] == [f"iam-role:{arn}", f"iam-user:{estate.id}:user/{name}"]
    for target in targets:
        done = deny.done(target.params, twice=True)
        assert (done.grade, done.undo) == (Grade.CONFIG, {"attached": False})
        verified = deny.verify(target.params)
        assert verified is not None
        assert verified.evidence["principal"] == target.id.partition(":")[2]
    iam = estate.account.iam
    assert DENY_ALL in iam.attached_role_policies(name)
    assert DENY_ALL in iam.attached_user_policies(name)
    for target in targets:
        for _ in range(2):
            assert isinstance(deny.action.undo(target.params, deny.ports, undo={"attached": False}, key="k"), Done)
        assert deny.verify(target.params) is None


def test_what_was_denied_before_stays_denied(deny: Drill, name: str):
    (params,) = deny.targets(of_role(deny.estate.add_role(name)))
    deny.estate.account.iam.attach_role_policy(name, DENY_ALL)
    done = deny.done(params)
    assert done.undo == {"attached": True}
    assert isinstance(deny.undo(params, done), Done)
    assert deny.verify(params) is not None


def test_denying_through_trouble(deny: Drill, name: str):
    (params,) = deny.targets(of_role(deny.estate.add_role(name)))
    deny.estate.faults.add("attach_role_policy", THROTTLED, times=2)
    deny.estate.faults.add("attach_role_policy", HANGING, after=True)
    assert deny.done(params).undo == {"attached": False}
    deny.estate.faults.add("get_role", REFUSED)
    assert isinstance(deny.run(params), Failed)


def test_deleted_principals_hold_nothing(deny: Drill, name: str):
    arn = deny.estate.add_role(name)
    deny.estate.add_user(name)
    deny.estate.drop_role(name)
    deny.estate.drop_user(name)
    agent = Agent("agent-7", aws=AwsIdentity(account=deny.estate.id, roles=(arn,), users=(name,)))
    assert all(deny.done(params).nothing_held for params in deny.targets(agent))


def test_a_change_that_is_never_listed_is_unverified_and_can_still_be_taken_back(clock: SimClock, monkeypatch):
    drill = Drill(Simulated(clock), DenyAll())
    (params,) = drill.targets(of_role(drill.estate.add_role("agent")))
    monkeypatch.setattr(drill.estate.account.iam, "attached_role_policies", lambda _role: ())
    began = clock.now()
    done = drill.done(params)
    assert (done.grade, done.undo) == (Grade.UNVERIFIED, {"attached": False})
    assert "not listed" in done.evidence["why"]
    assert timedelta(minutes=1) <= clock.now() - began < timedelta(minutes=2)


def test_the_policy_is_that_of_the_partition():
    roles = ("arn:aws-us-gov:iam::111111111111:role/a",)
    (role,) = DenyAll().targets({}, Agent("a", aws=AwsIdentity(roles=roles)))
    (user,) = DenyAll().targets({}, Agent("a", aws=AwsIdentity(region="cn-north-1", users=("u",))))
    assert role.params["policy"] == "arn:aws-us-gov:iam::aws:policy/AWSDenyAll"
    assert user.params["policy"] == "arn:aws-cn:iam::aws:policy/AWSDenyAll"


# Keys -------------------------------------------------------------------------------------------------------------


def test_keys_are_disabled_read_back_and_released(keys: Drill, name: str):
    estate = keys.estate
    estate.add_user(name)
    both = [estate.add_key(name), estate.add_key(name)]
    targets = keys.action.targets({"agent": "agent-7"}, of_user(estate, name, *both))
    assert [target.id for target in targets] == [f"access-key:{key}" for key in both]
    for target in targets:
        done = keys.done(target.params, twice=True)
        assert (done.grade, done.evidence["status"], done.evidence["user"]) == (Grade.CONFIG, "Inactive", name)
        assert keys.verify(target.params) is not None
        for _ in range(2):
            assert isinstance(keys.undo(target.params, done), Done)
        assert keys.verify(target.params) is None


def test_a_key_that_was_inactive_before_is_left_so(keys: Drill, name: str):
    estate = keys.estate
    estate.add_user(name)
    key = estate.add_key(name)
    estate.account.iam.set_access_key_active(name, key, False)
    (params,) = keys.targets(of_user(estate, name, key))
    done = keys.done(params)
    assert done.undo == {"user": name, "active": False}
    assert isinstance(keys.undo(params, done), Done)
    assert keys.verify(params) is not None


def test_an_explicit_key_is_disabled_only_if_it_is_the_users(keys: Drill, name: str):
    estate = keys.estate
    estate.add_user(name)
    key = estate.add_key(name)
    (params,) = keys.targets(of_user(estate, name), key=key)
    assert keys.done(params).evidence["key"] == key
    (params,) = keys.targets(of_user(estate, name), key="AKIA0000000000000000")
    outcome = keys.run(params)
    assert isinstance(outcome, Failed)
    assert "is no key of" in outcome.why
    with pytest.raises(ValueError, match="belongs to a session"):
        keys.targets(of_user(estate, name), key="ASIA0000000000000000")
    with pytest.raises(ValueError, match="whose key"):
        keys.targets(of_role("arn:aws:iam::111111111111:role/a"), key=key)


def test_a_deleted_key_holds_nothing(keys: Drill, name: str):
    estate = keys.estate
    estate.add_user(name)
    (params,) = keys.targets(of_user(estate, name, "AKIA0000000000000000"))
    assert keys.done(params).nothing_held
    assert keys.verify(params) is not None
    estate.drop_user(name)
    assert keys.done(params).nothing_held


def test_disabling_through_trouble(keys: Drill, name: str):
    estate = keys.estate
    estate.add_user(name)
    key = estate.add_key(name)
    (params,) = keys.targets(of_user(estate, name, key))
    estate.faults.add("list_access_keys", THROTTLED, times=2)
    estate.faults.add("set_access_key_active", HANGING, after=True)
    assert keys.done(params).undo == {"user": name, "active": True}
    assert isinstance(keys.undo(params, keys.done(params)), Done)
    estate.account.iam.set_access_key_active(name, key, True)
    estate.faults.add("set_access_key_active", REFUSED)
    assert isinstance(keys.run(params), Failed)
