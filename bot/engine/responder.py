"""Admit, append, advance: the only way into the record, inside one write transaction.

A `Responder` lives as long as its transaction. It loads streams, appends events to them, carries out the decisions that
belong to the same commit (permits, holds, withdrawals) and puts the others into the outbox, already claimed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import cast

from bot.domain import containment, handshake, recovery, response
from bot.domain import incident as incidents
from bot.domain.agent import delegates_of
from bot.domain.containment import Target
from bot.domain.decisions import (
    AskPermit,
    Decision,
    EndPermit,
    PlaceHold,
    PlanStep,
    Queued,
    ReleaseHold,
    RunAction,
    Withdraw,
)
from bot.domain.events import (
    Absorbed,
    ActionSettled,
    AgentResolved,
    ApprovalGiven,
    DeadlinePassed,
    Deferred,
    Event,
    HoldPlaced,
    HoldReleased,
    Merged,
    Opened,
    PageSent,
    Permitted,
    ReturnStopped,
    RosterResolved,
    StatusChanged,
    Verb,
    Verified,
)
from bot.domain.handshake import Instances
from bot.domain.incident import Frozen, Incident, StepStatus
from bot.domain.outcome import Outcome, Skipped
from bot.domain.placement import key_of_opened
from bot.domain.record import Entry
from bot.engine.limits import answer
from bot.engine.world import World
from bot.errors import Conflict, RecordBroken, Refused
from bot.store import Claim, StreamRow, Transaction

State = Incident | Target | Instances


@dataclass(frozen=True, slots=True)
class Known:
    """A stream as last committed by this process."""

    state: State
    at: datetime
    digest: str


@dataclass(frozen=True, slots=True)
class Written:
    """One entry of a transaction: the state it met (None for a stream's first) and the state it left."""

    event: Event
    before: State | None
    after: State
    at: datetime
    digest: str


@dataclass(slots=True)
class Effects:
    """What a committed transaction leaves to do outside of it."""

    claims: list[Claim] = field(default_factory=list)
    withdrawn: set[str] = field(default_factory=set)
    wakes: dict[str, datetime | None] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)


PRIORITY: Mapping[str, int] = {
    "Page": 0,
    "RunAction": 1,
    "OpenChannel": 2,
    "AskApproval": 2,
    "Notify": 3,
    "Survey": 3,
    "Post": 4,
    "Invite": 5,
    "DraftDocument": 5,
    "Replay": 5,
}
OPEN_STREAMS = "INC-"


class Responder:
    def __init__(
        self,
        tx: Transaction,
        world: World,
        known: Callable[[str], Known | None],
        *,
        read_before: Callable[[str], Known | None] = lambda _: None,
        catch_up: bool = False,
    ) -> None:
        """`known` is what this process remembers; with `catch_up` what was written since is read on top of it. Who
        appends needs none of that: the version decides. A stream that is not known is read on top of `read_before`."""
        self.tx, self.world, self._known, self._catch_up = tx, world, known, catch_up
        self._read_before = read_before
        self.now = tx.now()
        self.touched: dict[str, Known] = {}
        self._remembered: dict[str, int] = {}  # streams taken from memory, and their version there
        self.effects = Effects()
        self.place = ""  # the chat channel that what is being done was said in
        self.writes = 0  # entries appended so far: what the writer asks before it lets a refused job pass

    # Reading ----------------------------------------------------------------------------------------------------

    def incident(self, id: str) -> Incident:
        """Refused where there is none of this id."""
        state = self._state(id)
        if not isinstance(state, Incident):
            raise no_such_incident(id)
        return state

    def target(self, id: str) -> Target:
        state = self._state(id)
        return state if isinstance(state, Target) else Target(id)

    def instances(self, agent: str) -> Instances:
        id = f"{handshake.STREAMS}{agent}"
        state = self._state(id)
        return state if isinstance(state, Instances) else Instances(id)

    def _state(self, stream: str) -> State | None:
        if stream not in self.touched:
            found = self._known(stream)
            if found and not self._catch_up:
                self._remembered[stream] = found.state.version
            else:
                found = self._load(stream, found or self._read_before(stream))
            if found is None:
                return None
            self.touched[stream] = found
        return self.touched[stream].state

    def overtaken(self) -> bool:
        """Whether another replica has written to a stream that was taken from memory. What is appended to need not be
        asked: its version decides."""
        return any(
            self.touched[stream].state.version == version and (head := self.tx.head(stream)) and head.version != version
            for stream, version in self._remembered.items()
        )

    def _load(self, stream: str, known: Known | None) -> Known | None:
        try:
            entries = self.tx.read(stream, known.state.version if known else 0)
            return self.fold(stream, entries, known) if entries else known
        except RecordBroken as error:
            error.stream = error.stream or stream
            raise

    def fold(self, stream: str, entries: Sequence[Entry], known: Known | None = None) -> Known:
        """A stream as some of its entries leave it: its first ones, or those that follow what is known."""
        first = entries[0].event
        state: State
        if known:
            state = known.state
        elif isinstance(first, Opened):
            state = Incident(stream, self.world.rulebook.frozen(first.pins, self.tx.pinned))
        else:
            state = Instances(stream) if stream.startswith(handshake.STREAMS) else Target(stream)
        if isinstance(state, Incident):
            state = incidents.fold(state, entries)
        elif isinstance(state, Instances):
            for entry in entries:
                state = handshake.apply(state, entry.event, entry.at)
        else:
            for entry in entries:
                state = containment.take(containment.apply(state, entry.event, entry.at), entry.decisions)
        return Known(state, entries[-1].at, entries[-1].digest)

    # Appending --------------------------------------------------------------------------------------------------

    def open(self, frozen: Frozen, opened: Opened) -> Incident:
        return self._append(Incident(opened.incident, frozen), opened)

    def append(self, id: str, event: Event) -> Incident:
        """Takes one event into an incident's record with everything that follows from it. Raises Refused."""
        incident = self.incident(id)
        incidents.admit(incident, event)
        incident = self._resolve(incident, event)
        return self._append(incident, event)

    def merge(self, id: str, into: str, by: str, via: str) -> Incident:
        """One incident goes on in another, which from now on gets what comes for either; returns that one. What the
        first holds stays its own, to be released by its own steps."""
        going, staying = self.incident(id), self.incident(into)
        merged, absorbed = Merged(into, by, via), Absorbed(id, by, via, going.severity)
        incidents.admit(going, merged)
        incidents.admit(staying, absorbed)
        self.append(id, merged)
        return self.append(into, absorbed)

    def _resolve(self, incident: Incident, event: Event) -> Incident:
        """Live things are resolved at each event and recorded when they changed (law 8)."""
        if incident.over or isinstance(event, RosterResolved | AgentResolved):
            return incident
        roster = self.world.config.people.roster(self.now)
        if roster != incident.roster:
            incident = self._append(incident, RosterResolved(roster))
        if isinstance(event, ApprovalGiven):
            changed = self._resolve_agent(incident)
            if changed is not incident:
                try:
                    incidents.admit(changed, event)
                except Refused as refused:  # the plan they saw is gone; that it was asked anew is kept
                    raise Refused(refused.code, str(refused), keep=True) from refused
            incident = changed
        return incident

    def _resolve_agent(self, incident: Incident) -> Incident:
        find = self.world.ports.directory.agent
        agent = find(incident.begun.agent_uid)
        delegates = delegates_of(agent, find) if agent else ()
        same = (agent, delegates) == (incident.agent, incident.delegates)
        return incident if same else self._append(incident, AgentResolved(agent, delegates))

    def _append(self, incident: Incident, event: Event) -> Incident:
        at = self._at(incident.id)
        after, decisions = response.advance(incident, event, at)
        if incident.over and not after.over:
            self._retake_key(incident)
        self._write(incident.id, after, at, event, decisions)
        if isinstance(event, StatusChanged) and after.over:
            self.tx.drop_open_keys(incident.id)
            self.tx.forget(incident.id)
        elif isinstance(event, Merged):
            self.tx.move_open_keys(incident.id, event.into)
            self.tx.forget(incident.id)
        for decision in decisions:
            self._within(decision)
        if isinstance(event, Opened):
            self._stop_returns(event)
        return self.incident(incident.id)

    def _stop_returns(self, opened: Opened) -> None:
        """An agent that is heard of anew does not come back by another incident meanwhile."""
        for other in opened.linked:
            if recovery.is_returning(self.incident(other)):
                self._append(self.incident(other), ReturnStopped(opened.incident, opened.contain))

    def _retake_key(self, incident: Incident) -> None:
        """What comes for its agent and type belongs to a reopened incident again, and not to a second one beside it."""
        for other in incident.absorbed:
            key = key_of_opened(self.incident(other).begun)
            if key and not self.tx.open_key(key):
                self.tx.take_open_key(key, incident.id)
        key = key_of_opened(incident.begun)
        if not key:
            return
        if holder := self.tx.open_key(key):
            if holder == incident.id:
                return
            why = f"{incident.id} stays {incident.status}: {holder} is open for this agent and type: work there."
            raise Refused("key_taken", why)
        self.tx.take_open_key(key, incident.id)

    def _append_target(self, id: str, event: Event) -> None:
        before = self.target(id)
        containment.admit(before, event)
        at = self._at(id)
        after, decisions = containment.advance(before, event, at)
        self._write(id, after, at, event, decisions)
        if before.looking and before.call and after.call and before.call.key != after.call.key:
            self.tx.dequeue((before.call.decision,))  # a look that made way for what changes something
        for decision in decisions:
            self._queue(cast(RunAction, decision), id)
        for (incident, step, call), why in containment.released(before, after, event):
            ended = ActionSettled(f"{id}/{after.version}", step, call, Verb.UNDO, Skipped(why))
            self._append(self.incident(incident), ended)

    def tell(self, agent: str, event: Event) -> Instances:
        """Takes one event into what is known of an agent's instances. Raises Refused."""
        before = self.instances(agent)
        handshake.admit(before, event)
        at = self._at(before.id)
        after = handshake.apply(before, event, at)
        self._write(before.id, after, at, event, ())
        return after

    def _at(self, stream: str) -> datetime:
        """The database's time, but never before the stream's last entry (semantics 6)."""
        known = self.touched.get(stream)
        return max(self.now, known.at) if known else self.now

    def _write(self, stream: str, state: State, at: datetime, event: Event, decisions: tuple[Decision, ...]) -> None:
        self.writes += 1
        known = self.touched.get(stream)
        entry = self.tx.append(stream, state.version, at, event, decisions, previous=known.digest if known else "")
        self.touched[stream] = Known(state, at, entry.digest)
        self.effects.written.append(Written(event, known.state if known else None, state, at, entry.digest))
        due = _next_deadline(state)
        self.effects.wakes[stream] = due
        self.tx.save_stream(_row(stream, state, due))

    # Decisions of the same commit -------------------------------------------------------------------------------

    def _within(self, decision: Decision) -> None:
        match decision:
            case PlanStep():
                return
            case PlaceHold(target=target, hold=hold, call=call, instead=instead):
                self._append_target(target, HoldPlaced(target, hold, call, instead))
            case ReleaseHold(target=target, incident=incident, step=step, by=by):
                self._append_target(target, HoldReleased(target, incident, step, by))
            case AskPermit():
                self._permit(decision)
            case EndPermit(incident=incident, group=group):
                waiter = self.tx.end_group(incident, group)
                if waiter:
                    self._let_in(waiter[0], group)
            case Withdraw(decisions=ids):
                self.effects.withdrawn |= self.tx.dequeue(ids)
            case _:
                self._queue(decision, decision.incident)

    def _permit(self, asked: AskPermit) -> None:
        incident = self.incident(asked.incident)
        why = answer(asked, incident, self)
        event: Event = Permitted(asked.steps, asked.group) if not why else Deferred(asked.steps, why, asked.group)
        self._append(incident, event)

    def _let_in(self, id: str, group: str) -> None:
        """The next waiter of a concurrency group. One whose steps no longer wait lets the one behind it in."""
        incident = self._resolve_agent(self.incident(id))
        steps = tuple(
            run.id
            for run in incident.steps.values()
            if run.status in (StepStatus.AWAITING_PERMIT, StepStatus.DEFERRED) and not incidents.is_held(incident, run)
        )
        if steps and not incident.over:
            self._append(incident, Permitted(steps, group))
            return
        behind = self.tx.end_group(id, group)
        if behind:
            self._let_in(behind[0], group)

    def _queue(self, decision: Queued, stream: str) -> None:
        priority = PRIORITY[type(decision).__name__]
        lease = self.now + timedelta(seconds=self.world.lease)
        self.tx.enqueue(
            decision, stream=stream, priority=priority, owner=self.world.replica, lease_until=lease, not_before=self.now
        )
        self.effects.claims.append(Claim(decision, stream, 1, self.now, self.now, priority, self.world.replica))

    # Outcomes and the clock -------------------------------------------------------------------------------------

    def settle(self, decision: RunAction, stream: str, outcome: Outcome | Verified, claims: int = 1) -> None:
        """An action came back: it leaves the outbox and every stream it concerns is told, in one transaction."""
        self.tx.dequeue((decision.id,))
        if isinstance(outcome, Verified):
            return self._looked(stream, outcome)
        event = ActionSettled(decision.id, decision.step, decision.call, decision.verb, outcome, reclaimed=claims - 1)
        if stream.startswith(OPEN_STREAMS):
            self.append(stream, event)
            return None
        before = self.target(stream)
        containment.admit(before, event)
        waiting = before.waiting()
        final = containment.is_final(before, outcome, self._at(stream))
        self._append_target(stream, replace(event, final=final))
        for incident, step, call in waiting:
            told = containment.as_held(before, event, incident)
            self.append(incident, replace(told, step=step, call=call, final=final))
        return None

    def _looked(self, stream: str, event: Verified) -> None:
        """A cut was looked at again. Whom that is news to is told; whatever has to change the target goes first, and
        then what the look found is of no use any more."""
        before = self.target(stream)
        containment.admit(before, event)
        told = containment.told_of(before, event)
        self._append_target(stream, event)
        for incident, step, call in told:
            self.append(incident, replace(event, step=step, call=call))

    def settled(self, decision: Queued, event: Event) -> None:
        """A page, post or paper came back. Where somebody claimed the page again meanwhile, it may have left twice."""
        if isinstance(event, PageSent) and self.tx.claims(decision.id) > 1:
            event = replace(event, may_repeat=True)
        self.tx.dequeue((decision.id,))
        self.append(decision.incident, event)

    def wake(self, stream: str) -> None:
        """Whatever is due now, earliest first; each is asked again, for the one before may have changed it."""
        for _ in range(1_000):
            state = self._state(stream)
            if isinstance(state, Incident):
                ripe = incidents.due(state, self._at(stream))
                if not ripe:
                    return self._rest(stream, incidents.next_deadline(state))
                self.append(stream, ripe[0])
            elif isinstance(state, Target):
                if state.next_deadline is None or state.next_deadline > self._at(stream):
                    return self._rest(stream, state.next_deadline)
                self._append_target(stream, DeadlinePassed("again", state.next_deadline))
            else:
                return None
        raise RecordBroken(f"{stream}: a thousand deadlines in one moment")

    def _rest(self, stream: str, due: datetime | None) -> None:
        """Nothing is due, if what we remember is still so. Woken a moment too early, it is woken again."""
        if self.overtaken():
            raise Conflict(f"{stream} was written to by another replica")
        self.effects.wakes.setdefault(stream, due)


def no_such_incident(id: str) -> Refused:
    return Refused("no_such_incident", f"There is no incident {id!r}. See: firedoor incident list")


def _next_deadline(state: State) -> datetime | None:
    match state:
        case Incident():
            return incidents.next_deadline(state)
        case Target():
            return state.next_deadline
        case Instances():
            return None


def _row(stream: str, state: State, due: datetime | None) -> StreamRow:
    if isinstance(state, Instances):
        return StreamRow(stream, "instances", state.version, due, bool(state.enrolled), {})
    if isinstance(state, Target):
        return StreamRow(stream, "target", state.version, due, state.held, {})
    opened = state.begun
    summary = {
        "type": opened.type,
        "severity": state.severity.name,
        "status": str(state.status),
        "containment": str(state.containment),
        "agent": opened.agent_uid,
        "opened_at": state.start.isoformat(),
        "acked_by": state.acked_by,
        "alerts": state.alerts,
        "channel": state.channel,
        "private": state.private,
    }
    return StreamRow(stream, "incident", state.version, due, not state.over, summary)
