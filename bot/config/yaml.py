"""Strict YAML: every value knows its line, and nothing surprises.

Read from the parser's events, not with PyYAML's constructors: YAML 1.1 would turn `on` into true, `010` into 8 and
`12:30` into 750. Plain scalars are null, true, false, decimal numbers, or text; a number with a leading zero is text
(an AWS account id). No tags, no duplicate keys, no second document; aliases are shared, counted and bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from bot.errors import ConfigError

MAX_BYTES = 1024 * 1024
MAX_NODES = 50_000  # aliases expanded
MAX_DEPTH = 40

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands. `raw` is a scalar as it was written; `size` counts the nodes in it."""

    value: dict[str, Node] | list[Node] | Scalar
    file: str
    line: int
    raw: str = ""
    size: int = 1

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def plain(self) -> object:
        """The value without its lines."""
        match self.value:
            case dict():
                return {key: node.plain() for key, node in self.value.items()}
            case list():
                return [node.plain() for node in self.value]
            case _:
                return self.value


def parse(text: str | bytes, file: str, first_line: int = 1) -> Node:
    """The one document in `text`; an empty file is an empty mapping. Raises ConfigError. `first_line` is where the text
    starts in its file."""
    if len(text) > MAX_BYTES:
        raise ConfigError(file, f"the file is larger than {MAX_BYTES} bytes.", "Split it.")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return _Composer(text, file, first_line).document()
    except UnicodeDecodeError as error:
        raise ConfigError(file, f"the file is not UTF-8 (byte {error.start}).") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + first_line}" if mark else file
        raise ConfigError(where, f"not YAML: {error.problem or error.context}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(file, f"not YAML: {' '.join(str(error).split())}.") from None


class _Composer:
    def __init__(self, text: str, file: str, first_line: int) -> None:
        self.file, self.first_line = file, first_line
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.SafeLoader)
        self.anchors: dict[str, Node] = {}
        self.nodes = 0

    def document(self) -> Node:
        next(self.events)  # StreamStart
        event = next(self.events)
        if isinstance(event, yaml.StreamEndEvent):
            return Node({}, self.file, self.first_line)
        root = self.node(next(self.events), 0)
        next(self.events)  # DocumentEnd
        event = next(self.events)
        if not isinstance(event, yaml.StreamEndEvent):
            raise self.error(event, "a second document starts here.", "Keep one document in a file.")
        if root.value is None:
            return Node({}, self.file, root.line)
        return root

    def error(self, event: yaml.Event, problem: str, hint: str = "") -> ConfigError:
        return ConfigError(f"{self.file}:{self.line(event)}", problem, hint)

    def line(self, event: yaml.Event) -> int:
        return (event.start_mark.line if event.start_mark else 0) + self.first_line

    def node(self, event: yaml.Event, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.error(event, f"nested deeper than {MAX_DEPTH}.")
        if isinstance(event, yaml.AliasEvent):
            found = self.anchors.get(event.anchor or "")
            if found is None:
                raise self.error(event, f"the alias *{event.anchor} stands before or inside its anchor.")
            self.count(event, found.size)
            return found
        self.count(event, 1)
        if not isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent):
            raise self.error(event, "a value is missing.")
        if event.tag is not None:
            raise self.error(event, f"the tag {event.tag!r} is not allowed.", "Write the value plainly, or quoted.")
        built = self.built(event, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = built
        return built

    def count(self, event: yaml.Event, more: int) -> None:
        self.nodes += more
        if self.nodes > MAX_NODES:
            raise self.error(event, f"the file holds more than {MAX_NODES} values, aliases expanded.")

    def built(self, event: yaml.Event, depth: int) -> Node:
        line, before = self.line(event), self.nodes
        match event:
            case yaml.ScalarEvent():
                plain = event.style is None
                return Node(_scalar(event.value) if plain else event.value, self.file, line, raw=event.value)
            case yaml.SequenceStartEvent():
                elements: list[Node] = []
                while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                    elements.append(self.node(inner, depth + 1))
                return Node(elements, self.file, line, size=self.nodes - before + 1)
            case _:
                entries: dict[str, Node] = {}
                while not isinstance(inner := next(self.events), yaml.MappingEndEvent):
                    key = self.key(inner, entries)
                    entries[key] = self.node(next(self.events), depth + 1)
                return Node(entries, self.file, line, size=self.nodes - before + 1)

    def key(self, event: yaml.Event, entries: dict[str, Node]) -> str:
        if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
            raise self.error(event, "a key must be plain text.")
        key = str(event.value)
        if key == "<<" and event.style is None:
            raise self.error(event, "merge keys (<<) are not supported.", "Write the values out.")
        if key in entries:
            raise self.error(event, f"the key {key!r} stands twice (first at line {entries[key].line}).")
        return key


_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?")
_WORDS: dict[str, Scalar] = {"": None, "~": None, "null": None, "true": True, "false": False}


def _scalar(raw: str) -> Scalar:
    if raw in _WORDS:
        return _WORDS[raw]
    if _INT.fullmatch(raw):
        return int(raw)
    if _FLOAT.fullmatch(raw):
        return float(raw)
    return raw
