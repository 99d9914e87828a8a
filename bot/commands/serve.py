"""`firedoor serve`."""

from __future__ import annotations

import logging
import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bot.commands.command import CONFIG_VARIABLE, Command, Exit, Usage, usual_folder
from bot.commands.terminal import say
from bot.config import EXAMPLE, Config, load, resolve
from bot.config.secrets import references
from bot.errors import ConfigError

log = logging.getLogger(__name__)

DATA = Path("out/sandbox")


def serve(asked: Namespace) -> int:
    port = asked.port
    if port is not None and not 0 <= port <= 65_535:
        raise Usage(f"{port} is no port.")
    logging.getLogger("bot").setLevel(logging.DEBUG if getattr(asked, "verbose", False) else logging.INFO)
    if not asked.sandbox and (asked.keep or asked.data != DATA):
        raise Usage("--keep and --data belong to --sandbox.")
    return _sandbox(asked) if asked.sandbox else _live(asked)


def _live(asked: Namespace) -> int:
    # Here: these bring every client library, which no other command should wait for.
    from bot import wiring
    from bot.adapters.logs import Redacting
    from bot.serving import serving
    from bot.web import server

    folder = asked.config or usual_folder()
    config = load(folder)
    settings = config.settings
    if settings.mode != "live":
        hint = "Set mode: live when your systems are connected; until then: firedoor serve --sandbox, or firedoor drill"
        raise ConfigError(f"{folder}/firedoor.yaml", f"mode is {settings.mode}; serve is for live.", hint)
    port = settings.port if asked.port is None else asked.port
    bot = wiring.build(folder, config)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Redacting(bot.redactor))
    for where, ref in references(config):
        try:
            resolve(ref, folder)
        except ConfigError as error:  # no reason not to start: the other systems are needed all the more
            # Not `env:A_SECRET: ...`: what follows would be taken for its value and redacted.
            log.warning("%s (%s) is missing: %s %s", where, ref, error.problem, error.hint)
    with serving(bot) as app:
        server.serve(
            app, settings.host, port, ready=lambda url: _ready(url, config), ending=bot.engine.switchboard.close
        )
    return Exit.OK


def _sandbox(asked: Namespace) -> int:
    from bot.embedded import HOST, TERMINAL, sandbox  # here: as above
    from bot.serving import serving
    from bot.web import server

    folder = asked.config or EXAMPLE
    config = load(folder)
    with sandbox(config, folder, asked.data, port=asked.port or 0, keep=asked.keep, environ=os.environ) as embedded:

        def ready(url: str) -> None:
            _ready(url, config)
            say("SANDBOX, not Slack: simulated systems and people. Open this in a browser on this machine:")
            say(embedded.page)
            say("In another terminal, with the codes of the page's Authenticator:")
            say(f"export FIREDOOR_CONFIG={(asked.data / TERMINAL).resolve()}")

        with serving(embedded.bot) as app:
            server.serve(app, HOST, embedded.port, ready, embedded.bot.engine.switchboard.close)
    return Exit.OK


def _ready(url: str, config: Config) -> None:
    about = f"{config.settings.install}, {len(config.agents.agents)} agents, {len(config.playbooks)} playbooks"
    say(f"firedoor is ready at {url} ({about})")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=Path,
        help=f"the configuration folder (${CONFIG_VARIABLE}, else the current one; with --sandbox the shipped one)",
    )
    parser.add_argument("--port", metavar="N", type=int, help="instead of listen.port of firedoor.yaml; 0: a free one")
    parser.add_argument(
        "--sandbox", action="store_true", help="with simulated systems and a Slack of its own, in a page"
    )
    parser.add_argument(
        "--data", metavar="DIR", type=Path, default=DATA, help=f"the sandbox's record (default: {DATA})"
    )
    parser.add_argument("--keep", action="store_true", help="go on with the sandbox's last record")


COMMANDS = (
    Command(
        "serve",
        "run the bot",
        "Runs the bot: alerts over HTTP and SQS, people over Slack, links and the command line. /healthz, /readyz and\n"
        "/metrics say how it is. SIGTERM or SIGINT end it: what is under way is finished or handed to its peers.\n"
        "With --sandbox nothing outside this machine is touched: the simulated estate of the drills, and a workspace\n"
        "in the browser in place of Slack. DATA/config is a configuration folder for the other commands, with the\n"
        "codes that the page shows. It refuses to start beside the token of a real workspace.",
        "firedoor serve --config /etc/firedoor",
        serve,
        _arguments,
    ),
)
