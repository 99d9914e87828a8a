"""What people choose and type, as Slack sends it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bot.sandbox.blocks import elements
from bot.sandbox.workspace.rooms import ApiError

Block = Mapping[str, Any]

_ONE_OPTION = ("static_select", "external_select", "radio_buttons", "overflow")
_MANY_OPTIONS = ("multi_static_select", "multi_external_select", "checkboxes")
_PICKED = {
    "users_select": ("selected_user", "initial_user"),
    "conversations_select": ("selected_conversation", "initial_conversation"),
    "channels_select": ("selected_channel", "initial_channel"),
    "multi_users_select": ("selected_users", "initial_users"),
    "multi_conversations_select": ("selected_conversations", "initial_conversations"),
    "multi_channels_select": ("selected_channels", "initial_channels"),
    "datepicker": ("selected_date", "initial_date"),
    "timepicker": ("selected_time", "initial_time"),
    "datetimepicker": ("selected_date_time", "initial_date_time"),
}
_TYPED = ("plain_text_input", "number_input", "email_text_input", "url_text_input", "rich_text_input")
REQUIRED = "Please complete this required field."


def chosen(element: Block, value: Any) -> dict[str, Any]:
    """What Slack adds to this element for a value; `value` as the control API has it. Raises ApiError for one that the
    element does not offer."""
    kind = element["type"]
    if kind in _ONE_OPTION:
        return {"selected_option": _option(element, value) if value not in (None, "") else None}
    if kind in _MANY_OPTIONS:
        return {"selected_options": [_option(element, one) for one in value or ()]}
    if kind in _PICKED:
        return {_PICKED[kind][0]: value or ([] if kind.startswith("multi_") else None)}
    if kind in _TYPED:
        return {"value": value if value not in (None, "") else None}
    if value is not None:
        raise ApiError("invalid_arguments", f"a {kind} takes no value")
    return {}


def standing(blocks: Iterable[Block], values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Slack's `state.values` of these blocks: what was given, or else what each input began with."""
    state: dict[str, Any] = {}
    for block, element in _inputs(blocks):
        given = values.get(block["block_id"], {})
        action = element["action_id"]
        state.setdefault(block["block_id"], {})[action] = {
            "type": element["type"],
            **(chosen(element, given[action]) if action in given else _initial(element)),
        }
    return state


def lacking(blocks: Iterable[Block], state: Mapping[str, Any]) -> dict[str, str]:
    """What a person's own client refuses to send: block id -> sentence."""
    found: dict[str, str] = {}
    for block, element in _inputs(blocks):
        if block["type"] != "input":
            continue
        stands = state[block["block_id"]][element["action_id"]]
        value = next((item for key, item in stands.items() if key != "type"), None)
        if not value and not block.get("optional"):
            found[block["block_id"]] = REQUIRED
        if isinstance(value, str) and element["type"] in _TYPED and (why := _length(element, value)):
            found[block["block_id"]] = why
    return found


def _length(element: Block, value: str) -> str:
    least, most = element.get("min_length", 0), element.get("max_length", 3000)
    if len(value) < least:
        return f"Please enter at least {least} characters."
    return f"Please enter at most {most} characters." if len(value) > most else ""


def _inputs(blocks: Iterable[Block]) -> Iterator[tuple[Block, Block]]:
    for block in blocks:
        for element in elements(block):
            if element["type"] not in ("button", "overflow", "workflow_button"):
                yield block, element


def _initial(element: Block) -> dict[str, Any]:
    kind = element["type"]
    if kind in _ONE_OPTION:
        return {"selected_option": element.get("initial_option")}
    if kind in _MANY_OPTIONS:
        return {"selected_options": element.get("initial_options") or []}
    if kind in _PICKED:
        selected, initial = _PICKED[kind]
        return {selected: element.get(initial) or ([] if kind.startswith("multi_") else None)}
    return {"value": element.get("initial_value")}


def _option(element: Block, value: Any) -> dict[str, Any]:
    """By its value. An external select's options are known to the app only: {"text", "value"} comes from the person."""
    if element["type"].endswith("external_select") and isinstance(value, dict):
        return dict(value)
    offered = [*element.get("options", ()), *(o for g in element.get("option_groups", ()) for o in g["options"])]
    for option in offered:
        if option.get("value") == value:
            return dict(option)
    raise ApiError("invalid_arguments", f"{element['action_id']} offers no {value!r}")
