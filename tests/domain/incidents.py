"""Whole incidents made by folding events: a small estate, and a driver that plays engine and targets without either.

`Story` keeps the laws of the engine: admit, append, advance; holds are decided by target streams; the clock stops at
every deadline on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bot.domain import containment
from bot.domain.agent import Agent, VaultIdentity
from bot.domain.alert import Alert, Resource, Sev, Severity
from bot.domain.decisions import (
    AskApproval,
    AskPermit,
    Decision,
    DraftDocument,
    Notify,
    Page,
    PlaceHold,
    Post,
    ReleaseHold,
    RunAction,
)
from bot.domain.escalation import Contact, Level, Matrix
from bot.domain.events import (
    Acknowledged,
    ActionSettled,
    AlertsCounted,
    ApprovalGiven,
    ApprovalRefused,
    Deferred,
    DocumentDrafted,
    Event,
    HoldPlaced,
    HoldReleased,
    NoteAdded,
    Opened,
    Overridden,
    PageSent,
    Permitted,
    Pins,
    Posted,
    Status,
    StatusChanged,
    TextRef,
)
from bot.domain.expression import Compare, Item, Literal, Name, Template
from bot.domain.incident import Frozen, Incident, admit, due, fold, next_deadline
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import ApprovalRule, Call, OnTimeout, Playbook, Retry, Step, Target
from bot.domain.record import Entry
from bot.domain.response import advance
from bot.domain.runbook import Phase, Runbook

START = datetime(2025, 3, 4, 12, 0, tzinfo=UTC)
HOSTILE = (
    "<!channel> [click](javascript:alert(1)) <script>x</script> {{ 7 * 7 }} @here https://evil.example/a **b** | c"
)

AGENT = Agent(
    id="agent-7",
    name="Deploy agent",
    owner="owner-1",
    team="payments",
    gateways=("gateway",),
    vault=VaultIdentity(entity_id="e-7", lease_prefixes=("aws/creds/agent-7/",)),
)
ALERT = Alert(
    uid="finding-1",
    source="policy-engine",
    product="opa",
    rule="prod-change-without-approval",
    severity_id=Severity.CRITICAL,
    time=START - timedelta(seconds=40),
    agent_uid="agent-7",
    resources=(Resource("i-0abc", "AWS::EC2::Instance", region="eu-west-1"),),
    labels={"env": "prod"},
)
TITLE = TextRef("text-alert", "d0")
ROSTER = {
    "sre": (Contact("responder-1", ("slack", "email")),),
    "head_of_security": (Contact("security-1", ("slack",)),),
    "cto": (Contact("cto-1", ("email",)),),
    "security_ops": (Contact("secops-1", ("slack",)),),
    "product_owner": (Contact("product-1", ("email",)),),
}
NOTIFIED = ("sre", "security_ops", "product_owner", "cto")


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


MATRIX = Matrix(
    "unintended_production_change",
    "m" * 64,
    (
        Level("SRE", ("sre",), minutes(0), minutes(15)),
        Level("Head of Security", ("head_of_security",), minutes(15), minutes(30)),
        Level("CTO on call", ("cto",), minutes(30), minutes(60)),
    ),
)
RUNBOOK = Runbook(
    "production-change",
    "unintended_production_change",
    "Unintended production change",
    "r" * 64,
    "contain-agent",
    (
        Phase("communication", minutes(60), "incident_commander", ("Tell the stakeholders",)),
        Phase("investigation", minutes(120), "security_ops", ("Was an approval bypassed or misapplied?",)),
        Phase("review", timedelta(hours=72), "product_owner", ("Hold the review",)),
    ),
    "",
)


class Actions:
    """A Catalogue of a few actions: each acts on `<kind>:<agent>`, one on nothing at all."""

    def targets(self, action: str, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        if agent is None:
            raise ValueError(f"agent {params.get('agent')} is not enrolled")
        kind, system = {
            "agent.set_mode": ("agent", "gateway"),
            "vault.revoke_agent": ("vault-entity", "vault"),
            "aws.iam_deny_all": ("iam-role", "aws"),
            "aws.deactivate_keys": ("", ""),
            "evidence.collect": ("evidence", "evidence"),
        }[action]
        return (Target(f"{kind}:{agent.id}", dict(params), system, level=2),) if kind else ()

    def version(self, action: str) -> int:  # noqa: ARG002 - the Catalogue's shape
        return 1

    def undoable(self, action: str) -> bool:
        return action != "evidence.collect"

    def trail(self, action: str) -> timedelta | None:  # noqa: ARG002 - the Catalogue's shape
        return None


_AGENT_ID = Template(Item(Name("agent"), Literal("id")))


def call(action: str) -> Call:
    return Call(action, {"agent": _AGENT_ID})


def step(id: str, action: str, **changes: Any) -> Step:
    return Step(id, call(action), **changes)


_FATAL_ONLY = Compare(">=", Item(Name("alert"), Literal("severity_id")), Literal(6))
PLAYBOOK = Playbook(
    "contain-agent",
    "1.2.0",
    "p" * 64,
    {
        one.id: one
        for one in (
            step("shadow", "agent.set_mode", contains=True, require=Grade.EFFECT),
            step("revoke_vault", "vault.revoke_agent", contains=True, irreversible=True, retry=Retry(attempts=2)),
            step("keys", "aws.deactivate_keys", contains=True),
            step(
                "quarantine",
                "aws.iam_deny_all",
                contains=True,
                approval=ApprovalRule({"security_team": 1, "infra_owner": 1}, minutes(10), OnTimeout.REFUSE),
            ),
            step("evidence", "evidence.collect", after=("shadow",)),
            step("erase", "evidence.collect", condition=_FATAL_ONLY),
        )
    },
)
SMALL = replace(PLAYBOOK, steps={id: PLAYBOOK.steps[id] for id in ("shadow", "revoke_vault", "evidence")})

SHADOWED = Done(Grade.EFFECT, {"mode": "shadow", "epoch": 4, "enforced_by": ["gateway"]}, undo={"mode": "active"})
REVOKED = Done(Grade.CONFIG, {"entity_disabled": True, "leases_revoked": 3, "leases_alive": 0, "alive": []}, undo={})
DENIED = Done(Grade.CONFIG, {"policy": "firedoor-deny", "simulated": "explicitDeny"}, undo={})
COLLECTED = Done(Grade.UNVERIFIED, {"objects": 4, "approval_bypassed": True})


@dataclass
class Story:
    """An incident as it unfolds. Steps are answered by `settle`, the rest (permits, messages, papers) by itself."""

    frozen: Frozen
    id: str = "INC-7"
    now: datetime = START
    entries: list[Entry] = field(default_factory=list)
    targets: dict[str, containment.Target] = field(default_factory=dict)
    target_entries: list[Entry] = field(default_factory=list)
    queued: list[Decision] = field(default_factory=list)  # of the incident and of targets, not answered yet
    permits: Callable[[AskPermit], Event] = field(default=lambda asked: Permitted(asked.steps, asked.group))
    answers: Callable[[Page | Notify], bool] = field(default=lambda _: True)  # does this page leave by itself?

    def __post_init__(self) -> None:
        self.incident = Incident(self.id, self.frozen)

    def happen(self, event: Event) -> Story:
        """Admit, append, advance; then whatever is answered inside the same moment."""
        admit(self.incident, event)
        self.incident, decisions = advance(self.incident, event, self.now)
        self.entries.append(Entry(self.id, self.incident.version, self.now, event, decisions))
        for decision in decisions:
            self._perform(decision)
        return self

    def wait(self, span: timedelta) -> Story:
        """Time passes, and every deadline on the way is noticed when it is due."""
        end = self.now + span
        while (at := next_deadline(self.incident)) and at <= end:
            self.now = max(self.now, at)
            for passed in due(self.incident, self.now):
                if self.incident.deadlines().get(passed.name) == passed.due:
                    self.happen(passed)
        self.now = end
        return self

    def settle(self, step: str, outcome: Outcome, **fields: Any) -> Story:
        """The outstanding call of this step comes back."""
        sent = next(one for one in self.queued if isinstance(one, RunAction) and one.step == step)
        self.queued.remove(sent)
        settled = ActionSettled(sent.id, step, sent.call, sent.verb, outcome, **fields)
        if not sent.contains:
            return self.happen(settled)
        self._on_target(sent.target, settled)
        call = self.targets[sent.target].call
        return self.happen(replace(settled, final=not (call and call.key == sent.key)))

    def try_again(self, step: str) -> Story:
        """A held call's own deadline: the target asks again."""
        target = next(t for t in self.targets.values() if t.next_deadline and t.running and t.running.step == step)
        self.now = max(self.now, target.next_deadline or self.now)
        run = target.call
        name = f"again:{run.key if run else ''}"
        self._on_target(target.id, containment.DeadlinePassed(name, target.next_deadline or self.now))
        return self

    def send(self, page: Page | Notify, **fields: Any) -> Story:
        self.queued.remove(page)
        return self.happen(PageSent(page.id, page.key, page.person, page.way, **fields))

    def pages(self) -> list[Page | Notify]:
        """Those that have not left."""
        return [one for one in self.queued if isinstance(one, Page | Notify) and self.incident.wants(one.id)]

    def request(self, step: str) -> str:
        return self.incident.steps[step].request

    def folded(self) -> Incident:
        return fold(Incident(self.id, self.frozen), self.entries)

    def _perform(self, decision: Decision) -> None:
        match decision:
            case AskPermit():
                self.happen(self.permits(decision))
            case PlaceHold(target=target, hold=hold, call=call, instead=instead):
                self._on_target(target, HoldPlaced(target, hold, call, instead))
            case ReleaseHold(target=target, incident=incident, step=step, by=by):
                self._on_target(target, HoldReleased(target, incident, step, by))
            case Post(id=id, purpose=purpose):
                self.happen(Posted(id, purpose, "C1", f"{len(self.entries)}.0"))
            case AskApproval(id=id):
                self.happen(Posted(id, f"approval:{id}", "C1", f"{len(self.entries)}.0"))
            case DraftDocument(id=id, kind=kind):
                self.happen(DocumentDrafted(id, kind, TextRef(f"text-{kind}", "d"), ("product_owner: impact",)))
            case Page() | Notify():
                self.queued.append(decision)
                if self.answers(decision):
                    self.send(decision)
            case RunAction():
                self.queued.append(decision)

    def _on_target(self, id: str, event: Event) -> None:
        target = self.targets.get(id) or containment.Target(id)
        containment.admit(target, event)
        self.targets[id], decisions = containment.advance(target, event, self.now)
        self.target_entries.append(Entry(id, self.targets[id].version, self.now, event, decisions))
        for decision in decisions:
            self._perform(decision)


def opened(**changes: Any) -> Opened:
    fields: dict[str, Any] = {
        "incident": "INC-7",
        "mode": "live",
        "type": "unintended_production_change",
        "severity": Sev.SEV1,
        "agent_uid": "agent-7",
        "agent": AGENT,
        "alert": ALERT,
        "text": TITLE,
        "pins": Pins("p" * 64, "m" * 64, "r" * 64),
        "roster": ROSTER,
        "initiator": "owner-2",
        "notify": NOTIFIED,
        "why": "classification.yaml:4; playbook contain-agent",
    }
    return Opened(**{**fields, **changes})


def begin(playbook: Playbook | None = SMALL, story: Mapping[str, Any] | None = None, **changes: Any) -> Story:
    frozen = Frozen(MATRIX, Actions(), playbook, RUNBOOK)
    if playbook is None:
        changes = {"pins": Pins("", "m" * 64, "r" * 64), **changes}
    return Story(frozen, **(story or {})).happen(opened(**changes))


# Whole stories --------------------------------------------------------------------------------------------------


def contained() -> Story:
    """Half a minute: everything cut and verified, taken by the first person paged."""
    story = begin()
    story.wait(timedelta(seconds=1.4)).settle("shadow", SHADOWED)
    story.wait(timedelta(seconds=3)).settle("revoke_vault", Pending(story.now + timedelta(seconds=2), {}, "2 to go"))
    story.wait(timedelta(seconds=2)).try_again("revoke_vault").settle("revoke_vault", REVOKED)
    story.wait(timedelta(seconds=4)).settle("evidence", COLLECTED)
    return story.wait(timedelta(seconds=16)).happen(Acknowledged("responder-1", "slack"))


def partial() -> Story:
    """Two hours in which much goes wrong: a limit, an unreachable Vault, a late page, nobody who answers, a refusal."""

    def permits(asked: AskPermit) -> Event:
        return (
            Deferred(asked.steps, "more than 20% of the enrolled roles")
            if "revoke_vault" in asked.steps
            else Permitted(asked.steps, asked.group)
        )

    story = begin(
        PLAYBOOK,
        {"permits": permits, "answers": lambda page: page.person != "security-1"},
        roster={**ROSTER, "cto": ()},
        agent=AGENT,
    )
    story.happen(Overridden("shadow", "commander-1")).happen(Overridden("revoke_vault", "commander-1"))
    story.wait(timedelta(seconds=5)).settle("shadow", replace(SHADOWED, grade=Grade.CONFIG))
    away = Pending(story.now + timedelta(seconds=30), {}, "connection refused", unavailable=True)
    for _ in range(3):
        story.settle("revoke_vault", away).wait(timedelta(seconds=30)).try_again("revoke_vault")
    story.settle("revoke_vault", Failed(False, "still alive: vault-lease:aws/creds/agent-7/x (permission denied)"))
    story.happen(AlertsCounted(ALERT.dedup_key(), 118, START, story.now, 119))
    return later(story)


def later(story: Story) -> Story:
    story.wait(minutes(4)).happen(
        ApprovalRefused(story.request("quarantine"), "infra-1", ("infra_owner",), TextRef("text-why", "d2"), "slack")
    )
    story.wait(minutes(13))
    for page in story.pages():
        if page.person == "security-1":
            story.send(page, late=125.0, may_repeat=True)
    story.wait(minutes(16)).happen(Acknowledged("security-1", "link"))
    story.settle("evidence", COLLECTED)
    story.happen(NoteAdded("security-1", TextRef("text-note", "d3")))
    story.wait(minutes(8)).happen(StatusChanged(Status.INVESTIGATING, "security-1", "slack"))
    story.wait(minutes(35)).happen(Overridden("revoke_vault", "commander-1", accept=True))
    return story.wait(minutes(40)).happen(StatusChanged(Status.RESOLVED, "commander-1", "slack"))


def approved() -> Story:
    """Contained with the leave of two."""
    story = begin(PLAYBOOK)
    story.settle("shadow", SHADOWED).settle("revoke_vault", REVOKED).settle("evidence", COLLECTED)
    for person, group in (("security-2", "security_team"), ("infra-1", "infra_owner")):
        story.wait(minutes(1.5))
        story.happen(
            ApprovalGiven(
                story.request("quarantine"), person, (group,), story.incident.steps["quarantine"].hash, "slack"
            )
        )
    return story.wait(timedelta(seconds=12)).settle("quarantine", DENIED)


def no_playbook() -> Story:
    return begin(None).wait(minutes(20))


def declared() -> Story:
    return begin(
        None,
        alert=None,
        text=TextRef("text-title", "d1"),
        declared_by="responder-2",
        initiator="responder-2",
        notify=(),
    )


def unknown_agent() -> Story:
    """The playbook runs into an agent nobody enrolled: nothing can be planned."""
    return begin(agent=None, agent_uid="agent-x", alert=replace(ALERT, agent_uid="agent-x")).wait(minutes(16))


STORIES: Mapping[str, Callable[[], Story]] = {
    each.__name__: each for each in (contained, partial, approved, no_playbook, declared, unknown_agent)
}
