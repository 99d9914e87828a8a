"""The ledger: a million entries sealed into a folder, proved and audited.

Each entry is a real one of a small incident (its body, its signature over it), 64 to a stream. Floor of the append: the
same bytes hashed and appended to one file, with an fsync for each batch. Floor of the audit: one SHA-256 and one
Ed25519 verification for each entry.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.figures import Row, Spread
from bot.ledger.audit import audit
from bot.ledger.log import Log, envelope
from bot.ledger.proof import check, prove
from bot.ledger.sealer import A_TIME, KEYS, keys_text
from bot.ledger.shelf import Folder
from bot.store import Signer
from bot.store.leaves import Signed
from bot.store.seal import canonical, digest, key_id, pre_authentication

STREAM = 64  # entries of one incident
PROOFS = 200


def measure(*, entries: int = 1_000_000) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        signer, private = Signer.fresh(), Ed25519PrivateKey.generate()
        shelf = Folder(folder / "log")
        log = Log(shelf, "firedoor/bench/sandbox", private)
        shelf.write(KEYS, log.sign(keys_text(signer.trusted)).encode())
        ours, floor, sizes = 0.0, 0.0, 0
        with (folder / "floor").open("wb") as file:
            for batch in _batches(signer, entries):
                start = time.perf_counter()
                log.extend(batch)
                ours += time.perf_counter() - start
                leaves = [envelope(one) for one in batch]
                start = time.perf_counter()
                for leaf in leaves:
                    hashlib.sha256(leaf).digest()
                    file.write(leaf)
                file.flush()
                os.fsync(file.fileno())
                floor += time.perf_counter() - start
                sizes += sum(map(len, leaves))
        return [
            _rate(f"ledger, {entries:,} entries sealed, {sizes // entries} bytes each", entries, ours, floor),
            *_proofs(shelf, log, entries),
            _audit(shelf, log, signer, entries),
        ]


def _batches(signer: Signer, entries: int) -> Iterator[list[Signed]]:
    batch: list[Signed] = []
    previous = ""
    for n in range(entries):
        stream, version = f"INC-{n // STREAM}", n % STREAM + 1
        body = _body(stream, version, previous if version > 1 else "")
        previous = digest(body)
        batch.append(Signed(stream, version, body, signer.key_id, signer.sign(body)))
        if len(batch) == A_TIME:
            yield batch
            batch = []
    if batch:
        yield batch


def _body(stream: str, version: int, previous: str) -> bytes:
    fields = {
        "at": "2026-01-05T10:00:00.000000Z",
        "by": "sre-1",
        "via": "slack",
        "type": "Acknowledged",
        "decisions": [],
    }
    about = {"install": "bench", "epoch": 1, "mode": "sandbox", "stream": stream, "version": version, "rules": 1}
    return canonical({**fields, **about, "previous": previous})


def _proofs(shelf: Folder, log: Log, entries: int) -> list[Row]:
    made: list[float] = []
    checked: list[float] = []
    sizes: list[int] = []
    for place in range(0, entries, max(1, entries // PROOFS)):
        start = time.perf_counter()
        text = prove(shelf, place)
        middle = time.perf_counter()
        leaf = check(text, log.key).leaf
        made.append(middle - start)
        checked.append(time.perf_counter() - middle)
        sizes.append(len(text) - len(base64.b64encode(leaf)))
    note = f"{max(sizes):,} bytes beside the entry"
    return [
        Row(f"ledger, a proof among {entries:,} made", str(Spread.of(made)), "", None, note=note),
        Row("ledger, a proof checked", str(Spread.of(checked)), "", None),
    ]


def _audit(shelf: Folder, log: Log, signer: Signer, entries: int) -> Row:
    start = time.perf_counter()
    report = audit(shelf, log.key, mode="sandbox")
    ours = time.perf_counter() - start
    if report.findings or report.size != entries:
        raise RuntimeError(f"the audit found {report.findings[:3]} in {report.size} entries")
    body = _body("INC-1", 2, "0" * 64)
    signed = pre_authentication(body)
    signature, (public,) = base64.b64decode(signer.sign(body)), signer.trusted
    key = signer.private.public_key()
    assert key_id(public) == signer.key_id
    tries = min(entries, 5_000)
    start = time.perf_counter()
    for _ in range(tries):
        hashlib.sha256(signed).digest()
        key.verify(signature, signed)
    floor = (time.perf_counter() - start) * entries / tries
    return _rate(f"ledger, {entries:,} entries audited, {ours:,.0f} s", entries, ours, floor)


def _rate(what: str, entries: int, ours: float, floor: float) -> Row:
    return Row(what, f"{entries / ours:,.0f}/s", f"{entries / floor:,.0f}/s", ours / floor)
