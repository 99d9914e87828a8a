"""Where evidence is kept, and the logs that others keep."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    address: str  # file path or s3://bucket/key?versionId=...
    sha256: str  # hex, of the bytes as read back
    size: int
    locked_until: datetime | None
    lock: str = ""  # the mode that was read back: COMPLIANCE, or none


@dataclass(frozen=True, slots=True)
class Retention:
    """A lock as it was read back."""

    mode: str  # COMPLIANCE | GOVERNANCE
    until: datetime


class Evidence(Protocol):
    """Content-addressed, write-once store: a folder, or a bucket with Object Lock."""

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        """Stores under its SHA-256 and reads it back. The same bytes again: the same address, no second copy."""

    def get(self, address: str) -> bytes | None: ...

    def retention(self, address: str) -> Retention | None:
        """The lock on it as it is now; None where there is none (a folder has none)."""


class AuditLog(Protocol):
    """What a Vault wrote of its requests, wherever its operators put it: Vault itself does not give it out."""

    @property
    def device(self) -> str:
        """The path of the audit device that wrote it (`file`), whose key hashed what it hides."""

    def entries(self, who: Collection[str], since: datetime, until: datetime) -> tuple[Mapping[str, Any], ...]:
        """The entries of that time in which one of these stands as `auth.entity_id`, `auth.accessor` or
        `response.auth.accessor`, as the log writes it (accessors by their HMAC); oldest first."""
