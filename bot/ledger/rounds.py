"""Seals the record again and again beside a serving process. A ledger that cannot be reached holds up nothing."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from bot.errors import FiredoorError, RecordBroken, SystemFailure
from bot.ledger.sealer import Sealer

log = logging.getLogger(__name__)

STAMP_LOOK = 60.0  # seconds between two looks whether a timestamp is due


class Rounds:
    def __init__(self, sealer: Sealer, every: timedelta) -> None:
        self._sealer, self._every = sealer, every.total_seconds()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._trouble, self._unstamped = "", ""
        self._stamp_again = 0.0  # monotonic

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Seals once more what the last moments have written."""
        self._stopping.set()
        self._thread.join()
        self._seal()

    def troubles(self) -> tuple[str, ...]:
        """What keeps the ledger behind the record, for people to look at; it keeps nobody from serving."""
        return (self._trouble,) if self._trouble else ()

    def _stamp(self) -> str:
        """What kept it from being stamped. It is asked for every minute at most: an authority is not ours."""
        if time.monotonic() < self._stamp_again:
            return self._unstamped
        self._stamp_again, self._unstamped = time.monotonic() + STAMP_LOOK, ""
        try:
            self._sealer.stamp()
        except SystemFailure as error:
            self._unstamped = f"the ledger is sealed and not stamped: {error}"
            log.warning("%s", self._unstamped)
        return self._unstamped

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._seal()

    def _seal(self) -> None:
        try:
            self._sealer.seal()
            self._trouble = self._stamp()
        except RecordBroken as error:
            self._trouble = f"the ledger is not sealed any further: {error}. Run: firedoor ledger verify"
            log.error("%s", self._trouble)
        except FiredoorError as error:
            self._trouble = f"the ledger waits: {error}"
            log.warning("%s", self._trouble)
        except Exception:  # the record goes on without it, and the next round may do better
            self._trouble = "sealing failed inside; the log says how"
            log.exception("the ledger could not be sealed")
