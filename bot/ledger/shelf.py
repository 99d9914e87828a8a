"""Where the log's files lie: a folder or a bucket. A file's name says what it holds, so writing it twice is harmless;
only `checkpoint` is ever replaced, and an anchor never is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError

from bot.adapters.aws_api import AwsApi
from bot.errors import Rejected, Unavailable
from bot.files import UNFINISHED, write_whole

SYSTEM = "ledger"


class Shelf(Protocol):
    """Paths are relative, with slashes. Raises Unavailable where it cannot be reached, Rejected where it says no."""

    def read(self, path: str) -> bytes | None: ...

    def write(self, path: str, data: bytes) -> None:
        """All of it or nothing, and durable on return."""

    def anchor(self, path: str, data: bytes, retain_until: datetime) -> None:
        """Write-once. What lies there already must be the same."""

    def names(self, folder: str) -> Iterator[str]:
        """The paths under a folder, in order."""


class Folder:
    """A folder locks nothing: who can write there can replace an anchor. Put it where the bot's own machine cannot be
    made to."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> bytes | None:
        try:
            return (self.root / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(SYSTEM, f"{self.root / path}: {error}") from error

    def write(self, path: str, data: bytes) -> None:
        target = self.root / path
        try:
            write_whole(target, data)
        except OSError as error:
            raise Unavailable(SYSTEM, f"{target}: {error}") from error

    def anchor(self, path: str, data: bytes, retain_until: datetime) -> None:  # noqa: ARG002 - a folder retains nothing
        if (there := self.read(path)) is None:
            self.write(path, data)
        elif there != data:
            raise Rejected(SYSTEM, f"another anchor lies at {self.root / path}")

    def names(self, folder: str) -> Iterator[str]:
        for path in sorted((self.root / folder).rglob("*")):
            if path.is_file() and not path.name.startswith(UNFINISHED):
                yield path.relative_to(self.root).as_posix()


class Bucket:
    """A prefix of an S3 bucket. Anchors are locked: Object Lock in compliance mode, which nobody can shorten."""

    def __init__(self, api: AwsApi, bucket: str, prefix: str = "") -> None:
        self._api, self._bucket, self._prefix = api, bucket, prefix

    def read(self, path: str) -> bytes | None:
        answer = self._api.ask("s3", "get_object", ("NoSuchKey", "404"), Bucket=self._bucket, Key=self._prefix + path)
        try:
            return None if answer is None else bytes(answer["Body"].read())
        except BotoCoreError as error:  # the connection broke while the body was read
            raise Unavailable(self._api.system, f"{path}: {error}") from error

    def write(self, path: str, data: bytes) -> None:
        self._put(path, data)

    def anchor(self, path: str, data: bytes, retain_until: datetime) -> None:
        if (there := self.read(path)) is None:
            self._put(path, data, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=retain_until, IfNoneMatch="*")
        elif there != data:
            raise Rejected(SYSTEM, f"another anchor lies at s3://{self._bucket}/{self._prefix}{path}")

    def names(self, folder: str) -> Iterator[str]:
        found = self._api.pages("s3", "list_objects_v2", "Contents", Bucket=self._bucket, Prefix=self._prefix + folder)
        for one in found:
            yield str(one["Key"]).removeprefix(self._prefix)

    def _put(self, path: str, data: bytes, **lock: Any) -> None:
        key = self._prefix + path
        self._api.call("s3", "put_object", Bucket=self._bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256", **lock)
