"""The ledger as an operator and an auditor meet it: on the command line."""

from __future__ import annotations

import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from bot import wiring
from bot.adapters.clock import SystemClock
from bot.commands import main
from bot.config import load
from bot.domain.events import Acknowledged
from bot.store import StreamRow
from tests.cli.conftest import Desk
from tests.ledger.authority import authority

START = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """An installation whose record has seven entries, all of them sealed."""
    made = tmp_path / "acme"
    assert main(["init", str(made)]) == 0
    config = load(made)
    store = wiring.open_store(config, made, wiring.read_keys(config, made), SystemClock())
    with store.transaction() as tx:
        for version in range(1, 8):
            tx.append("INC-1", version, START + timedelta(minutes=version), Acknowledged("sre-1", "cli"), ())
        tx.save_stream(StreamRow("INC-1", "incident", 7, None, open=True))
    sealer = wiring.sealer(config, made, store, lambda ref: wiring.resolve(ref, made), "r-1")
    assert sealer is not None
    assert sealer.seal() == 7
    store.close()
    return made


def test_an_auditor_needs_the_files_and_the_key_and_nothing_else(
    sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["ledger", "key", "--config", str(sealed)]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("firedoor/acme/sandbox+")
    assert main(["ledger", "verify", "--config", str(sealed)]) == 0
    assert "sound. 7 entries of 1 streams, 1 anchored checkpoints" in capsys.readouterr().out
    proof, out = tmp_path / "inc-1-3.tlog-proof", tmp_path / "audit"
    assert main(["ledger", "prove", "INC-1/3", "--out", str(proof), "--config", str(sealed)]) == 0
    assert main(["ledger", "export", str(out), "--config", str(sealed)]) == 0
    shutil.rmtree(sealed)
    capsys.readouterr()
    audit = ["ledger", "verify", str(out / "log"), "--anchors", str(out / "anchors"), "--key", key]
    assert main([*audit, "--mode", "sandbox", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "size": 7,
        "anchors": 1,
        "streams": {"INC-1": 7},
        "findings": [],
        "timestamps": 0,
        "stamped": None,
    }
    assert main(["ledger", "check", str(proof), "--key", key]) == 0
    shown = capsys.readouterr().out
    assert "one of the 7 entries of firedoor/acme/sandbox" in shown
    assert json.loads(shown.partition("\n")[2])["version"] == 3
    assert main(audit) == 1, "a sandbox log is no live one"
    assert "sandbox_log" in capsys.readouterr().out
    assert "firedoor ledger verify log" in (out / "README.txt").read_text()


def test_what_was_done_to_the_files_is_said(sealed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = sealed / "ledger/tile/entries/000.p/7"
    bundle.chmod(0o644)
    data = bytearray(bundle.read_bytes())
    data[200] ^= 1
    bundle.write_bytes(data)
    assert main(["ledger", "verify", "--config", str(sealed)]) == 1
    assert "changed_entry" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["verify", "nowhere"], 2, "--key is missing"),
        (["verify", "nowhere", "--key", "x+y+z"], 3, "name+id+base64"),
        (["prove", "INC-1"], 2, "INC-7/3"),
        (["prove", "INC-1/99"], 4, "is not in the record"),
        (["check", "nowhere", "--key", "x+y+z"], 2, "cannot be read"),
        (["export", "."], 2, "is not empty"),
    ],
)
def test_mistakes_are_met_with_what_to_do(
    sealed: Path,
    words: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sealed)
    assert main(["ledger", *words]) == code
    assert says in capsys.readouterr().err


def test_an_authority_vouches_for_the_date(sealed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with authority() as tsa:
        settings = yaml.safe_load((sealed / "firedoor.yaml").read_text())
        settings["ledger"]["timestamps"] = {"url": tsa.url, "roots": "roots.pem"}
        (sealed / "firedoor.yaml").write_text(yaml.safe_dump(settings))
        assert main(["ledger", "verify", "--config", str(sealed)]) != 0
        assert "roots.pem" in capsys.readouterr().err
        (sealed / "roots.pem").write_bytes(tsa.roots)
        config = load(sealed)
        store = wiring.open_store(config, sealed, wiring.read_keys(config, sealed), SystemClock())
        sealer = wiring.sealer(config, sealed, store, lambda ref: wiring.resolve(ref, sealed), "r-1")
        assert sealer is not None
        assert sealer.stamp()
        store.close()
    assert main(["ledger", "verify", "--config", str(sealed)]) == 0
    assert "1 timestamps by an authority" in capsys.readouterr().out
    key, out = tmp_path / "key", tmp_path / "audit"
    assert main(["ledger", "key", "--config", str(sealed)]) == 0
    key.write_text(capsys.readouterr().out)
    assert main(["ledger", "export", str(out), "--config", str(sealed)]) == 0
    audit = ["ledger", "verify", str(out / "log"), "--anchors", str(out / "anchors"), "--key", str(key)]
    audit += ["--mode", "sandbox"]
    assert main(audit) == 0
    assert "--roots" in capsys.readouterr().out
    assert main([*audit, "--roots", str(sealed / "roots.pem")]) == 0
    assert "1 timestamps by an authority" in capsys.readouterr().out


def test_what_is_served_is_sealed_while_it_runs(desk: Desk) -> None:
    said = desk.says("sre-1", "declare", "Agent mails customers", "--agent", "agent-7")
    assert said.code == 0, said.err
    end = time.monotonic() + 30
    while not (desk.folder / "ledger/checkpoint").exists():
        assert time.monotonic() < end, "nothing is sealed"
        time.sleep(0.1)
    audited = desk.reads("ledger", "verify", "--json")
    assert audited.code == 0, audited
    assert json.loads(audited.out)["streams"]["INC-1"] > 0
