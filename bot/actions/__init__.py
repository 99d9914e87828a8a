"""What Firedoor can do to a system: one file an action, found by walking this package.

A file defines one subclass of `Action`. Adding one touches that file and its test, nothing else.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from typing import Any, ClassVar

from bot.domain.agent import Agent
from bot.domain.events import Aftermath
from bot.domain.iam import Denial
from bot.domain.outcome import Done, Grade, Outcome
from bot.domain.playbook import Param, Target
from bot.ports import Ports


class Action(ABC):
    """One action on one target. The class docstring is its help text, in the operator's language."""

    id: ClassVar[str]
    version: ClassVar[int] = 1  # raised when the same params come to mean something else
    params: ClassVar[tuple[Param, ...]]
    outputs: ClassVar[tuple[str, ...]]  # keys of Done.evidence, which later steps may read
    permissions: ClassVar[Mapping[str, tuple[str, ...]]]  # least privilege: {"aws": ("iam:PutRolePolicy",), ...}
    example: ClassVar[str]  # a YAML step body, loaded and run by the tests
    containing: ClassVar[bool]  # whether it may stand under `contains: true`
    best_grade: ClassVar[Grade]  # the highest grade it can ever reach
    undoable: ClassVar[bool] = True
    trail: ClassVar[timedelta | None] = None  # how late the system's own log tells of a use; None: it is not asked

    @abstractmethod
    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        """Pure. What it will act on, each with complete params. () where the agent holds nothing to cut. Raises
        ValueError with a reason where that cannot be said (the agent is unknown)."""

    @abstractmethod
    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        """One stage for one target (`params` are a Target's). Saves what undo needs and returns it as `Pending.so_far`
        before it changes anything that a repeat could not read again. Repeating a stage with the same `key` is safe,
        or leaves a trace (tag, name) that is looked for first. Never sleeps: waiting is `Pending`. Raises only
        errors.SystemFailure, which the performer translates."""

    @abstractmethod
    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """Reads the state back: Done with the grade and what was read, or None where it is not (or no longer) so."""

    def after(self, params: Mapping[str, Any], ports: Ports, *, since: datetime, until: datetime) -> Aftermath:
        """What the system's own log says of the use of what was cut, between two moments. Asked only where there is a
        `trail`. Raises errors.SystemFailure."""
        raise NotImplementedError(f"{self.id} leaves no trail")  # nobody asks where `trail` is not set

    def denials(self, params: Mapping[str, Any], cutoff: str) -> tuple[Denial, ...]:
        """Pure. What a run at `cutoff` (an iam.STAMP) would put in force, where it denies by a policy of AWS; () where
        it cuts by other means. Raises ValueError where that cannot be told before it runs, with the reason."""
        return ()

    def repeatable(self, params: Mapping[str, Any]) -> bool:
        """Whether a stage that may have been performed already (its performer died) may be performed again under its
        key. Where not, such a decision is settled Unknown and put to a human."""
        return True

    def undo(self, params: Mapping[str, Any], ports: Ports, *, undo: Mapping[str, Any], key: str) -> Outcome:
        """Restores what `run` saved, and reads it back. Again: the same result."""
        raise NotImplementedError(f"{self.id} cannot be undone")  # `undoable` is False; check refuses such a release


@cache
def registry() -> Mapping[str, Action]:
    """Every action by its id."""
    found: dict[str, Action] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for value in vars(loaded).values():
            own = isinstance(value, type) and issubclass(value, Action) and value.__module__ == loaded.__name__
            if own and not inspect.isabstract(value):
                found[value.id] = value()
    return dict(sorted(found.items()))


class Registry:
    """The registry as the domain's `Catalogue`."""

    def targets(self, action: str, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = registry().get(action)
        if known is None:  # pinned by an incident that an older release opened
            raise ValueError(f"this release has no action {action!r}")
        if lacking := [param.name for param in known.params if param.required and param.name not in params]:
            raise ValueError(f"{action} needs {', '.join(lacking)}, which this playbook does not say")
        return known.targets(params, agent)

    def version(self, action: str) -> int:
        known = registry().get(action)
        return known.version if known else 0

    def undoable(self, action: str) -> bool:
        known = registry().get(action)
        return known is not None and known.undoable

    def trail(self, action: str) -> timedelta | None:
        known = registry().get(action)
        return known.trail if known else None
