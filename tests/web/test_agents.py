"""The agents' API as instances meet it, as people enrol them, and as an intruder with one key tries it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from bot.adapters.signing import sign, verify
from bot.domain.agent import Mode
from bot.domain.events import AckRefused, Hold, HoldPlaced, ModeAcked
from bot.engine import switchboard
from bot.engine.engine import Engine
from bot.engine.switchboard import enroll, revoke
from bot.sandbox.clock import SimClock
from bot.store.entries import Entries
from bot.web.agents import LARGEST, QUESTIONS, RATE, STRANGERS, AgentsApi
from bot.web.doors import VERBS
from bot.web.http import TurnedAway, turned_away
from bot.web.openapi import document
from tests.web.desk import Desk

MODE = "/agents/v1/mode"
ACKS = "/agents/v1/acks"


@dataclass
class Pod:
    """One instance with its key, as any client would speak."""

    desk: Desk
    name: str
    key: str
    agent: str = "agent-7"
    asked: int = 0

    def headers(self, body: bytes = b"", key: str = "", at: datetime | None = None, who: str = "") -> dict[str, str]:
        self.asked += 1
        signed = sign([key or self.key], f"{self.name}-{self.asked}", at or self.desk.clock.now(), body)
        return {**signed, "firedoor-instance": who or f"{self.agent}/{self.name}"}

    def ask(self, since: int = 0, wait: str = "0", **how: Any) -> httpx.Response:
        headers = self.headers(**how)
        answer = self.desk.ask("GET", f"{MODE}?since={since}&wait={wait}", headers=headers)
        if answer.status_code != 401:
            verify([self.key], answer.headers, answer.content, self.desk.clock.now())
            assert answer.headers["webhook-id"] == headers["webhook-id"]
        return answer

    def order(self) -> dict[str, Any]:
        answer = self.ask()
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ack(self, order: Mapping[str, Any], key: str = "", **other: Any) -> httpx.Response:
        said = {
            "agent": self.agent,
            "instance": self.name,
            "last_effect_seq": 7,
            "ts": self.desk.clock.now().timestamp(),
        }
        body = json.dumps(said | {name: order[name] for name in ("epoch", "nonce", "mode")} | other).encode()
        return self.desk.ask("POST", ACKS, content=body, headers=self.headers(body, key))


def pod(desk: Desk, name: str = "pod-1", agent: str = "agent-7") -> Pod:
    serial = desk.engine.submit(enroll(agent, name, "sre-1", "test")).result()
    return Pod(desk, name, desk.bot.instance_keys.of(agent, name, serial), agent)


def order(desk: Desk, mode: Mode = Mode.SHADOW, epoch: int = 1, nonce: str = "n1") -> None:
    desk.engine.switchboard.order("agent-7", mode, epoch, nonce, "INC-1")


async def until_held(desk: Desk) -> None:
    while not desk.instances.waiting:  # noqa: ASYNC110 - the API tells nobody that it holds a question
        await asyncio.sleep(0.001)


def recorded(desk: Desk, kind: type) -> list[Any]:
    return [entry.event for entry in desk.engine.entries("instances:agent-7") if isinstance(entry.event, kind)]


# Orders -------------------------------------------------------------------------------------------------------------


def test_an_instance_learns_its_mode_and_has_a_lease(desk: Desk) -> None:
    one = pod(desk)
    assert one.order() | {"nonce": ""} == {
        "agent": "agent-7",
        "instance": "pod-1",
        "mode": "active",
        "epoch": 0,
        "nonce": "",
        "incident": None,
        "lease": {"until": "2026-01-05T10:00:45.000+00:00", "renew_after": "2026-01-05T10:00:15.000+00:00"},
        "on_lease_loss": "shadow",
        "issued_at": "2026-01-05T10:00:00.000+00:00",
    }
    order(desk, epoch=4, nonce="n4")
    told = one.order()
    assert (told["mode"], told["epoch"], told["nonce"], told["incident"]) == ("shadow", 4, "n4", "INC-1")


def test_a_held_question_is_answered_as_soon_as_something_is_ordered(desk: Desk) -> None:
    one = pod(desk)

    async def both() -> httpx.Response:
        transport = httpx.ASGITransport(desk.app)  # type: ignore[arg-type]  # httpx names its own message types
        async with httpx.AsyncClient(transport=transport, base_url="http://firedoor.test") as client:
            held = asyncio.ensure_future(client.get(f"{MODE}?since=0&wait=30", headers=one.headers()))
            await until_held(desk)
            assert not held.done()
            await asyncio.to_thread(order, desk)
            async with asyncio.timeout(30):
                return await held

    assert desk.runner.run(both()).json()["mode"] == "shadow"
    assert desk.instances.waiting == 0


def test_questions_held_end_with_the_process_and_with_the_instance(desk: Desk) -> None:
    one = pod(desk)

    async def held(end: Any) -> httpx.Response:
        transport = httpx.ASGITransport(desk.app)  # type: ignore[arg-type]  # as above
        async with httpx.AsyncClient(transport=transport, base_url="http://firedoor.test") as client:
            asked = asyncio.ensure_future(client.get(f"{MODE}?since=9&wait=30", headers=one.headers()))
            await until_held(desk)
            await asyncio.to_thread(end)
            async with asyncio.timeout(30):
                return await asked

    gone = desk.runner.run(held(lambda: desk.engine.submit(revoke("agent-7", "pod-1", "sre-1", "test")).result()))
    assert gone.status_code == 401
    one = pod(desk)
    assert desk.runner.run(held(desk.engine.switchboard.close)).json()["mode"] == "active"


# Acknowledgements -----------------------------------------------------------------------------------------------------


def test_an_ack_is_recorded_once_and_answered_alike(desk: Desk) -> None:
    one = pod(desk)
    order(desk)
    said = one.order()
    for _ in range(3):
        answer = one.ack(said)
        assert (answer.status_code, answer.json()) == (200, {"accepted": True, "epoch": 1, "mode": "shadow"})
    assert len(recorded(desk, ModeAcked)) == 1
    state = desk.engine.switchboard.acks("agent-7")
    assert state is not None
    assert [(i.instance, i.epoch, i.mode, i.last_effect_seq) for i in state.instances] == [("pod-1", 1, Mode.SHADOW, 7)]


def test_what_is_late_of_another_order_or_looser_is_not_taken(desk: Desk, clock: SimClock) -> None:
    one = pod(desk)
    order(desk, epoch=1, nonce="n1")
    first = one.order()
    order(desk, epoch=2, nonce="n2")
    late = one.ack(first)
    assert (late.status_code, late.json()["epoch"], late.json()["code"]) == (409, 2, "stale")
    now = one.order()
    clock.forward(seconds=1)
    assert one.ack(now, nonce="n1").status_code == 409
    assert one.ack(now, epoch=9).json()["code"] == "ahead"
    assert one.ack(now, mode="active").json()["code"] == "looser"
    assert one.ack(now, mode="disabled").status_code == 200
    assert {event.why for event in recorded(desk, AckRefused)} == {"nonce", "ahead", "looser"}


def test_a_replayed_ack_changes_nothing_and_is_late_after_the_next_order(desk: Desk) -> None:
    one = pod(desk)
    order(desk)
    said = one.order()
    body = json.dumps(
        {"agent": "agent-7", "instance": "pod-1", "last_effect_seq": 7, "ts": desk.clock.now().isoformat()}
        | {name: said[name] for name in ("epoch", "nonce", "mode")}
    ).encode()
    headers = one.headers(body)
    assert desk.ask("POST", ACKS, content=body, headers=headers).status_code == 200
    version = len(desk.engine.entries("instances:agent-7"))
    assert desk.ask("POST", ACKS, content=body, headers=headers).status_code == 200
    assert len(desk.engine.entries("instances:agent-7")) == version
    order(desk, epoch=2, nonce="n2")
    assert desk.ask("POST", ACKS, content=body, headers=headers).status_code == 409


def test_one_whose_effects_go_on_counts_as_not_heard(desk: Desk) -> None:
    one = pod(desk)
    order(desk)
    said = one.order()
    assert one.ack(said).status_code == 200
    assert one.ack(said, last_effect_seq=8).status_code == 200
    assert [event.why for event in recorded(desk, AckRefused)] == ["acts_on"]
    state = desk.engine.switchboard.acks("agent-7")
    assert state is not None
    assert state.instances[0].mode is Mode.ACTIVE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"[" * 3000,
        b'{"agent": "agent-7"}',
        b'{"agent": "agent-7", "instance": "pod-2", "epoch": 1, "nonce": "n1", "mode": "shadow", "last_effect_seq": 1}',
        b'{"agent": "agent-7", "instance": "pod-1", "epoch": true, "nonce": "n1", "mode": "shadow"}',
        b'{"agent": "agent-7", "instance": "pod-1", "epoch": 1, "nonce": "n1", "mode": "off", "last_effect_seq": 1}',
        b'{"agent": "agent-7", "instance": "pod-1", "epoch": 1e999, "nonce": "n1", "mode": "shadow"}',
        b'{"agent": "agent-7", "instance": "pod-1", "epoch": 1, "nonce": 5, "mode": "shadow", "last_effect_seq": 1}',
        b'{"agent": "agent-7", "instance": "pod-1", "epoch": 1, "nonce": "n", "mode": "shadow", "last_effect_seq": 1,'
        b' "ts": 1e300}',
        b'{"agent": "agent-7", "instance": "pod-1", "epoch": 1, "nonce": "n", "mode": "shadow", "last_effect_seq": 1,'
        b' "ts": "0001-01-01T00:00:00+23:00"}',
    ],
    ids=[
        "empty",
        "torn",
        "list",
        "deep",
        "bare",
        "of-another",
        "true",
        "no-mode",
        "infinite",
        "nonce-5",
        "late",
        "before",
    ],
)
def test_garbage_is_turned_away_with_a_signed_answer_and_no_entry(desk: Desk, body: bytes) -> None:
    one = pod(desk)
    order(desk)
    before = len(desk.engine.entries("instances:agent-7"))
    answer = desk.ask("POST", ACKS, content=body, headers=one.headers(body))
    assert answer.status_code in (400, 422)
    verify([one.key], answer.headers, answer.content, desk.clock.now())
    assert len(desk.engine.entries("instances:agent-7")) == before


@pytest.mark.parametrize("question", ["since=x", "since=-1", "since=1&wait=nan", "wait=1e9", "since=9999999999999999"])
def test_a_question_that_cannot_be_read(desk: Desk, question: str) -> None:
    one = pod(desk)
    assert desk.ask("GET", f"{MODE}?{question}", headers=one.headers()).status_code == 422


# Keys -----------------------------------------------------------------------------------------------------------------


def test_who_is_not_enrolled_learns_nothing_more(desk: Desk) -> None:
    one, other = pod(desk), pod(desk, "pod-2")
    stranger = "whsec_" + "QUFB" * 10
    past = desk.clock.now() - timedelta(minutes=6)
    refused = [
        one.ask(key=other.key),
        one.ask(key=stranger),
        one.ask(at=past),
        one.ask(who="agent-7/pod-9"),
        one.ask(who="agent-9/pod-1"),
        one.ask(who="agent-7"),
        one.ask(who="agent-7/../pod-1"),
        desk.ask("GET", MODE, headers={"firedoor-instance": "agent-7/pod-1"}),
        desk.ask("GET", MODE),
    ]
    assert {answer.status_code for answer in refused} == {401}
    assert len({answer.content for answer in refused}) == 1


def test_an_ack_with_another_instances_key_is_refused(desk: Desk) -> None:
    one, other = pod(desk), pod(desk, "pod-2")
    order(desk)
    assert one.ack(one.order(), key=other.key).status_code == 401
    assert recorded(desk, ModeAcked) == []


def test_a_revoked_key_is_void_at_once_and_a_new_enrolment_is_another_key(desk: Desk) -> None:
    one = pod(desk)
    again = pod(desk)
    assert again.key != one.key
    assert one.ask().status_code == 401
    assert again.ask().status_code == 200
    desk.engine.submit(revoke("agent-7", "pod-1", "sre-1", "test")).result()
    assert again.ask().status_code == 401
    assert desk.engine.switchboard.acks("agent-7") is None
    assert pod(desk).ask().status_code == 200


def test_a_key_opens_no_other_door(desk: Desk) -> None:
    one = pod(desk)
    incident = desk.opened()
    body = b"{}"
    doors = [
        ("POST", "/v1/incidents"),
        *(("POST", f"/v1/incidents/{incident}/{verb}") for verb in VERBS),
        ("POST", "/v1/alerts/siem"),
        ("POST", "/v1/agents/agent-7/instances/pod-2/enroll"),
        ("POST", "/v1/agents/agent-7/instances/pod-1/revoke"),
    ]
    before = desk.kept()
    for method, path in doors:
        headers = one.headers(body) | {"authorization": f"Bearer {one.key}", "content-type": "application/json"}
        answer = desk.ask(method, path, content=body, headers=headers)
        assert answer.status_code in (401, 422), (path, answer.status_code)
    assert desk.kept() == before


def test_too_many_requests_are_told_to_wait_and_nobody_else_is(desk: Desk) -> None:
    one, other = pod(desk), pod(desk, "pod-2")
    answers = [one.ask() for _ in range(RATE + 1)]
    assert [answer.status_code for answer in answers] == [200] * RATE + [429]
    assert answers[-1].headers["retry-after"] == "1"
    assert other.ask().status_code == 200


def test_a_body_that_is_too_large_is_not_read(desk: Desk) -> None:
    one = pod(desk)
    body = b" " * (LARGEST + 1)
    assert desk.ask("POST", ACKS, content=body, headers=one.headers(body)).status_code == 413


def test_wrong_methods_and_addresses(desk: Desk) -> None:
    assert desk.ask("POST", MODE).status_code == 405
    assert desk.ask("GET", ACKS).status_code == 405
    assert desk.ask("GET", "/agents/v1/elsewhere").status_code == 404


# Enrolment ------------------------------------------------------------------------------------------------------------


def test_a_person_enrols_and_the_key_is_shown_once(desk: Desk, clock: SimClock) -> None:
    path = "/v1/agents/agent-7/instances/pod-1"
    answer = desk.says("infra-owner-1", f"{path}/enroll")
    assert answer.status_code == 403, answer.text
    clock.forward(seconds=30)
    answer = desk.says("sre-1", f"{path}/enroll")
    assert answer.status_code == 200, answer.text
    key = answer.json()["key"]
    assert Pod(desk, "pod-1", key).ask().status_code == 200
    assert key.removeprefix("whsec_").encode() not in desk.bytes_on_disk()
    clock.forward(seconds=30)
    assert desk.says("sre-1", f"{path}/revoke").status_code == 200
    assert Pod(desk, "pod-1", key).ask().status_code == 401
    clock.forward(seconds=30)
    assert desk.says("sre-1", f"{path}/revoke").status_code == 404


def test_an_agent_that_is_not_ours_has_no_instances(desk: Desk, clock: SimClock) -> None:
    assert desk.says("sre-1", "/v1/agents/agent-99/instances/pod-1/enroll").status_code == 404
    clock.forward(seconds=30)
    assert desk.says("sre-1", "/v1/agents/agent-7/instances/..%2f/enroll").status_code in (404, 422)


def test_one_that_comes_while_its_agent_is_held_is_held_too(desk: Desk) -> None:
    params = {"agent": "agent-7", "mode": "shadow", "gateways": []}
    hold = Hold("INC-9", "shadow", "agent.set_mode", params, "instances", int(Mode.SHADOW), 30.0)
    desk.engine.submit(
        lambda responder: responder._append_target("agent:agent-7", HoldPlaced("agent:agent-7", hold, "0"))
    ).result()
    told = pod(desk).order()
    assert (told["mode"], told["epoch"], told["incident"]) == ("shadow", 1, "INC-9")


# The document ---------------------------------------------------------------------------------------------------------


def test_the_openapi_document_is_one_and_is_served(desk: Desk) -> None:
    validate(document())
    assert desk.ask("GET", "/agents/v1/openapi.json").json() == document()
    assert set(document()["paths"]) == {MODE, ACKS, "/agents/v1/enrol", "/agents/v1/openapi.json"}


def test_what_is_answered_is_what_the_document_says(desk: Desk) -> None:
    one = pod(desk)
    order(desk)
    schemas = document()["components"]["schemas"]
    assert set(one.order()) == set(schemas["Order"]["required"])
    said = one.order()
    assert set(one.ack(said).json()) == set(schemas["Accepted"]["required"])
    assert set(one.ack(said, epoch=0).json()) == set(schemas["Overtaken"]["required"])


# After a restart ------------------------------------------------------------------------------------------------------


def test_after_a_restart_many_at_once_are_known_and_each_entry_is_read_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than STRANGERS of them; and the order that follows loads nothing in the writer."""
    pods = [pod(desk, f"pod-{n}") for n in range(2 * STRANGERS)]
    read: list[str] = []
    verified = Entries._verified

    def counted(self: Entries, stream: str, *rest: Any) -> Any:
        read.append(stream)
        return verified(self, stream, *rest)

    monkeypatch.setattr(Entries, "_verified", counted)
    engine = Engine(desk.bot.store, desk.engine.world, threads=False)
    api = AgentsApi(engine, desk.bot.instance_keys)

    async def asked(one: Pod) -> int:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await (await api.answer(scope, receive)).send(send)
            except TurnedAway as error:
                await turned_away(error).send(send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://firedoor.test") as client:
            return (await client.get(MODE, headers=one.headers())).status_code

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*map(asked, pods))

    assert set(desk.runner.run(all_at_once())) == {200}
    engine.switchboard.order("agent-7", Mode.SHADOW, 1, "n", "INC-1")
    engine.submit(revoke("agent-7", "pod-0", "sre-1", "cli")).result()
    assert read.count("instances:agent-7") == len(pods)


def test_instances_are_read_at_a_start_up_to_a_bound(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    pod(desk)
    for n in range(3):
        pod(desk, f"pod-{n}", "agent-9")
    monkeypatch.setattr(switchboard, "AT_START", 3)
    board = Engine(desk.bot.store, desk.engine.world, threads=False).switchboard
    board.read_all(("agent-7", "agent-9"), lambda: True)
    assert board.remembered("agent-7") is None, "the process stops already"
    board.read_all(("agent-7", "agent-9"), lambda: False)
    assert board.remembered("agent-7") is not None
    assert board.remembered("agent-9") is None, "it is read when it is asked for"
    assert len(board.read("agent-9").enrolled) == 3


def test_strangers_that_use_up_the_looks_lock_nobody_out(desk: Desk) -> None:
    """One that a peer enrolled is known by the next look that this process takes anyway."""
    one = pod(desk)
    while desk.instances._strangers.take(time.monotonic()):
        assert one.ask(who="agent-7/pod-99").status_code == 401
    two = pod(desk, "pod-2")
    assert (one.ask().status_code, two.ask().status_code) == (200, 200)
    assert one.ask(who="agent-7/pod-99").status_code == 401


def test_a_fifth_question_of_one_instance_is_not_held(desk: Desk) -> None:
    one = pod(desk)

    async def story() -> tuple[int, int, list[int]]:
        async def ask(client: httpx.AsyncClient, wait: int) -> httpx.Response:
            return await client.get(f"{MODE}?since=0&wait={wait}", headers=one.headers())

        transport = httpx.ASGITransport(desk.app)  # type: ignore[arg-type]  # httpx names its own message types
        async with httpx.AsyncClient(transport=transport, base_url="http://firedoor.test") as client:
            held = [asyncio.ensure_future(ask(client, 30)) for _ in range(QUESTIONS)]
            while desk.instances.waiting < QUESTIONS:  # noqa: ASYNC110 - the API tells nobody that it holds a question
                await asyncio.sleep(0.001)
            fifth = await ask(client, 30)
            order(desk)
            return fifth.status_code, int(fifth.headers["retry-after"]), [(await each).status_code for each in held]

    assert desk.runner.run(story()) == (429, 5, [200] * QUESTIONS)
    assert desk.instances.waiting == 0
