"""Reading a mapping key by key: what is wrong is collected with its line, so that one run reports everything."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from bot.config import yaml
from bot.config.secrets import SecretRef, secret_ref
from bot.config.yaml import Node
from bot.errors import ConfigError

T = TypeVar("T")
U = TypeVar("U")


class ConfigErrors(ConfigError):
    """Everything that is wrong with the operator's files, in file order; `str()` is one line each."""

    def __init__(self, problems: Iterable[ConfigError]) -> None:
        self.problems = tuple({str(problem): problem for problem in problems}.values())
        first = self.problems[0]
        super().__init__(first.where, first.problem, first.hint)
        self.args = ("\n".join(map(str, self.problems)),)


class MissingSecrets(ConfigErrors):
    """Every secret that a start needs and does not find, all of them said."""


class Problems:
    """Where the readers of one run put what they find."""

    def __init__(self) -> None:
        self.found: list[ConfigError] = []

    def add(self, where: str, problem: str, hint: str = "") -> None:
        self.found.append(ConfigError(where, problem, hint))

    def attempt(self, read: Callable[[], T], otherwise: U) -> T | U:
        """What `read` returns; a ConfigError it raises is collected and `otherwise` returned."""
        try:
            return read()
        except ConfigErrors as errors:
            self.found.extend(errors.problems)
        except ConfigError as error:
            self.found.append(error)
        return otherwise

    def raise_any(self) -> None:
        if self.found:
            raise self.found[0] if len(self.found) == 1 else ConfigErrors(self.found)


def suggestion(word: str, known: Iterable[str], prefix: str = "Did you mean") -> str:
    """`Did you mean 'vault.revoke_agent'?`, or the list of what there is when nothing is close."""
    names = sorted(known)
    if close := difflib.get_close_matches(word, names, 1, 0.5):
        return f"{prefix} {close[0]!r}?"
    return f"Known: {', '.join(names)}." if 0 < len(names) <= 30 else ""


_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def duration(text: str) -> timedelta | None:
    """`90s`, `2m`, `1h30m`, `7d`; None where it is not one."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


class Section:
    """One mapping. Every key that is asked for is a known key; leaving the `with` block refuses the others. A wrong or
    missing value is reported and its default (or an empty value) returned, so that reading goes on."""

    def __init__(self, node: Node, problems: Problems, what: str) -> None:
        self.node, self.problems, self.what = node, problems, what
        self._known: dict[str, None] = {}
        self._entries = node.value if isinstance(node.value, dict) else {}
        if not isinstance(node.value, dict):
            problems.add(node.where, f"{what} must be a mapping.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if kind is None:
            for key in (key for key in self._entries if key not in self._known):
                self.report(key, f"unknown key {key!r} in {self.what}.", suggestion(key, self._known))

    def __contains__(self, key: str) -> bool:
        self._known[key] = None
        return key in self._entries

    def where(self, key: str = "") -> str:
        return self._entries[key].where if key in self._entries else self.node.where

    def report(self, key: str, problem: str, hint: str = "") -> None:
        self.problems.add(self.where(key), problem, hint)

    def get(self, key: str, required: bool = False) -> Node | None:
        self._known[key] = None
        found = self._entries.get(key)
        if found is None and required:
            self.report("", f"{key!r} is missing in {self.what}.")
        return found

    def text(self, key: str, default: str | None = None, choices: Iterable[str] = ()) -> str:
        """Without a default the key is required. A number that was written plainly is taken as it was written."""
        node = self.get(key, required=default is None)
        if node is None:
            return default or ""
        if not isinstance(node.value, str | int | float) or isinstance(node.value, bool):
            self.report(key, f"{key!r} must be a text.", "Quote it." if isinstance(node.value, bool) else "")
            return default or ""
        text = node.raw
        options = tuple(choices)
        if options and text not in options:
            self.report(key, f"{key!r} is {text!r}, which is none of {', '.join(options)}.")
            return default or options[0]
        return text

    def name(self, key: str) -> str:
        """A required id: lower-case letters, digits, `-` and `_`."""
        text = self.text(key)
        if text and not _NAME.fullmatch(text):
            self.report(key, f"{text!r} is not a name.", _NAME_HINT)
        return text

    def flag(self, key: str, default: bool = False) -> bool:
        node = self.get(key)
        if node is None or isinstance(node.value, bool):
            return default if node is None else bool(node.value)
        self.report(key, f"{key!r} must be true or false.")
        return default

    def integer(self, key: str, default: int, least: int = 0, most: int = 1_000_000_000) -> int:
        return int(self.number(key, default, least, most, whole=True))

    def number(
        self, key: str, default: float, least: float = 0, most: float = 1_000_000_000, *, whole: bool = False
    ) -> float:
        node = self.get(key)
        if node is None:
            return default
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            self.report(key, f"{key!r} must be a {'whole ' if whole else ''}number.")
            return default
        assert isinstance(value, int | float)
        if not least <= value <= most:
            self.report(key, f"{key!r} is {node.raw}; it must be between {least:g} and {most:g}.")
            return default
        return value

    def duration(self, key: str, default: timedelta | None = None) -> timedelta:
        """`30s`, `10m`, `1h30m`, `7d`; 0 is written `0s` or 0."""
        node = self.get(key, required=default is None)
        fallback = timedelta(0) if default is None else default
        if node is None:
            return fallback
        found = timedelta(0) if node.value == 0 else duration(node.raw) if isinstance(node.value, str) else None
        if found is None:
            self.report(key, f"{key!r} is {node.raw!r}, not a duration.", "Write it like 30s, 2m, 1h30m or 7d.")
            return fallback
        return found

    def time(self, key: str) -> datetime:
        """ISO 8601 with its offset; a naive time is refused."""
        text = self.text(key)
        with suppress(ValueError):
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
        if text:
            self.report(key, f"{key!r} is {text!r}, not a time with its offset.", "Write it like 2026-01-05T09:00:00Z.")
        return datetime.fromtimestamp(0, UTC)

    def texts(self, key: str, default: Sequence[str] = (), choices: Iterable[str] = ()) -> tuple[str, ...]:
        """A list of texts, each once."""
        node = self.get(key)
        if node is None:
            return tuple(default)
        options = tuple(choices)
        found: list[str] = []
        for element in self.elements(key):
            if not isinstance(element.value, str | int | float) or isinstance(element.value, bool):
                self.problems.add(element.where, f"{key!r} must be a list of texts.")
            elif element.raw in found:
                self.problems.add(element.where, f"{element.raw!r} stands twice in {key!r}.")
            elif options and element.raw not in options:
                self.problems.add(element.where, f"{element.raw!r} in {key!r} is none of {', '.join(options)}.")
            else:
                found.append(element.raw)
        return tuple(found)

    def secret(self, key: str, required: bool = False) -> SecretRef | None:
        """`env:NAME` or `file:PATH`; a literal is refused, without being printed."""
        node = self.get(key, required)
        if node is None:
            return None
        found = secret_ref(node.raw)
        if found is None:
            self.report(
                key,
                f"{key!r} must name a secret, not hold one.",
                "Write env:NAME or file:/path, and take the value out of this file.",
            )
        return found

    def elements(self, key: str) -> tuple[Node, ...]:
        node = self.get(key)
        if node is None:
            return ()
        if not isinstance(node.value, list):
            self.report(key, f"{key!r} must be a list.")
            return ()
        return tuple(node.value)

    def entries(self, key: str = "", names: bool = False) -> dict[str, Node]:
        """The entries of the mapping under `key` (or of this one); with `names`, their keys must be names."""
        if not key:
            self._known.update(dict.fromkeys(self._entries))
            found = self._entries
        else:
            node = self.get(key)
            if node is None:
                return {}
            if not isinstance(node.value, dict):
                self.report(key, f"{key!r} must be a mapping.")
                return {}
            found = node.value
        for name, entry in found.items():
            if names and not _NAME.fullmatch(name):
                self.problems.add(entry.where, f"{name!r} is not a name.", _NAME_HINT)
        return found

    def section(self, key: str, what: str = "") -> Section:
        """The mapping under `key`; an empty one where it is missing."""
        node = self.get(key)
        return Section(node or Node({}, self.node.file, self.node.line), self.problems, what or repr(key))

    def each(self, key: str, what: str, read: Callable[[str, Section], T | None]) -> dict[str, T]:
        """Reads every entry of the mapping under `key` as a section; None leaves it out."""
        found: dict[str, T] = {}
        for name, node in self.entries(key, names=True).items():
            with Section(node, self.problems, f"{what} {name!r}") as section:
                value = read(name, section)
            if value is not None:
                found[name] = value
        return found


_NAME_HINT = "Use lower-case letters, digits, '-' and '_', starting with a letter."


@contextmanager
def file_section(path: Path, problems: Problems, where: str = "") -> Iterator[Section]:
    """The top mapping of a file; a missing or broken file is reported and reads as an empty mapping, silently."""
    where = where or path.name
    try:
        node = yaml.parse(path.read_bytes(), where)
    except OSError as error:
        problems.add(where, f"cannot be read: {error.strerror}.")
    except ConfigError as error:
        problems.found.append(error)
    else:
        with Section(node, problems, where) as section:
            yield section
        return
    yield Section(Node({}, where, 1), Problems(), where)
