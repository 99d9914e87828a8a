"""Wake-ups. Deadlines are state; the scheduler only says "look again now".

Every replica arms every deadline that comes before its next sweep of the store; whoever appends first wins, the others
find nothing due. Jobs live in memory only and are armed anew from the store: a missed one is late, never lost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler

from bot.adapters.clock import SystemClock
from bot.errors import FiredoorError
from bot.store import Store

log = logging.getLogger(__name__)

SWEEP = timedelta(seconds=10)
LIMIT = 20_000  # deadlines armed by one sweep, the most overdue first; the rest comes with the next


class Timers:
    def __init__(self, store: Store, wake: Callable[[str], None]) -> None:
        self._store, self._wake = store, wake
        self._armed: dict[str, datetime] = {}
        self._horizon: datetime | None = None
        self._machine = SystemClock()  # the scheduler's clock
        self._ahead = timedelta()  # how far the store's clock is before it
        # No misfire limit and no stored jobs: APScheduler's stores remove a job before it runs (at most once).
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(4)},
            job_defaults={"misfire_grace_time": None, "coalesce": True},
        )

    def start(self) -> None:
        self._scheduler.start()
        self._scheduler.add_job(self.sweep, "interval", seconds=SWEEP.total_seconds(), id="sweep", max_instances=1)
        self.sweep()

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)

    @property
    def alive(self) -> bool:
        return bool(self._scheduler.running)

    def sweep(self) -> None:
        """Arms what is due before the next sweep. What is overdue is woken in order, at once."""
        try:
            now = self._store.database_now()
            self._ahead = now - self._machine.now()
            self._horizon = now + SWEEP * 1.5
            with self._store.reading() as tx:
                due = tx.due(self._horizon, LIMIT)
        except FiredoorError as error:
            log.warning("deadlines could not be read, the next sweep asks again: %s", error)
            return
        for stream, at in due:
            self.arm(stream, at, now)

    def arm(self, stream: str, at: datetime | None, now: datetime | None = None) -> None:
        """The stream's next deadline is `at` (None: it has none)."""
        if at is None:
            if self._armed.pop(stream, None):
                with suppress(JobLookupError):  # it is ringing
                    self._scheduler.remove_job(stream)
            return
        if self._horizon is None or at > self._horizon:
            return  # a later sweep finds it
        if now and at <= now:
            self._wake(stream)
            return
        if self._armed.get(stream) == at and self._scheduler.get_job(stream):
            return
        self._armed[stream] = at
        self._scheduler.add_job(
            self._ring,
            "date",
            run_date=at - self._ahead,
            args=(stream,),
            id=stream,
            replace_existing=True,
            misfire_grace_time=None,
        )

    def _ring(self, stream: str) -> None:
        self._armed.pop(stream, None)
        self._wake(stream)
