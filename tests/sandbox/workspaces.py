"""A small workspace for tests, and the hands to use it with."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bot.sandbox.workspace import App, Channel, Group, Person, Shortcut, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER

ROOM, SECRET, QUIET, OPEN = "C1", "C2", "C3", "C4"
LEAD, SRE, GUEST, PARTNER, GONE = "U1", "U2", "U3", "U4", "U5"
PARTNERS = "T0PARTNER"
SOON = 30.0  # seconds to wait for what comes in milliseconds

APP = App(
    commands={"/inc": "[new]"},
    shortcuts=(Shortcut("create_incident", "Create incident"), Shortcut("declare", "Declare", "global")),
)


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def workspace(**options: Any) -> Workspace:
    people = [
        Person(LEAD, "lead", "lead@example.com"),
        Person(SRE, "sre", "sre@example.com"),
        Person(GUEST, "guest", is_ultra_restricted=True),
        Person(PARTNER, "partner", team_id=PARTNERS),
        Person(GONE, "gone", "gone@example.com", deleted=True),
    ]
    rooms = [
        Channel(ROOM, "incidents", frozenset((LEAD, SRE, GUEST, PARTNER, BOT_USER)), is_ext_shared=True),
        Channel(SECRET, "secret", frozenset((LEAD, BOT_USER)), is_private=True),
        Channel(QUIET, "quiet", frozenset((LEAD,)), is_private=True),
        Channel(OPEN, "open", frozenset((LEAD,))),
    ]
    groups = [Group("S1", "security", "Security", (LEAD,))]
    return Workspace(people, rooms, options.pop("clock", WallClock()), groups=groups, app=APP, **options)


def until(fact: Callable[[], Any], what: str = "it") -> Any:
    """What `fact` finds, as soon as it finds something."""
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        if found := fact():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} did not come")


def plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text}


def button(action: str, value: str = "v") -> dict[str, Any]:
    return {"type": "button", "text": plain("Press"), "action_id": action, "value": value}


def actions(*elements: dict[str, Any], block_id: str = "row") -> list[dict[str, Any]]:
    return [{"type": "actions", "block_id": block_id, "elements": list(elements)}]


def options(*values: str) -> list[dict[str, Any]]:
    return [{"text": plain(value.upper()), "value": value} for value in values]


def asked(block_id: str, element: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "input", "block_id": block_id, "label": plain(block_id), "element": element, **more}


def modal(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = list(blocks) or [{"type": "divider"}]
    return {"type": "modal", "callback_id": "m", "title": plain("T"), "submit": plain("Go"), "blocks": body, **more}


class Page:
    """What the browser does, for one acting person."""

    def __init__(self, server: WorkspaceServer, user: str) -> None:
        self._server, self.user = server, user

    def act(self, deed: str, **body: Any) -> dict[str, Any]:
        return control(self._server, f"act/{deed}", {"user": self.user, **body})

    def screen(self) -> dict[str, Any]:
        return control(self._server, f"state?viewer={self.user}")

    def channel(self, id: str) -> dict[str, Any]:
        return next(channel for channel in self.screen()["channels"] if channel["id"] == id)

    def messages(self, id: str) -> list[str]:
        return [message["text"] for message in self.channel(id)["messages"]]


def control(server: WorkspaceServer, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
    """The JSON answer, of a refusal too."""
    given = {"Authorization": f"Bearer {server.control_secret}", **headers}
    data = json.dumps(body).encode() if body is not None else None
    request = Request(f"{server.url}/sandbox/{path}", data, given)
    try:
        with urlopen(request, timeout=SOON) as answer:
            return dict(json.load(answer))
    except HTTPError as refusal:
        with refusal:
            return dict(json.load(refusal)) | {"status": refusal.code}


@asynccontextmanager
async def bolt(server: WorkspaceServer, listen: Callable[[AsyncApp], None]) -> AsyncIterator[AsyncApp]:
    """The real Bolt over Socket Mode."""
    app = AsyncApp(client=AsyncWebClient(server.bot_token, base_url=server.api_url), signing_secret="unused")
    listen(app)
    client = AsyncWebClient(server.app_token, base_url=server.api_url)
    handler = AsyncSocketModeHandler(app, server.app_token, web_client=client)
    await handler.connect_async()
    try:
        yield app
    finally:
        await handler.close_async()


def story(server: WorkspaceServer, listen: Callable[[AsyncApp], None], play: Callable[[], Any]) -> Any:
    """Plays in a thread, with a bot that listens."""

    async def run() -> Any:
        async with bolt(server, listen):
            return await asyncio.to_thread(play)

    return asyncio.run(run())


def feed(server: WorkspaceServer, viewer: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(event, data) as they come."""
    request = Request(f"{server.url}/sandbox/feed?viewer={viewer}")
    request.add_header("Authorization", f"Bearer {server.control_secret}")
    with urlopen(request, timeout=SOON) as answer:
        event = ""
        for line in answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                event = value
            if name == "data":
                yield event, json.loads(value)
