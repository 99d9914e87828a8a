"""`firedoor serve` as a process: one line when ready, a graceful end, one clear line where it cannot start."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bot.config import EXAMPLE
from tests.cli.conftest import Firedoor, edit


def test_serve_says_when_it_is_ready_and_ends_gracefully(live: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bot", "serve", "--config", str(live), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        ready = re.fullmatch(
            r"firedoor is ready at (http://127\.0\.0\.1:\d+) \(example, 2 agents, 4 playbooks\)\n", line
        )
        assert ready, line + (process.stderr.read() if process.stderr else "")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert httpx.get(ready[1] + path, trust_env=False).status_code == 200
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert "of-this-test" not in err


def test_a_sandbox_is_served_with_its_page_and_its_own_siem(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "bot", "serve", "--sandbox", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            said = [process.stdout.readline() for _ in range(3)]
            page = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/#([0-9a-f]{32})\n", said[2])
            assert "firedoor is ready at http://127.0.0.1:" in said[0]
            assert "SANDBOX, not Slack" in said[1]
            assert page, said
            _use(page[1], page[2])
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert "Traceback" not in err


def _use(url: str, secret: str) -> None:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"}, trust_env=False) as workspace:
        assert "text/html" in workspace.get("/").headers["content-type"]
        shelf = workspace.post("/sandbox/extras/alerts", json={}).json()["alerts"]
        assert {alert["name"] for alert in shelf} == {path.stem for path in (EXAMPLE / "drills").glob("*.yaml")}
        told = []
        for name in ("dropped-table", "dropped-table", "unknown-alert", "leaked-key"):
            sent = workspace.post("/sandbox/extras/alert", json={"name": name}).json()
            told += [(alert["status"], alert["incident"]) for alert in sent["alerts"]]
        assert told == [("opened", "INC-1"), ("repeated", "INC-1"), ("opened", "INC-2"), ("opened", "INC-3")]
        code = workspace.post("/sandbox/extras/code", json={"user": "U0SRE1"}).json()
        assert re.fullmatch(r"\d{6}", code["code"])


def test_only_live_is_served(firedoor: Firedoor, folder: Path) -> None:
    for mode in ("sandbox", "tabletop"):
        edit(folder / "firedoor.yaml", lambda body, mode=mode: body.update(mode=mode))  # type: ignore[misc]  # a default
        served = firedoor("serve", "--config", folder)
        assert served.code == 3
        assert "firedoor drill" in served.err
        assert served.err.count("\n") == 1


def test_a_secret_that_a_source_needs_is_missing(
    firedoor: Firedoor, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIREDOOR_SIEM_SECRET")
    served = firedoor("serve", "--config", live)
    assert served.code == 3
    assert served.err.splitlines()[-1].startswith("firedoor: env:FIREDOOR_SIEM_SECRET: the environment variable is not")


def test_all_the_secrets_that_a_start_needs_are_named_at_once(
    firedoor: Firedoor, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIREDOOR_SIEM_SECRET", "FIREDOOR_OPA_TOKEN", "FIREDOOR_TOTP_SRE_1"):
        monkeypatch.delenv(name)
    (live / "keys/salt.key").unlink()
    served = firedoor("serve", "--config", live)
    assert served.code == 3
    first, *others = served.err.splitlines()
    assert first.startswith("firedoor: file:")
    assert first.endswith("It is for keys.salt.")
    unset = "the environment variable is not set. Set it where the bot starts. It is for sources."
    assert others == [  # and not the TOTP seed: nobody needs that one to start
        f"firedoor: env:FIREDOOR_OPA_TOKEN: {unset}policy_engine.secrets.0.",
        f"firedoor: env:FIREDOOR_SIEM_SECRET: {unset}siem.secrets.0.",
    ]


def test_a_port_that_is_taken(firedoor: Firedoor, live: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = firedoor("serve", "--config", live, "--port", port)
    assert served.code == 3
    assert f"cannot listen on 127.0.0.1:{port}" in served.err
    assert firedoor("serve", "--config", live, "--port", 70_000).code == 2


def test_a_drill_is_played_from_here(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    played = firedoor("drill", "--config", folder, "--out", tmp_path / "out")
    assert played.code == 0, played.err
    assert "Every target was met." in played.out
    assert (tmp_path / "out/report.html").exists()
    unknown = firedoor("drill", "dropped-tabel", "--config", folder)
    assert unknown.code == 2
    assert "dropped-table" in unknown.err
