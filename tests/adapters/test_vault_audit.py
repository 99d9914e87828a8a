"""Vault's audit log, read from a file, over HTTP and out of a bucket; and what happens where it is garbage."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bot.adapters.aws_api import AwsApi
from bot.adapters.vault_audit import LogLines, bucket_lines, file_lines, http_lines
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import AuditLog
from tests.aws_estate import CREDENTIALS, REGION, client, fresh

NOW = datetime.now(UTC).replace(microsecond=0)
SINCE = NOW - timedelta(hours=24)


def line(number: int, *, entity: str = "e-7", accessor: str = "hmac-sha256:aa", at: datetime = NOW) -> bytes:
    auth = {"entity_id": entity, "accessor": accessor, "policies": ["deploy"]}
    said = {"time": at.isoformat().replace("+00:00", ".123456789Z"), "type": "response", "auth": auth}
    return json.dumps({**said, "request": {"id": f"r-{number}", "operation": "read", "path": "secret/data/x"}}).encode()


LOG = b"\n".join(
    (
        line(2, at=NOW - timedelta(minutes=1)),
        line(1, at=NOW - timedelta(minutes=5)),
        line(3, entity="e-77", accessor="hmac-sha256:bb"),
        line(4, entity="", accessor="hmac-sha256:aa", at=NOW - timedelta(minutes=3)),
        line(5, at=NOW - timedelta(hours=30)),
        b'vault-prefix: {"time": "2026-03-01T', b"\xff\xfe garbage e-7", b'["e-7"]', b'{"time": 7, "auth": "e-7"}',
        b'{"time": "2026-03-01T12:00:00", "auth": {"entity_id": "e-7"}}', b"[" * 5000 + b"e-7", b"",
    )
)  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        good = self.headers.get("authorization") == "Bearer reader"
        self.send_response(self.status if good else 403)
        self.end_headers()
        self.wfile.write(LOG if good and self.status == 200 else b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def served() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/audit"
    server.shutdown()
    server.server_close()


@pytest.fixture
def api(moto: str) -> AwsApi:
    return AwsApi(account="123456789012", region=REGION, endpoint_url=moto, credentials=CREDENTIALS)


@pytest.fixture(params=["file", "http", "bucket"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> AuditLog:
    match request.param:
        case "file":
            (tmp_path / "audit.log").write_bytes(LOG)
            return LogLines(file_lines(tmp_path / "audit.log", "vault"))
        case "http":
            url = request.getfixturevalue("served")
            return LogLines(http_lines(url, lambda: {"authorization": "Bearer reader"}, "vault"))
    bucket, s3 = fresh("audit"), client("s3", request.getfixturevalue("moto"))
    s3.create_bucket(Bucket=bucket)
    half = LOG.index(b"\n") + 1
    s3.put_object(Bucket=bucket, Key="vault/one.log.gz", Body=gzip.compress(LOG[:half]))
    s3.put_object(Bucket=bucket, Key="vault/two.log", Body=LOG[half:])
    s3.put_object(Bucket=bucket, Key="other/three.log", Body=LOG)
    return LogLines(bucket_lines(request.getfixturevalue("api"), bucket, "vault/"))


def test_the_agents_entries_of_the_time_are_found_and_nobody_elses(log: AuditLog):
    found = log.entries(["e-7", "hmac-sha256:aa"], SINCE, NOW + timedelta(minutes=1))
    assert [entry["request"]["id"] for entry in found] == ["r-1", "r-4", "r-2"]
    assert log.entries(["e-777"], SINCE, NOW) == ()
    assert log.entries([], SINCE, NOW) == ()


def test_a_log_that_is_away_is_no_empty_log(tmp_path: Path, served: str, monkeypatch: pytest.MonkeyPatch, api: AwsApi):
    with pytest.raises(Unavailable, match=r"audit\.log"):
        LogLines(file_lines(tmp_path / "audit.log", "vault")).entries(["e-7"], SINCE, NOW)
    with pytest.raises(Denied):
        LogLines(http_lines(served, dict, "vault")).entries(["e-7"], SINCE, NOW)
    for status, retryable in ((302, False), (500, True)):
        monkeypatch.setattr(Handler, "status", status)
        served_log = LogLines(http_lines(served, lambda: {"authorization": "Bearer reader"}, "vault"))
        with pytest.raises(Rejected) as refused:
            served_log.entries(["e-7"], SINCE, NOW)
        assert refused.value.retryable is retryable
    with pytest.raises(Unavailable):
        LogLines(http_lines("http://127.0.0.1:9/", dict, "vault")).entries(["e-7"], SINCE, NOW)
    with pytest.raises(Rejected):
        LogLines(bucket_lines(api, fresh("none"))).entries(["e-7"], SINCE, NOW)
