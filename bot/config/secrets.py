"""Secrets are named in the operator's files and read as late as possible, by the adapter that needs one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from bot.errors import ConfigError


@dataclass(frozen=True, slots=True)
class SecretRef:
    """`env:NAME` or `file:PATH`. Safe to print: it holds no secret."""

    scheme: str  # env | file
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"


_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\x00-\x1f]+")


def secret_ref(text: str) -> SecretRef | None:
    """None where the text is no reference."""
    if not _REFERENCE.fullmatch(text):
        return None
    scheme, _, name = text.partition(":")
    return SecretRef(scheme, name)


def resolve(ref: SecretRef) -> str:
    """The secret itself, a trailing newline cut. Raises ConfigError where it is missing or empty."""
    if ref.scheme == "env":
        value = os.environ.get(ref.name, "")
        if not value:
            raise ConfigError(str(ref), "the environment variable is not set.", "Set it where the bot starts.")
        return value
    try:
        value = Path(ref.name).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(ref), f"the secret file cannot be read: {error}.") from None
    if not value:
        raise ConfigError(str(ref), "the secret file is empty.")
    return value
