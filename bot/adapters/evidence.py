"""Where evidence is kept: write-once, under its own SHA-256, read back before anyone relies on it."""

from __future__ import annotations

import hashlib
import os
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from botocore.exceptions import BotoCoreError

from bot.adapters.aws_api import AwsApi
from bot.errors import Rejected, Unavailable
from bot.files import write_whole
from bot.ports import Clock, Retention, StoredObject

COMPLIANCE = "COMPLIANCE"
ABSENT = ("NoSuchKey", "NoSuchVersion", "404")


class FolderEvidence:
    """ports.Evidence in a folder: `<root>/sha256/<hex>`, read-only files. `<root>/index.tsv` says in one line each
    what was stored: time, SHA-256, bytes, retention asked for, name. A folder locks nothing: root can still delete, so
    `locked_until` is None."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root, self._clock = root, clock
        self._folder = root / "sha256"

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        digest = hashlib.sha256(data).hexdigest()
        path = self._folder / digest
        try:
            if not path.exists():
                write_whole(path, data, mode=0o440)
                self._note(digest, len(data), name, retain_until)
            kept = path.read_bytes()
        except OSError as error:
            raise Unavailable("evidence", f"{self._root}: {error}") from error
        if hashlib.sha256(kept).hexdigest() != digest:
            raise Rejected("evidence", f"{path} does not hold what its name says: it was changed, keep it and find out")
        return StoredObject(str(path), digest, len(kept), None)

    def get(self, address: str) -> bytes | None:
        path = self._path(address)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable("evidence", f"{address}: {error}") from error

    def retention(self, address: str) -> Retention | None:
        """None: a folder locks nothing."""
        self._path(address)
        return None

    def _path(self, address: str) -> Path:
        path = Path(address)
        if path.parent != self._folder:
            raise Rejected("evidence", f"{address} is not in {self._folder}")
        return path

    def _note(self, digest: str, size: int, name: str, retain_until: datetime | None) -> None:
        kept = retain_until.isoformat() if retain_until else "-"
        line = "\t".join((self._clock.now().isoformat(), digest, str(size), kept, quote(name, safe=" ()"))) + "\n"
        handle = os.open(self._root / "index.tsv", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        try:
            os.write(handle, line.encode())  # one write of a short line is not torn
        finally:
            os.close(handle)


class BucketEvidence:
    """ports.Evidence in an S3 bucket made with Object Lock. With `retain_until` the version is locked in COMPLIANCE
    mode: nobody, the account's root included, can delete or shorten it. Permissions: s3:PutObject, s3:GetObject,
    s3:GetObjectVersion, s3:GetObjectRetention, s3:PutObjectRetention."""

    def __init__(self, api: AwsApi, bucket: str, prefix: str = "") -> None:
        self._api, self._bucket = api, bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def put(self, data: bytes, *, name: str, retain_until: datetime | None) -> StoredObject:
        digest = hashlib.sha256(data)
        key = f"{self._prefix}sha256/{digest.hexdigest()}"
        stored = self._store(data, key, name, retain_until)
        version = (stored or self._head(key)).get("VersionId")
        if version is None:
            why = f"{self._bucket} keeps no versions: evidence wants a bucket made with Object Lock"
            raise Rejected(self._api.system, why)
        head = self._head(key, VersionId=version)
        if retain_until and not _holds(_retention(head), retain_until):  # the same bytes, wanted for longer
            self._lock(key, version, retain_until)
            head = self._head(key, VersionId=version)
        locked = _retention(head)
        if retain_until and not _holds(locked, retain_until):
            read = f"it reads back {locked.mode} until {locked.until}" if locked else f"has {self._bucket} Object Lock?"
            raise Rejected(self._api.system, f"{key} is not locked in {COMPLIANCE} mode until {retain_until}: {read}")
        address = f"s3://{self._bucket}/{quote(key)}?{urlencode({'versionId': version})}"
        kept = self.get(address) or b""
        said = b64decode(head.get("ChecksumSHA256", ""))
        if hashlib.sha256(kept).digest() != digest.digest() or said != digest.digest():
            raise Rejected(self._api.system, f"{address} does not hold what was stored: do not rely on it")
        return StoredObject(
            address, digest.hexdigest(), len(kept), locked.until if locked else None, locked.mode if locked else ""
        )

    def get(self, address: str) -> bytes | None:
        key, version = self._key(address)
        found = self._api.ask("s3", "get_object", ABSENT, Bucket=self._bucket, Key=key, **version)
        if found is None:
            return None
        try:
            body: bytes = found["Body"].read()
        except BotoCoreError as error:  # the connection broke while the body was read
            raise Unavailable(self._api.system, f"{address}: {error}") from error
        return body

    def retention(self, address: str) -> Retention | None:
        key, version = self._key(address)
        head = self._api.ask("s3", "head_object", ABSENT, Bucket=self._bucket, Key=key, **version)
        return _retention(head or {})

    def _key(self, address: str) -> tuple[str, dict[str, str]]:
        """The object's key, and its version as S3's calls take it."""
        where = urlsplit(address)
        key = unquote(where.path.removeprefix("/"))
        if (where.scheme, where.netloc) != ("s3", self._bucket) or not key.startswith(f"{self._prefix}sha256/"):
            raise Rejected(self._api.system, f"{address} is not in s3://{self._bucket}/{self._prefix}sha256/")
        versions = parse_qs(where.query).get("versionId", ())
        return key, {"VersionId": versions[0]} if versions else {}

    def _store(self, data: bytes, key: str, name: str, retain_until: datetime | None) -> Mapping[str, Any] | None:
        """None where the bytes are there already."""
        lock = {"ObjectLockMode": COMPLIANCE, "ObjectLockRetainUntilDate": retain_until} if retain_until else {}
        return self._api.ask(
            "s3",
            "put_object",
            ("PreconditionFailed", "412"),
            Bucket=self._bucket,
            Key=key,
            Body=data,
            ChecksumAlgorithm="SHA256",
            IfNoneMatch="*",
            Metadata={"name": quote(name, safe=" ()")},
            **lock,
        )

    def _head(self, key: str, **version: str) -> Mapping[str, Any]:
        return self._api.call("s3", "head_object", Bucket=self._bucket, Key=key, ChecksumMode="ENABLED", **version)

    def _lock(self, key: str, version: str, until: datetime) -> None:
        retention = {"Mode": COMPLIANCE, "RetainUntilDate": until}
        self._api.call(
            "s3", "put_object_retention", Bucket=self._bucket, Key=key, VersionId=version, Retention=retention
        )


def _retention(head: Mapping[str, Any]) -> Retention | None:
    """As S3 says it of one version."""
    mode, until = head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate")
    return Retention(mode, until) if mode and until else None


def _holds(locked: Retention | None, until: datetime) -> bool:
    """S3 keeps whole seconds. In governance mode a permission takes the lock away: that is none."""
    return locked is not None and locked.mode == COMPLIANCE and locked.until >= until.replace(microsecond=0)
