"""A Vault's audit log where its operators put it: a file, a URL, or objects in a bucket.

Vault has no API that reads its audit log. The log is JSON lines, a `request` and a `response` each; accessors and
tokens stand in it as HMACs of the device's own key (`sys/audit-hash` says which), entity ids as they are.
"""

from __future__ import annotations

import gzip
import io
import json
import ssl
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError

from bot.adapters.aws_api import AwsApi
from bot.errors import Denied, Rejected, Unavailable

MOST = 256 * 1024 * 1024  # bytes that are looked through, the latest
ENTRIES = 20_000  # of one answer, the latest
LONGEST = 1024 * 1024  # bytes of a line; a longer one is no audit entry
LATE = timedelta(hours=1)  # an object may be written this long after what it holds

Read = Callable[[datetime, datetime], Iterable[bytes]]


class LogLines:
    """ports.AuditLog over lines, wherever they come from. Lines that are no entries are passed over: a log that was cut
    while it was copied still speaks."""

    def __init__(self, read: Read, device: str = "file") -> None:
        self._read, self.device = read, device

    def entries(self, who: Collection[str], since: datetime, until: datetime) -> tuple[Mapping[str, Any], ...]:
        wanted, marks = set(who), tuple(one.encode() for one in who)
        found = [
            (at, entry)
            for line in self._read(since, until)
            if len(line) <= LONGEST
            and any(mark in line for mark in marks)  # before it is parsed: most are others'
            and (entry := _entry(line)) is not None
            and (at := _time(entry)) is not None
            and since <= at <= until
            and wanted & _speakers(entry)
        ]
        return tuple(entry for _, entry in sorted(found, key=lambda one: one[0])[-ENTRIES:])


def file_lines(path: Path, system: str) -> Read:
    """Of the last `MOST` bytes of a file that is being written to."""

    def read(_: datetime, __: datetime) -> Iterator[bytes]:
        try:
            with path.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - MOST))
                if size > MOST:
                    file.readline(LONGEST)  # the rest of a line that began before
                yield from file
        except OSError as error:
            raise Unavailable(system, f"the audit log {path}: {error}") from error

    return read


def http_lines(
    url: str,
    headers: Callable[[], Mapping[str, str]],
    system: str,
    timeout: float = 20.0,
    tls: ssl.SSLContext | None = None,
) -> Read:
    """Of a GET; no redirect is followed. `from` and `to` go along as query parameters, which a server may heed."""

    def read(since: datetime, until: datetime) -> Iterator[bytes]:
        asked = {"from": since.isoformat(), "to": until.isoformat()}
        try:
            with (
                httpx.Client(timeout=timeout, follow_redirects=False, verify=tls or True) as client,
                client.stream("GET", url, params=asked, headers=dict(headers())) as answer,
            ):
                if answer.status_code in (401, 403):
                    raise Denied(system, f"the audit log {url} is not for the bot (HTTP {answer.status_code})")
                if answer.status_code != 200:
                    retry = answer.status_code >= 500 or answer.status_code == 429
                    raise Rejected(system, f"the audit log {url} answers HTTP {answer.status_code}", retryable=retry)
                yield from _lines(answer.iter_bytes(), url, system)
        except httpx.HTTPError as error:
            raise Unavailable(system, f"the audit log {url}: {error}") from error

    return read


def bucket_lines(api: AwsApi, bucket: str, prefix: str = "") -> Read:
    """Of the objects that were written in that time, `.gz` ones unpacked. Permissions: s3:ListBucket, s3:GetObject."""

    def read(since: datetime, until: datetime) -> Iterator[bytes]:
        listed = api.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
        left = MOST
        for one in sorted(listed, key=lambda each: each["LastModified"]):
            if not since <= one["LastModified"] <= until + LATE or (left := left - int(one["Size"])) < 0:
                continue
            answer = api.ask("s3", "get_object", ("NoSuchKey", "404"), Bucket=bucket, Key=one["Key"])
            if answer is None:
                continue
            try:
                body: bytes = answer["Body"].read()
                yield from _unpacked(body).splitlines()
            except (BotoCoreError, OSError, EOFError) as error:
                raise Unavailable(api.system, f"s3://{bucket}/{one['Key']}: {error}") from error

    return read


def _lines(pieces: Iterable[bytes], url: str, system: str) -> Iterator[bytes]:
    rest, left = b"", MOST
    for piece in pieces:
        if (left := left - len(piece)) < 0:
            raise Rejected(system, f"the audit log {url} is over {MOST} bytes: let it answer to `from` and `to`")
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    yield rest


def _unpacked(body: bytes) -> bytes:
    if not body.startswith(b"\x1f\x8b"):
        return body
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as packed:
        return packed.read(MOST)


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line[line.index(b"{") :])  # a device may be told to write a prefix
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _time(entry: Mapping[str, Any]) -> datetime | None:
    """RFC 3339 with nanoseconds, of which Python keeps microseconds."""
    try:
        at = datetime.fromisoformat(str(entry.get("time", "")))
    except ValueError:
        return None
    return at if at.tzinfo else None


def _speakers(entry: Mapping[str, Any]) -> set[str]:
    """Who asked, and whose token was made."""
    response = entry.get("response")
    asked, made = entry.get("auth"), response.get("auth") if isinstance(response, dict) else None
    return {
        str(one[name])
        for one in (asked, made)
        if isinstance(one, dict)
        for name in ("entity_id", "accessor")
        if isinstance(one.get(name), str) and one[name]
    }
