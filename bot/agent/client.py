"""The client that an agent holds: it listens for orders, acknowledges them, and guards the agent's tools."""

from __future__ import annotations

import logging
import os
import random
import ssl
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast

from bot.agent import signature
from bot.agent.journal import Record, recorder
from bot.agent.link import Away, Link
from bot.agent.signature import Untrusted
from bot.agent.standing import Mode, Order, read_order
from bot.agent.tools import Gate, InShadow, Tool, guarded

log = logging.getLogger("firedoor.agent")

F = TypeVar("F", bound=Callable[..., Any])
LONGEST_WAIT = 30.0  # seconds of one long poll
PATIENCE = 10.0  # seconds beyond it
AGAIN = (0.25, 5.0)  # seconds between tries, at first and at most


@dataclass(frozen=True, slots=True)
class Status:
    """`trouble`: why the last try to hear Firedoor failed, or ''. `lease_left` in seconds, 0 when there is none."""

    mode: Mode
    why: str
    epoch: int | None
    acknowledged: int | None
    lease_left: float
    trouble: str


def steady() -> float:
    """Seconds on a clock that nobody sets, and that goes on while the machine sleeps, where the system has one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Firedoor:
    """`with Firedoor("https://firedoor.example.com", "agent-7/pod-1", key) as agent:`, or `start()` and `close()`.

    Until the first order, whenever it cannot know, and after `close()`, the mode is `shadow`. Nothing happens before
    `start()`: no thread, no connection. In a process that was forked off the mode is `shadow` until it says `start()`
    again, with an instance of its own.

    `record`: a function or a file (JSON lines) for the side effects that were not carried out; the log by default.
    `in_shadow`: what a tool with side effects does then: `value` returns a Shadowed, `raise` raises Refused.
    `drain`: how many seconds an acknowledgement waits for side effects that began before the order; those that still
    run then are counted in `last_effect_seq`.
    """

    def __init__(
        self,
        url: str,
        instance: str,
        key: str,
        *,
        record: Record | str | os.PathLike[str] | None = None,
        in_shadow: InShadow = "value",
        drain: float = 10.0,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = steady,
    ) -> None:
        """`instance` is AGENT/INSTANCE. Raises ValueError for what is written wrongly."""
        self.agent, _, self.instance = instance.partition("/")
        if not self.agent or not self.instance:
            raise ValueError(f"{instance!r} is not AGENT/INSTANCE")
        if in_shadow not in ("value", "raise"):
            raise ValueError(f"in_shadow is 'value' or 'raise', not {in_shadow!r}")
        secret = signature.key_bytes(key)
        self.gate, self.record = Gate(clock), recorder(record)
        self._link = partial(Link, url, instance, secret, tls)
        self._links = self._link(), self._link()  # a thread each
        self._in_shadow, self._drain, self._clock = in_shadow, drain, clock
        self._stopping = threading.Event()
        self._threads: tuple[threading.Thread, ...] = ()
        self._acknowledged: int | None = None
        self._trouble = ""

    def start(self) -> Firedoor:
        """Begins to listen; does not wait. Raises RuntimeError when it was started already."""
        if self._threads:
            raise RuntimeError("this client was started before: make another one")
        self._threads = tuple(
            threading.Thread(target=run, name=name, daemon=True)
            for run, name in ((self._listen, "firedoor-orders"), (self._answer, "firedoor-acks"))
        )
        _after_fork(self)
        for thread in self._threads:
            thread.start()
        return self

    def close(self) -> None:
        """From here on the mode is `shadow`, or `disabled` where that was ordered."""
        self._stopping.set()
        self.gate.change(lambda standing: replace(standing, watched=False))
        for link in self._links:
            link.interrupt()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(PATIENCE)

    def __enter__(self) -> Firedoor:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def mode(self) -> Mode:
        """What is in force now."""
        return self.gate.mode

    @property
    def status(self) -> Status:
        now, standing = self._clock(), self.gate.standing
        order = standing.order
        left = max(0.0, standing.until - now) if order else 0.0
        epoch = order.epoch if order else None
        return Status(standing.mode(now), standing.why(now), epoch, self._acknowledged, left, self._trouble)

    def wait_for_order(self, seconds: float = 30.0) -> bool:
        """Until the first order is in force; False when none came in time."""
        return self.gate.wait(lambda: self.gate.standing.order is not None, seconds)

    def tool(
        self, *, effects: bool = True, in_shadow: InShadow | None = None, name: str | None = None
    ) -> Callable[[F], F]:
        """Guards a function or coroutine function.

        With `effects` it runs in `active` only; in `shadow` the call is recorded, in `advisory` recorded and refused.
        `effects=False` says that it only reads: it goes on in every mode but `disabled`, which raises Disabled for all.
        """

        def guard(function: F) -> F:
            named = name or str(getattr(function, "__qualname__", type(function).__qualname__))
            return cast(F, guarded(Tool(self, function, named, effects, in_shadow or self._in_shadow)))

        return guard

    # Listening ------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        pause = Pause(self._stopping)
        try:
            while not self._stopping.is_set():
                try:
                    news = self._hear()
                except (Away, Untrusted) as error:
                    if self._stopping.is_set():
                        return
                    self._say(str(error))
                    pause.take(error.retry_after if isinstance(error, Away) else None)
                else:
                    self._say("")
                    pause.reset() if news else pause.take(None)
        finally:  # whatever ends this thread: nobody listens any more
            self.gate.change(lambda standing: replace(standing, watched=False))
            self._links[0].close()

    def _hear(self) -> bool:
        """One long poll. The lease counts from before it was asked for: it may only be too short. False where the
        answer was neither news nor waited for: then the next question must wait by itself."""
        order = self.gate.standing.order
        wait = _wait(order, self.gate.standing.until - self._clock()) if order else 0.0
        asked_at = self._clock()
        since = order.epoch if order else 0
        path = f"/agents/v1/mode?since={since}&wait={wait:.3f}"
        reply = self._links[0].ask("GET", path, patience=wait + PATIENCE)
        if reply.status != 200:
            raise Away(f"Firedoor answered {reply.status} to the question for the mode")
        told = read_order(reply.body, self.agent, self.instance, reply.at)
        self.gate.change(lambda standing: standing.told(told, asked_at))
        if not order or order.epoch != told.epoch:
            log.info("mode %s, epoch %d", told.mode, told.epoch)
            return True
        return self._clock() - asked_at >= wait / 2 > 0

    # Acknowledging --------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        pause = Pause(self._stopping)
        while not self._stopping.is_set():
            self.gate.wait(lambda: self._stopping.is_set() or self._owed() is not None, 60.0)
            order = self._owed()
            if order is None or not self._drained(order):
                continue
            try:
                self._acknowledge(order)
            except (Away, Untrusted) as error:
                if self._stopping.is_set():
                    break
                log.warning("epoch %d is not acknowledged yet: %s", order.epoch, error)
                pause.take(error.retry_after if isinstance(error, Away) else None)
            else:
                pause.reset()
        self._links[1].close()

    def _owed(self) -> Order | None:
        """The order that is in force and was not acknowledged. While its lease is lost something else is."""
        order = self.gate.standing.order
        owed = order is not None and order.epoch != self._acknowledged and self.gate.mode is order.mode
        return order if owed else None

    def _drained(self, order: Order) -> bool:
        """Waits for the side effects that an older order let begin. False when a newer order came meanwhile."""
        if order.mode is not Mode.ACTIVE:
            self.gate.wait(lambda: not self.gate.under_way or self._newer(order), self._drain)
        return not self._newer(order) and not self._stopping.is_set()

    def _newer(self, order: Order) -> bool:
        held = self.gate.standing.order
        return self._stopping.is_set() or held is None or held.epoch != order.epoch

    def _acknowledge(self, order: Order) -> None:
        if under_way := self.gate.under_way if order.mode is not Mode.ACTIVE else 0:
            log.warning("%d side effects that began before epoch %d still run", under_way, order.epoch)
        body = {
            "agent": self.agent,
            "instance": self.instance,
            "epoch": order.epoch,
            "nonce": order.nonce,
            "mode": str(order.mode),
            "last_effect_seq": self.gate.last_effect_seq,
            "ts": int(time.time()),
        }
        reply = self._links[1].ask("POST", "/agents/v1/acks", body, patience=PATIENCE)
        # 409: something newer is ordered, which the long poll brings; this one needs no answer any more.
        self._acknowledged = order.epoch
        if reply.status == 409:
            log.info("epoch %d was overtaken before it was acknowledged", order.epoch)

    def _say(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble

    def _forked(self) -> None:
        """In a child process: the threads stayed behind, and a lock may be held by one of them for ever."""
        self.gate.reset()
        self._stopping, self._threads, self._acknowledged = threading.Event(), (), None
        self._links = self._link(), self._link()


class Pause:
    """Between tries: doubling, never in step with the other instances, and never shorter than what was asked for."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping, self._next = stopping, AGAIN[0]

    def reset(self) -> None:
        self._next = AGAIN[0]

    def take(self, asked: float | None) -> None:
        self._stopping.wait(max(min(asked or 0.0, LONGEST_WAIT), self._next * random.uniform(0.5, 1.0)))
        self._next = min(AGAIN[1], self._next * 2)


def _wait(order: Order, left: float) -> float:
    """A third of the lease at most, so that two polls in a row may fail; nothing where it is nearly over."""
    return 0.0 if left <= 0 else max(0.0, round(min(LONGEST_WAIT, order.renew, order.lease / 3), 3))


def _after_fork(client: Firedoor) -> None:
    held = weakref.ref(client)

    def forked() -> None:
        if alive := held():
            alive._forked()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forked)
