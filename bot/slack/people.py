"""Who clicked: a Slack user as a person of people.yaml, or a refusal. Whatever cannot be known is a no."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from slack_sdk.errors import SlackClientError
from slack_sdk.web.async_client import AsyncWebClient

from bot.config.people import People
from bot.errors import Refused

KEEP = 60.0  # seconds that users.info is believed: for so long somebody who was just deactivated can still click
SLACK_FAILURES = (SlackClientError, aiohttp.ClientError, TimeoutError)


class Callers:
    """`client` asks Slack; `people` is who may speak here at all."""

    def __init__(
        self, client: AsyncWebClient, people: People, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client, self._people, self._monotonic = client, people, monotonic
        self._known: dict[str, tuple[float, Mapping[str, Any]]] = {}  # bounded by people.yaml
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._home: tuple[str, str] | None = None

    async def person(self, body: Mapping[str, Any]) -> str:
        """The id of the person behind an interaction's payload. Raises Refused with a sentence for them."""
        user = body.get("user") or {}
        found = self._people.by_slack(str(user.get("id") or ""))
        if found is None:
            raise Refused("stranger", "Firedoor does not know you: people.yaml has no person with your Slack id.")
        try:
            team, enterprise = await self._us()
            info = await self._info(found.slack)
        except SLACK_FAILURES as error:
            raise Refused(
                "identity_unknown",
                "Slack does not say who you are right now, so nothing was done. Press again, or use the firedoor "
                f"command line. ({why_failed(error)})",
            ) from error
        # The click's own team decides: for a click out of a shared channel Bolt's context names ours.
        if not _one_of_us(info, str(user.get("team_id") or ""), team, enterprise):
            raise Refused("other_team", "You belong to another workspace: only members of this one can decide here.")
        if info.get("deleted") is not False or info.get("is_bot") is not False:
            raise Refused("no_member", "Only active human members can decide here; this account is none.")
        if info.get("is_restricted") is not False or info.get("is_ultra_restricted") is not False:
            raise Refused("guest", "You are a guest in this workspace: only full members can decide here.")
        return found.id

    async def _us(self) -> tuple[str, str]:
        """Our team and our organisation ('' where there is none)."""
        if self._home is None:
            answer = await self._client.auth_test()
            self._home = str(answer["team_id"]), str(answer.get("enterprise_id") or "")
        return self._home

    async def _info(self, user: str) -> Mapping[str, Any]:
        async with self._asking[user]:  # many clicks at once are one question
            until, info = self._known.get(user, (0.0, {}))
            if not info or until <= self._monotonic():
                asked_at = self._monotonic()
                info = (await self._client.users_info(user=user)).get("user") or {}
                self._known[user] = asked_at + KEEP, info
            return info


def _one_of_us(info: Mapping[str, Any], clicked_in: str, team: str, enterprise: str) -> bool:
    """In our team; on Enterprise Grid, anywhere in our organisation."""
    if info.get("is_stranger"):
        return False
    if enterprise and (info.get("enterprise_user") or {}).get("enterprise_id") == enterprise:
        return True
    return bool(team) and clicked_in == team and info.get("team_id") == team


def why_failed(error: BaseException) -> str:
    """Slack's own code where it gave one; an outage answers with a page of text."""
    data = getattr(getattr(error, "response", None), "data", None)
    return str(data["error"]) if isinstance(data, dict) and "error" in data else type(error).__name__
