"""Where the side effects are written down that were not carried out."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger("firedoor.agent")

Record = Callable[[Mapping[str, Any]], object]
LONGEST = 32_000  # characters of one recorded call
MORE = "..."


def recorder(to: Record | str | os.PathLike[str] | None) -> Record:
    """A function of your own, a file for JSON lines (made readable for its owner alone), or None for the log."""
    if to is None:
        return lambda call: log.warning("not carried out: %s", as_line(call))
    if callable(to):
        return to
    path = Path(to)
    return lambda call: _append(path, f"{as_line(call)}\n")


def as_line(call: Mapping[str, Any]) -> str:
    """What JSON does not know stands there as its `repr`; what is too long is cut, argument by argument."""
    line = json.dumps(call, default=repr, ensure_ascii=False)
    if len(line) <= LONGEST:
        return line
    room = LONGEST // (2 * max(1, len(call["arguments"])))
    cut = {name: _cut(json.dumps(value, default=repr), room) for name, value in call["arguments"].items()}
    return json.dumps({**call, "arguments": cut}, default=repr, ensure_ascii=False)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[:room] + MORE


def _append(path: Path, line: str) -> None:
    """In one write, so that several threads and processes may share a file."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode("utf-8", "replace"))
    finally:
        os.close(file)
