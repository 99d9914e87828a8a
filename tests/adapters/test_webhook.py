import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.adapters.signing import verify
from bot.adapters.webhook import WebhookPager
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import PageMessage
from bot.sandbox.clock import SimClock
from tests.adapters.listener import Listener, listening

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def pager() -> Iterator[WebhookPager]:
    with closing(WebhookPager("webhook", lambda: ["secret"], SimClock(NOW), timeout=2)) as pager:
        yield pager


def page(listener: Listener, **changed: str) -> PageMessage:
    message = PageMessage(
        key="INC-7/L1/0/p-oncall ä/webhook",
        incident="INC-7",
        person="p-oncall",
        address=f"{listener.url}/hook?team=a%2Fb",
        subject="SEV1 agent 7",
        body="Agent 7 deletes objects.",
        ack_url="https://firedoor.test/ack/t",
    )
    return replace(message, **changed)


def test_a_page_is_signed_and_carries_its_key_and_the_acknowledge_link(listener: Listener, pager: WebhookPager):
    assert pager.send(page(listener)) == "INC-7/L1/0/p-oncall%20%C3%A4/webhook"
    method, target, headers, body = listener.got[0]
    assert (method, target) == ("POST", "/hook?team=a%2Fb")
    assert verify(["secret"], headers, body, NOW) == "INC-7/L1/0/p-oncall%20%C3%A4/webhook"
    assert json.loads(body) == {
        "type": "page",
        "timestamp": "2026-03-01T12:00:00+00:00",
        "data": {
            "key": "INC-7/L1/0/p-oncall ä/webhook",
            "incident": "INC-7",
            "person": "p-oncall",
            "subject": "SEV1 agent 7",
            "body": "Agent 7 deletes objects.",
            "ack_url": "https://firedoor.test/ack/t",
        },
    }


def test_a_repeat_has_the_same_id_and_the_receivers_reference_is_kept(listener: Listener, pager: WebhookPager):
    listener.answer = (202, {}, b'{"id": "evt-9"}')
    assert pager.send(page(listener)) == pager.send(page(listener)) == "evt-9"
    assert listener.got[0][2]["webhook-id"] == listener.got[1][2]["webhook-id"]


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        *((404, Rejected, False), (302, Rejected, False), (500, Rejected, True)),
        *((403, Denied, None), (401, Denied, None), (503, Unavailable, None)),
    ],
)
def test_refusals(listener: Listener, pager: WebhookPager, status: int, error: type[Exception], retryable: bool | None):
    listener.answer = (status, {}, b"")
    with pytest.raises(error) as caught:
        pager.send(page(listener))
    assert getattr(caught.value, "retryable", None) is retryable


@pytest.mark.parametrize("address", ["", "p-oncall", "ftp://a/b", "https://u:p@a/b"])
def test_an_address_that_is_no_url(listener: Listener, pager: WebhookPager, address: str):
    with pytest.raises(Rejected, match="the webhook of p-oncall is not an http"):
        pager.send(page(listener, address=address))
