"""What Slack takes as the blocks of a message: slack_sdk's own validators, and the rules that they miss."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models import JsonObject
from slack_sdk.models.blocks import Block, BlockElement
from slack_sdk.models.views import View

BLOCKS_MAX, VIEW_BLOCKS_MAX = 50, 100
TEXT_MAX = 40_000
FIELD_MAX = 2000
_TEXTS = ("mrkdwn", "plain_text")
_SET_BY_SLACK = ("id", "hash", "state", "team_id", "bot_id", "app_id", "root_view_id", "previous_view_id")


def problems(blocks: Sequence[Mapping[str, Any]], most: int = BLOCKS_MAX) -> tuple[str, ...]:
    """Every reason for which Slack would refuse these blocks, each with its JSON pointer; () when it takes them."""
    try:
        plain = json.loads(json.dumps(list(blocks)))
    except (TypeError, ValueError) as error:
        return (f"not JSON: {error} [json-pointer:/blocks]",)
    found = [f"no more than {most} items allowed, got {len(plain)} [json-pointer:/blocks]"]
    return tuple(found[len(plain) <= most :] + list(_repeated_block_ids(plain)) + list(_all_of(plain)))


def view_problems(view: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """The same for a whole view; `kind` is what it has to be: `modal` or `home`."""
    blocks = view.get("blocks")
    if view.get("type") != kind:
        return (f"must be of type {kind} [json-pointer:/view/type]",)
    if not isinstance(blocks, list):
        return ("missing required field: blocks [json-pointer:/view/blocks]",)
    found = list(problems(blocks, VIEW_BLOCKS_MAX))
    try:
        parsed = View(**{**view, "blocks": [{"type": "divider"}]})  # the blocks were judged above
        parsed.to_dict()
    except (SlackObjectFormationError, TypeError, KeyError, AttributeError, ValueError) as error:
        found.append(f"{error} [json-pointer:/view]")
        return tuple(found)
    found += [f"invalid additional property: {key} [json-pointer:/view]" for key in parsed.additional_attributes]
    found += [f"is set by Slack: {key} [json-pointer:/view]" for key in _SET_BY_SLACK if key in view]
    if kind == "modal" and not view.get("title"):
        found.append("missing required field: title [json-pointer:/view/title]")
    has_input = any(isinstance(block, Mapping) and block.get("type") == "input" for block in blocks)
    if kind == "modal" and has_input and not view.get("submit"):
        found.append("a view with input blocks needs submit [json-pointer:/view/submit]")
    if not blocks:
        found.append("no fewer than 1 items allowed [json-pointer:/view/blocks]")
    for name in ("title", "submit", "close"):
        if view.get(name):
            found += _wrong_text({"text": view[name]}, f"/view/{name}", ("plain_text",))
    return tuple(found)


def elements(block: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """What can be clicked or chosen in a block, in order."""
    inside = [*block.get("elements", ()), block.get("accessory"), block.get("element")]
    return tuple(item for item in inside if isinstance(item, Mapping) and "action_id" in item)


def button(blocks: Sequence[Mapping[str, Any]], action_id: str, block_id: str = "") -> dict[str, Any]:
    """The one button with this action id, with its block's id as `block_id`. LookupError where there is none, or
    where several blocks have one and `block_id` does not choose."""
    found = [
        {**element, "block_id": block.get("block_id", "")}
        for block in blocks
        for element in elements(block)
        if element["action_id"] == action_id and block_id in ("", block.get("block_id", ""))
    ]
    if len(found) != 1:
        there = sorted({element["action_id"] for block in blocks for element in elements(block)})
        raise LookupError(f"{len(found)} buttons {action_id!r} in the message; it has {', '.join(there) or 'none'}")
    return found[0]


def _repeated_block_ids(blocks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    seen: set[str] = set()
    for at, block in enumerate(blocks):
        if isinstance(block, Mapping) and (name := block.get("block_id")):
            if name in seen:
                yield f'"block_id" already exists: {name} [json-pointer:/blocks/{at}/block_id]'
            seen.add(name)


def _all_of(blocks: Sequence[Any]) -> Iterator[str]:
    for at, block in enumerate(blocks):
        where = f"/blocks/{at}"
        if not isinstance(block, dict):
            yield f"must be an object [json-pointer:{where}]"
            continue
        yield from _of_block(block, where)
        yield from _of_texts(block, where)


def _of_block(block: dict[str, Any], where: str) -> Iterator[str]:
    parsed, why = _parsed(Block, block)
    if parsed is None:
        yield f"{why} [json-pointer:{where}]"
        return
    yield from _unknown_keys(block, parsed, where)
    if block["type"] in ("actions", "context") and not block["elements"]:
        yield f"no fewer than 1 items allowed [json-pointer:{where}/elements]"
    if block["type"] in ("section", "header"):
        yield from _wrong_text(block, where, ("plain_text",) if block["type"] == "header" else _TEXTS)
    for number, field in enumerate(block.get("fields", ())):
        if isinstance(field, dict) and len(str(field.get("text", ""))) > FIELD_MAX:
            yield f"must be at most {FIELD_MAX} characters [json-pointer:{where}/fields/{number}/text]"
    seen: set[str] = set()
    for pointer, element in _children(block, where):
        if isinstance(element, dict) and element.get("type") in _TEXTS:
            continue
        inner, why = _parsed(BlockElement, element)
        if inner is None:
            yield f"{why} [json-pointer:{pointer}]"
            continue
        yield from _unknown_keys(element, inner, pointer)
        if element["type"] == "button":
            yield from _wrong_text(element, pointer, ("plain_text",))
        if action := str(element.get("action_id", "")):
            if action in seen:
                yield f'"action_id" already exists: {action} [json-pointer:{pointer}/action_id]'
            seen.add(action)


def _wrong_text(holder: dict[str, Any], where: str, allowed: tuple[str, ...]) -> Iterator[str]:
    text = holder.get("text")
    if "text" in holder and not (isinstance(text, dict) and text.get("type") in allowed):
        yield f"must be an object of type {' or '.join(allowed)} [json-pointer:{where}/text]"


def _children(block: dict[str, Any], where: str) -> Iterator[tuple[str, Any]]:
    if block["type"] in ("actions", "context", "context_actions"):
        yield from ((f"{where}/elements/{at}", element) for at, element in enumerate(block.get("elements", ())))
    yield from ((f"{where}/{name}", block[name]) for name in ("accessory", "element") if name in block)


def _parsed(kind: type[Block] | type[BlockElement], value: Any) -> tuple[JsonObject | None, str]:
    """slack_sdk's object, or why there is none. Its constructors raise whatever the missing key led them to."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return None, "must be an object with a type"
    try:
        parsed: JsonObject | None = kind.parse(value)
        if parsed is None:
            return None, f"unsupported type: {value['type']}"
        parsed.to_dict()
    except (SlackObjectFormationError, TypeError, KeyError, AttributeError, ValueError) as error:
        return None, str(error)
    return parsed, ""


def _unknown_keys(raw: dict[str, Any], parsed: JsonObject, where: str) -> Iterator[str]:
    yield from (
        f"invalid additional property: {key} [json-pointer:{where}]"
        for key in sorted(set(raw) - set(parsed.attributes))
    )


def _of_texts(value: Any, where: str) -> Iterator[str]:
    """Text objects at any depth are never empty."""
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from _of_texts(item, f"{where}/{at}")
    if isinstance(value, dict):
        if value.get("type") in _TEXTS and not (isinstance(value.get("text"), str) and value["text"]):
            yield f"must be more than 0 characters [json-pointer:{where}/text]"
        for key, item in value.items():
            yield from _of_texts(item, f"{where}/{key}")
