"""What a person can mean, however they said it: typed after `/inc`, chosen in a form, or pressed as a button."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bot.domain.alert import Sev
from bot.domain.events import Status


@dataclass(frozen=True, slots=True)
class Plain:
    """A verb that needs no more words: ack, unack, escalate, contain, rollback, replay, return, resolve, reopen,
    private, audit."""

    verb: str


@dataclass(frozen=True, slots=True)
class Look:
    """Something to read, which changes nothing: oncall, timeline, postmortem, why, drill, help. `what` narrows it."""

    verb: str
    what: str = ""


@dataclass(frozen=True, slots=True)
class New:
    title: str
    message: str = ""
    severity: Sev = Sev.SEV3
    type: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    conditions: str
    actions: str = ""
    needs: str = ""


@dataclass(frozen=True, slots=True)
class SetStatus:
    to: Status


@dataclass(frozen=True, slots=True)
class SetSeverity:
    to: Sev


@dataclass(frozen=True, slots=True)
class TakeRole:
    """`who` is `@U...`, a person's id, or '' for the one who speaks."""

    role: str
    who: str = ""


@dataclass(frozen=True, slots=True)
class NewTask:
    text: str
    owner: str = ""
    minutes: int | None = None


@dataclass(frozen=True, slots=True)
class TaskChange:
    task: str
    owner: str = ""
    minutes: int | None = None
    done: bool = False


@dataclass(frozen=True, slots=True)
class Summon:
    """`who`: a person or a role."""

    who: str


@dataclass(frozen=True, slots=True)
class Silence:
    minutes: int


@dataclass(frozen=True, slots=True)
class Snooze:
    """Of the reminder to write an update; None stops it."""

    minutes: int | None


@dataclass(frozen=True, slots=True)
class Merge:
    into: str


@dataclass(frozen=True, slots=True)
class Decide:
    """About an approval: `step` is the step's name or the request's id, '' where only one is asked. An approval is
    given in a modal that shows the plan, and is bound to it: `shown` is `<request>|<hash>`. `code` proves the person
    where the step asks for it."""

    approve: bool
    step: str = ""
    why: str = ""
    shown: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    step: str


@dataclass(frozen=True, slots=True)
class Note:
    text: str


@dataclass(frozen=True, slots=True)
class FillForm:
    """A manual step, completed: its fields as written."""

    step: str
    values: Mapping[str, str]


Said = (
    Plain
    | Look
    | New
    | Update
    | SetStatus
    | SetSeverity
    | TakeRole
    | NewTask
    | TaskChange
    | Summon
    | Silence
    | Snooze
    | Merge
    | Decide
    | Release
    | Note
    | FillForm
)
