"""What Slack refuses, and what the simulator of drills keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bot.ports import ChatMessage
from bot.sandbox.blocks import problems
from bot.sandbox.chat import SimChat
from bot.sandbox.clock import SimClock


def text(content: str, kind: str = "mrkdwn") -> dict[str, Any]:
    return {"type": kind, "text": content}


def button(action_id: str, label: str = "Go", **more: Any) -> dict[str, Any]:
    return {"type": "button", "text": text(label, "plain_text"), "action_id": action_id, **more}


def actions(*elements: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "actions", "elements": list(elements), **more}


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ({"type": "section"}, "text or fields"),
        ({"type": "section", "text": text("")}, "more than 0"),
        ({"type": "section", "text": text("x" * 3001)}, "3000"),
        ({"type": "section", "text": "bare"}, "must be an object of type"),
        ({"type": "section", "fields": [text("x")] * 11}, "10 items"),
        ({"type": "section", "fields": [text("x" * 2001)]}, "/fields/0/text"),
        ({"type": "header", "text": text("x" * 151, "plain_text")}, "150"),
        ({"type": "header", "text": text("*x*")}, "plain_text"),
        ({"type": "marquee"}, "unsupported type: marquee"),
        (actions(), "no fewer than 1"),
        (actions(*(button(str(number)) for number in range(26))), "25"),
        (actions(button("a"), button("a")), "/elements/1/action_id"),
        (actions(button("a", "x" * 76)), "75"),
        (actions(button("a", value="v" * 2001)), "2000"),
        (actions(button("a", style="purple")), "style"),
        (actions(button("a", disabled=True)), "invalid additional property: disabled"),
        (actions({"type": "knob", "action_id": "a"}), "unsupported type: knob"),
        ({"type": "context", "elements": [text("x")] * 11}, "10 elements"),
    ],
)
def test_slack_refuses(block: dict[str, Any], why: str) -> None:
    assert why in " ".join(problems([block]))


def test_slack_takes() -> None:
    card = [
        {"type": "header", "text": text("INC-7", "plain_text")},
        {"type": "section", "text": text("*SEV1*"), "fields": [text("a"), text("b")], "accessory": button("open")},
        {"type": "divider"},
        actions(button("ack", style="primary", value="1"), button("stop", style="danger"), block_id="first"),
        actions(button("ack", value="2"), block_id="second"),  # the same id in another block is fine
        {"type": "context", "elements": [text("sealed")]},
    ]
    assert problems(card) == ()
    assert problems(card * 9) != ()
    assert problems([{"type": "divider"}] * 50) == ()


def test_a_drill_sees_edits_and_presses_what_is_there_now() -> None:
    chat = SimChat(SimClock(datetime(2026, 1, 1, tzinfo=UTC)), people=["U1"], channels=["C1"])
    first = ChatMessage("card", "open", (actions(button("ack", value="req-1")),))
    ref = chat.post("C1", first)
    assert chat.press(ref, "ack")["value"] == "req-1"
    chat.update(ref, ChatMessage("card", "acknowledged", (actions(button("unack", value="req-2")),)))
    [shown] = chat.messages("C1")
    assert (shown.message.text, shown.edits) == ("acknowledged", (first,))
    with pytest.raises(LookupError, match="it has unack"):
        chat.press(ref, "ack")


def test_the_same_button_in_two_blocks_is_chosen_by_block() -> None:
    chat = SimChat(SimClock(datetime(2026, 1, 1, tzinfo=UTC)), people=[], channels=["C1"])
    rows = tuple(actions(button("approve", value=f"req-{row}"), block_id=row) for row in ("a", "b"))
    ref = chat.post("C1", ChatMessage("k", "two requests", rows))
    assert chat.press(ref, "approve", "b")["value"] == "req-b"
    with pytest.raises(LookupError, match="2 buttons"):
        chat.press(ref, "approve")
