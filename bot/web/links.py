"""Acknowledge links: personal, signed, good for a day. Holding one is the proof of who asks, so it goes to that person
only."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from bot.errors import FiredoorError
from bot.ports import Clock

GOOD_FOR = timedelta(hours=24)
PATH = "/ack/"
_SIGNED = re.compile(r"([A-Za-z0-9_-]{8,512})\.([A-Za-z0-9_-]{43})")
_PARTED = "\x1f"


class Forged(FiredoorError):
    """No link of this installation, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a genuine link says. `expired` by the clock of whoever checked it."""

    incident: str
    person: str
    expires: datetime
    expired: bool


def ack_link(public_url: str, key: bytes, incident: str, person: str, expires: datetime) -> str:
    """Whole seconds count. `key` is secret and this purpose's own."""
    said = _PARTED.join((incident, person, str(int(expires.timestamp())))).encode()
    return f"{public_url.rstrip('/')}{PATH}{_text(said)}.{_text(_signature(key, said))}"


class AckLinks:
    """`key`: 32 bytes derived from the artefacts' master key for nothing but this."""

    def __init__(self, public_url: str, key: bytes, clock: Clock) -> None:
        self._public_url, self._key, self._clock = public_url, key, clock

    def url(self, incident: str, person: str) -> str:
        """'' where the installation has no public address."""
        if not self._public_url:
            return ""
        return ack_link(self._public_url, self._key, incident, person, self._clock.now() + GOOD_FOR)

    def check(self, token: str) -> Asked:
        """What stands behind `/ack/` in a link. Raises Forged."""
        found = _SIGNED.fullmatch(token)
        try:
            said, signature = (_bytes(part) for part in found.groups()) if found else (b"", b"")
        except binascii.Error:
            said, signature = b"", b""
        if not hmac.compare_digest(signature, _signature(self._key, said)):
            raise Forged("This is not a link of this Firedoor, or a part of it is missing.")
        incident, person, until = said.decode().split(_PARTED)
        expires = datetime.fromtimestamp(int(until), UTC)
        return Asked(incident, person, expires, self._clock.now() >= expires)

    def token(self, url: str) -> str:
        """Of a link that `url` made."""
        return PurePosixPath(urlsplit(url).path).name


def _signature(key: bytes, said: bytes) -> bytes:
    return hmac.new(key, b"acknowledge\0" + said, hashlib.sha256).digest()


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
