"""A :pushpin: puts a message on the timeline; what becomes of the message afterwards is added, never overwritten. No
reaction acknowledges or approves anything: a user's token, an agent's too, can set one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from slack_bolt.async_app import AsyncApp

from bot.engine import verbs
from bot.errors import FiredoorError, Refused
from bot.slack.door import Body, Door, Visit, tried
from bot.slack.people import SLACK_FAILURES

log = logging.getLogger(__name__)

PUSHPINS = ("pushpin", "round_pushpin")
SILENT = ("stranger", "no_member")  # a bot, an agent, or nobody that Firedoor knows: not even told
TEXT_MAX = 12_000


class Pins:
    def __init__(self, app: AsyncApp, door: Door) -> None:
        self._door = door
        heard: tuple[tuple[Any, Callable[[Body], Awaitable[None]]], ...] = (
            ("reaction_added", self.pinned),
            ({"type": "message", "subtype": "message_changed"}, self.changed),
            ({"type": "message", "subtype": "message_deleted"}, self.deleted),
        )
        for event, listen in heard:
            app.event(event, middleware=[_first(listen)])(_acknowledged)

    async def pinned(self, body: Body) -> None:
        event = body.get("event") or {}
        item = event.get("item") or {}
        channel, ts = str(item.get("channel") or ""), str(item.get("ts") or "")
        if event.get("reaction") not in PUSHPINS or item.get("type") != "message":
            return
        incident = await self._door.incident_of(channel)
        if not incident:
            return
        visit = Visit.by_event(body, str(event.get("user") or ""), channel, ts)
        try:
            who = await self._door.person(visit)
        except Refused as refused:
            if refused.code not in SILENT:
                await self._door.tell(visit, str(refused))
            return
        message = await self._message(channel, ts)
        if message is None:
            await self._door.tell(visit, "Slack does not show this message to Firedoor: it is not on the timeline.")
            return
        text, author = self._text(message), self._author(message)
        job = verbs.pin(incident, f"{channel}/{ts}", author, text, said_at(ts), who)
        if await self._door.act(visit, lambda: job):
            # The thread of the card says it too; this says it where people look.
            await tried(self._door.client.reactions_add(channel=channel, timestamp=ts, name="white_check_mark"))

    async def changed(self, body: Body) -> None:
        event = body.get("event") or {}
        message, before = event.get("message") or {}, event.get("previous_message") or {}
        if message.get("subtype") == "tombstone":  # a deleted message that has answers
            await self._tell(body, str(message.get("ts") or ""), None)
        elif message.get("text") != before.get("text"):  # a link that was unfolded is no edit
            await self._tell(body, str(message.get("ts") or ""), self._text(message))

    async def deleted(self, body: Body) -> None:
        event = body.get("event") or {}
        await self._tell(body, str(event.get("deleted_ts") or ""), None)

    async def _tell(self, body: Body, ts: str, text: str | None) -> None:
        """What Slack says of a message that may be pinned. No person says this."""
        door, channel = self._door, str((body.get("event") or {}).get("channel") or "")
        pin = f"{channel}/{ts}"
        try:
            incident = await door.incident_of(channel)
            if incident and pin in (await door.incident(incident)).pins:
                visit = Visit.by_event(body, "", channel)
                after = await door.submit(visit, verbs.pin_changed(incident, pin, text))
                if isinstance(after, Refused):
                    log.info("a change of a pinned message is no news: %s", after)
        except FiredoorError as error:
            log.warning("a change of a message could not be looked at: %s", error)

    async def _message(self, channel: str, ts: str) -> Mapping[str, Any] | None:
        """By this method Slack also finds what stands in a thread."""
        try:
            answer = await self._door.client.conversations_replies(channel=channel, ts=ts, latest=ts, inclusive=True)
        except SLACK_FAILURES as error:
            log.warning("a pinned message could not be read: %s", error)
            return None
        return next((one for one in answer.get("messages") or () if one.get("ts") == ts), None)

    def _text(self, message: Mapping[str, Any]) -> str:
        return self._door.clean(str(message.get("text") or ""))[:TEXT_MAX]

    def _author(self, message: Mapping[str, Any]) -> str:
        """A person's id, or Slack's id of a user or app that people.yaml does not know."""
        user = str(message.get("user") or message.get("bot_id") or "")
        known = self._door.people.by_slack(user)
        return known.id if known else user


def _first(listen: Callable[[Body], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Before Bolt's listener, for Bolt acknowledges an event and then calls it: what a replica died of would be lost.
    Slack delivers again what takes longer than it waits; that is taken once."""

    async def hear(body: Body, next: Callable[[], Awaitable[object]]) -> None:
        await listen(body)
        await next()

    return hear


async def _acknowledged() -> None:
    """Everything is done by now."""


def said_at(ts: str) -> datetime:
    """Slack's ids of messages are the seconds since 1970."""
    return datetime.fromtimestamp(float(ts), UTC)
