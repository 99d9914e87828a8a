"""The stand-in for Slack, with the real Bolt in front of it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import uvicorn
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import AsyncSlackRequestHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient
from starlette.applications import Starlette
from starlette.routing import Route

from bot.errors import ConfigError
from bot.sandbox.clock import SimClock
from bot.sandbox.workspace import ApiError, Channel, Delivery, Message, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER, TEAM

ROOM, LEAD, GUEST, PARTNER, OUTSIDER = "C1", "U1", "U2", "U3", "U4"
ACK = 0.5  # seconds; Slack's are 3.0. For those who are to be late
SOON = 30.0  # seconds to wait for what comes in milliseconds


class WallClock:
    """Bolt checks signatures against the real time."""

    def now(self) -> datetime:
        return datetime.now(UTC)


def workspace() -> Workspace:
    people = [
        Person(LEAD, "lead", "lead@example.com"),
        Person(GUEST, "guest", is_restricted=True),
        Person(PARTNER, "partner", team_id="T0PARTNER"),
        Person(OUTSIDER, "outsider"),
        Person("U5", "gone", "gone@example.com", deleted=True),
        Person("U6", "other-bot", is_bot=True),
    ]
    rooms = [
        Channel(ROOM, "inc-7", frozenset((LEAD, GUEST, PARTNER, BOT_USER)), is_ext_shared=True),
        Channel("C2", "quiet", frozenset((LEAD,))),
        Channel("C3", "secret", frozenset((LEAD,)), is_private=True),
    ]
    return Workspace(people, rooms, WallClock())


@pytest.fixture(scope="module")
def server() -> Iterator[WorkspaceServer]:
    with WorkspaceServer(workspace(), ack_within=SOON, environ={}) as running:
        yield running


@pytest.fixture(scope="module")
def hasty() -> Iterator[WorkspaceServer]:
    with WorkspaceServer(workspace(), ack_within=ACK, environ={}) as running:
        yield running


@pytest.fixture
def web(server: WorkspaceServer) -> WebClient:
    server.workspace.clear_faults()
    return WebClient(server.bot_token, base_url=server.api_url)


def card(*actions: str) -> list[dict[str, Any]]:
    label = {"type": "plain_text", "text": "Press"}
    buttons = [{"type": "button", "text": label, "action_id": name, "value": f"req-{name}"} for name in actions]
    return [{"type": "actions", "block_id": "buttons", "elements": buttons}]


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not fact():  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.01)


class Desk:
    """A Bolt app that keeps what it was given. `slow`: seconds it works before its first ack."""

    def __init__(self, server: WorkspaceServer, slow: float = 0) -> None:
        self.server = server
        self.app = AsyncApp(
            client=AsyncWebClient(server.bot_token, base_url=server.api_url),
            signing_secret=server.signing_secret,
        )
        self.pressed: list[dict[str, Any]] = []
        self.heard: list[dict[str, Any]] = []
        self._slow = slow
        self.app.action("acknowledge")(self._press)
        # Bolt acknowledges events before their listeners: only a middleware is late.
        self.app.event("message", middleware=[self._hear])(self._listen)

    async def _press(self, ack: Callable[[], Any], body: dict[str, Any]) -> None:
        self.pressed.append(body)
        if self._slow and len(self.pressed) == 1:
            await asyncio.sleep(self._slow)
        await ack()

    async def _hear(self, body: dict[str, Any], next: Callable[[], Any]) -> None:
        self.heard.append(body)
        if self._slow and len(self.heard) == 1:
            await asyncio.sleep(self._slow)
        await next()

    async def _listen(self) -> None:
        """Nothing more."""

    async def click(self, user: str = LEAD) -> Delivery:
        posted = await self.app.client.chat_postMessage(channel=ROOM, text="card", blocks=card("acknowledge"))
        delivery = self.server.click(user, ROOM, posted["ts"], "acknowledge")
        await asyncio.to_thread(delivery.wait, SOON)
        return delivery


@asynccontextmanager
async def by_socket(server: WorkspaceServer, slow: float = 0) -> AsyncIterator[Desk]:
    desk = Desk(server, slow)
    client = AsyncWebClient(server.app_token, base_url=server.api_url)
    handler = AsyncSocketModeHandler(desk.app, server.app_token, web_client=client)
    await handler.connect_async()
    try:
        yield desk
    finally:
        await handler.close_async()


def test_a_click_reaches_the_handler_once(server: WorkspaceServer) -> None:
    async def story() -> None:
        async with by_socket(server) as desk:
            delivery = await desk.click()
            assert (delivery.acked, delivery.attempts, delivery.late) == (True, 1, 0)
            [body] = desk.pressed
            assert body["actions"][0]["value"] == "req-acknowledge"
            assert body["actions"][0]["block_id"] == "buttons"
            assert body["user"] == {"id": LEAD, "username": "lead", "name": "lead", "team_id": TEAM}

    asyncio.run(story())


def test_a_late_ack_of_a_click_is_a_failure_that_the_person_sees(hasty: WorkspaceServer) -> None:
    async def story() -> None:
        async with by_socket(hasty, slow=ACK * 1.5) as desk:
            delivery = await desk.click()
            assert not delivery.acked
            assert delivery.result == {"failed": "We had some trouble connecting. Try again?"}
            await until(lambda: delivery.late == 1)  # the handler finishes all the same
            assert (delivery.attempts, len(desk.pressed)) == (1, 1)

    asyncio.run(story())


def test_a_late_ack_of_an_event_is_delivered_again(hasty: WorkspaceServer) -> None:
    async def story() -> None:
        async with by_socket(hasty, slow=ACK * 1.5) as desk:
            hasty.workspace.say(LEAD, ROOM, "is anybody there?")
            await until(lambda: len(desk.heard) >= 2)
            first, second = desk.heard[:2]
            assert first["event_id"] == second["event_id"]  # what a handler deduplicates on

    asyncio.run(story())


def test_duplicates_carry_the_same_trigger(server: WorkspaceServer) -> None:
    async def story() -> None:
        async with by_socket(server) as desk:
            server.workspace.fault("duplicate")
            await desk.click()
            assert len(desk.pressed) == 2
            assert len({body["trigger_id"] for body in desk.pressed}) == 1

    asyncio.run(story())


def test_one_connection_gets_each_click(server: WorkspaceServer) -> None:
    async def story() -> None:
        async with by_socket(server) as one, by_socket(server) as other:
            for _ in range(4):
                await one.click()
            assert (len(one.pressed), len(other.pressed)) == (2, 2)

    asyncio.run(story())


def test_a_cut_connection_comes_back_and_gets_the_click(server: WorkspaceServer) -> None:
    async def story() -> None:
        async with by_socket(server) as desk:
            server.workspace.fault("disconnect")
            delivery = await desk.click()
            assert delivery.acked
            assert len(desk.pressed) == 1

    asyncio.run(story())


def test_nobody_connected_gives_up(hasty: WorkspaceServer) -> None:
    web = WebClient(hasty.bot_token, base_url=hasty.api_url)
    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=card("acknowledge"))["ts"]
    delivery = hasty.click(LEAD, ROOM, ts, "acknowledge")
    assert not delivery.wait(SOON)
    assert delivery.attempts == 1


def test_a_socket_ticket_opens_once(server: WorkspaceServer) -> None:
    opened = WebClient(base_url=server.api_url).apps_connections_open(app_token=server.app_token)
    ticket = opened["url"].split("ticket=")[1]
    assert server.workspace.redeem(ticket)
    assert not server.workspace.redeem(ticket)


@contextmanager
def by_http(slow: float = 0, secret: str = "") -> Iterator[Desk]:
    """The same app behind an endpoint of its own, and a workspace that posts to it."""
    endpoint = Starlette()
    bot = uvicorn.Server(uvicorn.Config(endpoint, log_level="warning", timeout_graceful_shutdown=1))
    listener = socket.create_server(("127.0.0.1", 0))
    request_url = f"http://127.0.0.1:{listener.getsockname()[1]}/slack/events"
    with WorkspaceServer(workspace(), request_url=request_url, ack_within=ACK if slow else SOON, environ={}) as server:
        server.signing_secret = secret or server.signing_secret
        desk = Desk(server, slow)
        endpoint.routes.append(Route("/slack/events", AsyncSlackRequestHandler(desk.app).handle, methods=["POST"]))
        thread = threading.Thread(target=bot.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield desk
        finally:
            bot.should_exit = True
            thread.join()


def test_a_click_by_http_is_signed() -> None:
    with by_http() as desk:
        delivery = asyncio.run(desk.click())
        assert (delivery.acked, delivery.attempts) == (True, 1)
        assert [body["user"]["id"] for body in desk.pressed] == [LEAD]


def test_a_late_answer_by_http_is_delivered_again() -> None:
    with by_http(slow=ACK * 1.5) as desk:
        assert not asyncio.run(desk.click()).acked
        desk.server.workspace.say(LEAD, ROOM, "is anybody there?")
        asyncio.run(until(lambda: len(desk.heard) >= 2))
        assert len(desk.pressed) == 1


def test_another_secret_is_refused() -> None:
    with by_http(secret="not the workspace's") as desk:
        delivery = asyncio.run(desk.click())
        assert not delivery.acked
        assert desk.pressed == []


def test_the_outsiders_team_is_on_the_user(server: WorkspaceServer, web: WebClient) -> None:
    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=card("acknowledge"))["ts"]
    payload = server.workspace.clicked(PARTNER, ROOM, ts, "acknowledge")
    assert (payload["user"]["team_id"], payload["team"]["id"]) == ("T0PARTNER", TEAM)


def test_only_members_click_what_is_there(server: WorkspaceServer, web: WebClient) -> None:
    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=card("acknowledge"))["ts"]
    with pytest.raises(ApiError, match="not_in_channel"):
        server.click(OUTSIDER, ROOM, ts, "acknowledge")
    with pytest.raises(LookupError, match="it has acknowledge"):
        server.click(LEAD, ROOM, ts, "approve")
    with pytest.raises(ApiError, match="message_not_found"):
        server.click(LEAD, ROOM, "1.000001", "acknowledge")


def test_an_ephemeral_is_seen_by_its_target_only(server: WorkspaceServer, web: WebClient) -> None:
    ts = web.chat_postEphemeral(channel=ROOM, user=LEAD, text="for you", blocks=card("approve"))["message_ts"]
    assert [m.text for m in server.workspace.messages(ROOM, LEAD) if m.ts == ts] == ["for you"]
    assert [m for m in server.workspace.messages(ROOM, GUEST) if m.ts == ts] == []
    assert [m for m in web.conversations_history(channel=ROOM)["messages"] if m["ts"] == ts] == []
    assert server.workspace.clicked(LEAD, ROOM, ts, "approve")["container"]["is_ephemeral"]
    with pytest.raises(ApiError, match="message_not_found"):
        server.workspace.clicked(GUEST, ROOM, ts, "approve")
    with pytest.raises(SlackApiError, match="user_not_in_channel"):
        web.chat_postEphemeral(channel=ROOM, user=OUTSIDER, text="x")


def test_history_is_newest_first_and_leaves_replies_to_replies(web: WebClient) -> None:
    metadata = {"event_type": "firedoor_message", "event_payload": {"key": "k"}}
    first = web.chat_postMessage(channel=ROOM, text="first", metadata=metadata)["ts"]
    web.chat_postMessage(channel=ROOM, text="reply", thread_ts=first)
    web.chat_postMessage(channel=ROOM, text="second")
    page = web.conversations_history(channel=ROOM, limit=2, include_all_metadata=True)
    assert [message["text"] for message in page["messages"]] == ["second", "first"]
    assert page["messages"][1]["metadata"] == metadata
    assert "metadata" not in web.conversations_history(channel=ROOM, limit=2)["messages"][1]
    assert [m["text"] for m in web.conversations_replies(channel=ROOM, ts=first)["messages"]] == ["first", "reply"]


def test_an_update_keeps_the_blocks_it_does_not_name(server: WorkspaceServer, web: WebClient) -> None:
    ts = web.chat_postMessage(channel=ROOM, text="one", blocks=card("acknowledge"))["ts"]
    web.chat_update(channel=ROOM, ts=ts, text="two")
    web.chat_update(channel=ROOM, ts=ts, text="three", blocks=[])
    message = server.workspace.messages(ROOM)[-1]
    assert [(text, bool(blocks)) for text, blocks in message.edits] == [("one", True), ("two", True)]
    assert (message.text, message.blocks) == ("three", [])


def test_people(web: WebClient) -> None:
    assert web.users_info(user=GUEST)["user"]["is_restricted"]
    assert web.users_info(user=PARTNER)["user"]["is_stranger"]
    assert web.users_lookupByEmail(email="LEAD@example.com")["user"]["id"] == LEAD
    for call, code in (
        (lambda: web.users_lookupByEmail(email="gone@example.com"), "users_not_found"),
        (lambda: web.users_info(user="U404"), "user_not_found"),
        (lambda: web.conversations_open(users="U5"), "user_disabled"),
        (lambda: web.conversations_open(users="U6"), "cannot_dm_bot"),
    ):
        with pytest.raises(SlackApiError, match=code):
            call()


def test_rooms_and_refusals(web: WebClient) -> None:
    for arguments, code in (
        ({"channel": "C2", "text": "x"}, "not_in_channel"),
        ({"channel": "C3", "text": "x"}, "channel_not_found"),
        ({"channel": ROOM, "text": "x", "thread_ts": "1.000001"}, "thread_not_found"),
        ({"channel": ROOM, "text": "x", "metadata": {"event_type": "Not Allowed", "event_payload": {}}}, "invalid_met"),
        ({"channel": ROOM, "text": "x", "blocks": [*card("same", "same")]}, "invalid_blocks"),
    ):
        with pytest.raises(SlackApiError, match=code):
            web.chat_postMessage(**arguments)
    with pytest.raises(SlackApiError, match="no_text"):
        web.api_call("chat.postMessage", json={"channel": ROOM})
    assert web.chat_postMessage(channel="#inc-7", text="by name")["channel"] == ROOM
    assert web.chat_postMessage(channel=LEAD, text="to a person")["channel"] == "D1"


def test_forms_queries_and_json_are_one(server: WorkspaceServer, web: WebClient) -> None:
    async def story() -> None:
        client = AsyncWebClient(server.bot_token, base_url=server.api_url)
        assert (await client.conversations_open(users=LEAD))["channel"]["id"] == "D1"  # a query string
        assert (await client.conversations_history(channel=ROOM, limit=1, include_all_metadata=True))["ok"]
        assert (await client.chat_postMessage(channel=ROOM, text="json", blocks=card("a")))["ok"]

    asyncio.run(story())
    form = {"channel": ROOM, "text": "form", "blocks": json.dumps(card("acknowledge")), "token": server.bot_token}
    assert web.api_call("chat.postMessage", data=form)["message"]["blocks"][0]["block_id"] == "buttons"


def test_429_is_obeyed_by_the_sdk(server: WorkspaceServer, web: WebClient) -> None:
    server.workspace.fault("ratelimited", "auth.test", retry_after=0.1)
    with pytest.raises(SlackApiError) as limited:
        web.auth_test()
    assert limited.value.response.headers["Retry-After"] == "1"

    async def story() -> None:
        client = AsyncWebClient(server.bot_token, base_url=server.api_url)
        client.retry_handlers.append(AsyncRateLimitErrorRetryHandler(max_retry_count=1))
        server.workspace.fault("ratelimited", "auth.test", retry_after=0)
        assert (await client.auth_test())["user_id"] == BOT_USER

    asyncio.run(story())


def test_a_scope_that_was_not_granted() -> None:
    poor = Workspace([], [], WallClock(), scopes=frozenset(("users:read",)))
    with pytest.raises(ApiError, match="missing_scope") as missing:
        poor.call("chat.postMessage", poor.bot_token, {"channel": ROOM, "text": "x"})
    assert missing.value.more == {"needed": "chat:write", "provided": "users:read"}


def test_response_url_replaces_answers_and_wears_out(server: WorkspaceServer, web: WebClient) -> None:
    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=card("acknowledge"))["ts"]
    url = server.workspace.clicked(LEAD, ROOM, ts, "acknowledge")["response_url"]

    async def story() -> list[int]:
        webhook = AsyncWebhookClient(url)
        return [(await webhook.send(**body)).status_code for body in bodies]

    bodies: list[dict[str, Any]] = [{"text": "done", "replace_original": True}] + [{"text": "no"}] * 5
    assert asyncio.run(story()) == [200] * 5 + [404]
    mine = [m for m in server.workspace.messages(ROOM, LEAD) if m.visible_to == LEAD and m.text == "no"]
    assert len(mine) == 4
    assert _by_ts(server, ts).text == "done"


def test_a_response_url_expires() -> None:
    clock = SimClock(datetime(2026, 1, 1, tzinfo=UTC))
    room = Workspace([Person(LEAD, "lead")], [Channel(ROOM, "inc-7", frozenset((LEAD, BOT_USER)))], clock)
    content = {"channel": ROOM, "text": "card", "blocks": card("a")}
    ts = room.call("chat.postMessage", room.bot_token, content)["ts"]
    response = room.clicked(LEAD, ROOM, ts, "a")["response_url"].rpartition("/")[2]
    clock.forward(minutes=31)
    with pytest.raises(ApiError, match="expired_url"):
        room.respond(response, {"text": "late"})


def test_the_control_api_wants_its_secret(server: WorkspaceServer, web: WebClient) -> None:
    def control(path: str, body: dict[str, Any] | None = None, secret: str = server.control_secret) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        request = Request(f"{server.url}/sandbox/{path}", data, {"Authorization": f"Bearer {secret}"})
        with urlopen(request, timeout=SOON) as answer:
            return dict(json.load(answer))

    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=card("acknowledge"))["ts"]
    state = control(f"state?viewer={GUEST}")
    assert [channel["id"] for channel in state["channels"]] == [ROOM]
    assert control("click", {"user": LEAD, "channel": ROOM, "ts": ts, "action_id": "acknowledge"})["ok"]
    assert control("faults", {"name": "down", "method": "auth.test"})["ok"]
    with pytest.raises(SlackApiError):
        web.auth_test()
    for wrong in ({"path": "state", "secret": "guess"}, {"path": "click", "body": {"user": LEAD}}):
        with pytest.raises(HTTPError) as refused:
            control(**wrong)
        assert refused.value.code == (401 if "secret" in wrong else 400)
        refused.value.close()


@pytest.mark.parametrize("name", ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"])
def test_it_does_not_start_beside_a_real_token(name: str) -> None:
    real = ("xoxb-" if "BOT" in name else "xapp-") + "1-real"
    with pytest.raises(ConfigError, match=name):
        WorkspaceServer(workspace(), environ={name: real})
    WorkspaceServer(workspace(), environ={name: real[:5] + "sandbox-1"})


def _by_ts(server: WorkspaceServer, ts: str) -> Message:
    return next(message for message in server.workspace.messages(ROOM) if message.ts == ts)
