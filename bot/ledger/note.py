"""Signed notes (c2sp.org/signed-note) with Ed25519: a text, and lines that say whose key has signed it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from bot.errors import ConfigError, RecordBroken

ED25519 = b"\x01"
LARGEST = 1 << 20  # characters of a note
_NAME = re.compile(r"[^\s+]+")
_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})\n")


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the name it signs under. Written `name+id+base64`, as others' verifiers take it."""

    name: str
    public: bytes  # raw, 32 bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    @classmethod
    def parse(cls, text: str) -> Key:
        """Raises ConfigError."""
        name, _, rest = text.strip().partition("+")
        id, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raw = b""
        key = cls(name, raw[1:])
        if not _NAME.fullmatch(name) or len(raw) != 33 or raw[:1] != ED25519 or key.id.hex() != id:
            raise ConfigError(
                "the public key", "it is no Ed25519 key of a signed note.", "It looks like name+id+base64."
            )
        return key

    def verify(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


def sign(text: str, name: str, private: Ed25519PrivateKey) -> str:
    """`text` ends with a newline."""
    key = Key(name, private.public_key().public_bytes_raw())
    signature = base64.b64encode(key.id + private.sign(text.encode())).decode()
    return f"{text}\n— {name} {signature}\n"


def signers(note: str) -> tuple[str, ...]:
    """Whose names stand under a note, proved or not."""
    return tuple(name for name, _ in _LINE.findall(note.rpartition("\n\n")[2]))


def open_note(note: str, key: Key) -> str:
    """The text of a note that this key has signed. Raises RecordBroken."""
    text, gap, lines = note.rpartition("\n\n")
    found = _LINE.findall(lines)
    if (
        len(note) > LARGEST
        or not gap
        or "".join(f"— {name} {signed}\n" for name, signed in found) != lines
        or not found
    ):
        raise RecordBroken("it is no signed note")
    text += "\n"
    mine = 0
    for name, encoded in found:
        raw = _decoded(encoded)
        if name != key.name or raw[:4] != key.id:
            continue
        if not key.verify(text, raw[4:]):
            raise RecordBroken(f"the signature of {name} does not fit the text")
        mine += 1
    if not mine:
        raise RecordBroken(f"it is signed by {', '.join(name for name, _ in found)}, not with the key {key}")
    return text


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return b""
