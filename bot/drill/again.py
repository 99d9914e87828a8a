"""The recorded alerts of an incident, played once more: against the rules as they are now, on a simulated estate.

Clean means that every alert is answered: an incident whose playbook runs, contained in its time, and nothing that the
agent tries afterwards gets through. What asks for approval is approved by those who may. No live credential is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from bot.config import Config, load
from bot.domain.alert import Alert, AlertText
from bot.domain.approval import ApprovalState, fingerprint, missing
from bot.domain.containment import Containment
from bot.domain.events import AlertReceived, Opened, TextRef
from bot.domain.incident import Incident
from bot.domain.record import Entry
from bot.domain.source import SourceRules
from bot.drill.rehearsal import Rehearsal
from bot.drill.scenario import Scenario
from bot.engine import verbs
from bot.engine.intake import receive
from bot.engine.world import Played, ReadText
from bot.errors import FiredoorError, RecordBroken, Refused

log = logging.getLogger(__name__)

Wire = Callable[[Scenario, Config, Path, str], Rehearsal]
_NOTHING: dict[str, tuple[()]] = dict.fromkeys(("instances", "before", "alerts", "tries", "people", "faults"), ())
MOST = 50  # alerts that are played
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)  # when what was declared without an alert is played
RULES = ("playbooks/*.y*ml", "runbooks/*.md", "policies/*", "*.yaml")


def replay(config: Config, folder: Path, wire: Wire, entries: Sequence[Entry], read: ReadText) -> Played:
    """`config` is what this process runs on; what is played against are the files of the folder as they are now."""
    rules = rules_of(folder)
    alerts = list(_alerts(entries, read))[:MOST]
    opened = entries[0].event
    if not isinstance(opened, Opened):
        raise RecordBroken(f"{entries[0].stream} does not begin with its opening")
    try:
        now = load(folder) if (folder / "firedoor.yaml").is_file() else config
        findings = tuple(_play(now, folder, wire, opened, alerts))
    except FiredoorError as error:
        log.warning("a replay could not be played: %s", error)
        findings = (f"it could not be played: {error}",)
    told = {"rules": rules, "alerts": [alert.dedup_key() for _, alert, _ in alerts], "findings": list(findings)}
    return Played(not findings, fingerprint(told), rules, findings)


def rules_of(folder: Path) -> str:
    """Of the operator's files, names and bytes: what changes a decision changes this."""
    files = sorted({path for pattern in RULES for path in folder.glob(pattern) if path.is_file()})
    listed = {str(path.relative_to(folder)): _content(path) for path in files}
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:  # it is being replaced, or is not ours to read
        return f"unreadable: {error.errno}"


def _alerts(entries: Sequence[Entry], read: ReadText) -> Iterator[tuple[datetime, Alert, bool]]:
    """When each came, with its text as far as it is kept, and whether its word could contain."""
    for entry in entries:
        match entry.event:
            case Opened(alert=Alert() as alert, text=ref, contain=contain):
                yield entry.at, _worded(alert, ref, read), contain
            case AlertReceived(alert=alert, text=ref, contain=contain):
                yield entry.at, _worded(alert, ref, read), contain


def _worded(alert: Alert, ref: TextRef | None, read: ReadText) -> Alert:
    title, _, message = ((read(ref) if ref else None) or "").partition("\n\n")
    return replace(alert, text=AlertText(title, message))


def _play(
    config: Config, folder: Path, wire: Wire, opened: Opened, alerts: list[tuple[datetime, Alert, bool]]
) -> Iterator[str]:
    agent = opened.agent_uid
    known = config.agents.agents.get(agent)
    if known is None:
        yield f"agent {agent or 'unknown'} is not enrolled: nothing of it can be cut"
        return
    if not alerts and not opened.declared_by:
        yield "no alert is recorded that could be played"
        return
    starts = alerts[0][0] if alerts else EPOCH
    scenario = Scenario(id="replay", title="replay", agent=agent, starts=starts, until=timedelta(hours=1), **_NOTHING)
    with tempfile.TemporaryDirectory(prefix="firedoor-replay-") as scratch:
        played = wire(scenario, config, folder, f"sqlite:///{scratch}/record.db")
        try:
            if opened.declared_by:
                declared = verbs.declare(
                    person=opened.declared_by, type=opened.type, severity=opened.severity, agent=agent, title="replay"
                )
                played.engine.submit(declared).result()
                played.engine.settle()
                _approve(played)
            for at, alert, contain in alerts:
                _until(played, max(at, played.clock.now()))
                source = config.sources.get(alert.source)
                rules = source.rules if source else SourceRules(alert.source, "generic", "", may_contain=contain)
                played.engine.submit(partial(receive, alert=alert, source=rules, body=b"{}")).result()
                played.engine.settle()
                _approve(played)
            limit = config.settings.deadlines.containment
            _until(played, played.clock.now() + limit)
            yield from _judge(played, limit)
            yield from (f"the agent still gets through: {way}" for way in played.estate.alive(known))
        finally:
            played.engine.store.close()


def _incidents(played: Rehearsal) -> list[Incident]:
    with played.engine.store.reading() as tx:
        return [played.engine.incident(row.stream) for row in tx.streams("incident", newest_first=False)]


def _judge(played: Rehearsal, limit: timedelta) -> Iterator[str]:
    for incident in _incidents(played):
        said = f"{incident.type} ({incident.severity.name})"
        if incident.frozen.playbook is None or not incident.started:
            yield f"{said}: no playbook runs"
        elif incident.containment is not Containment.CONTAINED:
            yield f"{said}: containment is {incident.containment} after {limit.total_seconds() / 60:.0f} min"


def _until(played: Rehearsal, moment: datetime) -> None:
    """Lets time pass; whatever asks for approval on the way gets it."""
    while (due := played.engine.next_moment()) is not None and due <= moment:
        played.clock.set(max(due, played.clock.now()))
        played.engine.settle()
        _approve(played)
    played.clock.set(moment)
    played.engine.settle()


def _approve(played: Rehearsal) -> None:
    people = played.config.people
    for incident in _incidents(played):
        for asked in incident.approvals.values():
            for person in people.persons if asked.state is ApprovalState.OPEN and not asked.step_up else ():
                asked = played.engine.incident(incident.id).approvals[asked.request]
                wanted = {one for group in missing(asked.each, asked.given) for one in group.split("|")}
                if asked.state is not ApprovalState.OPEN or not wanted & people.standing(person):
                    continue
                try:
                    played.engine.submit(verbs.approve(asked.request, person, "replay", asked.hash)).result()
                except Refused as refused:
                    log.debug("%s does not approve %s: %s", person, asked.request, refused)
                played.engine.settle()
