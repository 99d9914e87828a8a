"""Many that ask, in a process of their own on bare sockets: `python -m bench.pollers` reads what to send on stdin, says
`waiting` once everything is sent, and answers on stdout.

Without `seconds` each connection asks once, and may be made to wait for its answer; with them, again and again.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import httptools
import uvloop


@dataclass(frozen=True, slots=True)
class Polls:
    """`requests`: one connection each, the whole head."""

    port: int
    requests: Sequence[str]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Heard:
    """`at`: `time.time()` of each connection's last answer. `took`: seconds, first request to last answer."""

    at: Sequence[float]
    statuses: Mapping[str, int]
    took: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return sum(self.statuses.values()) / self.took


class Polling:
    """Polls on their way; once made, all of them are sent."""

    def __init__(self, polls: Polls) -> None:
        command = [sys.executable, "-m", "bench.pollers"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(polls)))
        self._process.stdin.close()
        if self._process.stdout.readline() != "waiting\n":
            raise RuntimeError("the pollers failed")

    def result(self) -> Heard:
        """Waits for the last answer. Raises RuntimeError where the pollers died."""
        assert self._process.stdout is not None
        with self._process:
            answer = self._process.stdout.read()
        if self._process.returncode:
            raise RuntimeError("the pollers failed")
        return Heard(**json.loads(answer))


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run, number: int) -> None:
        self._run, self._number = run, number
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self) -> None:
        self._transport.write(self._run.requests[self._number])  # type: ignore[attr-defined]  # it is a stream's

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        again = self._run.answered(self._number, self._parser.get_status_code())
        self._parser = httptools.HttpResponseParser(self)
        if again:
            self.send()

    def connection_lost(self, error: Exception | None) -> None:
        self._run.lost(error)


class _Run:
    def __init__(self, polls: Polls) -> None:
        self._polls = polls
        self.requests = [request.encode() for request in polls.requests]
        self._at = [0.0] * len(self.requests)
        self._left = len(self.requests)
        self._statuses: Counter[str] = Counter()
        self._ends = 0.0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def carry_out(self) -> Heard:
        loop = asyncio.get_running_loop()
        made = []
        for number in range(len(self.requests)):
            _, connection = await loop.create_connection(
                lambda n=number: _Connection(self, n), "127.0.0.1", self._polls.port
            )
            made.append(connection)
        began = time.time()
        self._ends = began + self._polls.seconds
        for connection in made:
            connection.send()
        print("waiting", flush=True)
        await self._done
        return Heard(self._at, dict(self._statuses), max(self._at) - began)

    def answered(self, number: int, status: int) -> bool:
        """Whether this connection asks again."""
        self._at[number] = now = time.time()
        self._statuses[str(status)] += 1
        if now < self._ends:
            return True
        self._left -= 1
        if not self._left:
            self._done.set_result(None)
        return False

    def lost(self, error: Exception | None) -> None:
        if self._left and not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed a connection"))


def main() -> None:
    polls = Polls(**json.load(sys.stdin))

    async def carry_out() -> Heard:
        return await _Run(polls).carry_out()

    heard = uvloop.run(carry_out())
    print(json.dumps(asdict(heard)))


if __name__ == "__main__":
    main()
