"""The least that Slack's own library needs for the same thing: a bare Bolt app on Socket Mode in a process of its own,
which acknowledges the command, and acknowledges the click and edits the message. It decides and writes down nothing.

`python -m bench.bolt API_URL BOT_TOKEN APP_TOKEN`
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.async_app import AsyncAck, AsyncApp
from slack_sdk.web.async_client import AsyncWebClient

from bench.company import Slack

DONE = {"type": "section", "text": {"type": "plain_text", "text": "Acknowledged"}}


@contextmanager
def bare_bolt(slack: Slack) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.bolt", slack.api_url, slack.bot_token, slack.app_token]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.terminate()


async def _listen(api_url: str, bot_token: str, app_token: str) -> None:
    client = AsyncWebClient(bot_token, base_url=api_url)
    app = AsyncApp(client=client, signing_secret="unused: nothing comes over HTTP")

    async def inc(ack: AsyncAck) -> None:
        await ack()

    async def click(ack: AsyncAck, body: Mapping[str, Any]) -> None:
        await ack()
        at = body["container"]
        await client.chat_update(channel=at["channel_id"], ts=at["message_ts"], text="Acknowledged", blocks=[DONE])

    app.command("/inc")(inc)
    app.action("ack")(click)
    handler = AsyncSocketModeHandler(app, app_token, web_client=AsyncWebClient(app_token, base_url=api_url))
    await handler.connect_async()  # type: ignore[no-untyped-call]  # Bolt leaves it so
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_listen(*sys.argv[1:]))
