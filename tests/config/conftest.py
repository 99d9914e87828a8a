from __future__ import annotations

from pathlib import Path

import pytest

from bot.actions import registry
from tests.config.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, registry())
