"""That one entry is in the log, as a text that stands by itself (c2sp.org/tlog-proof). Its `extra` is the envelope."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from bot.errors import RecordBroken
from bot.ledger import note, tree
from bot.ledger.log import CHECKPOINT, Checkpoint, read_tile, split_bundle
from bot.ledger.shelf import Shelf
from bot.ledger.tree import WIDTH

TITLE = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof shows: this leaf stands at this place of the log that the checkpoint signs."""

    leaf: bytes
    index: int
    checkpoint: Checkpoint


def prove(shelf: Shelf, index: int) -> str:
    """Raises RecordBroken where the log does not reach there or files are missing."""
    signed = (shelf.read(CHECKPOINT) or b"").decode(errors="replace")
    checkpoint = Checkpoint.parse(signed)
    if index >= checkpoint.size:
        raise RecordBroken(f"the published log has {checkpoint.size} entries, not {index + 1}")
    bundle = tree.tile_at(-1, index // WIDTH, checkpoint.size)
    leaf = split_bundle(read_tile(shelf, bundle))[index % WIDTH]
    node = tree.nodes(checkpoint.size, lambda tile: read_tile(shelf, tile))
    hashes = [_text(one) for one in tree.inclusion(index, checkpoint.size, node)]
    return "\n".join([TITLE, f"extra {_text(leaf)}", f"index {index}", *hashes, "", signed])


def check(proof: str, key: note.Key) -> Proved:
    """Raises RecordBroken where it does not prove what it says."""
    head, gap, signed = proof.partition("\n\n")
    lines = head.split("\n")
    try:
        title, extra, place, *hashes = lines
        leaf = base64.b64decode(extra.removeprefix("extra "), validate=True)
        index = int(place.removeprefix("index "))
        path = [base64.b64decode(one, validate=True) for one in hashes]
    except (ValueError, binascii.Error):
        title, leaf, index, path = "", b"", 0, []
    if not gap or title != TITLE or lines[1:2] != [f"extra {_text(leaf)}"] or lines[2:3] != [f"index {index}"]:
        raise RecordBroken("it is no proof of an entry: it lacks the line of its format, the entry or its place")
    checkpoint = Checkpoint.parse(note.open_note(signed, key))
    if tree.root_from_inclusion(tree.leaf_hash(leaf), index, checkpoint.size, path) != checkpoint.root:
        raise RecordBroken("the path does not lead from this entry to the root that was signed")
    return Proved(leaf, index, checkpoint)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
