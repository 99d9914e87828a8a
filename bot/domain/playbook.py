"""A playbook: what to do, in what order, with whose leave. `config` reads it from YAML; the rules never see that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Protocol

from bot.domain.agent import Agent
from bot.domain.expression import Expression, Template
from bot.domain.outcome import Grade

VERIFY = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))


class Rung(StrEnum):
    """How far a playbook may go by itself."""

    OBSERVE = "observe"  # say what it would do
    PROPOSE = "propose"  # ask before each containing step
    ACT = "act"  # containing steps run at once, approvals where written


class OnError(StrEnum):
    FAIL = "fail"
    CONTINUE = "continue"  # dependants by `needs` run as if it had succeeded


class OnTimeout(StrEnum):
    ESCALATE = "escalate"  # page the next level, stay open
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Trigger:
    """Matches when `types` holds the alert's type (or is empty) and `condition` is true (or absent)."""

    types: tuple[str, ...] = ()
    condition: Expression | None = None
    where: str = field(default="", compare=False)  # its file and line


@dataclass(frozen=True, slots=True)
class Retry:
    """`attempts` counts answers of a reachable system, the first included. Delays in seconds; full jitter, hashed from
    the decision's id."""

    attempts: int = 3
    backoff: float = 2.0
    factor: float = 2.0
    max: float = 30.0


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """`each`: group -> how many persons of it, all different. `step_up` is what each proves besides: `totp` or ''."""

    each: Mapping[str, int]
    timeout: timedelta = timedelta(minutes=10)
    on_timeout: OnTimeout = OnTimeout.ESCALATE
    step_up: str = ""


@dataclass(frozen=True, slots=True)
class Manual:
    """A step a person does. `form`: field -> `boolean` | `number` | `text` | a tuple of choices."""

    assignee: str  # role
    form: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    due: timedelta = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a step that is rolled out in several: the elements of its list up to a milestone, `3` or `10%`
    (rounded up), without those of the stages before. `number` counts from 0."""

    milestones: tuple[str, ...]
    number: int

    @property
    def milestone(self) -> str:
        return self.milestones[self.number]

    def part(self, count: int) -> range:
        """Which of `count` elements."""
        reached = [0, *(_reach(milestone, count) for milestone in self.milestones)]
        return range(max(reached[: self.number + 1]), max(reached[: self.number + 2]))


def _reach(milestone: str, count: int) -> int:
    if milestone.endswith("%"):
        return -(-count * int(milestone[:-1]) // 100)
    return min(count, int(milestone))


@dataclass(frozen=True, slots=True)
class Call:
    """An action and its arguments: the `uses` and `with` of a step, a rollback or an on_failure."""

    uses: str
    arguments: Mapping[str, Template] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """Exactly one of `call` and `manual` is set. `needs` wants success, `after` wants it settled either way. `intent`,
    `impact`, `cost` and `policy` (its id) are the author's words for whoever is asked to approve it."""

    id: str
    call: Call | None = None
    manual: Manual | None = None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    condition: Expression | None = None
    foreach: Expression | None = None
    contains: bool = False
    require: Grade = Grade.CONFIG
    irreversible: bool = False
    timeout: timedelta = timedelta(minutes=2)  # of one call
    retry: Retry = Retry()
    on_error: OnError = OnError.FAIL
    approval: ApprovalRule | None = None
    rollback: Call | None = None
    intent: str = ""
    impact: str = ""
    cost: str = ""
    policy: str = ""
    stage: Stage | None = None  # of a rollout: the last stage has the step's id, `patch@10%` comes before it
    unproved: timedelta | None = None  # how long others wait for its proof
    unless: str = ""  # the step whose proof makes this one needless: it waits for that, or for its absence
    line: int = 0  # where it stands in its file, for messages


# Of a kind so many may always be cut: in a small fleet a share says nothing, and an agent is cut with who acts for it.
FEW = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """On by default. `runs` per playbook and agent within `per`; `targets` per incident; percent of enrolled targets of
    a kind (never below FEW)."""

    runs: int = 5
    per: timedelta = timedelta(hours=1)
    targets: int = 10
    targets_percent: int = 20

    def of_a_kind(self, enrolled: int) -> int:
        """How many of so many enrolled ones may be cut."""
        return max(FEW, enrolled * self.targets_percent // 100)


@dataclass(frozen=True, slots=True)
class Concurrency:
    """Binds non-containing steps only: one incident at a time inside a group; the others wait (`queue`)."""

    group: Template
    mode: str = "queue"


@dataclass(frozen=True, slots=True)
class Playbook:
    id: str
    version: str
    hash: str  # SHA-256 of the file's bytes, hex
    steps: Mapping[str, Step]  # in file order; acyclic
    description: str = ""
    rung: Rung = Rung.ACT
    priority: int = 0
    triggers: tuple[Trigger, ...] = ()
    concurrency: Concurrency | None = None
    limits: Limits = Limits()
    timeout: timedelta = timedelta(hours=4)  # of the whole run
    # How long after a cut is in force it is looked at again; the last one repeats until its release. (): never.
    verify: tuple[timedelta, ...] = VERIFY
    on_failure: tuple[Call, ...] = ()


# What a rule may know of an action ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Param:
    """One argument of an action. `kind`: string | integer | number | boolean | mapping | list | any."""

    name: str
    kind: str = "string"
    required: bool = True
    default: Any = None
    doc: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """One thing an action acts on. `id` is `<kind>:<name>` (`iam-role:arn:...`, `vault-entity:e-1`, `agent:7`): the
    stream its holds live in. `params` are all that `run` needs for this one target. `level` is how strict the hold is
    (for a mode: the Mode's number; 1 for on/off controls)."""

    id: str
    params: Mapping[str, Any]
    system: str  # the connection whose pool and breaker the call goes through
    level: int = 1

    @property
    def kind(self) -> str:
        return self.id.partition(":")[0]


class Catalogue(Protocol):
    """The actions, as far as pure rules see them."""

    def targets(self, action: str, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        """Pure. () means that the agent holds nothing this action could cut. Raises ValueError with a reason where
        that cannot be said (an unknown agent, a missing parameter)."""

    def version(self, action: str) -> int: ...

    def undoable(self, action: str) -> bool: ...

    def trail(self, action: str) -> timedelta | None:
        """How long after its use a credential that this cuts shows in the system's own log; None without a log."""
