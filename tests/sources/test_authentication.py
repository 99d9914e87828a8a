from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.domain.source import Auth, SourceRules
from bot.sources.authentication import NotAuthentic, authenticate

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
SECRET, NEXT_SECRET, OTHER = b"a secret of this source", b"the one that follows", b"somebody else's"
BODY = b'{"alerts": []}'


def source(auth: Auth, **more: Any) -> SourceRules:
    return SourceRules(name="siem", kind="generic", owner="person-1", auth=auth, **more)


def mac(secret: bytes, signed: bytes) -> bytes:
    return hmac.new(secret, signed, hashlib.sha256).digest()


def webhook(secret: bytes = SECRET, body: bytes = BODY, at: datetime = NOW, id: str = "msg_1") -> dict[str, str]:
    stamp = str(int(at.timestamp()))
    signature = base64.b64encode(mac(secret, f"{id}.{stamp}.".encode() + body)).decode()
    return {"Webhook-Id": id, "Webhook-Timestamp": stamp, "Webhook-Signature": f"v1,{signature}"}


def refused(rules: SourceRules, headers: dict[str, str], body: bytes = BODY, secrets: Any = (SECRET,)) -> str:
    with pytest.raises(NotAuthentic) as caught:
        authenticate(rules, headers, body, NOW, secrets)
    assert caught.value.status == 401
    assert not any(secret.decode() in str(caught.value) for secret in (SECRET, NEXT_SECRET, OTHER))
    return str(caught.value)


def test_bearer():
    rules = source(Auth.BEARER)
    assert authenticate(rules, {"Authorization": f"Bearer {SECRET.decode()}"}, BODY, NOW, [SECRET]) is None
    assert "not this source's" in refused(rules, {"authorization": f"Bearer {OTHER.decode()}"})
    assert "Bearer <secret>" in refused(rules, {"authorization": f"Basic {SECRET.decode()}"})
    assert "authorization is missing" in refused(rules, {})


def test_bearer_in_a_header_of_its_own():
    rules = source(Auth.BEARER, auth_header="X-Firedoor-Token")
    assert authenticate(rules, {"x-firedoor-token": SECRET.decode()}, BODY, NOW, [SECRET]) is None
    assert "x-firedoor-token" in refused(rules, {"x-firedoor-token": "wrong \u00e9"})


def test_standard_webhook():
    rules = source(Auth.HMAC)
    assert authenticate(rules, webhook(), BODY, NOW, [SECRET])
    assert "not" in refused(rules, webhook(OTHER)) or "no v1" in refused(rules, webhook(OTHER))
    assert "no v1 signature" in refused(rules, webhook(), b'{"alerts": [1]}')
    assert "no v1 signature" in refused(rules, webhook() | {"Webhook-Id": "msg_2"})
    assert "webhook-signature is missing" in refused(rules, {**webhook(), "Webhook-Signature": ""})


def test_standard_webhook_known_answer():
    """The example of the standard's own documentation."""
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    at = datetime.fromtimestamp(1614265330, UTC)
    assert authenticate(source(Auth.HMAC), headers, b'{"test": 2432232314}', at, [secret])


@pytest.mark.parametrize("away", [timedelta(minutes=5, seconds=1), -timedelta(minutes=5, seconds=1)])
def test_stale_or_early_is_refused(away: timedelta):
    assert "more than 5 minutes away" in refused(source(Auth.HMAC), webhook(at=NOW + away))


@pytest.mark.parametrize("away", [timedelta(minutes=5), -timedelta(minutes=5)])
def test_five_minutes_either_way_are_good(away: timedelta):
    assert authenticate(source(Auth.HMAC), webhook(at=NOW + away), BODY, NOW, [SECRET])


@pytest.mark.parametrize("stamp", ["", "soon", "-1", "1e9", "9" * 30, "\u0661\u0662"])
def test_a_timestamp_is_a_number(stamp: str):
    signature = base64.b64encode(mac(SECRET, f"msg_1.{stamp}.".encode() + BODY)).decode()
    refused(source(Auth.HMAC), webhook() | {"Webhook-Timestamp": stamp, "Webhook-Signature": f"v1,{signature}"})


def test_two_secrets_while_one_is_rotated():
    rules = source(Auth.HMAC)
    both = [NEXT_SECRET, SECRET]
    assert authenticate(rules, webhook(SECRET), BODY, NOW, both)
    assert authenticate(rules, webhook(NEXT_SECRET), BODY, NOW, both)
    refused(rules, webhook(OTHER), secrets=both)
    several = webhook(SECRET)["Webhook-Signature"] + " v2,x v1,bm8= " + webhook(OTHER)["Webhook-Signature"]
    assert authenticate(rules, webhook() | {"Webhook-Signature": several}, BODY, NOW, [SECRET])


def test_a_repeated_delivery_has_the_same_replay_id():
    rules = source(Auth.HMAC)
    first = authenticate(rules, webhook(), BODY, NOW, [SECRET])
    later = NOW + timedelta(minutes=2)
    assert authenticate(rules, webhook(at=later), BODY, later, [SECRET]) == first, "the sender tried again"
    decorated = webhook() | {"Webhook-Signature": "v1,bm8= " + webhook()["Webhook-Signature"], "X-Other": "1"}
    assert authenticate(rules, decorated, BODY, NOW, [SECRET]) == first, "unsigned headers change nothing"
    assert authenticate(rules, webhook(id="msg_2"), BODY, NOW, [SECRET]) != first
    assert authenticate(rules, webhook(body=b"{}"), b"{}", NOW, [SECRET]) != first
    named = SourceRules(name="other", kind="generic", owner="person-1", auth=Auth.HMAC)
    assert authenticate(named, webhook(), BODY, NOW, [SECRET]) != first


def test_hex_signature_of_the_body():
    rules = source(Auth.HMAC_HEX)
    good = {"X-Hub-Signature-256": "sha256=" + mac(SECRET, BODY).hex()}
    assert authenticate(rules, good, BODY, NOW, [SECRET]) == authenticate(rules, good, BODY, NOW, [SECRET])
    assert authenticate(rules, {"X-Hub-Signature-256": mac(SECRET, BODY).hex().upper()}, BODY, NOW, [SECRET])
    refused(rules, good, b"{}")
    refused(rules, {"X-Hub-Signature-256": ""})


def test_hex_signature_with_a_timestamp():
    rules = source(Auth.HMAC_HEX, auth_header="X-Sig", timestamp_header="X-Time")
    stamp = str(int(NOW.timestamp()))
    good = {"X-Sig": mac(SECRET, f"{stamp}.".encode() + BODY).hex(), "X-Time": stamp}
    assert authenticate(rules, good, BODY, NOW, [SECRET])
    refused(rules, good | {"X-Time": str(int(stamp) + 1)})
    refused(rules, {"X-Sig": good["X-Sig"]})
    old = str(int(stamp) - 301)
    assert "5 minutes" in refused(rules, {"X-Sig": mac(SECRET, f"{old}.".encode() + BODY).hex(), "X-Time": old})


def test_grafana_with_and_without_a_timestamp():
    bare = {"X-Grafana-Alerting-Signature": mac(SECRET, BODY).hex()}
    assert authenticate(source(Auth.GRAFANA), bare, BODY, NOW, [SECRET])
    stamped = source(Auth.GRAFANA, timestamp_header="X-Grafana-Alerting-Timestamp")
    stamp = str(int(NOW.timestamp()))
    good = {
        "X-Grafana-Alerting-Signature": mac(SECRET, f"{stamp}:".encode() + BODY).hex(),
        "X-Grafana-Alerting-Timestamp": stamp,
    }
    assert authenticate(stamped, good, BODY, NOW, [SECRET])
    refused(stamped, bare | {"X-Grafana-Alerting-Timestamp": stamp}), "a signature of the body alone is not enough"
    refused(stamped, bare)


def test_no_authentication_and_queues():
    assert authenticate(source(Auth.NONE), {}, BODY, NOW) is None
    assert "takes nothing over HTTP" in refused(source(Auth.SQS), webhook())


@pytest.mark.parametrize("auth", [Auth.BEARER, Auth.HMAC, Auth.HMAC_HEX, Auth.GRAFANA])
def test_without_a_secret_nobody_comes_in(auth: Auth):
    headers = webhook(b"") | {"authorization": "Bearer ", "x-hub-signature-256": mac(b"", BODY).hex()}
    assert "no secret" in refused(source(auth), headers, secrets=())
    assert "no secret" in refused(source(auth), headers, secrets=(b"",))
