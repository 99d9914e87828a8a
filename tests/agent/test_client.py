"""The client against Firedoor's side of the contract: a bot that dies, an attacker in between, clocks that jump."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot.agent import Firedoor, Mode, Shadowed
from tests.agent.reference import INSTANCE, KEY, Headers, Reference

ROOT = Path(__file__).parents[2]


class Clock:
    """A steady clock that can be pushed forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def server() -> Iterator[Reference]:
    with Reference() as made:
        yield made


def agent(server: Reference, **options: Any) -> Firedoor:
    return Firedoor(server.url, INSTANCE, KEY, **options)


def eventually(fact: Callable[[], bool], seconds: float = 30.0) -> None:
    ends = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < ends, "it never became true"
        time.sleep(0.005)


def test_an_order_is_in_force_and_then_acknowledged(server: Reference) -> None:
    with agent(server) as made:
        first = server.acknowledged(1)
        assert made.mode is Mode.ACTIVE
        made.tool()(lambda: None)()
        epoch = server.order("shadow")
        second = server.acknowledged(epoch)
        assert made.mode is Mode.SHADOW
    assert (first["mode"], first["last_effect_seq"], first["nonce"]) == ("active", 0, "nonce-1")
    assert (second["mode"], second["last_effect_seq"]) == ("shadow", 1)
    assert {"agent", "instance", "epoch", "nonce", "mode", "last_effect_seq", "ts"} == second.keys()
    assert len(server.acks) == 2


def test_nothing_happens_before_start(server: Reference) -> None:
    made = agent(server)
    assert made.mode is Mode.SHADOW
    assert isinstance(made.tool()(lambda: 1)(), Shadowed)
    assert (server.polls, threading.active_count()) == (0, threading.active_count())


def test_an_ack_waits_for_the_effects_that_were_under_way(server: Reference) -> None:
    release, began = threading.Event(), threading.Event()
    with agent(server) as made:
        server.acknowledged(1)

        @made.tool(effects=True)
        def slow() -> None:
            began.set()
            release.wait(30)

        worker = threading.Thread(target=slow)
        worker.start()
        began.wait(30)
        epoch = server.order("shadow")
        eventually(lambda: made.mode is Mode.SHADOW)
        assert isinstance(slow(), Shadowed)  # in force, though not acknowledged
        assert [ack["epoch"] for ack in server.acks] == [1]
        release.set()
        assert server.acknowledged(epoch)["last_effect_seq"] == 1
        worker.join()


def test_an_effect_that_hangs_is_counted_and_holds_up_no_ack(server: Reference) -> None:
    release, began = threading.Event(), threading.Event()
    with agent(server, drain=0.1) as made:
        server.acknowledged(1)

        @made.tool(effects=True)
        def hang() -> None:
            began.set()
            release.wait(30)

        worker = threading.Thread(target=hang)
        worker.start()
        began.wait(30)
        ack = server.acknowledged(server.order("disabled"))
        assert (ack["mode"], ack["last_effect_seq"], made.gate.under_way) == ("disabled", 1, 1)
        release.set()
        worker.join()


def test_of_orders_that_overtake_each_other_the_last_is_acknowledged(server: Reference) -> None:
    release, began = threading.Event(), threading.Event()
    with agent(server) as made:
        server.acknowledged(1)

        @made.tool(effects=True)
        def slow() -> None:
            began.set()
            release.wait(30)

        worker = threading.Thread(target=slow)
        worker.start()
        began.wait(30)
        server.order("shadow")
        eventually(lambda: made.mode is Mode.SHADOW)
        last = server.order("disabled")
        eventually(lambda: made.mode is Mode.DISABLED)
        release.set()
        server.acknowledged(last)
        worker.join()
    assert [ack["epoch"] for ack in server.acks] == [1, last]


def test_a_bot_that_is_killed_leaves_the_lease_to_run_out_and_comes_back() -> None:
    clock = Clock()
    with Reference(on_loss="shadow") as server, agent(server, clock=clock) as made:
        server.acknowledged(1)
        server.stop()
        eventually(lambda: made.status.trouble != "")
        assert made.mode is Mode.ACTIVE  # the lease still runs
        clock.ahead += 46
        assert made.mode is Mode.SHADOW
        assert "has run out" in str(made.tool()(lambda: 1)())
        server.start()
        eventually(lambda: made.mode is Mode.ACTIVE)  # heard again, and ordered again: not by itself
        assert made.status.trouble == ""


def test_a_lease_that_is_renewed_does_not_run_out(server: Reference) -> None:
    """A minute on the agent's clock, under a lease of 45 s."""
    server.renew = 1.2
    clock = Clock()
    with agent(server, clock=clock) as made:
        server.acknowledged(1)
        for _ in range(3):
            clock.ahead += 20
            server.asked(server.polls + 2)
            assert made.mode is Mode.ACTIVE


@pytest.mark.parametrize(("on_loss", "then"), [("keep", Mode.ACTIVE), ("advisory", Mode.ADVISORY)])
def test_what_a_lost_lease_means_is_the_orders_word(on_loss: str, then: Mode) -> None:
    clock = Clock()
    with Reference(on_loss=on_loss) as server, agent(server, clock=clock) as made:
        server.acknowledged(1)
        server.stop()
        clock.ahead += 3600
        assert made.mode is then
        server.start()


def test_an_old_order_that_is_played_again_changes_nothing(server: Reference) -> None:
    kept: list[tuple[int, Headers, bytes]] = []

    def keep(*answer: Any) -> Any:
        kept.append(answer)
        return answer

    server.twist = keep
    with agent(server) as made:
        server.acknowledged(1)
        server.acknowledged(server.order("shadow"))
        server.twist = lambda *_: kept[0]  # signed by Firedoor, for another request
        polls = server.polls
        server.order("active")
        server.asked(polls + 3)
        assert made.mode is Mode.SHADOW
        assert "another request" in made.status.trouble


def test_an_older_epoch_is_refused_even_where_firedoor_itself_says_it(server: Reference) -> None:
    server.renew = 1.2
    with agent(server) as made:
        server.acknowledged(server.order("shadow", 9))
        server.order("active", 3)  # a backup was restored, say
        eventually(lambda: "older than epoch 9" in made.status.trouble)
        assert made.mode is Mode.SHADOW


@pytest.mark.parametrize("forgery", ["body", "signature", "unsigned", "stale", "garbage", "huge", "redirect", "other"])
def test_a_forged_answer_is_not_believed(forgery: str) -> None:
    with Reference(mode="shadow") as server:
        genuine = server.told

        def forged(status: int, headers: Headers, _: bytes) -> tuple[int, Headers, bytes]:
            free = json.dumps(genuine(mode="active", epoch=5)).encode()
            match forgery:
                case "body":
                    return status, headers, free
                case "signature":
                    return status, headers | {"webhook-signature": "v1,AAAA v1, x"}, free
                case "unsigned":
                    return status, {}, free
                case "stale":
                    late = str(int(headers["webhook-timestamp"]) - 400)
                    mark = server.mac(headers["webhook-id"], late, free)
                    return status, headers | {"webhook-timestamp": late, "webhook-signature": mark}, free
                case "garbage":
                    return status, headers, b"\x00" * 10
                case "huge":
                    return status, headers, b" " * 100_000
                case "redirect":
                    return 302, {"location": "http://127.0.0.1:1/"}, b""
                case _:
                    return server.signed(headers["webhook-id"], 200, genuine(instance="pod-2", mode="active", epoch=5))

        server.twist = forged
        with agent(server) as made:
            server.asked(2)
            eventually(lambda: made.status.trouble != "")
            assert (made.mode, made.status.epoch) == (Mode.SHADOW, None)
            server.twist = None
            assert server.acknowledged(1)["mode"] == "shadow"


def test_a_wall_clock_that_jumps_ends_in_shadow(server: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    with agent(server, clock=clock) as made:
        server.acknowledged(1)
        ahead = _Wall(3600)
        monkeypatch.setattr("bot.agent.link.time", ahead)
        server.order("active")
        eventually(lambda: "clocks" in made.status.trouble or "enrolled" in made.status.trouble)
        assert made.mode is Mode.ACTIVE  # nobody set the steady clock
        clock.ahead += 46
        assert made.mode is Mode.SHADOW


class _Wall:
    """The module `time` on a machine whose clock was set wrongly."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def time(self) -> float:
        return time.time() + self._ahead


def test_a_wrong_key_is_told_and_stays_in_shadow(server: Reference) -> None:
    with Firedoor(server.url, INSTANCE, KEY[:-4] + "AAA=") as made:
        eventually(lambda: "enrolled" in made.status.trouble)
        assert made.mode is Mode.SHADOW


def test_a_busy_bot_is_asked_again_no_sooner_than_it_said(server: Reference) -> None:
    server.twist = lambda *_: (429, {"retry-after": "25"}, b"{}")
    with agent(server) as made:
        eventually(lambda: "busy" in made.status.trouble)
        server.twist = None
        assert made.mode is Mode.SHADOW
        assert server.polls == 1


def test_an_ack_that_is_not_taken_is_sent_again(server: Reference) -> None:
    server.ack_answer = (500, {})
    with agent(server) as made:
        server.acknowledged(1)
        eventually(lambda: len(server.acks) >= 2)
        server.ack_answer = None
        eventually(lambda: made.status.acknowledged == 1)


def test_an_ack_that_was_overtaken_is_left_at_that(server: Reference) -> None:
    server.ack_answer = (409, {"epoch": 7})
    with agent(server) as made:
        eventually(lambda: made.status.acknowledged == 1)
        assert len(server.acks) == 1


def test_answers_that_come_at_once_are_not_asked_for_in_a_loop(server: Reference) -> None:
    """A server that ignores `wait`, or a lease that has no time left."""
    server.twist = lambda status, headers, _: server.signed(headers["webhook-id"], status, server.told(epoch=1))
    server.lease = 0.0
    with agent(server) as made:
        server.asked(3)
        begun, polls = time.monotonic(), server.polls
        eventually(lambda: time.monotonic() - begun > 0.5)
        assert server.polls - polls <= 5
        assert made.mode is Mode.SHADOW


def test_a_server_that_hangs_holds_up_neither_the_agent_nor_its_end() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as hung:
        made = Firedoor(f"http://127.0.0.1:{hung.getsockname()[1]}", INSTANCE, KEY).start()
        connection, _ = hung.accept()
        connection.recv(1)
        assert made.mode is Mode.SHADOW
        made.close()
        connection.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("firedoor-")]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that is the mistake
def test_a_forked_process_is_in_shadow_until_it_starts_by_itself(server: Reference) -> None:
    server.on_loss = "keep"
    with agent(server) as made:
        server.acknowledged(1)
        reading, writing = os.pipe()
        child = multiprocessing.get_context("fork").Process(target=_in_a_child, args=(made, writing))
        child.start()
        child.join(30)
        os.close(writing)
        with os.fdopen(reading) as said:
            assert said.read() == "shadow False"
        assert made.mode is Mode.ACTIVE


def _in_a_child(made: Firedoor, writing: int) -> None:
    os.write(writing, f"{made.mode} {made.tool()(lambda: 'ran')() == 'ran'}".encode())


def test_a_client_starts_once(server: Reference) -> None:
    with agent(server) as made, pytest.raises(RuntimeError, match="started before"):
        made.start()


def test_a_real_agent_goes_through_every_mode(tmp_path: Path) -> None:
    """A planner with tools, in a process without site-packages: what it did is counted in the files it leaves."""
    with Reference() as server, _agent_process(server, tmp_path) as process:
        server.acknowledged(1)
        eventually(lambda: len(_lines(tmp_path / "paid")) > 2)

        shadow = server.acknowledged(server.order("shadow"))
        paid, mailed = _lines(tmp_path / "paid"), _lines(tmp_path / "mailed")
        eventually(lambda: len(_lines(tmp_path / "shadowed")) > 4)
        assert (_lines(tmp_path / "paid"), _lines(tmp_path / "mailed")) == (paid, mailed)
        assert shadow["last_effect_seq"] == len(paid) + len(mailed)  # every effect there was is in the count

        server.acknowledged(server.order("disabled"))
        eventually(lambda: "mode disabled" in (_lines(tmp_path / "told") or [""])[-1])

        server.acknowledged(server.order("active"))
        eventually(lambda: len(_lines(tmp_path / "paid")) > len(paid))
        (tmp_path / "stop").touch()
        assert process.wait(30) == 0
    first = json.loads(_lines(tmp_path / "shadowed")[0])
    assert "not been heard yet" in first["why"] or first["epoch"] == 2


def test_a_real_agent_survives_a_bot_that_is_killed(tmp_path: Path) -> None:
    """With a lease of a few seconds: it stops paying by itself, and pays again when the bot is back."""
    with Reference(lease=2.5) as server, _agent_process(server, tmp_path) as process:
        server.acknowledged(1)
        eventually(lambda: len(_lines(tmp_path / "paid")) > 0)
        already = len(_lines(tmp_path / "shadowed"))
        server.stop()
        eventually(lambda: len(_lines(tmp_path / "shadowed")) > already)
        assert "run out" in _lines(tmp_path / "shadowed")[-1]
        paid = len(_lines(tmp_path / "paid"))
        server.start()
        eventually(lambda: len(_lines(tmp_path / "paid")) > paid)
        process.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def _agent_process(server: Reference, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-S", "-m", "tests.agent.loop", server.url, INSTANCE, KEY, str(folder)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def _lines(path: Path) -> list[str]:
    """Whole lines only: somebody is writing."""
    return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
