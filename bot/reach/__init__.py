"""What an agent holds, asked of every system that knows it. Reads only, and names what it could not read.

A module of this package is a system: its `looks(agent, ports)` yields what is to be asked there. Adding one touches
that file and its test, nothing else.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType, ModuleType

from bot.domain.agent import Agent
from bot.domain.reach import Alive, Held, Reach
from bot.errors import ConfigError, SystemFailure, Unavailable
from bot.ports import Ports

log = logging.getLogger(__name__)

PATIENCE = 15.0  # seconds for one system


@dataclass(frozen=True, slots=True)
class Unread:
    """Something of a system that could not be read, or not all of it."""

    why: str


@dataclass(frozen=True, slots=True)
class Limit:
    """What could be seen there at all."""

    why: str


Found = Held | Unread | Limit


@dataclass(frozen=True, slots=True)
class Look:
    """`ask` yields what it finds as it goes; what was found before a failure counts. Looks of one `system` are made one
    after the other, those of several beside each other."""

    system: str
    ask: Callable[[], Iterable[Found]]


@dataclass(slots=True)
class _Visit:
    """The looks at one system."""

    system: str
    looks: list[Look] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)  # nobody waits any more: begin nothing new

    def run(self) -> None:
        try:
            for look in self.looks:
                if self.over.is_set() or not self._look(look):
                    return
        finally:
            self.done.set()

    def _look(self, look: Look) -> bool:
        """False where the system does not answer: it is not asked for the next agent."""
        try:
            for one in look.ask():
                self.found.append(one)
                if self.over.is_set():
                    return False
        except Unavailable as error:
            self.found.append(Unread(str(error)))
            return False
        except SystemFailure as error:  # it refused this; the next question is another
            self.found.append(Unread(str(error)))
        except ConfigError as error:  # a secret is missing, which the next question would want as well
            self.found.append(Unread(f"{self.system.partition(' ')[0]}: {lacking(error)}"))
            return False
        except Exception as error:  # a look's own bug must not hide what the others found
            log.exception("a look at %s failed inside", self.system)
            self.found.append(Unread(f"{self.system}: the look at it failed inside ({type(error).__name__})"))
        return True


def survey(
    agents: Sequence[Agent],
    ports: Ports,
    *,
    seconds: float = PATIENCE,
    threads: bool = True,
    only: str = "",
    lost: Mapping[str, str] = MappingProxyType({}),
) -> Reach:
    """What these agents hold, the first of them with the others as its children. It takes `seconds` at most: a system
    that has not answered by then is unread, with what it said so far. Without `threads` (virtual time) it is asked in
    line. `only` one system, by name. `lost`: connections that cannot be used, and why: they are unread."""
    visits: dict[str, _Visit] = {}
    unread: list[str] = []
    for agent in agents:
        for module in systems().values():
            for look in module.looks(agent, ports):
                connection = look.system.partition(" ")[0]
                if only and connection != only:
                    continue
                if connection in lost:
                    unread.append(f"{connection}: {lost[connection]}")
                else:
                    visits.setdefault(look.system, _Visit(look.system)).looks.append(look)
    _make(visits.values(), seconds, threads=threads)
    found = [one for visit in visits.values() for one in tuple(visit.found)]
    first, *children = agents
    kin = [Held("agent", one.id, "agents.yaml", first.id, alive=Alive.UNKNOWN, why="acts for it") for one in children]
    late = [
        f"{visit.system}: no answer within {seconds:.0f} s; what it said before counts"
        for visit in visits.values()
        if not visit.done.is_set()
    ]
    return Reach.of(
        [*(one for one in found if isinstance(one, Held)), *kin],
        [*unread, *(one.why for one in found if isinstance(one, Unread)), *late],
        [one.why for one in found if isinstance(one, Limit)],
    )


def _make(visits: Iterable[_Visit], seconds: float, *, threads: bool) -> None:
    under_way = list(visits)
    if not threads:
        for visit in under_way:
            visit.run()
        return
    for visit in under_way:  # daemons: a system that never answers must not keep the process from ending
        threading.Thread(target=visit.run, name=f"reach-{visit.system}", daemon=True).start()
    end = time.monotonic() + seconds
    for visit in under_way:
        visit.done.wait(max(0.0, end - time.monotonic()))
    for visit in under_way:
        visit.over.set()


@cache
def systems() -> Mapping[str, ModuleType]:
    """Every module of this package that looks at a system."""
    found = {name: importlib.import_module(f"{__name__}.{name}") for _, name, _ in pkgutil.iter_modules(__path__)}
    return {name: module for name, module in sorted(found.items()) if hasattr(module, "looks")}


def each(ask: Callable[[], Iterator[Found]]) -> Iterator[Found]:
    """One part of a look: where it is refused, the parts after it are looked at all the same."""
    try:
        yield from ask()
    except Unavailable:
        raise
    except SystemFailure as error:
        yield Unread(str(error))


def lacking(error: ConfigError) -> str:
    """What is wrong with a connection, the file or secret last: `SECRET: ...` would be redacted as if one followed."""
    return f"{error.problem.rstrip('.')} ({error.where})"


__all__ = ["PATIENCE", "Found", "Limit", "Look", "Unread", "each", "lacking", "survey", "systems"]
