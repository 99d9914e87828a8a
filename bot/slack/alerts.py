"""Alerts that a SIEM's app writes in a channel: stored first, then acknowledged to Slack, as the webhook does it.

Only messages of the apps that sources.yaml names, in the channels that it names, are alerts. What anybody else says
there is counted and left alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from slack_bolt.async_app import AsyncApp
from slack_bolt.response import BoltResponse

from bot.domain.source import SourceRules
from bot.errors import BadAlert, FiredoorError
from bot.sources.slack import turned_away

log = logging.getLogger(__name__)

COMMIT = 2.2  # seconds for the commit: Slack waits three for its answer, and delivers again without one


class Taker(Protocol):
    """web.intake.Intake: the way in that all sources share."""

    @property
    def is_full(self) -> bool: ...

    def take(self, source_name: str, payload: bytes, id: str = "") -> Future[Any]: ...

    def quarantine(self, source_name: str, reason: str, payload: bytes, id: str) -> Future[None]: ...

    def turn_away(self, source_name: str, why: str) -> None: ...


class AlertMessages:
    """Stands before Bolt's listeners: those are acknowledged before they run, and this must not be."""

    def __init__(self, app: AsyncApp, sources: Mapping[str, SourceRules], intake: Taker) -> None:
        self._sources = [source for source in sources.values() if source.kind == "slack"]
        self._channels = {channel for source in self._sources for channel in source.channels}
        self._intake = intake
        if self._sources:
            app.use(self.hear)
        app.event("message")(self.pass_by)  # after the listeners of others: of several, the first one hears it

    async def hear(self, body: Mapping[str, Any], next: Callable[[], Awaitable[object]]) -> BoltResponse | None:
        event = body.get("event") if body.get("type") == "event_callback" else None
        if not isinstance(event, dict) or event.get("type") != "message" or event.get("channel") not in self._channels:
            await next()
            return None
        source = self._source(event, body)
        if source is None:
            await next()  # people's words in that channel may be of use to others
            return None
        try:
            async with asyncio.timeout(COMMIT):
                await self._written(source, event)
        except (FiredoorError, TimeoutError) as error:
            # Not acknowledged: Slack delivers it again, and what was written meanwhile counts once.
            log.warning("an alert from Slack is not written yet: %s", error, extra={"source": source.name})
            return BoltResponse(status=503, body="")
        return BoltResponse(status=200, body="")

    async def pass_by(self) -> None:
        """A message that nobody else listens to: acknowledged all the same, or Slack would send it again."""

    def _source(self, event: Mapping[str, Any], body: Mapping[str, Any]) -> SourceRules | None:
        here = [source for source in self._sources if event["channel"] in source.channels]
        whys = {source.name: turned_away(event, body, source) for source in here}
        if found := next((source for source in here if not whys[source.name]), None):
            return found
        name, why = next(iter(whys.items()))
        where = {"source": name, "why": why, "channel": event["channel"]}
        log.info("a message was turned away: it is no alert of %s (%s)", name, why, extra=where)
        self._intake.turn_away(name, why)
        return None

    async def _written(self, source: SourceRules, event: Mapping[str, Any]) -> None:
        if self._intake.is_full:
            raise TimeoutError("more alerts wait than can be written now")
        # By its channel and time a message is one, whichever event, delivery or replica brings it.
        id = f"slack:{source.name}:{event['channel']}/{event.get('ts')}"
        payload = json.dumps(event).encode()
        await asyncio.shield(asyncio.wrap_future(await asyncio.to_thread(self._taken, source, payload, id)))

    def _taken(self, source: SourceRules, payload: bytes, id: str) -> Future[Any]:
        """In a thread: reading a hostile text takes its time."""
        try:
            return self._intake.take(source.name, payload, id)
        except BadAlert as error:
            return self._intake.quarantine(source.name, str(error), payload, id)
