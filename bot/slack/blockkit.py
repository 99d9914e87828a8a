"""Block Kit's parts, each within Slack's limits. Texts come in as escaped mrkdwn, except where they are plain."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Block = dict[str, Any]

HEADER_MAX, SECTION_MAX, FIELD_MAX, LABEL_MAX = 150, 3000, 2000, 75
FIELDS_MAX = 10


def header(text: str) -> Block:
    """Plain text."""
    return {"type": "header", "text": plain_text(text, HEADER_MAX)}


def section(text: str, *, block_id: str = "", accessory: Block | None = None) -> Block:
    block: Block = {"type": "section", "text": _mrkdwn(text, SECTION_MAX)}
    if block_id:
        block["block_id"] = block_id
    return block | {"accessory": accessory} if accessory else block


def fields(pairs: Mapping[str, str]) -> Block:
    """Label -> text, two in a row."""
    shown = [_mrkdwn(f"*{label}*\n{text}", FIELD_MAX) for label, text in pairs.items() if text]
    return {"type": "section", "fields": shown[:FIELDS_MAX]}


def listing(title: str, lines: Sequence[str], most: int = 24) -> list[Block]:
    """A title and its lines, over as many sections as they need; past `most` lines the rest is counted."""
    shown = list(lines[:most])
    if len(lines) > most:
        shown.append(f"_and {len(lines) - most} more_")
    return [section(text) for text in _packed([f"*{title}*", *shown])]


def context(*texts: str, block_id: str = "") -> Block:
    block: Block = {"type": "context", "elements": [_mrkdwn(text, FIELD_MAX) for text in texts if text][:10]}
    return block | {"block_id": block_id} if block_id else block


def divider() -> Block:
    return {"type": "divider"}


def actions(block_id: str, *buttons: Block) -> Block:
    return {"type": "actions", "block_id": block_id, "elements": list(buttons)}


def button(label: str, action_id: str, value: str, *, style: str = "", sure: tuple[str, str] | None = None) -> Block:
    """`sure`: title and question (both plain) that Slack asks before it sends the click."""
    block: Block = {"type": "button", "text": plain_text(label, LABEL_MAX), "action_id": action_id, "value": value}
    if style:
        block["style"] = style
    if sure:
        title, question = sure
        block["confirm"] = {
            "title": plain_text(title, 100),
            "text": plain_text(question, 300),
            "confirm": plain_text("Yes", 30),
            "deny": plain_text("No", 30),
        }
    return block


def _packed(lines: Iterable[str]) -> Iterator[str]:
    text = ""
    for line in lines:
        if text and len(text) + len(line) + 1 > SECTION_MAX:
            yield text
            text = ""
        text += ("\n" if text else "") + line
    yield text


def plain_text(text: str, limit: int) -> Block:
    return {"type": "plain_text", "text": _cut(text, limit), "emoji": False}


def _mrkdwn(text: str, limit: int) -> Block:
    return {"type": "mrkdwn", "text": _cut(text, limit)}


def _cut(text: str, limit: int) -> str:
    """The pieces are limited where they are made; this only keeps Slack from refusing the whole message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
