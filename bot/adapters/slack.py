"""Slack: ports.Chat and a pager over it. Every wait is told to the caller, never slept through in here."""

from __future__ import annotations

import html
import http.client
import socket
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.error import URLError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.web import SlackResponse

from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import Chat, ChatChannel, ChatFile, ChatMessage, MessageRef, PageMessage

METADATA_EVENT = "firedoor_message"
_PATIENCE = 5.0  # seconds a post may be held back for pacing; beyond it the caller waits, not this thread
_STOOD_STILL = 2.0  # seconds that a pacing sleep may last too long
_PAGE, _PAGES = 200, 5  # how far back a trace is looked for: the newest 1000 messages

_DENIED: Mapping[str, str] = {
    "missing_scope": "Add the scope to the app's manifest and install the app again.",
    "not_in_channel": "Invite the bot to the channel.",
    "channel_not_found": "The channel does not exist, or is private and the bot was not invited to it.",
    "not_authed": "No bot token was sent: check the token in firedoor.yaml.",
    "invalid_auth": "The bot token is wrong: put the one of this workspace's app in its place.",
    "token_revoked": "The bot token was revoked: install the app again.",
    "token_expired": "The bot token has expired: install the app again.",
    "account_inactive": "The app was removed from the workspace: install it again.",
    "not_allowed_token_type": "A bot token (xoxb-) belongs here, not an app or user token.",
    "no_permission": "The workspace's settings keep the bot from this: ask its administrators.",
    "access_denied": "The workspace's settings keep the bot from this: ask its administrators.",
    "team_access_not_granted": "The app was not granted this workspace: ask the organisation's administrators.",
    "restricted_action": "The workspace's settings keep the bot from posting here: ask its administrators.",
    "ekm_access_denied": "The organisation's key management has suspended posting: ask its administrators.",
}
_DOWN = ("internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org")
# Slack's tiers, in calls a minute and method. Pages are not counted against them: Slack itself says no to those.
_TIERS: Mapping[str, int] = {
    "conversations.create": 20,
    "conversations.archive": 20,
    "conversations.setPurpose": 20,
    "conversations.setTopic": 20,
    "pins.add": 20,
    "bookmarks.add": 20,
    "bookmarks.list": 20,
    "chat.update": 50,
    "conversations.info": 50,
    "conversations.invite": 50,
    "users.conversations": 50,
    "files.getUploadURLExternal": 100,
}
_TOGETHER = 30  # persons in one invitation
_NAMESAKES = 9  # channels of other people's with the name we want
_NAME_MAX = 80
_THROTTLED = ("ratelimited", "rate_limited", "message_limit_exceeded")


class SlackChat:
    """ports.Chat for one workspace. Ordinary posts leave at most once in `every` seconds per channel (Slack's limit is
    about 1/s), and a message is edited as often at most; direct messages, which carry the pages, do not wait for them.
    """

    def __init__(
        self,
        token: str,
        *,
        base_url: str = "https://slack.com/api/",
        timeout: int = 10,
        every: float = 1.0,
        name: str = "slack",
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        # No retry handlers: slack_sdk's own would send again after a broken connection, and a post would appear twice.
        self._web = WebClient(token, base_url=base_url, timeout=timeout, retry_handlers=[])
        self._name = name
        self._every = every
        self._pace = _Pace(name, every, monotonic, sleep)
        self._quota = _Quota(name, monotonic)
        self._directs: dict[str, str] = {}
        self._ids: dict[str, str] = {}  # channels that are posted to by name
        self._bot: Mapping[str, Any] = {}

    def identity(self) -> Mapping[str, Any]:
        """What auth.test says of the bot: `team_id`, `user_id`, `bot_id`, `url`."""
        return self._call(self._web.auth_test, effect=False)

    def post(self, channel: str, message: ChatMessage, *, thread: str = "", again: bool = False) -> MessageRef:
        if again and (found := self._trace(channel, thread, message.key)):
            return found
        self._pace.wait(self._ids.get(channel, channel))
        try:
            posted = self._send(channel, message, thread)
        except Unavailable as error:
            self._pace.hold(self._ids.get(channel, channel), error.retry_after or 0)
            raise
        if channel not in self._ids:
            self._ids[channel] = posted.channel
            if channel != posted.channel:
                self._pace.hold(posted.channel, self._every)
        return posted

    def update(self, ref: MessageRef, message: ChatMessage) -> None:
        """One that comes too soon after the last is not kept waiting here: by its turn there may be more to say."""
        self._pace.wait(f"{ref.channel}/{ref.ts}", patience=0.0)
        # Without `blocks` Slack would keep the old ones.
        self._limited(
            "chat.update",
            self._web.chat_update,
            channel=ref.channel,
            ts=ref.ts,
            text=message.text,
            blocks=list(message.blocks),
            metadata=_metadata(message),
        )

    def direct(self, user: str, message: ChatMessage, *, again: bool = False) -> MessageRef:
        channel = self._directs.get(user)
        if channel is None:
            opened = self._call(self._web.conversations_open, effect=False, users=user)
            channel = self._directs[user] = str(opened["channel"]["id"])
        if again and (found := self._trace(channel, "", message.key)):
            return found
        return self._send(channel, message, "")

    def ephemeral(self, channel: str, user: str, text: str) -> None:
        self._call(self._web.chat_postEphemeral, channel=channel, user=user, text=text)

    # Channels ---------------------------------------------------------------------------------------------------

    def open_channel(self, name: str, *, private: bool, purpose: str) -> ChatChannel:
        for number in range(1, _NAMESAKES + 1):
            tried = name[:_NAME_MAX] if number == 1 else f"{name[: _NAME_MAX - 2]}-{number}"
            try:
                found = self._limited(
                    "conversations.create", self._web.conversations_create, name=tried, is_private=private
                )["channel"]
            except Rejected as error:
                if not error.why.startswith("name_taken"):
                    raise
                ours = self._own_channel(tried, purpose)
                if ours is None:
                    continue
                found = ours
            if found.get("purpose", {}).get("value") != purpose:
                self._limited(
                    "conversations.setPurpose",
                    self._web.conversations_setPurpose,
                    channel=found["id"],
                    purpose=purpose,
                )
            return _channel(found)
        raise Rejected(self._name, f"name_taken: {name} and {_NAMESAKES - 1} names like it belong to other channels")

    def _own_channel(self, name: str, purpose: str) -> dict[str, Any] | None:
        """The one that an earlier try of ours made: it says so, or we made it and did not come to say so."""
        us = self._identity()["user_id"]
        cursor: str | None = None
        while True:
            page = self._limited(
                "users.conversations",
                self._web.users_conversations,
                effect=False,
                types="public_channel,private_channel",
                exclude_archived=True,
                limit=_PAGE,
                cursor=cursor,
            )
            for channel in page["channels"]:
                says = (channel.get("purpose") or {}).get("value", "")
                if channel["name"] == name and channel.get("creator") == us and says in ("", purpose):
                    return dict(channel)
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or None
            if cursor is None:
                return None

    def channel(self, channel: str) -> ChatChannel | None:
        try:
            found = self._limited("conversations.info", self._web.conversations_info, effect=False, channel=channel)
        except Denied as error:
            if error.why.startswith("channel_not_found"):
                return None
            raise
        return _channel(found["channel"])

    def invite(self, channel: str, users: Sequence[str]) -> Mapping[str, str]:
        refused: dict[str, str] = {}
        left = [list(users[at : at + _TOGETHER]) for at in range(0, len(users), _TOGETHER)]
        while left:
            some = left.pop(0)
            try:
                self._limited(
                    "conversations.invite", self._web.conversations_invite, channel=channel, users=",".join(some)
                )
            except Rejected as error:  # one of them is enough for a no to all: the halves tell who
                half = len(some) // 2
                if half:
                    left[:0] = [some[:half], some[half:]]
                elif not error.why.startswith(("already_in_channel", "cant_invite_self")):
                    refused[some[0]] = error.why
        return refused

    def set_topic(self, channel: str, topic: str) -> None:
        self._limited("conversations.setTopic", self._web.conversations_setTopic, channel=channel, topic=topic)

    def bookmark(self, channel: str, title: str, link: str) -> None:
        there = self._limited("bookmarks.list", self._web.bookmarks_list, effect=False, channel_id=channel)
        if not any(one.get("link") == link for one in there["bookmarks"]):
            self._limited(
                "bookmarks.add", self._web.bookmarks_add, channel_id=channel, title=title, type="link", link=link
            )

    def pin(self, ref: MessageRef) -> None:
        try:
            self._limited("pins.add", self._web.pins_add, channel=ref.channel, timestamp=ref.ts)
        except Rejected as error:
            if not error.why.startswith("already_pinned"):
                raise

    def archive(self, channel: str) -> None:
        try:
            self._limited("conversations.archive", self._web.conversations_archive, channel=channel)
        except Rejected as error:
            if not error.why.startswith("already_archived"):
                raise

    def upload(
        self, channel: str, files: Sequence[ChatFile], *, comment: str, thread: str = "", again: bool = False
    ) -> None:
        if again and self._holds(channel, thread, {file.name for file in files}):
            return
        self._pace.wait(channel)
        self._limited(
            "files.getUploadURLExternal",
            self._web.files_upload_v2,
            times=len(files),
            channel=channel,
            thread_ts=thread or None,
            initial_comment=comment,
            file_uploads=[{"filename": file.name, "title": file.title, "content": file.data} for file in files],
        )

    def _holds(self, channel: str, thread: str, names: set[str]) -> bool:
        us = self._identity()["user_id"]
        return any(
            message.get("user") == us and names <= {str(file.get("name")) for file in message.get("files", ())}
            for message in self._written(channel, thread)
        )

    # The wire ---------------------------------------------------------------------------------------------------

    def _send(self, channel: str, message: ChatMessage, thread: str) -> MessageRef:
        posted = self._call(
            self._web.chat_postMessage,
            channel=channel,
            text=message.text,
            blocks=list(message.blocks),
            thread_ts=thread or None,
            metadata=_metadata(message),
            unfurl_links=False,  # a preview would fetch an address that an alert named
            unfurl_media=False,
        )
        return MessageRef(str(posted["channel"]), str(posted["ts"]))

    def _trace(self, channel: str, thread: str, key: str) -> MessageRef | None:
        """Our own message with this key; anybody's metadata can carry one, so the sender counts too."""
        us = self._identity()["bot_id"]
        for message in self._written(channel, thread):
            metadata = message.get("metadata") or {}
            ours = metadata.get("event_type") == METADATA_EVENT and message.get("bot_id") == us
            if ours and metadata.get("event_payload", {}).get("key") == key:
                return MessageRef(channel, str(message["ts"]))
        return None

    def _written(self, channel: str, thread: str) -> Iterator[Mapping[str, Any]]:
        """The newest messages of a channel, or those of a thread."""
        cursor: str | None = None
        for _ in range(_PAGES):
            where: dict[str, Any] = {"channel": channel, "limit": _PAGE, "cursor": cursor, "include_all_metadata": True}
            if thread:
                page = self._call(self._web.conversations_replies, effect=False, ts=thread, **where)
            else:
                page = self._call(self._web.conversations_history, effect=False, **where)
            yield from page["messages"]
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or None
            if cursor is None:
                return

    def _identity(self) -> Mapping[str, Any]:
        self._bot = self._bot or self.identity()
        return self._bot

    def _limited(
        self,
        method: str,
        perform: Callable[..., SlackResponse],
        *,
        times: int = 1,
        effect: bool = True,
        **args: Any,
    ) -> dict[str, Any]:
        """A call of a method that Slack limits. A no from Slack itself holds the method back for everybody here."""
        self._quota.take(method, times)
        try:
            return self._call(perform, effect=effect, **args)
        except Unavailable as error:
            self._quota.hold(method, error.retry_after or 0.0)
            raise

    def _call(self, perform: Callable[..., SlackResponse], *, effect: bool = True, **args: Any) -> dict[str, Any]:
        """`effect`: somebody sees it, so that a missing answer leaves it open whether they did."""
        try:
            answer = perform(**args)
        except SlackApiError as error:
            raise self._failure(error.response, effect=effect) from error
        except SlackRequestError as error:  # a file that its upload address did not take
            raise Unavailable(self._name, f"no answer: {error}", sent=effect) from error
        except (OSError, http.client.HTTPException) as error:
            cause = error.reason if isinstance(error, URLError) else error
            never_left = isinstance(cause, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError)
            raise Unavailable(self._name, f"no answer: {cause}", sent=effect and not never_left) from error
        return answer.data if isinstance(answer.data, dict) else {}

    def _failure(self, answer: SlackResponse, *, effect: bool) -> SystemFailure:
        code = str(answer.get("error"))
        if answer.status_code == 429 or code in _THROTTLED:
            wait = float(answer.headers.get("Retry-After", 30))
            return Unavailable(self._name, f"rate limited, asks for {wait:.0f} s", retry_after=wait)
        if answer.status_code >= 500 or code in _DOWN:
            named = code if code in _DOWN else f"status {answer.status_code}"
            return Unavailable(self._name, f"Slack has trouble ({named})", sent=effect)
        if code in _DENIED:
            needed = f" ({answer['needed']})" if code == "missing_scope" and answer.get("needed") else ""
            return Denied(self._name, f"{code}{needed}: {_DENIED[code]}")
        details = (answer.get("response_metadata") or {}).get("messages") or ()
        return Rejected(self._name, ": ".join((code, *(str(detail) for detail in details))))


class SlackPager:
    """ports.Pager for the way `slack`: a direct message. Never looks for its own trace: a page that may have been lost
    is sent again (law 3)."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def send(self, message: PageMessage) -> str:
        """Returns `channel/ts`. The blocks come from the message; without them the text is shown as plain text."""
        text = html.escape(f"{message.subject}\n{message.body}".strip(), quote=False)
        ref = self._chat.direct(message.address, ChatMessage(message.key, text, message.blocks or _plain(message)))
        return f"{ref.channel}/{ref.ts}"


class _Pace:
    """When each channel may be posted to next."""

    def __init__(
        self, system: str, every: float, monotonic: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._system, self._every, self._monotonic, self._sleep = system, every, monotonic, sleep
        self._free_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def wait(self, channel: str, patience: float = _PATIENCE) -> None:
        with self._lock:
            now = self._monotonic()
            turn = max(now, self._free_at.get(channel, now))
            if turn - now > patience:
                raise Unavailable(self._system, f"posts to {channel} are queueing", retry_after=turn - now)
            self._free_at[channel] = turn + self._every
        if turn > now:
            self._sleep(turn - now)
            if self._monotonic() > turn + _STOOD_STILL:  # the message may be somebody else's by now
                raise Unavailable(self._system, "this process stood still", retry_after=1.0)

    def hold(self, channel: str, seconds: float) -> None:
        with self._lock:
            self._free_at[channel] = max(self._free_at.get(channel, 0.0), self._monotonic() + seconds)


class _Quota:
    """How many calls of each method are left in this minute."""

    def __init__(self, system: str, monotonic: Callable[[], float]) -> None:
        self._system, self._monotonic = system, monotonic
        self._made: defaultdict[str, deque[float]] = defaultdict(deque)
        self._held: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, method: str, times: int) -> None:
        with self._lock:
            now, made, most = self._monotonic(), self._made[method], _TIERS[method]
            while made and made[0] <= now - 60:
                made.popleft()
            wait = self._held.get(method, now) - now
            if len(made) + times > most:
                wait = max(wait, made[len(made) + times - most - 1] + 60 - now)
            if wait > 0:
                raise Unavailable(self._system, f"{method} has used up its minute", retry_after=wait)
            made.extend([now] * times)

    def hold(self, method: str, seconds: float) -> None:
        with self._lock:
            self._held[method] = self._monotonic() + seconds


def _channel(found: Mapping[str, Any]) -> ChatChannel:
    shared = any(found.get(sign) for sign in ("is_ext_shared", "is_pending_ext_shared"))
    return ChatChannel(
        id=str(found["id"]),
        name=str(found["name"]),
        private=bool(found.get("is_private")),
        archived=bool(found.get("is_archived")),
        shared=shared,
    )


def _metadata(message: ChatMessage) -> dict[str, Any]:
    return {"event_type": METADATA_EVENT, "event_payload": {"key": message.key}}


def _plain(message: PageMessage) -> tuple[Mapping[str, Any], ...]:
    """Plain text only: whatever an alert wrote, it makes no mention and no link."""

    def plain_text(text: str, limit: int) -> Mapping[str, Any]:
        shown = text if len(text) <= limit else text[: limit - 1] + "…"
        return {"type": "plain_text", "text": shown, "emoji": False}

    blocks: list[Mapping[str, Any]] = [{"type": "header", "text": plain_text(message.subject, 150)}]
    if message.body:
        blocks.append({"type": "section", "text": plain_text(message.body, 3000)})
    if "acknowledge" in message.actions:
        label = plain_text("Acknowledge", 75)
        pressed = {"action_id": "ack", "value": message.incident, "style": "primary"}
        blocks.append({"type": "actions", "elements": [{"type": "button", "text": label, **pressed}]})
    return tuple(blocks)
