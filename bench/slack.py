"""What people wait for in Slack while 50 incidents are open, and how much of Slack's limits an incident uses up.

The bot is a process of its own, live, on Socket Mode; the sandbox workspace stands in for Slack and notes when each
call arrives. A command's time is from its dispatch to its acknowledgement, which Bolt sends off on a beat of 10 ms; the
next line is until its answer, a form, is there, which does not wait for the beat. A click's time is from its dispatch
to the edit of the card that no longer offers Acknowledge. Slack takes 50 edits a minute, for all cards together, and
a bot that keeps to it is as slow as that. Clicks are therefore paced, and wait for a minute without edits before; a few
go before that, in the minute in which the openings have used up the edits. Floor: a bare Bolt app that acknowledges a
command, and acknowledges a click and edits its message.

Calls are counted as they arrive, for the worst 60 seconds of each method, and the workspace takes all of them: what is
judged is what the bot asks for. Posts are counted for each channel, all other methods for the whole app. Slack lets
posts come in bursts: a burst is what runs ahead of one a second. Pages to one person are told apart from the posts in a
channel: they are sent at once on purpose, and again where Slack says no.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bench.bolt import bare_bolt
from bench.company import ROOM, SRE, Company, Slack
from bench.figures import Row, Spread, Target
from bench.load import Load, send
from bench.receiver import Receiver
from bench.serving import fresh, rows, serving, until
from bot.adapters.clock import SystemClock
from bot.sandbox.workspace import Channel, Delivery, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER
from bot.sandbox.workspace.state import METHODS, Call
from bot.sandbox.workspace.tiers import POSTS_BURST

COMMAND_PACE, CLICK_PACE = 0.1, 1.3  # seconds between two
AIM, SLACKS, EDITED = ("p99, aim", 100.0), ("p99, Slack's", 3_000.0), ("p99", 2_000.0)  # milliseconds
PATIENCE = 90.0  # seconds for one answer: an edit may have to wait for the next minute
QUIET, DRAINED = 5.0, 600.0  # seconds without a call, after which nothing more is to come; and how long that may take
MINUTE = timedelta(seconds=60)
POSTS = 60  # a minute and channel: one a second
ROOM_ID = "C0INCIDENTS"
BUTTON = {"type": "button", "action_id": "ack", "value": "1", "text": {"type": "plain_text", "text": "Acknowledge"}}
DAY = (  # what is said in an incident's channel between its opening and the end
    "ack",
    "role communications",
    "sev 2",
    'update "Writes are stopped" "The role is being looked at" "Nothing"',
    'task "Rotate the key" @me 30m',
    "task T1 done",
    'note "It was the nightly job"',
    "status recovering",
)


def measure(
    kind: str, server: str, *, standing: int = 50, commands: int = 300, clicks: int = 50, quiet: float = QUIET
) -> list[Row]:
    """`clicks` are at most `standing`: each incident is acknowledged once."""
    with tempfile.TemporaryDirectory() as name, _desk() as desk:
        with _bot(desk, Path(name), fresh(kind, Path(name), server), standing, "announcements") as company:
            opened = len(desk.workspace.calls)
            send(Load(company.port, standing, company.agents, "open", rate=50, connections=8))
            until(lambda: len(desk.cards()) == standing, "every incident has its card", DRAINED)
            desk.rest(quiet)
            opening = desk.calls(opened)
            _expect_open(company, standing)
            cards = desk.cards()
            soon, later = [*cards.values()][: clicks // 5], [*cards.values()][clicks // 5 : clicks]
            crowded = desk.press(soon)
            acks, answers = desk.say(
                [f"status {incident}" for incident in [*cards] * commands][:commands], "views.open"
            )
            until(lambda: desk.since("chat.update") > MINUTE.total_seconds(), "a minute without edits", DRAINED)
            edits = desk.press(later)
        with bare_bolt(desk.slack()):
            desk.connected()
            floor_acks, _ = desk.say(["status"] * commands, "")
            floor_edits = desk.press([desk.post() for _ in later])
    what = f"{standing} open, {kind}"
    return [
        _row(f"slash command to ack, {what}", acks, floor_acks, AIM, SLACKS),
        Row(
            "  of these to the form that answers",
            str(Spread.of(answers)),
            "",
            None,
            _targets(Spread.of(answers), SLACKS),
        ),
        _row(f"click to card updated, {what}", edits, floor_edits, EDITED),
        _row(f"  right after {standing} openings", crowded, floor_edits, EDITED),
        _counted(f"Slack calls, {standing} incidents opened at once, {kind}", opening),
    ]


def incident(*, changes: int = 50, quiet: float = QUIET) -> list[Row]:
    """The calls of a whole incident with a channel of its own, and of one in which `changes` come at once."""
    many = [f'task "Look at row {n}"' if n % 2 else f"sev {2 + n // 2 % 2}" for n in range(changes)]
    with (
        tempfile.TemporaryDirectory() as name,
        _desk() as desk,
        _bot(desk, Path(name), fresh("sqlite", Path(name), ""), 2, "per_incident") as company,
    ):
        calm, _ = _live(desk, company, 0, DAY, quiet)
        busy, last = _live(desk, company, 1, many, quiet)
        _expect_open(company, 0)
    return [
        _counted("Slack calls, a whole incident", calm),
        _counted(
            f"Slack calls, an incident with {changes} changes at once", busy, f"the last is told after {last:.0f} s"
        ),
    ]


def _live(desk: Desk, company: Company, number: int, words: Sequence[str], quiet: float) -> tuple[list[Call], float]:
    """An incident from its alert to resolved; its calls, and the seconds from the first word to the last call that
    follows from them."""
    start, known = len(desk.workspace.calls), {*desk.cards()}
    agent = company.agents[number]
    send(Load(company.port, 1, [agent], agent, connections=1))
    until(lambda: {*desk.cards()} > known, "the card is there", DRAINED)
    desk.rest(quiet)
    ((_, (channel, _)),) = ((id, at) for id, at in desk.cards().items() if id not in known)
    began = time.perf_counter()
    desk.say(words, "", channel, pace=0.0)
    told = desk.rest(quiet) - began
    desk.say(["resolve"], "", channel)
    desk.rest(quiet)
    return desk.calls(start), told


def _expect_open(company: Company, wanted: int) -> None:
    found = rows(company.store, "SELECT count(*) FROM streams WHERE kind = 'incident' AND open")[0][0]
    if found != wanted:
        raise RuntimeError(f"{found} incidents are open, not {wanted}")


class Watched(Workspace):
    """Notes when each Web API call was carried out, by `time.perf_counter()`."""

    def __init__(self) -> None:
        room = Channel(ROOM_ID, ROOM, frozenset((SRE, BOT_USER)))
        super().__init__([Person(SRE, "sre-1")], [room], SystemClock())
        self.seen: list[tuple[float, str, Mapping[str, Any]]] = []
        self._news = threading.Condition()

    def call(self, method: str, token: str, args: Mapping[str, Any]) -> dict[str, Any]:
        answer = super().call(method, token, args)
        with self._news:
            self.seen.append((time.perf_counter(), method, args))
            self._news.notify_all()
        return answer

    def first(self, start: int, wanted: Callable[[str, Mapping[str, Any]], bool]) -> float:
        """When the first such call came, from number `start` on. Raises RuntimeError where none does."""
        end = time.perf_counter() + PATIENCE
        with self._news:
            while True:
                if found := [at for at, method, args in self.seen[start:] if wanted(method, args)]:
                    return found[0]
                if not self._news.wait(end - time.perf_counter()):
                    raise RuntimeError(f"no answer came within {PATIENCE:.0f} s")


class Desk:
    """One person in front of the workspace."""

    def __init__(self, server: WorkspaceServer, workspace: Watched) -> None:
        self._server, self.workspace = server, workspace

    def slack(self, channels: str = "announcements") -> Slack:
        return Slack(self._server.api_url, self._server.bot_token, self._server.app_token, channels)

    def connected(self) -> None:
        until(lambda: self.workspace.connections > 0, "the app listens")

    def say(
        self, texts: Sequence[str], answer: str, channel: str = ROOM_ID, pace: float = COMMAND_PACE
    ) -> tuple[list[float], list[float]]:
        """Seconds to each `/inc`'s acknowledgement, and to the call of `answer` that it leads to, where it does."""
        acks, answers = [], []
        for text in _paced(texts, pace):
            before, start = len(self.workspace.seen), time.perf_counter()
            self._acked(self._server.act("command", SRE, channel=channel, command="/inc", text=text), text)
            acks.append(time.perf_counter() - start)
            if answer:
                answers.append(self.workspace.first(before, lambda method, _: method == answer) - start)
                with self.workspace.lock:
                    self.workspace.close_modals(SRE)
        return acks, answers

    def press(self, messages: Sequence[tuple[str, str]]) -> list[float]:
        """Acknowledges each; seconds until it no longer offers that."""
        edits = []
        for channel, ts in _paced(messages, CLICK_PACE):
            before, start = len(self.workspace.seen), time.perf_counter()
            delivery = self._server.click(SRE, channel, ts, "ack")

            def shows_it(method: str, args: Mapping[str, Any], ts: str = ts) -> bool:
                return method == "chat.update" and args.get("ts") == ts and not _offers(args.get("blocks") or ())

            edits.append(self.workspace.first(before, shows_it) - start)
            self._acked(delivery, "a click")
        return edits

    def post(self) -> tuple[str, str]:
        """A message with the button, as the floor's app would have written it."""
        blocks = [{"type": "actions", "elements": [BUTTON]}]
        args = {"channel": ROOM_ID, "text": "Acknowledge?", "blocks": blocks}
        return ROOM_ID, str(self.workspace.call("chat.postMessage", self._server.bot_token, args)["ts"])

    def cards(self) -> dict[str, tuple[str, str]]:
        """Where each incident's card stands that nobody has acknowledged: channel and time."""
        rooms = [room.id for room in [*self.workspace.channels.values()] if not room.is_im]
        messages = [message for room in rooms for message in self.workspace.messages(room)]
        return {id: (m.channel, m.ts) for m in messages if (id := _offers(m.blocks))}

    def rest(self, quiet: float) -> float:
        """Waits until no call has come for so long; when the last one did."""
        until(lambda: time.perf_counter() - self.workspace.seen[-1][0] > quiet, "the bot has said all", DRAINED)
        return self.workspace.seen[-1][0]

    def since(self, method: str) -> float:
        """Seconds since the last such call."""
        last: float = max(at for at, name, _ in self.workspace.seen if name == method)
        return time.perf_counter() - last

    def calls(self, start: int) -> list[Call]:
        """A channel goes by its id, also where the bot called it by its name."""
        ids = {room.name: room.id for room in [*self.workspace.channels.values()]}
        return [replace(call, channel=ids.get(call.channel, call.channel)) for call in [*self.workspace.calls][start:]]

    def _acked(self, asked: Delivery | dict[str, Any], what: str) -> None:
        if not isinstance(asked, Delivery) or not asked.wait(PATIENCE):
            raise RuntimeError(f"it was not acknowledged: {what}")


@contextmanager
def _desk() -> Iterator[Desk]:
    workspace = Watched()
    with WorkspaceServer(workspace) as server:
        yield Desk(server, workspace)


@contextmanager
def _bot(desk: Desk, folder: Path, store: str, agents: int, channels: str) -> Iterator[Company]:
    names = [f"agent-{n}" for n in range(agents)]
    with Receiver() as receiver:
        company = Company.found(folder / "company", store, receiver.url, names, slack=desk.slack(channels))
        with serving(company):
            desk.connected()
            yield company
    until(lambda: not desk.workspace.connections, "the bot has hung up")


def _paced(items: Iterable[Any], pace: float) -> Iterator[Any]:
    due = time.perf_counter()
    for item in items:
        time.sleep(max(0.0, due - time.perf_counter()))
        due = max(due, time.perf_counter()) + pace
        yield item


def _offers(blocks: Iterable[Mapping[str, Any]]) -> str:
    """What the button Acknowledge among these carries; '' without one."""
    buttons = [element for block in blocks for element in block.get("elements", ())]
    return next((str(button["value"]) for button in buttons if button.get("action_id") == "ack"), "")


# What it comes to -----------------------------------------------------------------------------------------------


def _row(what: str, ours: list[float], floor: list[float], *limits: tuple[str, float]) -> Row:
    mine, least = Spread.of(ours), Spread.of(floor)
    return Row(what, str(mine), str(least), mine.p50 / least.p50, _targets(mine, *limits))


def _targets(ours: Spread, *limits: tuple[str, float]) -> tuple[Target, ...]:
    return tuple(Target(name, ours.p99, limit, "ms") for name, limit in limits)


def _counted(what: str, calls: Sequence[Call], also: str = "") -> Row:
    """A target for each method that Slack limits, the fullest first."""
    times: defaultdict[tuple[str, str], list[datetime]] = defaultdict(list)
    for call in calls:
        times[call.method, "" if METHODS[call.method].tier else call.channel].append(call.at)
    worst: dict[str, Target] = {}
    for (method, channel), stamps in times.items():
        tier, where = METHODS[method].tier, ", to one person" if channel.startswith("D") else ", in one channel"
        found = [Target(method if tier else method + where, most(stamps, MINUTE), tier or POSTS, "/min")]
        if not tier:
            found.append(Target(f"{method}{where}, burst", burst(stamps), POSTS_BURST, "at once"))
        for target in found:
            worst[target.what] = max(target, worst.get(target.what, target), key=lambda one: one.figure)
    targets = [*worst.values()]
    targets.sort(key=lambda target: target.limit / target.figure)
    refused = sum(bool(call.error) for call in calls)
    said = [f"{len(calls)} calls", *([f"{refused} refused"] if refused else []), *([also] if also else [])]
    return Row(what, ", ".join(said), "", None, tuple(targets))


def most(stamps: Sequence[datetime], window: timedelta) -> int:
    """The largest number of them within any such window. `stamps` ascend."""
    first = best = 0
    for last, stamp in enumerate(stamps):
        while stamp - stamps[first] >= window:
            first += 1
        best = max(best, last + 1 - first)
    return best


def burst(stamps: Sequence[datetime]) -> float:
    """How full a bucket gets that each of them fills by one, and that loses one a second. `stamps` ascend."""
    level = highest = 0.0
    before = stamps[0]
    for stamp in stamps:
        level = max(0.0, level - (stamp - before).total_seconds()) + 1
        highest, before = max(highest, level), stamp
    return highest
