"""Secrets are named in the operator's files and read as late as possible, by the adapter that needs one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

from bot.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SecretRef:
    """`env:NAME` or `file:PATH`. Safe to print: it holds no secret."""

    scheme: str  # env | file
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"


_HERE = Path()
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\x00-\x1f]+")


def secret_ref(text: str) -> SecretRef | None:
    """None where the text is no reference."""
    if not _REFERENCE.fullmatch(text):
        return None
    scheme, _, name = text.partition(":")
    return SecretRef(scheme, name)


def references(value: object, where: str = "") -> Iterator[tuple[str, SecretRef]]:
    """Every secret that a configuration, or a part of it, names, and where."""
    if isinstance(value, SecretRef):
        yield where, value
        return
    parts: Iterable[tuple[object, object]] = ()
    if is_dataclass(value):
        parts = ((field.name, getattr(value, field.name)) for field in fields(value))
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, tuple | list):
        parts = enumerate(value)
    for name, part in parts:
        yield from references(part, f"{where}.{name}" if where else str(name))


def resolve(ref: SecretRef, folder: Path = _HERE) -> str:
    """The secret itself, a trailing newline cut. A relative file is looked for in `folder`. Raises ConfigError where it
    is missing or empty."""
    if ref.scheme == "env":
        value = os.environ.get(ref.name, "")
        if not value:
            raise ConfigError(str(ref), "the environment variable is not set.", "Set it where the bot starts.")
        return value
    try:
        value = (folder / ref.name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(ref), f"the secret file cannot be read: {error}.") from None
    if not value:
        raise ConfigError(str(ref), "the secret file is empty.")
    return value
