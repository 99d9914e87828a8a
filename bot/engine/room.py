"""Where in Slack each thing that is said of an incident stands, and the channel that it has for itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, cast

from bot.documents import CONTAINMENT, render
from bot.documents.picture import timeline_svg
from bot.documents.report import report_html, scores
from bot.domain.decisions import AskApproval, Invite, OpenChannel, Post
from bot.domain.events import ChannelOpened, Invited
from bot.domain.incident import Incident
from bot.domain.measures import measures
from bot.domain.record import Entry
from bot.engine.world import Blocks, ReadText, Said, World
from bot.errors import Rejected, SystemFailure, Unavailable
from bot.ports import Chat, ChatFile, ChatMessage, MessageRef

log = logging.getLogger(__name__)

EDITED = ("card", "announcement")
UNTHREADED = ("card", "roles")


@dataclass(frozen=True, slots=True)
class Place:
    """A new message in `channel` (in a thread of it), or the one that is edited."""

    channel: str
    thread: str = ""
    edits: MessageRef | None = None

    @property
    def lane(self) -> str:
        """What Slack paces together."""
        return f"{self.edits.channel}/{self.edits.ts}" if self.edits else self.channel


def purpose_of(decision: Post | AskApproval) -> str:
    return decision.purpose if isinstance(decision, Post) else f"approval:{decision.id}"


def place(world: World, incident: Incident, purpose: str) -> Place:
    kind, _, rest = purpose.partition(":")
    home = incident.channel or world.channel
    match kind:
        case "announcement":
            return _at(world.channel, incident.announcement)
        case "card":
            return _at(home, incident.card)
        case "request" if (asked := incident.approvals.get(rest)) and asked.message:
            return _at(home, asked.message)
        case "moved" | "closed":
            channel, _, ts = rest.partition("/")
            return _at(home, (channel, ts))
    if incident.card is None:
        return Place(home)
    channel, ts = incident.card
    return Place(channel, "" if kind in UNTHREADED else ts)


def is_hidden(incident: Incident) -> bool:
    """Private, and nowhere yet where only those who are let in would read it."""
    return incident.private and not incident.channel_private


class Room:
    def __init__(self, world: World, chat: Chat, read: ReadText) -> None:
        """`read` finds the free text of the record."""
        self._world, self._chat, self._read = world, chat, read

    # What is said -----------------------------------------------------------------------------------------------

    def say(self, incident: Incident, decision: Post | AskApproval, *, again: bool) -> MessageRef:
        """Raises SystemFailure. What an incident's own channel does not take is said where announcements go."""
        purpose = purpose_of(decision)
        here = place(self._world, incident, purpose)
        if purpose == "pin":
            return self._pin(incident)
        said = self._worded(incident, purpose)
        message = ChatMessage(decision.id, self._world.redactor.text(said.text), self._clean(said.blocks))
        if here.edits:
            return self._edit(incident, purpose, here, message, again=again)
        return self._post(incident, here, message, again=again)

    def _worded(self, incident: Incident, purpose: str) -> Said:
        voice = self._world.voice
        kind, _, rest = purpose.partition(":")
        if is_hidden(incident) and kind not in ("announcement", "moved", "closed", "channel_failed"):
            if kind != "card":
                raise Rejected(
                    "slack", "the incident is private and has no channel of its own: it is not said elsewhere"
                )
            return voice.post(incident, "announcement", self._read)
        if kind == "card":
            return voice.card(incident, self._read)
        if kind in ("approval", "asked", "request"):
            return voice.approval(incident, incident.approvals[rest])
        return voice.post(incident, purpose, self._read)

    def _edit(self, incident: Incident, purpose: str, here: Place, message: ChatMessage, *, again: bool) -> MessageRef:
        ref = cast(MessageRef, here.edits)
        try:
            self._chat.update(ref, message)
        except Unavailable:
            raise
        except SystemFailure as error:
            if purpose not in EDITED:
                raise
            log.warning("%s of %s is written anew: %s", purpose, incident.id, error)
            return self._post(incident, Place(here.channel), message, again=again)
        if purpose.startswith("closed:"):
            self._chat.archive(ref.channel)
        return ref

    def _post(self, incident: Incident, here: Place, message: ChatMessage, *, again: bool) -> MessageRef:
        try:
            return self._chat.post(here.channel, message, thread=here.thread, again=again)
        except Unavailable:
            raise
        except SystemFailure as error:
            if incident.private or here.channel != incident.channel:
                raise
            log.warning("%s is told where announcements go: its channel says %s", incident.id, error)
            return self._chat.post(self._world.channel, message, again=again)

    def _pin(self, incident: Incident) -> MessageRef:
        if incident.card is None:
            raise Rejected("slack", "there is no card")
        ref = MessageRef(*incident.card)
        self._chat.pin(ref)
        return ref

    # Its channel ------------------------------------------------------------------------------------------------

    def open(self, incident: Incident, decision: OpenChannel) -> ChannelOpened:
        """Raises SystemFailure where there is no channel. One without its topic is one all the same."""
        install = self._world.config.settings.install
        opened = self._chat.open_channel(
            decision.name, private=decision.private, purpose=f"Firedoor: {incident.id} of {install}."
        )
        try:
            self._chat.set_topic(opened.id, self._world.redactor.text(self._world.voice.topic(incident)))
        except SystemFailure as error:
            log.warning("#%s has no topic: %s", opened.name, error)
        return ChannelOpened(decision.id, opened.id, opened.name, opened.private)

    def invite(self, incident: Incident, decision: Invite) -> Invited:
        """Raises Unavailable. Whom Slack refuses, or people.yaml has no Slack id for, is absent."""
        persons = self._world.config.people.persons
        users = {persons[one].slack: one for one in decision.persons if one in persons and persons[one].slack}
        try:
            refused = self._chat.invite(incident.channel, tuple(users)) if users else {}
        except Unavailable:
            raise
        except SystemFailure as error:
            refused = dict.fromkeys(users, str(error))
        for user, why in refused.items():
            log.warning("%s is not in #%s: %s", users.get(user, user), incident.channel_name, why)
        let_in = {person for user, person in users.items() if user not in refused}
        return Invited(decision.id, tuple(one for one in decision.persons if one in persons and one not in let_in))

    # Files ------------------------------------------------------------------------------------------------------

    def share(self, incident: Incident, entries: tuple[Entry, ...], *, again: bool) -> MessageRef:
        """The timeline's picture and the report, into the thread of the card. Raises SystemFailure, ConfigError."""
        here = place(self._world, incident, "files")
        if is_hidden(incident):
            raise Rejected("slack", "the incident is private and has no channel of its own: nothing is shown elsewhere")
        comment = self._world.redactor.text(self._world.voice.post(incident, "files", self._read).text)
        files = attachments(self._world, incident, entries, self._read)
        self._chat.upload(here.channel, files, comment=comment, thread=here.thread, again=again)
        return MessageRef(here.channel, here.thread)

    def _clean(self, blocks: Blocks) -> Blocks:
        return tuple(cast("dict[str, Any]", self._world.redactor.json(dict(block))) for block in blocks)


def attachments(world: World, incident: Incident, entries: tuple[Entry, ...], read: ReadText) -> tuple[ChatFile, ...]:
    """The timeline as a picture, the report with the papers that were drafted, and how containment stands. Without
    secrets."""
    picture = timeline_svg(incident, entries)
    papers = [render(kind, incident, entries, read, world.templates) for kind in sorted(incident.documents)]
    containment = render(CONTAINMENT, incident, entries, read, world.templates).markdown
    report = report_html(incident, entries, papers, scores(measures(incident, entries)), "", picture, read)

    def clean(text: str) -> bytes:
        return world.redactor.text(text).encode()

    return (
        ChatFile(f"{incident.id}-timeline.svg", f"{incident.id}: what happened when", clean(picture)),
        ChatFile(f"{incident.id}-report.html", f"{incident.id}: report", clean(report)),
        ChatFile(
            f"{incident.id}-containment.md", f"{incident.id}: what was cut, and how sure that is", clean(containment)
        ),
    )


def _at(channel: str, stands: tuple[str, str] | None) -> Place:
    return Place(stands[0], edits=MessageRef(*stands)) if stands else Place(channel)
