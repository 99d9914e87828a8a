"""`firedoor doctor`: asks every system whether it is as the configuration says, and changes nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from bot.errors import ConfigError, FiredoorError

log = logging.getLogger(__name__)

PATIENCE = 15.0  # seconds for one check
APART = timedelta(seconds=2), timedelta(seconds=60)  # clocks: told from the first on, wrong from the second on


class State(StrEnum):
    OK = "ok"
    WARN = "WARN"
    FAIL = "FAIL"
    UNVERIFIED = "unverified"  # it cannot be known without doing it, or the bot may not ask


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: how it is with `subject`, and what to do where it is not well."""

    state: State
    subject: str
    what: str
    todo: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """`ask` yields findings as it goes. `patience` in seconds."""

    subject: str
    ask: Callable[[], Iterable[Finding]]
    patience: float = PATIENCE


@dataclass(slots=True)
class _Visit:
    check: Check
    found: list[Finding] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        subject = self.check.subject
        try:
            for finding in self.check.ask():
                self.found.append(finding)
        except ConfigError as error:
            # Not `env:A_SECRET: ...`: what follows would be taken for its value and redacted.
            self.found.append(Finding(State.FAIL, subject, f"{_sentence(error.problem)} ({error.where})", error.hint))
        except FiredoorError as error:
            self.found.append(Finding(State.FAIL, subject, str(error).removeprefix(f"{subject}: ")))
        except Exception as error:  # a bug in one check: the others are still worth knowing
            log.exception("the check of %s failed inside", subject)
            self.found.append(Finding(State.UNVERIFIED, subject, f"the check failed inside: {type(error).__name__}"))
        finally:
            self.done.set()


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """All at once, told in order. One that hangs costs its own patience and is left behind."""
    visits = [_Visit(check) for check in checks]
    started = time.monotonic()
    for visit in visits:
        threading.Thread(target=visit.run, name=f"doctor-{visit.check.subject}", daemon=True).start()
    for visit in visits:
        left = started + visit.check.patience - time.monotonic()
        ended = visit.done.wait(max(0.0, left))
        yield from tuple(visit.found)
        if not ended:
            why = f"no answer within {visit.check.patience:.0f} s"
            yield Finding(State.FAIL, visit.check.subject, why, "Look whether it is reachable from this machine.")


def _sentence(text: str) -> str:
    return text.removesuffix(".")


def clocks(subject: str, theirs: datetime, before: datetime, after: datetime) -> Finding:
    """`theirs` was told between two of our times; a Date header is in whole seconds."""
    skew = max(before - theirs - timedelta(seconds=1), theirs - after, timedelta())
    told = f"its clock and ours are {skew.total_seconds():.0f} s apart"
    if skew <= APART[0]:
        return Finding(State.OK, subject, "its clock and ours agree")
    state = State.WARN if skew <= APART[1] else State.FAIL
    return Finding(state, subject, told, "Let NTP set this machine's clock: signatures and deadlines depend on it.")
