"""The one writer of this process: takes whatever is queued as one transaction, urgent jobs first.

Batches form by themselves: while one commits, the next queues up. A job that is refused fails alone; a conflict with
another replica undoes the batch, and its jobs are tried again one by one on freshly loaded state.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from bot.engine.crash import point
from bot.engine.intake import Delivery, foresee
from bot.engine.responder import Effects, Known, Responder
from bot.engine.world import World
from bot.errors import Conflict, FiredoorError, Refused, Unavailable
from bot.store import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
Job = Callable[[Responder], Any]

BATCH = 256
TRIES = 8  # of one job against other writers
KNOWN = 4_000  # streams kept folded


@dataclass(slots=True)
class Queued:
    job: Job
    future: Future[Any]
    done: Callable[[list[tuple[Future[Any], Any]]], None] | None


Given = tuple[Queued, Any, BaseException | None]  # a job, its value, or why there is none


class Writer:
    """`effects` is called after each commit with what the commit left to do. `read_before`: streams that were read
    outside of the writer, so that nobody waits here for the whole of a long one."""

    def __init__(
        self,
        store: Store,
        world: World,
        effects: Callable[[Effects], None],
        read_before: Callable[[str], Known | None] = lambda _: None,
    ) -> None:
        self._store, self._world, self._effects, self._read_before = store, world, effects, read_before
        self.watch: Callable[[int, Effects], None] | None = None  # of each commit: how many jobs, what they did
        self.hear: Callable[[BaseException], None] = lambda _: None  # of jobs that failed
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._lock = threading.Condition()
        self._urgent: deque[Queued] = deque()
        self._ordinary: deque[Queued] = deque()
        self._thread: threading.Thread | None = None
        self._stopping = self._ended = False

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Writes what is queued, then ends."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread:
            self._thread.join()

    def submit(
        self,
        job: Callable[[Responder], T],
        *,
        urgent: bool = True,
        done: Callable[[list[tuple[Future[Any], Any]]], None] | None = None,
    ) -> Future[T]:
        """Queues a job. Without a thread (drills, tests) it is carried out at once. `done` gets all answers of a batch
        that share it in one call, in the writer's thread, instead of each future being resolved there."""
        queued = Queued(job, Future(), done)
        if self._thread is None:
            self._commit([queued])
            return queued.future
        with self._lock:
            ended = self._ended
            if not ended:
                (self._urgent if urgent else self._ordinary).append(queued)
                self._lock.notify()
        if ended:
            self._fail([queued], Unavailable("writer", "this process is stopping"))
        return cast("Future[T]", queued.future)

    @property
    def alive(self) -> bool:
        """Something takes the jobs: the thread, or without one the caller's own."""
        return self._thread is None or self._thread.is_alive()

    @property
    def waiting(self) -> int:
        return len(self._urgent) + len(self._ordinary)

    def known(self, stream: str) -> Known | None:
        """A stream as last committed here. Another replica may be ahead: the append's version check decides."""
        return self._known.get(stream)

    def _run(self) -> None:
        while True:
            with self._lock:
                while not self._urgent and not self._ordinary:
                    if self._stopping:
                        self._ended = True
                        return
                    self._lock.wait()
                batch = [self._urgent.popleft() for _ in range(min(BATCH, len(self._urgent)))]
                batch += [self._ordinary.popleft() for _ in range(min(BATCH - len(batch), len(self._ordinary)))]
            if wanted := [queued for queued in batch if queued.future.set_running_or_notify_cancel()]:
                self._commit(wanted)

    def _commit(self, batch: list[Queued]) -> None:
        """As one transaction; where that fails through no fault of all, each job in its own."""
        try:
            responder, answers = self._transact(batch)
        except Unavailable as error:  # the database is away: nobody is served by asking it again at once
            self._fail(batch, error)
        except Exception as error:  # a bug must reach whoever asked, and nobody else; the writer itself goes on
            if len(batch) == 1 and not isinstance(error, Conflict):
                self._fail(batch, error)
                return
            for queued in batch:
                self._alone(queued)
        else:
            self._committed(responder, answers)

    def _alone(self, queued: Queued) -> None:
        last: Exception = Conflict("no try")
        for _ in range(TRIES):
            self._known.clear()
            try:
                responder, answers = self._transact([queued])
            except Conflict as conflict:
                last = conflict
            except Exception as error:  # as above
                last = error
                break
            else:
                self._committed(responder, answers)
                return
        self._fail([queued], last)

    def _fail(self, batch: list[Queued], error: BaseException) -> None:
        self._known.clear()
        self._answer([(queued, None, error) for queued in batch if not queued.future.done()])

    def _transact(self, batch: list[Queued]) -> tuple[Responder, list[Given]]:
        answers: list[Given] = []
        with self._store.transaction() as tx:
            responder = Responder(tx, self._world, self._known.get, read_before=self._read_before)
            foresee(responder, [queued.job for queued in batch if isinstance(queued.job, Delivery)])
            for queued in batch:
                writes = responder.writes
                try:
                    answers.append((queued, queued.job(responder), None))
                except Conflict:
                    raise
                except FiredoorError as error:
                    kept = isinstance(error, Refused) and error.keep
                    if responder.writes != writes and not kept:
                        raise  # half of this job is in the transaction: undo it all
                    if isinstance(error, Refused) and not kept and responder.overtaken():
                        raise Conflict(f"refused on what another replica has overtaken: {error}") from error
                    answers.append((queued, None, error))
            point("before-commit")
        point("after-commit")
        return responder, answers

    def _committed(self, responder: Responder, answers: list[Given]) -> None:
        for stream, known in responder.touched.items():
            self._known[stream] = known
            self._known.move_to_end(stream)
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)
        try:
            self._effects(responder.effects)
            if self.watch:
                self.watch(len(answers), responder.effects)
        except Exception:  # it is committed: whoever asked must hear that, and nobody may try it again
            log.exception("what follows a commit failed; decisions left lying come free with their lease")
        self._answer(answers)

    def _answer(self, answers: list[Given]) -> None:
        grouped: dict[Callable[..., None], list[tuple[Future[Any], Any]]] = {}
        for queued, value, error in answers:
            if error:
                self.hear(error)
            if queued.done:
                grouped.setdefault(queued.done, []).append((queued.future, error or value))
            elif error:
                queued.future.set_exception(error)
            else:
                queued.future.set_result(value)
        for done, group in grouped.items():
            done(group)
