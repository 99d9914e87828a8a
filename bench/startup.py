"""From starting the process `firedoor serve` to its first 200 on /readyz, and the memory it then holds, on SQLite.

The second start is what is measured: the first also creates the database. Floor: a Python that imports nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.company import Company
from bench.figures import Row, Spread, Target
from bench.serving import fresh, serving


def measure(*, starts: int = 5) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        company = Company.found(folder / "company", fresh("sqlite", folder, ""), agents=["agent-7"])
        taken, resident = [], []
        for _ in range(starts + 1):
            with serving(company) as served:
                taken.append(served.took)
                resident.append(served.resident)
    ours, floor = Spread.of(taken[1:]), Spread.of([_bare() for _ in range(starts)])
    most = max(resident[1:])
    return [
        Row("start to ready", str(ours), str(floor), ours.p50 / floor.p50, (Target("p50", ours.p50, 2_000, "ms"),)),
        Row("resident memory, ready", f"{most:.0f} MiB", "", None, (Target("RSS", most, 150, "MiB"),)),
    ]


def _bare() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return time.perf_counter() - start
