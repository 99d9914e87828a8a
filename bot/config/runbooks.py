"""Runbooks: Markdown with YAML front matter."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from bot.config import yaml
from bot.config.reading import Problems, Section
from bot.domain.runbook import Phase, Runbook
from bot.errors import ConfigError

_FENCE = "---"


def load_runbook(text: str | bytes, where: str) -> Runbook:
    """Raises ConfigError, or ConfigErrors with all that is wrong."""
    problems = Problems()
    data = text if isinstance(text, bytes) else text.encode()
    try:
        lines = data.decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise ConfigError(where, f"the file is not UTF-8 (byte {error.start}).") from None
    fences = [number for number, line in enumerate(lines) if line.rstrip() == _FENCE][:2]
    if len(fences) < 2 or fences[0] != 0:
        raise ConfigError(f"{where}:1", "a runbook starts with YAML between two lines of '---'.")
    front, body = "".join(lines[1 : fences[1]]), "".join(lines[fences[1] + 1 :]).strip() + "\n"
    with Section(yaml.parse(front, where, first_line=2), problems, "the runbook") as top:
        top.text("apiVersion", choices=["firedoor/v1"])
        top.text("kind", choices=["Runbook"])
        runbook = Runbook(
            id=top.name("id"),
            type=top.name("type"),
            title=top.text("title"),
            hash=hashlib.sha256(data).hexdigest(),
            playbook=top.text("playbook", ""),
            phases=tuple(_phase(Section(node, problems, "a phase")) for node in top.elements("phases")),
            body_markdown=body,
        )
        if not runbook.phases:
            top.report("phases", "a runbook needs at least one phase.")
        if list(runbook.phases) != sorted(runbook.phases, key=lambda phase: phase.due):
            top.report("phases", "the phases are not in the order of their deadlines.")
    problems.raise_any()
    return runbook


def load_runbooks(folder: Path, problems: Problems) -> dict[str, Runbook]:
    """Every `*.md` of a folder that is not its README, by incident type."""
    found: dict[str, Runbook] = {}
    for path in sorted(folder.glob("*.md")):
        if path.stem.lower() == "readme":
            continue
        where = f"{folder.name}/{path.name}"
        runbook = problems.attempt(partial(load_runbook, path.read_bytes(), where), None)
        if runbook and path.stem != runbook.id:
            problems.add(
                where, f"the file of the runbook {runbook.id!r} is named {path.name!r}.", f"Name it {runbook.id}.md."
            )
        elif runbook and runbook.type in found:
            problems.add(where, f"the type {runbook.type!r} has two runbooks.")
        elif runbook:
            found[runbook.type] = runbook
    return found


def _phase(section: Section) -> Phase:
    with section:
        return Phase(
            name=section.name("name"),
            due=section.duration("due"),
            role=section.text("role"),
            checklist=section.texts("checklist"),
            playbook=section.text("playbook", ""),
        )
