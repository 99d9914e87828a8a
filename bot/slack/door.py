"""What every listener shares: who speaks, one transaction for what they say, and an answer that only they see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar, cast

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from bot.domain.events import TextRef
from bot.domain.incident import Incident
from bot.domain.record import Entry
from bot.domain.redaction import Json
from bot.engine.engine import Engine
from bot.engine.responder import Responder, no_such_incident
from bot.engine.verbs import Job, may_see, said_in
from bot.errors import ConfigError, FiredoorError, Refused, Unavailable
from bot.slack.channels import Channels
from bot.slack.modals import message
from bot.slack.mrkdwn import escape
from bot.slack.people import SLACK_FAILURES, Callers
from bot.store.entries import StreamRow

log = logging.getLogger(__name__)

Body = Mapping[str, Any]
Blocks = Sequence[Mapping[str, Any]]
T = TypeVar("T")

VIA = "slack"
SEEN_FOR = timedelta(days=1)
LISTED = 50  # incidents read for a list, the newest
LOOKS, LOOK_AGAIN = 30, 0.1  # for a modal that an acknowledgement changes; seconds between them
ROOMS = 1000  # whose channels are known, the newest


@dataclass(frozen=True, slots=True)
class Visit:
    """Somebody who speaks: from where (`channel`, `thread`, or a view where both are ''), and by which `key` this one
    delivery is known when it comes again. `trigger` opens one view within 3 s; `reply` is Slack's response URL."""

    user: str
    team: str
    key: str
    channel: str = ""
    thread: str = ""
    message: str = ""
    trigger: str = ""
    reply: str = ""
    view: str = ""  # the modal that is open, in which the answer is shown
    waiting: str = ""  # its external id, where Slack may not have put it there yet
    home: bool = False

    @classmethod
    def by_click(cls, body: Body) -> Visit:
        container = body.get("container") or {}
        channel = (body.get("channel") or {}).get("id") or container.get("channel_id") or ""
        thread = (body.get("message") or {}).get("thread_ts") or container.get("thread_ts") or ""
        user, trigger, view = body["user"], str(body.get("trigger_id") or ""), body.get("view") or {}
        modal = view.get("type") == "modal"
        return cls(
            user=str(user["id"]),
            team=str(user.get("team_id") or ""),
            key=trigger or "/".join((user["id"], str(_action(body).get("action_ts")))),
            channel=str(channel),
            thread=str(thread),
            message=str(container.get("message_ts") or ""),
            trigger=trigger,
            view=str(view.get("id") or "") if modal else "",
            home=view.get("type") == "home",
        )

    @classmethod
    def by_command(cls, body: Body) -> Visit:
        trigger = str(body.get("trigger_id") or "")
        return cls(
            user=str(body.get("user_id") or ""),
            team=str(body.get("team_id") or ""),
            key=trigger,
            channel=str(body.get("channel_id") or ""),
            trigger=trigger,
            reply=str(body.get("response_url") or ""),
        )

    @classmethod
    def by_shortcut(cls, body: Body) -> Visit:
        return replace(cls.by_click(body), message="")

    @classmethod
    def by_view(cls, body: Body, channel: str, *, corrected: bool = False) -> Visit:
        """A submission; the modal is closed by the time it is answered. One form is sent once, unless it is one that
        stays open to be `corrected`: Slack gives it no new hash, but each submission a trigger of its own."""
        user, view, trigger = body["user"], body["view"], str(body.get("trigger_id") or "")
        sent = "/".join(filter(None, (view.get("id"), view.get("hash"), trigger if corrected else "")))
        return cls(
            user=str(user["id"]), team=str(user.get("team_id") or ""), key=sent, channel=channel, trigger=trigger
        )

    @classmethod
    def by_event(cls, body: Body, user: str, channel: str, thread: str = "") -> Visit:
        team = (body.get("event") or {}).get("user_team") or body.get("team_id") or ""
        return cls(user=user, team=str(team), key=str(body.get("event_id") or ""), channel=channel, thread=thread)

    @property
    def body(self) -> Body:
        """As Callers reads it."""
        return {"user": {"id": self.user, "team_id": self.team}}


class Door:
    def __init__(self, client: AsyncWebClient, engine: Engine) -> None:
        self.client, self.engine, self.config = client, engine, engine.world.config
        self.people, self.redactor = engine.world.config.people, engine.world.redactor
        self.afterwards: Callable[[str], Coroutine[Any, Any, None]] | None = None  # shows a person how things stand now
        self._under_way: set[asyncio.Task[None]] = set()
        self._callers, self._channels = Callers(client, self.people), Channels(client)
        self._rooms: dict[str, str] = {}  # channel -> incident; a channel never changes hands

    # Who and what -----------------------------------------------------------------------------------------------

    async def person(self, visit: Visit) -> str:
        """The id in people.yaml. Raises Refused with a sentence for them."""
        return await self._callers.person(visit.body)

    async def admitted(self, visit: Visit) -> str:
        """'' for one who is refused, and told so."""
        try:
            return await self.person(visit)
        except Refused as refused:
            await self.tell(visit, str(refused))
            return ""

    async def act(self, visit: Visit, job: Callable[[], Job], *, decides: bool = False) -> Incident | None:
        """What somebody who was admitted asks for, as one transaction that happens once. The state after it; None where
        it was refused (they are told) or where the delivery had come before. What `decides` does not count where other
        organisations read along."""
        after = await self.attempt(visit, job, decides=decides)
        if isinstance(after, Refused):
            await self.tell(visit, str(after))
        self.follow(visit)
        return None if isinstance(after, Refused) else after

    async def attempt(
        self, visit: Visit, job: Callable[[], Job], *, decides: bool = False
    ) -> Incident | Refused | None:
        """As `act`, but nobody is told yet."""
        try:
            if decides:
                await self._channels.ours(visit.channel)
            return await self.submit(visit, job())
        except Refused as refused:
            return refused
        except ConfigError as error:  # a TOTP secret that cannot be read
            log.error("what a person said could not be tried: %s", error)
            return Refused("misconfigured", "Your code cannot be checked: your secret cannot be read. Tell operators.")

    def follow(self, visit: Visit) -> None:
        """Shows the person how things stand now. Not waited for: the answer to what they did comes first."""
        if self.afterwards:
            task = asyncio.create_task(self.afterwards(visit.user))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def submit(self, visit: Visit, job: Job) -> Incident | Refused | None:
        """The state after the event, or why there is none; None where the delivery had come before."""
        # Shielded: a job that is queued is done, whoever stops waiting for it.
        waiting = asyncio.shield(asyncio.wrap_future(self.engine.submit(once(visit.key, said_in(visit.channel, job)))))
        try:
            return await waiting
        except Refused as refused:
            return refused
        except Unavailable as error:
            log.warning("what a person said could not be recorded: %s", error)
            why = "The record cannot be reached: this does not count yet. Try again in a moment."
            return Refused("unavailable", why)
        except FiredoorError as error:
            log.error("what a person said could not be recorded: %s", error)
            return Refused("unrecorded", "Firedoor could not record this. Use the command line, and look at its log.")

    # Reading ----------------------------------------------------------------------------------------------------

    async def incident(self, id: str) -> Incident:
        """Raises Refused, Unavailable."""
        return await asyncio.to_thread(self.engine.incident, id)

    async def entries(self, id: str) -> tuple[Entry, ...]:
        return await asyncio.to_thread(self.engine.entries, id)

    async def visible(self, id: str, person: str, channel: str = "") -> Incident:
        """As `incident`, where this person may read it in this place."""
        state = await self.incident(id)
        if not self._may_see(state, person, channel):
            raise no_such_incident(id)
        return state

    def _may_see(self, state: Incident, person: str, channel: str = "") -> bool:
        world = self.engine.world
        return may_see(world, state, person, world.ports.clock.now(), channel)

    async def states(self, person: str, *, open: bool, most: int = LISTED) -> list[Incident]:
        """The newest first; of the private ones those that this person may see."""

        def read() -> list[Incident]:
            return [self.engine.incident(row.stream) for row in self._streams(open, most)]

        return [state for state in await asyncio.to_thread(read) if self._may_see(state, person)]

    async def incident_of(self, channel: str) -> str:
        """Whose channel this is; '' for any other."""
        if channel and channel not in self._rooms:
            rows = await asyncio.to_thread(self._streams, None, ROOMS)
            self._rooms |= {str(row.summary["channel"]): row.stream for row in rows if row.summary.get("channel")}
        return self._rooms.get(channel, "")

    async def text(self, ref: TextRef) -> str | None:
        """None where it was erased."""

        def read() -> bytes | None:
            with self.engine.store.reading() as tx:
                return tx.get_text(ref)

        found = await asyncio.to_thread(read)
        return None if found is None else found.decode("utf-8", "replace")

    def _streams(self, open: bool | None, most: int) -> tuple[StreamRow, ...]:
        with self.engine.store.reading() as tx:
            return tx.streams("incident", open=open, limit=most)

    def clean(self, text: str) -> str:
        """What a person wrote, without secrets and without halves of characters."""
        return self.redactor.text(text.encode("utf-8", "replace").decode("utf-8", "replace"))

    # Speaking ---------------------------------------------------------------------------------------------------

    async def tell(self, visit: Visit, text: str, blocks: Blocks = ()) -> None:
        """Only this person sees it: where they spoke, or directly. `text` is plain; blocks are made already."""
        text = escape(self.redactor.text(text))[:3900]
        made = self.shown(blocks)
        inside = message("Firedoor", [] if made else [text[:2900]], made)
        if visit.view and await self._replace_view(visit, inside):
            return
        if visit.reply and await tried(self._reply(visit.reply, text, made)):
            return
        sent = visit.channel and await tried(
            self.client.chat_postEphemeral(
                channel=visit.channel, user=visit.user, text=text, blocks=made or None, thread_ts=visit.thread or None
            )
        )
        if not sent:
            await tried(self.client.chat_postMessage(channel=visit.user, text=text, blocks=made or None))

    async def show_view(self, visit: Visit, view: Mapping[str, Any]) -> None:
        """A modal, in place of the one that is open; for a new one Slack gives 3 s from the click or the command."""
        shown = cast(dict[str, Any], self.redactor.json(cast(Json, view)))
        if visit.view:
            await self._replace_view(visit, shown)
        elif not await tried(self.client.views_open(trigger_id=visit.trigger, view=shown)):
            await self.tell(visit, "Slack did not open the form: its 3 seconds were over. Try again.")

    async def _replace_view(self, visit: Visit, view: dict[str, Any]) -> bool:
        if not visit.waiting:
            return await tried(self.client.views_update(view_id=visit.view, view=view))
        for _ in range(LOOKS):  # our acknowledgement, which puts it there, may still be on its way
            try:
                await self.client.views_update(external_id=visit.waiting, view=view)
            except SlackApiError as error:
                if error.response.get("error") != "not_found":
                    log.warning("Slack did not take an answer: %s", error)
                    return False
                await asyncio.sleep(LOOK_AGAIN)
            else:
                return True
        return False

    def shown(self, blocks: Blocks) -> list[dict[str, Any]]:
        """Without secrets."""
        return cast("list[dict[str, Any]]", self.redactor.json(cast(Json, list(blocks))))

    async def _reply(self, url: str, text: str, blocks: list[dict[str, Any]]) -> None:
        answer = await AsyncWebhookClient(url).send(text=text, blocks=blocks or None, response_type="ephemeral")
        if answer.status_code >= 300:
            raise TimeoutError(f"the response URL answered {answer.status_code}")


def once(key: str, job: Callable[[Responder], T]) -> Callable[[Responder], T | None]:
    """A delivery that came before is None, on whichever replica; a refused one was one too."""

    def run(responder: Responder) -> T | None:
        if responder.tx.seen(f"slack:{key}", responder.now, responder.now + SEEN_FOR) is not None:
            return None
        return job(responder)

    return run


def value(body: Body) -> str:
    """What the button or the chosen option carries."""
    action = _action(body)
    return str(action.get("value") or (action.get("selected_option") or {}).get("value") or "")


def _action(body: Body) -> Body:
    return cast(Body, (body.get("actions") or [{}])[0])


async def tried(call: Awaitable[Any]) -> bool:
    """A message that Slack does not take changes nothing of what was recorded."""
    try:
        await call
    except SLACK_FAILURES as error:
        log.warning("Slack did not take an answer: %s", error)
        return False
    return True
