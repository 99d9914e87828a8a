"""Where evidence is kept: write-once, under its own SHA-256, read back before anyone relies on it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from botocore.exceptions import BotoCoreError

from bot.adapters.aws_api import AwsApi
from bot.errors import Rejected, Unavailable
from bot.ports import Clock, StoredObject


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
                self._write(path, data)
                self._note(digest, len(data), name, retain_until)
            kept = path.read_bytes()
        except OSError as error:
            raise Unavailable("evidence", f"{self._root}: {error}") from error
        if hashlib.sha256(kept).hexdigest() != digest:
            raise Rejected("evidence", f"{path} does not hold what its name says: it was changed, keep it and find out")
        return StoredObject(str(path), digest, len(kept), None)

    def get(self, address: str) -> bytes | None:
        path = Path(address)
        if path.parent != self._folder:
            raise Rejected("evidence", f"{address} is not in {self._folder}")
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable("evidence", f"{address}: {error}") from error

    def _write(self, path: Path, data: bytes) -> None:
        """All of it or nothing, and on the disk before the name is there."""
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(handle, 0o440)
                os.fsync(handle)
            os.replace(temporary, path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync(path.parent)

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
        locked = head.get("ObjectLockRetainUntilDate")
        if retain_until and (locked is None or locked < retain_until):  # the same bytes, wanted for longer
            self._lock(key, version, retain_until)
            locked = self._head(key, VersionId=version).get("ObjectLockRetainUntilDate")
        if retain_until and (locked is None or locked < retain_until.replace(microsecond=0)):
            raise Rejected(
                self._api.system, f"{key} is not locked until {retain_until}: has {self._bucket} Object Lock?"
            )
        address = f"s3://{self._bucket}/{quote(key)}?{urlencode({'versionId': version})}"
        kept = self.get(address) or b""
        said = b64decode(head.get("ChecksumSHA256", ""))
        if hashlib.sha256(kept).digest() != digest.digest() or said != digest.digest():
            raise Rejected(self._api.system, f"{address} does not hold what was stored: do not rely on it")
        return StoredObject(address, digest.hexdigest(), len(kept), locked)

    def get(self, address: str) -> bytes | None:
        where = urlsplit(address)
        key = where.path.removeprefix("/")
        if (where.scheme, where.netloc) != ("s3", self._bucket) or not key.startswith(f"{self._prefix}sha256/"):
            raise Rejected(self._api.system, f"{address} is not in s3://{self._bucket}/{self._prefix}sha256/")
        versions = parse_qs(where.query).get("versionId", ())
        version = {"VersionId": versions[0]} if versions else {}
        absent = ("NoSuchKey", "NoSuchVersion", "404")
        found = self._api.ask("s3", "get_object", absent, Bucket=self._bucket, Key=key, **version)
        if found is None:
            return None
        try:
            body: bytes = found["Body"].read()
        except BotoCoreError as error:  # the connection broke while the body was read
            raise Unavailable(self._api.system, f"{address}: {error}") from error
        return body

    def _store(self, data: bytes, key: str, name: str, retain_until: datetime | None) -> Mapping[str, Any] | None:
        """None where the bytes are there already."""
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": retain_until} if retain_until else {}
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
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
        self._api.call(
            "s3", "put_object_retention", Bucket=self._bucket, Key=key, VersionId=version, Retention=retention
        )


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
