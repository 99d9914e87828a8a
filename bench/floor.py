"""The least that the same thing costs here: a bare server, a bare commit, and both together.

`python -m bench.floor PORT [URL]` serves `/bare`, which answers at once, and with a database `/keep`, which answers
after the body was committed: whatever came meanwhile goes into one transaction.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import uvicorn

from bench.company import free_port


class Raw:
    """A table of bodies on a database of either kind, written by the driver alone, as durably as the record is."""

    def __init__(self, url: str) -> None:
        self._is_sqlite = url.startswith("sqlite")
        table = "CREATE TABLE IF NOT EXISTS floor (id INTEGER PRIMARY KEY, body BLOB)"
        if self._is_sqlite:
            path = Path(url.removeprefix("sqlite:///")).with_suffix(".floor")
            self._raw: Any = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._raw.execute("PRAGMA journal_mode = WAL")
            self._raw.execute("PRAGMA synchronous = FULL")
        else:
            self._raw = psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True)
            table = table.replace("INTEGER", "BIGSERIAL").replace("BLOB", "BYTEA")
        self._raw.execute(table)

    def commit(self, bodies: list[bytes]) -> None:
        self._raw.execute("BEGIN")
        if self._is_sqlite:
            self._raw.executemany("INSERT INTO floor (body) VALUES (?)", [(body,) for body in bodies])
        else:
            self._raw.execute("INSERT INTO floor (body) SELECT unnest(%s::bytea[])", (bodies,))
        self._raw.execute("COMMIT")

    def close(self) -> None:
        self._raw.close()


def commits(url: str, times: int, each: int = 1, size: int = 700) -> list[float]:
    """`each` commits of one row after one another, `times` times; how long each time took, in seconds."""
    raw, body, taken = Raw(url), [b"x" * size], []
    for _ in range(times):
        start = time.perf_counter()
        for _ in range(each):
            raw.commit(body)
        taken.append(time.perf_counter() - start)
    raw.close()
    return taken


@contextmanager
def bare_server(url: str = "") -> Iterator[int]:
    """The floor's server in a process of its own; its port."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "bench.floor", str(port), url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield port
        finally:
            process.terminate()


class _Keeper:
    """Group commit in its barest form."""

    def __init__(self, url: str) -> None:
        self._raw = Raw(url)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._lock = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    async def keep(self, body: bytes) -> None:
        self._loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = self._loop.create_future()
        with self._lock:
            self._waiting.append((body, kept))
            self._lock.notify()
        await kept

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._waiting:
                    self._lock.wait()
                batch, self._waiting = self._waiting, []
            self._raw.commit([body for body, _ in batch])
            self._loop.call_soon_threadsafe(_answer, [kept for _, kept in batch])


def _answer(kept: list[asyncio.Future[None]]) -> None:
    for one in kept:
        one.set_result(None)


def _application(keeper: _Keeper | None) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        if keeper is not None and scope["path"] == "/keep":
            await keeper.keep(message["body"])
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


class _Announced(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        print("ready", flush=True)


def main() -> None:
    port, url = int(sys.argv[1]), sys.argv[2]
    app = _application(_Keeper(url) if url else None)
    config = uvicorn.Config(
        app, port=port, http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False
    )
    _Announced(config).run()


if __name__ == "__main__":
    main()
