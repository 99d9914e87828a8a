from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.desk import Desk, desk_at


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk in virtual time, on a Monday at 10:00 UTC."""
    with desk_at(tmp_path) as made:
        yield made
