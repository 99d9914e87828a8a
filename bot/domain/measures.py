"""How fast an incident was handled, against what was promised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from bot.domain.decisions import Notify
from bot.domain.events import PageSent
from bot.domain.incident import Incident
from bot.domain.record import Entry

DETECT = timedelta(minutes=5)
NOTIFY = timedelta(minutes=60)
TOLD_AT_OPENING = "opened"  # the topic of the notices that A4 asks for


class Verdict(StrEnum):
    MET = "met"
    MISSED = "missed"
    OPEN = "open"  # not reached, and still time; or nothing to measure, which `note` then says


@dataclass(frozen=True, slots=True)
class Measure:
    """`result` is None where it has not happened. `note` says what qualifies the number."""

    name: str
    target: timedelta
    result: timedelta | None
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measures:
    detect: Measure  # alert.time -> opened
    contain: Measure  # opened -> every containing step verified
    acknowledge: Measure  # opened -> first acknowledgement
    notify: Measure  # opened -> the last person to be told was told

    def __iter__(self) -> Iterator[Measure]:
        return iter((self.detect, self.contain, self.acknowledge, self.notify))


def measures(incident: Incident, entries: Sequence[Entry], now: datetime | None = None) -> Measures:
    """`now` is the moment open measures are judged at; without it, that of the last entry."""
    start, moment = incident.start, now or incident.at or incident.start
    elapsed = moment - start

    def against(name: str, target: timedelta, reached: datetime | None, note: str = "") -> Measure:
        result = reached - start if reached else None
        late = elapsed >= target if result is None else result > target
        verdict = Verdict.MISSED if late else Verdict.OPEN if result is None else Verdict.MET
        return Measure(name, target, result, verdict, note)

    limit = timedelta(seconds=incident.begun.timers.containment)
    told, note = _told(incident, entries)
    return Measures(
        detect=_detected(incident),
        contain=against("contain", limit, incident.first_contained_at, _containment_note(incident)),
        acknowledge=against("acknowledge", incident.frozen.matrix.levels[0].ack_by, incident.first_ack_at),
        notify=against("notify", NOTIFY, told, note),
    )


def pages_sent(entries: Sequence[Entry]) -> tuple[int, int]:
    """How many pages and notices left, and how many of them may repeat an earlier one."""
    sent = [entry.event for entry in entries if isinstance(entry.event, PageSent)]
    return len(sent), sum(event.may_repeat for event in sent)


def _detected(incident: Incident) -> Measure:
    if incident.alert is None:
        return Measure("detect", DETECT, None, Verdict.OPEN, "declared by a person: no alert to measure from")
    result = incident.start - incident.alert.time
    note = "the source's clock is ahead of ours" if result < timedelta(0) else ""
    return Measure("detect", DETECT, result, Verdict.MET if result <= DETECT else Verdict.MISSED, note)


def _containment_note(incident: Incident) -> str:
    if incident.frozen.playbook is None:
        return "no playbook ran"
    return f"containment is {incident.containment}" if incident.contained_at is None else ""


def _told(incident: Incident, entries: Sequence[Entry]) -> tuple[datetime | None, str]:
    """When the last of those to be told at the opening was told by any way; or who is missing."""
    roles = incident.begun.notify
    if not roles:
        return None, "nobody is configured to be told"
    if empty := [role for role in roles if not incident.begun.roster.get(role)]:
        return None, f"nobody is on call for {', '.join(empty)}"
    people: dict[str, str] = {}  # decision -> person
    told: dict[str, datetime] = {}
    for entry in entries:
        if isinstance(entry.event, PageSent) and entry.event.decision in people:
            told.setdefault(people[entry.event.decision], entry.at)
        notices = (d for d in entry.decisions if isinstance(d, Notify) and d.topic == TOLD_AT_OPENING)
        people |= {notice.id: notice.person for notice in notices}
    if waiting := sorted(set(people.values()) - set(told)):
        return None, f"not told yet: {', '.join(waiting)}"
    return max(told.values(), default=None), ""
