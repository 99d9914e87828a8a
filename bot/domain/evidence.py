"""What evidence an incident has, and through whose hands it went: read off its record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bot.domain.events import ActionSettled, ApprovalsAudited, DocumentDrafted, Erased, EvidenceRead
from bot.domain.investigation import EntryRef
from bot.domain.outcome import Done
from bot.domain.record import Entry
from bot.domain.wording import counted

SNAPSHOTS = ("snapshots", "snapshot")  # keys of what an action read back
MACHINE = "firedoor"


@dataclass(frozen=True, slots=True)
class Kept:
    """A manifest in the evidence store, as an entry of the record names it."""

    step: str
    decision: str
    address: str
    sha256: str
    at: datetime
    entry: EntryRef


@dataclass(frozen=True, slots=True)
class Handled:
    """One link of the chain of custody. `what`: collected, snapshot, judged, read, exported, erased."""

    at: datetime
    what: str
    who: str
    about: str
    entry: EntryRef


def manifests(entries: Sequence[Entry]) -> tuple[Kept, ...]:
    """In the order in which they were made; the same manifest once."""
    found = {
        str(read["manifest_sha256"]): Kept(
            event.step, event.decision, str(read["manifest"]), str(read["manifest_sha256"]), entry.at, ref(entry)
        )
        for entry, event, read in _done(entries)
        if read.get("manifest") and read.get("manifest_sha256")
    }
    return tuple(found.values())


def snapshots(entries: Sequence[Entry]) -> tuple[dict[str, Any], ...]:
    """What stays with the cloud, by its ids: they are evidence that no export can hold."""
    return tuple(
        {"step": event.step, "key": event.decision, "taken_at": entry.at.isoformat(), **read}
        for entry, event, read in _done(entries)
        if any(read.get(key) for key in SNAPSHOTS)
    )


def lacking(manifest: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """(kind, sentence) of each source that a manifest says was not read, or not all of it."""
    found = []
    for one in manifest.get("missing") or ():
        said = one if isinstance(one, Mapping) else {"source": str(one)}
        words = (str(said.get("source", "")), str(said.get("why", "")))
        found.append((str(said.get("kind", "")), ": ".join(filter(None, words))))
    return tuple(found)


def custody(entries: Sequence[Entry]) -> tuple[Handled, ...]:
    """Who, or what, collected it, took it, judged it, read it and carried it out."""
    return tuple(link for entry in entries for link in _links(entry))


def ref(entry: Entry) -> EntryRef:
    return EntryRef(entry.stream, entry.version, entry.digest)


def _links(entry: Entry) -> Iterator[Handled]:
    match entry.event:
        case ActionSettled(step=step, decision=key, outcome=Done(evidence=read)) if read.get("manifest_sha256"):
            about = f"{counted(read.get('items', 0), 'item')} by {step} ({key}), manifest {read['manifest_sha256']}"
            yield Handled(entry.at, "collected", MACHINE, about, ref(entry))
        case ActionSettled(step=step, decision=key, outcome=Done(evidence=read)) if any(map(read.get, SNAPSHOTS)):
            taken = next(read[name] for name in SNAPSHOTS if read.get(name))
            about = f"{', '.join(taken) if isinstance(taken, list | tuple) else taken} by {step} ({key})"
            yield Handled(entry.at, "snapshot", MACHINE, about, ref(entry))
        case ApprovalsAudited(manifests=read):
            yield Handled(entry.at, "judged", MACHINE, f"manifests {', '.join(read)}", ref(entry))
        case EvidenceRead(by=by, purpose=purpose, sha256=digests):
            what = "exported" if purpose == "export" else "read"
            yield Handled(entry.at, what, by, ", ".join(digests) or "everything", ref(entry))
        case DocumentDrafted(kind=kind):
            yield Handled(entry.at, "drafted", MACHINE, kind, ref(entry))
        case Erased(by=by):
            yield Handled(entry.at, "erased", by, "the incident's free texts", ref(entry))


def _done(entries: Sequence[Entry]) -> Iterator[tuple[Entry, ActionSettled, Mapping[str, Any]]]:
    for entry in entries:
        if isinstance(entry.event, ActionSettled) and isinstance(entry.event.outcome, Done):
            yield entry, entry.event, entry.event.outcome.evidence
