"""A small agent: a planner that chooses tools one after another, run as a process of its own without site-packages.

    python -S -m tests.agent.loop URL INSTANCE KEY FOLDER

Each turn it looks for work and pays a bill, each payment a line in FOLDER/paid; what it was told instead of a result is
a line in FOLDER/told, what was not carried out a line in FOLDER/shadowed. It ends when FOLDER/stop is there.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.agent import Disabled, Firedoor, NotAllowed


def main(url: str, instance: str, key: str, place: str) -> None:
    folder = Path(place)
    agent = Firedoor(url, instance, key, record=folder / "shadowed")

    @agent.tool(effects=False)
    def list_bills(turn: int) -> list[str]:
        return [f"bill-{turn}"]

    @agent.tool(effects=True)
    def pay(bill: str) -> str:
        _note(folder / "paid", bill)
        return f"paid {bill}"

    @agent.tool(effects=True)
    async def mail(text: str) -> str:
        await asyncio.sleep(0)
        _note(folder / "mailed", text)
        return "mailed"

    with agent:
        turn = 0
        while not (folder / "stop").exists():
            turn += 1
            asyncio.run(_turn(turn, list_bills, pay, mail, folder))
    _note(folder / "told", "ended")


async def _turn(
    turn: int, list_bills: Callable[..., Any], pay: Callable[..., Any], mail: Callable[..., Any], folder: Path
) -> None:
    """Plan, act, tell: a tool that refuses does not end an agent, it is one more observation."""
    try:
        for bill in list_bills(turn):
            seen = pay(bill)
            await mail(str(seen))
            _note(folder / "told", str(seen))
    except Disabled as stop:
        _note(folder / "told", str(stop))
    except NotAllowed as refusal:
        _note(folder / "told", str(refusal))
    await asyncio.sleep(0.01)


def _note(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(f"{text}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
