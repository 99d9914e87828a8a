"""Alerts, sent from a process of its own over keep-alive HTTP/1.1 on bare sockets: `python -m bench.load` reads what to
send on stdin and answers on stdout.

Paced, an alert's time starts when it was due to be sent, not when a connection became free for it: a server that makes
senders wait is not let off. Without a rate, each connection sends its next alert when the one before was answered.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import httptools
import uvloop

from bench.company import BEARER, SOURCE, TYPE


@dataclass(frozen=True, slots=True)
class Load:
    """`count` alerts to `port`, about `agents` in turn. `news` distinct ones: 0 is all of them, 1 the same again and
    again. `rate` a second, or as fast as `connections` allow. `name` keeps the alerts of two loads apart."""

    port: int
    count: int
    agents: Sequence[str]
    name: str = "storm"
    news: int = 0
    rate: float = 0.0
    connections: int = 64
    path: str = f"/v1/alerts/{SOURCE}"
    method: str = "POST"

    def bodies(self) -> Iterator[bytes]:
        """About 700 bytes each."""
        now = datetime.now(UTC).isoformat()
        for n in range(self.count):
            news = n % self.news if self.news else n
            yield json.dumps(
                _alert(f"{self.name}-{n}", f"{self.name}-{news}", self.agents[news % len(self.agents)], now)
            ).encode()


@dataclass(frozen=True, slots=True)
class Sent:
    """`sent` and `answered`: `time.monotonic()` of each alert, in the order of sending (of due times, if paced)."""

    sent: Sequence[float]
    answered: Sequence[float]
    statuses: Mapping[str, int]

    @property
    def waits(self) -> list[float]:
        return [b - a for a, b in zip(self.sent, self.answered, strict=True)]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.sent) / (max(self.answered) - min(self.sent))


class Sending:
    """A load on its way, in a process of its own."""

    def __init__(self, load: Load) -> None:
        command = [sys.executable, "-m", "bench.load"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(load)))
        self._process.stdin.close()

    def result(self) -> Sent:
        """Waits for the last answer. Raises RuntimeError where the load died."""
        assert self._process.stdout is not None
        with self._process:
            answer = self._process.stdout.read()
        if self._process.returncode:
            raise RuntimeError("the load generator failed")
        return Sent(**json.loads(answer))


def send(load: Load) -> Sent:
    return Sending(load).result()


def _alert(uid: str, news: str, agent: str, now: str) -> dict[str, object]:
    return {
        "id": uid,
        "rule": {"id": f"prod-change/{news}", "name": "Production change outside of the approved plan"},
        "severity": "high",
        "timestamp": now,
        "agent": {"id": agent},
        "types": [TYPE],
        "message": "The agent changed a production table that its approved plan does not name. The statement was sent "
        "by its own session from its usual network; nobody had asked for a change window, and no person approved it. "
        "Rows written: 1841. Session opened 4 minutes before. Seen by the audit log of the database.",
        "resources": [{"id": f"arn:aws:rds:eu-central-1:123456789012:db:{news}", "type": "AWS::RDS::DBInstance"}],
        "labels": {"env": "prod", "team": "platform", "region": "eu-central-1"},
    }


class _Connection(asyncio.Protocol):
    """Sends one request at a time and tells the run when it is answered."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._number = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)

    def send(self, number: int, request: bytes) -> None:
        self._number = number
        self._transport.write(request)  # type: ignore[attr-defined]  # it is a stream's

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._run.answered(self, self._number, self._parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        self._run.lost(error)


class _Run:
    def __init__(self, load: Load) -> None:
        self._load = load
        host = (
            f"{load.method} {load.path} HTTP/1.1\r\nhost: 127.0.0.1:{load.port}\r\nauthorization: Bearer {BEARER}\r\n"
        )
        head = f"{host}content-type: application/json\r\ncontent-length: "
        self._requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in load.bodies()]
        self._sent = [0.0] * load.count
        self._answered = [0.0] * load.count
        self._statuses: Counter[str] = Counter()
        self._free: deque[_Connection] = deque()
        self._next = 0
        self._due = 0 if load.rate else load.count  # how many may have been sent by now
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def carry_out(self) -> Sent:
        loop = asyncio.get_running_loop()
        for _ in range(min(self._load.connections, self._load.count)):
            _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._load.port)
            self._free.append(connection)
        if self._load.rate:
            await self._pace()
        else:
            self._fill(time.monotonic())
        await self._done
        return Sent(self._sent, self._answered, dict(self._statuses))

    async def _pace(self) -> None:
        start = time.monotonic()
        for n in range(self._load.count):
            self._sent[n] = start + n / self._load.rate
        while self._due < self._load.count:
            now = time.monotonic()
            self._due = min(self._load.count, int((now - start) * self._load.rate) + 1)
            self._fill(now)
            await asyncio.sleep(0.001)

    def _fill(self, now: float) -> None:
        while self._free and self._next < self._due:
            number, self._next = self._next, self._next + 1
            if not self._load.rate:
                self._sent[number] = now
            self._free.popleft().send(number, self._requests[number])

    def answered(self, connection: _Connection, number: int, status: int) -> None:
        now = time.monotonic()
        self._answered[number] = now
        self._statuses[str(status)] += 1
        self._free.append(connection)
        if self._statuses.total() == self._load.count:
            self._done.set_result(None)
        else:
            self._fill(now)

    def lost(self, error: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed a connection"))


def main() -> None:
    sent = uvloop.run(_carry_out(Load(**json.load(sys.stdin))))
    json.dump(asdict(sent), sys.stdout)


async def _carry_out(load: Load) -> Sent:
    return await _Run(load).carry_out()


if __name__ == "__main__":
    main()
