"""What CloudTrail says after a cut: uses, silence, and what proves nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.actions import registry
from bot.actions.trail import LOOKUPS
from bot.domain.events import Aftermath
from bot.ports import Ports
from bot.sandbox.aws import SimAws
from bot.sandbox.clock import SimClock
from tests.engine.desk import MONDAY

LATER = timedelta(minutes=20)


class Company:
    def __init__(self) -> None:
        self.clock = SimClock(MONDAY)
        self.aws = SimAws(self.clock, trail_lag=0)
        self.role = self.aws.iam.add_role("deploy")
        self.aws.iam.add_role("billing")
        self.aws.iam.add_user("agent")
        self.key = self.aws.iam.add_key("agent")

    def after(self, action: str = "aws.iam_revoke_sessions", **params: str) -> Aftermath:
        """Asked a quarter of an hour after the cut, which was at noon of the story."""
        params = {"connection": "aws", **(params or {"role": self.role})}
        ports = Ports(self.clock, None, aws={"aws": self.aws.account()})  # type: ignore[arg-type] # no directory is asked
        return registry()[action].after(params, ports, since=MONDAY + LATER, until=self.clock.now())


@pytest.fixture
def company() -> Company:
    return Company()


def test_a_session_that_worked_before_and_not_since_is_clean(company: Company) -> None:
    session = company.aws.assume("deploy")
    assert company.aws.attempt(session, "s3:GetObject")
    company.clock.set(MONDAY + 2 * LATER)
    found = company.after()
    assert (found.verdict, found.count) == ("none after the cut", 0)


def test_what_was_refused_is_no_use_and_neither_is_asking_who_one_is(company: Company) -> None:
    session = company.aws.assume("deploy")
    company.clock.set(MONDAY + 2 * LATER)
    company.aws.cloudtrail.record(session, "sts:GetCallerIdentity", True)
    company.aws.cloudtrail.record(session, "s3:GetObject", False)
    assert company.after().verdict == "none after the cut"


def test_a_session_that_was_started_since_and_used_is_alive(company: Company) -> None:
    company.clock.set(MONDAY + 2 * LATER)
    session = company.aws.assume("deploy")
    company.aws.attempt(session, "s3:GetObject")
    found = company.after()
    assert found.alive
    assert [use.event for use in found.seen] == ["GetObject"]
    assert "assumed-role/deploy" in found.seen[0].by


def test_a_session_chained_out_of_it_before_the_cut_is_followed(company: Company) -> None:
    first = company.aws.assume("deploy")
    chained = company.aws.assume("billing", by=first)
    company.clock.set(MONDAY + 2 * LATER)
    company.aws.attempt(chained, "s3:GetObject")
    found = company.after()
    assert found.count == 1
    assert "billing" in found.seen[0].by
    assert "started by" in found.seen[0].by


def test_a_key_is_asked_for_by_its_id_and_a_user_by_its_name(company: Company) -> None:
    company.clock.set(MONDAY + 2 * LATER)
    company.aws.attempt(company.key, "s3:GetObject")
    assert company.after("aws.iam_disable_key", key=company.key).count == 1
    assert company.after("aws.iam_deny_all", user="agent").count == 1


def test_no_event_at_all_proves_nothing(company: Company) -> None:
    company.clock.set(MONDAY + 2 * LATER)
    found = company.after()
    assert found.verdict == "inconclusive"
    assert "no event at all" in found.why


def test_more_sessions_than_are_asked_at_a_time_prove_nothing_either(company: Company) -> None:
    for number in range(LOOKUPS + 3):
        company.aws.attempt(company.aws.assume("deploy", str(number)), "s3:GetObject")
    company.clock.set(MONDAY + 2 * LATER)
    found = company.after()
    assert found.verdict == "inconclusive"
    assert found.why.startswith("4 more sessions")
