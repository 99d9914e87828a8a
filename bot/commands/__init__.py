"""The command line: `firedoor COMMAND`."""

from __future__ import annotations

import logging
import os
import sys
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from functools import partial
from typing import Any

from bot import __version__
from bot.commands import (
    agents,
    catalogue,
    doctor,
    drill,
    evidence,
    folder,
    gallery,
    incident,
    investigate,
    ledger,
    people,
    plan,
    reach,
    serve,
    slack,
    verbs,
)
from bot.commands.command import MEANING, Command, exit_of
from bot.commands.terminal import plain
from bot.config import ConfigErrors, MissingSecrets
from bot.errors import FiredoorError

COMMANDS: tuple[Command, ...] = (
    *folder.COMMANDS,
    *plan.COMMANDS,
    *reach.COMMANDS,
    *doctor.COMMANDS,
    *serve.COMMANDS,
    *slack.COMMANDS,
    *gallery.COMMANDS,
    *drill.COMMANDS,
    *incident.COMMANDS,
    *verbs.COMMANDS,
    *people.COMMANDS,
    *agents.COMMANDS,
    *ledger.COMMANDS,
    *evidence.COMMANDS,
    *investigate.COMMANDS,
    *catalogue.COMMANDS,
)
GROUPS = {
    "agents": "instances of agents, and their keys",
    "incident": "read incidents, and speak to them as a person",
    "quarantine": "payloads that no source could read",
    "ledger": "the sealed record, for auditors",
    "evidence": "what was kept of what an agent did",
    "investigate": "what happened, and whether a human was asked",
    "slack": "the app that Firedoor is in Slack",
    "actions": "what playbooks can do",
}
EXIT_CODES = "exit codes:\n" + "\n".join(f"  {code:d}  {meaning}" for code, meaning in MEANING.items())

log = logging.getLogger("firedoor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes stand in `command.MEANING`. An expected failure is one line on stderr."""
    try:
        asked = parser().parse_args(arguments)
    except SystemExit as stop:  # argparse has said what was wrong, or shown the help
        return int(stop.code or 0)
    set_up_logging(verbose=getattr(asked, "verbose", False))
    try:
        code = int(asked.run(asked))
        sys.stdout.flush()
        return code
    except FiredoorError as error:
        log.debug("it ended here", exc_info=error)
        for line in _lines(error):
            print(f"firedoor: {plain(line)}", file=sys.stderr)
        return exit_of(error)
    except BrokenPipeError:  # whoever read has enough; Python would complain once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def set_up_logging(*, verbose: bool) -> None:
    """To stderr. Only Firedoor itself ever logs at DEBUG: there libraries show whatever they send and get, codes,
    tokens and keys included."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if verbose:
        for ours in ("bot", log.name):
            logging.getLogger(ours).setLevel(logging.DEBUG)


class _Parser(ArgumentParser):
    """Help of the same width everywhere, so that docs/reference/commands.md is what people see."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=partial(RawDescriptionHelpFormatter, width=100), **options)


def parser() -> ArgumentParser:
    top = _Parser(
        prog="firedoor",
        description="Incident response for AI agents: contain, prove it, page people, keep the record.",
        epilog=f"example:\n  firedoor drill\n\n{EXIT_CODES}",
    )
    top.add_argument("--version", action="version", version=f"firedoor {__version__}")
    _with_verbose(top)
    commands = top.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    groups = {}
    for command in COMMANDS:
        group, _, word = command.name.rpartition(" ")
        if group and group not in groups:
            holder = commands.add_parser(
                group, help=GROUPS[group], description=f"{GROUPS[group].capitalize()}.", epilog=EXIT_CODES
            )
            groups[group] = holder.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
        added = (groups[group] if group else commands).add_parser(word, help=command.summary)
        _complete(added, command)
    return top


def help_of(command: Command) -> str:
    alone = _Parser(prog=f"firedoor {command.name}")
    _complete(alone, command)
    return alone.format_help()


def _complete(parser: ArgumentParser, command: Command) -> None:
    parser.description, parser.epilog = command.about, f"example:\n  {command.example}\n\n{EXIT_CODES}"
    command.arguments(parser)
    _with_verbose(parser)
    parser.set_defaults(run=command.run)


def _with_verbose(to: ArgumentParser) -> None:
    to.add_argument("--verbose", action="store_true", default=SUPPRESS, help="log what happens, and where it failed")


def _lines(error: FiredoorError) -> tuple[str, ...]:
    """One, and how to see the others; of missing secrets all, so that they are set in one go."""
    if isinstance(error, MissingSecrets):
        return tuple(map(str, error.problems))
    if isinstance(error, ConfigErrors) and (more := len(error.problems) - 1):
        return (f"{error.problems[0]} ({more} more: run firedoor check)",)
    return (str(error),)


__all__ = ["COMMANDS", "EXIT_CODES", "help_of", "main", "parser"]
