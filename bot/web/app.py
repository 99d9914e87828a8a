"""The one address of a Firedoor: which path leads where."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from bot.engine.engine import Engine
from bot.web import acknowledge, agents, bundles, doors, enrolment, intake, links, pods
from bot.web.health import Health
from bot.web.http import (
    Answer,
    App,
    Disconnected,
    Message,
    Receive,
    Scope,
    Send,
    TurnedAway,
    not_found,
    only,
    turned_away,
)
from bot.web.metrics import Metrics

log = logging.getLogger(__name__)

SLACK = "/slack/events"


def application(
    engine: Engine,
    alerts: intake.Intake,
    people: doors.Doors,
    ack_links: links.AckLinks,
    metrics: Metrics,
    *,
    slack: App | None = None,
    instances: agents.AgentsApi | None = None,
    opa: bundles.Bundles | None = None,
    faults: Callable[[], tuple[str, ...]] = tuple,
    troubles: Callable[[], tuple[str, ...]] = tuple,
) -> App:
    """`instances` is the agents' API; `opa` are the bundles that OPA fetches. `slack` is mounted at /slack/events where
    the installation takes Slack over HTTP. `faults` of parts beside the engine make the process unready, `troubles` are
    only told."""
    health = Health(engine, metrics, faults, troubles)
    pages = acknowledge.AckPages(engine, ack_links)
    enrolling = enrolment.Enrolment(people, instances.keys) if instances else None
    coming = pods.Pods(engine, instances.keys) if instances else None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _aside(scope, receive, send)
            return
        path: str = scope["path"]
        sent = _Sent(send)
        try:
            if path.startswith(intake.PATH):  # the hot path
                await alerts(scope, receive, sent)
            elif slack is not None and path == SLACK:
                await slack(scope, receive, sent)
            elif coming is not None and path == pods.PATH:
                answer = await _or_turned_away(coming.answer(scope, receive))
                await answer.send(sent)
            elif instances is not None and path.startswith(agents.PATH):
                answer = await _or_turned_away(instances.answer(scope, receive))
                await answer.send(sent, head=scope["method"] == "HEAD")
            else:
                answer = await _or_turned_away(_elsewhere(scope, receive))
                await answer.send(sent, head=scope["method"] == "HEAD")
        except Disconnected as error:
            log.debug("%s", error)
        except Exception:  # a bug in one request: it is shown, and the next one is served
            log.exception("a request failed inside", extra={"path": _plain(path)})
            if not sent.begun:
                await turned_away(TurnedAway(500, "fault", "Firedoor failed inside; its log says where.")).send(sent)

    async def _elsewhere(scope: Scope, receive: Receive) -> Answer:
        path: str = scope["path"]
        if path.startswith(links.PATH):
            return await pages.answer(scope, receive)
        if path == doors.PATH or path.startswith(f"{doors.PATH}/"):
            return await people.answer(scope, receive)
        if enrolling is not None and path.startswith(enrolment.PATH):
            return await enrolling.answer(scope, receive)
        if opa is not None and path.startswith(bundles.PATH):
            return await opa.answer(scope)
        if path not in ("/healthz", "/readyz", "/metrics"):
            raise not_found()
        only(scope, "GET", "HEAD")
        if path == "/healthz":
            return health.alive()
        return await (health.ready() if path == "/readyz" else health.metrics())

    return app


class _Sent:
    """Whether an answer has begun: then there is no other to give."""

    __slots__ = ("_send", "begun")

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False

    def __call__(self, message: Message) -> Awaitable[None]:
        self.begun = True
        return self._send(message)


async def _or_turned_away(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except TurnedAway as error:
        return turned_away(error)


async def _aside(scope: Scope, receive: Receive, send: Send) -> None:
    """The server's own start and stop; and WebSockets, which there are none of."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _plain(path: str) -> str:
    """Without what is personal: an acknowledge link is a credential."""
    return links.PATH if path.startswith(links.PATH) else path[:200]
