"""How soon a thousand agents learn of a switch, and how often OPA may ask for the modes.

A switch: instances of one agent each hold a long poll open at one bot. An alert about the agent makes its playbook set
it to shadow, and each instance is timed from the commit of the hold to its answer, signed with its own key. The bot has
just started: nobody asked it anything before. Floor: as many long polls at a bare server that lets all of them go at
one POST.

Bundles: OPAs that know the bundle ask again, and are told 304. Floor: a bare server that answers at once.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bench.company import Company, free_port
from bench.figures import Row, Spread, Target
from bench.floor import bare_server
from bench.load import Load, send
from bench.pollers import Heard, Polling, Polls
from bench.receiver import Receiver
from bench.serving import fresh, rows, serving, until
from bot import wiring
from bot.adapters import signing
from bot.engine import switchboard

AGENT = "fleet"
TOKEN = "bundle-token-for-the-bench"
WITHIN = 1_000.0  # ms: what was promised for a thousand
SETTLED = 1.0  # seconds for all polls to be held before the switch


def measure(kind: str, server: str, *, agents: int = 1_000, seconds: float = 5.0) -> list[Row]:
    _many_files(2 * agents + 200)
    with tempfile.TemporaryDirectory() as name, Receiver() as receiver:
        folder = Path(name)
        store = fresh(kind, folder, server)
        company = Company.found(folder / "company", store, receiver.url, [AGENT, "other"])
        _add_bundles(company.folder)
        keys = _enrol(company, agents)
        with serving(company):
            told = _switch(company, store, keys)
            fetched = _bundles(company, seconds)
    with _bare_long_poll() as port:
        bare = _bare_switch(port, agents)
    with bare_server() as port:
        static = _ask(port, "/bare", "", seconds)
    target = Target("worst", told.worst, WITHIN * max(1.0, agents / 1_000), "ms")
    return [
        Row(f"hold to {agents:,} agents told, {kind}", str(told), str(bare), told.p99 / bare.p99, (target,)),
        Row(
            f"OPA bundle polls, not modified, {kind}",
            f"{fetched.rate:,.0f}/s",
            f"{static.rate:,.0f}/s",
            fetched.rate / static.rate,
            (Target("304s", fetched.rate, 1_000, "/s", at_least=True),),
        ),
    ]


# A switch ------------------------------------------------------------------------------------------------------------


def _enrol(company: Company, agents: int) -> dict[str, str]:
    """Before the bot serves: each instance with its key."""
    os.environ.update(company.env)
    bot = wiring.build(company.folder)
    keys = {}
    for n in range(agents):
        instance = f"pod-{n}"
        serial = bot.engine.submit(switchboard.enroll(AGENT, instance, "sre-1", "cli")).result()
        keys[instance] = bot.instance_keys.of(AGENT, instance, serial)
    bot.store.close()
    return keys


def _switch(company: Company, store: str, keys: dict[str, str]) -> Spread:
    polling = Polling(Polls(company.port, [_signed_poll(company.port, *one) for one in keys.items()]))
    time.sleep(SETTLED)
    if set(send(Load(company.port, 1, [AGENT], "switch")).statuses) != {"202"}:
        raise RuntimeError("the alert was not taken")
    heard = polling.result()
    if set(heard.statuses) != {"200"}:
        raise RuntimeError(f"not every agent was told: {heard.statuses}")
    committed = _hold(store)
    return Spread.of([at - committed for at in heard.at])


def _hold(store: str) -> float:
    """When the hold was committed at the latest: the time in its entry is from just before. Unix seconds."""
    sql = f"SELECT at FROM entries WHERE stream = 'agent:{AGENT}' AND type = 'HoldPlaced'"
    until(lambda: bool(rows(store, sql)), "the hold is recorded")
    return float(rows(store, sql)[0][0]) / 1_000_000


def _signed_poll(port: int, instance: str, key: str) -> str:
    signed = signing.sign([key], f"bench-{instance}", datetime.now(UTC), b"")
    headers = {"host": f"127.0.0.1:{port}", "firedoor-instance": f"{AGENT}/{instance}", **signed}
    return _head("/agents/v1/mode?since=0&wait=30", headers)


def _head(path: str, headers: dict[str, str]) -> str:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n"


def _bare_switch(port: int, agents: int) -> Spread:
    polling = Polling(Polls(port, [_head("/wait", {"host": f"127.0.0.1:{port}"})] * agents))
    time.sleep(SETTLED)
    began = time.time()
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/switch", b"")).close()
    return Spread.of([at - began for at in polling.result().at])


@contextmanager
def _bare_long_poll() -> Iterator[int]:
    """A server in a process of its own that holds GETs until a POST."""
    port = free_port()
    process = get_context("spawn").Process(target=_serve_bare, args=(port,), daemon=True)
    process.start()
    try:
        until(lambda: _answers(f"http://127.0.0.1:{port}/switch"), "the floor's server answers")
        yield port
    finally:
        process.terminate()
        process.join()


def _answers(url: str) -> bool:
    try:
        return httpx.post(url).status_code == 200
    except httpx.TransportError:
        return False


def _serve_bare(port: int) -> None:
    waiting: set[asyncio.Future[None]] = set()

    async def app(scope: Any, receive: Any, send: Callable[..., Any]) -> None:
        await receive()
        if scope["method"] == "POST":
            for one in waiting:
                one.set_result(None)
            waiting.clear()
        else:
            mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting.add(mine)
            await mine
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    uvicorn.run(
        app, port=port, http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False, backlog=4096
    )


# Bundles -------------------------------------------------------------------------------------------------------------


def _add_bundles(folder: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "keys/bundles.pem").write_bytes(pem)
    (folder / "keys/bundles.token").write_text(TOKEN)
    path = folder / "firedoor.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["bundles"] = {"key": "file:keys/bundles.pem", "token": "file:keys/bundles.token"}
    path.write_text(yaml.dump(settings, sort_keys=False))


def _bundles(company: Company, seconds: float) -> Heard:
    url = f"{company.url}/bundles/agents"
    etag = httpx.get(url, headers={"authorization": f"Bearer {TOKEN}"}).headers["etag"]
    heard = _ask(company.port, "/bundles/agents", etag, seconds)
    if heard.statuses.keys() - {"200"} != {"304"}:  # 200 where its time of validity went on meanwhile
        raise RuntimeError(f"not all were told that nothing changed: {heard.statuses}")
    return heard


def _ask(port: int, path: str, etag: str, seconds: float) -> Heard:
    headers = {"host": f"127.0.0.1:{port}", "authorization": f"Bearer {TOKEN}", "if-none-match": etag or '"none"'}
    return Polling(Polls(port, [_head(path, headers)] * 16, seconds)).result()


def _many_files(wanted: int) -> None:
    """A socket is a file, and many systems allow a thousand."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    if soft < min(wanted, most):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most), hard))
