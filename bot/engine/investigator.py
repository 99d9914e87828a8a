"""The approval audit and the merged timeline of an incident, out of its evidence and its record.

Everything is read anew and held against its digests: the manifests against the record, the items against the manifests.
What is missing, or not what it was, is named in the result and never left out in silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from bot.domain.approval import fingerprint
from bot.domain.deeds import CAVEATS, RECORD, SOURCES, Deed, merged, moment, read_deeds
from bot.domain.events import ApprovalsAudited, TextRef
from bot.domain.evidence import Kept, lacking, manifests
from bot.domain.incident import Incident
from bot.domain.investigation import (
    Finding,
    Grant,
    Known,
    PolicyAction,
    Verdict,
    audit,
    grants_of,
    named,
    tally,
)
from bot.domain.record import Entry
from bot.domain.timeline import narrate
from bot.errors import RecordBroken, SystemFailure
from bot.ports import Evidence

SCHEMA = "firedoor/investigation/v1"
ROWS = 500  # of the timeline that is kept with the audit: the latest before the end
STREAMS = 100  # of other incidents whose approvals the logs name
NO_POLICY = "policies/actions.yaml is missing: nothing says which actions are privileged"

Folded = tuple[Incident, Sequence[Entry]]


@dataclass(frozen=True, slots=True)
class Investigation:
    """`deeds` are the logs' and the record's, merged; `missing` what could not be read, as sentences."""

    incident: str
    findings: tuple[Finding, ...]
    deeds: tuple[Deed, ...]
    missing: tuple[str, ...]
    manifests: tuple[str, ...]
    policy: str
    why: str = ""

    @property
    def counts(self) -> Mapping[Verdict, int]:
        return tally(self.findings)

    def event(self, decision: str, artefact: TextRef) -> ApprovalsAudited:
        counts = {str(verdict): count for verdict, count in self.counts.items()}
        return ApprovalsAudited(
            decision, artefact, **counts, policy=self.policy, manifests=self.manifests, why=self.why
        )

    def as_json(self, rows: int = ROWS) -> dict[str, Any]:
        """As it is kept: no more than `rows` of the timeline."""
        return {
            "schema": SCHEMA,
            "incident": self.incident,
            "manifests": list(self.manifests),
            "policy": self.policy,
            "why": self.why,
            "missing": list(self.missing),
            "counts": {str(verdict): count for verdict, count in self.counts.items()},
            "findings": [_finding(one) for one in self.findings[:ROWS]],
            "caveats": dict(CAVEATS),
            "timeline": [
                {"at": one.at.isoformat(), "source": one.source, "text": one.text, "where": one.where}
                for one in self.deeds[len(self.deeds) - min(rows, len(self.deeds)) :]
            ],
            "left_out": max(0, len(self.deeds) - rows) + max(0, len(self.findings) - ROWS),
        }


def investigate(
    incident: Incident,
    entries: Sequence[Entry],
    evidence: Evidence | None,
    policy: Mapping[str, PolicyAction],
    other: Callable[[str], Folded | None],
) -> Investigation:
    """`other` folds another incident: None where there is none, RecordBroken where it cannot be read."""
    read = _Reading(evidence, incident)
    deeds = merged(deed for kept in manifests(entries) for deed in read.manifest(kept))
    known = _known(incident, entries, deeds, other, heard=read.heard)
    findings = audit(deeds, policy, known)
    whole = merged((*deeds, *_record(entries)))
    said = tuple(dict.fromkeys(read.missing))
    sums = tuple(kept.sha256 for kept in manifests(entries))
    return Investigation(
        incident.id, findings, whole, said, sums, fingerprint(_plain(policy)), "" if policy else NO_POLICY
    )


class _Reading:
    def __init__(self, evidence: Evidence | None, incident: Incident) -> None:
        self._evidence, self._incident = evidence, incident
        self.missing: list[str] = []
        self._logs, self._lost = 0, 0  # of the agent's own log, in the latest manifest that asked for it

    @property
    def heard(self) -> bool:
        return self._logs > 0 and not self._lost

    def manifest(self, kept: Kept) -> Iterator[Deed]:
        found = self._load(f"manifest {kept.sha256[:12]}", kept.address, kept.sha256)
        if not isinstance(found, Mapping):
            return
        if _asks_the_agent(found):
            self._logs = self._lost = 0
        window = found.get("window")
        since = moment(window.get("from")) if isinstance(window, Mapping) else None
        for kind, said in lacking(found):
            self._lost += kind == "agent_activity"
            self.missing.append(said)
        for item in found.get("items") or ():
            if isinstance(item, Mapping) and item.get("kind") in SOURCES:
                yield from self._item(item, since)

    def _item(self, item: Mapping[str, Any], since: datetime | None) -> Iterator[Deed]:
        source, kind, digest = (str(item.get(key, "")) for key in ("source", "kind", "sha256"))
        records = self._load(source, str(item.get("address", "")), digest)
        own = kind == "agent_activity"
        if not isinstance(records, list):
            self._lost += own
            return
        self._logs += own
        deeds = read_deeds(kind, source, digest, records, self._incident.agent)
        yield from (deed for deed in deeds if since is None or deed.at >= since)

    def _load(self, what: str, address: str, sha256: str) -> Any:
        """The JSON value, or None and a sentence in `missing`."""
        try:
            data = self._evidence.get(address) if self._evidence else None
        except SystemFailure as failure:
            self.missing.append(f"{what}: {failure.why}")
            return None
        if data is None:
            self.missing.append(f"{what}: it is not in the evidence store")
        elif hashlib.sha256(data).hexdigest() != sha256:
            self.missing.append(f"{what}: it is not what was collected: its SHA-256 differs")
        else:
            try:
                return json.loads(data)
            except (ValueError, RecursionError):
                self.missing.append(f"{what}: it is no JSON")
        return None


def _asks_the_agent(manifest: Mapping[str, Any]) -> bool:
    """Whether it tells of the agent's own log at all: one of its pods says nothing about it."""
    items = [one for one in manifest.get("items") or () if isinstance(one, Mapping)]
    return "agent_activity" in {*(one.get("kind") for one in items), *(kind for kind, _ in lacking(manifest))}


def _known(
    incident: Incident,
    entries: Sequence[Entry],
    deeds: Sequence[Deed],
    other: Callable[[str], Folded | None],
    *,
    heard: bool,
) -> Known:
    """The grants of this incident, and of every other that the logs name an approval of."""
    grants: dict[str, Grant] = {one.request: one for one in grants_of(incident, entries)}
    unreadable: set[str] = set()
    streams = sorted({request.partition("/")[0] for request in named(deeds)} - {incident.id, ""})
    for number, stream in enumerate(streams):
        try:
            found = other(stream) if number < STREAMS else None
        except RecordBroken:
            unreadable.add(stream)
            continue
        if found:
            grants |= {one.request: one for one in grants_of(*found)}
        elif number >= STREAMS:
            unreadable.add(stream)
    return Known(grants, frozenset(unreadable), heard)


def _record(entries: Sequence[Entry]) -> Iterator[Deed]:
    """Our own record beside the logs; its free texts stay where they are."""
    for number, line in enumerate(narrate(entries)):
        yield Deed(line.at, RECORD, "", line.text[:300], f"{line.stream}/{line.version}#/{number}")


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "action": one.action,
        "verdict": str(one.verdict),
        "why": one.why,
        "at": one.deed.at.isoformat(),
        "source": one.deed.source,
        "name": one.deed.name,
        "where": one.deed.where,
        "approval": one.approval,
        "plan": one.plan,
        "shown_by": [asdict(entry) for entry in one.shown_by],
    }


def _plain(policy: Mapping[str, PolicyAction]) -> dict[str, Any]:
    return {
        id: {
            "risk": one.risk,
            "asks": one.requires_manual_approval,
            "approvers": list(one.approvers),
            "valid_for": int(one.valid_for.total_seconds()),
            "covers": one.covers,
            "seen_as": list(one.seen_as),
        }
        for id, one in policy.items()
    }
