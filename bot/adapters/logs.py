"""Nothing known to be secret reaches a log line."""

from __future__ import annotations

import logging
import traceback

from bot.domain.redaction import Redactor


class Redacting(logging.Filter):
    """Put it on every *handler* (a filter on a logger is not asked about its children's records). Rewrites message,
    exception and stack text in place; lets every record through."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redactor.text(record.getMessage()), ()
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = self._redactor.text("".join(traceback.format_exception(*record.exc_info)).rstrip())
            # A formatter with its own formatException would print the original again.
            record.exc_info = None
        elif record.exc_text:
            record.exc_text = self._redactor.text(record.exc_text)
        if record.stack_info:
            record.stack_info = self._redactor.text(record.stack_info)
        return True
