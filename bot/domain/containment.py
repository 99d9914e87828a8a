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
that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from bot.domain.calls import Call
from bot.domain.outcome import Done, Grade, Outcome, Skipped, Unknown
from bot.domain.playbook import Retry
from bot.domain.record import (
    ActionSettled,
    DeadlinePassed,
    Decision,
    Event,
    Hold,
    HoldPlaced,
    HoldReleased,
    PlannedCall,
    RunAction,
    Verb,
)
from bot.errors import Refused


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


@dataclass(frozen=True, slots=True)
class Claim:
    """One incident's hold on one control. `served`: the last settled call took it into account."""

    hold: Hold
    call: str
    served: bool = False


@dataclass(frozen=True, slots=True)
class Control:
    """One action's grip on the target."""

    action: str
    claims: tuple[Claim, ...] = ()
    in_force: Hold | None = None
    undo: Mapping[str, object] | None = None  # saved by the first call, restored by the last release
    failed_undo: bool = False
    releasing: tuple[str, str, str] | None = None  # (incident, step, call) whose release is being carried out

    @property
    def strictest(self) -> Hold | None:
        return max((claim.hold for claim in self.claims), key=lambda hold: hold.level, default=None)


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
        return self.call.again_at if self.call else None

    @property
    def held(self) -> bool:
        return any(control.claims for control in self.controls.values())

    def waiting(self) -> tuple[tuple[str, str, str], ...]:
        """(incident, step, call) of everyone the call under way will answer."""
        if not self.call:
            return ()
        control = self.controls[self.action]
        if self.running is None:
            return (control.releasing,) if control.releasing else ()
        return tuple(
            (claim.hold.incident, claim.hold.step, claim.call)
            for claim in control.claims
            if not claim.served and claim.hold.level <= self.running.level
        )


def admit(target: Target, event: Event) -> None:
    match event:
        case HoldPlaced():
            return
        case HoldReleased(incident=incident, step=step):
            if not any(_concerns(control, incident, step) for control in target.controls.values()):
                raise Refused("not_held", f"{incident} holds nothing on {target.id} by step {step}.")
        case ActionSettled(decision=decision):
            if not target.call or target.call.decision != decision:
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
        case HoldPlaced(hold=hold, call=call):
            control = target.controls.get(hold.action) or Control(hold.action)
            others = tuple(c for c in control.claims if (c.hold.incident, c.call) != (hold.incident, call))
            return _with(target, replace(control, claims=(*others, Claim(hold, call))))
        case HoldReleased(incident=incident, step=step):
            for control in target.controls.values():
                if not _concerns(control, incident, step):
                    continue
                gone = [c for c in control.claims if (c.hold.incident, c.hold.step) == (incident, step)]
                left = tuple(c for c in control.claims if c not in gone)
                releasing = (incident, step, gone[0].call) if gone else control.releasing
                target = _with(target, replace(control, claims=left, releasing=releasing, failed_undo=False))
            return target
        case ActionSettled(outcome=outcome):
            return _settle(target, outcome, at)
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
            control = replace(control, in_force=None, undo=None, releasing=None)
        else:
            control = replace(control, failed_undo=True)  # until a person asks for the release again
    else:
        claims = tuple(replace(c, served=True) if c.hold.level <= hold.level else c for c in control.claims)
        control = replace(control, claims=claims, releasing=None if claims else control.releasing)
        if isinstance(outcome, Done) and not outcome.nothing_held:
            control = replace(control, in_force=hold, undo=control.undo if control.undo is not None else call.undo)
    return _with(replace(target, call=None, running=None, action=""), control)


def take(target: Target, decisions: tuple[Decision, ...]) -> Target:
    """What the decisions of an entry mean for the state; replay feeds the recorded ones through here."""
    for decision in decisions:
        if not isinstance(decision, RunAction):
            continue
        control = target.controls[decision.action]
        plan = PlannedCall(decision.call, decision.target, decision.params, decision.system)
        underway = target.call if target.call and target.call.key == decision.key else None
        running = target.running if underway else None
        if not underway and decision.verb is Verb.RUN:
            asked = (decision.incident, decision.call)
            running = next(c.hold for c in control.claims if (c.hold.incident, c.call) == asked)
        call = underway or Call(plan)
        target = replace(target, call=call.sent(decision), running=running, action=decision.action)
    return target


def _next(target: Target, at: datetime, id: str) -> RunAction | None:
    call = target.call
    if call is not None:
        due = not call.decision and (call.again_at is None or call.again_at <= at)
        return _run(target, target.controls[target.action], target.running, id) if due else None
    for control in target.controls.values():
        strictest = control.strictest
        if strictest and (_unserved(control, strictest) or _looser(control, strictest)):
            return _run(target, control, strictest, id)
        if not strictest and control.in_force and not control.failed_undo:
            return _run(target, control, None, id)
    return None


def _concerns(control: Control, incident: str, step: str) -> bool:
    """The incident's step holds this control, or its release failed and may be asked for again."""
    if control.failed_undo and control.releasing and control.releasing[:2] == (incident, step):
        return True
    return any((c.hold.incident, c.hold.step) == (incident, step) for c in control.claims)


def _unserved(control: Control, strictest: Hold) -> bool:
    return any(not claim.served and claim.hold.level <= strictest.level for claim in control.claims)


def _looser(control: Control, strictest: Hold) -> bool:
    """A release left only looser holds: what is in force follows down to the strictest of them."""
    return control.releasing is not None and control.in_force is not None and strictest.level < control.in_force.level


def _run(target: Target, control: Control, hold: Hold | None, id: str) -> RunAction:
    call = target.call
    source = hold or control.in_force
    if source is None:
        raise AssertionError(f"{target.id}: a call without a hold")  # _next asks only where one of them is set
    if call:
        incident, step, name = source.incident, source.step, call.plan.name
    elif hold:
        incident, step = hold.incident, hold.step
        name = next(c.call for c in control.claims if c.hold == hold)
    else:
        incident, step, name = control.releasing or (source.incident, source.step, "")
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
