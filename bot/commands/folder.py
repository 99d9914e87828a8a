"""`firedoor init` and `firedoor check`: the operator's folder, made and held to its promises."""

from __future__ import annotations

import base64
import os
import re
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from bot.actions import registry
from bot.commands.command import Command, Exit, Usage, with_config
from bot.commands.terminal import say
from bot.config import EXAMPLE, ConfigErrors, Problem, check, load, resolve
from bot.config.schema import playbook_schema_text
from bot.config.secrets import references
from bot.errors import ConfigError

SCHEMA = Path("docs/playbook.schema.json")  # where the first line of each playbook sends the editor
INSTALL = re.compile(r"[a-z][a-z0-9_-]{0,63}")
NEXT = """
Next, in this order:
  firedoor drill --config {folder}    a whole incident on a simulated estate, in seconds
  edit agents.yaml, people.yaml, sources.yaml and firedoor.yaml: your agents, people, SIEM and systems
  edit policies/actions.yaml: which actions of agents need a human's approval, and how your logs name them
  set mode: live in firedoor.yaml, and the environment variables that it names
  firedoor check --secrets --config {folder}
  firedoor serve --config {folder}

keys/ signs and encrypts the record. Back it up apart from the store, and keep it out of version control."""


def init(asked: Namespace) -> int:
    folder: Path = asked.folder
    name = asked.install or _install_name(folder)
    if not INSTALL.fullmatch(name):
        raise Usage(f"{name!r} is no name for an installation: use lower-case letters, digits, '-' and '_'.")
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    mine = {path.name for path in EXAMPLE.iterdir()} | {"keys"}
    taken = [one for one in there if one in mine] + [str(SCHEMA)] * (folder / SCHEMA).exists()
    if taken:
        raise Usage(f"{folder} has {', '.join(taken)} already; nothing was written. Choose another folder.")
    if folder.exists() and not folder.is_dir():
        raise Usage(f"{folder} is a file; a folder is needed.")
    try:
        shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / SCHEMA).parent.mkdir(exist_ok=True)
        (folder / SCHEMA).write_text(playbook_schema_text(registry()), "utf-8")
        settings = folder / "firedoor.yaml"
        text = settings.read_text("utf-8")
        settings.write_text(text.replace("install: example\n", f"install: {name}\n", 1), "utf-8")
        make_keys(folder / "keys")
    except OSError as error:
        raise ConfigError(str(error.filename or folder), f"cannot be written: {error.strerror}.") from error
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in there):
        say(f"  {path}")
    print(NEXT.format(folder=folder))
    return Exit.OK


def _install_name(folder: Path) -> str:
    """By the folder's name, as far as it is a name: installations that share systems need different ones."""
    name = re.sub(r"[^a-z0-9_-]+", "-", folder.resolve().name.lower()).strip("-")
    return name if INSTALL.fullmatch(name) else "firedoor"


def make_keys(folder: Path) -> None:
    from bot.store import Signer  # here: the store takes half a second to load, and check needs none of it

    folder.mkdir(mode=0o700)
    for name in ("record.pem", "ledger.pem"):
        Signer.generate(folder / name)
    for name in ("artefacts.key", "salt.key"):
        made = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(made, "wb") as file:
            file.write(base64.b64encode(os.urandom(32)) + b"\n")
    (folder / ".gitignore").write_text("*\n", "utf-8")


def check_folder(asked: Namespace) -> int:
    folder: Path = asked.folder or asked.config
    if not folder.is_dir():
        raise Usage(f"{folder} is not a folder. Make one: firedoor init {folder}")
    problems = list(_problems(folder, asked.secrets))
    for problem in problems:
        say(problem)
    blocking = [one for one in problems if not isinstance(one, Problem) or one.blocking]
    advice = len(problems) - len(blocking)
    noted = f" {advice} piece{'s' if advice != 1 else ''} of advice." if advice else ""
    say(f"{len(blocking)} problem{'s' if len(blocking) != 1 else ''} in {folder}.{noted}")
    return Exit.FOUND if blocking else Exit.OK


def _problems(folder: Path, secrets: bool) -> Iterator[ConfigError]:
    try:
        config = load(folder)
    except ConfigErrors as errors:
        yield from errors.problems
        return
    except ConfigError as error:
        yield error
        return
    yield from check(config, registry())
    if secrets:
        for where, ref in references(config):
            try:
                resolve(ref, folder)
            except ConfigError as error:
                yield ConfigError(where, f"{error.where}: {error.problem}", error.hint)


def _init_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new folder, or one without a configuration")
    parser.add_argument("--install", metavar="NAME", help="what this installation is called (default: DIR's name)")


def _check_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", help="the same as --config DIR")
    with_config(parser)
    parser.add_argument("--secrets", action="store_true", help="also read every secret that the files name")


COMMANDS = (
    Command(
        "init",
        "make a working configuration folder",
        "Copies a complete configuration out (settings, agents, people, sources, escalation, policies, playbooks,\n"
        "runbooks, templates, drills) and makes the keys that sign and encrypt the record. Overwrites nothing.",
        "firedoor init /etc/firedoor",
        init,
        _init_arguments,
    ),
    Command(
        "check",
        "say everything that is wrong with a configuration",
        "Reads every file and says what would fail, or never happen, in an incident: file, line and what to do.\n"
        "Warnings are advice and do not make it fail. No system is contacted; run it in your CI.",
        "firedoor check --config /etc/firedoor",
        check_folder,
        _check_arguments,
    ),
)
