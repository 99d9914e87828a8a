"""Channels of incidents: one contract for the simulator of drills and for the real client, and how calls are paced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from bot.adapters.slack import SlackChat
from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import Chat, ChatFile, ChatMessage, MessageRef
from bot.sandbox.chat import SimChat
from bot.sandbox.clock import SimClock
from bot.sandbox.workspace import Channel, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER

PURPOSE = "Firedoor: INC-7 of example."
PEOPLE = tuple(f"U{number}" for number in range(70))
GONE = "U900"
CLOCK = SimClock(datetime(2026, 1, 1, tzinfo=UTC))


@dataclass
class Desk:
    chat: Chat
    names: Callable[[], list[str]]
    members: Callable[[str], set[str]]
    texts: Callable[[str], list[str]]
    fault: Callable[[str, str], None]  # (name, method of the port)


def simulated() -> Desk:
    chat = SimChat(CLOCK, PEOPLE, ["C1"])
    chat.taken.add("taken")
    errors: dict[str, SystemFailure] = {
        "lost": Unavailable("slack", "no answer", sent=True),
        "ratelimited": Unavailable("slack", "rate limited", retry_after=7),
        "missing_scope": Denied("slack", "missing_scope"),
    }
    return Desk(
        chat,
        lambda: [one.channel.name for one in chat.opened.values()],
        lambda channel: set(chat.opened[channel].members),
        lambda channel: [one.message.text for one in chat.messages(channel)],
        lambda name, method: chat.faults.add(method, errors[name], after=name == "lost"),
    )


def real(server: WorkspaceServer) -> Desk:
    room = server.workspace
    methods = {"open_channel": "conversations.create", "pin": "pins.add", "archive": "conversations.archive"}
    return Desk(
        SlackChat(server.bot_token, base_url=server.api_url, every=0, timeout=5),
        lambda: [channel.name for channel in room.channels.values() if channel.creator == BOT_USER],
        lambda channel: set(room.channels[channel].members) - {BOT_USER},
        lambda channel: [m.text for m in room.messages(channel) if m.blocks or m.text],
        lambda name, method: room.fault(name, methods[method], retry_after=7),
    )


@pytest.fixture
def server() -> Iterator[WorkspaceServer]:
    people = [*(Person(user, user.lower()) for user in PEOPLE), Person(GONE, "gone", deleted=True)]
    rooms = [
        Channel("C1", "general", frozenset((*PEOPLE, BOT_USER))),
        Channel("C2", "taken", frozenset(PEOPLE), creator=PEOPLE[0]),
    ]
    with WorkspaceServer(Workspace(people, rooms, CLOCK), environ={}) as running:
        yield running


@pytest.fixture(params=["simulator", "slack_sdk"])
def desk(request: pytest.FixtureRequest) -> Desk:
    return simulated() if request.param == "simulator" else real(request.getfixturevalue("server"))


def test_a_channel_is_opened_once_whatever_got_lost(desk: Desk) -> None:
    desk.fault("lost", "open_channel")
    with pytest.raises(Unavailable) as lost:
        desk.chat.open_channel("inc-7", private=False, purpose=PURPOSE)
    assert lost.value.sent
    found = desk.chat.open_channel("inc-7", private=False, purpose=PURPOSE)
    assert desk.chat.open_channel("inc-7", private=False, purpose=PURPOSE).id == found.id
    assert desk.names() == ["inc-7"]


def test_a_name_of_somebody_elses_gets_a_number(desk: Desk) -> None:
    assert desk.chat.open_channel("taken", private=True, purpose=PURPOSE).name == "taken-2"


def test_two_incidents_never_share_a_channel(desk: Desk) -> None:
    first = desk.chat.open_channel("inc-7", private=False, purpose=PURPOSE)
    other = desk.chat.open_channel("inc-7", private=False, purpose="Firedoor: INC-7 of another install.")
    assert other.id != first.id


def test_whom_slack_refuses_keeps_nobody_else_out(desk: Desk) -> None:
    room = desk.chat.open_channel("inc-7", private=False, purpose=PURPOSE)
    refused = desk.chat.invite(room.id, (*PEOPLE[:40], "U_NOBODY", *PEOPLE[40:]))
    assert set(refused) == {"U_NOBODY"}
    assert desk.members(room.id) == set(PEOPLE)
    assert desk.chat.invite(room.id, PEOPLE[:3]) == {}


def test_what_a_channel_is(desk: Desk) -> None:
    room = desk.chat.open_channel("inc-7", private=True, purpose=PURPOSE)
    assert room.private
    assert desk.chat.channel("C999") is None
    desk.chat.set_topic(room.id, "INC-7. The pinned card says how it stands.")
    desk.chat.archive(room.id)
    desk.chat.archive(room.id)
    found = desk.chat.channel(room.id)
    assert found
    assert (found.archived, found.private, found.shared) == (True, True, False)
    with pytest.raises(SystemFailure):
        desk.chat.post(room.id, ChatMessage("k", "too late"))


def test_pins_and_files_once(desk: Desk) -> None:
    room = desk.chat.open_channel("inc-7", private=False, purpose=PURPOSE)
    card = desk.chat.post(room.id, ChatMessage("card", "the card"))
    desk.chat.pin(card)
    desk.chat.pin(card)
    files = (ChatFile("INC-7-timeline.svg", "what happened", b"<svg/>"), ChatFile("report.html", "report", b"<p>1</p>"))
    desk.chat.upload(room.id, files, comment="the papers", thread=card.ts)
    desk.chat.upload(room.id, files, comment="the papers", thread=card.ts, again=True)
    assert desk.texts(room.id).count("the papers") == 1


@pytest.mark.parametrize("method", ["open_channel", "pin", "archive"])
def test_a_no_for_now_names_the_wait(desk: Desk, method: str) -> None:
    room = desk.chat.open_channel("inc-7", private=False, purpose=PURPOSE)
    card = desk.chat.post(room.id, ChatMessage("card", "the card"))
    desk.fault("ratelimited", method)
    with pytest.raises(Unavailable) as throttled:
        perform(desk.chat, method, card)
    assert throttled.value.retry_after == 7


def perform(chat: Chat, method: str, card: MessageRef) -> object:
    match method:
        case "open_channel":
            return chat.open_channel("inc-8", private=False, purpose=PURPOSE)
        case "pin":
            return chat.pin(card)
    return chat.archive(card.channel)


# Pacing, of the real client alone -------------------------------------------------------------------------------


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_methods_minute_is_not_overdrawn(server: WorkspaceServer) -> None:
    watch = Watch()
    chat = SlackChat(server.bot_token, base_url=server.api_url, every=0, monotonic=watch)
    for number in range(10):  # create and setPurpose have a limit each
        chat.open_channel(f"inc-{number}", private=False, purpose=f"Firedoor: INC-{number} of example.")
    watch.now += 30
    for number in range(10, 20):
        chat.open_channel(f"inc-{number}", private=False, purpose=f"Firedoor: INC-{number} of example.")
    with pytest.raises(Unavailable) as full:
        chat.open_channel("inc-20", private=False, purpose="Firedoor: INC-20 of example.")
    assert full.value.retry_after == pytest.approx(30)
    assert not full.value.sent
    assert chat.direct("U1", ChatMessage("page", "you are paged")).ts  # a page does not care
    watch.now += 30.5
    assert chat.open_channel("inc-20", private=False, purpose="Firedoor: INC-20 of example.").name == "inc-20"


def test_after_a_429_the_method_rests_and_others_go_on(server: WorkspaceServer) -> None:
    watch = Watch()
    chat = SlackChat(server.bot_token, base_url=server.api_url, every=0, monotonic=watch)
    room = chat.open_channel("inc-7", private=False, purpose=PURPOSE)
    card = chat.post(room.id, ChatMessage("card", "the card"))
    server.workspace.fault("ratelimited", "chat.update", retry_after=7)
    for wait in (7, 7):  # the second is not even sent
        with pytest.raises(Unavailable) as full:
            chat.update(card, ChatMessage("card", "contained"))
        assert full.value.retry_after == wait
    chat.pin(card)
    watch.now += 7.5
    chat.update(card, ChatMessage("card", "contained"))


def test_a_message_is_not_edited_twice_in_a_second(server: WorkspaceServer) -> None:
    watch = Watch()
    chat = SlackChat(server.bot_token, base_url=server.api_url, every=1.0, monotonic=watch)
    card = chat.post("C1", ChatMessage("card", "opened"))
    other = chat.direct("U1", ChatMessage("page", "you are paged"))
    chat.update(card, ChatMessage("card", "1"))
    with pytest.raises(Unavailable) as soon:
        chat.update(card, ChatMessage("card", "2"))
    assert soon.value.retry_after == pytest.approx(1.0)
    chat.update(other, ChatMessage("page", "acknowledged"))
    watch.now += 1.1
    chat.update(card, ChatMessage("card", "3"))
    shown = next(m for m in server.workspace.messages("C1") if m.ts == card.ts)
    assert (shown.text, len(shown.edits)) == ("3", 2)


def test_a_rejected_name_is_no_endless_search(server: WorkspaceServer) -> None:
    chat = SlackChat(server.bot_token, base_url=server.api_url, every=0)
    for number in range(2, 10):
        server.workspace.channels[f"CX{number}"] = Channel(f"CX{number}", f"taken-{number}", frozenset(PEOPLE))
    with pytest.raises(Rejected, match="name_taken"):
        chat.open_channel("taken", private=False, purpose=PURPOSE)
