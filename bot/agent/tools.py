"""The gate that every tool call goes through, and what the agent gets where it does not pass."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from bot.agent.journal import Record
from bot.agent.standing import Mode, Standing

InShadow = Literal["value", "raise"]


class NotAllowed(Exception):
    """The agent's mode forbids this call; it was not carried out. `mode` and `tool` say what met what."""

    def __init__(self, tool: str, mode: Mode, why: str) -> None:
        self.tool, self.mode, self.why = tool, mode, why
        super().__init__(f"{tool} was not carried out: this agent is in mode {mode}, since {why}.")


class Refused(NotAllowed):
    """A side effect in `advisory`, or in `shadow` where the tool raises."""


class Disabled(NotAllowed):
    """Any call in `disabled`."""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """In place of a result: the call was recorded and not carried out. It is false, and its text can be shown to a
    model as it is."""

    tool: str
    why: str
    arguments: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return f"{self.tool} was recorded and not carried out: this agent is in shadow mode, since {self.why}."


class Gate:
    """Whether a call may begin, and which side effects are under way. A mode that was closed here lets none begin: the
    switch and the beginning of a side effect take the same lock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.reset()

    def reset(self) -> None:
        """As at first: nothing was ordered, nothing runs, nobody has the lock."""
        self._changed = threading.Condition()
        self._standing = Standing()
        self._begun = self._under_way = 0

    @property
    def standing(self) -> Standing:
        return self._standing

    @property
    def mode(self) -> Mode:
        return self._standing.mode(self._now())

    @property
    def last_effect_seq(self) -> int:
        """The number of the last side effect that began."""
        return self._begun

    @property
    def under_way(self) -> int:
        return self._under_way

    def change(self, how: Callable[[Standing], Standing]) -> Standing:
        with self._changed:
            self._standing = how(self._standing)
            self._changed.notify_all()
            return self._standing

    def wait(self, until: Callable[[], bool], seconds: float) -> bool:
        """`until` is asked whenever the standing changes or a side effect ends."""
        with self._changed:
            return self._changed.wait_for(until, seconds)

    def look(self) -> tuple[Mode, str]:
        now, standing = self._now(), self._standing
        return standing.mode(now), standing.why(now)

    @contextmanager
    def effect(self) -> Iterator[tuple[Mode, str]]:
        """(ACTIVE, '') where it may be carried out, inside; otherwise the mode that forbids it, and why."""
        with self._changed:
            mode, why = self.look()
            if mode is Mode.ACTIVE:
                self._begun += 1
                self._under_way += 1
        try:
            yield (mode, why)
        finally:
            if mode is Mode.ACTIVE:
                with self._changed:
                    self._under_way -= 1
                    self._changed.notify_all()


class Client(Protocol):
    """What a tool needs of the client."""

    agent: str
    instance: str
    gate: Gate
    record: Record


@dataclass(frozen=True, slots=True)
class Tool:
    """One guarded function."""

    client: Client
    function: Callable[..., Any]
    name: str
    effects: bool
    in_shadow: InShadow

    @contextmanager
    def passage(self) -> Iterator[tuple[Mode, str]]:
        """The mode that the call meets, and why it is in force."""
        if self.effects:
            with self.client.gate.effect() as found:
                yield found
        else:
            yield self.client.gate.look()

    def may(self, mode: Mode) -> bool:
        return mode is Mode.ACTIVE if self.effects else mode is not Mode.DISABLED

    def plain(self, result: Any) -> Any:
        if inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            why = f"{self.name} hands out an awaitable, whose effects no gate would see: write it as async def"
            raise TypeError(why)
        return result

    def barred(self, mode: Mode, why: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shadowed:
        """In place of a result. A record that cannot be kept raises its own error: the call is not carried out."""
        if mode is Mode.DISABLED:
            raise Disabled(self.name, mode, why)
        arguments = self._arguments(args, kwargs)
        order = self.client.gate.standing.order
        self.client.record(
            {
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "agent": self.client.agent,
                "instance": self.client.instance,
                "tool": self.name,
                "arguments": arguments,
                "mode": str(mode),
                "epoch": order.epoch if order else None,
                "why": why,
            }
        )
        if mode is Mode.ADVISORY or self.in_shadow == "raise":
            raise Refused(self.name, mode, why)
        return Shadowed(self.name, why, arguments)

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """By name, where they fit the function at all."""
        try:
            return dict(inspect.signature(self.function).bind(*args, **kwargs).arguments)
        except (TypeError, ValueError):
            return {"args": list(args), **kwargs}


def guarded(tool: Tool) -> Callable[..., Any]:
    """Raises TypeError for a generator: what it does happens after its call, where no gate stands."""
    function = tool.function
    if not callable(function):
        raise TypeError(f"{tool.name} is no function: put the guard under @classmethod or @staticmethod")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{tool.name} is a generator: make the side effect a function of its own, and guard that")

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with tool.passage() as (mode, why):
            if tool.may(mode):
                return tool.plain(function(*args, **kwargs))
        return tool.barred(mode, why, args, kwargs)

    @functools.wraps(function)
    async def call_async(*args: Any, **kwargs: Any) -> Any:
        with tool.passage() as (mode, why):
            if tool.may(mode):
                return await function(*args, **kwargs)
        return tool.barred(mode, why, args, kwargs)

    return call_async if _is_async(function) else call


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
