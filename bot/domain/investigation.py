"""Was a human asked? Each privileged thing that an agent did, held against the approvals in the record.

    valid ........ the right persons had approved this very plan, in time, and none of them their own request
    bypassed ..... when it was done, nobody had approved it
    misapplied ... there was an approval, but not for this: another plan, the wrong persons, run out, used up, their own
    unknown ...... the logs do not say enough, and this says what is missing

Pure: the logs, the policy and the record's grants come in, findings go out, the same for the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import pairwise

from bot.domain.approval import missing
from bot.domain.deeds import GATEWAY, Deed
from bot.domain.events import ApprovalGiven, ApprovalRefused
from bot.domain.incident import Incident
from bot.domain.record import Entry
from bot.domain.wording import counted, listed, span

PRIVILEGED = ("medium", "high")
CLAIMED = "claimed by the gateway"  # that one of its calls set off what another log shows; no other log says so
NEAR = timedelta(minutes=15)  # between a gateway's call and what it set off elsewhere
SKEW = timedelta(seconds=2)  # two clocks do not agree better; CloudTrail writes whole seconds


class Verdict(StrEnum):
    VALID = "valid"
    BYPASSED = "bypassed"
    MISAPPLIED = "misapplied"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PolicyAction:
    """One of policies/actions.yaml. `approvers`: groups, one person of each; `a|b` is either. `seen_as`: how logs name
    it, with `*`."""

    id: str
    description: str
    risk: str  # low | medium | high
    requires_manual_approval: bool
    approvers: tuple[str, ...] = ()
    valid_for: timedelta = timedelta(hours=2)  # from the approval that completed it
    covers: int = 1  # how many times one approval may be used: 2 for the canary, and production after it
    seen_as: tuple[str, ...] = ()

    @property
    def privileged(self) -> bool:
        return self.risk in PRIVILEGED

    @property
    def each(self) -> Mapping[str, int]:
        return Counter(self.approvers)


@dataclass(frozen=True, slots=True)
class EntryRef:
    """An entry of the record, which `firedoor ledger prove` proves."""

    stream: str
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Given:
    """One person's yes, as it was recorded."""

    person: str
    groups: tuple[str, ...]
    also: tuple[str, ...]
    hash: str
    at: datetime
    entry: EntryRef


@dataclass(frozen=True, slots=True)
class Grant:
    """A request in the record and what became of it, whichever stream it stands in: an incident's step today, an
    agent's own request once it has a stream."""

    request: str
    hash: str
    each: Mapping[str, int]
    asked: EntryRef
    initiators: frozenset[str]  # who may not approve it
    given: tuple[Given, ...] = ()
    refused: tuple[datetime, EntryRef] | None = None
    superseded: datetime | None = None  # asked anew since, for another plan


@dataclass(frozen=True, slots=True)
class Finding:
    """`shown_by`: the entries that show it; none where there is nothing in the record to show."""

    deed: Deed
    action: str
    verdict: Verdict
    why: str
    approval: str = ""
    plan: str = ""
    shown_by: tuple[EntryRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What the judgement rests on. `unreadable`: streams that approvals name and that could not be read. `heard`:
    whether the agent's own log was there, without which nobody knows what it would have named."""

    grants: Mapping[str, Grant] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    heard: bool = True


def grants_of(incident: Incident, entries: Sequence[Entry]) -> tuple[Grant, ...]:
    """The requests of one incident. `incident` is the fold of its entries."""
    opened = incident.begun
    initiators = frozenset({opened.initiator, opened.declared_by} - {""})
    given: dict[str, list[Given]] = {}
    refused: dict[str, tuple[datetime, EntryRef]] = {}
    asked: dict[str, Entry] = {}
    for entry in entries:
        asked |= {decision.id: entry for decision in entry.decisions if decision.id in incident.approvals}
        match entry.event:
            case ApprovalGiven(request=request, by=by, groups=groups, also=also, hash=hash):
                given.setdefault(request, []).append(Given(by, groups, also, hash, entry.at, _ref(entry)))
            case ApprovalRefused(request=request):
                refused[request] = (entry.at, _ref(entry))
    by_step: dict[str, list[str]] = {}
    for request, approval in incident.approvals.items():
        by_step.setdefault(approval.step, []).append(request)
    newer = {old: asked[new].at for requests in by_step.values() for old, new in pairwise(requests) if new in asked}
    return tuple(
        Grant(
            request,
            approval.hash,
            approval.each,
            _ref(asked[request]),
            initiators,
            tuple(given.get(request, ())),
            refused.get(request),
            newer.get(request),
        )
        for request, approval in incident.approvals.items()
        if request in asked
    )


def named(deeds: Iterable[Deed]) -> frozenset[str]:
    """The approvals that the logs name, to be found in the record."""
    return frozenset(deed.approval for deed in deeds if deed.approval)


def audit(deeds: Sequence[Deed], policy: Mapping[str, PolicyAction], known: Known) -> tuple[Finding, ...]:
    """One finding for each privileged thing that was done, in the order of the deeds."""
    claims = _claims(deeds)
    seen = {id: deed.source for deed in deeds if deed.source != GATEWAY for id in deed.caused}
    used: dict[str, set[str]] = {}  # approval -> the calls that were rightly made under it
    found: list[Finding] = []
    for deed in deeds:
        action = classified(deed, policy)
        if action is None or not action.privileged:
            continue
        claimed = _claimed(deed, claims)
        cause = claimed[0] if claimed else deed
        doubt = _doubt(deed, claimed) if action.requires_manual_approval else ""
        verdict, why, shown = (Verdict.UNKNOWN, doubt, ()) if doubt else _judge(deed, cause, action, known)
        same = claimed and classified(cause, policy) == action
        if same and not doubt and not _is_worse(verdict, cause, action, known):
            continue  # the same thing, judged there
        if verdict is Verdict.VALID and action.requires_manual_approval:
            calls = used.setdefault(cause.approval, set())
            calls.add(cause.where)
            if len(calls) > action.covers:
                verdict, why = Verdict.MISAPPLIED, f"used up: one approval covers {counted(action.covers, 'action')}"
        elsewhere = {seen[id] for id in deed.caused if id in seen} if deed.source == GATEWAY else set()
        if action.requires_manual_approval and (claimed or elsewhere):
            why = f"{why}; {f'the call {cause.name}' if claimed else listed(sorted(elsewhere))}: {CLAIMED}"
        found.append(Finding(deed, action.id, verdict, why, cause.approval, cause.plan, shown))
    return tuple(found)


def _claims(deeds: Iterable[Deed]) -> Mapping[str, Sequence[Deed]]:
    """The gateway's calls that name a request id of another system. A log of a gateway is what it says of itself."""
    found: dict[str, list[Deed]] = {}
    for deed in deeds:
        for id in dict.fromkeys(deed.caused) if deed.source == GATEWAY else ():
            found.setdefault(id, []).append(deed)
    return found


def _claimed(deed: Deed, claims: Mapping[str, Sequence[Deed]]) -> Sequence[Deed]:
    """What another log says of the same thing carries no approval: the call that claims it does."""
    if deed.source == GATEWAY:
        return ()
    found = {call.where: call for id in deed.caused for call in claims.get(id, ())}
    return [call for call in found.values() if call.name] or [*found.values()]


def _doubt(deed: Deed, claimed: Sequence[Deed]) -> str:
    """Why nobody can say that the call which claims it set it off; '' where that fits."""
    if len(claimed) > 1:
        return f"{len(claimed)} calls name its request id, and one at most can have set it off"
    if claimed and (apart := abs(deed.at - claimed[0].at)) > NEAR:
        return f"{span(apart)} lie between it and the call that names it"
    return ""


def _is_worse(verdict: Verdict, cause: Deed, action: PolicyAction, known: Known) -> bool:
    """Whether another log shows that it was done before the approval that the call names. What was begun in time may
    well end later."""
    return verdict is Verdict.BYPASSED and verdict is not _judge(cause, cause, action, known)[0]


def classified(deed: Deed, policy: Mapping[str, PolicyAction]) -> PolicyAction | None:
    """The riskiest action that the log's name for it fits. What the log itself calls it counts only where it makes it
    no less risky: a log is not to talk its own deed down."""
    if not deed.name:
        return None
    fits = [one for one in policy.values() if any(fnmatchcase(deed.name, pattern) for pattern in one.seen_as)]
    if deed.action in policy:
        fits.append(policy[deed.action])
    risks = ("low", *PRIVILEGED)
    return max(fits, key=lambda one: (risks.index(one.risk), one.requires_manual_approval), default=None)


def tally(findings: Iterable[Finding]) -> Mapping[Verdict, int]:
    """Every verdict, worst first."""
    counts = Counter(finding.verdict for finding in findings)
    order = (Verdict.BYPASSED, Verdict.MISAPPLIED, Verdict.UNKNOWN, Verdict.VALID)
    return {verdict: counts[verdict] for verdict in order}


# The judgement --------------------------------------------------------------------------------------------------

Judged = tuple[Verdict, str, tuple[EntryRef, ...]]


def _judge(deed: Deed, cause: Deed, action: PolicyAction, known: Known) -> Judged:
    if not action.requires_manual_approval:
        return Verdict.VALID, "the policy asks for no approval", ()
    if not cause.approval:
        if not known.heard:
            return Verdict.UNKNOWN, "the agent's own log is missing: it might name an approval", ()
        side_door = deed.source != GATEWAY and cause is deed
        return (
            Verdict.BYPASSED,
            ("it went past the gateway, whose log does not know it" if side_door else "it names no approval"),
            (),
        )
    grant = known.grants.get(cause.approval)
    if grant is None:
        if cause.approval.partition("/")[0] in known.unreadable:
            return Verdict.UNKNOWN, f"the record of {cause.approval} cannot be read", ()
        return Verdict.BYPASSED, f"it names {cause.approval}, which the record does not have", ()
    return _held_against(grant, deed.at, cause.plan, action)


def _held_against(grant: Grant, at: datetime, plan: str, action: PolicyAction) -> Judged:
    """An approval that is in the record, against what was done under it."""
    before = tuple(one for one in grant.given if one.at <= at + SKEW)
    shown = (grant.asked, *(one.entry for one in grant.given))
    if grant.refused and grant.refused[0] <= at:
        return Verdict.BYPASSED, "it had been refused", (*shown, grant.refused[1])
    if missing(grant.each, _people(before)):
        if not missing(grant.each, _people(grant.given)):
            return Verdict.BYPASSED, "it was approved only afterwards", shown
        lacking = f"{len(before)} had approved, not all who were asked" if before else "nobody had approved it"
        return Verdict.BYPASSED, lacking, shown
    if not plan:
        return Verdict.UNKNOWN, "the log does not say which plan was carried out", shown
    if plan != grant.hash or any(one.hash != grant.hash for one in before):
        return Verdict.MISAPPLIED, f"it was given for plan {grant.hash[:12]}, and {plan[:12]} was carried out", shown
    if grant.superseded and grant.superseded <= at:
        return Verdict.MISAPPLIED, "the plan had changed and was asked for anew", shown
    others = _distinct([one for one in before if not grant.initiators & {one.person, *one.also}])
    if lacks := missing(action.each, _people(others)) or missing(grant.each, _people(others)):
        own = sorted({one.person for one in before if grant.initiators & {one.person, *one.also}})
        if own and not missing(action.each, _people(_distinct(before))):
            return Verdict.MISAPPLIED, f"{listed(own)} approved their own request", shown
        return Verdict.MISAPPLIED, f"nobody of {listed(sorted(lacks))} had approved, which the policy asks for", shown
    if not others:
        return Verdict.UNKNOWN, "neither the request nor the policy says who has to approve it", shown
    complete = _completed(others, action.each, grant.each)
    if complete > at:
        return Verdict.UNKNOWN, "the approval and the deed are too close for two clocks", shown
    if at > complete + action.valid_for:
        return Verdict.MISAPPLIED, f"it had run out {span(at - complete - action.valid_for)} before", shown
    return Verdict.VALID, f"approved by {listed([one.person for one in others])}", shown


def _people(given: Iterable[Given]) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.person, one.groups) for one in given]


def _distinct(given: Iterable[Given]) -> tuple[Given, ...]:
    """Each human being once, under whatever id."""
    found: list[Given] = []
    for one in given:
        if not any({one.person, *one.also} & {other.person, *other.also} for other in found):
            found.append(one)
    return tuple(found)


def _completed(given: Sequence[Given], *rules: Mapping[str, int]) -> datetime:
    """When the last one came that all the rules needed."""
    ordered = sorted(given, key=lambda one: one.at)
    for number in range(1, len(ordered)):
        if not any(missing(each, _people(ordered[:number])) for each in rules):
            return ordered[number - 1].at
    return ordered[-1].at


def _ref(entry: Entry) -> EntryRef:
    return EntryRef(entry.stream, entry.version, entry.digest)
