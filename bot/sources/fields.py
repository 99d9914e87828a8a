"""Reading a payload: each value knows where it stands, and a wrong one says which field it is and what was expected.

The messages name kinds, never values: what an alert holds is hostile and may be secret.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from bot.domain.alert import Severity
from bot.domain.redaction import Json
from bot.errors import BadAlert

DEEPEST = 64  # levels
MOST_VALUES = 100_000  # in one payload
SAFE_INTEGER = 2**53 - 1  # a larger one has no exact place in canonical JSON

NAMES: Mapping[str, int] = {
    "unknown": Severity.UNKNOWN,
    "informational": Severity.INFORMATIONAL,
    "info": Severity.INFORMATIONAL,
    "low": Severity.LOW,
    "medium": Severity.MEDIUM,
    "high": Severity.HIGH,
    "critical": Severity.CRITICAL,
    "fatal": Severity.FATAL,
}


class Fields:
    """A JSON object of a payload. Names are tried as written and with their first letter the other way: AWS sends
    `accountId` in events and `AccountId` from its API."""

    __slots__ = ("_values", "where")

    def __init__(self, value: Json, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise self._wrong("", "an object", value)
        self._values = value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def get(self, name: str) -> Json:
        """None where it is missing or null."""
        if name in self._values:
            return self._values[name]
        return self._values.get(name[0].swapcase() + name[1:])

    def at(self, name: str) -> Fields:
        """The object there; an empty one where there is none."""
        value = self.get(name)
        return Fields({} if value is None else value, self._path(name))

    def each(self, name: str) -> Iterator[Fields]:
        """The objects of a list; none where it is missing."""
        for n, item in enumerate(self.items(name)):
            yield Fields(item, f"{self._path(name)}[{n}]")

    def items(self, name: str) -> list[Json]:
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        return value

    def text(self, name: str, default: str = "") -> str:
        """A number is taken as its text."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self._wrong(name, "a string", value)
        return str(value)

    def needed(self, name: str) -> str:
        if not (text := self.text(name)):
            raise self._wrong(name, "a string that is not empty", self.get(name))
        return text

    def number(self, name: str) -> float:
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, "a number", value)
        return float(value)

    def time(self, *names: str) -> datetime:
        """The first of `names` that is there."""
        name = next((name for name in names if name in self), names[0])
        return moment(self.get(name), self._path(name))

    def texts(self, name: str) -> dict[str, str]:
        """An object of strings: labels. Numbers and booleans are taken as text, null and nested values left out."""
        found = self.at(name)._values
        return {key: _plain(value) for key, value in found.items() if isinstance(value, str | int | float)}

    def rest(self, *names: str) -> dict[str, Json]:
        """Everything but these: what goes to `unmapped`."""
        taken = {*names, *(name[0].swapcase() + name[1:] for name in names)}
        return {key: value for key, value in self._values.items() if key not in taken}

    def _path(self, name: str) -> str:
        return f"{self.where}.{name}" if name else self.where

    def _wrong(self, name: str, expected: str, value: Json) -> BadAlert:
        return wrong(self._path(name), expected, value)


def wrong(where: str, expected: str, value: Json) -> BadAlert:
    return BadAlert(f"{where}: expected {expected}, got {kind(value)}")


def kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case "":
            return "an empty string"
        case str():
            return "a string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "something that is not JSON"


def moment(value: Json, where: str) -> datetime:
    """Aware UTC, from ISO 8601 with an offset, or a Unix number in s, ms, us or ns (told apart by its size)."""
    expected = "a time with an offset (2026-01-31T12:00:00Z) or Unix seconds"
    try:
        if isinstance(value, str) and re.fullmatch(r"\d{9,20}(?:\.\d{1,9})?", value):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            unit = next((unit for unit in (1, 1e3, 1e6, 1e9) if abs(value) / unit < 1e11), 1)
            return datetime.fromtimestamp(value / unit, UTC)
        if isinstance(value, str) and len(value) <= 64:
            at = datetime.fromisoformat(value)
            if at.tzinfo is not None:
                return at.astimezone(UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise wrong(where, expected, value) from error
    raise wrong(where, expected, value)


def severity(value: Json, *tables: Mapping[str, int]) -> Severity:
    """A source's own severity by the first table that knows it: its word in any case, or the highest lower bound that a
    number reaches. UNKNOWN where none does."""
    for table in tables:
        word = _plain(value).strip().lower() if isinstance(value, str | int | float) else ""
        folded = {key.lower(): level for key, level in table.items()}
        if word in folded:
            return Severity(folded[word])
        number = _number(word)
        reached = [(bound, level) for key, level in folded.items() if (bound := _number(key)) <= number]
        if reached:
            return Severity(max(reached)[1])
    return Severity.UNKNOWN


def _number(text: str) -> float:
    """NaN, which no bound is below, where it is none."""
    try:
        return float(text) if len(text) <= 32 and math.isfinite(float(text)) else math.nan
    except ValueError:
        return math.nan


def _plain(value: str | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# What is left of a hostile payload ------------------------------------------------------------------------------------

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def clean(payload: object, where: str) -> Json:
    """A copy that is JSON in the strict sense: bounded depth and size, finite numbers, text that UTF-8 can hold. An
    integer that canonical JSON cannot hold becomes its digits."""
    count = 0

    def visit(value: object, depth: int) -> Json:
        nonlocal count
        count += 1
        if count > MOST_VALUES:
            raise BadAlert(f"{where}: more than {MOST_VALUES} values")
        if isinstance(value, str):
            return _SURROGATE.sub("\ufffd", value) if not value.isascii() else value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            if value.bit_length() > 1024:
                raise BadAlert(f"{where}: a number of more than 1024 bits")
            return value if abs(value) <= SAFE_INTEGER else str(value)
        if isinstance(value, float) and math.isfinite(value):
            return value
        if depth >= DEEPEST:
            raise BadAlert(f"{where}: nested more than {DEEPEST} levels deep")
        if isinstance(value, list | tuple):
            return [visit(item, depth + 1) for item in value]
        if isinstance(value, Mapping):
            return {_key(key): visit(item, depth + 1) for key, item in value.items()}
        raise BadAlert(f"{where}: expected JSON, got something else")

    def _key(key: object) -> str:
        if not isinstance(key, str):
            raise BadAlert(f"{where}: expected strings as keys")
        return key if key.isascii() else _SURROGATE.sub("\ufffd", key)

    return visit(payload, 0)


def identifier(text: str, most: int = 512) -> str:
    """On one line and of at most `most` characters. A longer one keeps its beginning and a hash of all of it, so
    that it stays itself: an alert is not lost, nor joined to another, for the length of a name in it."""
    text = text.strip()
    if not text.isprintable():
        text = _UNPRINTABLE.sub("\ufffd", text)
    if len(text) <= most:
        return text
    return f"{text[: most - 17]}~{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:16]}"


def digest(*parts: Json) -> str:
    """32 hex: an identifier for what has none."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
