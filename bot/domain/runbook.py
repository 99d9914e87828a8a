"""A runbook: the phases of an incident type, who is responsible for each, until when, and what to tick off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Phase:
    """`due` counts from the opening. `role` sees to it; `playbook` is one it may start, '' where none belongs to it."""

    name: str
    due: timedelta
    role: str
    checklist: tuple[str, ...]
    playbook: str = ""


@dataclass(frozen=True, slots=True)
class Runbook:
    """For incidents of one type. `hash` is the SHA-256 of the file's bytes; `playbook` runs at the opening."""

    id: str
    type: str
    title: str
    hash: str
    playbook: str
    phases: tuple[Phase, ...]
    body_markdown: str
