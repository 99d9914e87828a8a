"""Reading many sources at once, none of which may hold up the others, and keeping what they say.

Every source is asked in a thread of its connection, all of them within one box of time. What has not answered by then
is named as missing and its thread is left behind: nothing that contains ever waits for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bot.domain.redaction import redactions
from bot.errors import SystemFailure
from bot.ports import Evidence, Ports

SYSTEM = "evidence"  # a pool of its own: a source that hangs takes no thread from what contains
LANES = 2  # calls at once to one connection
POINTERS = 1000  # places of redactions that a manifest lists for one item
KINDS = ("prompt", "tool_call", "memory", "effect", "policy")  # of a gateway's entries; it may send others
SCHEMA = "firedoor/evidence/v2"


@dataclass(frozen=True, slots=True)
class Source:
    """`kind` says what the item is: agent_activity, cloudtrail, vault_audit, vault_leases, iam_policies,
    vault_policies, pod_logs. `read` answers a list of JSON values, or a Part of it."""

    name: str
    kind: str
    connection: str
    read: Callable[[], Sequence[Any] | Part]


@dataclass(frozen=True, slots=True)
class Part:
    """What was read of a source that has more; `why` says what is lacking."""

    found: Sequence[Any]
    why: str


@dataclass(frozen=True, slots=True)
class Read:
    """`found` is None where the source is missing; `why` it is, or what of it."""

    source: Source
    found: Sequence[Any] | None
    why: str = ""


def read_all(sources: Sequence[Source], box: float) -> tuple[Read, ...]:
    """In the order of the sources, `box` seconds at most."""
    pools = {name: ThreadPoolExecutor(LANES, f"evidence-{name}") for name in {one.connection for one in sources}}
    calls = [(one, pools[one.connection].submit(one.read)) for one in sources]
    wait([call for _, call in calls], timeout=box)
    read = tuple(_answer(one, call, box) for one, call in calls)
    for pool in pools.values():
        pool.shutdown(wait=False, cancel_futures=True)
    return read


def _answer(source: Source, call: Future[Sequence[Any] | Part], box: float) -> Read:
    if not call.done():
        if call.cancel():
            return Read(source, None, f"not asked: {source.connection} did not answer what was asked before it in time")
        return Read(source, None, f"no whole answer within {box:g} s")
    try:
        found = call.result()
    except SystemFailure as failure:  # of the source; one of the store is not caught
        return Read(source, None, failure.why)
    return Read(source, found.found, found.why) if isinstance(found, Part) else Read(source, found)


def collect(
    ports: Ports, store: Evidence, sources: Sequence[Source], *, key: str, box: float, keep_until: datetime
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """(items, missing) as a manifest lists them; a source of which there is more is in both. Raises SystemFailure of
    the store."""
    items, missing = [], []
    for read in read_all(sources, box):
        if read.why or read.found is None:
            missing.append({"source": read.source.name, "kind": read.source.kind, "why": str(ports.clean(read.why))})
        if read.found is not None:
            items.append(keep(ports, store, read.source, read.found, key=key, keep_until=keep_until))
    return items, missing


def keep(
    ports: Ports, store: Evidence, source: Source, found: Sequence[Any], *, key: str, keep_until: datetime
) -> dict[str, Any]:
    """Stores one source's answer without secrets, and returns its line of the manifest."""
    clean = ports.clean(json.loads(as_bytes(list(found))))
    taken = redactions(clean)
    stored = store.put(as_bytes(clean), name=f"{source.name.replace('/', '_')}.json", retain_until=keep_until)
    return {
        "source": source.name,
        "kind": source.kind,
        "connection": source.connection,
        "records": len(found),
        "kinds": dict(sorted(Counter(_kinds(clean)).items())) if source.kind == "agent_activity" else {},
        "redacted": {
            "count": len(taken),
            "kinds": dict(sorted(Counter(one.kind for one in taken).items())),
            "where": [one.path for one in taken[:POINTERS]],
        },
        "read_at": ports.clock.now().isoformat(),
        "key": key,
        "sha256": stored.sha256,
        "size": stored.size,
        "address": stored.address,
        "locked_until": stored.locked_until.isoformat() if stored.locked_until else None,
        "lock": stored.lock,
    }


def _kinds(entries: Any) -> Iterator[str]:
    for entry in entries:
        kind = entry.get("kind") if isinstance(entry, Mapping) else None
        yield kind if kind in KINDS else "other"


def as_bytes(value: Any) -> bytes:
    """The same value, the same bytes. Times of a vendor's client become text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()
