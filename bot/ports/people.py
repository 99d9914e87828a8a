"""Ways to reach people: pages and chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class PageMessage:
    """What a person is sent. `key` is (incident, level, round, person, way): the receiver's idempotency key."""

    key: str
    incident: str
    person: str
    address: str  # Slack user id, e-mail address or URL, by way
    subject: str
    body: str  # plain text, already redacted
    ack_url: str = ""
    actions: tuple[str, ...] = ()  # Slack buttons: "acknowledge"
    blocks: tuple[Mapping[str, Any], ...] = ()  # Slack only
    again: bool = False  # an earlier send may have left before a crash: a way that keeps a trace looks for it first


class Pager(Protocol):
    """One way to reach a person."""

    def send(self, message: PageMessage) -> str:
        """Returns the receiver's own reference (message ts, Message-ID, response id)."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """`key` is put into the message metadata, so that a resend can look for its own trace."""

    key: str
    text: str  # fallback and notification text
    blocks: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class MessageRef:
    channel: str
    ts: str


@dataclass(frozen=True, slots=True)
class ChatChannel:
    """`shared`: people of another organisation read it too."""

    id: str
    name: str
    private: bool = False
    archived: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class ChatFile:
    """`name` with its ending, which tells Slack how to show it; `title` is what people read."""

    name: str
    title: str
    data: bytes


class Chat(Protocol):
    """Slack, as a port (semantics 18). Each call is one that Slack limits by its own method; a limit that is used up
    is `Unavailable` with `retry_after`, before anything is sent."""

    def post(self, channel: str, message: ChatMessage, *, thread: str = "", again: bool = False) -> MessageRef:
        """`again`: a crash may have hidden an earlier send; look for `key` in the channel's history first."""

    def update(self, ref: MessageRef, message: ChatMessage) -> None: ...

    def direct(self, user: str, message: ChatMessage, *, again: bool = False) -> MessageRef: ...

    def ephemeral(self, channel: str, user: str, text: str) -> None: ...

    def open_channel(self, name: str, *, private: bool, purpose: str) -> ChatChannel:
        """A channel of this name with the bot in it. Repeatable: one that an earlier try made is known by its
        `purpose`. Where the name is somebody else's it gets a number behind it."""

    def channel(self, channel: str) -> ChatChannel | None:
        """None where it does not exist, or the bot cannot see it."""

    def invite(self, channel: str, users: Sequence[str]) -> Mapping[str, str]:
        """Whom Slack refused, and why. Who is in it already counts as let in."""

    def set_topic(self, channel: str, topic: str) -> None: ...

    def bookmark(self, channel: str, title: str, link: str) -> None:
        """At the top of the channel; one with this link that is there already is left alone."""

    def pin(self, ref: MessageRef) -> None:
        """One that is pinned already stays so."""

    def archive(self, channel: str) -> None:
        """One that is archived already stays so."""

    def upload(
        self, channel: str, files: Sequence[ChatFile], *, comment: str, thread: str = "", again: bool = False
    ) -> None:
        """All in one message. `again`: looks first whether our own message with these files stands there."""
