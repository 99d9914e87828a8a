"""Whether a delivery comes from the source it says it comes from. Constant time; says why not, never what was expected.

Several secrets may be good at once, so that one can be rotated without a gap.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from bot.domain.source import Auth, SourceRules
from bot.errors import FiredoorError

TOLERANCE = timedelta(minutes=5)  # both ways
DEFAULT_HEADERS = {Auth.BEARER: "authorization", Auth.HMAC_HEX: "x-hub-signature-256"}
GRAFANA_HEADER = "x-grafana-alerting-signature"


class NotAuthentic(FiredoorError):
    """A delivery that is not its source's. Answered with 401 and this text."""

    status: int = 401  # HTTP


def authenticate(
    source: SourceRules, headers: Mapping[str, str], body: bytes, now: datetime, secrets: Sequence[bytes] = ()
) -> str | None:
    """Returns the replay id of a signed delivery (64 hex; the same for the same delivery, whatever its unsigned
    headers), by which the caller finds its first answer; None where nothing was signed. Raises NotAuthentic.

    `headers` in any case, `body` as received (before it is unpacked), `secrets` newest first.
    """
    named = {name.lower(): value for name, value in headers.items()}
    good = [secret for secret in secrets if secret]
    if source.auth is Auth.NONE:
        return None
    if source.auth is Auth.SQS:
        raise NotAuthentic(f"source {source.name!r} is read from its queue: it takes nothing over HTTP")
    if source.auth is Auth.SLACK:
        raise NotAuthentic(f"source {source.name!r} is read from its Slack channels: it takes nothing over HTTP")
    if not good:
        raise NotAuthentic(f"source {source.name!r} has auth: {source.auth} and no secret: set one")
    if source.auth is Auth.BEARER:
        _bearer(source, named, good)
        return None
    if source.auth is Auth.HMAC:
        return _standard_webhook(source, named, body, now, good)
    return _hex_signature(source, named, body, now, good)


def _bearer(source: SourceRules, headers: Mapping[str, str], secrets: Sequence[bytes]) -> None:
    name = source.auth_header.lower() or DEFAULT_HEADERS[Auth.BEARER]
    given = _header(headers, name)
    if name == "authorization":
        scheme, _, given = given.partition(" ")
        if scheme.lower() != "bearer":
            raise NotAuthentic("the header authorization is not `Bearer <secret>`")
    if not _any_equal(given.strip().encode("utf-8", "replace"), secrets):
        raise NotAuthentic(f"the secret in {name} is not this source's")


def _standard_webhook(
    source: SourceRules, headers: Mapping[str, str], body: bytes, now: datetime, secrets: Sequence[bytes]
) -> str:
    message_id = _header(headers, "webhook-id").encode("utf-8", "replace")
    timestamp = _header(headers, "webhook-timestamp")
    given = _header(headers, "webhook-signature").encode("utf-8", "replace")
    signed = b".".join((message_id, timestamp.encode("utf-8", "replace"), body))
    expected = [base64.b64encode(_mac(_raw_key(secret), signed)) for secret in secrets]
    marks = [mark[3:] for mark in given.split(b" ")[:16] if mark.startswith(b"v1,")]
    if not any(_any_equal(mark, expected) for mark in marks):
        raise NotAuthentic("no v1 signature in webhook-signature is this source's")
    _fresh(timestamp, "webhook-timestamp", now)
    # A sender that tries again keeps the id and stamps anew: by its id and body it is the same delivery.
    return _replay_id(source, message_id, body)


def _hex_signature(
    source: SourceRules, headers: Mapping[str, str], body: bytes, now: datetime, secrets: Sequence[bytes]
) -> str:
    is_grafana = source.auth is Auth.GRAFANA
    name = source.auth_header.lower() or (GRAFANA_HEADER if is_grafana else DEFAULT_HEADERS[Auth.HMAC_HEX])
    given = _header(headers, name).strip().lower().removeprefix("sha256=").encode("utf-8", "replace")
    stamped = source.timestamp_header.lower()
    timestamp = _header(headers, stamped) if stamped else ""
    prefix = timestamp.encode("utf-8", "replace") + (b":" if is_grafana else b".") if stamped else b""
    if not _any_equal(given, [_mac(secret, prefix + body).hex().encode() for secret in secrets]):
        raise NotAuthentic(f"the signature in {name} is not this source's")
    if stamped:
        _fresh(timestamp, stamped, now)
    return _replay_id(source, prefix, body)


def _header(headers: Mapping[str, str], name: str) -> str:
    if not (value := headers.get(name, "")):
        raise NotAuthentic(f"the header {name} is missing")
    return value


def _fresh(timestamp: str, name: str, now: datetime) -> None:
    """Asked after the signature, so that a stranger learns nothing of the clock."""
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise NotAuthentic(f"{name} is not a number of Unix seconds")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE.total_seconds():
        raise NotAuthentic(f"{name} is more than {TOLERANCE.seconds // 60} minutes away from now: send it again")


def _any_equal(given: bytes, expected: Sequence[bytes]) -> bool:
    return any(hmac.compare_digest(given, one) for one in expected)


def _mac(key: bytes, signed: bytes) -> bytes:
    return hmac.new(key, signed, hashlib.sha256).digest()


def _raw_key(secret: bytes) -> bytes:
    """`whsec_` + Base64 as the standard writes it, or the bytes themselves."""
    if not secret.startswith(b"whsec_"):
        return secret
    try:
        return base64.b64decode(secret[6:], validate=True)
    except binascii.Error as error:
        raise NotAuthentic("the configured secret begins with whsec_ and is not Base64 after it") from error


def _replay_id(source: SourceRules, said: bytes, body: bytes) -> str:
    parts = (source.name.encode(), hashlib.sha256(said).digest(), hashlib.sha256(body).digest())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
