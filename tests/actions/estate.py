"""The small estate that these tests act on, where no simulator of its own is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from bot.domain.agent import Agent
from bot.ports import AwsAccount, Logged, Retention, StoredObject
from bot.ports.aws import Iam
from bot.sandbox.faults import Faults


@dataclass
class Enrolled:
    """ports.Directory of some agents; `untouchable` ones are protected."""

    agents: Sequence[Agent] = ()
    untouchable: Mapping[str, str] = field(default_factory=dict)

    def agent(self, agent_id: str) -> Agent | None:
        return next((agent for agent in self.agents if agent.id == agent_id), None)

    def by_actor(self, actors: Sequence[str]) -> Agent | None:
        found = [agent for agent in self.agents if agent.actors() & set(actors)]
        return found[0] if len(found) == 1 else None

    def protected(self, target: str) -> str:
        return self.untouchable.get(target, "")

    def count(self, kind: str) -> int:
        return len(self.agents) if kind == "agent" else 0


@dataclass
class Parameters:
    """ports.Parameters in memory."""

    faults: Faults = field(default_factory=Faults)
    values: dict[str, tuple[str, int]] = field(default_factory=dict)

    def put(self, name: str, value: str) -> int:
        self.faults.before("put")
        version = self.values.get(name, ("", 0))[1] + 1
        self.values[name] = (value, version)
        self.faults.after("put")
        return version

    def get(self, name: str) -> tuple[str, int] | None:
        self.faults.before("get")
        return self.values.get(name)


@dataclass
class Trail:
    """ports.CloudTrail: events by (attribute, value), each with its `EventTime`."""

    faults: Faults = field(default_factory=Faults)
    kept: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    def events(self, attribute: str, value: str, since: datetime, until: datetime, pages: int = 10) -> Logged:
        self.faults.before("events")
        found = [e for e in self.kept.get((attribute, value), ()) if since <= e["EventTime"] <= until]
        return Logged(tuple(found[: pages * 50]), pages, len(found) <= pages * 50)


@dataclass
class Shelf:
    """ports.Evidence in memory: write-once, by content."""

    faults: Faults = field(default_factory=Faults)
    objects: dict[str, tuple[bytes, StoredObject]] = field(default_factory=dict)

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        self.faults.before("put")
        digest = hashlib.sha256(data).hexdigest()
        lock = "COMPLIANCE" if retain_until else ""
        stored = StoredObject(f"shelf/{digest}/{name}", digest, len(data), retain_until, lock)
        _, stored = self.objects.setdefault(digest, (data, stored))
        self.faults.after("put")
        return stored

    def get(self, address: str) -> bytes | None:
        return next((data for data, stored in self.objects.values() if stored.address == address), None)

    def retention(self, address: str) -> Retention | None:
        until = next((stored.locked_until for _, stored in self.objects.values() if stored.address == address), None)
        return Retention("COMPLIANCE", until) if until else None


def account(parameters: Parameters | None = None, trail: Trail | None = None, iam: Iam | None = None) -> AwsAccount:
    """An AWS account of which only these parts are ever asked."""
    nothing: Any = SimpleNamespace()
    return AwsAccount(iam or nothing, nothing, parameters or Parameters(), trail or Trail())
