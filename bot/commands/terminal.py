"""Words on a terminal. What comes from alerts and systems may hold escape sequences: it is made harmless here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any


def plain(text: object) -> str:
    """One line: nothing that moves the cursor, colours, or turns the writing round survives."""
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "\ufffd" for c in str(text))


def block(text: str) -> str:
    """Several lines, each harmless."""
    return "\n".join(plain(line.rstrip("\r")) for line in text.split("\n"))


def say(*parts: object) -> None:
    print(*(plain(part) for part in parts))


def heading(text: str) -> None:
    print(f"\n{plain(text)}")


def table(rows: Iterable[Sequence[object]], indent: str = "  ") -> None:
    """Columns as wide as their widest cell; empty columns are left out."""
    cells = [[plain(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        shown = (cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        print((indent + "  ".join(shown)).rstrip())


def as_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=_written))


def moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z" if at else ""


def _written(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)
