"""Messages of SIEM apps: whose word counts, and what is read out of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.alert import Severity
from bot.errors import BadAlert
from bot.sources import read
from bot.sources.authentication import NotAuthentic, authenticate
from bot.sources.slack import TEXT, fault, problems, seen, turned_away
from tests.sources.rules import payload, rules

SOURCE = rules("slack")


def message(**fields: Any) -> dict[str, Any]:
    return {**payload("slack_message"), **fields}


def test_a_message_is_read_by_its_map_and_its_patterns():
    (alert,) = read(SOURCE, message())
    assert (alert.uid, alert.rule, alert.agent_uid) == ("C0SIEM/1767607200.000100", "exfiltration", "agent-7")
    assert (alert.severity_id, alert.resolved) == (Severity.CRITICAL, False)
    assert alert.time.isoformat() == "2026-01-05T10:00:00.000100+00:00"
    assert alert.text.title == "Splunk: *Unusual download*"
    assert "took <40 GB>" in alert.text.message
    (over,) = read(SOURCE, message(text="RESOLVED for arn:aws:iam::123456789012:role/agents/agent-7"))
    assert over.resolved
    assert [one.uid for one in over.resources] == ["arn:aws:iam::123456789012:role/agents/agent-7"]


def test_a_message_without_what_is_needed_says_so():
    with pytest.raises(BadAlert, match=r"rule: expected a string"):
        read(SOURCE, message(attachments=[]))
    with pytest.raises(BadAlert, match=r"a message"):
        read(SOURCE, ["no", "message"])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, ""),
        ({"app_id": None}, ""),
        ({"app_id": None, "bot_profile": None, "bot_id": "B0LEGACY", "subtype": None}, ""),
        ({"bot_id": None, "app_id": None, "user": "U0SRE1", "username": "Splunk", "subtype": None}, "person"),
        ({"bot_id": None, "app_id": "A0SPLUNK", "subtype": None}, "person"),
        ({"app_id": "A0OTHER", "bot_profile": None}, "other_app"),
        ({"app_id": None, "bot_profile": None}, "other_app"),
        ({"subtype": "message_changed", "message": {"bot_id": "B0SPLUNK"}}, "edited"),
        ({"subtype": "message_deleted"}, "other_kind"),
        ({"subtype": "thread_broadcast", "thread_ts": "1.0"}, "other_kind"),
        ({"edited": {"user": "U0SRE1", "ts": "1.0"}}, "edited"),
        ({"thread_ts": "1767607100.000100"}, "thread_reply"),
        ({"subtype": "file_share"}, "file"),
        ({"files": [{"id": "F0"}]}, "file"),
        ({"team": "T0PARTNER"}, "other_workspace"),
        ({"bot_profile": {"app_id": "A0SPLUNK", "team_id": "T0PARTNER"}}, "other_workspace"),
        ({"bot_profile": "no profile"}, ""),
    ],
)
def test_only_the_apps_own_new_messages_count(fields: dict[str, Any], why: str):
    assert turned_away(message(**fields), {"team_id": "T0"}, SOURCE) == why


def test_nothing_counts_in_a_channel_that_is_shared_with_others():
    assert turned_away(message(), {"team_id": "T0", "is_ext_shared_channel": True}, SOURCE) == "shared_channel"


def test_nothing_is_taken_over_http_in_its_name():
    with pytest.raises(NotAuthentic, match="Slack channels"):
        authenticate(SOURCE, {}, b"{}", read(SOURCE, message())[0].time, ())


def test_markup_is_read_as_people_see_it():
    said = "<https://evil.example|Dashboard> of <https://a.example> by <@U0SRE1> &amp; &lt;!channel&gt;"
    assert seen(said) == "Dashboard of https://a.example by @U0SRE1 & <!channel>"


@pytest.mark.parametrize(
    "pattern",
    [r"Severity: (\w++)", r"(?i)sev (high|low)", r"[\w.-]++", r"\d{4}", r"[]a]*+", r"(x)?", r"\A[^:]*+:", r"a{1,3}+"],
)
def test_patterns_that_keep_what_they_take_are_used(pattern: str):
    assert fault(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"(a+)+$", "give back"),
        (r".*x", "give back"),
        (r"x+?", "give back"),
        (r"a{1,3}", "give back"),
        (r"(?:x|y)*+", "repeats a group"),
        (r"(?:x?){9}", "repeats a group"),
        (r"(?=a)", "look-arounds"),
        (r"(?i:a)", "look-arounds"),
        (r"(.)\1", "reference"),
        (r"(?P<a>.)(?P=a)", "reference"),
        ("a?" * 9, "choices"),
        ("(", "not a regular"),
        ("[[:alpha:]]", "not a regular"),
        ("x" * 201, "characters"),
    ],
)
def test_patterns_that_a_text_could_make_slow_are_refused(pattern: str, why: str):
    assert why in fault(pattern)


@given(st.text(alphabet=r"ab\w\d.[]^-(?:)P<>{}1,*+?|$", max_size=24))
def test_no_pattern_that_is_allowed_is_slow(pattern: str):
    if fault(pattern):
        return
    for text in ("a" * 1_000, "ab" * 500):  # a slow one would not come back before the tests are given up
        re.compile(pattern).search(text)


def test_long_texts_are_searched_only_at_their_beginning():
    (alert,) = read(SOURCE, message(text="x" * TEXT + "RESOLVED"))
    assert not alert.resolved


def test_what_is_wrong_with_a_source_is_told():
    assert problems(SOURCE) == ()
    wrong = replace(
        SOURCE, field_map={"text": "][", "alerts": "x", "agent": "y"}, patterns={"agent": ".*", "labels": "x"}
    )
    told = "\n".join(problems(wrong))
    for one in (
        "JMESPath",
        "a message is one alert",
        "in the map and in the patterns",
        "give back",
        "labels: no field",
    ):
        assert one in told
    assert "rule: needed" in told
