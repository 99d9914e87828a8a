"""Where evidence is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    address: str  # file path or s3://bucket/key?versionId=...
    sha256: str  # hex, of the bytes as read back
    size: int
    locked_until: datetime | None


class Evidence(Protocol):
    """Content-addressed, write-once store: a folder, or a bucket with Object Lock."""

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        """Stores under its SHA-256 and reads it back. The same bytes again: the same address, no second copy."""

    def get(self, address: str) -> bytes | None: ...
