"""What a button in a message does: acknowledged to Slack at once, then one event, then shown as it became.

`value` says what the screen showed: an incident, `incident|step`, `incident|role`, `incident|task` or `request|hash`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial

from slack_bolt.async_app import AsyncAck, AsyncApp

from bot.domain.approval import ApprovalState
from bot.domain.incident import Incident
from bot.engine import verbs
from bot.engine.verbs import Job
from bot.errors import FiredoorError
from bot.slack.blocks import answered
from bot.slack.command import Command
from bot.slack.commands import Commands
from bot.slack.door import VIA, Body, Door, Visit, tried, value
from bot.slack.orders import Orders, recorded
from bot.slack.said import Decide, Plain, Release, Said, Snooze, TakeRole, TaskChange

log = logging.getLogger(__name__)

PLAIN = ("escalate", "contain", "resolve")
FORMS = {"responders": "page", "silence": "silence", "update": "update", "reminder_send": "update"}
_SNOOZE = re.compile(r"^(?:snooze|reminder_snooze)_?(\d{1,3})?$")
_STOP = re.compile(r"^(?:snooze|reminder)_stop$")


class Clicks:
    def __init__(self, app: AsyncApp, door: Door, orders: Orders, commands: Commands) -> None:
        self._door, self._orders, self._commands = door, orders, commands
        self._painting: dict[tuple[str, str], bool] = {}
        for name in ("ack", "unack", "approve", "refuse", "override"):
            app.action(name)(getattr(self, name))
        for name in PLAIN:
            app.action(name)(self._saying(partial(_plain, name)))
        for name, form in FORMS.items():
            app.action(name)(self._asking(form))
        app.action(re.compile(r"^release\b"))(self._saying(lambda body: Release(_second(body))))
        app.action(re.compile(r"^role\b"))(self._saying(lambda body: TakeRole(_second(body))))
        app.action("task_done")(self._saying(lambda body: TaskChange(_second(body), done=True)))
        app.action(_SNOOZE)(self._saying(lambda body: Snooze(_minutes(body))))
        app.action(_STOP)(self._saying(lambda _: Snooze(None)))

    # One for each button ------------------------------------------------------------------------------------------

    async def ack(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        await self._do(body, value(body), lambda who: verbs.acknowledge(value(body), who, VIA))

    async def unack(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        await self._do(body, value(body), lambda who: verbs.unacknowledge(value(body), who, VIA))

    async def approve(self, ack: AsyncAck, body: Body) -> None:
        """Where the step asks for a code, in a form that shows the plan again."""
        await ack()
        request, _, _ = value(body).partition("|")
        if await self._wants_code(request):
            visit = Visit.by_click(body)
            if who := await self._door.admitted(visit):
                given = Command("approve", request.partition("/")[0], None, request)
                await self._commands.run(visit, who, given)
            return
        said = Decide(True, request, shown=value(body))
        after = await self._do(body, request, lambda who: self._orders.job(said, "", who), decides=True)
        if after:
            await self._door.tell(Visit.by_click(body), recorded(after, request))

    async def refuse(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        request, _, _ = value(body).partition("|")
        after = await self._do(body, request, lambda who: verbs.refuse(request, who, VIA), decides=True)
        if after:
            await self._door.tell(Visit.by_click(body), recorded(after, request))

    async def override(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        incident, _, step = value(body).partition("|")
        after = await self._do(body, incident, lambda who: verbs.override(incident, step, who, VIA), decides=True)
        if after:
            await self._door.tell(Visit.by_click(body), f"Recorded: {step} runs on your word.")

    def _saying(self, said: Callable[[Body], Said]) -> Callable[..., Awaitable[None]]:
        """A button that says one thing of an incident, and tells the person what came of it."""

        async def click(ack: AsyncAck, body: Body) -> None:
            await ack()
            visit, meant = Visit.by_click(body), said(body)
            if who := await self._door.admitted(visit):
                await self._commands.say(visit, who, meant, value(body).partition("|")[0])

        return click

    def _asking(self, verb: str) -> Callable[..., Awaitable[None]]:
        """A button that opens the verb's form."""

        async def click(ack: AsyncAck, body: Body) -> None:
            await ack()
            visit = Visit.by_click(body)
            if who := await self._door.admitted(visit):
                await self._commands.run(visit, who, Command(verb, value(body).partition("|")[0]))

        return click

    # What they share ----------------------------------------------------------------------------------------------

    async def _do(
        self, body: Body, subject: str, job: Callable[[str], Job], *, decides: bool = False
    ) -> Incident | None:
        """`subject` is the incident or request that the message is about: it is shown as it is now."""
        visit = Visit.by_click(body)
        who = await self._door.admitted(visit)
        if not who:
            return None
        after = await self._door.act(visit, lambda: job(who), decides=decides)
        if visit.message:  # what it showed may have been out of date: that is why it was pressed
            await self._paint(body, subject, visit)
        return after

    async def _wants_code(self, request: str) -> bool:
        try:
            state = await self._door.incident(request.partition("/")[0])
        except FiredoorError:
            return False  # whatever is wrong is said when the click is taken
        asked = state.approvals.get(request)
        return bool(asked and asked.step_up and asked.state is ApprovalState.OPEN)

    async def _paint(self, body: Body, subject: str, visit: Visit) -> None:
        """Shows a message as things are now. Of many clicks at once the last paints what all of them did."""
        key = visit.channel, visit.message
        if key in self._painting:
            self._painting[key] = True
            return
        self._painting[key] = True
        try:
            while self._painting[key]:
                self._painting[key] = False
                await self._repaint(body, subject, *key)
        finally:
            del self._painting[key]

    async def _repaint(self, body: Body, subject: str, channel: str, ts: str) -> None:
        door = self._door
        try:
            state = await door.incident(subject.partition("/")[0])
        except FiredoorError as error:
            log.warning("a message in %s is not up to date: %s", channel, error)
            return
        if asked := state.approvals.get(subject):
            said = door.engine.world.voice.approval(state, asked)
            text, blocks = said.text, said.blocks
        elif state.card == (channel, ts):
            return  # the engine edits the card itself
        else:
            message = body.get("message") or {}
            text = str(message.get("text") or state.id)
            blocks = tuple(answered(state, message.get("blocks") or (), door.people))
        shown = door.shown(blocks)
        await tried(door.client.chat_update(channel=channel, ts=ts, text=door.redactor.text(text), blocks=shown))


def _plain(verb: str, _: Body) -> Said:
    return Plain(verb)


def _second(body: Body) -> str:
    return value(body).partition("|")[2]


def _minutes(body: Body) -> int:
    """In the action's name or behind the incident; 30 where neither says."""
    action = (body.get("actions") or [{}])[0]
    named = _SNOOZE.match(str(action.get("action_id") or ""))
    text = (named[1] if named else "") or _second(body)
    return int(text) if text.isdecimal() else 30
