from __future__ import annotations

import io
import logging

import pytest

from bot.adapters.logs import Redacting
from bot.domain.redaction import Redactor

SECRET = "the-bot's-vault-credential"


@pytest.fixture
def log():
    redactor = Redactor(b"salt")
    redactor.register("vault", SECRET)
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(Redacting(redactor))
    logger = logging.getLogger("firedoor.test.redacting")
    logger.addHandler(handler)
    logger.propagate = False
    yield logger, written
    logger.removeHandler(handler)


def test_arguments_exceptions_and_stacks_hold_no_secret(log: tuple[logging.Logger, io.StringIO]):
    logger, written = log
    logger.warning("asked with %s and %r", SECRET, {"x": SECRET})
    try:
        raise RuntimeError(f"refused {SECRET}")
    except RuntimeError:
        logger.exception("failed", stack_info=True)
    shown = written.getvalue()
    assert SECRET not in shown
    assert shown.count("[redacted:vault:") >= 3
    assert "Traceback" in shown
    assert "RuntimeError: refused" in shown
