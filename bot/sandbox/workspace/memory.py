"""What the workspace remembers, who sees what of it, and what it tells: events to the app, changes to open pages."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from bot.ports import Clock
from bot.sandbox.stamps import Stamps
from bot.sandbox.workspace.app import App
from bot.sandbox.workspace.rooms import APP, BOT_USER, TEAM, ApiError, Channel, File, Group, Message, Person, View

_RESPONSE_USES, _RESPONSE_LIFE = 5, timedelta(minutes=30)
_CHANGES_KEPT = 5000

Args = Mapping[str, Any]


class Method(NamedTuple):
    """One Web API method: what it does, the scope it needs ('' where that depends, or none), calls a minute."""

    perform: Callable[[Memory, Args], dict[str, Any]]
    scope: str
    tier: int


class Change(NamedTuple):
    """Something that open pages may have to show again. `key` says which one of its kind."""

    seq: int
    kind: str
    key: tuple[str, ...]


@dataclass(slots=True)
class Trigger:
    """Lets the app show one modal to the person who did something. `view`: the modal that it was done in."""

    user: str
    expires: datetime
    view: str = ""
    used: bool = False


@dataclass(slots=True)
class ResponseUrl:
    channel: str
    ts: str
    user: str
    expires: datetime
    thread_ts: str = ""
    left: int = _RESPONSE_USES


@dataclass(slots=True)
class Bookmark:
    id: str
    channel: str
    title: str
    link: str
    emoji: str = ""

    def shown(self) -> dict[str, Any]:
        shown = {"id": self.id, "channel_id": self.channel, "title": self.title, "link": self.link, "type": "link"}
        return shown | {"emoji": self.emoji, "app_id": APP}


@dataclass(slots=True)
class Pin:
    ts: str
    user: str
    at: int


@dataclass(slots=True)
class Ears:
    """Who listens to the workspace while it is served."""

    told: Callable[[str, dict[str, Any]], None] = lambda kind, payload: None  # noqa: ARG005 - nobody listens
    changed: Callable[[], None] = lambda: None


@dataclass(slots=True)
class Screens:
    """What the app has put before people: modals by id and as stacks, and App Homes."""

    views: dict[str, View] = field(default_factory=dict)
    modals: dict[str, list[str]] = field(default_factory=dict)  # user -> ids, the topmost last
    homes: dict[str, View] = field(default_factory=dict)


class Memory:
    """Thread-safe by `lock`, which every method that is called from outside holds."""

    def __init__(
        self,
        people: Iterable[Person],
        channels: Iterable[Channel],
        clock: Clock,
        *,
        groups: Iterable[Group] = (),
        app: App,
        trigger_life: float,
    ) -> None:
        bot = Person(BOT_USER, app.name.lower(), is_bot=True)
        self.people = {person.id: person for person in (bot, *people)}
        self.channels = {channel.id: channel for channel in channels}
        self.groups = {group.id: group for group in groups}
        self.clock, self.app, self.scopes = clock, app, app.scopes
        self.address = ""  # http://127.0.0.1:port, once it is served
        self.ears = Ears()
        self.lock = threading.RLock()
        self.screens = Screens()
        self.files: dict[str, File] = {}
        self.uploads: dict[str, File] = {}  # by the ticket in the upload's URL
        self.pins: dict[str, list[Pin]] = {}  # by channel, oldest first
        self.bookmarks: dict[str, list[Bookmark]] = {}
        self.triggers: dict[str, Trigger] = {}
        self.response_urls: dict[str, ResponseUrl] = {}
        self.tickets: set[str] = set()  # of Socket Mode connections
        self.trigger_life = timedelta(seconds=trigger_life)
        self._messages: dict[str, dict[str, Message]] = {}  # channel -> ts -> message, oldest first
        self._threads: dict[tuple[str, str], list[Message]] = {}  # (channel, parent) -> replies, oldest first
        self._stamps = Stamps(clock)
        self._changes: deque[Change] = deque(maxlen=_CHANGES_KEPT)
        self._seq = 0

    # What it tells ----------------------------------------------------------------------------------------------

    def changed(self, kind: str, *key: str) -> None:
        self._seq += 1
        self._changes.append(Change(self._seq, kind, key))
        self.ears.changed()

    def since(self, seq: int) -> tuple[int, tuple[Change, ...] | None]:
        """The last number, and the changes after `seq`; None where they are not kept any more."""
        with self.lock:
            first = self._changes[0].seq if self._changes else self._seq + 1
            if seq + 1 < first:
                return self._seq, None
            return self._seq, tuple(change for change in self._changes if change.seq > seq)

    def event(self, kind: str, body: Mapping[str, Any], channel: Channel | None = None) -> None:
        """An event goes to the app where it subscribed to it, has the scope, and, in a channel, is a member."""
        wanted = f"message.{channel.kind}" if kind == "message" and channel else kind
        if wanted not in self.app.events or (channel and BOT_USER not in channel.members):
            return
        if channel and kind == "message" and f"{channel.kind}:history" not in self.scopes:
            return
        at = self.stamp()
        payload = {
            "token": "sandbox",
            "team_id": TEAM,
            "api_app_id": APP,
            "event": {"type": kind, "event_ts": at, **body},
            "type": "event_callback",
            "event_id": f"Ev{secrets.token_hex(5).upper()}",
            "event_time": int(float(at)),
            "authorizations": [{"team_id": TEAM, "user_id": BOT_USER, "is_bot": True, "is_enterprise_install": False}],
            "is_ext_shared_channel": bool(channel and channel.is_ext_shared),
        }
        self.ears.told("events_api", payload)

    # Messages ---------------------------------------------------------------------------------------------------

    def stamp(self) -> str:
        return self._stamps.next()

    def seconds(self) -> int:
        return int(self.clock.now().timestamp())

    def add(
        self,
        channel: Channel,
        user: str,
        text: str,
        blocks: list[dict[str, Any]],
        *,
        metadata: Mapping[str, Any] | None = None,
        thread_ts: str = "",
        visible_to: str = "",
        subtype: str = "",
        files: Iterable[File] = (),
    ) -> Message:
        message = Message(self.stamp(), channel.id, user, text, blocks, metadata, thread_ts, visible_to)
        message.subtype, message.files = subtype, [*files]
        message.team = self.people[user].team_id if user in self.people else TEAM
        self._messages.setdefault(channel.id, {})[message.ts] = message
        if message.is_reply:
            self._threads.setdefault((channel.id, thread_ts), []).append(message)
        self.changed("message", channel.id, message.ts)
        if thread_ts:
            self.changed("message", channel.id, thread_ts)  # its count of replies
        if not visible_to:
            told = {**message.shown(with_metadata=True), "channel": channel.id, "channel_type": _channel_type(channel)}
            if message.files and not subtype:
                told["subtype"] = "file_share"
            self.event("message", told, channel)
            if f"<@{BOT_USER}>" in text and user != BOT_USER:
                self.event("app_mention", told | {"type": "app_mention"}, channel)
        return message

    def edit(self, message: Message, text: str, blocks: list[dict[str, Any]]) -> None:
        before = message.shown()
        message.edits = [*message.edits, (message.text, message.blocks)]
        message.text, message.blocks, message.edited_ts = text, blocks, self.stamp()
        self.changed("message", message.channel, message.ts)
        self._tell_of(message, "message_changed", message=message.shown(), previous_message=before)

    def remove(self, message: Message) -> None:
        del self._messages[message.channel][message.ts]
        self.pins[message.channel] = [pin for pin in self.pins.get(message.channel, []) if pin.ts != message.ts]
        self.changed("message_gone", message.channel, message.ts, message.visible_to)
        if message.is_reply:
            self._threads[message.channel, message.thread_ts].remove(message)
            self.changed("message", message.channel, message.thread_ts)
        self._tell_of(message, "message_deleted", deleted_ts=message.ts, previous_message=message.shown())

    def find(self, channel: str, ts: str) -> Message | None:
        return self._messages.get(channel, {}).get(ts)

    def all_in(self, channel: str) -> tuple[Message, ...]:
        """Oldest first, with replies, ephemerals and Slack's own notices."""
        return tuple(self._messages.get(channel, {}).values())

    def replies(self, message: Message) -> list[Message]:
        return self._threads.get((message.channel, message.ts), [])

    def _tell_of(self, about: Message, subtype: str, **more: Any) -> None:
        channel = self.channels[about.channel]
        if not about.visible_to:
            told = {"subtype": subtype, "hidden": True, "channel": channel.id, "ts": self.stamp(), **more}
            self.event("message", told | {"channel_type": _channel_type(channel)}, channel)

    # Channels and persons ---------------------------------------------------------------------------------------

    def person(self, user: str) -> Person:
        if user not in self.people:
            raise ApiError("user_not_found")
        return self.people[user]

    def put(self, channel: Channel) -> Channel:
        """A channel that is new, or is not what it was."""
        before = self.channels.get(channel.id)
        self.channels[channel.id] = channel
        self.changed("channel", channel.id)
        for user in (before.members if before else frozenset()) - channel.members:
            self.changed("left", channel.id, user)
        for user in channel.members - (before.members if before else frozenset()):
            self.changed("joined", channel.id, user)
        return channel

    def enter(self, channel: Channel, user: str, *, inviter: str = "") -> Channel:
        """A person becomes a member: everybody sees it, the app hears of it."""
        channel = self.put(replace(channel, members=channel.members | {user}))
        self.notice(channel, user, "channel_join", f"<@{user}> has joined the channel")
        kind = "G" if channel.is_private else "C"
        told = {"user": user, "channel": channel.id, "channel_type": kind, "team": TEAM}
        self.event("member_joined_channel", told | ({"inviter": inviter} if inviter else {}), channel)
        return channel

    def notice(self, channel: Channel, user: str, subtype: str, text: str) -> None:
        """What Slack itself says in a channel about somebody."""
        prefix = "group" if channel.is_private else "channel"
        self.add(channel, user, text, [], subtype=subtype.replace("channel", prefix, 1))

    def direct_with(self, user: str) -> Channel:
        """Between the bot and this person."""
        person = self.person(user)
        if person.deleted:
            raise ApiError("user_disabled")
        if person.is_bot:
            raise ApiError("cannot_dm_bot")
        id = direct_id(user)
        if id not in self.channels:
            self.put(Channel(id, user, frozenset((user, BOT_USER)), is_im=True, created=self.seconds()))
        return self.channels[id]

    def channel_of(self, name: str, *, member: bool = True, living: bool = True) -> Channel:
        """By id or by name, as the bot sees it: a private channel that it is not in does not exist. `member`: it must
        be one; `living`: it must not be archived."""
        channel = self.channels.get(name)
        if channel is None:
            plain = name.removeprefix("#")
            channel = next((c for c in self.channels.values() if c.name == plain and not c.is_im), None)
        if channel is None or (channel.kind != "channels" and BOT_USER not in channel.members):
            raise ApiError("channel_not_found")
        if member and BOT_USER not in channel.members:
            raise ApiError("not_in_channel")
        if living and channel.is_archived:
            raise ApiError("is_archived")
        return channel

    def seen_by(self, user: str, channel: str) -> Channel:
        """A channel that this person is a member of."""
        self.person(user)
        if channel not in self.channels:
            raise ApiError("channel_not_found")
        if user not in self.channels[channel].members:
            raise ApiError("not_in_channel")
        return self.channels[channel]

    def joinable(self, user: str) -> list[Channel]:
        """Public channels that they are not in; guests and people from outside find none."""
        person = self.people.get(user)
        if person is None or person.is_guest or person.team_id != TEAM:
            return []
        public = [c for c in self.channels.values() if c.kind == "channels" and not c.is_archived]
        return [channel for channel in public if user not in channel.members]

    def trouble(self) -> dict[str, Any]:
        """What was made to go wrong, for the page."""
        return {}

    def require_scope(self, scope: str) -> None:
        if scope and scope not in self.scopes:
            raise ApiError("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))

    # Handles that people's deeds give to the app ----------------------------------------------------------------

    def trigger(self, user: str, view: str = "") -> str:
        trigger = f"{self.stamp()}.{secrets.token_hex(8)}"
        self.triggers[trigger] = Trigger(user, self.clock.now() + self.trigger_life, view)
        return trigger

    def response_url(self, channel: str, ts: str, user: str, thread_ts: str = "") -> str:
        key = secrets.token_urlsafe(16)
        expires = self.clock.now() + _RESPONSE_LIFE
        self.response_urls[key] = ResponseUrl(channel, ts, user, expires, thread_ts)
        return f"{self.address}/response/{key}"

    def close_modals(self, user: str, keep: int = 0) -> list[View]:
        """Leaves the lowest `keep` of a person's stack. Those that were closed, the topmost first."""
        stack = self.screens.modals.get(user, [])
        gone = [self.screens.views.pop(id) for id in reversed(stack[keep:])]
        self.screens.modals[user] = stack[:keep]
        self.changed("modals", user)
        return gone


def direct_id(user: str) -> str:
    return f"D{user.removeprefix('U')}"


def required(args: Args, name: str) -> str:
    value = str(args.get(name) or "")
    if not value:
        raise ApiError("invalid_arguments", f"missing required field: {name}")
    return value


def truth(args: Args, name: str, default: bool = False) -> bool:
    """The SDK sends booleans as JSON, as 0/1 and as text."""
    return str(args.get(name, default)).lower() in ("1", "true")


def paged(items: list[Any], args: Args, default: int = 100) -> tuple[list[Any], str]:
    """One page by `limit` and `cursor`, and the next cursor, '' at the end."""
    try:
        limit, start = int(args.get("limit") or default), int(args.get("cursor") or 0)
    except ValueError:
        raise ApiError("invalid_cursor") from None
    if not 1 <= limit <= 1000:
        raise ApiError("invalid_limit")
    more = start + limit < len(items)
    return items[start : start + limit], str(start + limit) if more else ""


def _channel_type(channel: Channel) -> str:
    return {"im": "im", "groups": "group", "channels": "channel"}[channel.kind]
