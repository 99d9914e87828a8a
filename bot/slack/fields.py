"""The inputs of a modal, each within Slack's limits. All texts come in plain; what a person chose comes out as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bot.slack.blockkit import Block, plain_text
from bot.slack.mrkdwn import plain, visible

FIELD = "field"  # the action id of every input: its block's id is its name
TITLE_MAX, OPTION_MAX, VALUE_MAX, PLACEHOLDER_MAX, LABEL_MAX = 24, 75, 150, 150, 2000
OPTIONS_MAX = 100  # of a list, and groups of a grouped one
TYPED_MAX = 3000

Choice = tuple[str, str]  # value, as shown


def modal(callback: str, title: str, blocks: Sequence[Block], *, memo: str, submit: str = "") -> Block:
    """Without `submit` there is only a button to close it."""
    view: Block = {
        "type": "modal",
        "callback_id": callback,
        "title": plain_text(title, TITLE_MAX),
        "close": plain_text("Cancel" if submit else "Close", TITLE_MAX),
        "private_metadata": memo,
        "blocks": list(blocks),
    }
    return view | {"submit": plain_text(submit, TITLE_MAX)} if submit else view


def typed(
    name: str, label: str, *, first: str = "", hint: str = "", most: int = TYPED_MAX, lines: bool = False, need: bool
) -> Block:
    element: Block = {"type": "plain_text_input", "action_id": FIELD, "max_length": most, "multiline": lines}
    if shown := visible(first)[:most]:
        element["initial_value"] = shown
    return _input(name, label, element, hint, need)


def number(name: str, label: str) -> Block:
    """Which Slack checks to be one."""
    return _input(name, label, {"type": "number_input", "action_id": FIELD, "is_decimal_allowed": True}, "", True)


def chosen(
    name: str, label: str, choices: Iterable[Choice], *, first: str = "", hint: str = "", need: bool = True
) -> Block:
    """One of these; at least one there must be. More than a hundred stand in groups of a hundred."""
    options = [_option(*choice) for choice in choices]
    element: Block = {"type": "static_select", "action_id": FIELD, "placeholder": plain_text("Choose", PLACEHOLDER_MAX)}
    if len(options) <= OPTIONS_MAX:
        element["options"] = options
    else:
        parts = [options[at : at + OPTIONS_MAX] for at in range(0, min(len(options), OPTIONS_MAX**2), OPTIONS_MAX)]
        element["option_groups"] = [{"label": _from_to(part), "options": part} for part in parts]
    if found := [option for option in options if first and option["value"] == first]:
        element["initial_option"] = found[0]
    return _input(name, label, element, hint, need)


def given(view: Mapping[str, Any]) -> dict[str, str]:
    """What stands in a submitted view: input's name -> text, '' where nothing does."""
    values = (view.get("state") or {}).get("values") or {}
    return {str(name): _value(dict(next(iter(block.values()), {}))) for name, block in values.items()}


def _value(element: Mapping[str, Any]) -> str:
    option = element.get("selected_option")
    return str((option or {}).get("value") if option else element.get("value") or "").strip()


def _input(name: str, label: str, element: Block, hint: str, need: bool) -> Block:
    block: Block = {
        "type": "input",
        "block_id": name,
        "label": plain_text(_inert(label, LABEL_MAX), LABEL_MAX),
        "element": element,
        "optional": not need,
    }
    return block | {"hint": plain_text(hint, LABEL_MAX)} if hint else block


def _option(value: str, shown: str) -> Block:
    return {"text": plain_text(_inert(shown, OPTION_MAX), OPTION_MAX), "value": value[:VALUE_MAX]}


def _inert(text: str, limit: int) -> str:
    """Slack reads no markup in plain text; nothing here looks like any all the same."""
    return plain(text, limit).replace("<", "<\u2060") or "-"


def _from_to(options: Sequence[Block]) -> Block:
    first, last = (str(options[at]["text"]["text"])[:30] for at in (0, -1))
    return plain_text(f"{first} – {last}", OPTION_MAX)
