"""`firedoor slack gallery`: what the bot says in Slack, on one page."""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

from bot.commands.command import Command, Exit
from bot.config import EXAMPLE, load
from bot.domain.events import TextRef
from bot.drill.scenario import load_scenario
from bot.slack.blocks import SlackVoice
from bot.slack.gallery import Piece, page, pieces
from bot.wiring import rehearsal


def write_gallery(asked: Namespace) -> int:
    out = Path(asked.out)
    found = shipped()
    people = load(EXAMPLE).people.persons.values()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(found, {person.slack: person.name for person in people if person.slack}), encoding="utf-8")
    print(f"{len(found)} messages and forms: {out}")
    return Exit.OK


def shipped() -> list[Piece]:
    """Of the shipped drills, played at once in a store that is thrown away."""
    config = load(EXAMPLE)
    found: dict[str, Piece] = {}
    for drill in sorted((EXAMPLE / "drills").glob("*.yaml")):
        with tempfile.TemporaryDirectory() as scratch:
            run = rehearsal(load_scenario(drill), config, EXAMPLE, f"sqlite:///{scratch}/record.db")
            try:
                incident = run.run(lambda _line: None)

                def read(ref: TextRef) -> str | None:
                    with run.engine.store.reading() as tx:  # noqa: B023 - called before the next drill is played
                        data = tx.get_text(ref)
                    return None if data is None else data.decode()

                for piece in pieces(incident.frozen, run.entries(), SlackVoice(config.people), read, config.people):
                    found.setdefault(piece.name, piece)
            finally:
                run.engine.store.close()
    return list(found.values())


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="FILE", default="gallery.html", help="where to write it (default: %(default)s)"
    )


COMMANDS = (
    Command(
        "slack gallery",
        "show what the bot says in Slack, on one page",
        "Writes every message and form that the bot can build to one HTML page. They come from the shipped drills,\n"
        "played at once; no Slack is needed.",
        "firedoor slack gallery --out gallery.html",
        write_gallery,
        _arguments,
    ),
)
