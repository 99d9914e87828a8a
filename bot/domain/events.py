"""Everything that can be appended to a stream: an incident (`INC-7`), a held target (`iam-role:...`) or the instances
of an agent (`instances:agent-7`).

Fields hold enums, numbers, labels, resource ids and opaque person ids; free text is a `TextRef` into an encrypted
artefact (semantics 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.domain.agent import Agent, Mode
from bot.domain.alert import Alert, Sev
from bot.domain.escalation import Roster
from bot.domain.outcome import Grade, Outcome
from bot.domain.reach import Reach


@dataclass(frozen=True, slots=True)
class TextRef:
    """Text outside the record: the artefact's id and the salted digest of what it held."""

    artefact: str
    digest: str


@dataclass(frozen=True, slots=True)
class Pins:
    """What was frozen at the opening, by content hash (law 8). "" where there is none."""

    playbook: str
    matrix: str
    runbook: str


class Status(StrEnum):
    """People's word on the incident. Containment, the machine's word, is another thing."""

    OPEN = "open"
    INVESTIGATING = "investigating"
    RECOVERING = "recovering"
    RESOLVED = "resolved"
    REVIEWED = "reviewed"
    FALSE_POSITIVE = "false_positive"
    MERGED = "merged"  # by its own event, never by StatusChanged


class Verb(StrEnum):
    RUN = "run"
    UNDO = "undo"
    VERIFY = "verify"  # look again whether what is held still stands; changes nothing


class Standing(StrEnum):
    """What a cut looked like when it was looked at again."""

    STANDS = "stands"
    LOST = "lost"  # somebody took it away
    UNREAD = "unread"  # nobody could tell


@dataclass(frozen=True, slots=True)
class Use:
    """One successful use of what was cut, by the system's own log. `by`: which credential or session."""

    at: datetime
    event: str
    by: str


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What the system's own log says of the cut's principals between `since`, when the cut was in force everywhere, and
    `until`. `count` successful uses, the first of them in `seen`. `why` it proves nothing, where it does not. A fact
    beside the grades, never one of them."""

    since: datetime
    until: datetime
    count: int = 0
    seen: tuple[Use, ...] = ()
    why: str = ""

    @property
    def alive(self) -> bool:
        return self.count > 0

    @property
    def verdict(self) -> str:
        """`alive`, `none after the cut` or `inconclusive`."""
        return "alive" if self.alive else "inconclusive" if self.why else "none after the cut"


@dataclass(frozen=True, slots=True)
class Hold:
    """An incident's claim that a control stays at least this strict on a target."""

    incident: str
    step: str
    action: str
    params: Mapping[str, Any]
    system: str
    level: int
    timeout: float  # seconds, of one call
    attempts: int = 3
    backoff: float = 2.0
    factor: float = 2.0
    max_delay: float = 30.0
    checks: tuple[float, ...] = ()  # seconds after it was put in force: when it is looked at again; the last repeats
    trail: float = 0.0  # seconds after it is in force until the system's log can tell of its use; 0: it has none


# Events of an incident ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timers:
    """The clocks beside the matrix, frozen at the opening. Seconds, from the opening; `ack_ttl` from the ack.
    `updates`: how often people owe a status update, SEV1 first; 0, or none at all, never."""

    containment: float = 900.0
    containment_repeat: float = 300.0
    ack_ttl: float = 1800.0
    updates: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Opened:
    """The first entry. `initiator` is the declarer or the owner of the triggering source: never an approver here.
    `contain` is false where the source may only propose. `trigger_errors` names playbooks whose trigger failed."""

    incident: str
    mode: str  # live | sandbox | tabletop
    type: str
    severity: Sev
    agent_uid: str
    agent: Agent | None
    alert: Alert | None
    text: TextRef | None
    pins: Pins
    roster: Roster
    initiator: str = ""
    declared_by: str = ""
    contain: bool = True
    started: bool = True  # False: the pinned playbook is only at hand, its trigger did not match
    proposed: tuple[str, ...] = ()
    trigger_errors: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()  # roles that must be told at the opening (A4)
    timers: Timers = Timers()
    why: str = ""  # which classification rule and trigger chose type and playbook
    delegates: tuple[Agent, ...] = ()  # who acts for the agent, and for those in turn
    room: bool = False  # it gets a channel of its own


@dataclass(frozen=True, slots=True)
class AlertReceived:
    """Another alert that is news for this incident. It can only make it worse: raise the severity, be the trusted word
    (`contain`) that was missing, match the trigger of the pinned playbook (`start`)."""

    alert: Alert
    text: TextRef | None
    why: str  # the answer to "why was this attached?"
    severity: Sev = Sev.SEV4
    contain: bool = False
    start: bool = False


@dataclass(frozen=True, slots=True)
class AlertsCounted:
    """Repeats since the last summary: at most one a minute and key."""

    dedup_key: str
    count: int
    first: datetime
    last: datetime
    total: int


@dataclass(frozen=True, slots=True)
class RosterResolved:
    roster: Roster


@dataclass(frozen=True, slots=True)
class AgentResolved:
    agent: Agent | None
    delegates: tuple[Agent, ...] = ()


@dataclass(frozen=True, slots=True)
class ActionSettled:
    """A call came back. Appended to the stream that decided it and to every incident whose step waits for it.
    `call` is the call's name inside the step: `<item>:<target id>`."""

    decision: str
    step: str
    call: str
    verb: Verb
    outcome: Outcome
    final: bool = True  # False: the target's stream will ask again (set where a target decides the call)
    reclaimed: int = 0  # how many times the decision was claimed again after a crash


@dataclass(frozen=True, slots=True)
class Verified:
    """A cut was looked at again. Appended to its target, and to the incidents that hold it where it is news to them.
    `grade` and `evidence` are what was read back while it stands; `after` is set where the system's log was asked."""

    decision: str
    step: str
    call: str
    standing: Standing
    grade: Grade = Grade.UNVERIFIED
    evidence: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    after: Aftermath | None = None

    @property
    def alive(self) -> bool:
        """What was cut was used since."""
        return self.after is not None and self.after.alive


@dataclass(frozen=True, slots=True)
class PageSent:
    """A page or notice left. `may_repeat`: an earlier send may have left before a crash."""

    decision: str
    key: str
    person: str
    way: str
    receipt: str = ""
    may_repeat: bool = False
    late: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class PageFailed:
    decision: str
    key: str
    person: str
    way: str
    why: str


@dataclass(frozen=True, slots=True)
class Posted:
    """A message stands in a channel. `purpose` is the Post's or `approval:<request>`."""

    decision: str
    purpose: str
    channel: str
    ts: str


@dataclass(frozen=True, slots=True)
class PostFailed:
    decision: str
    purpose: str
    why: str


@dataclass(frozen=True, slots=True)
class ChannelOpened:
    """The incident has a channel of its own: its card, threads and requests stand there from now on."""

    decision: str
    channel: str
    name: str
    private: bool = False


@dataclass(frozen=True, slots=True)
class ChannelFailed:
    """There is no channel of its own: everything is said where announcements go, of a private one nothing but that it
    is there."""

    decision: str
    why: str


@dataclass(frozen=True, slots=True)
class Invited:
    """Persons were let into the incident's channel, but for the `absent`, whom Slack refused or does not know."""

    decision: str
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acknowledged:
    by: str
    via: str  # slack | link | cli


@dataclass(frozen=True, slots=True)
class Unacknowledged:
    by: str
    via: str


@dataclass(frozen=True, slots=True)
class ApprovalGiven:
    """`groups` are the approver's groups and roles at the click. `hash` is what their screen showed. `also` are other
    ids under which people.yaml has the same human being; `proof` is `totp` where they gave a code besides."""

    request: str
    by: str
    groups: tuple[str, ...]
    hash: str
    via: str = ""
    also: tuple[str, ...] = ()
    proof: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalRefused:
    request: str
    by: str
    groups: tuple[str, ...]
    why: TextRef | None = None
    via: str = ""


@dataclass(frozen=True, slots=True)
class FormSubmitted:
    """A manual step done. Text fields are references."""

    step: str
    by: str
    values: Mapping[str, bool | int | float | str]
    texts: Mapping[str, TextRef] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Permitted:
    steps: tuple[str, ...]
    group: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A limit, budget or concurrency group said not now."""

    steps: tuple[str, ...]
    why: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Overridden:
    """A person took a deferral, an unknown or a failed containing step on themselves: run it (again), or accept it."""

    step: str
    by: str
    accept: bool = False  # True: count it as settled without another try
    via: str = ""


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    name: str
    due: datetime


@dataclass(frozen=True, slots=True)
class Started:
    """A person starts the pinned playbook, and takes its cuts on themselves where the alert's word was not enough."""

    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class StatusChanged:
    status: Status
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """A person lets go of this incident's hold of one step."""

    step: str
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class NoteAdded:
    by: str
    text: TextRef


@dataclass(frozen=True, slots=True)
class DocumentDrafted:
    """`artefact` is the document's text; `missing` what people must still complete, `<role>: <what>`."""

    decision: str
    kind: str
    artefact: TextRef
    missing: tuple[str, ...] = ()


class Phase(StrEnum):
    BEFORE = "before"  # at the opening: the blast radius
    AFTER = "after"  # when containment settled, or is about to be overdue: what is left alive


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What the agent and its delegates hold was asked of every system."""

    decision: str
    phase: Phase
    reach: Reach


@dataclass(frozen=True, slots=True)
class AuditAsked:
    """A person wants the agent's privileged actions held against the approvals once more."""

    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalsAudited:
    """What the logs show of the agent's privileged actions was held against the approvals. `artefact` has each finding
    with the entries that show it, and the merged timeline. `policy` is the fingerprint of policies/actions.yaml, `why`
    says why nothing could be judged."""

    decision: str
    artefact: TextRef
    bypassed: int
    misapplied: int
    unknown: int
    valid: int
    policy: str = ""
    manifests: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceRead:
    """A person had evidence shown or carried out. `purpose`: show | export. `sha256`: of the items; () is all."""

    by: str
    purpose: str
    sha256: tuple[str, ...] = ()
    via: str = ""


@dataclass(frozen=True, slots=True)
class Linked:
    incident: str


@dataclass(frozen=True, slots=True)
class Erased:
    by: str


# What people say in the room. `by` is a person's id, `via` is slack | cli | link | api ---------------------------


@dataclass(frozen=True, slots=True)
class SeverityChanged:
    severity: Sev
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class RoleTaken:
    """From now on `person` does this ('': nobody). Roles of the room, and those of people.yaml."""

    role: str
    person: str
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class TaskAdded:
    """`task` is T1, T2, ...; `owner` may be '' (nobody yet), `ways` are those known to reach them."""

    task: str
    text: TextRef
    owner: str
    due: datetime | None
    by: str
    via: str = ""
    ways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskChanged:
    """Only what is given changes."""

    task: str
    by: str
    owner: str = ""
    due: datetime | None = None
    done: bool = False
    via: str = ""
    ways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateGiven:
    """How it stands, what is done, what is needed. The clock of the next one starts anew."""

    by: str
    conditions: TextRef
    actions: TextRef
    needs: TextRef
    via: str = ""


@dataclass(frozen=True, slots=True)
class ReminderSnoozed:
    """No reminder of a status update before `until`; None: none at all before the next update was given."""

    by: str
    until: datetime | None
    via: str = ""


@dataclass(frozen=True, slots=True)
class Escalated:
    """The next level is paged now, and the matrix goes on from there. `level` (1-based) is the one that was asked for,
    0 whichever comes next."""

    by: str
    via: str = ""
    level: int = 0


@dataclass(frozen=True, slots=True)
class Summoned:
    """One person is paged now, whatever the levels, by these ways."""

    person: str
    by: str
    via: str = ""
    ways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Silenced:
    """Nobody is paged a second time for the same level before `until`. Containment and new levels page all the same."""

    by: str
    until: datetime
    via: str = ""


@dataclass(frozen=True, slots=True)
class Pinned:
    """A message that people want on the timeline. `message` is `<channel>/<ts>`."""

    message: str
    author: str
    by: str
    text: TextRef
    said_at: datetime


@dataclass(frozen=True, slots=True)
class PinChanged:
    """The pinned message was edited, or deleted (None). What it said before stays in the record."""

    message: str
    text: TextRef | None


@dataclass(frozen=True, slots=True)
class MadePrivate:
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class Merged:
    """This incident goes on in another, which has the `Absorbed` of the same transaction."""

    into: str
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class Absorbed:
    """Another incident goes on in this one. `severity` is what that one had."""

    incident: str
    by: str
    via: str = ""
    severity: Sev = Sev.SEV4


# Recovery: people ask, others approve ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RollbackAsked:
    """Take back what this incident's record completed, last first. What contains is no part of it."""

    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class ReissueAsked:
    """Give the agent its credentials again with less scope: `action` reads with these values and `apply: false` first,
    and writes with `apply: true` once two persons have approved the difference."""

    action: str
    params: Mapping[str, Any]
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class ReturnAsked:
    """Bring the agent back by one stage. `to`: shadow | advisory | active."""

    to: str
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class ReplayAsked:
    """Play the recorded alerts against the rules as they are now, in the sandbox."""

    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How that came out. `digest` is of what was played and what came of it, `rules` of the rules it was played
    against; `findings` say what is wrong, none where it is clean."""

    decision: str
    clean: bool
    digest: str
    rules: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReturnStopped:
    """The agent was heard of again, by another incident: its return ends here. `contain`: that word may contain."""

    incident: str
    contain: bool = True


# Events of a target ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HoldPlaced:
    target: str
    hold: Hold
    call: str  # the call's name inside the incident's step
    instead: tuple[str, ...] = ()  # steps of the same incident whose holds end with it


@dataclass(frozen=True, slots=True)
class HoldReleased:
    target: str
    incident: str
    step: str
    by: str


# Events of an agent's instances (`instances:agent-7`) -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstanceEnrolled:
    """A process of the agent has a key of its own from now on, and the one of its last enrolment is void. `pod` is the
    uid of the pod that enrolled itself, `by` its service account then."""

    agent: str
    instance: str
    serial: int
    by: str
    via: str = ""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class InstanceRevoked:
    """Its key is void, and nobody waits for its word any more."""

    agent: str
    instance: str
    by: str
    via: str = ""


@dataclass(frozen=True, slots=True)
class ModeOrdered:
    """What every instance is to be in. `incident` is whose hold it is, '' where none is left."""

    agent: str
    mode: Mode
    epoch: int
    nonce: str
    incident: str


@dataclass(frozen=True, slots=True)
class ModeAcked:
    """An instance says that it is in this mode: its word, and no proof. `said_at` is its own clock."""

    agent: str
    instance: str
    epoch: int
    mode: Mode
    last_effect_seq: int
    said_at: datetime


@dataclass(frozen=True, slots=True)
class AckRefused:
    """An instance said what cannot be taken, for the first time of this epoch. `why`: ahead | nonce | looser |
    acts_on."""

    agent: str
    instance: str
    epoch: int
    mode: Mode
    last_effect_seq: int
    why: str


Event = (
    Opened
    | AlertReceived
    | AlertsCounted
    | RosterResolved
    | AgentResolved
    | ActionSettled
    | Verified
    | PageSent
    | PageFailed
    | Posted
    | PostFailed
    | ChannelOpened
    | ChannelFailed
    | Invited
    | Acknowledged
    | Unacknowledged
    | ApprovalGiven
    | ApprovalRefused
    | FormSubmitted
    | Permitted
    | Deferred
    | Overridden
    | DeadlinePassed
    | Started
    | StatusChanged
    | Released
    | NoteAdded
    | DocumentDrafted
    | AuditAsked
    | ApprovalsAudited
    | EvidenceRead
    | Surveyed
    | Linked
    | Erased
    | SeverityChanged
    | RoleTaken
    | TaskAdded
    | TaskChanged
    | UpdateGiven
    | ReminderSnoozed
    | Escalated
    | Summoned
    | Silenced
    | Pinned
    | PinChanged
    | MadePrivate
    | Merged
    | Absorbed
    | RollbackAsked
    | ReissueAsked
    | ReturnAsked
    | ReplayAsked
    | Replayed
    | ReturnStopped
    | HoldPlaced
    | HoldReleased
    | InstanceEnrolled
    | InstanceRevoked
    | ModeOrdered
    | ModeAcked
    | AckRefused
)
