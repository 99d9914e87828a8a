"""What the papers, the picture and the report say of an incident, in rows: made of the record, read by all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from bot.domain.approval import Approval, ApprovalState
from bot.domain.calls import Call
from bot.domain.containment import holds
from bot.domain.decisions import Notify, Page, PageKind, PlaceHold, RunAction
from bot.domain.events import (
    Absorbed,
    ActionSettled,
    AlertReceived,
    ApprovalGiven,
    ApprovalRefused,
    PageFailed,
    PageSent,
    SeverityChanged,
    Standing,
    Verb,
    Verified,
)
from bot.domain.incident import Incident, StepRun, StepStatus, is_held
from bot.domain.measures import NOTIFY, Measures, Verdict, measures
from bot.domain.outcome import Done, Failed, Grade, Outcome, Skipped, Unknown, alive_until
from bot.domain.record import Entry
from bot.domain.timeline import Line, narrate
from bot.domain.wording import aftermath_text, evidence_text, listed, reason_text, topic_text


@dataclass(frozen=True, slots=True)
class Proof:
    """One call of one step. `result` is its grade, or the word for not having one; `remains` what is unverified, or may
    still be alive, each a sentence; `answers` are the moments at which the system was heard before the last."""

    step: str
    action: str
    target: str
    contains: bool
    required: str
    result: str
    holds: bool
    read_back: str
    remains: tuple[str, ...] = ()
    began: datetime | None = None
    settled: datetime | None = None
    answers: tuple[datetime, ...] = ()
    released: bool = False
    alive_until: datetime | None = None  # what was cut may pass until then
    looks: tuple[Look, ...] = ()  # when it was looked at again and what was news to the incident, oldest first
    after: str = ""  # what the system's log says of its use since; '' where nobody could ask it
    undo: str = ""  # whether a release takes it back


@dataclass(frozen=True, slots=True)
class Look:
    """`found`: `stands` with its grade, `lost`, or `unread` with why."""

    at: datetime
    found: str


@dataclass(frozen=True, slots=True)
class Decided:
    at: datetime
    by: str
    groups: tuple[str, ...]
    approved: bool
    via: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One approval. `needs` is `security_team: 1, infra_owner: 1`; `closed_at`: settled by people or by time."""

    step: str
    hash: str
    needs: str
    state: str
    asked_at: datetime
    expires_at: datetime
    decisions: tuple[Decided, ...]
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Reached:
    """A page or a notice: whom, how, what for. `lane` is `level 1`, `containment`, `failure` or `notice`; `failed` says
    why it did not leave."""

    at: datetime
    person: str
    way: str
    lane: str
    about: str
    late: float = 0.0
    may_repeat: bool = False
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """A deadline. `verdict` is None where the record cannot know whether people met it."""

    name: str
    at: datetime
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Rated:
    """A severity, and who said so: a person, or '' for an alert."""

    at: datetime
    severity: str
    by: str


@dataclass(frozen=True, slots=True)
class Facts:
    incident: Incident
    lines: tuple[Line, ...]
    proofs: tuple[Proof, ...]
    approvals: tuple[Asked, ...]
    pages: tuple[Reached, ...]
    deadlines: tuple[Due, ...]
    measures: Measures
    severities: tuple[Rated, ...]

    @property
    def containing(self) -> tuple[Proof, ...]:
        return tuple(proof for proof in self.proofs if proof.contains)

    @property
    def may_repeat(self) -> int:
        """Pages and notices that may repeat one which had left before."""
        return sum(page.may_repeat for page in self.pages)

    @property
    def verified(self) -> bool:
        """Contained, and not one step of it on trust alone."""
        trusted = any(proof.result == Grade.UNVERIFIED.label for proof in self.containing)
        return self.incident.containment == "contained" and not trusted

    @property
    def remains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sentence for proof in self.containing for sentence in proof.remains))


def facts(incident: Incident, entries: Sequence[Entry], now: datetime | None = None) -> Facts:
    judged = measures(incident, entries, now)
    return Facts(
        incident=incident,
        lines=narrate(entries),
        proofs=tuple(_proofs(incident, entries)),
        approvals=_approvals(incident, entries),
        pages=tuple(_pages(entries)),
        deadlines=_deadlines(incident, judged),
        measures=judged,
        severities=tuple(_severities(incident, entries)),
    )


# Steps ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Course:
    """When a call began and was answered."""

    began: datetime | None = None
    answers: list[datetime] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)


def _proofs(incident: Incident, entries: Sequence[Entry]) -> Iterator[Proof]:
    courses = _courses(entries)
    for run in incident.steps.values():
        if run.status is StepStatus.LEFT_OUT or (incident.frozen.playbook and incident.spec(run.id).manual):
            continue
        held = is_held(incident, run)
        required = incident.spec(run.id).require if held else Grade.UNVERIFIED
        for call in run.calls.values():
            course = courses.get((run.id, call.plan.name), _Course())
            proof = _proof(run, call, held, required, course, incident.at)
            undoable = incident.frozen.catalogue.undoable(run.action)
            yield replace(proof, undo=_undo(run, undoable) if held else "")
        if not run.calls:
            yield _uncalled(run, held, required)


def _courses(entries: Sequence[Entry]) -> dict[tuple[str, str], _Course]:
    courses: dict[tuple[str, str], _Course] = {}
    for entry in entries:
        match entry.event:
            case ActionSettled(step=step, call=call, verb=Verb.RUN):
                courses.setdefault((step, call), _Course()).answers.append(entry.at)
            case Verified(step=step, call=call) as event:
                courses.setdefault((step, call), _Course()).looks.append(Look(entry.at, _found(event)))
        for decision in entry.decisions:
            match decision:
                case PlaceHold(hold=hold, call=call):
                    course = courses.setdefault((hold.step, call), _Course())
                    course.began = course.began or entry.at
                case RunAction(step=step, call=call, verb=Verb.RUN):
                    course = courses.setdefault((step, call), _Course())
                    course.began = course.began or entry.at
    return courses


def _proof(run: StepRun, call: Call, held: bool, required: Grade, course: _Course, now: datetime | None) -> Proof:
    plan, outcome = call.plan, call.outcome if call.final else None
    read_back = evidence_text(outcome.evidence) if isinstance(outcome, Done) else _trouble(run, call)
    return Proof(
        step=run.id,
        action=run.action,
        target=plan.target,
        contains=held,
        required=required.label if held else "",
        result=_result(run, outcome),
        holds=holds(outcome, required) and not (call.after and call.after.alive),
        read_back=outcome.nothing_held if isinstance(outcome, Done) and outcome.nothing_held else read_back,
        remains=tuple(_remains(run, call, outcome, required, now)) if held else (),
        began=course.began,
        settled=course.answers[-1] if course.answers and outcome else None,
        answers=tuple(course.answers[:-1] if outcome else course.answers),
        released=run.status is StepStatus.RELEASED,
        alive_until=alive_until(outcome.evidence) if isinstance(outcome, Done) else None,
        looks=tuple(course.looks),
        after=aftermath_text(call.after) if call.after else "",
    )


def _found(event: Verified) -> str:
    if event.standing is Standing.STANDS:
        return f"stands, {event.grade.label}"
    return f"{event.standing}: {event.why}" if event.why else str(event.standing)


def _undo(run: StepRun, undoable: bool) -> str:
    if run.status is StepStatus.RELEASED:
        return "released"
    if not undoable:
        return "cannot be taken back"
    return f"firedoor incident release, step {run.id}" if run.holding else "nothing is held"


def _trouble(run: StepRun, call: Call) -> str:
    """Why there is no proof of this call: what ended it, or the last that was heard of one that goes on."""
    why = str(getattr(call.outcome, "why", ""))
    if call.final or not why:
        return why or run.why
    return "; ".join(dict.fromkeys(filter(None, (run.why, f"last heard: {why}"))))


def _uncalled(run: StepRun, held: bool, required: Grade) -> Proof:
    """A step that never got as far as a call; Done then means that there was nothing to act on."""
    nothing = run.status is StepStatus.DONE
    return Proof(
        step=run.id,
        action=run.action,
        target="",
        contains=held,
        required=required.label if held else "",
        result="nothing held" if nothing else str(run.status).replace("_", " "),
        holds=nothing,
        read_back=run.why,
        remains=() if nothing or not held else (f"{run.id} was not done: {run.why or run.status}",),
        settled=run.settled_at,
    )


def _result(run: StepRun, outcome: Outcome | None) -> str:
    match outcome:
        case Done(nothing_held=reason) if reason:
            return "nothing held"
        case Done(grade=grade):
            return grade.label
        case Failed() | Unknown() | Skipped():
            return type(outcome).__name__.lower()
    return str(run.status).replace("_", " ")


def _remains(run: StepRun, call: Call, outcome: Outcome | None, required: Grade, now: datetime | None) -> Iterator[str]:
    """What of this target nobody has proof for, or what is known to live on."""
    target = call.plan.target
    match outcome:
        case Done(nothing_held=reason) if reason:
            return
        case Done(grade=grade, evidence=evidence):
            if call.after and call.after.alive:
                yield f"{target}: {aftermath_text(call.after)}"
            if grade < required:
                yield f"{target}: {run.id} is only {grade.label}, {required.label} was required"
            elif grade is Grade.UNVERIFIED:
                yield f"{target}: {run.id} could not be verified"
            for key, value in evidence.items():
                if value and _speaks_of_life(key, value, now):
                    yield f"{target}: {evidence_text({key: value})}"
            if evidence.get("why"):
                yield f"{target}: {evidence['why']}"
        case Failed(why=why) | Skipped(why=why):
            yield f"{target}: {run.id} was not done and what it cuts may be alive: {why}"
        case Unknown(why=why):
            yield f"{target}: nobody knows whether {run.id} happened: {why}"
        case _:
            why = _trouble(run, call)
            yield f"{target}: {run.id} is {str(run.status).replace('_', ' ')}" + (f", {why}" if why else "")


def _speaks_of_life(key: str, value: Any, now: datetime | None) -> bool:
    """By the actions' convention: `alive`, `leases_alive`, `alive_until` a time still to come, words that say so; and
    STS sessions, which no revocation reaches before they expire."""
    if key.endswith("_until") and now:
        try:
            return datetime.fromisoformat(str(value)) > now
        except (ValueError, TypeError):  # not a time, or one without a zone: better said than hidden
            return True
    words = isinstance(value, str) and any(each in value for each in ("still alive", "may be alive", "may live on"))
    return words or "alive" in key.split("_") or key == "sts_leases"


# People ---------------------------------------------------------------------------------------------------------


def _severities(incident: Incident, entries: Sequence[Entry]) -> Iterator[Rated]:
    """The first, and each that was another than the one before."""
    now = incident.begun.severity
    yield Rated(incident.start, now.name, incident.begun.declared_by)
    for entry in entries:
        match entry.event:
            case SeverityChanged(severity=severity, by=by):
                now = severity
                yield Rated(entry.at, severity.name, by)
            case AlertReceived(severity=severity) | Absorbed(severity=severity) if severity < now:
                now = severity
                yield Rated(entry.at, severity.name, getattr(entry.event, "by", ""))


def _approvals(incident: Incident, entries: Sequence[Entry]) -> tuple[Asked, ...]:
    decided: dict[str, list[Decided]] = {}
    for entry in entries:
        match entry.event:
            case ApprovalGiven(request=request, by=by, groups=groups, via=via):
                decided.setdefault(request, []).append(Decided(entry.at, by, groups, True, via))
            case ApprovalRefused(request=request, by=by, groups=groups, via=via):
                decided.setdefault(request, []).append(Decided(entry.at, by, groups, False, via))
    return tuple(
        Asked(
            step=asked.step,
            hash=asked.hash,
            needs=", ".join(f"{group.replace('|', ' or ')}: {count}" for group, count in asked.each.items()),
            state=str(asked.state),
            asked_at=asked.asked_at,
            expires_at=asked.expires_at,
            decisions=tuple(decided.get(asked.request, ())),
            closed_at=_closed_at(incident, asked, decided.get(asked.request, [])),
        )
        for asked in incident.approvals.values()
    )


def _closed_at(incident: Incident, asked: Approval, decisions: list[Decided]) -> datetime | None:
    if asked.state is ApprovalState.OPEN:
        return None
    if asked.state in (ApprovalState.GRANTED, ApprovalState.REFUSED):
        return decisions[-1].at
    if asked.state is ApprovalState.EXPIRED:
        return asked.expires_at
    # Asked again, or no longer wanted: by the next request for the step, or at its end.
    others = (one.asked_at for one in incident.approvals.values() if one.step == asked.step)
    following = min((at for at in others if at > asked.asked_at), default=None)
    return following or incident.steps[asked.step].settled_at or incident.at


def _pages(entries: Sequence[Entry]) -> Iterator[Reached]:
    asked: dict[str, Page | Notify] = {}
    for entry in entries:
        match entry.event:
            case PageSent(decision=decision, person=person, way=way, late=late, may_repeat=may_repeat):
                lane, about = _purpose(asked.get(decision))
                yield Reached(entry.at, person, way, lane, about, late, may_repeat)
            case PageFailed(decision=decision, person=person, way=way, why=why):
                lane, about = _purpose(asked.get(decision))
                yield Reached(entry.at, person, way, lane, about, failed=why)
        asked |= {decision.id: decision for decision in entry.decisions if isinstance(decision, Page | Notify)}


def _purpose(page: Page | Notify | None) -> tuple[str, str]:
    """(lane, about)"""
    match page:
        case Page(kind=PageKind.ESCALATION, levels=levels, round=round):
            numbers = listed([str(number + 1) for number in levels])
            about = f"level {numbers}" + (f", round {round + 1}" if round else "")
            return f"level {max(levels) + 1}", about
        case Page(kind=kind, reason=reason):
            return str(kind), reason_text(reason)
        case Notify(topic=topic):
            return "notice", topic_text(topic)
    return "notice", ""


def _deadlines(incident: Incident, judged: Measures) -> tuple[Due, ...]:
    start = incident.start
    found = [Due("contained", start + judged.contain.target, judged.contain.verdict)]
    moment = incident.at or start
    for number, level in enumerate(incident.frozen.matrix.levels, 1):
        by = start + level.ack_by
        acked = incident.first_ack_at is not None and incident.first_ack_at <= by
        verdict = Verdict.MET if acked else Verdict.MISSED if moment >= by else Verdict.OPEN
        found.append(Due(f"level {number} ack", by, verdict))
    if incident.begun.notify:
        found.append(Due("everybody told", start + NOTIFY, judged.notify.verdict))
    phases = incident.frozen.runbook.phases if incident.frozen.runbook else ()
    found += [Due(f"{phase.name} phase", start + phase.due, None) for phase in phases]
    return tuple(sorted(found, key=lambda due: due.at))
