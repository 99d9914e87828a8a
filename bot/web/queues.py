"""Alerts from SQS: a thread for each source that has a queue.

A message is deleted only after the commit of what it said: its alerts, or, where nobody can read it, its place in
quarantine. While the store is away nothing is deleted, and the queue hands it out again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from bot.adapters.sqs import Message
from bot.errors import BadAlert, FiredoorError, SystemFailure
from bot.web.intake import Intake

log = logging.getLogger(__name__)

BATCH = 10  # messages a poll
POLL = 10  # seconds; a stop waits for the poll under way
PAUSE = 5.0  # seconds after a failure, and while the writer has more than enough to do
COMMIT = 30.0  # seconds for a batch to be written


class Buffer(Protocol):
    """adapters.sqs.Queue, or one that stands in for it."""

    def receive(self, max: int = ..., wait: int = ...) -> tuple[Message, ...]: ...

    def delete(self, receipts: Sequence[str]) -> tuple[str, ...]: ...

    def extend(self, receipts: Sequence[str], seconds: int) -> tuple[str, ...]: ...


class QueueReader:
    """Reads one source's queue from `start` to `stop`. Without `start` (tests, drills) `poll` reads it once."""

    def __init__(self, source: str, queue: Buffer, intake: Intake) -> None:
        self._source, self._queue, self._intake = source, queue, intake
        self.trouble = ""  # why the last batch could not be read or written; '' where it could
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"queue-{source}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when what was received is written or handed back: in `POLL` seconds, usually."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(POLL + COMMIT)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def poll(self, wait: int = 0) -> int:
        """Receives, writes and deletes one batch. Returns how many messages were settled. Raises SystemFailure where
        the queue or the store does not answer."""
        messages = self._queue.receive(BATCH, wait)
        if not messages:
            return 0
        if self._stopping.is_set():  # another reader may have them at once
            self._queue.extend([message.receipt for message in messages], 0)
            return 0
        settled: list[str] = []
        fault: FiredoorError | None = None
        for message, written in [(message, self._write(message)) for message in messages]:
            try:
                written.result(COMMIT)
                settled.append(message.receipt)
            except (FiredoorError, TimeoutError) as error:
                log.warning("message %s of %s is not written: %s", message.id, self._source, error)
                fault = error if isinstance(error, FiredoorError) else fault
            except Exception:  # what a bug makes of one message is that one's matter: its redrive policy moves it on
                log.exception("message %s of %s failed inside", message.id, self._source)
        if settled and (left := self._queue.delete(settled)):
            log.warning(
                "%d messages of %s could not be deleted: they come again and count once", len(left), self._source
            )
        if isinstance(fault, SystemFailure):
            raise fault
        return len(settled)

    def _write(self, message: Message) -> Future[Any]:
        # By its id a message that is delivered again is known, even where it is written and not deleted.
        id = f"sqs:{self._source}:{message.id}"
        try:
            return self._intake.take(self._source, message.body.encode("utf-8", "replace"), id)
        except BadAlert as error:
            return self._intake.quarantine(self._source, str(error), message.body.encode("utf-8", "replace"), id)
        except Exception as error:  # as above: told with the others' results
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._intake.is_full:
                self._stopping.wait(PAUSE)
                continue
            try:
                self.poll(POLL)
                self.trouble = ""
            except FiredoorError as error:
                self.trouble = str(error)
                log.warning("the queue of %s is left alone for %.0f s: %s", self._source, PAUSE, error)
                self._stopping.wait(PAUSE)
            except Exception:  # the thread is this source's only ear: it must outlive any one message
                self.trouble = "a batch failed inside: the log says where"
                log.exception("a batch of %s failed", self._source)
                self._stopping.wait(PAUSE)


class Queues:
    """All queues of an installation."""

    def __init__(self, readers: Mapping[str, QueueReader]) -> None:
        self._readers = readers

    def start(self) -> None:
        for reader in self._readers.values():
            reader.start()

    def stop(self) -> None:
        for reader in self._readers.values():
            reader.stop()

    def faults(self) -> tuple[str, ...]:
        dead = [name for name, reader in self._readers.items() if not reader.alive]
        return tuple(f"the reader of the queue of {name} has stopped: restart this process" for name in dead)

    def troubles(self) -> tuple[str, ...]:
        """Queues that cannot be read now: they are tried again, and nothing in them is lost meanwhile."""
        readers = self._readers.items()
        return tuple(f"the queue of {name} is not read: {reader.trouble}" for name, reader in readers if reader.trouble)
