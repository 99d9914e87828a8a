"""`/inc`, the modals behind it, and the message shortcut: acknowledged at once, then done, or what is missing is asked
for in a form."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slack_bolt.async_app import AsyncAck, AsyncApp

from bot.documents.picture import timeline_svg
from bot.domain.approval import Approval
from bot.domain.incident import Incident
from bot.domain.why import why
from bot.errors import FiredoorError, Refused, SystemFailure
from bot.ports import ChatFile
from bot.slack import answers, fields, modals
from bot.slack.approvals import CODE_BLOCK, PROVE, code_form
from bot.slack.command import VERBS, Command, Mistake, parse
from bot.slack.door import Body, Door, Visit, tried
from bot.slack.drills import play
from bot.slack.modals import Memo, Scene
from bot.slack.orders import WRONG_CODE, Orders
from bot.slack.people import SLACK_FAILURES
from bot.slack.said import Decide, Look, Said, TakeRole
from bot.slack.standing import spoken

log = logging.getLogger(__name__)

NAMES = ("/inc", "/incident")
CREATE = "create_incident"  # the message shortcut
PROVED_WITHIN = 2.0  # seconds for a code; Slack waits 3 s, the ways there and back included
WAIT = modals.message("One moment", ["One moment ..."])


class Commands:
    def __init__(self, app: AsyncApp, door: Door, orders: Orders) -> None:
        self._door, self._orders, self._world = door, orders, door.engine.world
        self._drilling = asyncio.Lock()  # one at a time: a drill wants a processor for a second or two
        for name in NAMES:
            app.command(name)(self.inc)
        app.shortcut(CREATE)(self.create)
        for form in (re.compile(f"^{modals.CALLBACK}"), PROVE):
            app.view(form)(self.submit)
        app.action(re.compile("^menu:"))(self.choose)

    # What people do -----------------------------------------------------------------------------------------------

    async def inc(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        visit, text = Visit.by_command(body), str(body.get("text") or "")
        command = parse(text)
        if isinstance(command, Mistake):
            await self._door.tell(visit, command.why)
        elif who := await self._door.admitted(visit):
            await self.run(visit, who, command, text)

    async def create(self, ack: AsyncAck, body: Body) -> None:
        """From a message: its text goes into the form."""
        await ack()
        visit, message = Visit.by_shortcut(body), body.get("message") or {}
        text = self._door.clean(str(message.get("text") or ""))
        if who := await self._door.admitted(visit):
            await self.run(visit, who, Command("new", given=f"{text[:150]}\n{text}"))

    async def choose(self, ack: AsyncAck, body: Body) -> None:
        """A button of the action menu."""
        await ack()
        memo = Memo.load(str((body.get("view") or {}).get("private_metadata") or ""))
        visit = replace(Visit.by_click(body), channel=memo.channel)
        command = parse(str(body["actions"][0].get("value") or ""))
        if isinstance(command, Command) and (who := await self._door.admitted(visit)):
            await self.run(visit, who, replace(command, incident=memo.incident))

    async def submit(self, ack: AsyncAck, body: Body) -> None:
        """A modal that was sent. What is wrong with an input is said there."""
        view = body["view"]
        memo = Memo.load(str(view.get("private_metadata") or ""))
        read = modals.read(memo, fields.given(view), self._door.config.agents.agents)
        proving = read if isinstance(read, Decide) and read.code else None
        visit = Visit.by_view(body, memo.channel, corrected=proving is not None)
        if proving:
            await self._prove(ack, visit, proving, memo.incident)
        elif isinstance(read, dict):
            await (ack(response_action="errors", errors=read) if read else ack())
        elif isinstance(read, Command):
            waiting = f"wait-{view.get('id')}-{view.get('hash')}"[:255]
            await ack(response_action="update", view={**WAIT, "external_id": waiting})
            visit = replace(visit, view=str(view.get("id") or ""), waiting=waiting)
            if who := await self._door.admitted(visit):
                await self.run(visit, who, read)
        else:
            await ack()
            if who := await self._door.admitted(visit):
                await self.say(visit, who, read, memo.incident, memo.shown)

    async def _prove(self, ack: AsyncAck, visit: Visit, said: Decide, id: str) -> None:
        """A code is tried before the form closes, so that a wrong one is said at its input. What takes longer than
        Slack would wait closes it, and is answered like anything else."""
        trial = asyncio.create_task(self._decided(visit, said, id))
        await asyncio.wait({trial}, timeout=PROVED_WITHIN)
        found = trial.result() if trial.done() else None
        if isinstance(found, Refused) and found.code == WRONG_CODE:
            await ack(response_action="errors", errors={CODE_BLOCK: str(found)})
            return
        await ack()
        found = await trial
        if found is not None:
            why = str(found) if isinstance(found, Refused) else self._orders.confirmed(said, found)
            await self._door.tell(visit, why)
            self._door.follow(visit)

    async def _decided(self, visit: Visit, said: Decide, id: str) -> Incident | Refused | None:
        try:
            who = await self._door.person(visit)
        except Refused as refused:
            return refused
        return await self._door.attempt(visit, lambda: self._orders.job(said, id, who), decides=True)

    # What comes of it -----------------------------------------------------------------------------------------------

    async def run(self, visit: Visit, who: str, command: Command, text: str = "") -> None:
        """`text` is what was typed, for when it has to be asked which incident is meant."""
        try:
            await self._run(visit, who, command, text)
        except Refused as refused:
            await self._door.tell(visit, str(refused))
        except FiredoorError:
            await self._door.tell(visit, "The record cannot be read just now. Try again, or use the command line.")

    async def _run(self, visit: Visit, who: str, command: Command, text: str) -> None:
        door, verb, said = self._door, VERBS.get(command.verb), command.said
        id = command.incident or await door.incident_of(visit.channel)
        alone = (verb.alone if verb else not id) or (isinstance(said, Look) and said.verb == "oncall")
        if not id and not alone:
            return await self._pick(visit, who, text or command.verb)
        state = await door.visible(id, who, visit.channel) if id else None
        if said is not None and isinstance(said, Look):
            return await self._look(visit, said, state)
        if said is not None:
            return await self.say(visit, who, said, id)
        if verb is None and state:
            memo = Memo("menu", id, visit.channel)
            return await door.show_view(visit, modals.menu(memo, state))
        return await self._ask(visit, who, command, state)

    async def say(self, visit: Visit, who: str, said: Said, id: str, shown: str = "") -> None:
        """`shown`: as Orders has it."""
        if isinstance(said, Look):
            return await self._look(visit, said, await self._door.visible(id, who, visit.channel))
        decides = isinstance(said, Decide)
        after = await self._door.act(visit, lambda: self._orders.job(said, id, who, shown), decides=decides)
        if after is None:
            return None
        await self._door.tell(visit, self._orders.confirmed(said, after))
        if isinstance(said, TakeRole):
            await self.instruct(after, self._orders.role(after, said.role))
        return None

    async def _pick(self, visit: Visit, who: str, text: str) -> None:
        rows = {state.id: row(state) for state in await self._door.states(who, open=True)}
        await self._door.show_view(visit, modals.picker(Memo(modals.PICK, "", visit.channel, given=text), rows))

    async def _ask(self, visit: Visit, who: str, command: Command, state: Incident | None) -> None:
        """The modal of a verb: everything that it shows is read before it opens."""
        verb = command.verb or "new"
        memo = Memo(verb, state.id if state else "", visit.channel, given=command.given)
        scene = Scene(self._door.people, state if verb != "new" else None, types=[*self._door.config.matrices])
        if state and verb == "merge":
            others = {other.id: row(other) for other in await self._door.states(who, open=True)}
            scene = replace(scene, others=others)
        if state and verb == "task":
            read = {
                id: await self._door.text(task.text) or "erased" for id, task in state.tasks.items() if not task.done
            }
            scene = replace(scene, texts=read)
        if state and verb in ("approve", "refuse") and (asked := _asked(state, command.given)):
            memo = replace(memo, shown=_bound(asked))
            if verb == "approve" and asked.step_up:
                return await self._door.show_view(visit, code_form(state, asked, memo.dump()))
            plan = self._world.voice.approval(state, asked).blocks
            scene = replace(scene, asked=asked, plan=[*map(dict, plan)])
        if state and verb == "form":
            memo = replace(memo, shown=_step(state, command.given))
        if state and verb in ("status", "sev"):
            memo = replace(memo, shown=str(state.status) if verb == "status" else state.severity.name)
        return await self._door.show_view(visit, modals.ask(memo, scene))

    async def _look(self, visit: Visit, look: Look, state: Incident | None) -> None:
        door = self._door
        match look.verb:
            case "help":
                await door.tell(visit, "What /inc understands", answers.help_blocks())
            case "oncall":
                blocks = answers.on_call_blocks(door.people, self._world.ports.clock.now(), state)
                await door.tell(visit, "Who is on call", blocks)
            case "drill":
                await self._drill(visit, look.what)
            case "timeline" if state:
                entries = await door.entries(state.id)
                await door.tell(visit, f"Timeline of {state.id}", answers.timeline_blocks(state, entries))
                picture = await asyncio.to_thread(timeline_svg, state, entries)
                title = f"{state.id}: what happened when"
                await self._files(visit, ChatFile(f"{state.id}-timeline.svg", title, self._bytes(picture)))
            case "postmortem" if state:
                ref = state.documents.get("postmortem")
                text = await door.text(ref) if ref else None
                if text is None:
                    await door.tell(visit, answers.postmortem_due(state, erased=ref is not None))
                    return
                file = ChatFile(f"{state.id}-postmortem.md", f"{state.id}: postmortem, a draft", self._bytes(text))
                if await self._files(visit, file):
                    await door.tell(visit, f"The postmortem of {state.id} is in your messages with Firedoor.")
            case "why" if state:
                await door.tell(visit, why(state, look.what))

    async def _drill(self, visit: Visit, name: str) -> None:
        folder = self._world.templates.parent
        names = sorted(file.stem for file in folder.glob("drills/*.yaml"))
        if name not in names:
            await self._door.tell(visit, answers.drill_text(names))
            return
        await self._door.tell(visit, f"The drill {name} plays, on simulated systems: its report comes to your messages")
        async with self._drilling:
            played = await play(name, folder)
        if played.report:
            await self._files(visit, ChatFile(f"drill-{name}.html", f"Report of {name}", self._bytes(played.report)))
        await self._door.tell(visit, played.score)

    def _bytes(self, text: str) -> bytes:
        return self._door.redactor.text(text).encode()

    async def _files(self, visit: Visit, file: ChatFile) -> bool:
        """Sent to this person only. False where Slack did not take it, which they are told."""
        try:
            answer = await self._door.client.conversations_open(users=visit.user)
            channel = str(answer["channel"]["id"])
            chat = self._world.ports.chat
            if chat is None:
                return False
            await asyncio.to_thread(chat.upload, channel, (file,), comment=file.title)
        except (*SLACK_FAILURES, SystemFailure) as error:
            log.warning("Slack did not take %s: %s", file.name, error)
            await self._door.tell(visit, f"Slack did not take the file {file.name}. See: firedoor incident document")
            return False
        return True

    async def instruct(self, after: Incident, role: str) -> None:
        """Whoever has the role now is told privately what it takes."""
        person = self._door.people.persons.get(after.roles.get(role, ""))
        if person and person.slack:
            text = await asyncio.to_thread(answers.role_text, self._world.templates, role)
            blocks = self._door.shown(answers.role_blocks(after, role, text))
            said = f"You are {spoken(role)} of {after.id}."
            await tried(self._door.client.chat_postMessage(channel=person.slack, text=said, blocks=blocks))


def row(state: Incident) -> Mapping[str, Any]:
    return {"severity": state.severity.name, "type": state.type, "agent": state.begun.agent_uid}


def _asked(state: Incident, word: str) -> Approval | None:
    """The open request that is meant: by its id, its number or its step; or the only one."""
    there = modals.open_requests(state)
    named = [one for one in there if word in (one.request, one.request.partition("/")[2], one.step)]
    if word and not named:
        return None
    found = named or there
    return found[0] if len(found) == 1 else None


def _bound(asked: Approval) -> str:
    return f"{asked.request}|{asked.hash}"


def _step(state: Incident, word: str) -> str:
    waiting = modals.open_forms(state)
    return word if word in waiting else next(iter(waiting)) if len(waiting) == 1 else ""
