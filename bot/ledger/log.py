"""A log on a shelf: entry bundles, tiles, and last of all the checkpoint that signs for them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bot.errors import RecordBroken
from bot.ledger import note, tree
from bot.ledger.shelf import Shelf
from bot.ledger.tree import HASH, WIDTH, Tile
from bot.store.leaves import Signed
from bot.store.seal import PAYLOAD_TYPE, canonical, digest

CHECKPOINT = "checkpoint"
LARGEST_LEAF = 0xFFFF  # bytes: an entry's length is written in two


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself (c2sp.org/tlog-checkpoint)."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Raises RecordBroken. Lines after the third are extensions, which we have none of."""
        lines = text.split("\n")
        try:
            origin, digits, root = lines[:3]
            found = cls(origin, int(digits), base64.b64decode(root, validate=True))
            if str(found.size) != digits or found.size < 0 or len(found.root) != HASH:
                raise ValueError
            return found
        except ValueError:
            raise RecordBroken("it is no checkpoint") from None


def envelope(signed: Signed) -> bytes:
    """The DSSE envelope of an entry, canonical: the log's leaf. An entry too large for one is named in it by its
    SHA-256 and lies beside the log, in `objects/`."""
    known: dict[str, Any] = {
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": signed.key_id, "sig": signed.signature}],
    }
    leaf = canonical({**known, "payload": base64.b64encode(signed.body).decode()})
    return leaf if len(leaf) <= LARGEST_LEAF else canonical({**known, "payloadSha256": digest(signed.body)})


def object_path(name: str) -> str:
    return f"objects/{name[:2]}/{name}"


def read_envelope(leaf: bytes, shelf: Shelf) -> Signed:
    """The signed entry of a leaf; stream and version as its bytes say. Raises RecordBroken."""
    try:
        fields = json.loads(leaf)
        (signature,) = fields["signatures"]
        if fields["payloadType"] != PAYLOAD_TYPE:
            raise RecordBroken(f"it is a {fields['payloadType']}, no entry of a record")
        if (apart := fields.get("payloadSha256")) is not None:
            body = shelf.read(object_path(apart))
            if body is None or digest(body) != apart:
                raise RecordBroken(f"{object_path(apart)} is missing or was changed")
        else:
            body = base64.b64decode(fields["payload"], validate=True)
        inside = json.loads(body)
        return Signed(inside["stream"], inside["version"], body, signature["keyid"], signature["sig"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordBroken(f"it is no DSSE envelope ({type(error).__name__})") from None


class Log:
    """The one who may write it. `key` signs checkpoints under the name `origin`."""

    def __init__(self, shelf: Shelf, origin: str, key: Ed25519PrivateKey) -> None:
        self._shelf, self.origin, self._private = shelf, origin, key
        self.key = note.Key(origin, key.public_key().public_bytes_raw())

    def checkpoint(self) -> Checkpoint | None:
        """The published one. Raises RecordBroken where it is not ours."""
        found = self._shelf.read(CHECKPOINT)
        if found is None:
            return None
        checkpoint = Checkpoint.parse(note.open_note(found.decode(errors="replace"), self.key))
        if checkpoint.origin != self.origin:
            raise RecordBroken(f"the checkpoint is of {checkpoint.origin}, not of {self.origin}")
        return checkpoint

    def extend(self, entries: Iterable[Signed]) -> str:
        """Appends entries and publishes the new checkpoint, which is returned as the signed note. What an earlier try
        left behind is written again, byte for byte."""
        before = self.checkpoint() or Checkpoint(self.origin, 0, tree.EMPTY)
        leaves: list[bytes] = []
        for one in entries:
            leaf = envelope(one)
            if "payloadSha256" in json.loads(leaf):
                self._shelf.write(object_path(digest(one.body)), one.body)
            leaves.append(leaf)
        if tree.root(before.size, tree.nodes(before.size, self._tile)) != before.root:
            raise RecordBroken(f"the published tiles no longer have the root that was signed for {before.size} entries")
        size = before.size + len(leaves)
        self._bundles(before.size, leaves)
        self._tiles(before.size, [tree.leaf_hash(leaf) for leaf in leaves])
        after = Checkpoint(self.origin, size, tree.root(size, tree.nodes(size, self._tile)))
        signed = self.sign(str(after))
        if (now := self.checkpoint()) and now.size > size:
            raise RecordBroken(f"the published log has grown to {now.size} entries meanwhile: two write it")
        self._shelf.write(CHECKPOINT, signed.encode())
        return signed

    def sign(self, text: str) -> str:
        """A note under the log's name."""
        return note.sign(text, self.origin, self._private)

    def _bundles(self, size: int, leaves: Sequence[bytes]) -> None:
        first, kept = size // WIDTH, list[bytes]()
        if size % WIDTH:
            bundle, tile = tree.tile_at(-1, first, size), tree.tile_at(0, first, size)
            kept = split_bundle(self._tile(bundle))[: bundle.width]
            if b"".join(map(tree.leaf_hash, kept)) != self._tile(tile):
                raise RecordBroken(f"{bundle.path} was changed: its entries are not those of {tile.path}")
        whole = [*kept, *leaves]
        for n in range(0, len(whole), WIDTH):
            part = whole[n : n + WIDTH]
            data = b"".join(len(leaf).to_bytes(2) + leaf for leaf in part)
            self._shelf.write(Tile(-1, first + n // WIDTH, len(part)).path, data)

    def _tiles(self, size: int, hashes: Sequence[bytes]) -> None:
        """Writes each level's new hashes; what fills a tile is one hash of the level above."""
        level = 0
        while hashes:
            first = size // WIDTH
            kept = self._tile(tree.tile_at(0, first, size), level) if size % WIDTH else b""
            row = kept + b"".join(hashes)
            hashes = []
            for n in range(0, len(row), WIDTH * HASH):
                part = row[n : n + WIDTH * HASH]
                self._shelf.write(Tile(level, first + n // (WIDTH * HASH), len(part) // HASH).path, part)
                if len(part) == WIDTH * HASH:
                    hashes.append(tree.fold([part[m : m + HASH] for m in range(0, len(part), HASH)]))
            level, size = level + 1, size // WIDTH

    def _tile(self, tile: Tile, level: int | None = None) -> bytes:
        return read_tile(self._shelf, tile if level is None else Tile(level, tile.index, tile.width))


def read_tile(shelf: Shelf, tile: Tile) -> bytes:
    """Raises RecordBroken where it is not there. A partial one may have been replaced by the full one."""
    data = shelf.read(tile.path)
    if data is None and tile.width < WIDTH and (full := shelf.read(Tile(tile.level, tile.index).path)) is not None:
        data = full[: tile.width * HASH] if tile.level >= 0 else full
    if data is None:
        raise RecordBroken(f"{tile.path} is missing")
    if tile.level >= 0 and len(data) != tile.width * HASH:
        raise RecordBroken(f"{tile.path} has {len(data)} bytes, not {tile.width * HASH}")
    return data


def split_bundle(data: bytes) -> list[bytes]:
    """The entries of a bundle. Raises RecordBroken where a length does not fit."""
    leaves: list[bytes] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2])
        at += 2
        if at + length > len(data):
            raise RecordBroken("an entry bundle ends in the middle of an entry")
        leaves.append(data[at : at + length])
        at += length
    return leaves


def leaves_of(shelf: Shelf, size: int) -> Iterator[tuple[int, Tile, bytes]]:
    """Every entry of a log, with its place and the bundle that holds it. Raises RecordBroken."""
    for tile in tree.tiles_of(size, -1):
        found = split_bundle(read_tile(shelf, tile))[: tile.width]
        if len(found) != tile.width:
            raise RecordBroken(f"{tile.path} holds {len(found)} entries, not {tile.width}")
        for n, leaf in enumerate(found):
            yield tile.index * WIDTH + n, tile, leaf
