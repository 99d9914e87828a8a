"""A source of kind slack in sources.yaml: what it must say, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.actions import registry
from bot.config import EXAMPLE, ConfigErrors, check, load
from bot.config.reading import Problems
from bot.config.sources import load_sources
from bot.domain.source import Auth
from bot.errors import ConfigError

GOOD = """
sources:
  siem_in_slack:
    kind: slack
    owner: security-ops-1
    slack: {channels: [C0SIEM], apps: [A0SPLUNK, B0LEGACY]}
    map: {rule: "attachments[0].title"}
    patterns:
      severity: 'Severity: (\\w++)'
"""


def loaded(folder: Path, text: str):
    (folder / "sources.yaml").write_text(text)
    problems = Problems()
    sources, _ = load_sources(folder / "sources.yaml", problems)
    problems.raise_any()
    return sources


def test_a_source_in_slack_proves_itself_by_its_app_and_only_proposes(tmp_path: Path):
    rules = loaded(tmp_path, GOOD)["siem_in_slack"].rules
    assert (rules.auth, rules.may_contain) == (Auth.SLACK, False)
    assert (rules.channels, rules.apps) == (("C0SIEM",), ("A0SPLUNK", "B0LEGACY"))
    assert rules.patterns == {"severity": r"Severity: (\w++)"}


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("C0SIEM", "siem-alerts", "no id of a Slack channel"),
        ("A0SPLUNK", "U0PERSON", "no id of a Slack app"),
        ("[C0SIEM]", "[]", "names none"),
        ("    slack: {channels: [C0SIEM], apps: [A0SPLUNK, B0LEGACY]}\n", "", "names none"),
        ("kind: slack", "kind: falco", "belongs to kind slack"),
        ("owner:", "auth: {kind: none}\n    owner:", "belong together"),
        ("owner:", "auth: {kind: slack, secret: env:X}\n    owner:", "takes no 'secret'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, old: str, new: str, why: str):
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, GOOD.replace(old, new, 1))
    assert why in "\n".join(map(str, getattr(error.value, "problems", [error.value])))


def test_check_reads_patterns_and_asks_who_may_contain(tmp_path: Path):
    config = load(EXAMPLE)
    config = replace(config, settings=replace(config.settings, slack=None, mode="live"))
    source = loaded(tmp_path, GOOD)["siem_in_slack"]
    twin = replace(source, rules=replace(source.rules, name="twin", patterns={"severity": ".*"}, may_contain=True))
    told = "\n".join(map(str, check(replace(config, sources={"siem_in_slack": source, "twin": twin}), registry())))
    for one in ("give back what it took", "both take what A0SPLUNK writes in C0SIEM", "no 'slack'", "may contain"):
        assert one in told


def test_the_errors_of_a_file_come_together(tmp_path: Path):
    with pytest.raises(ConfigErrors) as error:
        loaded(tmp_path, GOOD.replace("C0SIEM", "siem").replace("A0SPLUNK", "splunk"))
    assert len(error.value.problems) == 2
