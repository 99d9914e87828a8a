"""One line of the record: an event, and the decisions it caused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bot.domain.decisions import Decision
from bot.domain.events import Event

SCHEMA = 1  # of the bodies below; older ones are read by upcasters
RULES = 1  # version of `advance`; golden records of every release fold to the same state


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the record, read back and verified. `digest` is the SHA-256 of the signed bytes, hex."""

    stream: str
    version: int  # from 1
    at: datetime
    event: Event
    decisions: tuple[Decision, ...]
    digest: str = ""
    schema: int = SCHEMA
    rules: int = RULES
