"""`firedoor serve`."""

from __future__ import annotations

import logging
from argparse import ArgumentParser, Namespace

from bot.commands.command import Command, Exit, Usage, with_config
from bot.commands.terminal import say
from bot.config import load, resolve
from bot.config.secrets import references
from bot.errors import ConfigError

log = logging.getLogger(__name__)


def serve(asked: Namespace) -> int:
    # Here: these bring every client library, which no other command should wait for.
    from bot import wiring
    from bot.adapters.logs import Redacting
    from bot.serving import serving
    from bot.web import server

    config = load(asked.config)
    settings = config.settings
    if settings.mode != "live":
        hint = "Set mode: live when your systems are connected; until then: firedoor drill"
        raise ConfigError(f"{asked.config}/firedoor.yaml", f"mode is {settings.mode}; serve is for live.", hint)
    port = settings.port if asked.port is None else asked.port
    if not 0 <= port <= 65_535:
        raise Usage(f"{port} is no port.")
    logging.getLogger("bot").setLevel(logging.DEBUG if getattr(asked, "verbose", False) else logging.INFO)
    bot = wiring.build(asked.config, config)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Redacting(bot.redactor))
    for where, ref in references(config):
        try:
            resolve(ref, asked.config)
        except ConfigError as error:  # no reason not to start: the other systems are needed all the more
            # Not `env:A_SECRET: ...`: what follows would be taken for its value and redacted.
            log.warning("%s (%s) is missing: %s %s", where, ref, error.problem, error.hint)
    about = f"{settings.install}, {len(config.agents.agents)} agents, {len(config.playbooks)} playbooks"
    with serving(bot) as app:
        server.serve(app, settings.host, port, ready=lambda url: say(f"firedoor is ready at {url} ({about})"))
    return Exit.OK


def _arguments(parser: ArgumentParser) -> None:
    with_config(parser)
    parser.add_argument("--port", metavar="N", type=int, help="instead of listen.port of firedoor.yaml; 0: a free one")


COMMANDS = (
    Command(
        "serve",
        "run the bot",
        "Runs the bot: alerts over HTTP and SQS, people over Slack, links and the command line. /healthz, /readyz and\n"
        "/metrics say how it is. SIGTERM or SIGINT end it: what is under way is finished or handed to its peers.",
        "firedoor serve --config /etc/firedoor",
        serve,
        _arguments,
    ),
)
