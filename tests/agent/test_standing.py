"""Orders that are believed and those that are not, and what is left when nobody is heard."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.agent import signature
from bot.agent.signature import Untrusted
from bot.agent.standing import Mode, Standing, read_order
from tests.agent.test_tools import order

AT = 1_767_607_200  # Unix seconds of the answer


def iso(seconds: float) -> str:
    return datetime.fromtimestamp(AT + seconds, UTC).isoformat()


def document(**changed: Any) -> dict[str, Any]:
    return {
        "agent": "agent-7",
        "instance": "pod-1",
        "mode": "active",
        "epoch": 3,
        "nonce": "n",
        "incident": None,
        "lease": {"until": iso(45), "renew_after": iso(15)},
        "on_lease_loss": "shadow",
        "issued_at": iso(-3600),
    } | changed


def read(**changed: Any) -> Any:
    return read_order(json.dumps(document(**changed)).encode(), "agent-7", "pod-1", AT)


def test_the_lease_counts_from_the_answers_own_time() -> None:
    """Presigned an hour ago, or not: `issued_at` says nothing about how long it still runs. One second is given away,
    since the signed time has no parts of a second."""
    assert (read().lease, read().renew) == (44.0, 14.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"agent": "agent-8"},
        {"instance": "pod-2"},
        {"mode": "free"},
        {"mode": 1},
        {"epoch": -1},
        {"epoch": True},
        {"epoch": "3"},
        {"nonce": None},
        {"lease": None},
        {"lease": {"until": "soon", "renew_after": iso(1)}},
        {"lease": {"until": "2026-01-05T10:00:45", "renew_after": iso(1)}},
    ],
    ids=str,
)
def test_what_is_no_order_for_this_instance_is_not_believed(changed: dict[str, Any]) -> None:
    with pytest.raises(Untrusted):
        read(**changed)


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"agent": "agent-7"}', b"[" * 100_000, b"\xff"])
def test_garbage_is_no_order(body: bytes) -> None:
    with pytest.raises(Untrusted):
        read_order(body, "agent-7", "pod-1", AT)


@pytest.mark.parametrize(
    ("word", "mode"), [("keep", None), ("advisory", Mode.ADVISORY), ("shadow", Mode.SHADOW), ("active", Mode.SHADOW)]
)
def test_what_the_loss_of_the_lease_leads_to(word: str, mode: Mode | None) -> None:
    assert read(on_lease_loss=word).on_loss is mode


@pytest.mark.parametrize(
    ("mode", "on_loss", "then"),
    [
        ("active", Mode.SHADOW, Mode.SHADOW),
        ("active", Mode.ADVISORY, Mode.ADVISORY),
        ("active", None, Mode.ACTIVE),
        ("advisory", Mode.SHADOW, Mode.SHADOW),
        ("shadow", Mode.ADVISORY, Mode.SHADOW),
        ("disabled", Mode.SHADOW, Mode.DISABLED),
    ],
)
def test_the_end_of_a_lease_never_loosens(mode: str, on_loss: Mode | None, then: Mode) -> None:
    standing = Standing().told(order(mode, on_loss=on_loss), 100.0)
    assert standing.mode(144.9) is Mode[mode.upper()]
    assert standing.mode(145.0) is then
    assert "not heard" in standing.why(145.0)


def test_orders_only_go_forward() -> None:
    standing = Standing().told(order("shadow", 4), 0.0)
    with pytest.raises(Untrusted, match="older than epoch 4"):
        standing.told(order("active", 3), 0.0)
    with pytest.raises(Untrusted, match="another nonce or mode"):
        standing.told(order("active", 4), 0.0)
    renewed = standing.told(order("shadow", 4), 30.0)
    assert renewed.until == 75.0
    assert renewed.told(order("active", 5), 40.0).mode(50.0) is Mode.ACTIVE


def test_a_signature_is_for_one_request_and_for_now() -> None:
    key, body = b"key", b"{}"
    headers = signature.signed(key, "id-1", AT, body)
    assert signature.checked(key, headers, body, "id-1", AT + 299) == AT
    for wrong in (
        lambda: signature.checked(key, headers, body, "id-2", AT),
        lambda: signature.checked(key, headers, b"{ }", "id-1", AT),
        lambda: signature.checked(b"other", headers, body, "id-1", AT),
        lambda: signature.checked(key, headers, body, "id-1", AT + 301),
        lambda: signature.checked(key, headers, body, "id-1", AT - 301),
        lambda: signature.checked(key, {**headers, signature.TIMESTAMP: "²"}, body, "id-1", AT),
        lambda: signature.checked(key, {signature.ID: "id-1"}, body, "id-1", AT),
    ):
        with pytest.raises(Untrusted):
            wrong()
