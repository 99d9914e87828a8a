"""What the engine is given: the live configuration, the ports, and a voice. Chosen once, in `wiring`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bot.actions import Action
from bot.config import Config, resolve
from bot.domain.approval import Approval
from bot.domain.decisions import Notify, Page
from bot.domain.events import TextRef
from bot.domain.incident import Incident
from bot.domain.record import Entry
from bot.domain.redaction import Redactor
from bot.errors import Rejected
from bot.ports import Ports

if TYPE_CHECKING:
    from bot.engine.rulebook import Rulebook

Blocks = tuple[Mapping[str, Any], ...]
ReadText = Callable[[TextRef], str | None]


@dataclass(frozen=True, slots=True)
class Said:
    """A message in the two forms it may be needed in."""

    text: str
    blocks: Blocks = ()
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of the recorded alerts against the rules as they are now. `digest` is of both."""

    clean: bool
    digest: str
    rules: str
    findings: tuple[str, ...] = ()


def unplayed(entries: Sequence[Entry], read: ReadText) -> Played:  # noqa: ARG001 - the shape of a replay
    """Where no sandbox is at hand."""
    return Played(False, "", "", ("no sandbox is wired to this process: nothing was replayed",))


class Voice(Protocol):
    """How the bot words things. Pure; alert text reaches it only through `read`, and leaves it escaped."""

    def page(self, incident: Incident, page: Page | Notify, *, late: float, may_repeat: bool) -> Said: ...

    def card(self, incident: Incident, read: ReadText) -> Said: ...

    def approval(self, incident: Incident, approval: Approval) -> Said: ...

    def post(self, incident: Incident, purpose: str, read: ReadText) -> Said: ...

    def topic(self, incident: Incident) -> str:
        """Of its channel: at most 250 characters, on one line."""


@dataclass(frozen=True, slots=True)
class World:
    config: Config
    ports: Ports
    rulebook: Rulebook
    actions: Mapping[str, Action]
    voice: Voice
    redactor: Redactor
    replica: str
    templates: Path
    lease: float = 4.0  # seconds that a claimed decision stays ours without renewal
    channel: str = ""  # where announcements stand, and whatever has no channel of its own
    replay: Callable[[Sequence[Entry], ReadText], Played] = unplayed
    rules: Callable[[], str] = str  # digest of the operator's files now: a replay of others is too old
    rooms: bool = False  # whether each incident gets a channel of its own
    ack_link: Callable[[str, str], str] = field(default=lambda incident, person: "")  # noqa: ARG005 - no web, no link

    def address(self, person: str, way: str) -> str:
        """Where this way reaches a person. Raises Rejected where people.yaml does not say."""
        found = self.config.people.persons.get(person)
        if found is None:
            raise Rejected(way, f"{person} is no longer in people.yaml")
        match way:
            case "slack":
                address = found.slack
            case "email":
                address = found.email
            case _:
                address = resolve(found.webhook) if found.webhook else ""
        if not address:
            raise Rejected(way, f"people.yaml has no {way} address for {person}")
        return address
