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
            r"firedoor is ready at (http://127\.0\.0\.1:\d+) \(example, 2 agents, 3 playbooks\)\n", line
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
