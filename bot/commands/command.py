"""What a command is: its words, its arguments, and what its exit code says."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from bot.errors import ConfigError, Conflict, FiredoorError, Refused, SystemFailure

CONFIG_VARIABLE = "FIREDOOR_CONFIG"


class Exit(IntEnum):
    OK = 0
    FOUND = 1
    USAGE = 2
    CONFIG = 3
    REFUSED = 4
    UNAVAILABLE = 5


MEANING = {
    Exit.OK: "done; nothing wrong was found",
    Exit.FOUND: "a problem was found, or a drill missed a target",
    Exit.USAGE: "the command was not written correctly",
    Exit.CONFIG: "the configuration is wrong, or a key or secret is missing",
    Exit.REFUSED: "refused: not allowed, or not possible as things stand",
    Exit.UNAVAILABLE: "the server or the store does not answer",
}


class Usage(FiredoorError):
    """The command cannot be carried out as it was written."""


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is what is typed, `incident show`. `about` is its help; `example` a line that works in a folder made by
    `firedoor init`."""

    name: str
    summary: str
    about: str
    example: str
    run: Callable[[Namespace], int]
    arguments: Callable[[ArgumentParser], object]


def exit_of(error: FiredoorError) -> Exit:
    match error:
        case Usage():
            return Exit.USAGE
        case ConfigError():
            return Exit.CONFIG
        case Refused():
            return Exit.REFUSED
        case SystemFailure() | Conflict():
            return Exit.UNAVAILABLE
    return Exit.FOUND


def usual_folder() -> Path:
    return Path(os.environ.get(CONFIG_VARIABLE, "."))


def with_config(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=Path,
        default=usual_folder(),
        help=f"the configuration folder (${CONFIG_VARIABLE}, else the current one)",
    )


def with_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
