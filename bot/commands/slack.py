"""`firedoor slack manifest`: the app to make in Slack."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import yaml

from bot.commands.command import Command, Exit, Usage, with_json
from bot.commands.terminal import as_json
from bot.config.settings import is_safe_url
from bot.slack.manifest import manifest


def print_manifest(asked: Namespace) -> int:
    if asked.http and not is_safe_url(asked.http):
        raise Usage(f"{asked.http!r} is no address that Slack can post to: it is https://HOST.")
    made = manifest(asked.http or "", asked.name)
    if asked.json:
        as_json(made)
    else:
        print(yaml.safe_dump(made, sort_keys=False, allow_unicode=True), end="")
    return Exit.OK


def _arguments(parser: ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--socket", action="store_true", help="for Socket Mode, which needs no public address (default)")
    how.add_argument("--http", metavar="URL", help="for HTTP: the public address of Firedoor, https://HOST")
    parser.add_argument("--name", metavar="NAME", default="Firedoor", help="what people see it called")
    with_json(parser)


COMMANDS = (
    Command(
        "slack manifest",
        "print the app to make in Slack",
        "Prints the manifest of the Slack app: its scopes, events, commands and shortcut. Paste it at\n"
        "https://api.slack.com/apps under Create New App, From a manifest. docs/how-to/set-up-slack.md gives the\n"
        "reason of each scope.",
        "firedoor slack manifest --http https://firedoor.example.com",
        print_manifest,
        _arguments,
    ),
)
