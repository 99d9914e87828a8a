"""What an incident knows of itself. `admission` guards it, `incident` folds it, `response` decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, cast

from bot.domain.agent import Agent
from bot.domain.alert import Alert, Sev
from bot.domain.approval import Approval, ApprovalState
from bot.domain.calls import Call
from bot.domain.containment import Containment
from bot.domain.decisions import Notify, Page, Survey
from bot.domain.escalation import Contact, Matrix, Roster
from bot.domain.events import ApprovalsAudited, Opened, Phase, Status, TextRef
from bot.domain.playbook import ApprovalRule, Catalogue, OnTimeout, Playbook, Step
from bot.domain.playbook import Call as PlaybookCall
from bot.domain.reach import Reach
from bot.domain.runbook import Runbook
from bot.errors import Refused


class StepStatus(StrEnum):
    WAITING = "waiting"
    LEFT_OUT = "left_out"  # its `if` was false: no part of the plan
    OBSERVED = "observed"  # rung observe: said, not done
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_PERMIT = "awaiting_permit"
    DEFERRED = "deferred"
    READY = "ready"  # may start now
    RUNNING = "running"
    AWAITING_FORM = "awaiting_form"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    REFUSED = "refused"  # or its approval expired
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"
    RELEASING = "releasing"
    RELEASED = "released"


SETTLED = frozenset(
    {
        StepStatus.LEFT_OUT,
        StepStatus.OBSERVED,
        StepStatus.DONE,
        StepStatus.SKIPPED,
        StepStatus.FAILED,
        StepStatus.REFUSED,
        StepStatus.UNKNOWN,
        StepStatus.CANCELLED,
        StepStatus.RELEASING,
        StepStatus.RELEASED,
    }
)
SATISFIED = frozenset(
    {StepStatus.LEFT_OUT, StepStatus.OBSERVED, StepStatus.DONE, StepStatus.RELEASING, StepStatus.RELEASED}
)
# One person may run these again; not what approvers refused.
OVERRIDABLE = frozenset({StepStatus.DEFERRED, StepStatus.UNKNOWN, StepStatus.FAILED, StepStatus.RUNNING})
# And take these as they are, without another try.
ACCEPTABLE = OVERRIDABLE | {StepStatus.REFUSED, StepStatus.SKIPPED, StepStatus.CANCELLED}

# People's word on the incident: from -> to.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.OPEN: frozenset({Status.INVESTIGATING, Status.RECOVERING, Status.RESOLVED, Status.FALSE_POSITIVE}),
    Status.INVESTIGATING: frozenset({Status.RECOVERING, Status.RESOLVED, Status.FALSE_POSITIVE}),
    Status.RECOVERING: frozenset({Status.INVESTIGATING, Status.RESOLVED, Status.FALSE_POSITIVE}),
    Status.RESOLVED: frozenset({Status.REVIEWED, Status.INVESTIGATING}),
    Status.REVIEWED: frozenset({Status.INVESTIGATING}),
    Status.FALSE_POSITIVE: frozenset({Status.INVESTIGATING}),
    Status.MERGED: frozenset(),  # it goes on in another
}
OVER = frozenset({Status.RESOLVED, Status.REVIEWED, Status.FALSE_POSITIVE, Status.MERGED})
AUDIT = "approval-audit"  # the paper that holds what the agent did against the approvals
PSEUDO = ("rollback:", "undo:", "on_failure:", "recover:")
# Nothing of recovery happens on one person's word, and what nobody decided in time is not done.
TWO_PERSONS = ApprovalRule({"security_team": 1, "infra_owner": 1}, timedelta(minutes=30), OnTimeout.REFUSE)
SURVIVES_RESOLVE = ("phase:review", "task:")  # deadlines by how their names begin


@dataclass(frozen=True, slots=True)
class Frozen:
    """What an incident runs on, resolved from its pins: rules that edits cannot reach (law 8)."""

    matrix: Matrix
    catalogue: Catalogue
    playbook: Playbook | None = None
    runbook: Runbook | None = None


@dataclass(frozen=True, slots=True)
class StepRun:
    """One step of the playbook, a `rollback:<step>` or an `on_failure:<n>`."""

    id: str
    status: StepStatus = StepStatus.WAITING
    action: str = ""
    calls: Mapping[str, Call] = field(default_factory=dict)
    why: str = ""
    hash: str = ""
    request: str = ""  # the approval that is asked for it
    permitted: bool = False
    group: str = ""  # the concurrency group it was permitted in
    holding: bool = False  # its holds are placed and not released
    accepted: bool = False  # a person took its result as it is
    overdue: bool = False  # it was not proved in the time that others wait for that
    settled_at: datetime | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    asked_by: str = ""  # who asked for it, and so cannot approve it

    @property
    def settled(self) -> bool:
        return self.status in SETTLED

    @property
    def pseudo(self) -> bool:
        """Not of the playbook: made from a rollback or an on_failure call."""
        return self.id.startswith(PSEUDO)


class MeasureKind(StrEnum):
    """What people ask for when they recover; the last three are the stages of an agent's return, in their order."""

    ROLLBACK = "rollback"
    READ = "read"  # what stands before a re-issue
    REISSUE = "reissue"
    SHADOW = "shadow"
    ADVISORY = "advisory"
    ACTIVE = "active"


STAGES = (MeasureKind.SHADOW, MeasureKind.ADVISORY, MeasureKind.ACTIVE)
GATES = (MeasureKind.ROLLBACK, MeasureKind.ACTIVE)  # their own calls are what others do for them


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing of recovery that a person asked for: a step that no playbook has. `stopped`: the agent was heard of
    again, and what it brought about no longer counts."""

    id: str  # recover:<kind>:<n>
    kind: MeasureKind
    action: str
    params: Mapping[str, Any]
    by: str
    needs: tuple[str, ...] = ()
    stopped: bool = False

    @property
    def step(self) -> Step:
        intent, impact = _MEASURES[self.kind]
        return Step(
            id=self.id,
            call=PlaybookCall(self.action),
            needs=self.needs,
            contains=self.kind in (MeasureKind.SHADOW, MeasureKind.ADVISORY),
            irreversible=self.kind is MeasureKind.ROLLBACK,
            approval=None if self.kind is MeasureKind.READ else TWO_PERSONS,
            intent=intent,
            impact=impact,
        )


_MEASURES: Mapping[MeasureKind, tuple[str, str]] = {  # intent, impact
    MeasureKind.ROLLBACK: (
        "Take back what this incident's record completed, the last first, one at a time.",
        "It stops at the first that fails. What contains is no part of it.",
    ),
    MeasureKind.READ: ("Read what the agent may do now, to say what a re-issue would take away.", ""),
    MeasureKind.REISSUE: (
        "Give the agent its credentials again with less scope.",
        "It may do what the new policy says and nothing else.",
    ),
    MeasureKind.SHADOW: (
        "First stage of the return: the agent runs in shadow mode, proved anew.",
        "Its side effects are recorded and not carried out.",
    ),
    MeasureKind.ADVISORY: (
        "Second stage of the return: the agent advises.",
        "A looser hold takes the place of the shadow mode. Gateways no longer refuse by themselves.",
    ),
    MeasureKind.ACTIVE: (
        "Last stage of the return: the agent works as before the incident.",
        "This incident no longer holds its mode. What else is held stays so until it is released.",
    ),
}


@dataclass(frozen=True, slots=True)
class ReplayState:
    """The latest replay that came back."""

    at: datetime
    clean: bool
    rules: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageState:
    page: Page | Notify
    state: str = "queued"  # queued | sent | failed | withdrawn


@dataclass(frozen=True, slots=True)
class Task:
    """Something that a person of the room is to do."""

    id: str
    text: TextRef
    owner: str
    due: datetime | None
    by: str
    ways: tuple[str, ...] = ()  # to the owner, as known when they got it
    done_by: str = ""

    @property
    def done(self) -> bool:
        return bool(self.done_by)


@dataclass(frozen=True, slots=True)
class Update:
    at: datetime
    by: str
    conditions: TextRef
    actions: TextRef
    needs: TextRef


@dataclass(frozen=True, slots=True)
class Pin:
    """`text` is what the message says by now; None where it was deleted."""

    message: str
    author: str
    by: str
    text: TextRef | None
    said_at: datetime


@dataclass(frozen=True, slots=True)
class Incident:
    id: str
    frozen: Frozen
    version: int = 0
    at: datetime | None = None
    opened: Opened | None = None
    opened_at: datetime | None = None
    status: Status = Status.OPEN
    rated: Sev | None = None  # by an alert after the first, or by a person
    rated_by: str = ""  # which person; '' where an alert did
    worst: Sev | None = None  # that it ever had, where it is not the opening's
    contain: bool = False  # a trusted source or a person stands behind the cuts
    started: bool = False  # the playbook runs
    cause: Alert | None = None  # the alert that it runs on, where that is not the first
    containment: Containment = Containment.NONE
    contained_at: datetime | None = None
    first_contained_at: datetime | None = None
    warned: Mapping[str, datetime] = field(default_factory=dict)  # by what: when people were last paged for a lost cut
    agent: Agent | None = None
    delegates: tuple[Agent, ...] = ()  # who acts for it, and for those in turn
    surveys: Mapping[Phase, Reach] = field(default_factory=dict)  # what they hold, as last found
    survey_out: Survey | None = None  # under way
    surveyed_at: Containment | None = None  # how containment stood when it was last asked
    roster: Roster = field(default_factory=dict)
    alerts: int = 0
    news: tuple[datetime, ...] = ()  # when the latest alerts were taken in
    repeats: int = 0
    steps: Mapping[str, StepRun] = field(default_factory=dict)
    approvals: Mapping[str, Approval] = field(default_factory=dict)
    timers: Mapping[str, datetime] = field(default_factory=dict)  # deadlines other than those of calls
    pages: Mapping[str, PageState] = field(default_factory=dict)
    outstanding: frozenset[str] = frozenset()  # queued decisions not settled yet, pages aside
    overtaken: frozenset[str] = frozenset()  # those that a person waits for no more: they may have left
    acked_by: str = ""
    acked_at: datetime | None = None
    first_ack_at: datetime | None = None
    unacks: int = 0  # how often an ack was taken back, ran out, or ended with the incident that was opened again
    floor: int = 0  # levels reached before their time, because nobody of those before could be paged
    overridden: bool = False  # a person took the containment as it is
    failure_paged: bool = False
    containment_round: int = 0
    card: tuple[str, str] | None = None  # (channel, ts)
    card_out: str = ""  # the card edit under way
    shown: tuple[object, ...] = ()  # what the card showed when it was last written
    channel: str = ""  # its own, where it has one
    channel_name: str = ""
    channel_private: bool = False
    channel_out: str = ""  # the opening under way
    left: str = ""  # where its card stood before it moved, as the purpose of the post that says so
    members: frozenset[str] = frozenset()  # who was to be let in, by person
    announcement: tuple[str, str] | None = None  # (channel, ts), where it has a channel of its own
    announcement_out: str = ""
    announced: tuple[object, ...] = ()
    drafted: frozenset[str] = frozenset()
    documents: Mapping[str, TextRef] = field(default_factory=dict)
    audited: ApprovalsAudited | None = None  # the latest approval audit
    linked: tuple[str, ...] = ()
    resolved_at: datetime | None = None
    # Of the room
    roles: Mapping[str, str] = field(default_factory=dict)  # role -> who took it
    tasks: Mapping[str, Task] = field(default_factory=dict)
    said: tuple[Update, ...] = ()  # the status updates
    reminders: bool = True  # of the next update; False until it is given
    escalated_at: datetime | None = None  # by a person
    summoned: Mapping[str, datetime] = field(default_factory=dict)  # person -> when last
    silenced_until: datetime | None = None
    silence_asked: datetime | None = None  # until when it was asked for; it ends at the bound at the latest
    pins: Mapping[str, Pin] = field(default_factory=dict)
    private: bool = False  # only those who are let in see more than that it is there
    merged_into: str = ""
    absorbed: tuple[str, ...] = ()
    # Of recovery
    measures: Mapping[str, Measure] = field(default_factory=dict)
    replay: ReplayState | None = None
    replay_out: str = ""  # the replay under way
    changed_at: datetime | None = None  # what a replay has to be newer than

    # What others ask of it --------------------------------------------------------------------------------------

    @property
    def alert(self) -> Alert | None:
        return self.opened.alert if self.opened else None

    @property
    def reach(self) -> Reach | None:
        """What the agent and its delegates hold, as last found; None where nobody has looked yet."""
        return self.surveys.get(Phase.AFTER) or self.surveys.get(Phase.BEFORE)

    def enrolled(self, agent: object) -> Agent | None:
        """Whose record an action on this agent goes by: a delegate's own, else that of the incident's agent."""
        return next((child for child in self.delegates if child.id == agent), self.agent)

    @property
    def severity(self) -> Sev:
        """As of now: that of the worst alert so far, or what a person made of it since."""
        return self.rated or self.begun.severity

    @property
    def worst_severity(self) -> Sev:
        """What the plan goes by: lowering the severity leaves no cut out."""
        return self.worst or self.begun.severity

    def is_silent(self, at: datetime) -> bool:
        return self.silenced_until is not None and at < self.silenced_until

    @property
    def updates(self) -> int:
        return len(self.said)

    @property
    def held_steps(self) -> tuple[StepRun, ...]:
        """Steps whose holds stand and can be let go: what the card offers to release after a false positive."""
        letting_go = (StepStatus.RELEASING, StepStatus.RELEASED)
        runs = (run for run in self.steps.values() if run.holding and run.status not in letting_go)
        return tuple(run for run in runs if self.frozen.catalogue.undoable(run.action))

    @property
    def type(self) -> str:
        return self.begun.type

    def is_worsened_by(self, severity: Sev, *, contain: bool, start: bool) -> bool:
        """Whether an alert like this changes what is to be done."""
        starts = start and not self.started and self.frozen.playbook is not None
        return severity < self.severity or (contain and not self.contain) or starts

    @property
    def begun(self) -> Opened:
        if self.opened is None:
            raise Refused("not_open", f"{self.id} does not exist.")
        return self.opened

    @property
    def start(self) -> datetime:
        return cast(datetime, self.opened_at)

    @property
    def over(self) -> bool:
        return self.status in OVER

    def spec(self, step: str) -> Step:
        """The step as written; the pseudo-steps are made from the call they stand for."""
        if step in self.measures:
            return self.measures[step].step
        playbook = cast(Playbook, self.frozen.playbook)
        kind, _, rest = step.partition(":")
        if kind == "undo" and rest:
            return Step(id=step, call=playbook.steps[rest].call)
        if kind == "rollback" and rest:
            return replace(
                playbook.steps[rest],
                id=step,
                call=playbook.steps[rest].rollback,
                rollback=None,
                approval=None,
                condition=None,
                needs=(),
                after=(),
            )
        if kind == "on_failure" and rest:
            return Step(id=step, call=playbook.on_failure[int(rest)])
        return playbook.steps[step]

    def contact(self, person: str) -> Contact | None:
        return next((c for contacts in self.roster.values() for c in contacts if c.person == person), None)

    def contacts(self, roles: Iterable[str]) -> tuple[Contact, ...]:
        """Everybody on call for these roles whom some way reaches, each once."""
        found = {contact.person: contact for role in roles for contact in self.roster.get(role, ()) if contact.ways}
        return tuple(found.values())

    def deadlines(self) -> dict[str, datetime]:
        """Everything that is to happen at a time, by name."""
        calls = {
            f"again:{run.id}|{call.plan.name}": call.again_at
            for run in self.steps.values()
            for call in run.calls.values()
            if call.again_at and run.status is StepStatus.RUNNING and not is_held(self, run)
        }
        return {**self.timers, **calls}

    def wants(self, decision: str) -> bool:
        """Is this queued decision still to be performed?"""
        if decision in self.pages:
            return self.pages[decision].state == "queued"
        if decision in self.approvals and self.approvals[decision].state is not ApprovalState.OPEN:
            return False
        running = (run for run in self.steps.values() if any(c.decision == decision for c in run.calls.values()))
        return decision in self.outstanding and all(run.status is StepStatus.RUNNING for run in running)


def timed(incident: Incident, name: str, at: datetime | None) -> Incident:
    """With this deadline, or without it."""
    timers = {key: value for key, value in incident.timers.items() if key != name}
    return replace(incident, timers=timers if at is None else {**timers, name: at})


def is_held(incident: Incident, run: StepRun) -> bool:
    """Its calls are made by target streams, which also own their retries."""
    return (run.id in incident.measures or bool(incident.frozen.playbook)) and incident.spec(run.id).contains
