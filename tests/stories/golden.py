"""A whole incident's record, kept as this release wrote it: `python -m tests.stories.golden` writes it anew.

A release's golden is written once and never changed after the release; later ones must read it and fold it to the same
state. The drill `dropped-table` is its story.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from bot import __version__
from bot.config import EXAMPLE, load
from bot.domain.incident import Incident, next_deadline
from bot.drill.command import DRILLS
from bot.drill.scenario import load_scenario
from bot.wiring import rehearsal

FOLDER = Path(__file__).parent / "golden"


def state(incident: Incident) -> dict[str, Any]:
    """What must come out the same: everything that decides anything."""
    return {
        "status": incident.status,
        "containment": incident.containment,
        "contained_at": str(incident.contained_at),
        "acked_by": incident.acked_by,
        "alerts": [incident.alerts, incident.repeats],
        "steps": {run.id: [run.status, run.hash, dict(run.outputs)] for run in incident.steps.values()},
        "calls": {
            f"{run.id} {name}": [type(call.outcome).__name__, call.key, call.attempts, call.final]
            for run in incident.steps.values()
            for name, call in run.calls.items()
        },
        "approvals": {
            a.request: [a.state, a.hash, [person for person, _ in a.given]] for a in incident.approvals.values()
        },
        "pages": {id: [page.page.key, page.state] for id, page in incident.pages.items()},
        "deadlines": {name: str(at) for name, at in sorted(incident.deadlines().items())},
        "next_deadline": str(next_deadline(incident)),
        "outstanding": sorted(incident.outstanding),
        "documents": sorted(incident.documents),
    }


def write() -> Path:
    """Plays the drill and keeps its record: entries as signed, the pinned texts, the state they fold to."""
    with tempfile.TemporaryDirectory() as scratch:
        path = f"{scratch}/record.db"
        run = rehearsal(load_scenario(DRILLS / "dropped-table.yaml"), load(EXAMPLE), EXAMPLE, f"sqlite:///{path}")
        incident = run.run(lambda _line: None)
        database = sqlite3.connect(path)
        database.row_factory = sqlite3.Row
        order = {"entries": "stream, version", "streams": "stream", "pins": "hash"}
        tables = {
            name: [dict(row) for row in database.execute(f"SELECT * FROM {name} ORDER BY {by}")]
            for name, by in order.items()
        }
        database.close()
        body = {
            "release": __version__,
            "incident": incident.id,
            "public_key": run.engine.store.public_key.hex(),
            "tables": tables,
            "state": json.loads(json.dumps(state(incident))),
        }
    FOLDER.mkdir(exist_ok=True)
    file = FOLDER / f"{__version__}.json"
    file.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return file


if __name__ == "__main__":
    print(write())
