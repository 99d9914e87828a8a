"""The Merkle tree of RFC 6962, kept as tiles of 256 hashes (c2sp.org/tlog-tiles), and its proofs.

`node(level, index)` is the hash of the complete subtree of 2**level leaves that begins at leaf `index * 2**level`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

HEIGHT = 8
WIDTH = 1 << HEIGHT
HASH = 32
CACHED_TILES = 4096

Node = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


EMPTY = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Tile:
    """`level` -1 is an entry bundle. A `width` under 256 is partial: the right edge of a tree of some size."""

    level: int
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[n : n + 3] for n in range(0, len(digits), 3)]
        number = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        level = "entries" if self.level < 0 else str(self.level)
        return f"tile/{level}/{number}" + (f".p/{self.width}" if self.width < WIDTH else "")


def tile_at(level: int, index: int, size: int) -> Tile:
    """Of a tree of `size` leaves; a width of 0 where the tree does not reach there."""
    hashes = size >> (HEIGHT * max(level, 0))
    return Tile(level, index, max(0, min(WIDTH, hashes - index * WIDTH)))


def tiles_of(size: int, level: int) -> Iterator[Tile]:
    """All tiles of one level, from the left."""
    hashes = size >> (HEIGHT * max(level, 0))
    for index in range(-(-hashes // WIDTH)):
        yield tile_at(level, index, size)


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root of a complete subtree: a power of two of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[n], row[n + 1]) for n in range(0, len(row), 2)]
    return row[0]


def nodes(size: int, read: Callable[[Tile], bytes]) -> Node:
    """Looks a tree of `size` up in its tiles."""

    @lru_cache(maxsize=CACHED_TILES)
    def tile(level: int, index: int) -> bytes:
        return read(tile_at(level, index, size))

    @lru_cache(maxsize=CACHED_TILES)
    def node(level: int, index: int) -> bytes:
        height, within = divmod(level, HEIGHT)
        first, count = index << within, 1 << within
        data = tile(height, first // WIDTH)
        start = first % WIDTH * HASH
        return fold([data[n : n + HASH] for n in range(start, start + count * HASH, HASH)])

    return node


def root(size: int, node: Node) -> bytes:
    return _range(0, size, node) if size else EMPTY


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """RFC 6962 2.1.1: from the leaf's sibling up."""
    proof: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(_range(middle, high, node))
            high = middle
        else:
            proof.append(_range(low, middle, node))
            low = middle
    return proof[::-1]


def consistency(old: int, size: int, node: Node) -> list[bytes]:
    """RFC 6962 2.1.2: that the first `old` leaves of a tree of `size` are the whole of the older tree."""
    return _subproof(old, 0, size, True, node) if 0 < old < size else []


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """RFC 9162 2.1.3.2: the root that the proof leads to; None where it cannot be one of this place."""
    if not 0 <= index < size:
        return None
    place, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None


def is_consistent(old: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162 2.1.4.2."""
    if old == size:
        return old_root == new_root and not proof
    if old == 0:
        return old_root == EMPTY and not proof
    if not 0 < old < size or not proof:
        return False
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return before == old_root and after == new_root and last == 0


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _range(low: int, high: int, node: Node) -> bytes:
    count = high - low
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, low >> level)
    middle = low + _split(count)
    return node_hash(_range(low, middle, node), _range(middle, high, node))


def _subproof(old: int, low: int, high: int, whole: bool, node: Node) -> list[bytes]:
    if old == high - low:
        return [] if whole else [_range(low, high, node)]
    split = _split(high - low)
    if old <= split:
        return [*_subproof(old, low, low + split, whole, node), _range(low + split, high, node)]
    return [*_subproof(old - split, low + split, high, False, node), _range(low, low + split, node)]
