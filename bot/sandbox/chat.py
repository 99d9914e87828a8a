"""Slack in memory, for drills in virtual time. It refuses what Slack refuses and keeps every version."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bot.errors import Denied, Rejected
from bot.ports import ChatChannel, ChatFile, ChatMessage, Clock, MessageRef
from bot.sandbox.blocks import TEXT_MAX, button, problems
from bot.sandbox.faults import Faults
from bot.sandbox.stamps import Stamps


@dataclass(frozen=True, slots=True)
class Posted:
    """A message as it stands now. `edits` are the versions before it, oldest first."""

    ref: MessageRef
    message: ChatMessage
    thread: str = ""
    user: str = ""  # whom a direct or ephemeral message is for
    ephemeral: bool = False
    edits: tuple[ChatMessage, ...] = ()


@dataclass(slots=True)
class Opened:
    """A channel that the bot opened."""

    channel: ChatChannel
    purpose: str
    topic: str = ""
    members: list[str] = field(default_factory=list)
    bookmarks: dict[str, str] = field(default_factory=dict)  # link -> title
    pinned: list[MessageRef] = field(default_factory=list)


_NAME = re.compile(r"[a-z0-9_-]{1,80}")


class SimChat:
    """ports.Chat. `people` are Slack user ids, `channels` channel ids that the bot is a member of; anyone else is
    unknown to it. `taken` are names of other people's channels, `aloof` persons whom nobody can invite. Faults by the
    names of the methods: `post`, `update`, `direct`, `ephemeral`, `open_channel`, `invite`..."""

    def __init__(
        self, clock: Clock, people: Iterable[str], channels: Iterable[str], faults: Faults | None = None
    ) -> None:
        self.faults = faults or Faults()
        self.people, self.channels = set(people), set(channels)
        self.opened: dict[str, Opened] = {}  # by channel id
        self.taken: set[str] = set()
        self.aloof: set[str] = set()
        self.uploads: list[tuple[MessageRef, tuple[ChatFile, ...]]] = []
        self._posted: dict[MessageRef, Posted] = {}
        self._stamps = Stamps(clock)

    def post(self, channel: str, message: ChatMessage, *, thread: str = "", again: bool = False) -> MessageRef:
        self.faults.before("post")
        self._require_channel(channel)
        ref = self._place(Posted(MessageRef(channel, ""), message, thread), again=again)
        self.faults.after("post")
        return ref

    def update(self, ref: MessageRef, message: ChatMessage) -> None:
        self.faults.before("update")
        self._require_channel(ref.channel)
        old = self._posted.get(ref)
        if old is None or old.ephemeral:
            raise Rejected("slack", f"message_not_found: there is no message {ref.ts} in {ref.channel}")
        _check(message)
        self._posted[ref] = replace(old, message=message, edits=(*old.edits, old.message))
        self.faults.after("update")

    def direct(self, user: str, message: ChatMessage, *, again: bool = False) -> MessageRef:
        self.faults.before("direct")
        self._require_person(user)
        ref = self._place(Posted(MessageRef(_direct_channel(user), ""), message, user=user), again=again)
        self.faults.after("direct")
        return ref

    def ephemeral(self, channel: str, user: str, text: str) -> None:
        self.faults.before("ephemeral")
        self._require_channel(channel)
        self._require_person(user)
        self._place(Posted(MessageRef(channel, ""), ChatMessage("", text), user=user, ephemeral=True), again=False)
        self.faults.after("ephemeral")

    def open_channel(self, name: str, *, private: bool, purpose: str) -> ChatChannel:
        self.faults.before("open_channel")
        if not _NAME.fullmatch(name):
            raise Rejected("slack", f"invalid_name_specials: {name}")
        while (there := self._named(name)) or name in self.taken:
            if there and there.purpose == purpose and not there.channel.archived:
                return there.channel
            name += "-2"
        made = ChatChannel(f"C{len(self.opened) + 1:04}{name.upper()[:12].replace('-', '')}", name, private)
        self.opened[made.id] = Opened(made, purpose)
        self.channels.add(made.id)
        self.faults.after("open_channel")
        return made

    def channel(self, channel: str) -> ChatChannel | None:
        self.faults.before("channel")
        if channel in self.opened:
            return self.opened[channel].channel
        return ChatChannel(channel, channel) if channel in self.channels else None

    def invite(self, channel: str, users: Sequence[str]) -> Mapping[str, str]:
        self.faults.before("invite")
        here = self._mine(channel)
        refused = {user: "user_not_found" for user in users if user not in self.people}
        refused |= {user: "cant_invite" for user in users if user in self.aloof}
        here.members += [user for user in users if user not in refused and user not in here.members]
        self.faults.after("invite")
        return refused

    def set_topic(self, channel: str, topic: str) -> None:
        self.faults.before("set_topic")
        self._mine(channel).topic = topic

    def bookmark(self, channel: str, title: str, link: str) -> None:
        self.faults.before("bookmark")
        self._mine(channel).bookmarks.setdefault(link, title)

    def pin(self, ref: MessageRef) -> None:
        self.faults.before("pin")
        self._require_channel(ref.channel)
        if ref not in self._posted:
            raise Rejected("slack", "message_not_found")
        here = self._mine(ref.channel)
        here.pinned += [ref] if ref not in here.pinned else []

    def archive(self, channel: str) -> None:
        self.faults.before("archive")
        here = self.opened.get(channel)
        if here is None or not here.channel.archived:
            here = self._mine(channel)
        here.channel = replace(here.channel, archived=True)

    def upload(
        self, channel: str, files: Sequence[ChatFile], *, comment: str, thread: str = "", again: bool = False
    ) -> None:
        self.faults.before("upload")
        self._require_channel(channel)
        key = "upload:" + "|".join(file.name for file in files)
        ref = self._place(Posted(MessageRef(channel, ""), ChatMessage(key, comment), thread), again=again)
        if all(ref != placed for placed, _ in self.uploads):
            self.uploads.append((ref, tuple(files)))
        self.faults.after("upload")

    def messages(self, channel: str) -> tuple[Posted, ...]:
        """What everybody in the channel sees, oldest first; thread replies too."""
        return tuple(one for ref, one in self._posted.items() if ref.channel == channel and not one.ephemeral)

    def directs(self, user: str) -> tuple[Posted, ...]:
        return self.messages(_direct_channel(user))

    def ephemerals(self, user: str) -> tuple[Posted, ...]:
        return tuple(one for one in self._posted.values() if one.ephemeral and one.user == user)

    def press(self, ref: MessageRef, action_id: str, block_id: str = "") -> Mapping[str, Any]:
        """The button as it stands in the message now (`value`, `text`, `style`); LookupError if it is not there."""
        return button(self._posted[ref].message.blocks, action_id, block_id)

    def _place(self, wanted: Posted, *, again: bool) -> MessageRef:
        _check(wanted.message)
        if again:
            for ref, one in self._posted.items():
                if ref.channel == wanted.ref.channel and one.message.key == wanted.message.key:
                    return ref
        ref = replace(wanted.ref, ts=self._stamps.next())
        self._posted[ref] = replace(wanted, ref=ref)
        return ref

    def _require_channel(self, channel: str) -> None:
        if channel not in self.channels:
            raise Denied("slack", f"channel_not_found: {channel} does not exist, or the bot was not invited to it")
        if channel in self.opened and self.opened[channel].channel.archived:
            raise Rejected("slack", "is_archived")

    def _named(self, name: str) -> Opened | None:
        return next((one for one in self.opened.values() if one.channel.name == name), None)

    def _mine(self, channel: str) -> Opened:
        self._require_channel(channel)
        return self.opened.setdefault(channel, Opened(ChatChannel(channel, channel), ""))

    def _require_person(self, user: str) -> None:
        if user not in self.people:
            raise Rejected("slack", f"user_not_found: no user {user} in this workspace")


def _direct_channel(user: str) -> str:
    return f"D{user}"


def _check(message: ChatMessage) -> None:
    if not message.text and not message.blocks:
        raise Rejected("slack", "no_text: a message needs text or blocks")
    if len(message.text) > TEXT_MAX:
        raise Rejected("slack", f"msg_too_long: {len(message.text)} characters, at most {TEXT_MAX}")
    if found := problems(message.blocks):
        raise Rejected("slack", f"invalid_blocks: {'; '.join(found)}")
