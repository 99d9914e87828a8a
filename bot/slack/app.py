"""The Bolt app: clicks in over Socket Mode or signed HTTP, in the server's event loop."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import to_async_bolt_request, to_starlette_response
from slack_bolt.async_app import AsyncApp
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from bot.config import SecretRef, resolve
from bot.config.settings import SLACK_API
from bot.engine.engine import Engine
from bot.slack.listeners import Listeners

BODY_MAX = 1024 * 1024  # bytes; Slack's payloads carry one message at most
TIMEOUT = 10  # seconds, of one call to Slack

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def build_app(
    engine: Engine,
    *,
    bot_token: str,
    signing_secret: str | None = None,
    base_url: str = SLACK_API,
    secret: Callable[[SecretRef], str] = resolve,
) -> AsyncApp:
    """Without a signing secret it takes nothing over HTTP: no signature can be right. `secret` reads TOTP secrets,
    for approvals that ask for a code."""
    client = AsyncWebClient(bot_token, base_url=base_url, timeout=TIMEOUT)
    client.retry_handlers.append(AsyncRateLimitErrorRetryHandler(max_retry_count=2))
    # Given here, for Bolt would else look into the environment; '' would be a secret that anybody knows.
    app = AsyncApp(name="firedoor", client=client, signing_secret=signing_secret or secrets.token_hex(32))
    Listeners(app, engine, secret)
    return app


def socket(app: AsyncApp, app_token: str, base_url: str = SLACK_API) -> AsyncSocketModeHandler:
    """Ready for `connect_async` and `close_async`. To be made inside the event loop that it will run in."""
    client = AsyncWebClient(app_token, base_url=base_url, timeout=TIMEOUT)
    return AsyncSocketModeHandler(app, app_token, web_client=client)


def asgi(app: AsyncApp) -> Endpoint:
    """Slack's requests over HTTP, for mounting at one path. Only signed ones get past Bolt; the others are 401."""
    return Endpoint(app)


class Endpoint:
    """An ASGI application for one path."""

    def __init__(self, app: AsyncApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (await self._answer(Request(scope, receive)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            return PlainTextResponse("Slack posts here.", 405, {"Allow": "POST"})
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_MAX:  # read by bytes, before anybody has proved who they are
                return PlainTextResponse("too large", 413)
        try:
            bolt = to_async_bolt_request(request, bytes(body))
        except UnicodeDecodeError:
            return PlainTextResponse("not UTF-8", 400)
        return to_starlette_response(await self._app.async_dispatch(bolt))
