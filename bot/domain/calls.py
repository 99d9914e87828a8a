"""The life of one call: what an outcome means for the next try. Shared by incident steps and held targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from bot.domain.decisions import PlannedCall, RunAction
from bot.domain.events import Aftermath, Verb
from bot.domain.outcome import Done, Failed, Outcome, Pending, Skipped, Unknown
from bot.domain.playbook import Retry

MAX_WAIT = timedelta(seconds=30)  # between two tries of a system that does not answer


@dataclass(frozen=True, slots=True)
class Call:
    """A planned call and how far it got. `decision` is the outstanding decision's id ('' when none is out)."""

    plan: PlannedCall
    key: str = ""  # id of its first decision
    decision: str = ""
    verb: Verb = Verb.RUN
    attempts: int = 0  # answers of a reachable system
    so_far: Mapping[str, Any] | None = None
    outcome: Outcome | None = None  # the latest
    again_at: datetime | None = None
    waits: int = 0  # answers in a row that were no answers: the system could not be reached
    final: bool = False
    held: bool = False  # its hold was placed
    undo: Mapping[str, Any] | None = None
    after: Aftermath | None = None  # what the system's log said since it was cut
    looked_at: datetime | None = None  # when it last was, since it was made

    def sent(self, decision: RunAction) -> Call:
        return replace(
            self,
            key=self.key or decision.key,
            decision=decision.id,
            verb=decision.verb,
            again_at=None,
            final=False,
        )

    def settled(self, outcome: Outcome, at: datetime, retry: Retry) -> Call:
        """After an answer: final, or to be asked again at `again_at`."""
        after = replace(self, decision="", outcome=outcome, again_at=None, final=False)
        match outcome:
            case Done(undo=undo):
                return replace(after, waits=0, final=True, undo=undo if self.undo is None else self.undo)
            case Pending(check_at=check_at, so_far=so_far, unavailable=unavailable):
                # Waiting for an unreachable system uses up no attempt and keeps what the stage before had saved.
                kept = self.so_far if unavailable and not so_far else so_far
                waits = self.waits + 1 if unavailable else 0
                patience = min(MAX_WAIT, timedelta(seconds=2 ** min(waits, 5))) if unavailable else timedelta(0)
                return replace(after, so_far=kept, waits=waits, again_at=max(check_at, at + patience))
            case Failed(retryable=True) if self.attempts + 1 < retry.attempts:
                delay = retry_delay(retry, self.attempts + 1, self.decision)
                return replace(after, attempts=self.attempts + 1, again_at=at + delay)
            case Failed() | Skipped() | Unknown():
                return replace(after, attempts=self.attempts + 1, final=True)
        assert_never(outcome)


def retry_delay(retry: Retry, attempt: int, decision: str) -> timedelta:
    """Exponential with full jitter; the jitter is hashed from the decision's id, so that a replay waits the same."""
    ceiling = min(retry.max, retry.backoff * retry.factor ** (attempt - 1))
    share = int.from_bytes(hashlib.sha256(decision.encode()).digest()[:4]) / 2**32
    return timedelta(seconds=round(ceiling * share, 3))
