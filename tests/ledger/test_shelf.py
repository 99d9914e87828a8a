"""The log in a bucket: the same files, and anchors that nobody can take away."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bot.adapters.aws_api import AwsApi
from bot.errors import Rejected
from bot.ledger import note
from bot.ledger.audit import audit
from bot.ledger.log import Log
from bot.ledger.sealer import anchor_path
from bot.ledger.shelf import Bucket
from bot.store.leaves import Signed

KEYS = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "secret"}
_numbers = itertools.count(1)


@pytest.fixture
def bucket(moto: str) -> tuple[AwsApi, str]:
    api = AwsApi(region="us-east-1", endpoint_url=moto, credentials=KEYS)
    name = f"ledger-{next(_numbers)}"
    api.call("s3", "create_bucket", Bucket=name, ObjectLockEnabledForBucket=True)
    return api, name


def test_a_log_in_a_bucket(bucket: tuple[AwsApi, str]) -> None:
    shelf = Bucket(*bucket, prefix="acme/")
    private = Ed25519PrivateKey.generate()
    log = Log(shelf, "firedoor/acme/sandbox", private)
    entries = [Signed("INC-1", n, b"{}", "k", "s") for n in range(300)]
    log.extend(entries[:100])
    log.extend(entries[100:])
    checkpoint = log.checkpoint()
    assert checkpoint is not None
    assert checkpoint.size == 300
    assert "tile/entries/001.p/44" in {*shelf.names("tile/entries")}
    key = note.Key(log.origin, private.public_key().public_bytes_raw())
    names = {finding.name for finding in audit(shelf, key, mode="sandbox").findings}
    assert names == {"changed_entry", "not_ours"}, "these entries are none, and nobody vouches for their key"


def test_an_anchor_is_locked_and_never_replaced(bucket: tuple[AwsApi, str], moto: str) -> None:
    api, name = bucket
    shelf = Bucket(api, name)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    shelf.anchor(anchor_path(7), b"one", until)
    shelf.anchor(anchor_path(7), b"one", until)
    with pytest.raises(Rejected, match="another anchor"):
        shelf.anchor(anchor_path(7), b"two", until)
    raw = boto3.client("s3", endpoint_url=moto, region_name="us-east-1", **{f"aws_{k}": v for k, v in KEYS.items()})
    (version,) = raw.list_object_versions(Bucket=name)["Versions"]
    head = raw.head_object(Bucket=name, Key=anchor_path(7))
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", until)
    with pytest.raises(ClientError, match="AccessDenied"):
        raw.delete_object(Bucket=name, Key=anchor_path(7), VersionId=version["VersionId"])
