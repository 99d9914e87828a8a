"""Evidence carried out of the house: it verifies by its files alone, and every change to them is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.commands.command import Exit, Usage
from bot.commands.evidence import items, verify_export, write_export
from bot.errors import Rejected
from tests.engine.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(f"sqlite:///{tmp_path / 'firedoor.db'}")
    desk.receive()
    desk.forward(minutes=2)
    yield desk
    desk.stop()


@pytest.fixture
def export(desk: Desk, tmp_path: Path) -> Path:
    assert write_export(tmp_path / "out", "INC-1", desk.entries(), desk.estate.evidence) > 3
    return tmp_path / "out"


def test_an_export_verifies_by_its_files_alone(desk: Desk, export: Path, capsys: pytest.CaptureFixture[str]):
    assert verify_export(export) == Exit.OK
    said = capsys.readouterr().out
    kept = json.loads((export / "export.json").read_text())
    entry = kept["manifests"][0]["entry"]
    assert entry["digest"] == desk.entries()[entry["version"] - 1].digest
    assert entry["digest"] in said
    assert {"collected", "judged"} <= {link["what"] for link in kept["custody"]}


def test_every_change_to_an_export_is_named(export: Path, capsys: pytest.CaptureFixture[str]):
    first, second, *_ = sorted((export / "items").iterdir())
    first.chmod(0o600)
    first.write_bytes(first.read_bytes().replace(b"a", b"b"))
    second.unlink()
    (export / "items" / "stray").write_bytes(b"{}")
    assert verify_export(export) == Exit.FOUND
    said = capsys.readouterr().out
    assert f"{first.name}: it was changed" in said
    assert f"{second.name}: No such file" in said
    assert "items/stray: it is in the folder and not in export.json" in said


def test_an_item_that_a_manifest_lists_cannot_be_left_out(export: Path, capsys: pytest.CaptureFixture[str]):
    index = json.loads((export / "export.json").read_text())
    manifests = {one["sha256"] for one in index["manifests"]}
    gone = next(one for one in index["items"] if one["sha256"] not in manifests)
    index["items"].remove(gone)
    (export / gone["path"]).unlink()
    (export / "export.json").chmod(0o600)
    (export / "export.json").write_text(json.dumps(index))
    assert verify_export(export) == Exit.FOUND
    assert f"{gone['sha256']}: a manifest lists it, and it was not exported" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "other"}', '{"schema": "firedoor/evidence-export/v1"}'])
def test_what_is_no_export_is_not_taken_for_one(tmp_path: Path, text: str):
    (tmp_path / "export.json").write_text(text)
    with pytest.raises(Usage):
        verify_export(tmp_path)


def test_evidence_that_was_changed_is_not_carried_out(desk: Desk, tmp_path: Path):
    store = desk.estate.evidence
    address = next(iter(items(desk.entries(), store))).address
    data, lock = store._objects[address]
    store._objects[address] = (data + b" ", lock)
    with pytest.raises(Rejected, match="was changed"):
        write_export(tmp_path / "out", "INC-1", desk.entries(), store)
