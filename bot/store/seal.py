"""What makes an entry proof: canonical bytes, chained by digest, signed. The bytes are stored and never made again.

The signature is Ed25519 over the DSSE pre-authentication encoding, so that the ledger can seal these same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from bot.errors import ConfigError, RecordBroken

PAYLOAD_TYPE = "application/vnd.firedoor.entry+json"

_WRITE = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode
# Where Python's JSON and RFC 8785 part: whole or tiny floats, integers past 2**53, keys past U+D7FF. A match inside a
# text is harmless: it only takes the slow road.
_NUMBERS = re.compile(r"[0-9](?:\.0[,}\]]|e[-+]|[0-9]{15})")
_LONG = re.compile(r"\d{16}")
_HIGH = re.compile(r'[\ud800-\U0010ffff](?:[^"\\]|\\.)*+"(:?)')


def canonical(body: Mapping[str, Any]) -> bytes:
    """RFC 8785 JSON of plain values with text keys. The C encoder writes the same bytes for nearly every entry, at a
    tenth of the cost."""
    text = _WRITE(body)
    if _NUMBERS.search(text) or (not text.isascii() and any(_HIGH.findall(text))):
        return rfc8785.dumps(json.loads(text))
    return text.encode()


def parse(body: str) -> Any:
    """What `canonical` wrote. RFC 8785 writes a float past 2**53 like an integer: read it as the float it was."""
    return json.loads(body, parse_int=_integer) if _LONG.search(body) else json.loads(body)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def pre_authentication(body: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """DSSE v1 PAE."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(body), body)


def key_id(public: bytes) -> str:
    return hashlib.sha256(public).hexdigest()[:16]


def _integer(digits: str) -> int | float:
    value = int(digits)
    return value if -(2**53) < value < 2**53 else float(digits)


class Signer:
    """The key entries are signed with, and the earlier public keys (raw, 32 bytes) that old ones may still carry."""

    def __init__(self, private: Ed25519PrivateKey, trusted: Iterable[bytes] = ()) -> None:
        self._private = private
        self._keys = {key_id(raw): Ed25519PublicKey.from_public_bytes(raw) for raw in (*trusted, self.public())}
        self.key_id = key_id(self.public())

    @classmethod
    def fresh(cls) -> Signer:
        """A key that ends with the process: drills and tests."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def generate(cls, path: Path) -> Signer:
        """Writes a new PEM key, mode 0600. Raises ConfigError where the file exists: a key is never overwritten."""
        private = Ed25519PrivateKey.generate()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise ConfigError(str(path), "a signing key is there already.", "Move it away to make a new one.") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cls(private)

    @classmethod
    def load(cls, path: Path, trusted: Iterable[bytes] = ()) -> Signer:
        """Raises ConfigError where the file is missing, is no Ed25519 key, or can be read by others."""
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(str(path), "the signing key can be read by others.", f"Run: chmod 600 {path}")
            private = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise ConfigError(str(path), f"the signing key cannot be read ({error.strerror}).") from error
        except (ValueError, TypeError) as error:
            raise ConfigError(str(path), "this is not an unencrypted PEM private key.") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(str(path), "the signing key is not an Ed25519 key.")
        return cls(private, trusted)

    @property
    def private(self) -> Ed25519PrivateKey:
        return self._private

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """Every public key that entries may carry."""
        return tuple(key.public_bytes_raw() for key in self._keys.values())

    def public(self) -> bytes:
        return self._private.public_key().public_bytes_raw()

    def sign(self, body: bytes) -> str:
        """Base64."""
        return base64.b64encode(self._private.sign(pre_authentication(body))).decode()

    def verify(self, body: bytes, signature: str, signed_by: str) -> None:
        """Raises RecordBroken where the key is not trusted here or the signature is not its."""
        key = self._keys.get(signed_by)
        if key is None:
            raise RecordBroken(f"it is signed with key {signed_by}, which is not trusted here")
        try:
            key.verify(base64.b64decode(signature, validate=True), pre_authentication(body))
        except (InvalidSignature, ValueError):
            raise RecordBroken("the signature does not fit the bytes") from None
