"""Help is complete, and the reference pages say what the code does."""

from __future__ import annotations

import re
import shlex
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.actions import registry
from bot.commands import COMMANDS, help_of, parser
from bot.commands.command import MEANING, Command
from bot.commands.reference import PAGES
from bot.config import EXAMPLE
from bot.config.agents import load_agents
from bot.config.escalation import load_matrices
from bot.config.people import SAFE_VERBS, load_people
from bot.config.reading import Problems, Section
from bot.config.settings import load_settings
from bot.config.sources import KINDS, load_sources
from bot.domain.source import Auth
from bot.sources import generic, slack
from tests.cli.conftest import Firedoor

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_every_command_has_help_with_an_example_that_parses(firedoor: Firedoor, command: Command) -> None:
    helped = firedoor(*command.name.split(), "--help")
    assert helped.code == 0
    assert helped.out == help_of(command)
    assert f"example:\n  {command.example}" in helped.out
    assert all(f"{code:d}  {meaning}" in helped.out for code, meaning in MEANING.items())
    assert command.example.startswith(f"firedoor {command.name}")
    words = shlex.split(command.example.partition(" > ")[0])[1:]
    assert parser().parse_args(words).run is command.run


@pytest.mark.parametrize("command", COMMANDS, ids=[command.name for command in COMMANDS])
def test_every_argument_is_explained(command: Command) -> None:
    alone = ArgumentParser()
    command.arguments(alone)
    unexplained = [action.dest for action in alone._actions if not action.help]
    assert unexplained == []


def test_a_group_alone_says_what_is_in_it(firedoor: Firedoor) -> None:
    assert firedoor("incident").code == 2
    helped = firedoor("incident", "--help")
    assert helped.code == 0
    assert "declare" in helped.out
    assert firedoor("--version").out.startswith("firedoor ")


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_what_the_code_says(page: str) -> None:
    """Written by: python -m bot.commands.reference PAGE > docs/reference/PAGE.md"""
    assert (REFERENCE / f"{page}.md").read_text() == PAGES[page]()


def test_every_command_and_action_has_its_place() -> None:
    commands, actions = (REFERENCE / "commands.md").read_text(), (REFERENCE / "actions.md").read_text()
    assert [f"## firedoor {command.name}\n" in commands for command in COMMANDS] == [True] * len(COMMANDS)
    assert re.findall(r"^## (.+)$", actions, re.MULTILINE) == [*registry()]


# Keys of the operator's files -----------------------------------------------------------------------------------------

SLACK = """
  in_slack:
    kind: slack
    owner: security-ops-1
    slack: {channels: [C0123456789], apps: [A0123456789]}
    map: {rule: text}
"""
CLUSTER = """
  kubernetes: {kind: kubernetes, in_cluster: true}
  github: {kind: github, token: env:GITHUB_TOKEN}
"""
OPA = """  opa: {kind: opa, urls: ["http://127.0.0.1:8181"]}
"""
POD = """
    kubernetes: {namespaces: [agents]}
    github: {login: "agent-7[bot]"}
"""
# What the shipped files leave out, and where it goes, so that its reader runs.
MORE = {
    "sources": ("\nsources:\n", SLACK),
    "settings": ("\nconnections:\n", CLUSTER + OPA),
    "agents": ("\n  agent-7:\n", POD),
}
THEIRS = (
    "'headers'",
    "'pod_labels'",
    "'map'",
    "'patterns'",
    "'severity'",
    "'labels'",
    "'instance_tags'",
    "the verb table",
)
FILES: dict[str, Callable[[Path, Problems], object]] = {
    "settings": load_settings,
    "sources": load_sources,
    "people": load_people,
    "agents": load_agents,
    "escalation": load_matrices,
}
files = pytest.mark.parametrize("page", FILES)


def asked_keys(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Every key that the reader of a file asks for, with its defaults as the page writes them. The example has a
    connection of every kind, and a source of each kind that has keys of its own, so that every reader runs."""
    asked: dict[str, set[str]] = {}
    reading: list[str] = []  # a reader may use another: what the outer one was asked counts

    def recording(name: str, missing: Callable[..., str]) -> None:
        original: Callable[..., Any] = getattr(Section, name)

        def read(self: Section, key: str = "", *args: Any, **options: Any) -> Any:
            if self.what not in THEIRS and key and not reading:
                asked.setdefault(_path(self) + key, set()).add(missing(*args, **options))
            reading.append(key)
            try:
                return original(self, key, *args, **options)
            finally:
                reading.pop()

        monkeypatch.setattr(Section, name, read)

    recording("name", lambda: "required")
    recording("text", lambda default=None, **_: "required" if default is None else str(default) or "none")
    recording("time", lambda: "required")
    recording("secret", lambda required=False: "required" if required else "none")
    recording("flag", lambda default=False: str(default).lower())
    recording("number", lambda default, *_, **__: f"{default:g}" if default < 1000 else str(default))
    recording("duration", lambda default=None: "required" if default is None else _span(default))
    recording("texts", lambda default=(), *_, **__: ", ".join(default) or "none")
    recording("elements", lambda: "none")
    recording("section", lambda *_: "none")
    recording("entries", lambda *_, **__: "none")
    path = EXAMPLE / ("firedoor.yaml" if page == "settings" else f"{page}.yaml")
    if page in MORE:
        path, (where, more) = folder / path.name, MORE[page]
        text = (EXAMPLE / path.name).read_text()
        assert where in text
        path.write_text(text.replace(where, where.removesuffix("\n") + more, 1))
    problems = Problems()
    FILES[page](path, problems)
    problems.raise_any()
    return asked


def _path(section: Section) -> str:
    """`connections.vault.` of a connection, `persons.` of a person, `rotation.` of a role's."""
    what = section.what
    if what.endswith(".yaml"):
        return ""
    if what.startswith("connection "):
        kind = section.get("kind")
        assert kind
        return f"connections.{kind.raw}."
    entries = {"person": "persons", "role": "roles", "agent": "agents", "source": "sources", "matrix": "matrices"}
    parts = {"a classification rule": "classification", "a level": "levels"}
    if what in parts:
        return f"{parts[what]}."
    words = what.removeprefix("the ").split()
    return f"{entries.get(words[0], words[0])}.".replace("'", "")


def _span(span: timedelta) -> str:
    if timedelta(0) < span < timedelta(minutes=1):
        return f"{span.seconds}s"
    minutes = int(span.total_seconds()) // 60
    if span >= timedelta(days=7):
        return f"{span.days}d"
    return f"{minutes // 60}h" if (minutes % 60 == 0 and minutes not in (60, 120)) or minutes == 60 else f"{minutes}m"


def documented(page: str) -> dict[str, dict[str, str]]:
    """Heading -> key -> default."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in (REFERENCE / f"{page}.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        elif row := re.match(r"\| `(\w+)` \| `?([^`|]+)`? \|", line):
            found.setdefault(heading, {})[row[1]] = row[2].strip()
    return found


def documented_keys(page: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for heading, keys in documented(page).items():
        of = re.fullmatch(r"Top level|`(\w+)`(?: of kind `(\w+)`)?", heading)
        if of and heading != "`verbs`":
            prefix = "".join(f"{part}." for part in of.groups() if part)
            found |= {prefix + key: default for key, default in keys.items()}
    return found


@files
def test_every_key_is_documented_and_nothing_else(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_keys(page, tmp_path, monkeypatch)
    assert len(asked) >= {"settings": 80, "escalation": 10}.get(page, 15)
    assert sorted(documented_keys(page)) == sorted(asked)


@files
def test_the_defaults_are_those_of_the_code(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, keys = asked_keys(page, tmp_path, monkeypatch), documented_keys(page)
    same = {"60m": "1h", "120m": "2h"}

    def is_right(key: str, defaults: set[str]) -> bool:
        said = same.get(keys[key], keys[key])
        if len(defaults) == 1:
            return said in {same.get(one, one) for one in defaults}
        return key in ("persons.name", "persons.ways", "agents.name", "matrices.types", "auth.kind")  # said in words

    wrong = {key: (keys[key], defaults) for key, defaults in asked.items() if not is_right(key, defaults)}
    # 'store' is a section: what it needs is said inside it
    assert wrong == ({"store": ("required", {"none"})} if page == "settings" else {})


def test_every_kind_of_source_and_every_field_of_a_map_is_documented() -> None:
    page = documented("sources")
    assert [*page["Kinds"]] == [*KINDS]
    assert [*page["Ways to authenticate"]] == [*Auth]
    assert page["Fields of `map`"].keys() == generic.FIELDS | slack.LOOKED_FOR | {"text"}
    assert {name for name, default in page["Fields of `map`"].items() if default == "required"} == {*generic.NEEDED}
    text = (REFERENCE / "sources.md").read_text()
    map_only = re.findall(r"^\| `(\w+)` .*\*Map only\.\* \|$", text, re.MULTILINE)
    assert {*map_only} == (generic.FIELDS | {"text"}) - slack.LOOKED_FOR


def test_every_verb_is_documented_with_who_may_say_it() -> None:
    assert documented("people")["`verbs`"] == {verb: ", ".join(who) for verb, who in SAFE_VERBS.items()}
