"""An action is called: behind the breaker of its system, and what comes of it is an outcome, without secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, assert_never, cast

from bot.actions import Action
from bot.domain.decisions import RunAction
from bot.domain.events import Aftermath, Standing, Verb, Verified
from bot.domain.outcome import Done, Failed, Outcome, Pending, Skipped, Unknown
from bot.engine.breaker import Breakers
from bot.engine.world import World
from bot.errors import Rejected, SystemFailure, Unavailable

log = logging.getLogger(__name__)


class Calls:
    def __init__(self, world: World, breakers: Breakers) -> None:
        self._world, self._breakers = world, breakers

    def make(self, decision: RunAction, claims: int) -> Outcome:
        ports, action, system = self._world.ports, self._world.actions[decision.action], decision.system
        if wait := self._breakers.wait(system):
            why = f"{system} keeps failing ({self._breakers.why(system)}): asked again in {wait:.0f} s"
            return Pending(ports.clock.now() + timedelta(seconds=wait), why=why, unavailable=True)
        if claims > 1 and not action.repeatable(decision.params):
            return Unknown("the process ended while this was under way; it cannot be looked up or repeated safely")
        if decision.verb is Verb.RUN and (why := self._protected(decision)):
            return Failed(retryable=False, why=why)
        outcome = self._call(action, decision)
        return _redacted(outcome, self._world.redactor.text, self._world.redactor.json)

    def look(self, decision: RunAction) -> Verified:
        """Whether what was done still stands, and, where it is time, what the system's log says of its use since. What
        cannot be read is said to be unread; it is never taken for gone, nor for standing."""
        action, ports = self._world.actions[decision.action], self._world.ports
        if wait := self._breakers.wait(decision.system):
            why = self._breakers.why(decision.system)
            return unread(decision, f"{decision.system} keeps failing ({why}): left alone for {wait:.0f} s")
        try:
            found = action.verify(decision.params, ports)
        except Unavailable as error:
            self._breakers.failed(decision.system, error.why)
            looked = unread(decision, self._world.redactor.text(str(error)))
        except SystemFailure as error:
            self._breakers.answered(decision.system)
            looked = unread(decision, self._world.redactor.text(str(error)))
        except Exception as error:  # an action's bug must not look like a cut that was taken away
            log.exception("%s failed inside", decision.action)
            looked = unread(decision, f"{decision.action} failed inside: {type(error).__name__}")
        else:
            self._breakers.answered(decision.system)
            standing = Standing.STANDS if found else Standing.LOST
            looked = Verified(decision.id, decision.step, decision.call, standing)
            if found:
                evidence = self._world.redactor.json(_plain(found.evidence))
                looked = replace(looked, grade=found.grade, evidence=cast("Mapping[str, Any]", evidence))
            else:
                looked = replace(looked, why=f"{decision.action} on {decision.target} no longer reads as in force")
        return replace(looked, after=self._after(action, decision))

    def _after(self, action: Action, decision: RunAction) -> Aftermath | None:
        if decision.so_far is None:
            return None
        since, until = datetime.fromisoformat(decision.so_far["since"]), self._world.ports.clock.now()
        try:
            return action.after(decision.params, self._world.ports, since=since, until=until)
        except SystemFailure as error:
            why = f"the log could not be read: {self._world.redactor.text(str(error))}"
        except Exception as error:  # the same: what nobody could read proves nothing
            log.exception("the log that %s asks could not be read", decision.action)
            why = f"the log could not be read: {type(error).__name__}"
        return Aftermath(since, until, why=why)

    def _call(self, action: Action, decision: RunAction) -> Outcome:
        ports = self._world.ports
        settings = self._world.config.settings
        key = f"{settings.install}.{settings.epoch}/{decision.key}"  # a restored backup raises the epoch
        try:
            if decision.verb is Verb.UNDO:
                outcome = action.undo(decision.params, ports, undo=decision.undo or {}, key=key)
            else:
                outcome = action.run(decision.params, ports, key=key, so_far=decision.so_far)
        except Unavailable as error:
            self._breakers.failed(decision.system, error.why)
            at = ports.clock.now() + timedelta(seconds=error.retry_after or 0.0)
            return Pending(at, why=str(error), unavailable=True)
        except SystemFailure as error:  # it refused, so it is up
            self._breakers.answered(decision.system)
            return Failed(retryable=isinstance(error, Rejected) and error.retryable, why=str(error))
        except Exception as error:  # an action's bug is an answer too: people must see it, and soon
            log.exception("%s failed inside", decision.action)
            return Failed(retryable=False, why=f"{decision.action} failed inside: {type(error).__name__}")
        self._breakers.answered(decision.system)
        return outcome

    def _protected(self, decision: RunAction) -> str:
        """Law 11: the bot's own identities and the protected list are refused, whatever asked for it."""
        named = (decision.target, *_texts(decision.params))
        found = (self._world.ports.directory.protected(name) for name in named if name)
        return next((f"refused: {why}" for why in found if why), "")


def unread(decision: RunAction, why: str) -> Verified:
    return Verified(decision.id, decision.step, decision.call, Standing.UNREAD, why=why)


def _redacted(outcome: Outcome, text: Callable[[str], str], json: Callable[[Any], Any]) -> Outcome:
    """Without secrets, in everything that an action read back: what it saved for its next stage and its undo too."""

    def clean(read: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        return None if read is None else cast("Mapping[str, Any]", json(_plain(read)))

    match outcome:
        case Done(grade=grade, evidence=evidence, undo=undo, nothing_held=nothing):
            return Done(grade, clean(evidence) or {}, clean(undo), text(nothing))
        case Pending(check_at=at, so_far=so_far, why=why, unavailable=unavailable):
            return Pending(at, clean(so_far) or {}, text(why), unavailable)
        case Failed(retryable=retryable, why=why, undo=undo):
            return Failed(retryable, text(why), clean(undo))
        case Skipped(why=why):
            return Skipped(text(why))
        case Unknown(why=why):
            return Unknown(text(why))
    assert_never(outcome)


def _texts(value: Any) -> Iterator[str]:
    """Every text in a call's params, lists and mappings searched."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _plain(value: Any) -> Any:
    """As JSON has it: what is neither list nor dict is not looked into."""
    match value:
        case Mapping():
            return {key: _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
    return value
