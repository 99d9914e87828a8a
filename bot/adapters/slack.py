"""Slack: ports.Chat and a pager over it. Every wait is told to the caller, never slept through in here."""

from __future__ import annotations

import html
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.error import URLError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import Chat, ChatMessage, MessageRef, PageMessage

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
_THROTTLED = ("ratelimited", "rate_limited", "message_limit_exceeded")


class SlackChat:
    """ports.Chat for one workspace. Ordinary posts leave at most once in `every` seconds per channel (Slack's limit is
    about 1/s); direct messages, which carry the pages, do not wait for them."""

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
        self._pace = _Pace(name, every, monotonic, sleep)
        self._directs: dict[str, str] = {}
        self._bot_id = ""

    def identity(self) -> Mapping[str, Any]:
        """What auth.test says of the bot: `team_id`, `user_id`, `bot_id`, `url`."""
        return self._call(self._web.auth_test, effect=False)

    def post(self, channel: str, message: ChatMessage, *, thread: str = "", again: bool = False) -> MessageRef:
        if again and (found := self._trace(channel, thread, message.key)):
            return found
        self._pace.wait(channel)
        try:
            return self._send(channel, message, thread)
        except Unavailable as error:
            self._pace.hold(channel, error.retry_after or 0)
            raise

    def update(self, ref: MessageRef, message: ChatMessage) -> None:
        # Without `blocks` Slack would keep the old ones.
        self._call(
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
        self._bot_id = self._bot_id or str(self.identity()["bot_id"])
        cursor: str | None = None
        for _ in range(_PAGES):
            where: dict[str, Any] = {"channel": channel, "limit": _PAGE, "cursor": cursor, "include_all_metadata": True}
            if thread:
                page = self._call(self._web.conversations_replies, effect=False, ts=thread, **where)
            else:
                page = self._call(self._web.conversations_history, effect=False, **where)
            for message in page["messages"]:
                metadata = message.get("metadata") or {}
                ours = metadata.get("event_type") == METADATA_EVENT and message.get("bot_id") == self._bot_id
                if ours and metadata.get("event_payload", {}).get("key") == key:
                    return MessageRef(channel, str(message["ts"]))
            cursor = (page.get("response_metadata") or {}).get("next_cursor") or None
            if cursor is None:
                return None
        return None

    def _call(self, perform: Callable[..., SlackResponse], *, effect: bool = True, **args: Any) -> dict[str, Any]:
        """`effect`: somebody sees it, so that a missing answer leaves it open whether they did."""
        try:
            answer = perform(**args)
        except SlackApiError as error:
            raise self._failure(error.response, effect=effect) from error
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

    def wait(self, channel: str) -> None:
        with self._lock:
            now = self._monotonic()
            turn = max(now, self._free_at.get(channel, now))
            if turn - now > _PATIENCE:
                raise Unavailable(self._system, f"posts to {channel} are queueing", retry_after=turn - now)
            self._free_at[channel] = turn + self._every
        if turn > now:
            self._sleep(turn - now)
            if self._monotonic() > turn + _STOOD_STILL:  # the message may be somebody else's by now
                raise Unavailable(self._system, "this process stood still", retry_after=1.0)

    def hold(self, channel: str, seconds: float) -> None:
        with self._lock:
            self._free_at[channel] = max(self._free_at.get(channel, 0.0), self._monotonic() + seconds)


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
