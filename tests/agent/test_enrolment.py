"""A pod's way to its key: against the bot's own door, and against answers that Firedoor would not give."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bot.adapters.clock import SystemClock
from bot.agent import Firedoor, Mode, NotEnrolled, enrol
from bot.sandbox.kubernetes import SimCluster
from bot.web.server import Server
from tests.web.test_pods import housed

FOUND = {"agent": "agent-7", "instance": "pod-1", "serial": 1, "key": "whsec_QUFB"}


@contextmanager
def answering(*answers: tuple[int, object]) -> Iterator[tuple[str, list[bytes]]]:
    """One answer each, in turn, the last for ever; and the bodies that were sent."""
    left, bodies = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            status, said = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(json.dumps(said).encode())

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("a.b.c\n")
    return file


def test_a_pod_enrols_itself_and_is_under_firedoor_from_then_on(tmp_path: Path) -> None:
    clock = SystemClock()
    sim = SimCluster(clock)
    with housed(tmp_path, clock, sim, sim) as house:
        server = Server(house.desk.app)
        url, file, keep = server.start(), tmp_path / "token", tmp_path / "kept"
        try:
            file.write_text(house.token())
            enrolled = enrol(url, "agent-7", token_file=file, keep=keep)
            assert keep.stat().st_mode & 0o777 == 0o600
            with Firedoor(url, *enrolled) as agent:
                assert agent.wait_for_order()
                assert agent.mode is Mode.ACTIVE
            assert (
                enrol(url, "agent-7", token_file="/no/such/file", keep=keep) == enrolled
            )  # the container's next start
            with pytest.raises(NotEnrolled, match="was enrolled before") as refused:
                enrol(url, "agent-7", token_file=file)
            assert refused.value.code == "enrolled_before"
        finally:
            house.desk.engine.switchboard.close()
            server.stop()


def test_firedoor_is_waited_for_and_a_refusal_is_final(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.agent.enrolment.AGAIN", 0.001)
    with answering((503, {}), (429, {"code": "too_many"}), (200, FOUND)) as (url, bodies):
        assert enrol(url, "agent-7", token_file=token) == ("agent-7/pod-1", "whsec_QUFB")
    assert bodies == [b'{"agent": "agent-7", "token": "a.b.c"}'] * 3
    no = {"code": "not_authentic", "message": "no"}
    with answering((401, no)) as (url, bodies), pytest.raises(NotEnrolled, match="no") as refused:
        enrol(url, "agent-7", token_file=token)
    assert (refused.value.code, len(bodies)) == ("not_authentic", 1)


@pytest.mark.parametrize("answer", [(307, {}), (200, {"key": "k"}), (200, ["key"]), (500, "x")])
def test_what_is_no_answer_of_firedoor_is_no_key(token: Path, answer: tuple[int, object], tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    with answering(answer) as (url, _), pytest.raises(NotEnrolled):
        enrol(url, "agent-7", token_file=token, keep=keep, patience=0)
    assert keep.read_text() == ""


def test_what_is_written_wrongly_and_where_nothing_can_be_kept(token: Path, tmp_path: Path) -> None:
    for url in ("http://firedoor.example.com", "firedoor.example.com", "ftp://127.0.0.1"):
        with pytest.raises(ValueError, match="https"):
            enrol(url, "agent-7", token_file=token)
    with answering((200, FOUND)) as (url, bodies):
        with pytest.raises(NotEnrolled, match="cannot be kept"):
            enrol(url, "agent-7", token_file=token, keep=tmp_path / "no" / "folder")
        with pytest.raises(NotEnrolled, match="no token can be read"):
            enrol(url, "agent-7", token_file=tmp_path / "none")
        assert bodies == [], "a key that could not be kept is not asked for"
