"""Who is on call: `firedoor oncall`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from bot.adapters.clock import SystemClock
from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.terminal import as_json, moment, say, table
from bot.config import load
from bot.config.people import Role
from bot.config.reading import suggestion
from bot.errors import Refused


def on_call(asked: Namespace) -> int:
    people, now = load(asked.config).people, SystemClock().now()
    if asked.role and asked.role not in people.roles:
        near = suggestion(asked.role, people.roles)
        raise Refused("no_such_role", f"There is no role {asked.role!r}. {near}".strip())
    roles = {name: role for name, role in people.roles.items() if asked.role in ("", name)}
    found: list[dict[str, Any]] = [
        {"role": name, "person": person, "ways": list(people.persons[person].ways), "until": _until(role, now)}
        for name, role in roles.items()
        for person in role.on_call(now)
    ]
    if asked.json:
        as_json(found)
        return Exit.OK
    rows = [(one["role"], one["person"], ", ".join(one["ways"]) or "NO WAY", moment(one["until"])) for one in found]
    table([("role", "person", "reached by", "until"), *rows], "")
    for name in roles.keys() - {one["role"] for one in found}:
        say(f"{name}: NOBODY is on call")
    return Exit.OK


def _until(role: Role, now: datetime) -> datetime | None:
    """When the next one's turn begins; None where there are no turns."""
    turns = role.rotation
    if turns is None:
        return None
    return turns.start + (max(0, (now - turns.start) // turns.every) + 1) * turns.every


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("role", metavar="ROLE", nargs="?", default="", help="only this one (default: all)")
    with_config(parser)
    with_json(parser)


COMMANDS = (
    Command(
        "oncall",
        "who is on call",
        "Says who is on call for each role now, how each is reached, and until when where people take turns.",
        "firedoor oncall sre",
        on_call,
        _arguments,
    ),
)
