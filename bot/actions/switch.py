"""The shape that most actions have: remember how one thing is, change it, read it back, give it back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Generic, TypeVar

from bot.actions import Action
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.ports import Ports

PATIENCE = timedelta(minutes=1)  # how long a change may take until it can be read back
_AGAIN = timedelta(seconds=2)

System = TypeVar("System")


class Switch(Action, Generic[System]):
    """Says what is particular to one action; when each is asked stands in `run` and `undo`. Each may be asked again."""

    containing = True
    best_grade = Grade.CONFIG
    patience: ClassVar[timedelta] = PATIENCE  # until it must read as changed
    named: ClassVar[tuple[str, ...]] = ("agent",)  # the parameters that name what may be protected

    @abstractmethod
    def system(self, params: Mapping[str, Any], ports: Ports) -> System:
        """Where the thing is."""

    @abstractmethod
    def name(self, params: Mapping[str, Any]) -> str:
        """The thing, in a sentence."""

    @abstractmethod
    def absent(self, params: Mapping[str, Any], system: System) -> Done | Failed | None:
        """Why there is nothing to do (Done), or why it cannot or must not be done (Failed); None where it can."""

    @abstractmethod
    def state(self, params: Mapping[str, Any], system: System) -> Any:
        """How the thing is: what a release needs (JSON)."""

    @abstractmethod
    def change(self, params: Mapping[str, Any], system: System, key: str) -> Mapping[str, Any]:
        """Changes it. What it returns is kept for `seen`. Already changed: the same result."""

    @abstractmethod
    def seen(self, params: Mapping[str, Any], system: System, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The evidence, where it reads as changed. `kept`: what `change` returned; {} where only looking."""

    def restore(self, params: Mapping[str, Any], system: System, before: Any) -> str:
        """Puts it back to `before` and reads it back; returns why it is not as it was, or ''."""
        raise NotImplementedError(f"{self.id} cannot be undone")  # nobody asks where `undoable` is False

    def unwanted(self, params: Mapping[str, Any], system: System) -> Done | Failed | None:
        """Why it is refused, or not needed, at the start; a release does not ask this."""
        return None

    def grade(self, evidence: Mapping[str, Any]) -> Grade:
        """How much this evidence proves."""
        return Grade.CONFIG

    def besides(self, now: datetime) -> Mapping[str, Any]:
        """Evidence that is known beforehand."""
        return {}

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        if why := protected(ports, *(str(params.get(each, "")) for each in self.named), *params.get("principals", ())):
            return Skipped(why)
        system, now, name = self.system(params, ports), ports.clock.now(), self.name(params)
        if absent := self.absent(params, system) or (self.unwanted(params, system) if so_far is None else None):
            return absent
        if so_far is None:
            return Pending(now, {"before": self.state(params, system)}, f"saved how {name} was")
        if "since" not in so_far:
            so_far = {**so_far, "kept": dict(self.change(params, system, key))}
        seen = self.seen(params, system, so_far["kept"])
        done = None if seen is None else Done(self.grade(seen), {**seen, **self.besides(now)})
        undo = {"before": so_far["before"]} if self.undoable else {}
        why = f"{self.id} was asked of {name} and does not read so"
        return settled(done, now, so_far, undo, name, why, self.patience)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        evidence = self.seen(params, self.system(params, ports), {})
        return None if evidence is None else Done(self.grade(evidence), evidence)

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        system = self.system(params, ports)
        if absent := self.absent(params, system):
            return absent
        if why := self.restore(params, system, undo["before"]):
            return Failed(True, why)
        return Done(Grade.CONFIG, {"target": self.name(params)})


def protected(ports: Ports, *names: str) -> str:
    """Why one of these must not be touched, or ''."""
    return next(filter(None, (ports.directory.protected(name) for name in names if name)), "")


def settled(
    seen: Done | None,
    now: datetime,
    so_far: Mapping[str, Any],
    undo: Mapping[str, Any],
    target: str,
    why: str,
    patience: timedelta = PATIENCE,
) -> Outcome:
    """Done as soon as the change can be read back, tried for `patience`. After that Done too, but `unverified`: the
    change was asked for, and a release must know how to take it back."""
    if seen:
        return replace(seen, undo=undo)
    since = so_far.get("since", now.isoformat())
    if now - datetime.fromisoformat(since) >= patience:
        return Done(Grade.UNVERIFIED, {"target": target, "why": why}, undo=undo)
    return Pending(now + _AGAIN, {**so_far, "since": since}, f"{why}; looking again")
