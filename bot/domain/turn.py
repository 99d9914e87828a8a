"""One event being answered: the state before and now, and the decisions taken so far."""

from __future__ import annotations

from datetime import datetime

from bot.domain.decisions import Decision
from bot.domain.events import Event
from bot.domain.incident import Incident, take


class Turn:
    """One advance under way: `before` and `now` are the states, `do` takes a decision and folds it in at once."""

    def __init__(self, before: Incident, after: Incident, event: Event, at: datetime) -> None:
        self.before, self.now, self.event, self.at = before, after, event, at
        self.decisions: list[Decision] = []

    @property
    def next_id(self) -> str:
        return f"{self.now.id}/{self.now.version}.{len(self.decisions)}"

    def do(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self.now = take(self.now, (decision,), self.at)
