"""Files that must be whole: all of one or nothing, and on the disk before its name is there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

UNFINISHED = ".new-"  # what a file is called until it is whole; one that stays was cut off by a crash


def write_whole(path: Path, data: bytes, *, mode: int = 0o444) -> None:
    """Makes or replaces the file, durably. Its folders are made where they are missing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(handle, mode)
            os.fsync(handle)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Without it a crash may forget the name, though not the bytes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
