"""Two replicas on PostgreSQL: what one orders, the other's instances hear; what is said to one, the other knows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.signing import sign
from bot.domain.agent import Mode
from bot.engine.engine import Engine
from bot.engine.switchboard import enroll, revoke
from bot.errors import Unavailable
from bot.web.agents import AgentsApi, InstanceKeys
from bot.web.http import TurnedAway, turned_away
from tests.engine.desk import Desk

pytestmark = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
KEYS = InstanceKeys(bytes(32))


class Replica:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.api = AgentsApi(engine, KEYS)
        self.asked = 0

    async def ask(self, method: str, path: str, body: bytes = b"") -> httpx.Response:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                answer = await self.api.answer(scope, receive)
            except TurnedAway as error:
                answer = turned_away(error)
            await answer.send(send)

        self.asked += 1
        now = SystemClock().now()
        headers = sign([KEYS.of("agent-7", "pod-1", 1)], f"{id(self)}-{self.asked}", now, body)
        headers["firedoor-instance"] = "agent-7/pod-1"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://firedoor.test") as client:
            async with asyncio.timeout(60):
                return await client.request(method, path, content=body, headers=headers)


@pytest.fixture
def replicas(store_url: str) -> Any:
    one = Desk(store_url, threads=True)
    two = one.peer("r-2")
    with one.serving(), two.serving():
        one.engine.submit(enroll("agent-7", "pod-1", "sre-1", "cli")).result(30)
        yield Replica(one.engine), Replica(two.engine)
    one.stop()
    two.stop()


def test_what_a_peer_orders_wakes_who_waits_here_and_an_ack_here_is_known_there(replicas: Any) -> None:
    here, there = replicas

    async def story() -> tuple[httpx.Response, httpx.Response]:
        assert (await here.ask("GET", "/agents/v1/mode?since=0&wait=0")).json()["mode"] == "active"
        held = asyncio.ensure_future(here.ask("GET", "/agents/v1/mode?since=0&wait=30"))
        while not here.api.waiting:  # noqa: ASYNC110 - the API tells nobody that it holds a question
            await asyncio.sleep(0.001)
        await asyncio.to_thread(there.engine.switchboard.order, "agent-7", Mode.SHADOW, 1, "n", "INC-1")
        told = await held
        order = told.json()
        body = json.dumps(
            {"agent": "agent-7", "instance": "pod-1", "last_effect_seq": 1, "ts": 0}
            | {name: order[name] for name in ("epoch", "nonce", "mode")}
        ).encode()
        # Twice, and the second time at the other replica, as after a crash between commit and answer.
        assert (await here.ask("POST", "/agents/v1/acks", body)).status_code == 200
        return told, await there.ask("POST", "/agents/v1/acks", body)

    told, again = asyncio.run(story())
    assert (told.json()["mode"], again.status_code) == ("shadow", 200)
    state = there.engine.switchboard.acks("agent-7")
    assert [(one.epoch, one.mode) for one in state.instances] == [(1, Mode.SHADOW)]
    assert sum(type(e.event).__name__ == "ModeAcked" for e in there.engine.entries("instances:agent-7")) == 1


def test_a_key_that_a_peer_revoked_is_void_here(replicas: Any) -> None:
    here, there = replicas

    async def story() -> int:
        assert (await here.ask("GET", "/agents/v1/mode")).status_code == 200
        await asyncio.to_thread(lambda: there.engine.submit(revoke("agent-7", "pod-1", "sre-1", "cli")).result(30))
        async with asyncio.timeout(30):
            while (last := await here.ask("GET", "/agents/v1/mode")).status_code != 401:  # noqa: ASYNC110 - it polls
                await asyncio.sleep(0.3)  # under what one instance may ask a second
        return last.status_code

    assert asyncio.run(story()) == 401


def test_without_the_store_leases_are_renewed_from_memory_for_a_while_only(
    replicas: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here, _ = replicas
    now = [1000.0]
    here.api._monotonic = lambda: now[0]

    def away() -> None:
        raise Unavailable("store", f"not there ({tmp_path.name})")

    async def story() -> list[int]:
        statuses = [(await here.ask("GET", "/agents/v1/mode")).status_code]
        monkeypatch.setattr(here.engine.switchboard, "refresh", away)
        for later in (5.0, 20.0):
            now[0] += later
            statuses.append((await here.ask("GET", "/agents/v1/mode")).status_code)
        return statuses

    assert asyncio.run(story()) == [200, 200, 503]
