"""A page is worded and sent: by one way of a person, which is passed over while it keeps failing."""

from __future__ import annotations

import logging
from typing import Any, cast

from bot.domain.decisions import Notify, Page
from bot.domain.incident import Incident
from bot.engine.breaker import Breakers
from bot.engine.world import Said, World
from bot.errors import Rejected, SystemFailure, Unavailable
from bot.ports import PageMessage

log = logging.getLogger(__name__)


class Pages:
    def __init__(self, world: World, breakers: Breakers) -> None:
        self._world, self._breakers = world, breakers

    def worded(self, incident: Incident, page: Page | Notify, *, late: float, again: bool) -> Said:
        """`late`: seconds behind its due time. `again`: an earlier one may have left."""
        try:
            return self._world.voice.page(incident, page, late=late, may_repeat=again)
        except Exception:  # a plain page now is worth more than a fine one after the next release
            log.exception("page %s could not be worded", page.key)
            text = f"Firedoor: {page.incident} ({incident.severity.name}, {incident.type}) needs you."
            return Said(text, subject=text)

    def send(self, page: Page | Notify, said: Said, *, again: bool) -> str:
        """A way that keeps failing is passed over for the person's next one; a last way is tried all the same."""
        system = breaker_of(page)
        if page.ways and (wait := self._breakers.wait(system)):
            raise Unavailable(page.way, f"keeps failing ({self._breakers.why(system)}): tried again in {wait:.0f} s")
        try:
            receipt = self._send(page, said, again)
        except Unavailable as error:
            self._breakers.failed(system, error.why)
            raise
        except SystemFailure:  # it refused this one, so it is up
            self._breakers.answered(system)
            raise
        self._breakers.answered(system)
        return receipt

    def _send(self, page: Page | Notify, said: Said, again: bool) -> str:
        world = self._world
        pager = world.ports.pagers.get(page.way)
        if pager is None:
            raise Rejected(page.way, "this way to page is not configured")
        redact = world.redactor.text
        return pager.send(
            PageMessage(
                key=page.key,
                incident=page.incident,
                person=page.person,
                address=world.address(page.person, page.way),
                subject=redact(said.subject),
                body=redact(said.text),
                ack_url=world.ack_link(page.incident, page.person) if isinstance(page, Page) else "",
                actions=("acknowledge",) if isinstance(page, Page) else (),
                blocks=tuple(cast("dict[str, Any]", world.redactor.json(dict(block))) for block in said.blocks),
                again=again,
            )
        )


def breaker_of(page: Page | Notify) -> str:
    """The breaker's name of a way to page."""
    return f"pages by {page.way}"
