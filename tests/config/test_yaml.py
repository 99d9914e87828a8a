from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.config import yaml
from bot.errors import ConfigError


def read(text: str) -> object:
    return yaml.parse(text, "f.yaml").plain()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on: yes", {"on": "yes"}),
        ("a: off", {"a": "off"}),
        ("a: No", {"a": "No"}),
        ("a: 010", {"a": "010"}),
        ("a: 012345678901", {"a": "012345678901"}),
        ("a: 0x1f", {"a": "0x1f"}),
        ("a: 0o17", {"a": "0o17"}),
        ("a: 1_000", {"a": "1_000"}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: 2026-03-01", {"a": "2026-03-01"}),
        ("a: .inf", {"a": ".inf"}),
        ("a: =", {"a": "="}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: -7", {"a": -7}),
        ("a: 1.20", {"a": 1.2}),
        ("a: true", {"a": True}),
        ("a: ~", {"a": None}),
        ("a:", {"a": None}),
        ("a: '1'", {"a": "1"}),
        ("a: |\n  true\n", {"a": "true\n"}),
        ("1: a", {"1": "a"}),
        ("true: a", {"true": "a"}),
        ("", {}),
        ("# nothing\n", {}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        (f"a: {'9' * 30}", {"a": "9" * 30}),
    ],
)
def test_values_are_what_they_look_like(text: str, expected: object) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "f.yaml:2: the key 'a' stands twice (first at line 1)."),
        ("a:\n  b: 1\n  b: 2", "f.yaml:3: the key 'b' stands twice (first at line 2)."),
        ("a: !!python/object/apply:os.system [x]", "f.yaml:1: the tag"),
        ("a: !!str 1", "f.yaml:1: the tag"),
        ("a: 1\n---\nb: 2", "f.yaml:2: a second document starts here."),
        ("a: *x", "f.yaml:1: the alias *x stands before or inside its anchor."),
        ("a: &x [*x]", "f.yaml:1: the alias *x"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "f.yaml:3: merge keys"),
        ("? [a]\n: 1", "f.yaml:1: a key must be plain text."),
        ("a: [1", "f.yaml:1: not YAML:"),
        ("a: 1\n\tb: 2", "f.yaml:2: not YAML:"),
        ("a: \x00", "f.yaml: not YAML:"),
        ("[" * 1000, "f.yaml:1: nested deeper"),
    ],
)
def test_refusals_say_where(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(text)
    assert str(error.value).startswith(message)


def test_a_bomb_of_aliases_is_counted_before_it_is_unpacked() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(1, 12):
        aliases = ", ".join([f"*a{level - 1}"] * 10)
        bomb += f"a{level}: &a{level} [{aliases}]\n"
    with pytest.raises(ConfigError, match="aliases expanded"):
        read(bomb)


def test_size_and_encoding() -> None:
    with pytest.raises(ConfigError, match="larger"):
        read("a" * (yaml.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="not UTF-8"):
        yaml.parse(b"a: \xff", "f.yaml")
    assert yaml.parse(b"\xef\xbb\xbfa: 1", "f.yaml").plain() == {"a": 1}


def test_every_value_knows_its_line() -> None:
    root = yaml.parse("a:\n  - 1\n  - b: x\n", "f.yaml", first_line=10)
    assert isinstance(root.value, dict)
    elements = root.value["a"].value
    assert isinstance(elements, list)
    assert [element.where for element in elements] == ["f.yaml:11", "f.yaml:12"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abc:-[]{}*&!|>'\"#\n \t?,%@`~1.0<", max_size=60))
def test_any_text_is_a_tree_or_a_config_error(text: str) -> None:
    with suppress(ConfigError):
        yaml.parse(text, "f.yaml")
