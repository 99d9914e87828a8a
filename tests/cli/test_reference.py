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
from bot.config.reading import Problems, Section
from bot.config.settings import load_settings
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


# Settings ------------------------------------------------------------------------------------------------------------


def asked_settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Every key that the reader of firedoor.yaml asks for, with its default as the page writes it. The example has a
    connection of every kind, so that every reader runs."""
    asked: dict[str, str] = {}

    def recording(name: str, missing: Callable[..., str]) -> None:
        original: Callable[..., Any] = getattr(Section, name)

        def read(self: Section, key: str = "", *args: Any, **options: Any) -> Any:
            if self.what != "'headers'":  # their names are the operator's
                asked.setdefault(_path(self) + key, missing(*args, **options))
            return original(self, key, *args, **options)

        monkeypatch.setattr(Section, name, read)

    recording("name", lambda: "required")
    recording("text", lambda default=None, **_: "required" if default is None else _default(default))
    recording("secret", lambda required=False: "required" if required else "none")
    recording("flag", lambda default=False: str(default).lower())
    recording("number", lambda default, *_, **__: f"{default:g}" if default < 1000 else str(default))
    recording("duration", lambda default=None: "required" if default is None else _span(default))
    recording("texts", lambda *_, **__: "none")
    recording("section", lambda *_: "none")
    recording("entries", lambda *_, **__: "none")
    problems = Problems()
    load_settings(EXAMPLE / "firedoor.yaml", problems)
    problems.raise_any()
    asked.pop("connections.http.", None)
    return {key: default for key, default in asked.items() if not key.endswith(".")}


def _path(section: Section) -> str:
    if section.what == "firedoor.yaml":
        return ""
    if section.what.startswith("connection "):
        return f"connections.{section.node.value['kind'].raw}."  # type: ignore[index,call-overload]  # a mapping
    return section.what.strip("'") + "."


def _default(text: str) -> str:
    return text or "none"


def _span(span: timedelta) -> str:
    if timedelta(0) < span < timedelta(minutes=1):
        return f"{span.seconds}s"
    minutes = int(span.total_seconds()) // 60
    if span >= timedelta(days=7):
        return f"{span.days}d"
    return f"{minutes // 60}h" if (minutes % 60 == 0 and minutes not in (60, 120)) or minutes == 60 else f"{minutes}m"


def documented_settings() -> dict[str, str]:
    found: dict[str, str] = {}
    prefix = ""
    for line in (REFERENCE / "settings.md").read_text().splitlines():
        if heading := re.fullmatch(r"## `(\w+)`(?: of kind `(\w+)`)?", line):
            prefix = ".".join(part for part in heading.groups() if part) + "."
        elif row := re.match(r"\| `(\w+)` \| `?([^`|]+)`? \|", line):
            found[prefix + row[1]] = row[2].strip()
    return found


def test_every_setting_is_documented_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_settings(monkeypatch)
    assert len(asked) > 80
    assert sorted(documented_settings()) == sorted(asked)


def test_the_defaults_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, documented = asked_settings(monkeypatch), documented_settings()
    same = {"60m": "1h", "120m": "2h"}
    wrong = {
        key: (documented.get(key), default)
        for key, default in asked.items()
        if same.get(documented.get(key, ""), documented.get(key)) != same.get(default, default)
    }
    assert wrong == {"store": ("required", "none")}  # 'store' is a section: what it needs is said inside it
