"""Everything that an event can cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.domain.events import Hold, Phase, Verb

# Decisions ------------------------------------------------------------------------------------------------------
# Those of the first group leave the process through the outbox; those of the second are carried out inside the same
# transaction as the event that caused them. `id` is `<stream>/<version>.<index>`.


@dataclass(frozen=True, slots=True)
class RunAction:
    """One stage of one call. `key` is the id of the call's first decision; `undo` is set for Verb.UNDO."""

    id: str
    key: str
    incident: str
    step: str
    call: str
    target: str
    action: str
    verb: Verb
    params: Mapping[str, Any]
    system: str
    timeout: float
    so_far: Mapping[str, Any] | None = None
    undo: Mapping[str, Any] | None = None
    contains: bool = False


class PageKind(StrEnum):
    ESCALATION = "escalation"
    CONTAINMENT = "containment"
    FAILURE = "failure"  # a step failed, was deferred or needs a person
    SUMMONED = "summoned"  # a person asked for them; an ack by somebody else does not stop it


@dataclass(frozen=True, slots=True)
class Page:
    """Reach a person until they acknowledge. `ways` are what is still to be tried after `way` fails. `levels` are
    0-based; several where pages were missed while the process was down."""

    id: str
    key: str
    incident: str
    kind: PageKind
    levels: tuple[int, ...]
    round: int
    person: str
    way: str
    ways: tuple[str, ...]
    reason: str
    due: datetime


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell a person something that an acknowledgement does not stop (A4)."""

    id: str
    key: str
    incident: str
    topic: str
    person: str
    way: str
    ways: tuple[str, ...]
    due: datetime


@dataclass(frozen=True, slots=True)
class Post:
    """A message in the incident's place. `purpose`: `card` and `request:<approval>` are edited in place, all else is a
    post in its thread."""

    id: str
    incident: str
    purpose: str


@dataclass(frozen=True, slots=True)
class OpenChannel:
    """Open the incident's own channel under this name."""

    id: str
    incident: str
    name: str
    private: bool


@dataclass(frozen=True, slots=True)
class Invite:
    """Let these persons into the incident's channel: they are on duty, or act."""

    id: str
    incident: str
    persons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskApproval:
    """Show the request (its id is this decision's) with its buttons."""

    id: str
    incident: str
    step: str
    hash: str


@dataclass(frozen=True, slots=True)
class DraftDocument:
    id: str
    incident: str
    kind: str


@dataclass(frozen=True, slots=True)
class Survey:
    """Ask every system what the agent and its delegates hold. `again_at`: when it is to be asked once more."""

    id: str
    incident: str
    phase: Phase
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """Play the recorded alerts of this incident in the sandbox."""

    id: str
    incident: str


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One leaf of a step: an action on one target, rendered and frozen. `name` is `<item>:<target>`."""

    name: str
    target: str
    params: Mapping[str, Any]
    system: str
    level: int = 1


@dataclass(frozen=True, slots=True)
class PlanStep:
    """What the rules made of a step when it became ready. `status` is a StepStatus; `calls` are set where it is to run.
    `hash` binds approvals to exactly this. Nobody performs it: it is what the fold remembers."""

    id: str
    step: str
    status: str
    action: str = ""
    calls: tuple[PlannedCall, ...] = ()
    why: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class AskPermit:
    """May these steps start? Answered in the same transaction by Permitted or Deferred. `group` is the concurrency
    group of non-containing steps ('' for none); `targets` are those of containing steps, counted by kind."""

    id: str
    incident: str
    steps: tuple[str, ...]
    playbook: str
    agent: str
    contains: bool
    group: str
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndPermit:
    """This incident's non-containing steps are over: the next waiter of the group may go."""

    id: str
    incident: str
    group: str


@dataclass(frozen=True, slots=True)
class PlaceHold:
    id: str
    target: str
    call: str
    hold: Hold
    instead: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseHold:
    id: str
    target: str
    incident: str
    step: str
    by: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take these decisions out of the outbox: they are no longer wanted and have not left."""

    id: str
    decisions: tuple[str, ...]


Decision = (
    RunAction
    | Page
    | Notify
    | Post
    | OpenChannel
    | Invite
    | AskApproval
    | DraftDocument
    | Survey
    | Replay
    | PlanStep
    | AskPermit
    | EndPermit
    | PlaceHold
    | ReleaseHold
    | Withdraw
)
# Those of the outbox:
Queued = RunAction | Page | Notify | Post | OpenChannel | Invite | AskApproval | DraftDocument | Survey | Replay
