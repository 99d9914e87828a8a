"""Is this process alive, is it ready to serve, and what has it counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from bot.engine.engine import Engine
from bot.errors import FiredoorError
from bot.web.http import Answer, as_json
from bot.web.metrics import Metrics

T = TypeVar("T")
PATIENCE = 2.0  # seconds for the store to answer a probe
SCRAPE = 8.0  # seconds; Prometheus gives up after ten


class Health:
    """`faults` are those of parts beside the engine (queues, Slack): only a restart mends them. `troubles` mend
    themselves, and another replica would have them too: the process stays ready, and says so."""

    def __init__(
        self,
        engine: Engine,
        metrics: Metrics,
        faults: Callable[[], tuple[str, ...]] = tuple,
        troubles: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self._engine, self._faults, self._troubles = engine, faults, troubles
        # Its own threads: a probe that hangs on the store must not take one from those who have work to do.
        pool = ThreadPoolExecutor(2, thread_name_prefix="health")
        self._store = _Question(pool, engine.store.database_now, PATIENCE)
        self._counted = _Question(pool, metrics.exposition, SCRAPE)

    def alive(self) -> Answer:
        return as_json(200, {"alive": True})

    async def ready(self) -> Answer:
        """503 with the reasons, one a line an operator can act on; what is degraded stands beside them."""
        reasons = [*self._engine.faults(), *self._faults()]
        waiting, most = self._engine.writer.waiting, self._engine.world.config.settings.intake.queue
        if waiting >= most:
            reasons.append(f"{waiting} jobs wait for their commit, {most} are allowed")
        try:
            await self._store.answer()
        except FiredoorError as error:
            reasons.append(self._engine.world.redactor.text(str(error)))
        except TimeoutError:
            reasons.append(f"store: no answer within {PATIENCE:.0f} s")
        troubles = (*self._engine.operators.warnings, *self._troubles())
        degraded = [self._engine.world.redactor.text(trouble) for trouble in troubles]
        return as_json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons, "degraded": degraded})

    async def metrics(self) -> Answer:
        kind = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
        try:
            return Answer(200, await self._counted.answer(), (kind,))
        except TimeoutError:
            return as_json(503, {"code": "too_slow", "message": "The store did not answer this scrape in time."})


class _Question(Generic[T]):
    """Asked in a thread, once at a time: whoever comes while it is asked waits for the same answer."""

    def __init__(self, pool: ThreadPoolExecutor, ask: Callable[[], T], patience: float) -> None:
        self._pool, self._ask, self._patience = pool, ask, patience
        self._asked: asyncio.Future[T] | None = None

    async def answer(self) -> T:
        """Raises TimeoutError after `patience` seconds; the question stays asked."""
        loop = asyncio.get_running_loop()
        if self._asked is None or self._asked.done() or self._asked.get_loop() is not loop:
            self._asked = loop.run_in_executor(self._pool, self._ask)
            self._asked.add_done_callback(_heard)
        async with asyncio.timeout(self._patience):
            return await asyncio.shield(self._asked)


def _heard(asked: asyncio.Future[T]) -> None:
    """An answer that comes after everybody has gone is nobody's fault."""
    if not asked.cancelled():
        asked.exception()
