"""The page behind an acknowledge link. GET only shows it, because mail scanners follow links; its one button
acknowledges."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime
from html import escape

from bot.domain.incident import Incident
from bot.engine import verbs
from bot.engine.engine import Engine
from bot.errors import FiredoorError, Refused
from bot.web.http import Answer, Header, Receive, Scope, TurnedAway, only, read_body
from bot.web.links import PATH, AckLinks, Asked, Forged

log = logging.getLogger(__name__)

LARGEST = 1024  # bytes of a form that has no field
PATIENCE = 30.0  # seconds

STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1e;--soft:#5b5b66;--paper:#f6f6f4;--card:#fff;--line:#dcdcd6;--fire:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#ececee;--soft:#a5a5b0;--paper:#141417;--card:#1f1f24;--line:#34343c;
--fire:#d9473d}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.25rem;
background:var(--paper);color:var(--ink);font:1.0625rem/1.5 system-ui,sans-serif}
main{width:100%;max-width:28rem;padding:1.75rem;background:var(--card);border:1px solid var(--line);
border-radius:.75rem}h1{margin:0 0 .25rem;font-size:1.5rem;line-height:1.25}p{margin:.75rem 0 0}
dl{display:grid;grid-template-columns:auto 1fr;gap:.25rem 1rem;margin:1.25rem 0 0}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}button{width:100%;margin-top:1.5rem;padding:.875rem;border:0;border-radius:.5rem;
background:var(--fire);color:#fff;font:inherit;font-weight:600;cursor:pointer}
button:focus-visible{outline:3px solid var(--ink);outline-offset:2px}.soft{color:var(--soft);font-size:.9375rem}
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_HEADERS: tuple[Header, ...] = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'".encode(),
    ),
    (b"referrer-policy", b"no-referrer"),  # the address is the proof
    (b"x-frame-options", b"DENY"),
    (b"x-robots-tag", b"noindex"),
)


@dataclass(frozen=True, slots=True)
class AckPages:
    engine: Engine
    links: AckLinks

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Raises TurnedAway for a method it does not take."""
        only(scope, "GET", "HEAD", "POST")
        try:
            asked = self.links.check(scope["path"].removeprefix(PATH))
        except Forged as error:
            return _page(
                404, "This link is not valid", str(error), _soft("Acknowledge in Slack, or ask whoever is on call.")
            )
        try:
            if scope["method"] == "POST":
                await read_body(scope, receive, LARGEST)
                return await self._acknowledge(asked)
            return self._shown(asked, await self._incident(asked))
        except Refused as error:
            return _page(404, f"{asked.incident} cannot be shown", str(error))
        except TurnedAway:
            raise
        except (FiredoorError, TimeoutError) as error:
            log.warning("the page of %s could not be made: %s", asked.incident, error)
            why = "The record does not answer just now. Nothing was acknowledged as far as this page knows."
            return _page(503, "Try again in a moment", why, _soft("Pages go on until somebody acknowledges."))

    async def _acknowledge(self, asked: Asked) -> Answer:
        if asked.expired:
            return self._shown(asked, await self._incident(asked))
        try:
            async with asyncio.timeout(PATIENCE):
                job = verbs.acknowledge(asked.incident, asked.person, "link")
                incident = await asyncio.wrap_future(self.engine.submit(job))
        except Refused as error:
            if error.code in ("stranger", "not_allowed"):
                return _page(403, "This was not acknowledged", str(error))
            return self._shown(asked, await self._incident(asked))  # whatever stands there now is the answer
        log.info("acknowledged by link", extra={"incident": asked.incident, "person": asked.person})
        return self._shown(asked, incident)

    async def _incident(self, asked: Asked) -> Incident:
        return await asyncio.to_thread(self.engine.incident, asked.incident)

    def _shown(self, asked: Asked, incident: Incident) -> Answer:
        name, facts = incident.id, _facts(self._name(asked.person), incident)
        if incident.over:
            return _page(
                200, f"{name} is over", f"It is {_words(str(incident.status))}. Nothing is left to do here.", facts
            )
        if incident.acked_by:
            at = _clock(incident.acked_at)
            if incident.acked_by == asked.person:
                title, who = f"You acknowledged {name}", "You have it"
            else:
                title, who = f"{name} is acknowledged", f"{self._name(incident.acked_by)} has it"
            return _page(200, title, f"{who} since {at}. Escalation is stopped; containment goes on.", facts)
        if asked.expired:
            why = f"It was good until {_clock(asked.expires)}. Nobody has acknowledged {name} yet: do it in Slack."
            return _page(410, "This link has expired", why, facts)
        button = '<form method="post"><button type="submit">Acknowledge</button></form>'
        why = "Acknowledging says that you take it. It stops the escalation to others, and nothing else."
        return _page(200, f"{name} waits for you", why, facts + button)

    def _name(self, person: str) -> str:
        found = self.engine.world.config.people.persons.get(person)
        return found.name if found else person


def _facts(you: str, incident: Incident) -> str:
    rows = {
        "Severity": incident.severity.name,
        "Type": _words(incident.type),
        "Agent": incident.begun.agent_uid or "unknown",
        "Opened": _clock(incident.start),
        "Containment": _words(str(incident.containment)),
        "You are": you,
    }
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items()) + "</dl>"


def _page(status: int, title: str, text: str, more: str = "") -> Answer:
    """`more` is HTML."""
    title, text = escape(title), escape(text)
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{title}</h1><p>{text}</p>{more}</main></body></html>"
    )
    return Answer(status, body.encode(), _HEADERS)


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _clock(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at else "just now"


def _words(name: str) -> str:
    return name.replace("_", " ")
