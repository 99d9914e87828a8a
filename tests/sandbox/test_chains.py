"""Roles that are assumed out of roles, in the simulated account."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bot.domain.agent import Agent, AwsIdentity
from bot.errors import Rejected
from bot.sandbox.agents import Rogue
from bot.sandbox.clock import SimClock
from bot.sandbox.estate import Estate

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
ROLE = "arn:aws:iam::111111111111:role/agents/agent-7"
AGENT = Agent("agent-7", aws=AwsIdentity(account="111111111111", roles=(ROLE,), users=("u7",), access_keys=("AKIA7",)))
DENY_ALL = "arn:aws:iam::aws:policy/AWSDenyAll"


@pytest.fixture
def estate() -> Estate:
    estate = Estate(SimClock(START))
    estate.enrol(AGENT)
    estate.aws["aws"].iam.add_role("deploy")
    return estate


def test_a_session_of_a_chained_role_outlives_the_cut_of_the_role_it_came_from(estate: Estate) -> None:
    rogue, iam = estate.rogue(AGENT), estate.aws["aws"].iam
    chained = rogue.chain("deploy")
    iam.attach_role_policy("agent-7", DENY_ALL)
    assert rogue.act() == ["AKIA7", chained]
    assert rogue.chain("deploy", by=estate.sessions["agent-7"]) is None, "what is denied may not chain any further"
    assert rogue.reassume("agent-7"), "but the service that runs it hands out a new session"
    assert rogue.act() == ["AKIA7", chained], "which is denied too"


def test_a_role_is_chained_only_by_whom_its_trust_policy_names(estate: Estate) -> None:
    aws = estate.aws["aws"]
    aws.iam.add_role("other")
    trust = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "sts:AssumeRole"}]}
    aws.iam.set_trust("deploy", trust)
    assert aws.assume("deploy", by=estate.sessions["agent-7"])
    with pytest.raises(Rejected, match="not authorized to perform sts:AssumeRole"):
        aws.assume("deploy", by=aws.assume("other"))
    with pytest.raises(Rejected, match="not authorized"):
        aws.assume("deploy", by="AKIA7")
    with pytest.raises(Rejected, match="not authorized"):
        aws.assume("deploy", by="AKIA-nobody")


def test_cloudtrail_has_who_assumed_what(estate: Estate) -> None:
    aws, clock = estate.aws["aws"], estate.clock
    chained = aws.assume("deploy", "x", by=estate.sessions["agent-7"])
    assert isinstance(clock, SimClock)
    clock.forward(minutes=5)
    deploy = aws.iam.role("deploy").arn
    (event,) = aws.cloudtrail.events("ResourceName", deploy, START, clock.now()).events
    assert event["userIdentity"]["accessKeyId"] == estate.sessions["agent-7"].key
    assert event["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"] == ROLE
    assert event["responseElements"]["credentials"]["accessKeyId"] == chained.key
    (own,) = aws.cloudtrail.events("ResourceName", ROLE, START, clock.now()).events
    assert own["userIdentity"]["type"] == "AWSService"
    assert aws.cloudtrail.events("AccessKeyId", estate.sessions["agent-7"].key, START, clock.now()).events == (event,)


def test_nobody_is_a_rogue_where_aws_does_not_know_it(estate: Estate) -> None:
    with pytest.raises(Rejected, match="not known to AWS"):
        estate.rogue(Agent("agent-9"))
    assert Rogue("agent-9", estate.aws["aws"]).chain("deploy") is None
