"""Was a human asked? A table of cases, and what holds whatever the logs say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.agent import Agent, AwsIdentity
from bot.domain.deeds import Deed, merged, read_deeds
from bot.domain.investigation import (
    EntryRef,
    Given,
    Grant,
    Known,
    PolicyAction,
    Verdict,
    audit,
    classified,
    tally,
)
from bot.domain.wording import counts_text

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MIN = timedelta(minutes=1)
PLAN, OTHER = "a" * 64, "b" * 64
POLICY = {
    one.id: one
    for one in (
        PolicyAction("read-only-files", "", "low", False, seen_as=("tool:files.read", "aws:s3:Get*")),
        PolicyAction("create-ticket", "", "medium", False, seen_as=("tool:ticket.*",)),
        PolicyAction(
            "modify-infra",
            "",
            "high",
            True,
            ("security_team", "infra_owner"),
            seen_as=("tool:deploy.*", "aws:ec2:Terminate*", "vault:update:secret/data/prod/*"),
        ),
    )
}
ASKED = EntryRef("INC-3", 12, "d12")


def yes(
    person: str, *groups: str, at: datetime = NOW - 10 * MIN, hash: str = PLAN, also: tuple[str, ...] = ()
) -> Given:
    return Given(person, groups, also, hash, at, EntryRef("INC-3", 13, f"d-{person}"))


SEC, INFRA = yes("sec-1", "security_team"), yes("infra-1", "infra_owner", at=NOW - 9 * MIN)
GRANT = Grant("INC-3/12.0", PLAN, {"security_team": 1, "infra_owner": 1}, ASKED, frozenset({"sre-1"}), (SEC, INFRA))
DEED = Deed(NOW, "gateway", "tool:deploy.run", "tool_call deploy.run", "s#/0", approval="INC-3/12.0", plan=PLAN)


def judge(deed: Deed = DEED, *grants: Grant, **known: Any) -> tuple[Verdict, str]:
    (finding,) = audit((deed,), POLICY, Known({one.request: one for one in grants}, **known))
    return finding.verdict, finding.why


V, B, M, U = Verdict.VALID, Verdict.BYPASSED, Verdict.MISAPPLIED, Verdict.UNKNOWN
CASES: dict[str, tuple[Deed, Grant, Verdict, str]] = {
    "as it should be": (DEED, GRANT, V, "approved by sec-1 and infra-1"),
    "nobody approved": (DEED, replace(GRANT, given=()), B, "nobody had approved it"),
    "one of two": (DEED, replace(GRANT, given=(SEC,)), B, "1 had approved, not all"),
    "afterwards": (DEED, replace(GRANT, given=(SEC, replace(INFRA, at=NOW + MIN))), B, "only afterwards"),
    "refused": (DEED, replace(GRANT, given=(SEC,), refused=(NOW - MIN, ASKED)), B, "had been refused"),
    "refused afterwards": (DEED, replace(GRANT, refused=(NOW + MIN, ASKED)), V, "approved by"),
    "another plan": (replace(DEED, plan=OTHER), GRANT, M, "given for plan aaaaaaaaaaaa, and bbbbbbbbbbbb"),
    "a click on another plan": (DEED, replace(GRANT, given=(SEC, replace(INFRA, hash=OTHER))), M, "given for plan"),
    "no plan named": (replace(DEED, plan=""), GRANT, U, "which plan"),
    "asked anew since": (DEED, replace(GRANT, superseded=NOW - MIN), M, "had changed"),
    "asked anew later": (DEED, replace(GRANT, superseded=NOW + MIN), V, "approved by"),
    "the requester himself": (
        DEED, replace(GRANT, given=(SEC, yes("sre-1", "infra_owner"))), M, "sre-1 approved their own request",
    ),
    "the requester's other name": (
        DEED, replace(GRANT, given=(SEC, yes("x", "infra_owner", also=("sre-1",)))), M, "x approved their own request",
    ),
    "one human, two names": (
        DEED, replace(GRANT, given=(SEC, yes("sec-2", "infra_owner", also=("sec-1",)))), M, "infra_owner",
    ),
    "one human in both groups": (
        DEED, replace(GRANT, each={"security_team": 1}, given=(yes("sec-1", "security_team", "infra_owner"),)), M,
        "nobody of",
    ),
    "the wrong groups": (
        DEED, replace(GRANT, each={"security_team": 1}, given=(SEC,)), M, "nobody of infra_owner had approved",
    ),
    "run out": (replace(DEED, at=NOW + timedelta(hours=3)), GRANT, M, "had run out 1 h 9 min before"),
    "too close": (DEED, replace(GRANT, given=(SEC, replace(INFRA, at=NOW + timedelta(seconds=1)))), U, "too close"),
    "just not run out": (replace(DEED, at=INFRA.at + timedelta(hours=2)), GRANT, V, "approved by"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_table(case: str):
    deed, grant, verdict, why = CASES[case]
    got = judge(deed, grant)
    assert got[0] is verdict, got
    assert why in got[1]


def test_what_names_no_approval_or_a_made_up_one_is_bypassed():
    assert judge(replace(DEED, approval="", plan="")) == (B, "it names no approval")
    assert judge() == (B, "it names INC-3/12.0, which the record does not have")
    assert judge(unreadable=frozenset({"INC-3"})) == (U, "the record of INC-3/12.0 cannot be read")


def test_what_only_another_log_shows_went_past_the_gateway():
    trail = Deed(NOW, "cloudtrail", "aws:ec2:TerminateInstances", "", "t#/0", "e1", caused=("e1", "r1"))
    assert judge(trail)[0] is B
    assert "past the gateway" in judge(trail)[1]
    assert judge(trail, heard=False) == (U, "the agent's own log is missing: it might name an approval")


def test_what_a_call_caused_is_judged_once_and_by_its_approval():
    trail = Deed(NOW, "cloudtrail", "aws:ec2:TerminateInstances", "", "t#/0", "e1", caused=("e1", "r1"))
    known = Known({GRANT.request: GRANT})
    (finding,) = audit((replace(DEED, caused=("r1",)), trail), POLICY, known)
    assert (finding.deed.source, finding.verdict) == ("gateway", V)
    harmless = replace(DEED, name="tool:files.read", caused=("r1",), approval="")
    (finding,) = audit((harmless, trail), POLICY, known)  # the tool was named harmless, and terminated an instance
    assert (finding.deed.source, finding.verdict) == ("cloudtrail", B)


CANARY, PRODUCTION = replace(DEED, at=NOW - MIN, where="s#/0"), replace(DEED, where="s#/1")
TRAIL = Deed(NOW, "cloudtrail", "aws:ec2:TerminateInstances", "", "t#/0", "e1", caused=("e1", "r1"))
USES: dict[str, tuple[int, tuple[Deed, ...], list[Verdict]]] = {
    "once": (1, (DEED,), [V]),
    "twice": (1, (CANARY, PRODUCTION), [V, M]),
    "the canary and production": (2, (CANARY, PRODUCTION), [V, V]),
    "a third time": (2, (CANARY, PRODUCTION, replace(DEED, where="s#/2")), [V, V, M]),
    "what was not right uses nothing up": (1, (replace(CANARY, plan=OTHER), PRODUCTION), [M, V]),
    "production after it ran out": (2, (CANARY, replace(PRODUCTION, at=NOW + timedelta(hours=3))), [V, M]),
    "one call, and what it set off": (1, (replace(DEED, caused=("r1",)), TRAIL), [V]),
}


@pytest.mark.parametrize("case", USES)
def test_an_approval_is_used_as_often_as_the_policy_says(case: str):
    covers, deeds, verdicts = USES[case]
    policy = POLICY | {"modify-infra": replace(POLICY["modify-infra"], covers=covers)}
    found = audit(deeds, policy, Known({GRANT.request: GRANT}))
    assert [one.verdict for one in found] == verdicts, [one.why for one in found]
    assert all(
        "used up" in one.why or PLAN[:12] in one.why or "run out" in one.why for one in found if one.verdict is M
    )


CALL = replace(DEED, caused=("r1",))
OTHER_CALL = replace(DEED, where="s#/9", approval="", caused=("r1",))
READS = replace(CALL, name="tool:files.read")  # a call that the policy does not mind, which names the approval
CLAIMS: dict[str, tuple[tuple[Deed, ...], Verdict, str]] = {
    "another action, its plan and time fit": ((READS, TRAIL), V, "the call tool:files.read: claimed by the gateway"),
    "another plan": ((replace(READS, plan=OTHER), TRAIL), M, "given for plan"),
    "no plan": ((replace(READS, plan=""), TRAIL), U, "which plan"),
    "too far": ((CALL, replace(TRAIL, at=NOW + 16 * MIN)), U, "16 min lie between it and the call"),
    "two calls claim it": ((CALL, OTHER_CALL, TRAIL), U, "2 calls name its request id"),
    "before the approval": ((replace(CALL, at=NOW - 5 * MIN), replace(TRAIL, at=NOW - 15 * MIN)), B, "only afterwards"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_what_a_gateway_claims_has_to_fit_and_is_called_a_claim(case: str):
    deeds, verdict, why = CLAIMS[case]
    found = audit(deeds, POLICY, Known({GRANT.request: GRANT}))
    (finding,) = (one for one in found if one.deed.source == "cloudtrail")
    assert finding.verdict is verdict, finding.why
    assert why in finding.why
    assert finding.why.endswith("claimed by the gateway")


def test_a_call_whose_own_word_is_all_there_is_says_so():
    (finding,) = audit((CALL, TRAIL), POLICY, Known({GRANT.request: GRANT}))
    assert (finding.verdict, finding.deed) == (V, CALL)
    assert finding.why == "approved by sec-1 and infra-1; cloudtrail: claimed by the gateway"


def test_low_risk_is_no_matter_and_medium_without_approval_is_valid():
    assert audit((replace(DEED, name="tool:files.read"),), POLICY, Known()) == ()
    assert judge(replace(DEED, name="tool:ticket.create", approval="")) == (V, "the policy asks for no approval")


def test_a_log_cannot_talk_its_own_deed_down():
    assert classified(replace(DEED, action="read-only-files"), POLICY) is POLICY["modify-infra"]
    assert classified(replace(DEED, name="tool:files.read", action="modify-infra"), POLICY) is POLICY["modify-infra"]
    assert classified(replace(DEED, name="", action="modify-infra"), POLICY) is None


def test_the_line_of_the_card():
    found = audit((DEED, replace(DEED, approval="")), POLICY, Known({GRANT.request: GRANT}))
    assert counts_text(tally(found)) == "1 bypassed, 1 valid"
    assert counts_text(tally(())) == "no privileged action was seen"


# Logs -----------------------------------------------------------------------------------------------------------

AGENT = Agent("7", aws=AwsIdentity(roles=("arn:aws:iam::111122223333:role/x/agent-7",), users=("agent-7",)))
AT = "2026-03-01T12:00:00Z"


def gateway(*entries: Any) -> tuple[Deed, ...]:
    return read_deeds("agent_activity", "gateway/tools/activity", "s", entries, AGENT)


def test_a_gateways_entries_do_something_or_only_say_something():
    done = gateway(
        {"at": AT, "seq": 1, "kind": "prompt", "text": "tool: deploy.run"},
        {"at": AT, "seq": 2, "kind": "tool_call", "tool": "deploy.run", "approval": "INC-3/12.0", "plan": PLAN},
        {"at": AT, "seq": 3, "kind": "effect", "tool": "deploy.run", "call": 2},
        {"at": AT, "seq": 4, "kind": "effect", "tool": "db.drop", "call": 2},
        {"at": AT, "seq": 5, "kind": "tool_call", "tool": "deploy.run", "refused": True},
        {"at": AT, "seq": 6, "kind": "effect", "tool": "deploy.run", "call": 5},
    )
    assert [deed.name for deed in done] == ["", "tool:deploy.run", "", "tool:db.drop", "", "tool:deploy.run"]
    assert (done[1].approval, done[1].plan, done[4].attempted) == ("INC-3/12.0", PLAN, "tool:deploy.run")


def test_cloudtrail_about_a_role_counts_only_what_the_agent_did():
    def event(**who: Any) -> dict[str, Any]:
        return {"eventTime": AT, "eventSource": "ec2.amazonaws.com", "eventName": "RunInstances", "userIdentity": who}

    bot = event(arn="arn:aws:sts::111122223333:assumed-role/firedoor/bot")
    own = event(arn="arn:aws:sts::111122223333:assumed-role/agent-7/session")
    source = "cloudtrail/aws/ResourceName=arn:aws:iam::111122223333:role/x/agent-7"
    assert [one.where for one in read_deeds("cloudtrail", source, "s", [bot, own], AGENT)] == ["s#/1"]
    failed = own | {"errorCode": "AccessDenied", "eventID": "e1"}
    (deed,) = read_deeds("cloudtrail", "cloudtrail/aws/Username=agent-7", "s", [failed], AGENT)
    assert (deed.name, deed.attempted) == ("", "aws:ec2:RunInstances")


def test_of_vault_only_what_it_answered_counts():
    asked = {"time": AT, "type": "request", "request": {"operation": "update", "path": "secret/data/prod/x", "id": "1"}}
    done = read_deeds("vault_audit", "vault/v/audit", "s", [asked, asked | {"type": "response"}], AGENT)
    assert [deed.name for deed in done] == ["vault:update:secret/data/prod/x"]
    assert classified(done[0], POLICY) is POLICY["modify-infra"]


def test_the_same_event_of_two_lookups_is_one_and_a_repeated_number_hides_nothing():
    event = {"eventTime": AT, "eventSource": "s3.amazonaws.com", "eventName": "PutObject", "eventID": "e1"}
    twice = [read_deeds("cloudtrail", f"cloudtrail/aws/{n}=x", n, [event], AGENT)[0] for n in ("a", "b")]
    assert len(merged(twice)) == 1
    calls = ({"at": AT, "seq": 1, "kind": "tool_call", "tool": tool} for tool in ("a", "b"))
    assert [deed.name for deed in merged(gateway(*calls))] == ["tool:a", "tool:b"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
KEYS = ("at", "seq", "kind", "tool", "refused", "action", "approval", "plan", "requests", "call", "time", "type")
KEYS += ("request", "auth", "error", "eventTime", "eventSource", "eventName", "errorCode", "userIdentity", "eventID")
HOSTILE = st.dictionaries(
    st.sampled_from(KEYS), JSON | st.sampled_from([AT, "tool_call", "effect", "deploy.run", "response", PLAN])
)


@given(st.lists(HOSTILE | JSON, max_size=6), st.sampled_from(["agent_activity", "cloudtrail", "vault_audit", "other"]))
def test_no_log_breaks_the_reader_and_the_same_log_reads_the_same(records: list[Any], kind: str):
    deeds = merged(read_deeds(kind, "x/ResourceName=y", "s", records, AGENT))
    assert deeds == merged(reversed(read_deeds(kind, "x/ResourceName=y", "s", records, AGENT)))
    found = audit(deeds, POLICY, Known({GRANT.request: GRANT}))
    assert all(finding.verdict in Verdict and finding.why for finding in found)
    assert all("\n" not in deed.text and len(deed.text) <= 300 for deed in deeds)


PEOPLE = st.sampled_from(["sec-1", "infra-1", "sre-1"])
GIVEN = st.builds(
    Given,
    PEOPLE,
    st.sets(st.sampled_from(["security_team", "infra_owner"])).map(lambda groups: tuple(sorted(groups))),
    st.sets(PEOPLE, max_size=1).map(tuple),
    st.sampled_from([PLAN, OTHER]),
    st.integers(-200, 10).map(lambda minutes: NOW + minutes * MIN),
    st.just(ASKED),
)


@given(st.lists(GIVEN, max_size=4), st.sampled_from([{}, {"security_team": 1}, {"infra_owner": 2}]), st.booleans())
def test_valid_always_means_the_right_distinct_persons_before_for_this_plan(
    clicks: list[Given], each: dict[str, int], refused: bool
):
    grant = replace(GRANT, each=each, given=tuple(clicks), refused=(NOW - MIN, ASKED) if refused else None)
    verdict, _ = judge(DEED, grant)
    if verdict is not V:
        return
    assert not refused
    right = [one for one in clicks if one.hash == PLAN and one.at <= NOW]
    right = [one for one in right if "sre-1" not in {one.person, *one.also}]
    assert {"security_team", "infra_owner"} <= {group for one in right for group in one.groups}
    assert len({one.person for one in right}) >= 2
