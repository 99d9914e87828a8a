import base64
from datetime import UTC, datetime, timedelta

import pytest

from bot.adapters.signing import BadSignature, sign, verify

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_published_example_of_standard_webhooks():
    at = datetime.fromtimestamp(1614265330, UTC)
    headers = sign(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_what_is_signed_verifies_whatever_the_case_of_the_headers():
    headers = sign(["one"], "id-1", NOW, b"body")
    assert verify(["one"], {name.title(): value for name, value in headers.items()}, b"body", NOW) == "id-1"


def test_a_secret_changes_without_a_gap():
    both = sign(["new", "old"], "id-1", NOW, b"body")
    assert verify(["old"], both, b"body", NOW) == verify(["new"], both, b"body", NOW) == "id-1"
    assert verify(["new", "old"], sign(["old"], "id-1", NOW, b"body"), b"body", NOW) == "id-1"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_counts(name: str):
    headers = sign(["one"], "id-1", NOW, b"body")
    for other in ("", "1772366401", "v1," + base64.b64encode(b"x" * 32).decode(), "v1a,x", "ü"):
        with pytest.raises(BadSignature):
            verify(["one"], headers | {name: other}, b"body", NOW)


def test_another_body_another_secret_or_none_do_not_verify():
    headers = sign(["one"], "id-1", NOW, b"body")
    for secrets, body in ((["one"], b"Body"), (["two"], b"body"), ([""], b"body"), ([], b"body")):
        with pytest.raises(BadSignature, match="no signature matches"):
            verify(secrets, headers, body, NOW)


@pytest.mark.parametrize("away", [timedelta(seconds=301), timedelta(seconds=-301)])
def test_five_minutes_away_it_is_stale(away: timedelta):
    headers = sign(["one"], "id-1", NOW, b"body")
    assert verify(["one"], headers, b"body", NOW + away * (300 / 301)) == "id-1"
    with pytest.raises(BadSignature) as refused:
        verify(["one"], headers, b"body", NOW + away)
    assert refused.value.stale


def test_without_a_good_secret_nothing_is_signed():
    for secrets in ([], [""], ["whsec_not base64"]):
        with pytest.raises(ValueError):
            sign(secrets, "id-1", NOW, b"body")
