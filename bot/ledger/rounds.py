"""Seals the record again and again beside a serving process. A ledger that cannot be reached holds up nothing."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from bot.errors import FiredoorError, RecordBroken
from bot.ledger.sealer import Sealer

log = logging.getLogger(__name__)


class Rounds:
    def __init__(self, sealer: Sealer, every: timedelta) -> None:
        self._sealer, self._every = sealer, every.total_seconds()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._trouble = ""

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

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            self._seal()

    def _seal(self) -> None:
        try:
            self._sealer.seal()
            self._trouble = ""
        except RecordBroken as error:
            self._trouble = f"the ledger is not sealed any further: {error}. Run: firedoor ledger verify"
            log.error("%s", self._trouble)
        except FiredoorError as error:
            self._trouble = f"the ledger waits: {error}"
            log.warning("%s", self._trouble)
        except Exception:  # the record goes on without it, and the next round may do better
            self._trouble = "sealing failed inside; the log says how"
            log.exception("the ledger could not be sealed")
