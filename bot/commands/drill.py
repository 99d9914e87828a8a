"""`firedoor drill`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from bot.commands.command import CONFIG_VARIABLE, Command, Usage
from bot.commands.terminal import block
from bot.config import EXAMPLE
from bot.domain.wording import listed


def drill(asked: Namespace) -> int:
    from bot import wiring  # here: it brings every client library
    from bot.drill.command import drill as play

    return play(
        _file(asked.scenario, asked.config or EXAMPLE),
        asked.out,
        asked.config,
        lambda text: print(block(text), flush=True),
        wiring.rehearsal,
    )


def _file(scenario: str | None, folder: Path) -> Path | None:
    """A file, or one of the folder's drills by its name."""
    if scenario is None or Path(scenario).is_file():
        return Path(scenario) if scenario else None
    named = folder / "drills" / f"{scenario}.yaml"
    if not named.is_file():
        there = listed(sorted(path.stem for path in named.parent.glob("*.yaml"))) or "none"
        raise Usage(f"there is no drill {scenario!r}. In {named.parent} there is: {there}.")
    return named


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "scenario", metavar="NAME", nargs="?", help="a file, or one of drills/ (default: dropped-table)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out/drill"), help="default: out/drill")
    parser.add_argument(
        "--config",
        metavar="DIR",
        type=Path,
        help=f"the configuration to rehearse (default: the shipped one; ${CONFIG_VARIABLE} is not asked)",
    )


COMMANDS = (
    Command(
        "drill",
        "play a whole incident on a simulated estate",
        "Plays a scenario from alert to postmortem in seconds: the real engine, playbooks and matrix on a simulated\n"
        "estate, in virtual time. Leaves report.html, the papers and score.json; fails where a target was missed.",
        "firedoor drill --out out/drill",
        drill,
        _arguments,
    ),
)
