"""What a guarded tool does in each mode."""

from __future__ import annotations

import asyncio
import functools
import json
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.agent import Disabled, Firedoor, Mode, Refused, Shadowed
from bot.agent.standing import Order, Standing
from tests.agent.reference import INSTANCE, KEY

NOWHERE = "http://127.0.0.1:9"


def order(mode: str, epoch: int = 1, *, lease: float = 45.0, on_loss: Mode | None = Mode.SHADOW) -> Order:
    return Order(Mode[mode.upper()], epoch, f"nonce-{epoch}", "INC-7", lease, lease / 3, on_loss)


def client(mode: str | None, **options: Any) -> Firedoor:
    """One that was told a mode without any network. Its clock stands at 100 s."""
    made = Firedoor(NOWHERE, INSTANCE, KEY, **{"clock": lambda: 100.0, **options})
    if mode:
        made.gate.change(lambda standing: standing.told(order(mode), 100.0))
    return made


def tools(agent: Firedoor) -> tuple[Any, Any, list[Any]]:
    done: list[Any] = []

    @agent.tool(effects=True)
    def pay(to: str, amount: int = 1) -> str:
        done.append((to, amount))
        return "paid"

    @agent.tool(effects=False)
    def look(at: str) -> str:
        return f"saw {at}"

    return pay, look, done


def test_active_runs_and_counts() -> None:
    agent = client("active")
    pay, look, done = tools(agent)
    assert (pay("bob"), pay("eve", amount=3), look("x")) == ("paid", "paid", "saw x")
    assert done == [("bob", 1), ("eve", 3)]
    assert agent.gate.last_effect_seq == 2
    assert agent.gate.under_way == 0


def test_before_any_order_it_is_shadow() -> None:
    recorded: list[Mapping[str, Any]] = []
    agent = client(None, record=recorded.append)
    pay, look, done = tools(agent)
    answer = pay("bob")
    assert isinstance(answer, Shadowed)
    assert not answer
    assert "not been heard yet" in str(answer)
    assert look("x") == "saw x"
    assert done == []
    assert recorded[0]["arguments"] == {"to": "bob"}
    assert recorded[0]["epoch"] is None


def test_shadow_records_and_answers_what_a_model_can_read(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    agent = client("shadow", record=file)
    pay, look, done = tools(agent)
    answer = pay("bob", amount=object())
    assert isinstance(answer, Shadowed)
    assert "epoch 1 for INC-7" in str(answer)
    assert look("x") == "saw x"
    assert done == []
    assert agent.gate.last_effect_seq == 0
    line = json.loads(file.read_text())
    assert (line["agent"], line["instance"], line["mode"], line["epoch"]) == ("agent-7", "pod-1", "shadow", 1)
    assert line["arguments"]["amount"].startswith("<object")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_huge_argument_is_cut_in_the_record(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    pay, *_ = tools(client("shadow", record=file))
    pay("x" * 1_000_000)
    assert len(file.read_text()) < 40_000
    assert json.loads(file.read_text())["arguments"]["to"].endswith("...")


def test_a_tool_in_shadow_may_raise_instead() -> None:
    agent = client("shadow", in_shadow="raise")
    pay, _, done = tools(agent)
    with pytest.raises(Refused, match="in mode shadow"):
        pay("bob")
    mild = agent.tool(in_shadow="value")(lambda: done.append(1))
    assert isinstance(mild(), Shadowed)
    assert done == []


def test_advisory_refuses_and_says_why() -> None:
    recorded: list[Mapping[str, Any]] = []
    pay, look, done = tools(client("advisory", record=recorded.append))
    with pytest.raises(Refused, match="pay was not carried out: this agent is in mode advisory, since Fire"):
        pay("bob")
    assert look("x") == "saw x"
    assert done == []
    assert len(recorded) == 1


def test_disabled_stops_everything() -> None:
    pay, look, done = tools(client("disabled"))
    for call in (lambda: pay("bob"), lambda: look("x")):
        with pytest.raises(Disabled):
            call()
    assert done == []


def test_a_tool_that_does_not_say_has_effects() -> None:
    assert isinstance(client("shadow").tool()(lambda: 1)(), Shadowed)


def test_a_record_that_cannot_be_kept_carries_nothing_out(tmp_path: Path) -> None:
    pay, _, done = tools(client("shadow", record=tmp_path / "missing" / "calls.jsonl"))
    with pytest.raises(FileNotFoundError):
        pay("bob")
    assert done == []


def test_coroutines_are_guarded_when_they_run_not_when_they_are_made() -> None:
    agent = client("active")
    done: list[str] = []

    @agent.tool(effects=True)
    async def send(to: str) -> str:
        await asyncio.sleep(0)
        done.append(to)
        return "sent"

    async def story() -> tuple[Any, Any]:
        first, second = await send("bob"), send("eve")
        agent.gate.change(lambda standing: standing.told(order("shadow", 2), 100.0))
        return first, await second

    first, second = asyncio.run(story())
    assert first == "sent"
    assert isinstance(second, Shadowed)
    assert done == ["bob"]
    assert agent.gate.last_effect_seq == 1


def test_a_cancelled_coroutine_is_not_under_way_for_ever() -> None:
    agent = client("active")

    @agent.tool(effects=True)
    async def hang() -> None:
        await asyncio.sleep(60)

    async def story() -> None:
        task = asyncio.create_task(hang())
        await asyncio.sleep(0)
        assert agent.gate.under_way == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert agent.gate.under_way == 0


def test_effects_that_no_gate_would_see_are_refused() -> None:
    agent = client("active")

    def stream() -> Iterator[int]:
        yield 1

    async def late() -> None:
        """Hidden behind a function that is not async."""

    with pytest.raises(TypeError, match="generator"):
        agent.tool()(stream)
    with pytest.raises(TypeError, match="awaitable"):
        agent.tool(name="late")(lambda: late())()
    with pytest.raises(TypeError, match="classmethod"):
        agent.tool()(classmethod(late))  # type: ignore[arg-type]  # that is the mistake
    assert agent.gate.under_way == 0


def test_partials_methods_and_callable_objects_are_tools_too() -> None:
    agent = client("active")

    class Box:
        @agent.tool()
        def put(self, thing: str) -> str:
            return f"put {thing}"

    class Asynchronous:
        async def __call__(self, thing: str) -> str:
            return f"called {thing}"

    async def add(a: int, b: int) -> int:
        return a + b

    assert Box().put("x") == "put x"
    assert asyncio.run(agent.tool()(Asynchronous())("x")) == "called x"
    assert asyncio.run(agent.tool()(functools.partial(add, 1))(2)) == 3


def test_a_tool_that_fails_is_not_under_way_for_ever() -> None:
    agent = client("active")
    with pytest.raises(ZeroDivisionError):
        agent.tool()(lambda: 1 // 0)()
    assert agent.gate.under_way == 0


def test_no_effect_begins_after_the_switch_whatever_the_threads_do() -> None:
    """Each effect writes down the mode's epoch that it saw at its end; none may begin after the switch returned."""
    agent = client("active")
    switched = threading.Event()
    late: list[int] = []
    begun = threading.Barrier(5)

    @agent.tool(effects=True)
    def act(after: bool) -> None:
        if after:
            late.append(1)

    def work() -> None:
        begun.wait()
        for _ in range(2000):
            act(switched.is_set())

    threads = [threading.Thread(target=work) for _ in range(4)]
    agent.record = lambda _: None
    for thread in threads:
        thread.start()
    begun.wait()
    agent.gate.change(lambda standing: standing.told(order("shadow", 2), 100.0))
    switched.set()
    for thread in threads:
        thread.join()
    assert late == []


def test_after_closing_it_is_never_looser_than_shadow() -> None:
    for mode, then in (("active", Mode.SHADOW), ("disabled", Mode.DISABLED)):
        agent = client(mode)
        agent.close()
        assert agent.mode is then
    kept = Standing(order("active", on_loss=None), 0.0)
    assert kept.mode(100.0) is Mode.ACTIVE
    assert replace(kept, watched=False).mode(100.0) is Mode.SHADOW


def test_mistakes_are_told_at_once() -> None:
    for instance in ("agent-7", "/pod", "agent-7/"):
        with pytest.raises(ValueError, match="AGENT/INSTANCE"):
            Firedoor(NOWHERE, instance, KEY)
    for key in ("secret", "whsec_", "whsec_!!"):
        with pytest.raises(ValueError, match="enroll"):
            Firedoor(NOWHERE, INSTANCE, key)
    for url in ("ftp://x", "firedoor.example.com", "https://user:pass@x", "https://x/?q=1"):
        with pytest.raises(ValueError, match="address"):
            Firedoor(url, INSTANCE, KEY)
    with pytest.raises(ValueError, match="in_shadow"):
        Firedoor(NOWHERE, INSTANCE, KEY, in_shadow="pass")  # type: ignore[arg-type]  # that is the mistake
