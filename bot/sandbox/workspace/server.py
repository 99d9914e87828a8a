"""The workspace on a free loopback port: Web API, Socket Mode, response URLs, and the control API of the sandbox."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from bot.errors import ConfigError, Unavailable
from bot.sandbox.workspace.control import Control, Extra
from bot.sandbox.workspace.deeds import Ask
from bot.sandbox.workspace.delivery import EVENT_RETRIES, Delivery, Post
from bot.sandbox.workspace.files import LENGTH_MAX, receive
from bot.sandbox.workspace.memory import Ears
from bot.sandbox.workspace.rooms import ApiError
from bot.sandbox.workspace.screen import Renderer
from bot.sandbox.workspace.state import APP_TOKEN, BOT_TOKEN, Workspace

log = logging.getLogger(__name__)

_START_SECONDS = 10
_NESTED = ("blocks", "metadata", "attachments", "view", "files")  # sent as JSON inside forms and queries


class WorkspaceServer:
    """Serves one workspace from a thread of its own. `url` is its address, `api_url` the client's `base_url`,
    `request_url` the bot's own endpoint on loopback where payloads go by HTTP and not by Socket Mode. `render` turns
    blocks into the page's HTML, `extras` are what the page can do beside Slack, and `page` is the folder of its files.
    Raises ConfigError beside a real workspace's token in `environ`."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        request_url: str = "",
        ack_within: float = 3.0,
        event_retries: Sequence[float] = EVENT_RETRIES,
        render: Renderer | None = None,
        extras: Mapping[str, Extra] | None = None,
        page: Path | None = None,
        port: int = 0,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        _refuse_real_tokens(environ)
        if request_url and urlsplit(request_url).hostname not in ("127.0.0.1", "localhost"):
            raise ConfigError("request_url", f"{request_url} is not on this machine.", "The sandbox stays on loopback.")
        self.workspace = workspace
        self.signing_secret, self.control_secret = secrets.token_hex(16), secrets.token_hex(16)
        self._request_url, self._ack_within, self._event_retries = request_url, ack_within, event_retries
        self._port = port
        self._control = Control(self, render=render, extras=extras or {}, page=page)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._post: Post | None = None
        self._ready = threading.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return self.workspace.address

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    @property
    def bot_token(self) -> str:
        return self.workspace.bot_token

    @property
    def app_token(self) -> str:
        return self.workspace.app_token

    def start(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self._port))
        self.workspace.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(self.app(), log_level="warning", ws="wsproto", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, name="slack-sandbox")
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            self.stop()
            raise ConfigError(self.url, f"the Slack sandbox did not start within {_START_SECONDS} s.")
        return self

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._control.stop)
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def click(self, user: str, channel: str, ts: str, action_id: str, block_id: str = "") -> Delivery:
        """A person presses a button: its block_actions payload goes to the bot. From any thread."""
        asked = self.act("click", user, channel=channel, ts=ts, action_id=action_id, block_id=block_id)
        assert isinstance(asked, Delivery)
        return asked

    def act(self, deed: str, user: str, **args: Any) -> Delivery | dict[str, Any]:
        """A person does something (see control.py); what concerns the bot is a Delivery under way, whose `result` is
        the answer once it is settled. From any thread. Raises ApiError for what Slack would not let them do."""
        asked = self.workspace.act(deed, user, **args)
        if not isinstance(asked, Ask):
            return asked
        return self.deliver(asked.kind, asked.payload, then=lambda delivery: self._settle(user, asked, delivery))

    def deliver(
        self, kind: str, payload: dict[str, Any], *, then: Callable[[Delivery], dict[str, Any]] | None = None
    ) -> Delivery:
        """Any payload, in the background: `interactive`, `events_api` or `slash_commands`. From any thread."""
        if self._loop is None:
            raise RuntimeError("the workspace is not being served")
        delivery = Delivery(kind, payload, then)
        self._loop.call_soon_threadsafe(self._dispatch, delivery)
        return delivery

    def _settle(self, user: str, asked: Ask, delivery: Delivery) -> dict[str, Any]:
        """What the person gets to see of it."""
        why = asked.failure
        with self.workspace.lock:
            if delivery.acked:
                try:
                    return asked.settle(delivery.answer)
                except ApiError as error:
                    log.warning("the sandbox cannot take what the app acknowledged with: %s", error)
            self.workspace.changed("failure", why, *asked.place, user)
            return {"failed": why}

    def app(self) -> Starlette:
        routes = [
            Route("/api/{method}", self._api, methods=["GET", "POST"]),
            Route("/response/{response}", self._response, methods=["POST"]),
            Route("/upload/{ticket}", self._upload, methods=["POST"]),
            WebSocketRoute("/socket", self._socket),
            *self._control.routes(),
        ]
        return Starlette(routes=routes, lifespan=self._life)

    @asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        self._loop = asyncio.get_running_loop()
        self._post = Post(
            self.workspace,
            ack_within=self._ack_within,
            request_url=self._request_url,
            signing_secret=self.signing_secret,
            event_retries=self._event_retries,
        )
        self.workspace.ears = Ears(self._tell, self._changed)
        self._ready.set()
        yield
        self._ready.clear()
        self.workspace.ears = Ears()
        self._loop = None
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._post.close()

    def _tell(self, kind: str, payload: dict[str, Any]) -> None:
        if self._loop is not None:
            self.deliver(kind, payload)

    def _changed(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._control.wake)

    def _dispatch(self, delivery: Delivery) -> None:
        assert self._post is not None
        task = asyncio.get_running_loop().create_task(self._post.deliver(delivery))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _socket(self, websocket: Any) -> None:
        assert self._post is not None
        await self._post.serve(websocket)

    async def _api(self, request: Request) -> Response:
        args = await _arguments(request)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            token = str(args.get("token") or "")
        method = request.path_params["method"]
        if delay := self.workspace.take_delay(method):
            await asyncio.sleep(delay)
        try:
            answer = self.workspace.call(method, token.strip(), args)
            return JSONResponse(answer, headers={"x-oauth-scopes": self.workspace.granted})
        except ApiError as error:
            return JSONResponse({"ok": False, "error": error.code, **error.more})
        except Unavailable as fault:
            if fault.retry_after is None:
                return PlainTextResponse(f"SANDBOX: {fault.why}", 503)
            wait = str(math.ceil(fault.retry_after))
            return JSONResponse({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": wait})

    async def _response(self, request: Request) -> Response:
        try:
            self.workspace.respond(request.path_params["response"], await _arguments(request))
        except ApiError as error:
            return JSONResponse({"ok": False, "error": error.code, **error.more}, 404)
        return PlainTextResponse("ok")

    async def _upload(self, request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LENGTH_MAX:
                return PlainTextResponse("too large", 413)
        taken = receive(self.workspace, request.path_params["ticket"], bytes(body))
        return PlainTextResponse(f"OK - {len(body)}") if taken else PlainTextResponse("no such upload", 404)


def _refuse_real_tokens(environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        real = value.startswith(("xoxb-", "xoxp-", "xapp-")) and not value.startswith((BOT_TOKEN, APP_TOKEN))
        if name.startswith("SLACK_") and real:
            raise ConfigError(
                name,
                "holds a token of a real Slack workspace.",
                "The sandbox does not start beside it: unset it, or run in live mode.",
            )


async def _arguments(request: Request) -> dict[str, Any]:
    """Query, form and JSON body as one: Slack's clients use all three, and nest JSON text in the first two."""
    args: dict[str, Any] = dict(request.query_params)
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/json"):
        sent = json.loads(body or b"{}")
        return args | sent if isinstance(sent, dict) else args
    args |= parse_qsl(body.decode(), keep_blank_values=True)
    for name in _NESTED:
        if isinstance(args.get(name), str):
            try:
                args[name] = json.loads(args[name])
            except ValueError:
                args[name] = {"unreadable": args[name]}
    return args
