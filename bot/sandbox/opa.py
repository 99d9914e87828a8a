"""A simulated OPA replica: data that is pushed or comes as a bundle, and the decision of the shipped policy."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from bot.errors import Rejected
from bot.sandbox.faults import Faults


class SimOpa:
    """ports.Opa in memory. `roots` belong to a bundle named `bundle`. `lax`: its policy lets everything through.
    `undefined`: its decision is nowhere defined."""

    def __init__(self, name: str, faults: Faults | None = None, *, roots: Sequence[str] = ()) -> None:
        self._name, self.faults, self.roots = name, faults or Faults(), list(roots)
        self.lax = self.undefined = False
        self.data: dict[str, Any] = {}
        self.asked: list[Mapping[str, Any]] = []  # inputs of the decision
        self._lock = threading.RLock()

    @property
    def name(self) -> str:
        return self._name

    def restart(self) -> None:
        """What was pushed is gone."""
        with self._lock:
            self.data = {}

    def mode(self, agent: str) -> Mapping[str, Any] | None:
        self.faults.before("mode")
        found = self.read(["agents", agent, "mode"])
        if found is not None and not isinstance(found, dict):
            raise Rejected(self.name, f"data.agents.{agent}.mode is {found!r}, not a mode that Firedoor wrote")
        return found

    def set_mode(self, agent: str, document: Mapping[str, Any]) -> None:
        self.faults.before("set_mode")
        if owner := self.owner(["agents", agent, "mode"]):
            raise Rejected(self.name, f"it takes no pushed mode of {agent}: {owner}")
        self.write(["agents", agent, "mode"], dict(document))
        self.faults.after("set_mode")

    def refuses(self, agent: str, effect: str) -> bool:
        self.faults.before("refuses")
        allowed = self.decide({"agent": agent, "effect": effect, "side_effects": True})
        if allowed is None:
            raise Rejected(self.name, "the decision is undefined: give it a default")
        return not allowed

    # What the server over it answers from.

    def owner(self, path: Sequence[str]) -> str:
        """OPA's own words where a bundle owns the path, or ''. A path above a root is owned too."""
        for root in self.roots:
            if not root:
                return 'all paths owned by bundle "bundle"'
            if all(a == b for a, b in zip(path, root.split("/"), strict=False)):
                return f'path {"/".join(path)} is owned by bundle "bundle"'
        return ""

    def read(self, path: Sequence[str]) -> Any:
        """None where it is undefined."""
        with self._lock:
            found: Any = self.data
            for part in path:
                found = found.get(part) if isinstance(found, dict) else None
            return copy.deepcopy(found)

    def write(self, path: Sequence[str], value: Any) -> None:
        with self._lock:
            at = self.data
            for part in path[:-1]:
                at = at.setdefault(part, {})
            at[path[-1]] = copy.deepcopy(value)

    def decide(self, given: Mapping[str, Any]) -> bool | None:
        """As the policy of docs/how-to/put-an-agent-under-firedoor.md does."""
        self.asked.append(dict(given))
        if self.undefined or self.lax:
            return None if self.undefined else True
        found = self.read(["agents", str(given.get("agent")), "mode"])
        mode = found.get("mode") if isinstance(found, dict) else "shadow"
        return mode == "active" or (mode in ("advisory", "shadow") and not given.get("side_effects"))
