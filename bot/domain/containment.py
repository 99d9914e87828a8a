"""What is contained, and what holds it.

Two state machines stand here. `Containment` is the machine's word on an incident, derived from its containing steps:

    no containing step planned, or all released ........................ none
    at least one not settled yet (waiting, approving, running, pending) . running
    all settled; one is unknown ......................................... unknown
    all settled; each Done at its required grade, or with nothing held .. contained
    all settled otherwise (failed, refused, below its grade) ............ partial

`Target` is one thing under control (`iam-role:arn:...`), a stream of its own. Incidents place holds on its controls;
what is in force is the strictest hold; releasing one incident's hold never loosens what another still holds. A target
makes one call at a time, whoever asks; a call once begun is followed to its end, then the next is chosen from the holds
that are left. A call answers the claims of its own level, or where there are none of them those of every looser one: so
one that failed does not speak for a looser hold, which is then tried by itself.

What is in force is looked at again, at moments that are state: soon after the cut, when its time to spread is over,
when the system's log can tell of its use, and then every hour until the last release. What was taken away is put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

from bot.domain.calls import Call
from bot.domain.decisions import Decision, PlannedCall, RunAction
from bot.domain.events import (
    ActionSettled,
    Aftermath,
    DeadlinePassed,
    Event,
    Hold,
    HoldPlaced,
    HoldReleased,
    Standing,
    Verb,
    Verified,
)
from bot.domain.outcome import Done, Failed, Grade, Outcome, Skipped, Unknown, alive_until
from bot.domain.playbook import Retry
from bot.errors import Refused

LOOK = 60.0  # seconds that one look may take
PATIENCE = 3  # looks in a row that found nobody to ask, until a cut no longer counts as verified
_UNREAD = (timedelta(minutes=1), timedelta(minutes=5))  # until one is asked again: before and after that
_TOGETHER = timedelta(seconds=30)  # looks that would come so close are one


class Containment(StrEnum):
    NONE = "none"
    RUNNING = "running"
    CONTAINED = "contained"
    PARTIAL = "partial"
    UNKNOWN = "unknown"


def verdict(outcomes: Iterable[tuple[Outcome | None, Grade]]) -> Containment:
    """Of all calls of all containing steps: (final outcome or None while unsettled, required grade)."""
    seen = list(outcomes)
    if not seen:
        return Containment.NONE
    if any(outcome is None for outcome, _ in seen):
        return Containment.RUNNING
    if any(isinstance(outcome, Unknown) for outcome, _ in seen):
        return Containment.UNKNOWN
    return Containment.CONTAINED if all(holds(o, grade) for o, grade in seen) else Containment.PARTIAL


def holds(outcome: Outcome | None, required: Grade) -> bool:
    """Law 5, for one call."""
    return isinstance(outcome, Done) and (bool(outcome.nothing_held) or outcome.grade >= required)


Waiter = tuple[str, str, str]  # (incident, step, call): who is to be answered


@dataclass(frozen=True, slots=True)
class Claim:
    """One incident's hold on one control. `served`: a call has answered it; `failed`: and that was a no. `grade`: what
    the incident was told last; another's call may since have come to less."""

    hold: Hold
    call: str
    served: bool = False
    failed: bool = False
    grade: Grade = Grade.UNVERIFIED

    @property
    def waiter(self) -> Waiter:
        return (self.hold.incident, self.hold.step, self.call)


@dataclass(frozen=True, slots=True)
class Control:
    """One action's grip on the target."""

    action: str
    claims: tuple[Claim, ...] = ()
    in_force: Hold | None = None  # or may be: after an unknown outcome
    undo: Mapping[str, object] | None = None  # saved by the first call, restored by the last release
    failed_undo: bool = False
    releasing: tuple[Waiter, ...] = ()  # whose release waits for the undo
    loosen: bool = False  # a release may have left only looser holds
    check_at: datetime | None = None  # when what is in force is looked at again
    applied_at: datetime | None = None  # when it was put in force, the last time
    spread_at: datetime | None = None  # from when it is in force everywhere, as far as the system says
    looked: int = 0  # times since then
    unread: int = 0  # of these, in a row up to now, without an answer
    after: Aftermath | None = None  # the log's last word

    @property
    def strictest(self) -> Hold | None:
        """What has to be in force; the latest of equals."""
        return max((claim.hold for claim in reversed(self.claims)), key=lambda hold: hold.level, default=None)

    @property
    def wanted(self) -> Hold | None:
        """What the next call should put in force for those who wait: never looser than what is, and held, by now."""
        if all(claim.served for claim in self.claims):
            return None
        now = self.in_force.level if self.in_force else -1
        open_ones = [c.hold for c in reversed(self.claims) if not c.failed or c.hold.level <= now]
        return max(open_ones, key=lambda hold: hold.level)

    @property
    def believed(self) -> tuple[Claim, ...]:
        """Those who were told that it is in force."""
        level = self.in_force.level if self.in_force else -1
        return tuple(c for c in self.claims if c.served and not c.failed and c.hold.level <= level)

    def answered_by(self, hold: Hold) -> tuple[Claim, ...]:
        """The claims that a call for this hold will answer."""
        waiting = [claim for claim in self.claims if not claim.served and claim.hold.level <= hold.level]
        return tuple(c for c in waiting if c.hold.level == hold.level) or tuple(waiting)


@dataclass(frozen=True, slots=True)
class Target:
    """State of a held target; the fold of its stream."""

    id: str
    version: int = 0
    controls: Mapping[str, Control] = field(default_factory=dict)
    call: Call | None = None  # the one call under way
    running: Hold | None = None  # for which hold; None while an undo runs
    action: str = ""  # of which control

    @property
    def next_deadline(self) -> datetime | None:
        if self.call:
            return self.call.again_at
        return min((c.check_at for c in self.controls.values() if c.check_at), default=None)

    @property
    def looking(self) -> bool:
        """The call under way only looks; whatever changes something goes before it."""
        return self.call is not None and self.call.verb is Verb.VERIFY

    @property
    def held(self) -> bool:
        return any(control.claims for control in self.controls.values())

    def waiting(self) -> tuple[Waiter, ...]:
        """Everyone the call under way will answer."""
        if not self.call or self.looking:
            return ()
        control = self.controls[self.action]
        if self.running is None:
            return control.releasing
        return tuple(claim.waiter for claim in control.answered_by(self.running))


def admit(target: Target, event: Event) -> None:
    match event:
        case HoldPlaced():
            return
        case HoldReleased(incident=incident, step=step):
            if not any(_concerns(control, incident, step) for control in target.controls.values()):
                raise Refused("not_held", f"{incident} holds nothing on {target.id} by step {step}.")
        case ActionSettled(decision=decision) | Verified(decision=decision):
            mine = isinstance(event, Verified) is target.looking
            if not target.call or not mine or target.call.decision != decision:
                raise Refused("already_settled", f"{decision} is settled already.")
        case DeadlinePassed(due=due):
            if target.next_deadline != due:
                raise Refused("not_due", f"{target.id} has nothing due at {due.isoformat()}.")
        case _:
            raise Refused("wrong_stream", f"{type(event).__name__} does not belong to a target.")


def advance(target: Target, event: Event, at: datetime) -> tuple[Target, tuple[Decision, ...]]:
    after = apply(target, event, at)
    decision = _next(after, at, f"{target.id}/{after.version}.0")
    decisions = (decision,) if decision else ()
    return take(after, decisions), decisions


def apply(target: Target, event: Event, at: datetime) -> Target:
    """The facts of an event, without what follows from them."""
    target = replace(target, version=target.version + 1)
    match event:
        case HoldPlaced(hold=hold, call=call, instead=instead):
            control = target.controls.get(hold.action) or Control(hold.action)
            claim = Claim(hold, call)
            ended = {(hold.incident, step) for step in instead}
            others = tuple(c for c in control.claims if c.waiter != claim.waiter and c.waiter[:2] not in ended)
            return _let_go(_with(target, replace(control, claims=(*others, claim))), hold.action)
        case HoldReleased(incident=incident, step=step):
            for control in target.controls.values():
                if not _concerns(control, incident, step):
                    continue
                gone = [c for c in control.claims if (c.hold.incident, c.hold.step) == (incident, step)]
                left = tuple(c for c in control.claims if c not in gone)
                releasing = (*control.releasing, *(claim.waiter for claim in gone))
                control = replace(control, claims=left, releasing=releasing, failed_undo=False, loosen=bool(left))
                control = replace(control, check_at=control.check_at if left else None)
                target = _let_go(_with(target, control), control.action)
            return target
        case ActionSettled(outcome=outcome):
            return _settle(target, outcome, at)
        case Verified():
            return _looked(target, event, at)
        case DeadlinePassed():
            return replace(target, call=replace(target.call, again_at=None) if target.call else None)
        case _:
            return target


def _settle(target: Target, outcome: Outcome, at: datetime) -> Target:
    if not target.call:
        return target
    hold = target.running
    call = target.call.settled(outcome, at, _retry(hold))
    if not call.final:
        return replace(target, call=call)
    control = target.controls[target.action]
    if hold is None:
        if isinstance(outcome, Done | Skipped):
            control = Control(control.action, control.claims, loosen=control.loosen)
        else:
            control = replace(control, failed_undo=True)  # until a person asks for the release again
        return _with(replace(target, call=None, running=None, action=""), control)
    answered = control.answered_by(hold)
    no = isinstance(outcome, Failed | Skipped)
    grade = outcome.grade if isinstance(outcome, Done) else Grade.UNVERIFIED
    claims = tuple(replace(c, served=True, failed=no, grade=grade) if c in answered else c for c in control.claims)
    control = replace(control, claims=claims, loosen=False)
    if isinstance(outcome, Done) and not outcome.nothing_held:
        control = replace(control, in_force=hold, undo=control.undo if control.undo is not None else call.undo)
    elif _perhaps(outcome) and (not control.in_force or control.in_force.level < hold.level):
        saved = outcome.undo if isinstance(outcome, Failed) else call.undo
        control = replace(control, in_force=hold, undo=control.undo if control.undo is not None else saved)
    control = _watched(control, outcome, at)
    return _let_go(_with(replace(target, call=None, running=None, action=""), control), control.action)


def _watched(control: Control, outcome: Outcome, at: datetime) -> Control:
    """What was put in force just now is looked at from here on; so is what may be, after a call that went wrong."""
    done = isinstance(outcome, Done) and not outcome.nothing_held
    if done or _perhaps(outcome):
        spread = (alive_until(outcome.evidence) if isinstance(outcome, Done) else None) or at
        control = replace(control, applied_at=at, spread_at=max(spread, at), looked=0, unread=0)
    return replace(control, check_at=_next_check(control, at))


def _next_check(control: Control, at: datetime) -> datetime | None:
    hold = control.in_force
    if hold is None or not hold.checks or not control.claims:
        return None
    if control.unread:
        return at + _UNREAD[control.unread >= PATIENCE]
    applied, spread = control.applied_at or at, control.spread_at or at
    moments = [applied + timedelta(seconds=each) for each in hold.checks]
    moments += [spread, spread + timedelta(seconds=hold.trail)] if hold.trail else [spread]
    ahead = [moment for moment in moments if moment > at]
    if not ahead:
        return at + timedelta(seconds=hold.checks[-1])
    return max(moment for moment in ahead if moment - min(ahead) <= _TOGETHER)


def told_of(target: Target, event: Verified) -> tuple[Waiter, ...]:
    """The incidents' claims to which it is news what the look under way found."""
    control = target.controls.get(target.action)
    if not target.looking or control is None or control.in_force is None:
        return ()
    known = tuple(claim for claim in control.believed if claim.grade > Grade.UNVERIFIED)
    match event.standing:
        case Standing.LOST:
            claims = known
        case Standing.UNREAD:
            claims = known if control.unread + 1 == PATIENCE else ()
        case Standing.STANDS:
            early = control.looked < len(control.in_force.checks) + 2
            all_of_them = early or control.unread >= PATIENCE
            claims = tuple(c for c in control.believed if all_of_them or c.grade != event.grade)
            mended = tuple(c for c in control.claims if c.failed and c.hold.level == control.in_force.level)
            claims += mended
    if event.after and (control.after is None or event.after.verdict != control.after.verdict or event.alive):
        claims = control.believed
    return tuple(claim.waiter for claim in claims)


def _looked(target: Target, event: Verified, at: datetime) -> Target:
    control, told = target.controls[target.action], told_of(target, event)
    again = (event.standing is Standing.LOST or event.alive) and told  # put back, for those who count on it
    unread = control.unread + 1 if event.standing is Standing.UNREAD else 0
    grade = event.grade if event.standing is Standing.STANDS else Grade.UNVERIFIED
    claims = tuple(
        replace(c, served=not again, failed=False, grade=grade) if c.waiter in told else c for c in control.claims
    )
    after = event.after or control.after
    control = replace(control, claims=claims, looked=control.looked + 1, unread=unread, after=after)
    control = replace(control, check_at=None if again else _next_check(control, at))
    return _with(replace(target, call=None, running=None, action=""), control)


def _perhaps(outcome: Outcome) -> bool:
    """It did not work as asked, and yet something may be in force: a release has to undo it."""
    return isinstance(outcome, Unknown) or (isinstance(outcome, Failed) and outcome.undo is not None)


def _let_go(target: Target, action: str) -> Target:
    """Releases that need no undo do not wait for one: another holds the control, or nothing is in force."""
    control = target.controls[action]
    needs_undo = control.in_force or (target.call and target.action == action)
    if control.releasing and (control.claims or not needs_undo):
        control = replace(control, releasing=(), failed_undo=False)
    return _with(target, control)


def released(before: Target, after: Target, event: Event) -> tuple[tuple[Waiter, str], ...]:
    """The releases that this event ended without an undo, and why none was needed. Each is settled `Skipped(why)`."""
    found: list[tuple[Waiter, str]] = []
    if isinstance(event, ActionSettled) and before.running is None:
        return ()  # that was the undo: its answer goes to those who waited for it
    for action, control in before.controls.items():
        left = after.controls[action]
        holding = {claim.waiter for claim in left.claims}
        gone = [claim.waiter for claim in control.claims if claim.waiter not in holding]
        for waiter in dict.fromkeys((*gone, *control.releasing)):
            if waiter in left.releasing or waiter in holding:  # it waits on, or it took hold again
                continue
            why = still_held(after, action, waiter[0]) or "nothing was in force"
            if left.claims and why == "nothing was in force":
                why = "still held by another step of this incident"
            found.append((waiter, why))
    return tuple(found)


def as_held(target: Target, event: ActionSettled, incident: str) -> ActionSettled:
    """The answer as this incident is told it: where the mode in force is stricter than its own hold, who holds that."""
    hold = target.running
    if hold is None or hold.incident == incident or not isinstance(event.outcome, Done):
        return event
    evidence = {**event.outcome.evidence, "held_by": hold.incident}
    return replace(event, outcome=replace(event.outcome, evidence=evidence))


def take(target: Target, decisions: tuple[Decision, ...]) -> Target:
    """What the decisions of an entry mean for the state; replay feeds the recorded ones through here."""
    for decision in decisions:
        if not isinstance(decision, RunAction):
            continue
        control = target.controls[decision.action]
        plan = PlannedCall(decision.call, decision.target, decision.params, decision.system)
        underway = target.call if target.call and target.call.key == decision.key else None
        running = target.running if underway else None
        if decision.verb is Verb.VERIFY:
            running = control.in_force
        if not underway and decision.verb is Verb.RUN:
            asked = (decision.incident, decision.step, decision.call)
            running = next(c.hold for c in control.claims if c.waiter == asked)
        call = underway or Call(plan)
        target = replace(target, call=call.sent(decision), running=running, action=decision.action)
    return target


def _next(target: Target, at: datetime, id: str) -> RunAction | None:
    call = target.call
    if call is not None and not target.looking:
        due = not call.decision and (call.again_at is None or call.again_at <= at)
        return _run(target, target.controls[target.action], target.running, id) if due else None
    for control in target.controls.values():
        hold = control.wanted or _looser(control)
        if hold:
            return _run(target, control, hold, id)
        if not control.claims and control.in_force and not control.failed_undo:
            return _run(target, control, None, id)
    if target.looking:
        return None
    return next((_look(target, c, at, id) for c in target.controls.values() if c.check_at and c.check_at <= at), None)


def _concerns(control: Control, incident: str, step: str) -> bool:
    """The incident's step holds this control, or is letting it go: a release that failed at another target is asked for
    again at all of them, and here it may be under way still."""
    return any(waiter[:2] == (incident, step) for waiter in (*control.releasing, *(c.waiter for c in control.claims)))


def _looser(control: Control) -> Hold | None:
    """Where a release left only looser holds, what is in force follows down to the strictest of them."""
    strictest, now = control.strictest, control.in_force
    return strictest if control.loosen and strictest and now and strictest.level < now.level else None


def _run(target: Target, control: Control, hold: Hold | None, id: str) -> RunAction:
    call = None if target.looking else target.call
    source = hold or control.in_force
    if source is None:
        raise AssertionError(f"{target.id}: a call without a hold")  # _next asks only where one of them is set
    if hold:
        name = call.plan.name if call else next(c.call for c in control.claims if c.hold == hold)
        incident, step = hold.incident, hold.step
    else:
        waiter = control.releasing[0] if control.releasing else (source.incident, source.step, "")
        incident, step, name = waiter
    return RunAction(
        id=id,
        key=call.key if call else id,
        incident=incident,
        step=step,
        call=name,
        target=target.id,
        action=control.action,
        verb=Verb.RUN if hold else Verb.UNDO,
        params=source.params,
        system=source.system,
        timeout=source.timeout,
        so_far=call.so_far if call else None,
        undo=None if hold else control.undo,
        contains=True,
    )


def _look(target: Target, control: Control, at: datetime, id: str) -> RunAction:
    """Looks again whether what is in force stands; `since` where the system's log can tell by now of its use."""
    hold, spread = control.in_force, control.spread_at or at
    if hold is None:
        raise AssertionError(f"{target.id}: nothing to look at")  # check_at is set only where something is in force
    trail = timedelta(seconds=hold.trail)
    since = max(spread, control.after.until - trail) if control.after and not control.after.alive else spread
    return RunAction(
        id=id,
        key=id,
        incident=hold.incident,
        step=hold.step,
        call=next((c.call for c in control.claims if c.hold == hold), ""),
        target=target.id,
        action=control.action,
        verb=Verb.VERIFY,
        params=hold.params,
        system=hold.system,
        timeout=min(hold.timeout, LOOK),
        so_far={"since": since.isoformat()} if hold.trail and at >= spread + trail else None,
        contains=True,
    )


def is_final(target: Target, outcome: Outcome, at: datetime) -> bool:
    """Whether this answer ends the call under way."""
    return target.call is None or target.call.settled(outcome, at, _retry(target.running)).final


def _retry(hold: Hold | None) -> Retry:
    if hold is None:
        return Retry()
    return Retry(hold.attempts, hold.backoff, hold.factor, hold.max_delay)


def _with(target: Target, control: Control) -> Target:
    return replace(target, controls={**target.controls, control.action: control})


def still_held(target: Target, action: str, without: str) -> str:
    """Why a release loosened nothing: who else holds this control, or ''."""
    control = target.controls.get(action)
    others = sorted({c.hold.incident for c in control.claims if c.hold.incident != without}) if control else []
    return f"still held by {', '.join(others)}" if others else ""
