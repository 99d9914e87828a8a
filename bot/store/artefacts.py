"""Text outside the record: encrypted under a key of its incident, so that destroying the key erases it."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bot.domain.events import TextRef
from bot.errors import RecordBroken
from bot.store import tables
from bot.store.session import Session

_NONCE = 12
_SALT = 16


class Artefacts(Session):
    """AES-256-GCM, the nonce in front; what a ciphertext is (`text ID`, `alert ID`) is its associated data."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._keys: dict[str, tuple[str, AESGCM]] = {}

    def put_text(self, incident: str, data: str | bytes) -> TextRef:
        """Stores a text or document; the reference's digest is SHA-256 over a random salt and the data."""
        data = data.encode() if isinstance(data, str) else data
        artefact, salt = secrets.token_hex(16), os.urandom(_SALT)
        key, sealed = self._seal(incident, data, f"text {artefact}")
        self._wait(tables.texts, artefact, (artefact, key, salt, sealed))
        return TextRef(artefact, hashlib.sha256(salt + data).hexdigest())

    def get_text(self, ref: TextRef) -> bytes | None:
        """None where it was erased. Raises RecordBroken where it is missing, or not what the record's digest says."""
        self._settle(tables.keys, tables.texts)
        row = self._row(
            "SELECT key_id, wrapped, salt, sealed FROM texts LEFT JOIN keys ON id = key_id WHERE artefact = :artefact",
            {"artefact": ref.artefact},
        )
        if row is None:
            raise RecordBroken(f"artefact {ref.artefact} is missing")
        key, wrapped, salt, sealed = row
        data = self._unseal(key, wrapped, sealed, f"text {ref.artefact}")
        if data is not None and hashlib.sha256(salt + data).hexdigest() != ref.digest:
            raise RecordBroken(f"artefact {ref.artefact} is not what the record says")
        return data

    def erase(self, incident: str) -> None:
        """Destroys the incident's keys: its texts and alerts can no longer be read. A backup from before still holds
        both; it is erased with its own retention."""
        self._must_write()
        self._settle(tables.keys, tables.texts, tables.alerts)
        for table in ("texts", "alerts"):
            self._run(
                f"""UPDATE {table} SET sealed = :nothing
                WHERE key_id IN (SELECT id FROM keys WHERE incident = :incident)""",
                {"incident": incident, "nothing": b""},
            )
        with self._database.overwriting(self._raw):
            self._run("DELETE FROM keys WHERE incident = :incident", {"incident": incident})
        self._keys.pop(incident, None)

    def pin(self, hash: str, kind: str, text: str) -> None:
        """Keeps a playbook, matrix or runbook under its content hash; the same hash again changes nothing."""
        self._wait(tables.pins, hash, (hash, kind, text))

    def pinned(self, hash: str) -> str | None:
        row = self._waits(tables.pins, hash)
        row = row or self._row("SELECT hash, kind, text FROM pins WHERE hash = :hash", {"hash": hash})
        return row[2] if row else None

    def _seal(self, incident: str | None, data: bytes, what: str) -> tuple[str, bytes]:
        """The key's id and nonce + ciphertext. A transaction makes its own key for an incident: no look-up, and no key
        kept in memory that an erasure elsewhere has destroyed."""
        if incident is None:
            return "", encrypt(self._identity.own, data, what)
        if incident not in self._keys:
            id, key = secrets.token_hex(16), os.urandom(32)
            self._wait(tables.keys, id, (id, incident, encrypt(self._identity.master, key, f"key {id}")))
            self._keys[incident] = (id, AESGCM(key))
        id, cipher = self._keys[incident]
        return id, encrypt(cipher, data, what)

    def _unseal(self, key_id: str, wrapped: bytes | None, sealed: bytes, what: str) -> bytes | None:
        if key_id and wrapped is None:
            return None
        cipher = self._identity.own
        if wrapped is not None:
            cipher = AESGCM(decrypt(self._identity.master, wrapped, f"key {key_id}"))
        return decrypt(cipher, sealed, what)


def encrypt(cipher: AESGCM, data: bytes, what: str) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, data, what.encode())


def decrypt(cipher: AESGCM, sealed: bytes, what: str) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], what.encode())
    except InvalidTag:
        raise RecordBroken(f"{what} does not open: another master key, or changed bytes") from None
