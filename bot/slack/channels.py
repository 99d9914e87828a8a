"""Where somebody decides: no decision counts in a channel that people of other organisations read along in."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import Refused
from bot.slack.people import SLACK_FAILURES, why_failed

KEEP = 60.0  # seconds that conversations.info is believed
KEPT_MAX = 1000  # channels remembered
DIRECT = "D"  # between one person, whom we know, and the bot


class Channels:
    def __init__(self, client: AsyncWebClient, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client, self._monotonic = client, monotonic
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ours(self, channel: str) -> None:
        """Raises Refused, with a sentence for the person, where decisions do not count. '' is no channel: App Home, or
        a form opened from there."""
        if not channel or channel.startswith(DIRECT):
            return
        try:
            info = await self._info(channel)
        except SLACK_FAILURES as error:
            raise Refused(
                "channel_unknown",
                "Slack does not say who reads along in this channel, so nothing was done. Try again, or use the "
                f"firedoor command line. ({why_failed(error)})",
            ) from error
        if _is_external(info):
            raise Refused(
                "external_channel",
                "This channel is shared with another organisation: nothing is decided here. Decide in a channel of our "
                "own, in App Home or with the firedoor command line.",
            )

    async def _info(self, channel: str) -> Mapping[str, Any]:
        async with self._asking[channel]:  # many clicks at once are one question
            until, info = self._known.get(channel, (0.0, {}))
            if not info or until <= self._monotonic():
                asked_at = self._monotonic()
                info = (await self._client.conversations_info(channel=channel)).get("channel") or {}
                if len(self._known) >= KEPT_MAX:
                    self._known.clear()
                self._known[channel] = asked_at + KEEP, info
            return info


def _is_external(info: Mapping[str, Any]) -> bool:
    """What Slack leaves out is a yes. Shared among workspaces of one organisation (`is_org_shared`) is ours."""
    if info.get("is_ext_shared") is not False or info.get("is_pending_ext_shared") not in (False, None):
        return True
    return info.get("is_shared") is not False and info.get("is_org_shared") is not True
