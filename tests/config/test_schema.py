"""The published JSON Schema agrees with the loader on what is shipped and on what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bot.actions import registry
from bot.config import EXAMPLE, yaml
from bot.config.playbooks import load_playbook
from bot.config.schema import playbook_schema
from bot.errors import ConfigError
from tests.config.actions import ACTIONS
from tests.config.test_playbooks import WHOLE

SCHEMA = playbook_schema(registry())
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "array": list,
}


def valid(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> bool:
    """The keywords that the schema uses, as JSON Schema 2020-12 means them."""
    root = root or schema
    return all(_holds(keyword, wanted, value, schema, root) for keyword, wanted in schema.items())


def _holds(keyword: str, wanted: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    def ok(value: Any, schema: dict[str, Any]) -> bool:
        return valid(value, schema, root)

    match keyword, value:
        case "$ref", _:
            return ok(value, root["$defs"][wanted.removeprefix("#/$defs/")])
        case "type", _:
            kinds = wanted if isinstance(wanted, list) else [wanted]
            return any(isinstance(value, TYPES[k]) and (k == "boolean") >= isinstance(value, bool) for k in kinds)
        case "const", _:
            return bool(value == wanted)
        case "enum", _:
            return value in wanted
        case "pattern", str():
            return re.search(wanted, value) is not None
        case "minimum", int() | float():
            return bool(value >= wanted)
        case "maximum", int() | float():
            return bool(value <= wanted)
        case "uniqueItems", list():
            return len({*map(str, value)}) == len(value)
        case "maxLength", str():
            return len(value) <= wanted
        case ("minItems", list()) | ("minProperties", dict()):
            return len(value) >= wanted
        case "items", list():
            return all(ok(each, wanted) for each in value)
        case "required", dict():
            return all(key in value for key in wanted)
        case "properties", dict():
            return all(ok(value[key], inner) for key, inner in wanted.items() if key in value)
        case "additionalProperties", dict():
            others = [inner for key, inner in value.items() if key not in schema.get("properties", {})]
            return all(wanted is not False and ok(inner, wanted) for inner in others)
        case "propertyNames", dict():
            return all(ok(key, wanted) for key in value)
        case "allOf", _:
            return all(ok(value, inner) for inner in wanted)
        case "anyOf", _:
            return any(ok(value, inner) for inner in wanted)
        case "oneOf", _:
            return sum(ok(value, inner) for inner in wanted) == 1
        case "if", _:
            return not ok(value, wanted) or ok(value, schema["then"])
        case _:
            return True


@pytest.mark.parametrize("path", sorted((EXAMPLE / "playbooks").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_playbooks_satisfy_it(path: Path) -> None:
    assert valid(yaml.parse(path.read_bytes(), path.name).plain(), SCHEMA)


def test_every_key_of_the_language_is_in_it() -> None:
    assert valid(yaml.parse(WHOLE, "f").plain(), playbook_schema(ACTIONS))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("uses: agent.set_mode", "uses: agent.set_mod"),
        ("mode: shadow}", "mode: shadwo}"),
        ("mode: shadow}", "mod: shadow}"),
        ("contains: true", "contain: true"),
        ("rung: propose", "rung: dream"),
        ("version: 1.0.0", "version: one"),
        ("- types: [unclassified]", "- {}"),
        ("what_is_it: [", "What: ["),
        ("timeout: 5m", "timeout: 5 minutes"),
        ("on_error: continue", "on_error: ignore"),
        ("policy: contain-agent", "policy: [contain-agent]"),
        ("policy: contain-agent", "polcy: contain-agent"),
        ("policy: contain-agent", "approval: {each: {security_team: 1}, step_up: sms}"),
    ],
)
def test_what_the_loader_refuses_it_refuses(old: str, new: str) -> None:
    text = (EXAMPLE / "playbooks/unclassified.yaml").read_text()
    assert text.count(old) == 1
    text = text.replace(old, new)
    assert not valid(yaml.parse(text, "f").plain(), SCHEMA)
    with pytest.raises(ConfigError):
        load_playbook(text, "f", registry())
