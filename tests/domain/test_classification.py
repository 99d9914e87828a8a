from __future__ import annotations

from dataclasses import replace

from bot.config.expressions import parse
from bot.domain.classification import UNCLASSIFIED, Rule, classify

RULES = tuple(
    Rule(parse(text, "s.yaml:1"), type, f"sources.yaml:{line}", text)
    for line, (text, type) in enumerate(
        [("agent.id == 'x'", "a"), ("alert.rule == 'r'", "b"), ("alert.rule == 'r'", "c")], 1
    )
)


def test_the_first_match_wins_and_says_where_it_stands() -> None:
    found = classify(RULES, {"alert": {"rule": "r"}, "agent": {"id": "y"}})
    assert found.why == "the rule “alert.rule == 'r'” (sources.yaml:2) gives this type"
    assert (found.type, found.errors) == ("b", ())


def test_a_long_rule_is_said_in_part() -> None:
    words = replace(RULES[0], text="x" * 1_000).words
    assert words.endswith("x…” (sources.yaml:1) gives this type")
    assert len(words) < 220


def test_a_rule_that_errors_is_said_and_passed_over() -> None:
    found = classify(RULES, {"alert": {"rule": "r"}})
    assert found.type == "b"
    assert found.errors == ("sources.yaml:1: 'agent' is not known here",)


def test_nothing_matches() -> None:
    assert classify(RULES, {"alert": {"rule": "z"}, "agent": {"id": "y"}}).type == UNCLASSIFIED
