"""`python -m bench` (`make bench`): everything, in one table, and `out/bench/results.json`. `--quick` measures little
of each, to see that the programs work; its figures mean nothing. `--only storm` runs one program."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench import credentials, deadlines, first_call, ledger, modes, playbook, slack, startup, storm
from bench.figures import Row, table
from bench.serving import postgres

RESULTS = Path("out/bench/results.json")
KINDS = ("sqlite", "postgresql")

Program = Callable[[str, str], list[Row]]  # kind of database, PostgreSQL server
FULL: Mapping[str, Program] = {
    "startup": lambda kind, _: startup.measure() if kind == "sqlite" else [],
    "first_call": first_call.measure,
    "playbook": playbook.measure,
    "storm": storm.measure,
    "credentials": credentials.measure,
    "modes": modes.measure,
    "deadlines": deadlines.measure,
    "ledger": lambda kind, _: ledger.measure() if kind == "sqlite" else [],
    "slack": slack.measure,
    "slack_calls": lambda kind, _: slack.incident() if kind == "sqlite" else [],
}
QUICK: Mapping[str, Program] = {
    "startup": lambda kind, _: startup.measure(starts=1) if kind == "sqlite" else [],
    "first_call": partial(first_call.measure, alerts=10, storm=100),
    "playbook": partial(playbook.measure, runs=3),
    "storm": partial(storm.measure, seconds=0.5, alerts=500),
    "credentials": partial(credentials.measure, sizes=(1, 4), runs=1),
    "modes": partial(modes.measure, agents=20, seconds=0.2),
    "deadlines": partial(deadlines.measure, standing=100, seconds=1, overdue=20),
    "ledger": lambda kind, _: ledger.measure(entries=600) if kind == "sqlite" else [],
    "slack": partial(slack.measure, standing=5, commands=10, clicks=5, quiet=1.5),
    "slack_calls": lambda kind, _: slack.incident(changes=3, quiet=1.5) if kind == "sqlite" else [],
}


def run(programs: Mapping[str, Program], kinds: Sequence[str] = KINDS) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as server:
        for name, program in programs.items():
            for kind in kinds:
                print(f"{name}, {kind} ...", flush=True)
                rows += program(kind, server)
    return rows


def write(rows: Sequence[Row], path: Path = RESULTS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    body = {"machine": machine, "rows": [asdict(row) | {"met": row.met} for row in rows]}
    path.write_text(json.dumps(body, indent=2))


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    asked.add_argument("--quick", action="store_true", help="little of each: are the programs alive?")
    asked.add_argument("--only", choices=FULL, help="one program")
    asked.add_argument("--on", choices=KINDS, help="one kind of database")
    args = asked.parse_args()
    programs = QUICK if args.quick else FULL
    rows = run(
        {name: program for name, program in programs.items() if args.only in (None, name)},
        [kind for kind in KINDS if args.on in (None, kind)],
    )
    write(rows)
    missed = sum(not row.met for row in rows)
    print(f"\n{table(rows)}\n\n{len(rows)} rows, {missed} with a target missed. {RESULTS}")


if __name__ == "__main__":
    main()
