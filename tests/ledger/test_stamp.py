"""Timestamps by RFC 3161: an authority outside says by when a checkpoint was there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bot.errors import ConfigError, RecordBroken, Rejected, Unavailable
from bot.ledger.sealer import Sealer
from bot.ledger.stamp import Authority, read_roots, verified
from bot.store import Store
from tests.ledger import authority as stand_in
from tests.ledger.test_audit import Books, write


@pytest.fixture(scope="module")
def tsa() -> Iterator[stand_in.Authority]:
    with stand_in.authority() as made:
        yield made


@pytest.fixture
def asked(tsa: stand_in.Authority) -> Iterator[Authority]:
    yield Authority(tsa.url, read_roots(tsa.roots, "roots.pem"))
    tsa.answers = None


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "ledger", Ed25519PrivateKey.generate())


def stamping(books: Books, store: Store, authority: Authority, every: timedelta = timedelta(hours=1)) -> Sealer:
    return replace(books.sealer(store), authority=authority, stamp_every=every)


def test_a_timestamp_verifies_for_these_bytes_and_no_others(asked: Authority) -> None:
    answer = asked.stamp(b"a checkpoint")
    assert abs(verified(answer, b"a checkpoint", asked.roots) - datetime.now(UTC)) < timedelta(minutes=5)
    with pytest.raises(RecordBroken):
        verified(answer, b"another checkpoint", asked.roots)
    with pytest.raises(RecordBroken):
        verified(answer[:-1], b"a checkpoint", asked.roots)
    with stand_in.authority() as stranger, pytest.raises(RecordBroken):
        verified(answer, b"a checkpoint", read_roots(stranger.roots, "roots.pem"))


def test_an_answer_to_another_question_is_not_kept(asked: Authority, tsa: stand_in.Authority) -> None:
    tsa.answers = 200, asked.stamp(b"a checkpoint")
    with pytest.raises(Rejected, match="Nonce"):
        asked.stamp(b"a checkpoint")
    tsa.answers = 200, b"<html>please log in</html>"
    with pytest.raises(Rejected):
        asked.stamp(b"a checkpoint")
    tsa.answers = 503, b""
    with pytest.raises(Unavailable, match="503"):
        asked.stamp(b"a checkpoint")


def test_nobody_there_is_said(asked: Authority) -> None:
    with pytest.raises(Unavailable):
        replace(asked, url="http://127.0.0.1:9/tsr").stamp(b"a checkpoint")


def test_a_file_without_certificates_is_refused() -> None:
    with pytest.raises(ConfigError, match="no certificates"):
        read_roots(b"not a certificate", "roots.pem")


def test_the_newest_checkpoint_is_stamped_once_in_its_time(store: Store, books: Books, asked: Authority) -> None:
    sealer = stamping(books, store, asked)
    assert not sealer.stamp(), "nothing is sealed yet"
    write(store, "INC-1", 3)
    sealer.seal()
    assert sealer.stamp()
    write(store, "INC-1", 2)
    sealer.seal()
    assert not sealer.stamp(), "an hour is not over"
    hurried = stamping(books, store, asked, every=timedelta(days=-3650))  # the authority's clock is not the test's
    assert hurried.stamp()
    assert not hurried.stamp(), "this one has its stamp"
    report = books.audit(roots=asked.roots)
    assert (report.findings, report.timestamps) == ([], 2)
    assert report.stamped is not None


def test_a_stamp_of_something_else_is_a_finding(store: Store, books: Books, asked: Authority) -> None:
    sealer = stamping(books, store, asked)
    write(store, "INC-1", 3)
    sealer.seal()
    (books.folder / "anchors/timestamps").mkdir()
    (books.folder / f"anchors/timestamps/{3:016d}").write_bytes(asked.stamp(b"something else"))
    report = books.audit(roots=asked.roots)
    assert [finding.name for finding in report.findings] == ["bad_timestamp"]
    unread = books.audit()
    assert (unread.findings, unread.timestamps, unread.stamped) == ([], 0, None)


def test_sealing_goes_on_without_an_authority(store: Store, books: Books, asked: Authority) -> None:
    sealer = stamping(books, store, replace(asked, url="http://127.0.0.1:9/tsr"))
    write(store, "INC-1", 3)
    assert sealer.seal() == 3
    with pytest.raises(Unavailable):
        sealer.stamp()
    write(store, "INC-1", 1)
    assert sealer.seal() == 1
    assert stamping(books, store, asked).stamp()
