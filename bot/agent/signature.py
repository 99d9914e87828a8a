"""Standard Webhooks, as docs/reference/gateway.md says: what the agent puts on its requests and asks of the answers.

Written out here once more, so that an agent takes nothing with it but this package.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
TOLERANCE = 300  # seconds that the two clocks may be apart


class Untrusted(ValueError):
    """An answer that Firedoor did not give to this request, or not now. Nothing in it is believed."""


def key_bytes(key: str) -> bytes:
    """Of `whsec_` + Base64, as `firedoor agents enroll` shows it. Raises ValueError."""
    try:
        found = base64.b64decode(key.removeprefix("whsec_"), validate=True) if key.startswith("whsec_") else b""
    except binascii.Error:
        found = b""
    if not found:
        raise ValueError("the key of an instance is `whsec_` and Base64: firedoor agents enroll shows it once")
    return found


def signed(key: bytes, message_id: str, at: float, body: bytes) -> dict[str, str]:
    """The three headers. `at`: Unix seconds."""
    timestamp = str(int(at))
    return {ID: message_id, TIMESTAMP: timestamp, SIGNATURE: f"v1,{_mac(key, message_id, timestamp, body)}"}


def checked(key: bytes, headers: Mapping[str, str], body: bytes, message_id: str, now: float) -> int:
    """The answer's own time in Unix seconds. Raises Untrusted. `headers` by lower-case name; `message_id` is the
    request's, so that an old answer cannot stand for a new one."""
    timestamp = headers.get(TIMESTAMP, "")
    if headers.get(ID) != message_id:
        raise Untrusted("the answer belongs to another request")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise Untrusted("the answer is not signed")
    mac = _mac(key, message_id, timestamp, body).encode()
    marks = [mark.removeprefix("v1,").encode() for mark in headers.get(SIGNATURE, "").split(" ")]
    if True not in {hmac.compare_digest(mark, mac) for mark in marks}:
        raise Untrusted("the answer is not signed with this instance's key")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise Untrusted("the answer's time is more than five minutes from here: set the clocks")
    return int(timestamp)


def _mac(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    text = b".".join((message_id.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
