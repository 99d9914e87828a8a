"""What happened, in sentences. Nobody writes to the timeline: it is narrated from the record.

A `Line` is one fact. Its `text` is built of ids, numbers, enums and systems' answers, all of which may be hostile:
whoever shows a line escapes it. Free text is only referred to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, assert_never

from bot.domain import handshake
from bot.domain.alert import Alert, Sev
from bot.domain.decisions import (
    AskApproval,
    AskPermit,
    Decision,
    DraftDocument,
    EndPermit,
    Invite,
    Notify,
    OpenChannel,
    Page,
    PageKind,
    PlaceHold,
    PlannedCall,
    PlanStep,
    Post,
    ReleaseHold,
    Replay,
    RunAction,
    Survey,
    Withdraw,
)
from bot.domain.escalation import Roster
from bot.domain.events import (
    Absorbed,
    Acknowledged,
    AckRefused,
    ActionSettled,
    AgentResolved,
    AlertReceived,
    AlertsCounted,
    ApprovalGiven,
    ApprovalRefused,
    ApprovalsAudited,
    AuditAsked,
    ChannelFailed,
    ChannelOpened,
    DeadlinePassed,
    Deferred,
    DocumentDrafted,
    Erased,
    Escalated,
    Event,
    EvidenceRead,
    FormSubmitted,
    HoldPlaced,
    HoldReleased,
    InstanceEnrolled,
    InstanceRevoked,
    Invited,
    Linked,
    MadePrivate,
    Merged,
    ModeAcked,
    ModeOrdered,
    NoteAdded,
    Opened,
    Overridden,
    PageFailed,
    PageSent,
    Permitted,
    Phase,
    PinChanged,
    Pinned,
    Posted,
    PostFailed,
    ReissueAsked,
    Released,
    ReminderSnoozed,
    ReplayAsked,
    Replayed,
    ReturnAsked,
    ReturnStopped,
    RoleTaken,
    RollbackAsked,
    RosterResolved,
    SeverityChanged,
    Silenced,
    Standing,
    Started,
    Status,
    StatusChanged,
    Summoned,
    Surveyed,
    TaskAdded,
    TaskChanged,
    TextRef,
    Unacknowledged,
    UpdateGiven,
    Verb,
    Verified,
)
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped, Unknown, alive_until
from bot.domain.reach import Reach, living_text, radius
from bot.domain.record import Entry
from bot.domain.wording import (
    aftermath_text,
    audit_text,
    clock,
    evidence_text,
    listed,
    ordinal,
    reason_text,
    span,
    times,
    topic_text,
)

Weight = Literal["info", "good", "bad", "decision"]

# What makes no line, and why.
SILENT: Mapping[type, str] = {
    Posted: "a message standing in Slack is not news; what it says has its own line",
    RunAction: "its answer is narrated",
    OpenChannel: "its answer is narrated",
    Invite: "whom Slack kept out is narrated",
    Page: "its sending or failing is narrated",
    Notify: "its sending or failing is narrated",
    AskPermit: "its answer is narrated where it is no",
    EndPermit: "book-keeping between incidents",
    PlaceHold: "the call's answer is narrated",
    ReleaseHold: "the person's release is narrated",
    DraftDocument: "the draft is narrated",
    Survey: "what was found is narrated",
    Replay: "its result is narrated",
}
MACHINE = "firedoor"
LATE = timedelta(seconds=60)  # a deadline noticed later than this says so


@dataclass(frozen=True, slots=True)
class Line:
    """`kind` groups lines: alert, containment, step, page, ack, approval, deadline, status, limit, document, note or
    record. `actor` is a person's id, a source's name or `firedoor`. `refs` are its free texts, by name."""

    at: datetime
    kind: str
    text: str
    refs: Mapping[str, TextRef]
    actor: str
    severity: Weight
    stream: str
    version: int


def narrate(entries: Sequence[Entry]) -> tuple[Line, ...]:
    """In the order of the entries; several streams may be mixed."""
    teller = Teller()
    return tuple(line for entry in entries for line in teller.tell(entry))


@dataclass(slots=True)
class _Known:
    """What a stream has said so far that later sentences need."""

    start: datetime | None = None
    agent: str = ""
    roster: Roster = field(default_factory=dict)
    calls: dict[tuple[str, str], PlannedCall] = field(default_factory=dict)  # (step, call)
    actions: dict[str, str] = field(default_factory=dict)  # step -> action
    held: set[str] = field(default_factory=set)  # containing steps
    asked: dict[str, AskApproval] = field(default_factory=dict)
    pages: dict[str, Page | Notify] = field(default_factory=dict)
    deferred: set[str] = field(default_factory=set)
    away: dict[tuple[str, str], int] = field(default_factory=dict)  # unanswered tries of a call, in a row
    waited: dict[tuple[str, str], str] = field(default_factory=dict)  # what a call under way last said
    seen: dict[tuple[str, str], Grade] = field(default_factory=dict)  # by call: at which grade it was seen to stand
    spread: dict[tuple[str, str], datetime] = field(default_factory=dict)  # until when a cut takes to hold everywhere
    acked_by: str = ""
    severity: Sev | None = None
    contained: bool = False

    def learn(self, decision: Decision) -> None:
        match decision:
            case PlanStep(step=step, action=action, calls=calls):
                self.actions[step] = action
                self.calls |= {(step, call.name): call for call in calls}
            case PlaceHold(hold=hold):
                self.held.add(hold.step)
            case AskPermit(steps=steps, contains=True):
                self.held |= set(steps)
            case RunAction(step=step, call=call, contains=contains) if (step, call) not in self.calls:
                self.calls[step, call] = PlannedCall(call, decision.target, decision.params, decision.system)
                self.actions[step] = decision.action
                self.held |= {step} if contains else set()
            case AskApproval(id=id):
                self.asked[id] = decision
            case Page(id=id) | Notify(id=id):
                self.pages[id] = decision
            case Post(purpose=purpose) if purpose.startswith("containment:"):
                self.contained = purpose == "containment:contained"
            case _:
                return

    def subject(self, step: str, call: str) -> str:
        """`revoke_vault (vault.revoke_agent on vault-entity:e-7)`"""
        plan = self.calls.get((step, call))
        what = " on ".join(part for part in (self.actions.get(step, ""), plan.target if plan else "") if part)
        return f"{step} ({what})" if what else step

    def system(self, step: str, call: str) -> str:
        plan = self.calls.get((step, call))
        return (plan.system if plan else "") or "the system"


Told = tuple[str, Weight, str, str, Mapping[str, TextRef]]  # kind, weight, actor, text, refs


def _say(kind: str, weight: Weight, text: str, actor: str = MACHINE, **refs: TextRef | None) -> Told:
    return kind, weight, actor, text, {name: ref for name, ref in refs.items() if ref}


class Teller:
    """Narrates entries as they come: later sentences build on what it has told."""

    def __init__(self) -> None:
        self._streams: dict[str, _Known] = {}

    def tell(self, entry: Entry) -> Iterator[Line]:
        known = self._streams.setdefault(entry.stream, _Known())
        for decision in entry.decisions:
            known.learn(decision)
        told = [*_event(entry, known), *(fact for each in entry.decisions for fact in _decision(each))]
        for kind, weight, actor, text, refs in told:
            yield Line(entry.at, kind, text, refs, actor, weight, entry.stream, entry.version)


def _event(entry: Entry, known: _Known) -> Iterator[Told]:
    event: Event = entry.event
    match event:
        case Opened():
            yield from _opened(entry, event, known)
        case AlertReceived(alert=alert, text=ref, why=why, severity=severity):
            known.severity = min(known.severity or severity, severity)
            said = f"Another alert: {_alert(alert)}. Attached because {why}."
            yield _say("alert", "info", said, alert.source, alert=ref)
        case Started(by=by):
            said = f"{by} started the playbook and stands behind its cuts."
            yield _say("decision", "decision", said, by)
        case AlertsCounted(count=count, first=first, last=last, total=total):
            when = f"between {clock(first)} and {clock(last)}" if first != last else f"at {clock(first)}"
            yield _say("alert", "info", f"The same alert came {times(count)} more {when}; {times(total)} in all.")
        case RosterResolved(roster=roster):
            yield _say("record", "info", f"The on-call list changed: {_roster_change(known.roster, roster)}.")
            known.roster = roster
        case AgentResolved(agent=agent):
            found = "what it holds was looked up again, and had changed" if agent else "it is no longer enrolled"
            yield _say("record", "info" if agent else "bad", f"Agent {known.agent or 'unknown'}: {found}.")
        case ActionSettled():
            yield from _settled(event, entry.at, known)
        case Verified():
            yield from _looked_at(event, entry.at, known)
        case PageSent():
            yield _page_sent(event, known)
        case PageFailed(decision=decision, person=person, way=way, why=why):
            noun = "The notice" if isinstance(known.pages.get(decision), Notify) else "The page"
            yield _say("page", "bad", f"{noun} to {person} by {way} did not leave: {why}.")
        case PostFailed(purpose=purpose, why=why):
            yield _say("record", "bad", f"Slack did not take the message {purpose!r}: {why}.")
        case ChannelOpened(name=name, private=private):
            yield _say("record", "info", f"Its {'private ' if private else ''}channel #{name} was opened.")
        case ChannelFailed(why=why):
            yield _say("record", "bad", f"Its own channel could not be opened: {why}.")
        case Invited(absent=absent):
            if absent:
                yield _say("record", "bad", f"Slack did not let into the channel: {', '.join(absent)}.")
        case Acknowledged(by=by, via=via):
            known.acked_by = by
            after = f", {span(entry.at - known.start)} after the opening" if known.start else ""
            yield _say("ack", "good", f"{by} acknowledged by {via}{after}.", by)
        case Unacknowledged(by=by, via=via):
            known.acked_by = ""
            yield _say("ack", "bad", f"{by} took the acknowledgement back by {via}: people are paged again.", by)
        case ApprovalGiven(request=request, by=by, groups=groups, hash=hash):
            member = f" ({', '.join(groups)})" if groups else ""
            yield _say("approval", "decision", f"{by}{member} approved {_asked(known, request)}, plan {hash[:12]}.", by)
        case ApprovalRefused(request=request, by=by, groups=groups, why=reason):
            member = f" ({', '.join(groups)})" if groups else ""
            said = f"{by}{member} refused {_asked(known, request)}: it is not done."
            yield _say("approval", "decision", said, by, why=reason)
        case FormSubmitted(step=step, by=by, values=values, texts=texts):
            answers = f": {evidence_text(values)}" if values else ""
            yield _say("step", "decision", f"{by} completed {step}{answers}.", by, **texts)
        case Permitted(steps=steps):
            if freed := [step for step in steps if step in known.deferred]:
                known.deferred -= set(freed)
                yield _say("limit", "info", f"{listed(freed)} may go on now.")
        case Deferred(steps=steps, why=why, group=group):
            known.deferred |= set(steps)
            behind = f" (one at a time in {group})" if group else ""
            contains = bool(known.held & set(steps))
            alive = " Until a person overrides this, the agent is not cut off there." if contains else ""
            verb = "have" if len(steps) > 1 else "has"
            yield _say("limit", "bad" if contains else "info", f"{listed(steps)} {verb} to wait{behind}: {why}.{alive}")
        case Overridden(step=step, by=by, accept=accept):
            known.deferred.discard(step)
            known.contained = known.contained and accept
            did = f"accepted {step} as it is, without another try" if accept else f"had {step} run on their own word"
            yield _say("step", "decision", f"{by} {did}.", by)
        case DeadlinePassed():
            yield from _passed(entry, event, known)
        case StatusChanged(status=status, by=by):
            weight: Weight = "good" if status in (Status.RESOLVED, Status.REVIEWED) else "decision"
            yield _say("status", weight, f"{by} set the incident to {status.replace('_', ' ')}.", by)
        case Released(step=step, by=by):
            yield _say("containment", "decision", f"{by} let go of this incident's hold by {step}.", by)
        case NoteAdded(by=by, text=note):
            yield _say("note", "info", f"{by} noted:", by, note=note)
        case DocumentDrafted(kind=kind, missing=missing):
            open_parts = f"; {len(missing)} part{'s' if len(missing) > 1 else ''} left to people" if missing else ""
            yield _say("document", "info", f"The {kind} was drafted{open_parts}.")
        case AuditAsked(by=by):
            yield _say("document", "info", f"{by} asked for an approval audit.", by)
        case ApprovalsAudited(bypassed=bypassed, misapplied=misapplied, why=why):
            weight = "bad" if bypassed or misapplied or why else "good"
            yield _say("document", weight, f"Approval path: {audit_text(event)}.")
        case EvidenceRead(by=by, purpose=purpose, sha256=digests):
            did = "carried evidence out of the store" if purpose == "export" else "read evidence"
            about = f": {', '.join(one[:12] for one in digests[:5])}" if digests else ""
            yield _say("record", "info", f"{by} {did}{about}.", by)
        case Linked(incident=other):
            yield _say("record", "info", f"Linked with {other}.")
        case Erased(by=by):
            yield _say("record", "decision", f"{by} had this incident's free text erased; its digests remain.", by)
        case HoldPlaced(target=target, hold=hold):
            yield _say("containment", "info", f"{hold.incident} holds {target} by {hold.step} ({hold.action}).")
        case HoldReleased(target=target, incident=incident, step=step, by=by):
            yield _say("containment", "decision", f"{by} released the hold of {incident} on {target} ({step}).", by)
        case SeverityChanged(severity=severity, by=by):
            was, known.severity = known.severity, severity
            word = "raised" if was and severity < was else "lowered"
            yield _say("status", "decision", f"{by} {word} the severity to {severity.name}.", by)
        case RoleTaken(role=role, person=person, by=by):
            yield _say("status", "info", _role(role.replace("_", " "), person, by), by)
        case TaskAdded(task=task, text=text, owner=owner, due=task_due, by=by):
            until = f", due {clock(task_due)}" if task_due else ""
            yield _say("task", "info", f"{by} added task {task} for {owner or 'nobody yet'}{until}:", by, task=text)
        case TaskChanged(by=by):
            yield _say("task", "good" if event.done else "info", _task_change(event), by)
        case UpdateGiven(by=by, conditions=conditions, actions=actions, needs=needs):
            said = f"{by} gave a status update:"
            yield _say("update", "info", said, by, conditions=conditions, actions=actions, needs=needs)
        case ReminderSnoozed(by=by, until=until):
            when = f"until {clock(until)}" if until else "before the next update"
            yield _say("update", "info", f"{by} wants no reminder of status updates {when}.", by)
        case Escalated(by=by):
            yield _say("page", "decision", f"{by} escalated: the next level is paged at once.", by)
        case Summoned(person=person, by=by):
            yield _say("page", "decision", f"{by} called {person} in.", by)
        case Silenced(by=by, until=until):
            said = f"{by} silenced repeated pages until {clock(until)}; containment and new levels page all the same."
            yield _say("page", "decision", said, by)
        case Pinned(author=author, by=by, text=text, said_at=said_at):
            yield _say("note", "info", f"{by} pinned what {author} said at {clock(said_at)}:", by, said=text)
        case PinChanged(text=changed):
            what = "was edited and says now:" if changed else "was deleted; what it said stays here."
            yield _say("note", "info", f"A pinned message {what}", said=changed)
        case RollbackAsked() | ReissueAsked() | ReturnAsked() | ReplayAsked() | Replayed() | ReturnStopped():
            yield _recovery(event)
        case MadePrivate(by=by):
            yield _say("status", "decision", f"{by} made the incident private.", by)
        case Merged(into=into, by=by):
            said = f"{by} merged this incident into {into}: it goes on there. What is held here stays held."
            yield _say("status", "decision", said, by)
        case Absorbed(incident=other, by=by):
            yield _say("status", "decision", f"{by} merged {other} into this incident.", by)
        case InstanceEnrolled(agent=uid, instance=name, serial=serial, by=by):
            again = f", for the {ordinal(serial)} time: its former key is void" if serial > 1 else ""
            yield _say("record", "info", f"{by} enrolled instance {name} of agent {uid}{again}.", by)
        case InstanceRevoked(agent=uid, instance=name, by=by):
            yield _say("record", "decision", f"{by} revoked instance {name} of agent {uid}: its key is void.", by)
        case ModeOrdered(agent=uid, mode=mode, epoch=epoch, incident=incident):
            by = f" by {incident}" if incident else ""
            yield _say("containment", "info", f"{mode.name.lower()} was ordered of agent {uid}{by}, epoch {epoch}.")
        case ModeAcked(agent=uid, instance=name, epoch=epoch, mode=mode):
            said = f"Instance {name} of agent {uid} says that it is in {mode.name.lower()}, epoch {epoch}."
            yield _say("containment", "info", said, name)
        case AckRefused(agent=uid, instance=name, epoch=epoch, mode=mode, why=why):
            wrong = handshake.SAID[handshake.Why(why)]
            said = f"Instance {name} of agent {uid} said {mode.name.lower()}, epoch {epoch}, and {wrong}: not taken."
            yield _say("containment", "bad", said, name)
        case Surveyed(phase=phase, reach=reach):
            yield from _surveyed(phase, reach, known)
        case Posted():
            return  # SILENT
        case _:
            assert_never(event)


def _surveyed(phase: Phase, reach: Reach, known: _Known) -> Iterator[Told]:
    who = f"Agent {known.agent}" if known.agent else "The agent"
    if phase is Phase.BEFORE:
        yield _say("record", "info", f"{who} holds {radius(reach)}.")
    elif alive := living_text(reach):
        yield _say("containment", "bad", f"Left alive: {alive}.")
    else:
        none = "Nothing that could be read is left alive." if reach.unread else "Nothing is left alive that was found."
        yield _say("containment", "good", none)
    if reach.unread:
        yield _say("record", "bad", f"Not read: {'; '.join(reach.unread)}.")


def _recovery(
    event: RollbackAsked | ReissueAsked | ReturnAsked | ReplayAsked | Replayed | ReturnStopped,
) -> Told:
    match event:
        case RollbackAsked(by=by):
            said = f"{by} asked to take back what this incident changed."
            return _say("decision", "decision", said, by)
        case ReissueAsked(action=action, by=by):
            said = f"{by} asked to give the agent its credentials again with less scope ({action})."
            return _say("decision", "decision", said, by)
        case ReturnAsked(to=to, by=by):
            return _say("decision", "decision", f"{by} asked to bring the agent back to {to}.", by)
        case ReplayAsked(by=by):
            said = f"{by} had the recorded alerts replayed in the sandbox, against the rules as they are now."
            return _say("decision", "info", said, by)
        case Replayed(clean=True, digest=digest):
            return _say("record", "good", f"The replay was clean ({digest[:12]}).")
        case Replayed(findings=findings, digest=digest):
            return _say("record", "bad", f"The replay was not clean ({digest[:12]}): {'; '.join(findings)}.")
        case ReturnStopped(incident=other):
            return _say("containment", "bad", f"The agent was heard of in {other}: its return is off.")


def _opened(entry: Entry, event: Opened, known: _Known) -> Iterator[Told]:
    known.start, known.agent, known.roster, known.severity = entry.at, event.agent_uid, event.roster, event.severity
    if event.mode != "live":
        yield _say(
            "record", "info", f"This is a {event.mode} record: nothing in it is live, and it authorises nothing."
        )
    actor = event.declared_by or (event.alert.source if event.alert else MACHINE)
    kind = f"{event.severity.name} {event.type}"
    about = f" about agent {event.agent_uid}" if event.agent_uid else ""
    if event.alert is None:
        text = f"{event.declared_by or 'Somebody'} declared {kind}{about}."
    else:
        delay = entry.at - event.alert.time
        when = f"{span(delay)} after it happened" if delay >= timedelta(0) else "with a time ahead of our clock"
        text = f"Opened as {kind}{about}: {_alert(event.alert)}, {when}."
    yield _say("alert", "bad", text, actor, alert=event.text)
    if event.agent is None and event.agent_uid:
        text = f"Agent {event.agent_uid} is not enrolled: what it holds is not known, and nothing of it can be cut off."
        yield _say("record", "bad", text)
    if not event.pins.playbook:
        yield _say("record", "bad", "No playbook runs: people have to contain this by hand.")
    elif not event.started:
        yield _say(
            "record", "bad", "Its playbook is at hand and not started: no trigger matched. A person can start it."
        )
    if not event.contain:
        yield _say("limit", "info", "The source may not contain: each containing step is put to people first.")
    if event.proposed:
        yield _say("record", "info", f"Also matching, and only proposed: {', '.join(event.proposed)}.")
    for playbook in event.trigger_errors:
        yield _say("record", "bad", f"The trigger of playbook {playbook} could not be evaluated; it is only proposed.")
    if event.linked:
        yield _say("record", "info", f"Linked with {', '.join(event.linked)}.")


def _alert(alert: Alert) -> str:
    return f"{alert.source} reports {alert.rule or alert.product}"


def _settled(event: ActionSettled, at: datetime, known: _Known) -> Iterator[Told]:
    call = (event.step, event.call)
    subject, system = known.subject(*call), known.system(*call)
    held = event.step in known.held
    tries, waited = known.away.pop(call, 0), known.waited.pop(call, "")
    if isinstance(event.outcome, Done) and (spread := alive_until(event.outcome.evidence)):
        known.spread[call] = spread
    weight, said = _outcome(event.outcome, held, event.verb)
    match event.outcome:
        case Pending(unavailable=True, why=why):
            known.away[call] = tries + 1
            if tries:
                return  # said once; how often is told when it answers
            alive = "; the credentials may still be alive" if held and event.verb is Verb.RUN else ""
            weight, said = "bad", f"{system} unreachable, retried{alive}" + _because(why)
        case Pending(why=why, check_at=check_at):
            known.waited[call] = why
            if not tries and why in ("", waited):
                return  # the same wait goes on
            said += f", looked at again at {clock(check_at)}" if check_at - at > timedelta(seconds=1) else ""
    if tries and not known.away.get(call):
        said += f"; {system} had not answered {times(tries)} before"
    if event.reclaimed:
        said += "; performed again after a restart, so its effect may repeat"
    if isinstance(event.outcome, Failed):
        again = not event.final or (event.outcome.retryable and not held)
        said += "; tried again while attempts are left" if again else ""
    subject = f"Release of {subject}" if event.verb is Verb.UNDO else subject
    yield _say("containment" if held else "step", weight, f"{subject}: {said}.")


def _looked_at(event: Verified, at: datetime, known: _Known) -> Iterator[Told]:
    """What a second look found."""
    call = (event.step, event.call)
    subject = known.subject(*call)
    if event.standing is not Standing.STANDS:
        known.seen.pop(call, None)
    match event.standing:
        case Standing.LOST:
            why = event.why or "somebody took it away"
            yield _say("containment", "bad", f"{subject}: NO LONGER IN FORCE ({why}). It is put back.")
        case Standing.UNREAD:
            said = f"{subject}: it cannot be looked at any more whether it stands{_because(event.why)}."
            yield _say("containment", "bad", said)
        case Standing.STANDS:
            spread = known.spread.get(call)
            over = spread is not None and at >= spread
            if over:
                del known.spread[call]
            if over or known.seen.get(call) != event.grade:  # said once; that it stands on has its lines in the report
                known.seen[call] = event.grade
                word = f"looked at again and still in force, {event.grade.label}"
                until = "; the time that the system takes until it holds everywhere is over" if over else ""
                yield _say("containment", "good", f"{subject}: {word}{until}.")
    if event.after:
        weight: Weight = "bad" if event.after.alive else "info" if event.after.why else "good"
        yield _say("containment", weight, f"{subject}: {aftermath_text(event.after)}.")


def _outcome(outcome: Outcome, held: bool, verb: Verb) -> tuple[Weight, str]:
    match outcome:
        case Done(nothing_held=reason) if reason:
            return "good", f"nothing was held there: {reason}"
        case Done(grade=grade, evidence=evidence):
            word = ("restored" if held else "undone") if verb is Verb.UNDO else ("in force" if held else "done")
            read = evidence_text(evidence)
            if grade is Grade.UNVERIFIED:
                return "bad" if held else "info", f"{word}, unverified" + (f": {read}" if read else "")
            return "good", f"{word}, {grade.label}" + (f": {read}" if read else "")
        case Pending(why=why):
            return "info", why or "under way"
        case Skipped(why=why) if verb is Verb.UNDO:
            return "info", f"nothing was loosened: {why}"
        case Skipped(why=why):
            return "bad" if held else "info", f"not done: {why}"
        case Failed(why=why):
            return "bad", f"failed: {why}"
        case Unknown(why=why):
            return "bad", f"unknown whether it happened, a person has to find out: {why}"
    assert_never(outcome)


def _page_sent(event: PageSent, known: _Known) -> Told:
    page = known.pages.get(event.decision)
    notes = []
    if event.late:
        notes.append(f"late by {span(timedelta(seconds=event.late))}")
    if event.may_repeat:
        notes.append("it may repeat an earlier one that left before a restart")
    match page:
        case Page(kind=kind, levels=levels, round=round, reason=reason):
            verb, about = "paged", reason_text(reason)
            if kind is PageKind.ESCALATION:
                numbers = " and ".join(str(number + 1) for number in levels)
                about = f"level{'s' if len(levels) > 1 else ''} {numbers}" + (f", round {round + 1}" if round else "")
                if known.acked_by:
                    notes.append(f"in flight when {known.acked_by} acknowledged")
        case Notify(topic=topic):
            verb, about = "told", topic_text(topic)
        case _:
            verb, about = "reached", ""
    said = f"{event.person} was {verb} by {event.way}" + (f" ({about})" if about else "")
    return _say("page", "bad" if event.late or event.may_repeat else "info", "; ".join((said, *notes)) + ".")


def _passed(entry: Entry, event: DeadlinePassed, known: _Known) -> Iterator[Told]:
    late = entry.at - event.due
    noted = f" Noticed {span(late)} late." if late > LATE else ""
    kind, _, rest = event.name.partition(":")
    match kind:
        case "escalation":
            levels = {number + 1 for page in entry.decisions if isinstance(page, Page) for number in page.levels}
            if not levels:
                return
            text = f"Nobody had acknowledged by {clock(event.due)}: paging level {listed(sorted(map(str, levels)))}."
        case "containment":
            if known.contained and not any(isinstance(decision, Page) for decision in entry.decisions):
                return  # met before: the clock only runs out
            since = f", {span(event.due - known.start)} after the opening" if known.start else ""
            text = f"Containment was not verified by {clock(event.due)}{since}."
        case "ack":
            text = f"The acknowledgement by {known.acked_by or 'the responder'} ran out: people are paged again."
            known.acked_by = ""
        case "approval":
            paged = any(isinstance(decision, Page) for decision in entry.decisions)
            then = "the next level is paged" if paged else "it is not done"
            text = f"Nobody decided on {_asked(known, rest)} in time: {then}."
        case "form":
            text = f"{rest} was to be completed by {clock(event.due)} and is not."
        case "phase":
            yield _say("deadline", "info", f"Phase {rest} was due at {clock(event.due)}.{noted}")
            return
        case "update":
            yield _say("deadline", "info", f"A status update was owed by {clock(event.due)}.{noted}")
            return
        case "task":
            yield _say("deadline", "bad", f"Task {rest} was due at {clock(event.due)} and is not done.{noted}")
            return
        case "unproved":
            text = f"{rest} was not proved by {clock(event.due)}: the steps that wait for that run now."
        case "run":
            text = "The playbook's time is over: what had not begun was cancelled."
        case _:
            return  # `again`: the next look at a call has a line of its own
    yield _say("deadline", "bad", text + noted)


def _role(role: str, person: str, by: str) -> str:
    if not person:
        return f"{by} left the role {role} to nobody."
    return f"{by} took the role {role}." if person == by else f"{by} gave the role {role} to {person}."


def _task_change(event: TaskChanged) -> str:
    if event.done:
        return f"{event.by} did task {event.task}."
    owner = f" for {event.owner}" if event.owner else ""
    due = f", due {clock(event.due)}" if event.due else ""
    return f"{event.by} changed task {event.task}: now{owner}{due}.".replace("now,", "now")


def _decision(decision: Decision) -> Iterator[Told]:
    match decision:
        case PlanStep(step=step, status="left_out"):
            yield _say("step", "info", f"{step} is not part of the plan: its condition is false.")
        case PlanStep(step=step, status="failed", why=why):
            yield _say("step", "bad", f"{step} could not be planned: {why}.")
        case PlanStep(step=step, status="skipped", why=why):
            yield _say("step", "bad", f"{step} was skipped: {why}.")
        case PlanStep(step=step, status="observed", action=action, calls=calls):
            targets = ", ".join(call.target for call in calls)
            yield _say("step", "info", f"{step} would run {action} on {targets}; the playbook only observes.")
        case PlanStep(step=step, status="done", why=why):
            yield _say("step", "info", f"{step}: {why}.")
        case PlanStep(step=step, status="awaiting_form"):
            yield _say("step", "info", f"{step} waits for a person to complete it.")
        case AskApproval(step=step, hash=hash):
            yield _say("approval", "info", f"Approval was asked for {step}, plan {hash[:12]}.")
        case Withdraw(decisions=ids):
            yield _say("page", "info", f"{len(ids)} page{'s' if len(ids) > 1 else ''} that had not left taken back.")
        case Post(purpose=purpose):
            yield from _post(purpose)
        case _:
            return  # SILENT, or a step that simply starts


def _post(purpose: str) -> Iterator[Told]:
    """Only what no event says; everything else posted is a view of a line that stands already."""
    kind, _, rest = purpose.partition(":")
    verdicts: Mapping[str, tuple[Weight, str]] = {
        "contained": ("good", "Contained: every containing step holds at its required grade."),
        "partial": ("bad", "Partly contained: at least one containing step does not hold at its required grade."),
        "unknown": ("bad", "Containment is unknown: at least one call may or may not have happened."),
    }
    match kind:
        case "containment" if rest in verdicts:
            yield _say("containment", *verdicts[rest])
        case "nobody_on_call":
            yield _say("page", "bad", f"Nobody is on call for level {rest}: whoever comes next is paged at once.")
        case "unreachable":
            yield _say("page", "bad", f"Nobody of level {rest} could be reached: whoever comes next is paged at once.")


def _asked(known: _Known, request: str) -> str:
    return known.asked[request].step if request in known.asked else request


def _roster_change(before: Roster, after: Roster) -> str:
    changed = [role for role in {**before, **after} if before.get(role, ()) != after.get(role, ())]
    return "; ".join(f"{role}: {', '.join(c.person for c in after.get(role, ())) or 'nobody'}" for role in changed)


def _because(why: str) -> str:
    return f" ({why})" if why else ""
