from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bot.sandbox.clock import SimClock
from tests.web.desk import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path, clock: SimClock) -> Iterator[Desk]:
    desk = make_desk(tmp_path / "firedoor.db", clock)
    yield desk
    desk.stop()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One desk for all the tests that only see it refuse, or that do not mind what came before."""
    clock = SimClock(datetime(2026, 1, 5, 10, tzinfo=UTC))
    desk = make_desk(tmp_path_factory.mktemp("refusing") / "firedoor.db", clock)
    yield desk
    desk.stop()
