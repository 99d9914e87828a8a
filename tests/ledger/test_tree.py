"""The tree and its files: a published log built again byte for byte, and proofs against a tree made the long way."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.errors import ConfigError, RecordBroken
from bot.ledger import log as ledger_log
from bot.ledger import note, tree
from bot.ledger.log import Checkpoint, Log
from bot.ledger.shelf import Folder
from bot.ledger.tree import Tile

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent / "tessera.json").read_text())


def test_the_published_log_comes_out_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_log, "envelope", lambda entry: entry)  # its entries are bare words
    monkeypatch.setattr(json, "loads", lambda _: {})
    shelf = Folder(tmp_path)
    _, _, name, _, encoded = PUBLISHED["private_key"].split("+", 4)
    log = Log(shelf, name, Ed25519PrivateKey.from_private_bytes(base64.b64decode(encoded)[1:]))
    assert str(log.key) == PUBLISHED["public_key"]
    assert log.extend([]) == PUBLISHED["checkpoints"][0]
    for size, word in enumerate(PUBLISHED["entries"], 1):
        assert log.extend([word.encode()]) == PUBLISHED["checkpoints"][size]  # type: ignore[list-item]  # bare words
    ours = {path: hashlib.sha256(shelf.read(path) or b"").hexdigest() for path in shelf.names("tile")}
    assert ours == PUBLISHED["sha256"]


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(1, 999, 7), "tile/1/999.p/7"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(-1, 1234067), "tile/entries/x001/x234/067"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path == path


def test_the_specifications_example_of_tiles() -> None:
    assert [t.width for t in tree.tiles_of(70_000, 0)].count(256) == 273
    assert tree.tile_at(0, 273, 70_000).width == 112
    assert [t.width for t in tree.tiles_of(70_000, 1)] == [256, 17]
    assert [t.width for t in tree.tiles_of(70_000, 2)] == [1]
    assert [t.width for t in tree.tiles_of(256, 1)] == [1]


LEAVES = [tree.leaf_hash(str(n).encode()) for n in range(70_000)]


def naive(hashes: list[bytes]) -> bytes:
    """RFC 6962 2.1, to the letter."""
    if len(hashes) <= 1:
        return hashes[0] if hashes else tree.EMPTY
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return tree.node_hash(naive(hashes[:split]), naive(hashes[split:]))


def look(size: int) -> tree.Node:
    """Nodes by way of tiles that are made of the leaves."""

    def read(tile: Tile) -> bytes:
        span = 256**tile.level
        start = tile.index * 256 * span
        return b"".join(naive(LEAVES[start + n * span : start + (n + 1) * span]) for n in range(tile.width))

    return tree.nodes(size, read)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.one_of(st.integers(1, 20), st.sampled_from([255, 256, 257, 511, 512, 513]), st.integers(1, 1500)))
def test_every_proof_convinces_and_a_changed_one_does_not(data: st.DataObject, size: int) -> None:
    node, whole = look(size), naive(LEAVES[:size])
    assert tree.root(size, node) == whole
    index = data.draw(st.integers(0, size - 1))
    path = tree.inclusion(index, size, node)
    assert tree.root_from_inclusion(LEAVES[index], index, size, path) == whole
    assert tree.root_from_inclusion(LEAVES[index + 1], index, size, path) != whole
    assert tree.root_from_inclusion(LEAVES[index], index, size, [*path, whole]) != whole
    if path:
        assert tree.root_from_inclusion(LEAVES[index], index, size, path[:-1]) != whole
    old = data.draw(st.integers(0, size))
    older = naive(LEAVES[:old])
    steps = tree.consistency(old, size, node)
    assert tree.is_consistent(old, older, size, whole, steps)
    if 0 < old < size:
        assert not tree.is_consistent(old, whole, size, whole, steps)
        assert not tree.is_consistent(old, older, size, older, steps)
        assert not tree.is_consistent(old, older, size, whole, steps[:-1])


def test_a_note_is_believed_only_from_its_key() -> None:
    private, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    key = note.Key("log.example/a/live", private.public_key().public_bytes_raw())
    assert note.Key.parse(str(key)) == key
    text = "line\n\nanother\n"
    signed = note.sign(text, key.name, private)
    assert note.open_note(signed, key) == text
    both = signed + note.sign(text, "witness.example", stranger).rpartition("\n\n")[2]
    assert note.open_note(both, key) == text
    for bad in (
        note.sign(text, key.name, stranger),
        note.sign(text, "other.example", private),
        signed.replace("another", "an0ther"),
        signed.replace("\n\n— ", "\n— "),
        signed + "more",
        text,
        "",
    ):
        with pytest.raises(RecordBroken):
            note.open_note(bad, key)


def test_a_note_whose_known_key_fails_is_refused_whole() -> None:
    private = Ed25519PrivateKey.generate()
    key = note.Key("log.example/a/live", private.public_key().public_bytes_raw())
    good, wrong = note.sign("text\n", key.name, private), note.sign("other\n", key.name, private)
    with pytest.raises(RecordBroken, match="does not fit"):
        note.open_note(good + wrong.rpartition("\n\n")[2], key)


@pytest.mark.parametrize("text", ["", "name", "name+00000000+AAAA", PUBLISHED["public_key"].replace("+33", "+34")])
def test_a_key_that_is_none_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(ConfigError, match=r"name\+id\+base64"):
        note.Key.parse(text)


@pytest.mark.parametrize("text", ["a\n1\n", "a\n01\nAAAA\n", "a\n-1\nAAAA\n", "a\nx\nAAAA\n", "a\n1\n!\n"])
def test_garbage_is_no_checkpoint(text: str) -> None:
    with pytest.raises(RecordBroken):
        Checkpoint.parse(text)
