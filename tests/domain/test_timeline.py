from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import get_args

import pytest

from bot.domain.agent import Mode
from bot.domain.alert import Sev
from bot.domain.decisions import (
    AskApproval,
    Decision,
    Notify,
    Page,
    PageKind,
    PlaceHold,
    PlannedCall,
    PlanStep,
    Post,
    Withdraw,
)
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
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped, Unknown
from bot.domain.reach import Held, Reach
from bot.domain.record import Entry
from bot.domain.timeline import SILENT, Line, narrate
from tests.domain.incidents import (
    AGENT,
    ALERT,
    PLAYBOOK,
    REVOKED,
    ROSTER,
    SHADOWED,
    START,
    STORIES,
    TITLE,
    Story,
    begin,
    contained,
    minutes,
    opened,
    partial,
)

HOLD = next(d.hold for e in contained().entries for d in e.decisions if isinstance(d, PlaceHold))
EVENTS: dict[type, Event] = {
    type(event): event
    for event in (
        opened(),
        AlertReceived(ALERT, TITLE, "it names the same agent"),
        AlertsCounted("key", 12, START, START + minutes(1), 40),
        RosterResolved({**ROSTER, "sre": ()}),
        AgentResolved(None),
        ActionSettled("d", "shadow", "0:agent:agent-7", Verb.RUN, SHADOWED),
        PageSent("p", "k", "responder-1", "slack"),
        PageFailed("p", "k", "responder-1", "slack", "no such user"),
        Posted("d", "card", "C1", "1.0"),
        PostFailed("d", "card", "channel is archived"),
        Acknowledged("responder-1", "slack"),
        Unacknowledged("responder-1", "cli"),
        ApprovalGiven("r", "infra-1", ("infra_owner",), "h" * 64),
        ApprovalRefused("r", "infra-1", ("infra_owner",), TextRef("why", "d")),
        FormSubmitted("confirm", "product-1", {"customer_impact": True}, {"details": TextRef("t", "d")}),
        Permitted(("shadow",)),
        Deferred(("shadow",), "5 runs in an hour"),
        Overridden("shadow", "commander-1"),
        DeadlinePassed("containment", START + minutes(15)),
        Started("lead", "cli"),
        StatusChanged(Status.RESOLVED, "commander-1"),
        RollbackAsked("commander-1"),
        ReissueAsked("aws.iam_reissue", {"agent": "agent-7"}, "commander-1"),
        ReturnAsked("advisory", "commander-1"),
        ReplayAsked("commander-1"),
        Replayed("d", True, "h" * 64, "r" * 64),
        ReturnStopped("INC-8"),
        Released("shadow", "commander-1"),
        NoteAdded("responder-1", TextRef("note", "d")),
        DocumentDrafted("d", "postmortem", TextRef("doc", "d"), ("dpo: impact",)),
        AuditAsked("sre-1", "cli"),
        ApprovalsAudited("d", TextRef("audit", "d"), 1, 0, 0, 2, "p", ("m",)),
        EvidenceRead("sre-1", "show", ("a" * 64,), "cli"),
        Surveyed("d", Phase.AFTER, Reach.of([Held("lease", "aws/creds/7/x", "vault", "agent-7")], ["aws: away"])),
        Linked("INC-8"),
        Erased("dpo-1"),
        HoldPlaced("agent:agent-7", HOLD, "0:agent:agent-7"),
        HoldReleased("agent:agent-7", "INC-7", "shadow", "commander-1"),
        ChannelOpened("INC-7/1.0", "C0INC7", "inc-7-data-exposure-agent-7"),
        ChannelFailed("INC-7/1.0", "restricted_action"),
        Invited("INC-7/2.0", ("dba-1",)),
        SeverityChanged(Sev.SEV2, "commander-1", "slack"),
        RoleTaken("scribe", "responder-2", "responder-1"),
        TaskAdded("T1", TextRef("task", "d"), "responder-2", START + minutes(60), "responder-1"),
        TaskChanged("T1", "responder-1", owner="responder-1", due=START + minutes(90)),
        UpdateGiven("responder-1", TextRef("c", "d"), TextRef("a", "d"), TextRef("n", "d")),
        ReminderSnoozed("responder-1", START + minutes(30)),
        Escalated("responder-1", "slack"),
        Summoned("dba-1", "responder-1", "slack", ("email",)),
        Silenced("commander-1", START + minutes(30)),
        Pinned("C1/2.0", "responder-2", "responder-1", TextRef("said", "d"), START),
        PinChanged("C1/2.0", None),
        MadePrivate("commander-1"),
        Merged("INC-8", "commander-1"),
        Absorbed("INC-6", "commander-1"),
        InstanceEnrolled("agent-7", "pod-1", 2, "sre-1", "cli"),
        InstanceRevoked("agent-7", "pod-1", "sre-1", "cli"),
        ModeOrdered("agent-7", Mode.SHADOW, 4, "n", "INC-7"),
        ModeAcked("agent-7", "pod-1", 4, Mode.SHADOW, 118, START),
        AckRefused("agent-7", "pod-1", 4, Mode.ACTIVE, 118, "looser"),
        Verified("iam-role:r/2.0", "shadow", "0:agent:agent-7", Standing.LOST, why="the gateway says active"),
    )
}
DECISIONS: tuple[Decision, ...] = (
    PlanStep("d", "erase", "left_out", why="its condition is false"),
    AskApproval("d", "INC-7", "quarantine", "h" * 64),
    Post("d", "INC-7", "nobody_on_call:SRE"),
    Withdraw("d", ("a", "b")),
)


def told(*events: Event | tuple[Event, tuple[Decision, ...]]) -> tuple[Line, ...]:
    pairs = [each if isinstance(each, tuple) else (each, ()) for each in events]
    return narrate([Entry("INC-7", n, START + minutes(n), event, made) for n, (event, made) in enumerate(pairs, 1)])


def said(lines: Sequence[Line]) -> str:
    return "\n".join(line.text for line in lines)


def test_every_event_has_a_sample() -> None:
    assert set(EVENTS) == set(get_args(Event))


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_is_narrated_or_silent_on_purpose(kind: type) -> None:
    lines = [line for line in told(Deferred(("shadow",), "a limit"), EVENTS[kind]) if line.version == 2]
    assert bool(lines) is (kind not in SILENT)
    assert all(line.text.endswith((".", ":")) and line.at == START + minutes(2) for line in lines)


@pytest.mark.parametrize("kind", get_args(Decision), ids=lambda kind: kind.__name__)
def test_every_decision_is_narrated_or_silent_on_purpose(kind: type) -> None:
    sample = next((each for each in DECISIONS if isinstance(each, kind)), None)
    assert (sample is None) is (kind in SILENT)
    if sample:
        assert told((Linked("INC-8"), (sample,)))[1:]


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_told_in_its_order_without_free_text(name: str) -> None:
    story = STORIES[name]()
    lines = narrate(story.entries)
    assert [line.version for line in lines] == sorted(line.version for line in lines)
    assert {line.severity for line in lines} <= {"info", "good", "bad", "decision"}
    assert lines == narrate(story.entries)
    assert story.folded() == story.incident


def test_what_was_revoked_is_told_with_its_grade_and_what_was_read_back() -> None:
    text = said(narrate(contained().entries))
    assert (
        "revoke_vault (vault.revoke_agent on vault-entity:agent-7): in force, verified-config: "
        "entity disabled: yes, leases revoked: 3, leases alive: 0, alive: none." in text
    )
    assert "Contained: every containing step holds at its required grade." in text


def test_an_unreachable_system_is_told_once_with_what_it_means_then_counted() -> None:
    text = said(narrate(partial().entries))
    assert text.count("vault unreachable, retried; the credentials may still be alive (connection refused)") == 1
    assert "failed: still alive: vault-lease:aws/creds/agent-7/x" in text
    assert "vault had not answered 3 times before" in text


def test_a_late_page_that_may_repeat_says_both() -> None:
    text = said(narrate(partial().entries))
    assert "security-1 was paged by slack (level 2, round 4); late by 2 min 5 s; it may repeat an earlier one" in text


def test_a_page_in_flight_at_the_acknowledgement_says_so() -> None:
    page = Page("p", "k", "INC-7", PageKind.ESCALATION, (0,), 0, "responder-1", "slack", (), "escalation", START)
    sent = PageSent("p", "k", "responder-1", "slack")
    lines = told((opened(), (page,)), Acknowledged("security-1", "link"), sent)
    assert "in flight when security-1 acknowledged" in lines[-1].text
    notice = Notify("p", "k", "INC-7", "opened", "responder-1", "slack", (), START)
    assert "in flight" not in told((opened(), (notice,)), Acknowledged("security-1", "link"), sent)[-1].text


def test_limits_approvals_and_missing_people_are_told() -> None:
    text = said(narrate(partial().entries))
    assert "Until a person overrides this, the agent is not cut off there." in text
    assert "infra-1 (infra_owner) refused quarantine: it is not done." in text
    assert "The acknowledgement by security-1 ran out: people are paged again." in text
    alone = begin(roster={**ROSTER, "sre": ()})
    assert "Nobody is on call for level SRE: whoever comes next is paged at once." in said(narrate(alone.entries))
    expired = begin(PLAYBOOK).wait(minutes(11))
    assert "Nobody decided on quarantine in time: it is not done." in said(narrate(expired.entries))


def test_a_deferral_of_other_steps_does_not_speak_of_the_agent() -> None:
    lines = told(Deferred(("restore",), "INC-6 goes first", "deploys"), Permitted(("restore",), "deploys"))
    assert [line.severity for line in lines] == ["info", "info"]
    assert "not cut off" not in said(lines)
    assert lines[-1].text == "restore may go on now."


def _settled(outcome: Outcome, **fields: object) -> Line:
    plan = PlanStep("d", "cut", "ready", "vault.revoke_agent", (PlannedCall("0:t", "vault-entity:e-7", {}, "vault"),))
    place = PlaceHold("d", "vault-entity:e-7", "0:t", replace(HOLD, step="cut"))
    return told((Linked("INC-8"), (plan, place)), ActionSettled("d", "cut", "0:t", Verb.RUN, outcome, **fields))[-1]


@pytest.mark.parametrize(
    ("outcome", "severity", "words"),
    [
        (Done(Grade.UNVERIFIED, {"why": "no probe"}), "bad", "in force, unverified"),
        (Done(Grade.CONFIG, nothing_held="no lease"), "good", "nothing was held there: no lease"),
        (Skipped("a protected target"), "bad", "not done: a protected target"),
        (Failed(False, "permission denied"), "bad", "failed: permission denied."),
        (Unknown("no trace"), "bad", "unknown whether it happened, a person has to find out: no trace"),
        (Pending(START, {}, "3 to go"), "info", "): 3 to go."),
    ],
)
def test_every_outcome_says_what_it_is(outcome: Outcome, severity: str, words: str) -> None:
    line = _settled(outcome)
    assert (line.severity, line.kind) == (severity, "containment")
    assert words in line.text


def test_repeats_and_retries_are_admitted() -> None:
    assert "its effect may repeat" in _settled(REVOKED, reclaimed=1).text
    assert "tried again" in _settled(Failed(True, "503"), final=False).text
    assert "tried again" not in _settled(Failed(True, "503")).text


def test_a_wait_is_told_once_with_when_it_is_looked_at_again() -> None:
    wait = ActionSettled("d", "snapshot", "c", Verb.RUN, Pending(START + minutes(9), {}, "1 snapshot under way"))
    lines = told(wait, wait, wait)
    assert [line.text for line in lines] == ["snapshot: 1 snapshot under way, looked at again at 12:09:00Z."]


def test_a_containment_deadline_that_was_met_says_nothing() -> None:
    story = contained().wait(minutes(20))
    assert "not verified by" not in said(narrate(story.entries))
    assert "Containment was not verified by 12:15:00Z" in said(narrate(begin().wait(minutes(15)).entries))


def test_a_release_that_loosened_nothing_says_why() -> None:
    released = ActionSettled("d", "shadow", "c", Verb.UNDO, Skipped("still held by INC-9"))
    assert told(released)[0].text == "Release of shadow: nothing was loosened: still held by INC-9."


def test_a_deadline_noticed_late_says_by_how_much() -> None:
    lines = told((opened(), ()), DeadlinePassed("containment", START - minutes(5)))
    assert lines[-1].text.endswith("Noticed 7 min late.")


def test_the_opening_tells_who_what_and_what_is_missing() -> None:
    text = said(told(opened(alert=None, declared_by="responder-2", agent=None, mode="tabletop", contain=False)))
    assert "This is a tabletop record" in text
    assert "responder-2 declared SEV1 unintended_production_change about agent agent-7." in text
    assert "Agent agent-7 is not enrolled" in text
    assert "The source may not contain" in text
    assert "No playbook runs" in said(told(begin(None).entries[0].event))
    ahead = said(told(opened(alert=replace(ALERT, time=START + timedelta(hours=1)))))
    assert "with a time ahead of our clock" in ahead


def test_free_text_is_only_referred_to() -> None:
    line = told(EVENTS[NoteAdded])[0]
    assert line.refs == {"note": TextRef("note", "d")}
    assert told(EVENTS[Opened])[0].refs == {"alert": TITLE}


def test_streams_may_be_mixed() -> None:
    story: Story = contained()
    lines = narrate(sorted([*story.entries, *story.target_entries], key=lambda entry: entry.at))
    assert {line.stream for line in lines} == {"INC-7", "agent:agent-7", "vault-entity:agent-7"}
    assert any(line.text == "INC-7 holds agent:agent-7 by shadow (agent.set_mode)." for line in lines)


def test_agent_resolution_names_the_agent() -> None:
    lines = told(opened(), AgentResolved(AGENT), AgentResolved(None))
    assert [line.severity for line in lines[-2:]] == ["info", "bad"]
    assert "agent-7" in lines[-1].text
