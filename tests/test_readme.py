"""What the documentation tells people to type exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from bot.commands import main

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUPS = (
    "incident",
    "quarantine",
    "actions",
    "agents",
    "evidence",
    "investigate",
    "ledger",
    "slack",
)  # whose next word is part of the command's name


def _typed(page: Path) -> list[str]:
    """Lines inside fenced blocks, and what stands between backticks."""
    text = page.read_text("utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line.strip() for block in fenced for line in block.splitlines()] + inline


def _commands() -> dict[str, list[str]]:
    """`incident override` -> the lines that use it."""
    found: dict[str, list[str]] = {}
    for line in (line for page in PAGES for line in _typed(page) if line.startswith("firedoor ")):
        words = shlex.split(line, comments=True)[1:]
        name = " ".join(words[: 2 if words[0] in GROUPS else 1])
        found.setdefault(name, []).append(line)
    return found


@pytest.mark.parametrize("name", sorted(_commands()))
def test_a_command_that_is_shown_exists_with_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*name.split(), "--help"])
    shown = capsys.readouterr()
    assert code == 0, f"firedoor {name} --help: {shown.err}"
    for line in _commands()[name]:
        for option in re.findall(r"(?<=\s)--[a-z-]+", line):
            assert option in shown.out, f"{line}: {name} has no {option}"


def test_a_make_target_that_is_shown_exists() -> None:
    rules = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    shown = {word for page in PAGES for line in _typed(page) for word in re.findall(r"^make ([a-z]+)$", line)}
    assert {"drill", "test"} <= shown <= rules


def test_the_readme_names_every_folder_of_the_package() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"`bot/([a-z]+)/`", readme))
    assert {path.parent.name for path in (ROOT / "bot").glob("*/__init__.py")} - named <= {
        "config",
        "documents",
        "ports",
        "drill",
    }
