from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.sandbox.clock import SimClock
from tests.web.desk import Desk, make_desk


@pytest.fixture
def desk(tmp_path: Path, clock: SimClock) -> Iterator[Desk]:
    desk = make_desk(tmp_path / "firedoor.db", clock)
    yield desk
    desk.stop()
