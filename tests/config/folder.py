"""The example configuration in a folder of the test's own, to be broken in one place."""

from __future__ import annotations

import shutil
from pathlib import Path

from bot.config import EXAMPLE, Config, load
from bot.config.playbooks import Actions
from bot.errors import ConfigError


class Folder:
    def __init__(self, path: Path, actions: Actions) -> None:
        self.path, self.actions = path / "operator", actions
        shutil.copytree(EXAMPLE, self.path)

    def edit(self, file: str, old: str, new: str) -> Folder:
        """Replaces the one place where `old` stands."""
        text = (self.path / file).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (self.path / file).write_text(text.replace(old, new))
        return self

    def load(self) -> Config:
        return load(self.path, self.actions)

    def problems(self) -> list[str]:
        try:
            self.load()
        except ConfigError as error:
            return str(error).splitlines()
        return []
