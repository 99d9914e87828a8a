"""`/inc drill NAME`: a drill in a process of its own, which knows none of this one's secrets."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 120.0  # seconds
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")  # of the environment: no credential is among them


@dataclass(frozen=True, slots=True)
class Played:
    """`score` is plain text; `report` the HTML page, None where the drill did not get so far."""

    score: str
    report: str | None


async def play(name: str, folder: Path) -> Played:
    """`name` is one of the folder's drills."""
    with tempfile.TemporaryDirectory(prefix="firedoor-drill-") as out:
        words = ["-m", "bot", "drill", str(folder / "drills" / f"{name}.yaml"), "--out", out]
        if (folder / "firedoor.yaml").is_file():  # else the shipped drills play on the shipped configuration
            words += ["--config", str(folder)]
        environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=environment, stdout=pipe, stderr=pipe
        )
        try:
            said, wrong = await asyncio.wait_for(process.communicate(), TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
            return Played(f"The drill {name} did not end within {TIMEOUT:.0f} s.", None)
        report = Path(out) / "report.html"
        if not report.exists():
            return Played(
                f"The drill {name} could not be played: {wrong.decode(errors='replace').strip()[-600:]}", None
            )
        score = said.decode(errors="replace").partition("\nScore\n")[2].partition("\n  /")[0]
        return Played(f"The drill {name}:\n{score.rstrip()}", report.read_text("utf-8"))
