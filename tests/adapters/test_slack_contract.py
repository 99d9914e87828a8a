"""One contract for the simulator of drills and for the real client against the workspace."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from bot.adapters.slack import SlackChat, SlackPager
from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import Chat, ChatMessage, MessageRef, PageMessage
from bot.sandbox.blocks import problems
from bot.sandbox.chat import SimChat
from bot.sandbox.clock import SimClock
from bot.sandbox.workspace import Channel, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER

ROOM, ELSEWHERE = "C1", "C9"
LEAD = "U1"
SECTION = {"type": "section", "text": {"type": "mrkdwn", "text": "*Agent 7* holds no lease"}}


@dataclass
class Desk:
    chat: Chat
    texts: Callable[[str], list[str]]  # of a channel, as they stand now
    directs: Callable[[str], list[str]]
    ephemerals: Callable[[str, str], list[str]]  # (channel, user)
    fault: Callable[[str, str], None]  # (name, method of the port)


@pytest.fixture(scope="module")
def server() -> Iterator[WorkspaceServer]:
    people = [Person(LEAD, "lead", "lead@example.com"), Person("U2", "gone", deleted=True)]
    rooms = [Channel(ROOM, "inc-7", frozenset((LEAD, BOT_USER))), Channel(ELSEWHERE, "other", frozenset((LEAD,)))]
    workspace = Workspace(people, rooms, SimClock(datetime(2026, 1, 1, tzinfo=UTC)))
    with WorkspaceServer(workspace, environ={}) as running:
        yield running


def _simulated() -> Desk:
    chat = SimChat(SimClock(datetime(2026, 1, 1, tzinfo=UTC)), people=[LEAD], channels=[ROOM])
    errors: dict[str, SystemFailure] = {
        "ratelimited": Unavailable("slack", "rate limited", retry_after=7),
        "down": Unavailable("slack", "down"),
        "lost": Unavailable("slack", "no answer", sent=True),
        "missing_scope": Denied("slack", "missing_scope (chat:write): add it"),
    }
    return Desk(
        chat,
        lambda channel: [one.message.text for one in chat.messages(channel)],
        lambda user: [one.message.text for one in chat.directs(user)],
        lambda channel, user: [one.message.text for one in chat.ephemerals(user) if one.ref.channel == channel],
        lambda name, method: chat.faults.add(method, errors[name], after=name == "lost"),
    )


def _real(server: WorkspaceServer) -> Desk:
    workspace = server.workspace
    workspace.clear_faults()
    before = {m.ts for c in workspace.channels for m in workspace.messages(c)}
    methods = {"update": "chat.update", "ephemeral": "chat.postEphemeral"}

    def new(channel: str, visible_to: str = "") -> list[str]:
        there = workspace.messages(channel) if channel in workspace.channels else ()
        return [m.text for m in there if m.visible_to == visible_to and m.ts not in before]

    return Desk(
        SlackChat(server.bot_token, base_url=server.api_url, every=0, timeout=5),
        new,
        lambda user: new("D" + user.removeprefix("U")),
        new,
        lambda name, method: workspace.fault(name, methods.get(method, "chat.postMessage"), retry_after=7),
    )


@pytest.fixture(params=["simulator", "slack_sdk"])
def desk(request: pytest.FixtureRequest) -> Desk:
    return _simulated() if request.param == "simulator" else _real(request.getfixturevalue("server"))


def test_posts_and_edits_in_place(desk: Desk) -> None:
    ref = desk.chat.post(ROOM, ChatMessage("k1", "opened", (SECTION,)))
    reply = desk.chat.post(ROOM, ChatMessage("k2", "in the thread"), thread=ref.ts)
    desk.chat.update(ref, ChatMessage("k1", "contained", (SECTION,)))
    assert desk.texts(ROOM) == ["contained", "in the thread"]
    assert reply.channel == ref.channel == ROOM
    assert reply.ts > ref.ts


def test_direct_and_ephemeral_reach_one_person(desk: Desk) -> None:
    desk.chat.direct(LEAD, ChatMessage("p1", "you are paged"))
    desk.chat.ephemeral(ROOM, LEAD, "only the commander may release")
    assert desk.directs(LEAD) == ["you are paged"]
    assert desk.texts(ROOM) == []
    assert desk.ephemerals(ROOM, LEAD) == ["only the commander may release"]


@pytest.mark.parametrize("where", ["post", "thread", "direct"])
def test_a_lost_answer_leaves_one_message(desk: Desk, where: str) -> None:
    parent = desk.chat.post(ROOM, ChatMessage("parent", "the card"))

    def send(*, again: bool) -> MessageRef:
        message = ChatMessage(f"fd.1/INC-7/12.0-{where}", "leases revoked")
        if where == "direct":
            return desk.chat.direct(LEAD, message, again=again)
        return desk.chat.post(ROOM, message, thread=parent.ts if where == "thread" else "", again=again)

    desk.fault("lost", "direct" if where == "direct" else "post")
    with pytest.raises(Unavailable) as lost:
        send(again=False)
    assert lost.value.sent
    found = send(again=True)
    assert send(again=True) == found
    assert (desk.directs(LEAD) if where == "direct" else desk.texts(ROOM)).count("leases revoked") == 1


def test_again_without_a_trace_posts(desk: Desk) -> None:
    desk.chat.post(ROOM, ChatMessage("other", "another message"))
    desk.chat.post(ROOM, ChatMessage("never-sent", "hello"), again=True)
    assert desk.texts(ROOM) == ["another message", "hello"]


@pytest.mark.parametrize("method", ["post", "update", "direct", "ephemeral"])
def test_throttled_names_the_wait(desk: Desk, method: str) -> None:
    ref = desk.chat.post(ROOM, ChatMessage("k", "a card"))
    desk.fault("ratelimited", method)
    with pytest.raises(Unavailable) as throttled:
        _perform(desk.chat, method, ref)
    assert throttled.value.retry_after == 7
    assert not throttled.value.sent


@pytest.mark.parametrize(("fault", "error"), [("down", Unavailable), ("missing_scope", Denied)])
def test_trouble_changes_nothing(desk: Desk, fault: str, error: type[SystemFailure]) -> None:
    desk.fault(fault, "post")
    with pytest.raises(error):
        desk.chat.post(ROOM, ChatMessage("k", "lost"))
    assert desk.texts(ROOM) == []


def test_missing_scope_says_which(desk: Desk) -> None:
    desk.fault("missing_scope", "post")
    with pytest.raises(Denied, match="chat:write"):
        desk.chat.post(ROOM, ChatMessage("k", "text"))


@pytest.mark.parametrize("channel", ["C404"])
def test_an_unknown_channel_is_denied(desk: Desk, channel: str) -> None:
    with pytest.raises(Denied, match="channel_not_found"):
        desk.chat.post(channel, ChatMessage("k", "text"))


def test_an_unknown_person_is_rejected(desk: Desk) -> None:
    with pytest.raises(Rejected, match="user_not_found"):
        desk.chat.direct("U404", ChatMessage("k", "text"))


def test_an_update_of_nothing_is_rejected(desk: Desk) -> None:
    with pytest.raises(Rejected, match="message_not_found"):
        desk.chat.update(MessageRef(ROOM, "1.000001"), ChatMessage("k", "text"))


@pytest.mark.parametrize(
    "blocks",
    [
        ({"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3001}},),
        ({"type": "divider"},) * 51,
        ({"type": "marquee"},),
        ({"type": "actions", "elements": [{"type": "button", "action_id": "a", "text": SECTION["text"]}]},),
    ],
    ids=["long", "many", "unknown", "mrkdwn-button"],
)
def test_wrong_blocks_are_rejected(desk: Desk, blocks: tuple[dict[str, object], ...]) -> None:
    with pytest.raises(Rejected, match="invalid_blocks") as rejected:
        desk.chat.post(ROOM, ChatMessage("k", "text", blocks))
    assert not rejected.value.retryable
    assert desk.texts(ROOM) == []


def _perform(chat: Chat, method: str, ref: MessageRef) -> None:
    message = ChatMessage("k2", "text")
    match method:
        case "post":
            chat.post(ROOM, message)
        case "update":
            chat.update(ref, message)
        case "direct":
            chat.direct(LEAD, message)
        case _:
            chat.ephemeral(ROOM, LEAD, "text")


# What only the real client can show ------------------------------------------------------------------------------


def test_not_in_the_channel(server: WorkspaceServer) -> None:
    with pytest.raises(Denied, match="Invite the bot"):
        SlackChat(server.bot_token, base_url=server.api_url).post(ELSEWHERE, ChatMessage("k", "text"))


@pytest.mark.parametrize(("token", "why"), [("xoxb-other", "invalid_auth"), ("", "not_authed")])
def test_a_wrong_token(server: WorkspaceServer, token: str, why: str) -> None:
    with pytest.raises(Denied, match=why):
        SlackChat(token, base_url=server.api_url).post(ROOM, ChatMessage("k", "text"))


def test_an_app_token_is_no_bot_token(server: WorkspaceServer) -> None:
    with pytest.raises(Denied, match="xoxb-"):
        SlackChat(server.app_token, base_url=server.api_url).identity()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unavailable) as refused:
        SlackChat("xoxb-sandbox-x", base_url=f"http://127.0.0.1:{port}/").post(ROOM, ChatMessage("k", "text"))
    assert not refused.value.sent


def test_no_answer_may_have_been_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        chat = SlackChat("xoxb-sandbox-x", base_url=f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=1)
        with pytest.raises(Unavailable) as timed_out:
            chat.post(ROOM, ChatMessage("k", "text"))
    assert timed_out.value.sent


def test_another_apps_metadata_is_no_trace(server: WorkspaceServer) -> None:
    desk = _real(server)
    forged = {"event_type": "firedoor_message", "event_payload": {"key": "wanted"}}
    server.workspace.say(LEAD, ROOM, "not the bot").metadata = forged
    desk.chat.post(ROOM, ChatMessage("wanted", "the real one"), again=True)
    assert desk.texts(ROOM) == ["not the bot", "the real one"]


def test_posts_are_paced_per_channel_and_pages_are_not(server: WorkspaceServer) -> None:
    now, slept = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    chat = SlackChat(server.bot_token, base_url=server.api_url, monotonic=lambda: now[0], sleep=sleep)
    for number in range(3):
        chat.post(ROOM, ChatMessage(f"k{number}", "text"))
    chat.direct(LEAD, ChatMessage("p", "page"))
    assert slept == [1.0, 1.0]
    server.workspace.fault("ratelimited", "chat.postMessage", retry_after=30)
    for _ in range(2):  # the second is held back here, without asking Slack
        with pytest.raises(Unavailable) as held:
            chat.post(ROOM, ChatMessage("k", "text"))
        assert held.value.retry_after == pytest.approx(30)
    chat.direct(LEAD, ChatMessage("p2", "page"))


def test_a_channel_has_one_pace_by_name_and_by_id(server: WorkspaceServer) -> None:
    slept: list[float] = []
    chat = SlackChat(server.bot_token, base_url=server.api_url, monotonic=lambda: 0.0, sleep=slept.append)
    name = server.workspace.channels[ROOM].name
    first = chat.post(name, ChatMessage("card", "the card"))
    chat.post(first.channel, ChatMessage("fact", "a fact"), thread=first.ts)
    chat.post(name, ChatMessage("card-2", "another card"))
    assert slept == [1.0, 2.0]


def test_a_page_is_a_direct_message_that_makes_no_mention(server: WorkspaceServer) -> None:
    pager = SlackPager(SlackChat(server.bot_token, base_url=server.api_url))
    hostile = "<!channel> see <https://evil.example|here>"
    reference = pager.send(PageMessage("k", "INC-7", "lead", LEAD, "SEV1: leak", hostile, actions=("acknowledge",)))
    channel, ts = reference.split("/")
    shown = server.workspace.messages(channel, LEAD)[-1]
    assert shown.ts == ts
    assert "<!channel>" not in shown.text
    assert shown.blocks[1]["text"]["type"] == "plain_text"
    assert problems(shown.blocks) == ()
    assert shown.blocks[2]["elements"][0]["value"] == "INC-7"


def test_a_post_that_overslept_is_handed_back(server: WorkspaceServer) -> None:
    """A process that was stopped in its pacing sleep does not know whether a peer has posted meanwhile."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds + 60

    chat = SlackChat(server.bot_token, base_url=server.api_url, monotonic=lambda: now[0], sleep=sleep)
    chat.post(ROOM, ChatMessage("first", "one"))
    with pytest.raises(Unavailable, match="stood still") as late:
        chat.post(ROOM, ChatMessage("second", "two"))
    assert not late.value.sent
