"""Records that earlier releases wrote are read, verified and folded to what they were then."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from bot.config import EXAMPLE, load
from bot.domain import containment, response
from bot.domain.events import Opened
from bot.domain.incident import Frozen, Incident, fold
from bot.domain.record import RULES, Entry
from bot.engine.rulebook import Rulebook
from bot.sandbox.clock import SimClock
from bot.store import Signer, Store
from tests.stories.golden import FOLDER, state

GOLDEN = sorted(FOLDER.glob("*.json"))


def restored(golden: dict[str, Any], path: Path, clock: SimClock) -> Store:
    """Today's store, holding the rows of then."""

    def opened() -> Store:
        return Store.open(
            f"sqlite:///{path}",
            install="example",
            mode="sandbox",
            signer=Signer.fresh() if not path.exists() else signer,
            master_key=bytes(32),
            clock=clock,
            virtual=True,
        )

    fresh = Signer.fresh()
    signer = Signer(fresh._private, trusted=(bytes.fromhex(golden["public_key"]),))
    opened().close()
    database = sqlite3.connect(path)
    for table, rows in golden["tables"].items():
        for row in rows:
            names = ", ".join(row)
            marks = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))
    database.commit()
    database.close()
    return opened()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_record_folds_to_the_state_of_then(path: Path, tmp_path: Path, clock: SimClock) -> None:
    golden = json.loads(path.read_text())
    store = restored(golden, tmp_path / "record.db", clock)
    try:
        with store.reading() as tx:
            entries = tx.read(golden["incident"])
            first = entries[0].event
            assert isinstance(first, Opened)
            frozen = Rulebook(load(EXAMPLE), EXAMPLE).frozen(first.pins, lambda digest: pinned(golden, digest))
            folded = fold(Incident(golden["incident"], frozen), entries)
            assert json.loads(json.dumps(state(folded))) == golden["state"]
            for row in golden["tables"]["streams"]:
                assert len(tx.read(row["stream"])) == row["version"]
            if entries[0].rules == RULES:
                decide_again(entries, frozen, golden["incident"])
                for row in golden["tables"]["streams"]:
                    if row["kind"] == "target":
                        hold_again(tx.read(row["stream"]), row["stream"])
    finally:
        store.close()


def test_this_release_has_a_golden_record() -> None:
    from bot import __version__

    assert [path.stem for path in GOLDEN][-1] == __version__


def pinned(golden: dict[str, Any], digest: str) -> str:
    text: str = next(row["text"] for row in golden["tables"]["pins"] if row["hash"] == digest)
    return text


def decide_again(entries: tuple[Entry, ...], frozen: Frozen, id: str) -> None:
    """The same version of the rules decides the same."""
    incident = Incident(id, frozen)
    for entry in entries:
        incident, decisions = response.advance(incident, entry.event, entry.at)
        assert decisions == entry.decisions, f"{id}/{entry.version}"


def hold_again(entries: tuple[Entry, ...], id: str) -> None:
    target = containment.Target(id)
    for entry in entries:
        target, decisions = containment.advance(target, entry.event, entry.at)
        assert decisions == entry.decisions, f"{id}/{entry.version}"
