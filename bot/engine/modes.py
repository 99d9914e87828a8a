"""The mode that every agent is held at, from the streams of the holds, for those who publish it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from bot.domain import containment
from bot.domain.agent import Mode
from bot.domain.containment import Target
from bot.store import Store

SET_MODE = "agent.set_mode"
STREAM = "agent:"


@dataclass(frozen=True, slots=True)
class Standing:
    """`epoch` is the version of the agent's stream at which its mode last changed: it only grows. `incident` is whose
    hold it is, '' where there is none."""

    mode: Mode = Mode.ACTIVE
    epoch: int = 0
    incident: str = ""


def held_at(target: Target) -> tuple[Mode, str]:
    """The strictest of what is held and of what is in force: a hold counts from its commit, a release when it is
    done."""
    control = target.controls.get(SET_MODE)
    holds = [claim.hold for claim in control.claims] if control else []
    if control and control.in_force:
        holds.append(control.in_force)
    strictest = max(holds, key=lambda hold: hold.level, default=None)
    return (Mode(strictest.level), strictest.incident) if strictest else (Mode.ACTIVE, "")


class Modes:
    """What this process remembers of it; `refresh` takes in what it and its peers have written since."""

    def __init__(self, store: Store, agents: Callable[[], Iterable[str]]) -> None:
        self._store, self._agents = store, agents
        self._known: dict[str, tuple[Target, Standing]] = {}
        self._lock = threading.Lock()

    def refresh(self) -> Mapping[str, Standing]:
        """By agent, of all that are enrolled. Raises Unavailable and RecordBroken: then nothing is known for sure."""
        with self._lock, self._store.reading() as tx:
            versions = dict(tx.versions("target"))
            for agent in (agents := tuple(self._agents())):
                stream = f"{STREAM}{agent}"
                target, standing = self._known.get(agent) or (Target(stream), Standing())
                if versions.get(stream, 0) <= target.version:
                    continue
                for entry in tx.read(stream, target.version):
                    target = containment.take(containment.apply(target, entry.event, entry.at), entry.decisions)
                    mode, incident = held_at(target)
                    if (mode, incident) != (standing.mode, standing.incident):
                        standing = Standing(mode, entry.version, incident)
                self._known[agent] = target, standing
            return {agent: self._known[agent][1] if agent in self._known else Standing() for agent in agents}
