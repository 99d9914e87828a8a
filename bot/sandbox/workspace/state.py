"""The workspace itself: what each Web API method does to it and refuses, and what a click sends. No sockets here."""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bot.errors import Denied, SystemFailure, Unavailable
from bot.ports import Clock
from bot.sandbox.blocks import TEXT_MAX, button, problems
from bot.sandbox.faults import Faults
from bot.sandbox.stamps import Stamps
from bot.sandbox.workspace.rooms import APP, BOT, BOT_USER, TEAM, ApiError, Channel, Message, Person

BOT_TOKEN = "xoxb-sandbox-"
APP_TOKEN = "xapp-sandbox-"
SCOPES = frozenset(
    ("chat:write", "im:write", "im:history", "channels:history", "groups:history", "users:read", "users:read.email")
)
_METADATA_MAX = 16_000  # bytes of JSON
_RESPONSE_USES, _RESPONSE_LIFE = 5, timedelta(minutes=30)

Args = Mapping[str, Any]


@dataclass(slots=True)
class _ResponseUrl:
    channel: str
    ts: str
    user: str
    expires: datetime
    left: int = _RESPONSE_USES


class Workspace:
    """Thread-safe. `people` and `channels` are the seed; the bot is in a channel whose members include `BOT_USER`.
    `scopes` is what the app was granted. `faults` answers Web API methods by name (`chat.postMessage`, or `*`)."""

    def __init__(
        self, people: Iterable[Person], channels: Iterable[Channel], clock: Clock, *, scopes: frozenset[str] = SCOPES
    ) -> None:
        bot = Person(BOT_USER, "firedoor", is_bot=True)
        self.people = {person.id: person for person in (bot, *people)}
        self.channels = {channel.id: channel for channel in channels}
        self.clock, self.scopes = clock, scopes
        self.bot_token, self.app_token = BOT_TOKEN + secrets.token_hex(16), APP_TOKEN + secrets.token_hex(16)
        self.address = ""  # http://127.0.0.1:port, once it is served
        self.faults = Faults()
        self._delivery_faults: Counter[str] = Counter()
        self._stamps = Stamps(clock)
        self._messages: list[Message] = []
        self._tickets: set[str] = set()
        self._response_urls: dict[str, _ResponseUrl] = {}
        self._lock = threading.RLock()

    # The Web API ------------------------------------------------------------------------------------------------

    def call(self, method: str, token: str, args: Args) -> dict[str, Any]:
        """One Web API call. Raises ApiError for Slack's own no, and Unavailable for a 429 or a 503 that was ordered."""
        with self._lock:
            try:
                self.faults.before(method)
                answer = self._answer(method, token, args)
                self.faults.after(method)
            except Denied as fault:
                raise ApiError(fault.why, needed=_METHODS[method][1]) from None
            return {"ok": True, **answer}

    def fault(self, name: str, method: str = "*", times: int = 1, retry_after: float = 1.0) -> None:
        """Trouble by name. For the next `times` calls of a method: `ratelimited` (429), `missing_scope`, `down` (503),
        `lost` (carried out, then 503). For the next `times` deliveries: `duplicate`, `disconnect` (the client is
        told to come back on a new connection, and gets the delivery there)."""
        errors: Mapping[str, SystemFailure] = {
            "ratelimited": Unavailable("slack", "ratelimited", retry_after=retry_after),
            "missing_scope": Denied("slack", "missing_scope"),
            "down": Unavailable("slack", "down"),
            "lost": Unavailable("slack", "the answer was lost", sent=True),
        }
        if name in ("duplicate", "disconnect"):
            with self._lock:
                self._delivery_faults[name] += times
        elif name in errors:
            self.faults.add(method, errors[name], times, after=name == "lost")
        else:
            raise ApiError("unknown_fault", f"{name!r} is none of {', '.join(errors)}, duplicate, disconnect")

    def clear_faults(self) -> None:
        with self._lock:
            self.faults.clear()
            self._delivery_faults.clear()

    def take_delivery_fault(self, name: str) -> bool:
        with self._lock:
            due = self._delivery_faults[name] > 0
            self._delivery_faults[name] -= due
            return due

    def redeem(self, ticket: str) -> bool:
        """Whether apps.connections.open gave this out and nobody has connected with it yet."""
        with self._lock:
            known = ticket in self._tickets
            self._tickets.discard(ticket)
            return known

    def _answer(self, method: str, token: str, args: Args) -> dict[str, Any]:
        if method not in _METHODS:
            raise ApiError("unknown_method", f"the stand-in has no {method}")
        perform, scope = _METHODS[method]
        wanted, other = self.bot_token, self.app_token
        if method == "apps.connections.open":
            wanted, other = other, wanted
        if not token:
            raise ApiError("not_authed")
        if hmac.compare_digest(token.encode(), other.encode()):
            raise ApiError("not_allowed_token_type")
        if not hmac.compare_digest(token.encode(), wanted.encode()):
            raise ApiError("invalid_auth")
        self._require_scope(scope)
        return perform(self, args)

    def _require_scope(self, scope: str) -> None:
        if scope and scope not in self.scopes:
            raise ApiError("missing_scope", needed=scope, provided=",".join(sorted(self.scopes)))

    def _auth_test(self, _: Args) -> dict[str, Any]:
        return {
            "url": f"{self.address}/",
            "team": "sandbox",
            "team_id": TEAM,
            "user": "firedoor",
            "user_id": BOT_USER,
            "bot_id": BOT,
            "is_enterprise_install": False,
        }

    def _connections_open(self, _: Args) -> dict[str, Any]:
        ticket = secrets.token_urlsafe(16)
        self._tickets.add(ticket)
        return {"url": f"{self.address.replace('http', 'ws', 1)}/socket?ticket={ticket}"}

    def _post(self, args: Args) -> dict[str, Any]:
        channel = self._channel_of(args, or_person=True)
        text, blocks = _content(args)
        thread = str(args.get("thread_ts") or "")
        # Slack takes any thread_ts and leaves the reply where nobody finds it; the stand-in says so at once.
        if thread and self._find(channel.id, thread) is None:
            raise ApiError("thread_not_found")
        message = self._add(channel, BOT_USER, text, blocks, metadata=_metadata(args), thread_ts=thread)
        return {"channel": channel.id, "ts": message.ts, "message": message.shown(with_metadata=True)}

    def _update(self, args: Args) -> dict[str, Any]:
        channel = self._channel_of(args)
        message = self._find(channel.id, _required(args, "ts"))
        if message is None or message.visible_to:
            raise ApiError("message_not_found")
        if message.user != BOT_USER:
            raise ApiError("cant_update_message")
        blocks_given = args.get("blocks") is not None
        text, blocks = _content(args)
        self._edit(message, text, blocks if blocks_given else message.blocks)
        message.metadata = _metadata(args) or message.metadata
        return {"channel": channel.id, "ts": message.ts, "text": message.text, "message": message.shown()}

    def _post_ephemeral(self, args: Args) -> dict[str, Any]:
        channel = self._channel_of(args)
        user = _required(args, "user")
        if user not in channel.members:
            raise ApiError("user_not_in_channel")
        text, blocks = _content(args)
        return {"message_ts": self._add(channel, BOT_USER, text, blocks, visible_to=user).ts}

    def _open_direct(self, args: Args) -> dict[str, Any]:
        return {"channel": {"id": self._direct_with(_required(args, "users")).id}}

    def _history(self, args: Args) -> dict[str, Any]:
        channel = self._readable(args)
        seen = [m for m in self._messages if m.channel == channel.id and not m.visible_to and not m.is_reply]
        return _page(list(reversed(seen)), args)

    def _replies(self, args: Args) -> dict[str, Any]:
        channel, thread = self._readable(args), _required(args, "ts")
        if self._find(channel.id, thread) is None:
            raise ApiError("thread_not_found")
        inside = [m for m in self._messages if m.channel == channel.id and not m.visible_to]
        return _page([m for m in inside if thread in (m.ts, m.thread_ts)], args)

    def _user_info(self, args: Args) -> dict[str, Any]:
        return {"user": self._person(_required(args, "user")).shown()}

    def _user_by_email(self, args: Args) -> dict[str, Any]:
        email = _required(args, "email").lower()
        for person in self.people.values():
            if person.email.lower() == email and not person.deleted:
                return {"user": person.shown()}
        raise ApiError("users_not_found")

    # People's side ----------------------------------------------------------------------------------------------

    def say(self, user: str, channel: str, text: str, *, thread_ts: str = "") -> Message:
        """A person writes. Raises ApiError `not_in_channel` for one who is not a member."""
        with self._lock:
            return self._add(self._seen_by(user, channel), user, text, [], thread_ts=thread_ts)

    def messages(self, channel: str, viewer: str = "") -> tuple[Message, ...]:
        """Oldest first. For a viewer: what that person sees, with their own ephemerals only; for nobody in
        particular: everything."""
        with self._lock:
            if viewer:
                self._seen_by(viewer, channel)
            here = [m for m in self._messages if m.channel == channel]
            return tuple(replace(m) for m in here if not viewer or m.visible_to in ("", viewer))

    def direct_messages(self, user: str) -> tuple[Message, ...]:
        """Between the bot and this person."""
        return self.messages(_direct_id(user))

    def state(self, viewer: str = "") -> dict[str, Any]:
        """Persons, and the channels with their messages; what one viewer sees, or everything."""
        with self._lock:
            open_to = [c for c in self.channels.values() if not viewer or viewer in c.members]
            return {
                "sandbox": "SANDBOX, not Slack",
                "people": [person.shown() for person in self.people.values()],
                "channels": [
                    {
                        "id": channel.id,
                        "name": channel.name,
                        "members": sorted(channel.members),
                        "messages": [
                            message.shown() | ({"visible_to": message.visible_to} if message.visible_to else {})
                            for message in self.messages(channel.id, viewer)
                        ],
                    }
                    for channel in open_to
                ],
            }

    def clicked(self, user: str, channel: str, ts: str, action_id: str, block_id: str = "") -> dict[str, Any]:
        """The block_actions payload of a click on a button that this person sees. Raises ApiError
        (`not_in_channel`, `message_not_found`) or LookupError for a button that is not there."""
        with self._lock:
            room, person = self._seen_by(user, channel), self._person(user)
            message = self._find(room.id, ts)
            if message is None or message.visible_to not in ("", user):
                raise ApiError("message_not_found")
            pressed = button(message.blocks, action_id, block_id)
            at = self._stamps.next()
            response = secrets.token_urlsafe(16)
            self._response_urls[response] = _ResponseUrl(room.id, ts, user, self.clock.now() + _RESPONSE_LIFE)
            ephemeral = bool(message.visible_to)
            return {
                "type": "block_actions",
                "user": {"id": user, "username": person.name, "name": person.name, "team_id": person.team_id},
                "api_app_id": APP,
                "token": "sandbox",
                "container": {
                    "type": "message",
                    "message_ts": ts,
                    "channel_id": room.id,
                    "is_ephemeral": ephemeral,
                },
                "trigger_id": f"{at}.{secrets.token_hex(8)}",
                "team": {"id": TEAM, "domain": "sandbox"},
                "enterprise": None,
                "is_enterprise_install": False,
                "channel": {"id": room.id, "name": room.name},
                "message": message.shown(),
                "state": {"values": {}},
                "response_url": f"{self.address}/response/{response}",
                "actions": [{**pressed, "action_ts": at}],
            }

    def respond(self, response: str, body: Args) -> None:
        """A POST to a response_url: five uses within 30 minutes. Raises ApiError `used_url` or `expired_url`."""
        with self._lock:
            url = self._response_urls.get(response)
            if url is None or url.left == 0:
                raise ApiError("used_url")
            if self.clock.now() > url.expires:
                raise ApiError("expired_url")
            url.left -= 1
            original = self._find(url.channel, url.ts)
            if body.get("delete_original"):
                self._messages = [m for m in self._messages if m is not original]
                return
            text, blocks = _content(body)
            if body.get("replace_original") and original is not None:
                self._edit(original, text, blocks)
                return
            seen = "" if body.get("response_type") == "in_channel" else url.user
            thread = str(body.get("thread_ts") or "")
            self._add(self.channels[url.channel], BOT_USER, text, blocks, visible_to=seen, thread_ts=thread)

    # Rooms ------------------------------------------------------------------------------------------------------

    def _add(
        self,
        channel: Channel,
        user: str,
        text: str,
        blocks: list[dict[str, Any]],
        *,
        metadata: Mapping[str, Any] | None = None,
        thread_ts: str = "",
        visible_to: str = "",
    ) -> Message:
        message = Message(self._stamps.next(), channel.id, user, text, blocks, metadata, thread_ts, visible_to)
        self._messages.append(message)
        return message

    def _edit(self, message: Message, text: str, blocks: list[dict[str, Any]]) -> None:
        message.edits = [*message.edits, (message.text, message.blocks)]
        message.text, message.blocks, message.edited_ts = text, blocks, self._stamps.next()

    def _find(self, channel: str, ts: str) -> Message | None:
        return next((m for m in self._messages if m.channel == channel and m.ts == ts), None)

    def _person(self, user: str) -> Person:
        if user not in self.people:
            raise ApiError("user_not_found")
        return self.people[user]

    def _direct_with(self, user: str) -> Channel:
        person = self._person(user)
        if person.deleted:
            raise ApiError("user_disabled")
        if person.is_bot:
            raise ApiError("cannot_dm_bot")
        members = frozenset((user, BOT_USER))
        return self.channels.setdefault(_direct_id(user), Channel(_direct_id(user), user, members, is_im=True))

    def _channel_of(self, args: Args, *, or_person: bool = False) -> Channel:
        """By id or by name, as the bot sees it: a private channel that it is not in does not exist."""
        name = _required(args, "channel")
        if or_person and name in self.people:
            return self._direct_with(name)
        channel = next((c for c in self.channels.values() if name.removeprefix("#") in (c.id, c.name)), None)
        if channel is None or (channel.is_private and BOT_USER not in channel.members):
            raise ApiError("channel_not_found")
        if BOT_USER not in channel.members:
            raise ApiError("not_in_channel")
        if channel.is_archived:
            raise ApiError("is_archived")
        return channel

    def _readable(self, args: Args) -> Channel:
        """Reading has a scope of its own for each kind of channel."""
        channel = self._channel_of(args)
        kind = "im" if channel.is_im else "groups" if channel.is_private else "channels"
        self._require_scope(f"{kind}:history")
        return channel

    def _seen_by(self, user: str, channel: str) -> Channel:
        self._person(user)
        if channel not in self.channels:
            raise ApiError("channel_not_found")
        if user not in self.channels[channel].members:
            raise ApiError("not_in_channel")
        return self.channels[channel]


_METHODS: Mapping[str, tuple[Callable[[Workspace, Args], dict[str, Any]], str]] = {
    "auth.test": (Workspace._auth_test, ""),
    "apps.connections.open": (Workspace._connections_open, ""),
    "chat.postMessage": (Workspace._post, "chat:write"),
    "chat.update": (Workspace._update, "chat:write"),
    "chat.postEphemeral": (Workspace._post_ephemeral, "chat:write"),
    "conversations.open": (Workspace._open_direct, "im:write"),
    "conversations.history": (Workspace._history, ""),
    "conversations.replies": (Workspace._replies, ""),
    "users.info": (Workspace._user_info, "users:read"),
    "users.lookupByEmail": (Workspace._user_by_email, "users:read.email"),
}


def _direct_id(user: str) -> str:
    return f"D{user.removeprefix('U')}"


def _required(args: Args, name: str) -> str:
    value = str(args.get(name) or "")
    if not value:
        raise ApiError("invalid_arguments", f"missing required field: {name}")
    return value


def _content(args: Args) -> tuple[str, list[dict[str, Any]]]:
    text, blocks = str(args.get("text") or ""), args.get("blocks") or []
    if not isinstance(blocks, list):
        raise ApiError("invalid_blocks_format")
    if not text and not blocks:
        raise ApiError("no_text")
    if len(text) > TEXT_MAX:
        raise ApiError("msg_too_long")
    if found := problems(blocks):
        raise ApiError("invalid_blocks", *found, errors=list(found))
    return text, [{"block_id": secrets.token_urlsafe(4), **block} for block in blocks]


def _metadata(args: Args) -> Mapping[str, Any] | None:
    metadata = args.get("metadata")
    if metadata is None:
        return None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("event_payload"), dict):
        raise ApiError("invalid_metadata_format")
    if not re.fullmatch(r"[a-z0-9_]+", str(metadata.get("event_type"))):
        raise ApiError("invalid_metadata_schema")
    if len(str(metadata)) > _METADATA_MAX:
        raise ApiError("metadata_too_large")
    return metadata


def _page(messages: list[Message], args: Args) -> dict[str, Any]:
    try:
        limit, start = int(args.get("limit") or 100), int(args.get("cursor") or 0)
    except ValueError:
        raise ApiError("invalid_cursor") from None
    if not 1 <= limit <= 999:
        raise ApiError("invalid_limit")
    oldest = str(args.get("oldest") or "0")
    inside = [m for m in messages if float(m.ts) > float(oldest)]
    with_metadata = str(args.get("include_all_metadata")).lower() in ("1", "true")
    more = start + limit < len(inside)
    return {
        "messages": [m.shown(with_metadata=with_metadata) for m in inside[start : start + limit]],
        "has_more": more,
        "response_metadata": {"next_cursor": str(start + limit) if more else ""},
    }
