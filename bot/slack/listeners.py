"""What a click does: acknowledged to Slack at once, then handed to the engine as one event, then shown as it became.

Slack repeats deliveries and people press twice. A trigger id is taken once, in the same transaction as what it asks
for; what was decided already is refused by the record, with a sentence that only the clicker sees.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, cast

from slack_bolt.async_app import AsyncAck, AsyncApp

from bot.domain.approval import ApprovalState
from bot.domain.incident import Incident
from bot.domain.redaction import Json
from bot.engine import verbs
from bot.engine.engine import Engine
from bot.engine.responder import Responder
from bot.errors import FiredoorError, Refused, Unavailable
from bot.slack.blocks import answered
from bot.slack.mrkdwn import escape
from bot.slack.people import SLACK_FAILURES, Callers
from bot.slack.standing import still_missing

log = logging.getLogger(__name__)

Body = Mapping[str, Any]

VIA = "slack"
SEEN_FOR = timedelta(days=1)


class Listeners:
    def __init__(self, app: AsyncApp, engine: Engine) -> None:
        self._engine, self._client = engine, app.client
        self._callers = Callers(app.client, engine.world.config.people)
        self._painting: dict[tuple[str, str], bool] = {}
        for name in ("ack", "unack", "approve", "refuse", "override"):
            app.action(name)(getattr(self, name))

    # One for each button; `value` says what the screen showed ----------------------------------------------------

    async def ack(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        await self._do(body, _value(body), lambda who: verbs.acknowledge(_value(body), who, VIA))

    async def unack(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        await self._do(body, _value(body), lambda who: verbs.unacknowledge(_value(body), who, VIA))

    async def approve(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        request, _, shown = _value(body).partition("|")
        # A value without a hash shows nothing, so it must not stand for the plan as it is now.
        after = await self._do(body, request, lambda who: verbs.approve(request, who, VIA, shown or "nothing"))
        if after:
            await self._tell(body, _recorded(after, request))

    async def refuse(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        request, _, _ = _value(body).partition("|")
        after = await self._do(body, request, lambda who: verbs.refuse(request, who, VIA))
        if after:
            await self._tell(body, _recorded(after, request))

    async def override(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        incident, _, step = _value(body).partition("|")
        after = await self._do(body, incident, lambda who: verbs.override(incident, step, who, VIA))
        if after:
            await self._tell(body, f"Recorded: {step} runs on your word.")

    # What they share ---------------------------------------------------------------------------------------------

    async def _do(self, body: Body, subject: str, job: Callable[[str], verbs.Job]) -> Incident | None:
        """The state after it; None where it was refused (the clicker is told) or a delivery came twice. `subject` is
        the incident or request that the message is about."""
        try:
            person = await self._callers.person(body)
        except Refused as refused:
            await self._tell(body, str(refused))
            return None
        after, why = await self._submit(body, job(person))
        if why:
            await self._tell(body, why)
        if after or why:  # what the message shows may have been out of date: that is why it was pressed
            await self._paint(body, subject)
        return after

    async def _submit(self, body: Body, job: verbs.Job) -> tuple[Incident | None, str]:
        """The state after the event, or what to tell the clicker instead."""
        # Shielded: a job that is queued is done, whoever stops waiting for it.
        waiting = asyncio.shield(asyncio.wrap_future(self._engine.submit(_once(body, job))))
        try:
            return await waiting, ""
        except Refused as refused:
            return None, str(refused)
        except Unavailable as error:
            log.warning("a click could not be recorded: %s", error)
            return None, "The record cannot be reached: your click does not count yet. Press again in a moment."
        except FiredoorError as error:
            log.error("a click could not be recorded: %s", error)
            return None, "Firedoor could not record your click. Use the command line, and look at its log."

    async def _tell(self, body: Body, text: str) -> None:
        """Only the clicker sees it, where they clicked."""
        channel, _, thread = _place(body)
        text = self._engine.world.redactor.text(text)
        await _tried(
            self._client.chat_postEphemeral(
                channel=channel, user=body["user"]["id"], text=escape(text), thread_ts=thread or None
            )
        )

    async def _paint(self, body: Body, subject: str) -> None:
        """Shows a message as things are now. Of many clicks at once the last paints what all of them did."""
        channel, ts, _ = _place(body)
        if (channel, ts) in self._painting:
            self._painting[channel, ts] = True
            return
        self._painting[channel, ts] = True
        try:
            while self._painting[channel, ts]:
                self._painting[channel, ts] = False
                await self._repaint(body, subject, channel, ts)
        finally:
            del self._painting[channel, ts]

    async def _repaint(self, body: Body, subject: str, channel: str, ts: str) -> None:
        try:
            state = await asyncio.to_thread(self._engine.incident, subject.partition("/")[0])
        except FiredoorError as error:
            log.warning("a message in %s is not up to date: %s", channel, error)
            return
        if asked := state.approvals.get(subject):
            said = self._engine.world.voice.approval(state, asked)
            text, blocks = said.text, list(said.blocks)
        elif state.card == (channel, ts):
            return  # the engine edits the card itself
        else:
            message = body.get("message") or {}
            text = str(message.get("text") or state.id)
            blocks = list(answered(state, message.get("blocks") or (), self._engine.world.config.people))
        redact = self._engine.world.redactor
        clean = cast("list[dict[str, Any]]", redact.json(cast(Json, blocks)))
        await _tried(self._client.chat_update(channel=channel, ts=ts, text=redact.text(text), blocks=clean))


def _once(body: Body, job: verbs.Job) -> Callable[[Responder], Incident | None]:
    """A delivery that came before is None, on whichever replica; a refused one was one too."""
    click = body.get("trigger_id") or "/".join((body["user"]["id"], body["actions"][0]["action_ts"]))

    def run(responder: Responder) -> Incident | None:
        if responder.tx.seen(f"slack:{click}", responder.now, responder.now + SEEN_FOR) is not None:
            return None
        return job(responder)

    return run


def _recorded(after: Incident, request: str) -> str:
    asked = after.approvals[request]
    match asked.state:
        case ApprovalState.OPEN:
            return f"Recorded: your approval of {asked.step}. Still missing: {still_missing(asked)}."
        case ApprovalState.GRANTED:
            return f"Recorded: your approval of {asked.step}. Nothing is missing any more: it goes ahead."
    return f"Recorded: {asked.step} is {asked.state}. It is not done."


def _value(body: Body) -> str:
    return str(body["actions"][0].get("value") or "")


def _place(body: Body) -> tuple[str, str, str]:
    """(channel, message, thread '' where it stands alone)."""
    container = body.get("container") or {}
    channel = (body.get("channel") or {}).get("id") or container.get("channel_id") or ""
    thread = (body.get("message") or {}).get("thread_ts") or container.get("thread_ts") or ""
    return str(channel), str(container.get("message_ts") or ""), str(thread)


async def _tried(call: Awaitable[Any]) -> None:
    """A message that Slack does not take changes nothing of what was recorded."""
    try:
        await call
    except SLACK_FAILURES as error:
        log.warning("Slack did not take an answer to a click: %s", error)
