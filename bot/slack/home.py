"""App Home: open an incident, the open ones, my tasks, and my pages that nobody acknowledged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slack_bolt.async_app import AsyncAck, AsyncApp

from bot.config.people import People
from bot.domain.decisions import Page
from bot.domain.incident import Incident
from bot.domain.state import Task
from bot.errors import FiredoorError, Refused
from bot.slack import blockkit as kit
from bot.slack import standing
from bot.slack.blockkit import Block
from bot.slack.command import Command
from bot.slack.commands import Commands
from bot.slack.door import Body, Door, Visit, tried, value
from bot.slack.mrkdwn import entities, line
from bot.slack.reasons import why_paged
from bot.slack.standing import Crowd, moment

INCIDENTS, TASKS, PAGES = 20, 15, 10  # shown at most
CLOSED = 10  # incidents that are over, the newest, whose tasks are looked for


class Home:
    def __init__(self, app: AsyncApp, door: Door, commands: Commands) -> None:
        self._door, self._commands = door, commands
        self._seen: set[str] = set()  # who has looked at it here, bounded by people.yaml
        self._busy: dict[str, bool] = {}
        door.afterwards = self.refresh
        app.event("app_home_opened")(self.opened)
        app.action("home_declare")(self.declare)
        app.action("home_menu")(self.menu)

    async def opened(self, body: Body) -> None:
        event = body.get("event") or {}
        if event.get("tab") == "home":
            await self._publish(Visit.by_event(body, str(event.get("user") or ""), ""))

    async def refresh(self, user: str) -> None:
        """After something that this person did. Of many at once the last shows what all of them did."""
        if user not in self._seen:
            return
        if user in self._busy:
            self._busy[user] = True
            return
        self._busy[user] = True
        try:
            while self._busy[user]:
                self._busy[user] = False
                await self._publish(Visit(user, "", ""), known=True)
        finally:
            del self._busy[user]

    async def declare(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        visit = Visit.by_click(body)
        if who := await self._door.admitted(visit):
            await self._commands.run(visit, who, Command("new"))

    async def menu(self, ack: AsyncAck, body: Body) -> None:
        await ack()
        visit = Visit.by_click(body)
        if who := await self._door.admitted(visit):
            await self._commands.run(visit, who, Command("", value(body)))

    async def _publish(self, visit: Visit, *, known: bool = False) -> None:
        door = self._door
        try:
            found = door.people.by_slack(visit.user)
            who = found.id if known and found else await door.person(visit)
            states = await door.states(who, open=True)
            closed = await door.states(who, open=False, most=CLOSED)  # tasks outlive their incident
            mine = tasks_of(who, [*states, *closed])
            texts = {f"{state.id}|{task.id}": await door.text(task.text) or "erased" for state, task in mine}
            self._seen.add(visit.user)
            view = home(who, door.people, states, mine, texts)
        except Refused as refused:
            view = {"type": "home", "blocks": [kit.section(entities(str(refused)))]}
        except FiredoorError:
            view = {"type": "home", "blocks": [kit.section("The record cannot be read just now. Look again.")]}
        shown = view | {"blocks": door.shown(view["blocks"])}
        await tried(door.client.views_publish(user_id=visit.user, view=shown))


def tasks_of(person: str, states: Sequence[Incident]) -> list[tuple[Incident, Task]]:
    """Those that are not done, the most urgent first."""
    found = [
        (state, task) for state in states for task in state.tasks.values() if task.owner == person and not task.done
    ]
    return sorted(found, key=lambda one: (one[1].due is None, one[1].due or one[0].start))


def pages_of(person: str, states: Sequence[Incident]) -> list[tuple[Incident, Page]]:
    """The latest page of each incident that reached this person, where nobody has acknowledged it."""
    found = []
    for state in states:
        sent = [one.page for one in state.pages.values() if one.state == "sent" and isinstance(one.page, Page)]
        mine = [page for page in sent if page.person == person]
        if mine and not state.acked_by and not state.over:
            found.append((state, mine[-1]))
    return found


def home(
    person: str,
    people: People,
    states: Sequence[Incident],
    tasks: Sequence[tuple[Incident, Task]],
    texts: Mapping[str, str],
) -> Block:
    """`texts`: of the tasks, by `<incident>|<task>`."""
    crowd = Crowd(people)
    blocks = [kit.actions("home", kit.button("Open an incident", "home_declare", "new", style="danger"))]
    pages = pages_of(person, states)
    if pages:
        blocks.append(kit.header("Your pages"))
    for state, page in pages[:PAGES]:
        ack = kit.button("Acknowledge", "ack", state.id, style="primary")
        text = f"*{line(standing.title(state))}*\n{entities(why_paged(state, page))}, {moment(state, page.due)}"
        blocks.append(kit.section(text, block_id=f"page:{state.id}", accessory=ack))
    if tasks:
        blocks.append(kit.header("Your tasks"))
    for state, task in tasks[:TASKS]:
        key = f"{state.id}|{task.id}"
        due = f", due {moment(state, task.due)}" if task.due else ""
        text = f"*{line(task.id)}* {line(texts.get(key, ''), 300)}\n{line(standing.title(state))}{due}"
        blocks.append(kit.section(text, block_id=f"task:{key}", accessory=kit.button("Done", "task_done", key)))
    blocks.append(kit.header("Open incidents"))
    for state in states[:INCIDENTS]:
        where = f" in <#{state.channel}>" if state.channel.isalnum() else ""
        acked = standing.acknowledged(state, crowd)
        text = f"*{line(standing.title(state))}*{where}\n{line(standing.headline(state))}\nAcknowledged: {line(acked)}"
        more = kit.button("Act", "home_menu", state.id)
        blocks.append(kit.section(text, block_id=f"incident:{state.id}", accessory=more))
    left = len(states) - INCIDENTS
    if left > 0:
        blocks.append(kit.context(f"and {left} more: `/inc status INC-n`"))
    if not states:
        blocks.append(kit.section("None."))
    return {"type": "home", "blocks": blocks}
