"""The real server on loopback, the engine with all its threads."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bot.adapters.clock import SystemClock
from bot.errors import ConfigError
from bot.web.server import Server, serve
from tests.web.desk import Desk, finding, make_desk


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = make_desk(tmp_path_factory.mktemp("live") / "firedoor.db", SystemClock(), threads=True)
    desk.engine.start()
    yield desk
    desk.engine.stop()
    desk.stop()


@pytest.fixture(scope="module")
def url(live: Desk) -> Iterator[str]:
    server = Server(live.app)
    yield server.start()
    server.stop()


def test_a_storm_of_alerts_is_answered_alert_by_alert(live: Desk, url: str):
    alerts = [finding(live.clock, id=f"storm-{n}", rule={"id": f"rule-{n % 3}", "name": "x"}) for n in range(200)]

    async def storm() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=30, limits=httpx.Limits(max_connections=32)) as client:
            return await asyncio.gather(*(client.post("/v1/alerts/siem", **_signed(live, one)) for one in alerts))

    answers = asyncio.run(storm())
    assert {answer.status_code for answer in answers} == {202}
    receipts = [answer.json()["alerts"][0] for answer in answers]
    assert len({receipt["id"] for receipt in receipts}) == 200
    statuses = [receipt["status"] for receipt in receipts]
    assert [statuses.count(status) for status in ("opened", "attached", "repeated")] == [1, 2, 197]
    with live.engine.store.reading() as tx:
        assert len(tx.alerts(receipts[0]["incident"])) == 200


def test_people_health_and_pages_answer_over_the_wire(live: Desk, url: str):
    with httpx.Client(base_url=url) as client:
        assert client.get("/readyz").json() == {"ready": True, "reasons": [], "degraded": []}
        assert "firedoor_store_up 1.0" in client.get("/metrics").text
        said = {"person": "sre-1", "code": live.code(), "title": "Seen by a person"}
        declared = client.post("/v1/incidents", json=said)
        assert declared.status_code == 200, declared.text
        link = live.links.url(declared.json()["incident"], "sre-2").replace(live.bot.config.settings.public_url, url)
        assert "<button" in client.get(link).text
        assert "You acknowledged" in client.post(link).text
        head = client.head(link)
        assert (head.status_code, head.content, "server" in head.headers) == (200, b"", False)


def test_ten_megabytes_are_turned_away_and_the_connection_lives(live: Desk, url: str):
    with httpx.Client(base_url=url) as client:
        for _ in range(2):
            answer = client.post("/v1/alerts/falco", content=b" " * 10_000_000, headers=live.signed("falco", b""))
            assert answer.status_code == 413
        assert client.get("/healthz").status_code == 200


def test_who_hangs_up_in_the_middle_of_a_body_leaves_nothing_behind(live: Desk, url: str):
    before = live.kept()
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(b"POST /v1/alerts/siem HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert live.kept() == before


def test_a_websocket_and_nonsense_are_refused(url: str):
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
    assert httpx.get(f"{url}/healthz", headers=headers).status_code in (200, 400, 426)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as caller:
        caller.sendall(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
        assert b"400" in caller.recv(200)


def test_an_address_that_is_taken_is_said_with_what_to_do(live: Desk, url: str):
    host, port = url.removeprefix("http://").split(":")
    with pytest.raises(ConfigError, match="Choose another port"):
        serve(live.app, host, int(port))


SERVED = """
import asyncio, sys
from bot.web.server import serve

async def app(scope, receive, send):
    print("asked", flush=True)
    await asyncio.sleep(0.5)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})

print("serving", flush=True)
serve(app, "127.0.0.1", int(sys.argv[1]))
print("handed over", flush=True)
"""


def test_a_stop_lets_answers_finish_and_comes_back_to_whoever_served():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SERVED, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as child:
        assert child.stdout
        assert child.stdout.readline() == "serving\n"
        with _asking(port) as asked:
            assert child.stdout.readline() == "asked\n"
            child.send_signal(signal.SIGTERM)
            assert b"".join(iter(lambda: asked.recv(4096), b"")).endswith(b"done")
        assert child.stdout.readline() == "handed over\n"
        assert child.wait(10) == 0


def _asking(port: int) -> socket.socket:
    tick = threading.Event()
    for _ in range(500):
        try:
            caller = socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            tick.wait(0.02)
            continue
        caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return caller
    raise AssertionError("it does not serve")


def _signed(live: Desk, payload: dict[str, object]) -> dict[str, object]:
    body = json.dumps(payload).encode()
    return {"content": body, "headers": live.signed("siem", body)}
