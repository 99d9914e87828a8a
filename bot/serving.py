"""A live bot with its doors open: alerts over HTTP and SQS, people over Slack, links and the command line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import aiohttp
from slack_bolt.async_app import AsyncApp
from slack_sdk.errors import SlackClientError

from bot.adapters.oidc import Issuer
from bot.adapters.sqs import Queue
from bot.config import Config, SecretRef, resolve
from bot.config.connections import AwsConnection
from bot.config.settings import Slack
from bot.domain.source import SourceRules
from bot.engine.engine import Engine
from bot.engine.modes import Modes
from bot.errors import ConfigError
from bot.ledger.rounds import Rounds
from bot.slack.alerts import AlertMessages
from bot.slack.app import asgi, build_app, socket
from bot.web.agents import AgentsApi
from bot.web.app import application
from bot.web.bundles import Bundles
from bot.web.doors import Doors
from bot.web.http import App
from bot.web.intake import Intake, source_secrets
from bot.web.metrics import Metrics
from bot.web.queues import QueueReader, Queues
from bot.wiring import Bot, bundle_signer, sealer

log = logging.getLogger(__name__)

FIRST_CONNECT = 5.0  # seconds that a start waits for Slack; alerts must not wait for it
AGAIN = (1.0, 30.0)  # seconds between tries, at first and at most

Secret = Callable[[SecretRef], str]
Hears = Callable[[AsyncApp], object]  # makes an app hear alerts too


@contextmanager
def serving(bot: Bot) -> Iterator[App]:
    """Starts the engine and every door but HTTP itself: whoever has the application serves it. Stops all of it on the
    way out, doors first. Raises ConfigError, and Unavailable where the store does not answer."""
    secret = bot.secret
    with ExitStack() as stack:
        stack.callback(bot.store.close)
        engine = bot.engine
        metrics = Metrics(engine)
        intake = Intake(engine, source_secrets(bot.config, secret), metrics)
        queues = Queues(_queues(bot.config, secret, intake))
        heard = partial(AlertMessages, sources=_rules(bot.config), intake=intake)
        slack = bot.config.settings.slack
        mounted = _over_http(engine, slack, secret, heard) if slack else None
        ear = _over_socket(engine, slack, secret, heard) if slack else None
        engine.start()
        stack.callback(engine.stop)
        queues.start()
        stack.callback(queues.stop)
        if ear:
            ear.start()
            stack.callback(ear.stop)
        books = _books(bot)
        if books:
            books.start()
            stack.callback(books.stop)
        faults = ear.faults if ear else tuple
        yield application(
            engine,
            intake,
            Doors(engine, secret, _tokens(engine)),
            bot.links,
            metrics,
            slack=mounted,
            opa=_bundles(bot),
            instances=AgentsApi(engine, bot.instance_keys, lease=bot.config.settings.agents_api.lease),
            faults=lambda: (*queues.faults(), *faults()),
            troubles=lambda: (*queues.troubles(), *(books.troubles() if books else ())),
        )


def _books(bot: Bot) -> Rounds | None:
    made = bot.config.settings.ledger
    keeper = sealer(bot.config, bot.folder, bot.store, bot.secret, bot.engine.world.replica)
    return Rounds(keeper, made.every) if keeper and made else None


def _bundles(bot: Bot) -> Bundles | None:
    made = bot.config.settings.bundles
    signer = bundle_signer(bot.config, bot.folder)
    if made is None or signer is None:
        return None
    engine = bot.engine
    modes = Modes(bot.store, lambda: engine.world.config.agents.agents)
    return Bundles(
        modes.refresh,
        signer,
        lambda: tuple(bot.secret(token) for token in made.tokens),
        engine.world.ports.clock.now,
        made.valid,
        closing=lambda: engine.switchboard.closed,
    )


def _queues(config: Config, secret: Secret, intake: Intake) -> dict[str, QueueReader]:
    readers: dict[str, QueueReader] = {}
    for name, source in config.sources.items():
        if not source.queue:
            continue
        made = config.settings.connections.get(source.connection)
        if not isinstance(made, AwsConnection):
            raise ConfigError("sources.yaml", f"{name!r}: {source.connection!r} is no aws connection.")
        queue = Queue(
            source.queue,
            made.region,
            made.endpoint_url or None,
            system=source.connection,
            role=made.role_arn or None,
            external_id=secret(made.external_id) if made.external_id else None,
        )
        readers[name] = QueueReader(name, queue, intake)
    return readers


def _rules(config: Config) -> dict[str, SourceRules]:
    return {name: source.rules for name, source in config.sources.items()}


def _tokens(engine: Engine) -> Issuer | None:
    made = engine.world.config.settings.oidc
    if made is None:
        return None
    return Issuer(made.issuer, made.audience, engine.world.ports.clock, claim=made.claim, jwks_url=made.jwks_url)


# Slack ----------------------------------------------------------------------------------------------------------


def _over_http(engine: Engine, slack: Slack, secret: Secret, heard: Hears) -> App | None:
    if slack.signing_secret is None:
        return None
    signing_secret = secret(slack.signing_secret)
    bot_token = secret(slack.bot_token)
    app = build_app(engine, bot_token=bot_token, signing_secret=signing_secret, base_url=slack.api_url, secret=secret)
    heard(app)
    return asgi(app)


def _over_socket(engine: Engine, slack: Slack, secret: Secret, heard: Hears) -> Ear | None:
    if slack.app_token is None:
        return None
    return Ear(engine, slack, secret(slack.bot_token), secret(slack.app_token), heard, secret)


class Ear:
    """Socket Mode in a thread and event loop of its own, so that neither a slow Slack nor a storm of alerts is felt on
    the other side. It keeps trying: a bot that cannot reach Slack still contains, and pages by other ways."""

    def __init__(
        self, engine: Engine, slack: Slack, bot_token: str, app_token: str, heard: Hears, secret: Secret = resolve
    ) -> None:
        self._engine, self._slack, self._bot_token, self._app_token = engine, slack, bot_token, app_token
        self._heard, self._secret = heard, secret
        self._thread = threading.Thread(target=self._run, name="slack", daemon=True)
        self._connected = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> None:
        self._thread.start()
        if not self._connected.wait(FIRST_CONNECT):
            log.warning("Slack is not connected yet; it is tried again, and everything else runs")

    def stop(self) -> None:
        loop, stopping = self._loop, self._stopping
        if loop and stopping:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(stopping.set)
        self._thread.join(15)

    def faults(self) -> tuple[str, ...]:
        """A connection that is away comes back by itself; a thread that has ended does not."""
        return () if self._thread.is_alive() else ("the ear for Slack has stopped: restart this process",)

    def _run(self) -> None:
        try:
            asyncio.run(self._listen())
        except Exception:  # the thread's last word: the process is then not ready, which `faults` says
            log.exception("Slack's side has failed")

    async def _listen(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        app = build_app(self._engine, bot_token=self._bot_token, base_url=self._slack.api_url, secret=self._secret)
        self._heard(app)
        handler = socket(app, self._app_token, self._slack.api_url)
        wait, longest = AGAIN
        while not self._stopping.is_set() and not self._connected.is_set():
            try:
                await handler.connect_async()  # type: ignore[no-untyped-call]  # Bolt leaves it so
                self._connected.set()  # from here on the client reconnects by itself
            except (SlackClientError, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning("Slack cannot be reached, tried again in %.0f s: %s", wait, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), wait)
                wait = min(longest, wait * 2)
        await self._stopping.wait()
        await handler.close_async()  # type: ignore[no-untyped-call]  # as above
