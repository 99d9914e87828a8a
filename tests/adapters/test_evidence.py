"""Evidence in a folder, and in an S3 bucket with Object Lock on moto's server."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bot.adapters.aws_api import AwsApi
from bot.adapters.evidence import BucketEvidence, FolderEvidence
from bot.errors import Rejected
from bot.ports import Evidence, Retention
from bot.sandbox.aws import SimEvidence
from bot.sandbox.clock import SimClock
from tests.aws_estate import CREDENTIALS, REGION, client, fresh

DATA = b'{"event": "one"}\n'
SHA256 = hashlib.sha256(DATA).hexdigest()
UNTIL = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


@pytest.fixture
def bucket(moto: str) -> str:
    name = fresh("evidence")
    client("s3", moto).create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


@pytest.fixture
def locked(moto: str, bucket: str) -> BucketEvidence:
    api = AwsApi(account="123456789012", region=REGION, endpoint_url=moto, credentials=CREDENTIALS)
    return BucketEvidence(api, bucket, "/incidents/")


@pytest.fixture(params=["memory", "folder", "bucket"])
def evidence(request: pytest.FixtureRequest, tmp_path: Path, clock: SimClock) -> Evidence:
    makers: dict[str, Callable[[], Evidence]] = {
        "memory": SimEvidence,
        "folder": lambda: FolderEvidence(tmp_path, clock),
        "bucket": lambda: request.getfixturevalue("locked"),
    }
    return makers[request.param]()


def test_what_was_put_is_found_under_its_address(evidence: Evidence):
    stored = evidence.put(DATA, name="INC-7/gateway", retain_until=None)
    assert (stored.sha256, stored.size, stored.locked_until) == (SHA256, len(DATA), None)
    assert SHA256 in stored.address
    assert evidence.get(stored.address) == DATA
    assert evidence.get(stored.address.replace(SHA256, "0" * 64)) is None


def test_the_same_bytes_again_are_the_same_object(evidence: Evidence):
    first = evidence.put(DATA, name="one", retain_until=None)
    assert evidence.put(DATA, name="two", retain_until=None) == first
    assert evidence.put(DATA + b"x", name="one", retain_until=None).address != first.address


def test_a_folder_holds_read_only_files_and_an_index(tmp_path: Path, clock: SimClock):
    folder = FolderEvidence(tmp_path, clock)
    stored = folder.put(DATA, name="a\tname\n", retain_until=UNTIL)
    folder.put(DATA, name="again", retain_until=None)
    assert stat.S_IMODE(os.stat(stored.address).st_mode) == 0o440
    assert os.listdir(tmp_path / "sha256") == [SHA256]
    expected = [clock.now().isoformat(), SHA256, str(len(DATA)), UNTIL.isoformat(), "a%09name%0A"]
    assert (tmp_path / "index.tsv").read_text() == "\t".join(expected) + "\n"


def test_a_file_that_was_changed_is_not_passed_off_as_evidence(tmp_path: Path, clock: SimClock):
    folder = FolderEvidence(tmp_path, clock)
    path = Path(folder.put(DATA, name="one", retain_until=None).address)
    path.chmod(0o600)
    path.write_bytes(b"other")
    with pytest.raises(Rejected, match="was changed"):
        folder.put(DATA, name="one", retain_until=None)


def test_a_folder_reads_nothing_else(tmp_path: Path, clock: SimClock):
    with pytest.raises(Rejected, match="is not in"):
        FolderEvidence(tmp_path, clock).get("/etc/passwd")


def test_a_bucket_locks_a_version_and_only_ever_for_longer(locked: BucketEvidence, bucket: str, moto: str):
    first = locked.put(DATA, name="one", retain_until=UNTIL)
    assert first.locked_until == UNTIL
    assert first.address.startswith(f"s3://{bucket}/incidents/sha256/{SHA256}?versionId=")
    longer = locked.put(DATA, name="one", retain_until=UNTIL + timedelta(days=1))
    assert (longer.address, longer.locked_until) == (first.address, UNTIL + timedelta(days=1))
    assert locked.put(DATA, name="one", retain_until=UNTIL) == longer
    s3: Any = client("s3", moto)
    version = first.address.partition("versionId=")[2]
    with pytest.raises(ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=bucket, Key=f"incidents/sha256/{SHA256}", VersionId=version)
    s3.delete_object(Bucket=bucket, Key=f"incidents/sha256/{SHA256}")  # a marker hides it, and deletes nothing
    assert locked.get(first.address) == DATA


def test_the_lock_is_read_back_with_its_mode(locked: BucketEvidence):
    stored = locked.put(DATA, name="one", retain_until=UNTIL)
    assert stored.lock == "COMPLIANCE"
    assert locked.retention(stored.address) == Retention("COMPLIANCE", UNTIL)
    free = locked.put(DATA + b"x", name="two", retain_until=None)
    assert (free.lock, locked.retention(free.address)) == ("", None)


def test_a_lock_that_a_permission_could_take_away_is_made_one_that_none_can(
    locked: BucketEvidence, bucket: str, moto: str
):
    s3: Any = client("s3", moto)
    weak = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": UNTIL + timedelta(days=9)}
    s3.put_object(Bucket=bucket, Key=f"incidents/sha256/{SHA256}", Body=DATA, ChecksumAlgorithm="SHA256", **weak)
    assert locked.put(DATA, name="one", retain_until=UNTIL).lock == "COMPLIANCE"


def test_memory_and_folder_say_what_they_lock(tmp_path: Path, clock: SimClock):
    folder, memory = FolderEvidence(tmp_path, clock), SimEvidence()
    assert folder.retention(folder.put(DATA, name="one", retain_until=UNTIL).address) is None
    assert memory.retention(memory.put(DATA, name="one", retain_until=UNTIL).address) == Retention("COMPLIANCE", UNTIL)
    with pytest.raises(Rejected, match="is not in"):
        folder.retention("/etc/passwd")


def test_a_bucket_reads_nothing_else(locked: BucketEvidence):
    with pytest.raises(Rejected, match="is not in"):
        locked.get("s3://another/incidents/sha256/x")


def test_a_bucket_without_object_lock_is_refused(moto: str):
    name = fresh("plain")
    client("s3", moto).create_bucket(Bucket=name)
    api = AwsApi(region=REGION, endpoint_url=moto, credentials=CREDENTIALS)
    for until in (UNTIL, None):
        with pytest.raises(Rejected):
            BucketEvidence(api, name).put(DATA, name="one", retain_until=until)
