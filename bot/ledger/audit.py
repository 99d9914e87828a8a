"""Checks a log from its files alone. The one thing taken on trust is the public key that the auditor was given.

Every finding has a name: `cut_tail`, `replaced_log`, `changed_entry`, `changed_tile`, `missing_file`, `foreign_entry`,
`broken_chain`, `bad_signature`, `bad_timestamp`, `sandbox_log`, `not_ours`, `no_log`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bot.errors import RecordBroken
from bot.ledger import note, tree
from bot.ledger.log import CHECKPOINT, Checkpoint, leaves_of, read_envelope, read_tile
from bot.ledger.sealer import KEYS, KEYS_TITLE, anchor_of
from bot.ledger.shelf import Shelf
from bot.ledger.stamp import verified
from bot.ledger.tree import HASH, WIDTH, Tile
from bot.store.leaves import Signed
from bot.store.seal import digest, key_id, pre_authentication

MOST_FINDINGS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    what: str


@dataclass(slots=True)
class Report:
    """`streams`: how many entries each incident and target has. `timestamps`: those that were verified; the log was as
    long as the newest of them says by `stamped`. Sound is a log without findings."""

    size: int = 0
    anchors: int = 0
    timestamps: int = 0
    stamped: datetime | None = None
    streams: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def found(self, name: str, what: str) -> None:
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(name, what))


@dataclass(slots=True)
class _Chains:
    """What the entries say of each other."""

    mode: str
    keys: dict[str, Ed25519PublicKey]
    last: dict[str, tuple[int, str]] = field(default_factory=dict)

    def follow(self, place: int, signed: Signed, report: Report) -> None:
        inside: dict[str, Any] = json.loads(signed.body)
        name = f"{signed.stream}/{signed.version} at {place}"
        key = self.keys.get(signed.key_id)
        if key is None or not _verified(key, signed):
            report.found("bad_signature", f"{name}: the record's key {signed.key_id} has not signed these bytes")
        if inside.get("mode") != self.mode:
            report.found("foreign_entry", f"{name} is of mode {inside.get('mode')!r} in a log of mode {self.mode!r}")
        version, previous = self.last.get(signed.stream, (0, ""))
        if signed.version != version + 1 or inside.get("previous") != previous:
            report.found("broken_chain", f"{name} does not follow {signed.stream}/{version}")
        self.last[signed.stream] = signed.version, digest(signed.body)


def audit(
    shelf: Shelf,
    key: note.Key,
    *,
    anchors: Shelf | None = None,
    mode: str = "live",
    roots: Sequence[x509.Certificate] = (),
) -> Report:
    """Reads the whole log: signatures, hashes, chains, and that every anchored checkpoint is a part of it. With the
    `roots` of a timestamp authority, the anchors' timestamps too. Raises Unavailable where the files cannot be had."""
    report = Report()
    checkpoint = _checkpoint(shelf, key, mode, report)
    if checkpoint is None:
        return report
    report.size = checkpoint.size
    _tiles(shelf, checkpoint, report)
    _entries(shelf, checkpoint, key, mode, report)
    if anchors is not None:
        _anchors(shelf, anchors, checkpoint, key, report)
        if roots:
            _timestamps(anchors, roots, report)
    return report


def mode_of(origin: str) -> str:
    """`firedoor.example/acme/live` -> `live`."""
    return origin.rpartition("/")[2]


def _checkpoint(shelf: Shelf, key: note.Key, mode: str, report: Report) -> Checkpoint | None:
    found = shelf.read(CHECKPOINT)
    if found is None:
        report.found("no_log", "there is no checkpoint here")
        return None
    text = found.decode(errors="replace")
    claims = {*note.signers(text), text.partition("\n")[0]}
    if others := sorted(
        mode_of(name) for name in claims if mode_of(name) in ("sandbox", "tabletop") and mode == "live"
    ):
        report.found("sandbox_log", f"it is the log of a {others[0]}, passed off as {mode}")
    try:
        checkpoint = Checkpoint.parse(note.open_note(text, key))
    except RecordBroken as error:
        report.found("not_ours", f"the checkpoint cannot be trusted: {error}")
        return None
    if checkpoint.origin != key.name or mode_of(checkpoint.origin) != mode:
        report.found("not_ours", f"the checkpoint is of {checkpoint.origin}, asked for was {key.name} in mode {mode}")
        return None
    return checkpoint


def _tiles(shelf: Shelf, checkpoint: Checkpoint, report: Report) -> None:
    """Each tile is the hash of those below it, and the top is what was signed."""
    level = 0
    while checkpoint.size >> (tree.HEIGHT * level):
        for tile in tree.tiles_of(checkpoint.size, level):
            try:
                data = read_tile(shelf, tile)
                if level and (wrong := _wrong(shelf, tile, data)):
                    report.found("changed_tile", wrong)
            except RecordBroken as error:
                report.found("missing_file", str(error))
        level += 1
    if report.findings:
        return
    if tree.root(checkpoint.size, tree.nodes(checkpoint.size, lambda tile: read_tile(shelf, tile))) != checkpoint.root:
        report.found("changed_tile", "the tiles do not have the root that the checkpoint signs")


def _wrong(shelf: Shelf, tile: Tile, data: bytes) -> str:
    for n in range(tile.width):
        below = Tile(tile.level - 1, tile.index * WIDTH + n)
        hashes = read_tile(shelf, below)
        row = [hashes[m : m + HASH] for m in range(0, len(hashes), HASH)]
        if tree.fold(row) != data[n * HASH : (n + 1) * HASH]:
            return f"{below.path} is not what {tile.path} says of it"
    return ""


def _entries(shelf: Shelf, checkpoint: Checkpoint, key: note.Key, mode: str, report: Report) -> None:
    chains = _Chains(mode, _record_keys(shelf, key, report))
    hashes, at = b"", -1
    try:
        for place, bundle, leaf in leaves_of(shelf, checkpoint.size):
            if bundle.index != at:
                hashes, at = read_tile(shelf, Tile(0, bundle.index, bundle.width)), bundle.index
            start = place % WIDTH * HASH
            if tree.leaf_hash(leaf) != hashes[start : start + HASH]:
                report.found("changed_entry", f"entry {place} in {bundle.path} is not the one that was sealed")
                continue
            try:
                chains.follow(place, read_envelope(leaf, shelf), report)
            except RecordBroken as error:
                report.found("changed_entry", f"entry {place}: {error}")
    except RecordBroken as error:
        report.found("missing_file", str(error))
    report.streams = {stream: version for stream, (version, _) in sorted(chains.last.items())}


def _anchors(shelf: Shelf, anchors: Shelf, checkpoint: Checkpoint, key: note.Key, report: Report) -> None:
    node = tree.nodes(checkpoint.size, lambda tile: read_tile(shelf, tile))
    for path, anchored in _anchored(anchors, key, report):
        report.anchors += 1
        if anchored.size > checkpoint.size:
            why = f"{path} was signed for {anchored.size} entries, the log has {checkpoint.size}"
            report.found("cut_tail", why)
            continue
        try:
            same = tree.root(anchored.size, node) == anchored.root
        except RecordBroken as error:
            report.found("missing_file", str(error))
            continue
        if not same:
            report.found("replaced_log", f"the first {anchored.size} entries are not those that {path} was signed for")


def _anchored(anchors: Shelf, key: note.Key, report: Report) -> Iterator[tuple[str, Checkpoint]]:
    for path in anchors.names("anchors"):
        data = anchors.read(path) or b""
        try:
            yield path, Checkpoint.parse(note.open_note(data.decode(errors="replace"), key))
        except RecordBroken as error:
            report.found("not_ours", f"{path}: {error}")


def _timestamps(anchors: Shelf, roots: Sequence[x509.Certificate], report: Report) -> None:
    for path in anchors.names("timestamps"):
        try:
            at = verified(anchors.read(path) or b"", anchors.read(anchor_of(path)) or b"", roots)
        except RecordBroken as error:
            report.found("bad_timestamp", f"{path}: {error}")
            continue
        report.timestamps += 1
        report.stamped = max(at, report.stamped or at)


def _record_keys(shelf: Shelf, key: note.Key, report: Report) -> dict[str, Ed25519PublicKey]:
    """The keys that the log's own key vouches for."""
    try:
        title, *lines = note.open_note((shelf.read(KEYS) or b"").decode(errors="replace"), key).splitlines()
        raws = [base64.b64decode(line.partition(" ")[2], validate=True) for line in lines]
        if title != KEYS_TITLE:
            raise RecordBroken(f"it begins with {title!r}")
        return {key_id(raw): Ed25519PublicKey.from_public_bytes(raw) for raw in raws}
    except (RecordBroken, binascii.Error, ValueError) as error:
        report.found("not_ours", f"{KEYS}, the keys that entries are signed with, cannot be trusted: {error}")
        return {}


def _verified(key: Ed25519PublicKey, signed: Signed) -> bool:
    try:
        key.verify(base64.b64decode(signed.signature, validate=True), pre_authentication(signed.body))
    except (InvalidSignature, ValueError):
        return False
    return True
