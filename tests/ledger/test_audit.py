"""The record in the log: sealed once each, on both databases, through crashes and with two at it; and every way to
cheat found by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bot.domain.events import Acknowledged, NoteAdded, TextRef
from bot.errors import RecordBroken, Unavailable
from bot.ledger import note, sealer, tree
from bot.ledger.audit import Report, audit
from bot.ledger.log import Log, leaves_of
from bot.ledger.proof import check, prove
from bot.ledger.sealer import Sealer
from bot.ledger.shelf import Folder
from bot.sandbox.clock import SimClock
from bot.store import Signer, Store, StreamRow

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ORIGIN = "firedoor.example/test/sandbox"


@dataclass
class Books:
    """A ledger on two folders, and the key to audit it with."""

    folder: Path
    private: Ed25519PrivateKey
    origin: str = ORIGIN

    @property
    def key(self) -> note.Key:
        return note.Key(self.origin, self.private.public_key().public_bytes_raw())

    def log(self) -> Log:
        return Log(Folder(self.folder / "log"), self.origin, self.private)

    def sealer(self, store: Store, replica: str = "r-1") -> Sealer:
        log, shelf, anchors = self.log(), Folder(self.folder / "log"), Folder(self.folder / "anchors")
        return Sealer(store, log, shelf, anchors, replica, timedelta(days=1))

    def audit(self, **options: Any) -> Report:
        options = {"mode": "sandbox"} | options
        return audit(Folder(self.folder / "log"), self.key, anchors=Folder(self.folder / "anchors"), **options)

    def names(self) -> set[str]:
        return {finding.name for finding in self.audit().findings}


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path / "ledger", Ed25519PrivateKey.generate())


def write(store: Store, stream: str, count: int, note_of: str = "x") -> None:
    for _ in range(count):
        with store.transaction() as tx:
            head = tx.head(stream)
            version = head.version + 1 if head else 1
            event = Acknowledged("p-1", "slack") if version % 2 else NoteAdded("p-1", TextRef(note_of, "d"))
            tx.append(stream, version, NOON + timedelta(seconds=version), event, ())
            tx.save_stream(StreamRow(stream, "incident", version, None, open=True))


def test_everything_is_sealed_once_in_order_and_can_be_checked_by_an_outsider(store: Store, books: Books) -> None:
    write(store, "INC-1", 3)
    assert books.sealer(store).seal() == 3
    assert books.sealer(store).seal() == 0
    write(store, "INC-2", 2)
    write(store, "INC-1", 1)
    assert books.sealer(store).seal() == 3
    report = books.audit()
    assert (report.findings, report.size, report.anchors) == ([], 6, 2)
    assert report.streams == {"INC-1": 4, "INC-2": 2}


def test_a_proof_stands_by_itself(store: Store, books: Books) -> None:
    write(store, "INC-1", 5)
    books.sealer(store).seal()
    with store.reading() as tx:
        place = tx.place("INC-1", 3)
        assert tx.place("INC-1", 9) is None
    assert place is not None
    text = prove(Folder(books.folder / "log"), place)
    shutil.rmtree(books.folder)
    proved = check(text, books.key)
    assert proved.index == place
    assert b"payload" in proved.leaf
    for bad in (text.replace(f"index {place}", f"index {place + 1}"), text.replace("\n\n", "\n"), "", text[40:]):
        with pytest.raises(RecordBroken):
            check(bad, books.key)
    with pytest.raises(RecordBroken, match="not with the key"):
        check(text, replace(books, private=Ed25519PrivateKey.generate()).key)


def test_an_entry_that_is_too_large_for_a_leaf_lies_beside_the_log(store: Store, books: Books) -> None:
    write(store, "INC-1", 2, note_of="n" * 70_000)
    books.sealer(store).seal()
    assert books.audit().findings == []
    (apart,) = (books.folder / "log" / "objects").rglob("*/*")
    apart.chmod(0o644)
    apart.write_bytes(apart.read_bytes().replace(b"nn", b"mn", 1))
    assert books.names() == {"changed_entry"}


class Breaks(Folder):
    """Goes away after so many writes, as a process that is killed."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self.left = writes

    def write(self, path: str, data: bytes) -> None:
        if self.left == 0:
            raise Unavailable("ledger", "gone")
        self.left -= 1
        super().write(path, data)


def test_a_crash_at_any_write_loses_nothing_and_changes_nothing(store: Store, books: Books) -> None:
    write(store, "INC-1", 7)
    books.sealer(store).seal()
    for writes in range(6):
        write(store, "INC-1", 3)
        shelf = Breaks(books.folder / "log", writes)
        log = Log(shelf, ORIGIN, books.private)
        broken = replace(
            books.sealer(store), log=log, shelf=shelf, anchors=Breaks(books.folder / "anchors", writes // 5)
        )
        try:
            broken.seal()
        except Unavailable:
            assert books.audit().findings == []
        books.sealer(store).seal()
        assert books.audit().findings == []
    assert books.audit().size == 7 + 18


def test_across_full_tiles_and_batches(store: Store, books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "A_TIME", 100)
    with store.transaction() as tx:
        for version in range(1, 601):
            tx.append("INC-1", version, NOON, Acknowledged("p-1", "slack"), ())
        tx.save_stream(StreamRow("INC-1", "incident", 600, None, open=True))
    assert books.sealer(store).seal() == 600
    report = books.audit()
    assert (report.findings, report.size) == ([], 600)
    assert (books.folder / "log/tile/1/000.p/2").exists()
    assert all(check(prove(Folder(books.folder / "log"), n), books.key).index == n for n in (0, 255, 256, 511, 599))


def test_two_replicas_seal_one_log(open_store: Callable[..., Store], books: Books) -> None:
    first, second = open_store(), open_store()
    write(first, "INC-1", 4)
    one, other = books.sealer(first, "r-1"), books.sealer(second, "r-2")
    assert one.seal() == 4
    write(second, "INC-2", 4)
    assert other.seal() == 0, "it is the first one's turn"
    assert one.seal() == 4
    with first.transaction() as tx:
        tx.take_turn("ledger", "r-1", -1)  # the first has died, and its turn has run out
    write(second, "INC-2", 1)
    assert other.seal() == 1
    assert books.audit().streams == {"INC-1": 4, "INC-2": 5}
    assert books.audit().findings == []


@pytest.fixture
def sealed(store: Store, books: Books) -> Books:
    for _ in range(3):
        write(store, "INC-1", 3)
        write(store, "INC-2", 2)
        books.sealer(store).seal()
    assert books.audit().findings == []
    return books


def change(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.chmod(0o644)
    path.write_bytes(data.replace(old, new, 1))


def newest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda path: int(path.name))


def test_a_cut_tail(sealed: Books) -> None:
    first = sorted((sealed.folder / "anchors/anchors").iterdir())[0]
    (sealed.folder / "log/checkpoint").unlink()
    shutil.copy(first, sealed.folder / "log/checkpoint")  # an honest checkpoint, only an old one
    assert sealed.names() == {"cut_tail"}


@pytest.mark.parametrize("at", [0, 17, 31])
def test_a_flipped_bit_in_a_tile(sealed: Books, at: int) -> None:
    tile = newest(sealed.folder / "log/tile/0/000.p")
    data = bytearray(tile.read_bytes())
    data[at] ^= 1
    change(tile, tile.read_bytes(), bytes(data))
    assert "changed_tile" in sealed.names()


def test_a_flipped_bit_in_an_entry(sealed: Books) -> None:
    bundle = newest(sealed.folder / "log/tile/entries/000.p")
    data = bytearray(bundle.read_bytes())
    at = data.index(b'"payload":"') + 40
    data[at] = ord("A") if data[at] != ord("A") else ord("B")
    change(bundle, bundle.read_bytes(), bytes(data))
    assert sealed.names() == {"changed_entry", "broken_chain"}


def test_a_missing_file(sealed: Books) -> None:
    newest(sealed.folder / "log/tile/entries/000.p").unlink()
    assert sealed.names() == {"missing_file"}


def test_a_replaced_log(sealed: Books, store: Store) -> None:
    """Whoever holds the key writes another history of the same length, and cannot reach the anchors."""
    shutil.rmtree(sealed.folder / "log")
    log = Log(Folder(sealed.folder / "log"), ORIGIN, sealed.private)
    with store.reading() as tx:
        log.extend(list(tx.signed(0, 100))[::-1])
    assert "replaced_log" in sealed.names()


def test_a_log_of_another_key(sealed: Books) -> None:
    other = replace(sealed, private=Ed25519PrivateKey.generate())
    assert {f.name for f in other.audit().findings} == {"not_ours"}


def test_a_sandbox_log_passed_off_as_live(sealed: Books, store: Store) -> None:
    assert {f.name for f in sealed.audit(mode="live").findings} == {"sandbox_log", "not_ours"}
    shutil.rmtree(sealed.folder)  # with a live log's name and key, its entries still say what they are
    live = replace(sealed, origin=ORIGIN.replace("sandbox", "live"))
    live.sealer(store, "r-9").log.extend([])
    with store.reading() as tx:
        live.log().extend(tx.signed(0, 100))
    assert {f.name for f in live.audit(mode="live").findings} >= {"foreign_entry"}


def test_an_entry_that_the_record_never_signed(sealed: Books, store: Store) -> None:
    with store.reading() as tx:
        one = next(tx.signed(0, 1))
    body = json.loads(one.body) | {"stream": "INC-9"}
    forged = replace(one, stream="INC-9", body=json.dumps(body).encode())
    sealed.log().extend([forged])
    assert sealed.names() == {"bad_signature"}


def test_no_log_at_all(books: Books) -> None:
    assert books.names() == {"no_log"}


def test_a_store_older_than_its_log_seals_nothing(
    sealed: Books, clock: SimClock, tmp_path: Path, signer: Signer
) -> None:
    fresh = Store.open(
        f"sqlite:///{tmp_path}/older.db",
        install="test",
        mode="sandbox",
        signer=signer,
        master_key=bytes(32),
        clock=clock,
        virtual=True,
    )
    with pytest.raises(RecordBroken, match="restored from a backup"):
        sealed.sealer(fresh).seal()
    fresh.close()


def test_leaves_are_read_back_in_order(sealed: Books) -> None:
    shelf = Folder(sealed.folder / "log")
    places = [place for place, _, _ in leaves_of(shelf, 15)]
    assert places == list(range(15))
    assert tree.tile_at(-1, 0, 15).path == "tile/entries/000.p/15"
