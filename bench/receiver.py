"""What the bot's calls arrive at: a gateway for any agent, and a page receiver. It notes when each came.

One process of its own (`Receiver`), so that noting does not wait for whoever measures.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import httptools
import uvloop


@dataclass(frozen=True, slots=True)
class Call:
    """`at`: `time.monotonic()`, which is one clock for all processes of a machine. `wall`: `time.time()`."""

    at: float
    wall: float
    method: str
    path: str
    id: str  # its `webhook-id`


class Receiver:
    """`with Receiver() as receiver`: `url` takes calls until the end."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs,), daemon=True)

    def __enter__(self) -> Receiver:
        self._process.start()
        self.url = f"http://127.0.0.1:{self._pipe.recv()}"
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send("stop")
        self._process.join(5)

    def calls(self) -> list[Call]:
        """Everything that came since the last asking."""
        self._pipe.send("calls")
        return [Call(*fields) for fields in self._pipe.recv()]


class _Gateway(asyncio.Protocol):
    """The gateway contract, unsigned: it takes every mode, says so, and refuses every canary."""

    calls: list[tuple[float, float, str, str, str]]
    modes: dict[str, dict[str, Any]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._path, self._id, self._body = "", "", b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path, self._id, self._body = url.decode(), "", b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"webhook-id":
            self._id = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode()
        self.calls.append((time.monotonic(), time.time(), method, self._path, self._id))
        status, answer = self._answer(method)
        body = json.dumps(answer).encode()
        head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)  # type: ignore[attr-defined]  # it is a stream's

    def _answer(self, method: str) -> tuple[int, dict[str, Any]]:
        parts = self._path.split("/")
        if parts[:3] != ["", "v1", "agents"]:
            return 200, {}
        agent = parts[3]
        if method == "PUT":
            order = json.loads(self._body)
            self.modes[agent] = {key: order[key] for key in ("mode", "epoch", "nonce")} | {"instances": []}
        elif method == "POST":
            return 403, {"refused": True}
        return 200, self.modes.get(agent, {"mode": "active", "epoch": 0, "nonce": "", "instances": []})


def _run(pipe: Connection) -> None:
    uvloop.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    _Gateway.calls, _Gateway.modes = [], {}
    server = await loop.create_server(_Gateway, "127.0.0.1", 0, backlog=1024)
    pipe.send(server.sockets[0].getsockname()[1])
    stopped = asyncio.Event()

    def asked() -> None:
        if pipe.recv() == "stop":
            stopped.set()
            return
        calls, _Gateway.calls = _Gateway.calls, []
        pipe.send(calls)

    loop.add_reader(pipe.fileno(), asked)
    await stopped.wait()
    server.close()
