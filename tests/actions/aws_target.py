"""One `aws.*` action against one estate, in the words of the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.actions import Action
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Outcome
from bot.errors import Denied, Unavailable
from bot.ports import Ports
from tests.actions.driver import drive
from tests.actions.estate import Enrolled
from tests.aws_estate import Estate, fresh

THROTTLED = Unavailable("aws", "throttled", retry_after=5)
HANGING = Unavailable("aws", "no answer", sent=True)
REFUSED = Denied("aws", "the bot's policy lacks it")


@dataclass
class Drill:
    estate: Estate
    action: Action
    untouchable: dict[str, str] = field(default_factory=dict)
    key: str = field(default_factory=lambda: f"test.0/INC-7/{fresh('d')}")

    @property
    def ports(self) -> Ports:
        return Ports(self.estate.clock, Enrolled((), self.untouchable), aws={"aws": self.estate.account})

    def targets(self, agent: Agent | None, **params: Any) -> tuple[Mapping[str, Any], ...]:
        found = self.action.targets({"agent": agent.id if agent else "", **params}, agent)
        return tuple(target.params for target in found)

    def run(self, params: Mapping[str, Any], *, key: str = "", twice: bool = False) -> Outcome:
        return drive(self.action, params, self.ports, self.estate.clock, key or self.key, twice=twice)

    def done(self, params: Mapping[str, Any], *, key: str = "", twice: bool = False) -> Done:
        outcome = self.run(params, key=key, twice=twice)
        assert isinstance(outcome, Done), outcome
        assert set(outcome.evidence) <= set(self.action.outputs)
        return outcome

    def verify(self, params: Mapping[str, Any]) -> Done | None:
        return self.action.verify(params, self.ports)

    def undo(self, params: Mapping[str, Any], done: Done) -> Outcome:
        assert done.undo is not None
        return self.action.undo(params, self.ports, undo=done.undo, key=self.key)
