"""Standard Webhooks (standardwebhooks.com): the signature Firedoor puts on what it sends and asks of what it gets.

`webhook-signature` is a list, parted by spaces, of `v1,` + base64(HMAC-SHA256(secret, "id.timestamp.body")): one for
each secret, so that a secret is changed without a gap. A secret is its text, or `whsec_` + base64 of its bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

Secrets = Callable[[], Sequence[str]]  # the newest first; asked at each use, so that a secret is resolved late

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE = timedelta(minutes=5)


class BadSignature(ValueError):
    """Not signed by anybody who knows the secret, or not now. `stale` when only the time is wrong."""

    def __init__(self, why: str, *, stale: bool = False) -> None:
        self.stale = stale
        super().__init__(why)


def sign(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers. Raises ValueError without a secret."""
    if not any(secrets):
        raise ValueError("there is no secret to sign with")
    timestamp = str(int(at.timestamp()))
    marks = (f"v1,{_mac(secret, message_id, timestamp, body)}" for secret in secrets if secret)
    return {ID: message_id, TIMESTAMP: timestamp, SIGNATURE: " ".join(marks)}


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The `webhook-id` of a message that one of the secrets signed within five minutes of `now`; else BadSignature."""
    named = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp, given = (named.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    if not (message_id and timestamp and given):
        raise BadSignature(f"the headers {ID}, {TIMESTAMP} and {SIGNATURE} are needed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature(f"{TIMESTAMP} is not a number of seconds")
    marks = [mark.removeprefix("v1,").encode() for mark in given.split(" ") if mark.startswith("v1,")]
    macs = [_mac(secret, message_id, timestamp, body).encode() for secret in secrets if secret]
    if True not in {hmac.compare_digest(mark, mac) for mark in marks for mac in macs}:  # every pair: no early end
        raise BadSignature("no signature matches")
    # After the signature: a stranger learns nothing of our clock.
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise BadSignature(f"signed more than {TOLERANCE.seconds // 60} minutes away from now", stale=True)
    return message_id


def _mac(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("a secret that starts with whsec_ goes on in base64") from error
