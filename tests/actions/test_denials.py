"""What a policy would do, said before it is put in force: by the evaluator, and never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bot.actions import registry
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.iam import DENY_ALL, STAMP, Denial, foretold
from bot.ports import Ports
from bot.sandbox.aws import MANAGED, SimAws
from bot.sandbox.clock import SimClock
from tests.engine.desk import MONDAY

ROLE = "arn:aws:iam::111111111111:role/deploy"
AGENT = Agent(
    "agent-7", aws=AwsIdentity("aws", "111111111111", "us-east-1", roles=(ROLE,), users=("agent",), access_keys=())
)
DENIED, PASSES = "explicitDeny", "not denied"


def told(action: str, agent: Agent = AGENT, **params: Any) -> list[tuple[str, list[str]]]:
    asked = {"agent": agent.id, **params}
    return [
        (denial.who, [answer for _, answer in foretold(denial, MONDAY)])
        for target in registry()[action].targets(asked, agent)
        for denial in registry()[action].denials(target.params, MONDAY.strftime(STAMP))
    ]


def test_older_sessions_are_denied_later_ones_and_long_term_keys_are_not():
    assert told("aws.iam_revoke_sessions") == [("role deploy", [DENIED, PASSES])]
    assert told("aws.iam_revoke_user_sessions") == [("user agent", [DENIED, PASSES, PASSES])]
    assert told("aws.iam_revoke_session", session="AROA1:agent-7") == [("role deploy", [DENIED, PASSES])]


def test_what_denies_everything_denies_the_later_ones_too():
    everything = [("role deploy", [DENIED, DENIED]), ("user agent", [DENIED, DENIED, DENIED])]
    assert told("aws.iam_deny_all") == everything
    assert told("aws.iam_boundary") == everything[:1]
    assert told("aws.scp_deny", connection="aws") == everything
    held = Denial(MANAGED["arn:aws:iam::aws:policy/AWSDenyAll"], "user agent", keys=True)
    assert [*foretold(held, MONDAY)] == [*foretold(Denial(DENY_ALL, "user agent", keys=True), MONDAY)]


def test_what_is_known_only_when_it_runs_or_can_never_be_put_there_is_not_guessed():
    with pytest.raises(ValueError, match="read when it runs"):
        told("aws.iam_revoke_session", session="agent-7")
    linked = "arn:aws:iam::111111111111:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
    people = "arn:aws:iam::111111111111:role/AWSReservedSSO_Admin_1"
    for role, why in ((linked, "service-linked"), (people, "Identity Center")):
        with pytest.raises(ValueError, match=why):
            told("aws.iam_revoke_sessions", Agent("agent-7", aws=AwsIdentity("aws", roles=(role,))))
    assert told("aws.iam_disable_key") == []


@pytest.mark.parametrize("action", ["aws.iam_revoke_sessions", "aws.iam_deny_all", "aws.iam_boundary"])
def test_the_account_answers_as_it_was_told(action: str):
    """The same question to the estate, once the action has run."""
    clock = SimClock(MONDAY)
    sim = SimAws(clock)
    sim.iam.add_role("deploy")
    before = sim.assume("deploy", "before")
    ports = Ports(clock, SimpleNamespace(protected=lambda _: None), aws={"aws": sim.account()})  # type: ignore[arg-type]
    (target, *_) = registry()[action].targets({"agent": "agent-7"}, AGENT)
    so_far: Mapping[str, Any] | None = None
    for _ in range(3):
        outcome = registry()[action].run(target.params, ports, key="k", so_far=so_far)
        so_far = getattr(outcome, "so_far", so_far)
    clock.forward(minutes=2)
    after = sim.assume("deploy", "after")
    seen = [DENIED if sim.decide(one, "s3:GetObject") == DENIED else PASSES for one in (before, after)]
    assert [("role deploy", seen)] == told(action)[:1]


def test_the_cutoff_itself_is_not_older():
    (denial,) = registry()["aws.iam_revoke_sessions"].denials({"role": ROLE}, (MONDAY).strftime(STAMP))
    assert [*foretold(denial, MONDAY + timedelta(seconds=1))] == [
        ("a session from before", PASSES),
        ("a session from after", PASSES),
    ]
