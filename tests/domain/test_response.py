"""Playbooks as they unfold: order, failure, approvals, permits, holds and their release, papers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.domain import containment
from bot.domain.agent import VaultIdentity
from bot.domain.calls import retry_delay
from bot.domain.decisions import DraftDocument, PageKind
from bot.domain.events import (
    ActionSettled,
    AgentResolved,
    ApprovalGiven,
    ApprovalRefused,
    FormSubmitted,
    Hold,
    HoldPlaced,
    HoldReleased,
    Overridden,
    Permitted,
    Released,
    Status,
    StatusChanged,
    Verb,
)
from bot.domain.expression import Item, ListOf, Literal, Name, Template
from bot.domain.outcome import Done, Failed, Grade, Pending, Skipped, Unknown
from bot.domain.playbook import ApprovalRule, Concurrency, Manual, OnError, OnTimeout, Retry, Rung
from tests.domain.desk import Desk, call, later, minutes, playbook, step
from tests.domain.incidents import AGENT, RUNBOOK

FOUND = Done(Grade.EFFECT, {"n": 1}, undo={"was": 0})
NO = Failed(False, "denied")
SHADOW = step("shadow", "mode", {"level": 2}, contains=True)
DISABLE = step("disable", "mode", {"level": 3}, contains=True)
BOTH = ApprovalRule({"security_team": 1, "infra_owner": 1}, minutes(10), OnTimeout.ESCALATE)


def begin(*steps: Any, **changes: Any) -> Desk:
    desk = Desk(**changes.pop("desk", {}))
    book = {key: changes.pop(key) for key in ("rung", "on_failure", "concurrency", "timeout") if key in changes}
    desk.open(playbook(*steps, **book), **{"runbook": None, **changes})
    return desk


def approve(desk: Desk, name: str, by: str, *groups: str, hash: str = "") -> ApprovalGiven:
    request = desk.request(name)
    return ApprovalGiven(request, by, groups, hash or desk.incidents["INC-1"].approvals[request].hash)


# Order ------------------------------------------------------------------------------------------------------------


def test_needs_wants_success_and_after_either() -> None:
    desk = begin(step("a"), step("b", needs=("a",)), step("c", after=("a",)), step("d", needs=("b",)))
    assert [c.step for c in desk.calls()] == ["a"]
    desk.settle("a", NO)
    assert [desk.status(name) for name in "abcd"] == ["failed", "skipped", "running", "skipped"]
    assert desk.incidents["INC-1"].steps["b"].why == "needs a"


def test_on_error_continue_counts_as_done_for_those_who_need_it() -> None:
    desk = begin(step("a", on_error=OnError.CONTINUE), step("b", needs=("a",)))
    desk.settle("a", NO)
    assert desk.status("b") == "running"


def test_a_false_condition_leaves_the_step_out_of_plan_and_containment() -> None:
    desk = begin(replace(SHADOW, condition=Literal(False)), replace(DISABLE, needs=("shadow",)))
    assert desk.status("shadow") == "left_out"
    desk.settle("disable", FOUND)
    assert str(desk.incidents["INC-1"].containment) == "contained"


def test_a_condition_that_errs_fails_the_step_and_pages() -> None:
    desk = begin(replace(SHADOW, condition=Name("nothing")))
    assert desk.status("shadow") == "failed"
    assert [page.reason for page in desk.pages(PageKind.FAILURE)] == ["step:shadow"]


def test_what_could_not_be_planned_is_planned_again_when_a_person_says_so() -> None:
    desk = begin(SHADOW, agent=None)
    assert desk.status("shadow") == "failed"
    desk.happen("INC-1", AgentResolved(AGENT))
    desk.happen("INC-1", Overridden("shadow", "a"))
    desk.settle("shadow", FOUND)
    assert str(desk.incidents["INC-1"].containment) == "contained"


def test_hostile_text_that_cannot_be_hashed_fails_its_step_and_nothing_else() -> None:
    desk = begin(step("a", arguments={"note": "\ud800"}), step("b"))
    assert (desk.status("a"), desk.status("b")) == ("failed", "running")


def test_foreach_makes_a_call_an_item_and_outputs_are_lists() -> None:
    names = ListOf((Literal("i-1"), Literal("i-2")))
    desk = begin(step("snap", arguments={"name": Name("item")}, foreach=names), step("next", needs=("snap",)))
    assert [c.target for c in desk.calls("snap")] == ["job:i-1", "job:i-2"]
    desk.settle("snap", Done(Grade.CONFIG, {"id": "s-1"}))
    assert desk.status("snap") == "running"
    desk.settle("snap", Done(Grade.CONFIG, {"id": "s-2"}))
    assert desk.incidents["INC-1"].steps["snap"].outputs == {"id": ["s-1", "s-2"]}
    assert desk.status("next") == "running"


def test_a_manual_step_asks_its_role_and_is_done_by_its_form() -> None:
    impact = Item(Item(Item(Name("steps"), Literal("ask")), Literal("outputs")), Literal("impact"))
    desk = begin(
        step("ask", manual=Manual("cto", {"impact": "boolean"}, minutes(30))),
        step("go", needs=("ask",), condition=impact),
    )
    assert [(n.person, n.topic) for n in desk.notices()] == [("cto-1", "form:ask")]
    desk.forward(30)
    assert ("cto-1", "form:ask") in {(p.person, p.reason) for p in desk.pages(PageKind.FAILURE)}
    desk.happen("INC-1", FormSubmitted("ask", "cto-1", {"impact": True}))
    assert desk.status("go") == "running"
    assert desk.refuses("INC-1", FormSubmitted("ask", "cto-1", {"impact": True})) == "no_form"


# Tries ------------------------------------------------------------------------------------------------------------


def test_retries_back_off_by_a_share_hashed_from_the_decision() -> None:
    retry = Retry(attempts=3, backoff=2, factor=2, max=3)
    desk = begin(step("a", retry=retry))
    first = desk.settle("a", Failed(True, "busy"))
    wait = retry_delay(retry, 1, first.id)
    assert timedelta(0) <= wait < timedelta(seconds=2)
    assert retry_delay(retry, 3, first.id) <= timedelta(seconds=3)
    assert desk.next_moment() == desk.now + wait
    desk.forward(0.1)
    second = desk.settle("a", Failed(True, "busy"))
    assert (second.key, second.id != first.id) == (first.id, True)
    desk.forward(0.1)
    desk.settle("a", Failed(True, "busy"))
    assert desk.status("a") == "failed"


def test_a_system_that_is_away_uses_no_attempt_and_keeps_what_was_saved() -> None:
    desk = begin(step("a", retry=Retry(attempts=1)))
    desk.settle("a", later(desk, 0, so_far={"stage": 2}))
    for _ in range(10):
        sent = desk.settle("a", Pending(desk.now, why="away", unavailable=True))
        assert sent.so_far == {"stage": 2}
        assert desk.calls() == []
        desk.forward(0.6)
    desk.settle("a", FOUND)
    assert desk.status("a") == "done"


# Failure ----------------------------------------------------------------------------------------------------------


def test_what_completed_is_rolled_back_in_reverse_one_at_a_time_and_never_a_containing_step() -> None:
    undo = call("undo_work")
    desk = begin(
        SHADOW,
        step("one", rollback=undo, condition=Name("agent")),
        step("two", after=("one",), rollback=undo),
        step("three", after=("two", "shadow")),
        on_failure=(call("page.escalate"), call("tell")),
    )
    for name in ("shadow", "one", "two"):
        desk.settle(name, FOUND)
    desk.settle("three", NO)
    assert [c.step for c in desk.calls()] == ["rollback:two"]
    desk.settle("rollback:two", FOUND)
    assert [c.step for c in desk.calls()] == ["rollback:one"]
    desk.settle("rollback:one", FOUND)
    assert [c.step for c in desk.calls()] == ["on_failure:1"]
    assert desk.status("shadow") == "done"


def test_a_failed_cut_rolls_nothing_back() -> None:
    desk = begin(step("one", rollback=call("undo_work")), replace(SHADOW, after=("one",)), on_failure=(call("tell"),))
    desk.settle("one", FOUND)
    desk.settle("shadow", NO)
    assert [c.step for c in desk.calls()] == ["on_failure:0"]


# Approvals --------------------------------------------------------------------------------------------------------


def test_each_group_once_by_different_persons_and_never_by_the_initiator() -> None:
    desk = begin(replace(SHADOW, approval=BOTH))
    assert desk.refuses("INC-1", approve(desk, "shadow", "owner-2", "security_team")) == "own_request"
    assert desk.refuses("INC-1", approve(desk, "shadow", "a", "sre")) == "not_an_approver"
    assert desk.refuses("INC-1", approve(desk, "shadow", "a", "infra_owner", hash="old")) == "plan_changed"
    desk.happen("INC-1", approve(desk, "shadow", "a", "security_team", "infra_owner"))
    assert desk.refuses("INC-1", approve(desk, "shadow", "a", "infra_owner")) == "already_given"
    assert desk.calls() == []
    desk.happen("INC-1", approve(desk, "shadow", "b", "security_team"))
    assert desk.refuses("INC-1", approve(desk, "shadow", "b", "security_team")) == "closed"
    assert [c.step for c in desk.calls()] == ["shadow"]


def test_a_refusal_makes_containment_partial() -> None:
    desk = begin(replace(SHADOW, approval=BOTH))
    desk.happen("INC-1", ApprovalRefused(desk.request("shadow"), "a", ("infra_owner",)))
    assert desk.status("shadow") == "refused"
    assert str(desk.incidents["INC-1"].containment) == "partial"


def test_nobody_decides_escalate_pages_the_next_level_and_stays_open() -> None:
    desk = begin(replace(SHADOW, approval=BOTH))
    desk.forward(10)
    assert {p.person for p in desk.pages(PageKind.FAILURE)} == {"responder-1", "security-1"}
    assert desk.status("shadow") == "awaiting_approval"
    desk.happen("INC-1", approve(desk, "shadow", "a", "security_team"))


def test_nobody_decides_refuse_closes_it() -> None:
    desk = begin(replace(SHADOW, approval=replace(BOTH, on_timeout=OnTimeout.REFUSE)))
    click = approve(desk, "shadow", "a", "security_team")
    desk.forward(10)
    assert desk.status("shadow") == "refused"
    assert desk.refuses("INC-1", click) == "closed"


def test_a_changed_plan_is_asked_again_and_the_old_request_is_dead() -> None:
    desk = begin(replace(SHADOW, approval=BOTH))
    old = approve(desk, "shadow", "a", "security_team")
    desk.happen("INC-1", old)
    desk.happen("INC-1", AgentResolved(replace(AGENT, vault=VaultIdentity())))
    assert desk.request("shadow") == old.request  # nothing that matters here changed
    desk.happen("INC-1", AgentResolved(replace(AGENT, id="agent-8")))
    assert desk.request("shadow") != old.request
    assert desk.refuses("INC-1", replace(old, by="b", groups=("infra_owner",))) == "closed"
    assert desk.incidents["INC-1"].approvals[desk.request("shadow")].given == ()


def test_a_plan_that_can_no_longer_be_made_takes_its_request_back() -> None:
    desk = begin(replace(SHADOW, approval=BOTH))
    old = approve(desk, "shadow", "a", "security_team")
    desk.happen("INC-1", AgentResolved(None))
    assert desk.status("shadow") == "failed"
    assert desk.refuses("INC-1", old) == "closed"


@pytest.mark.parametrize("rung", [Rung.PROPOSE, Rung.ACT])
def test_what_may_only_propose_asks_before_each_cut(rung: Rung) -> None:
    desk = begin(SHADOW, step("work"), rung=rung, contain=rung is not Rung.ACT)
    assert [c.step for c in desk.calls()] == ["work"]
    desk.happen("INC-1", approve(desk, "shadow", "a", "incident_commander"))
    assert [c.step for c in desk.calls()] == ["work", "shadow"]


def test_observe_says_and_does_nothing() -> None:
    reads = Template(Item(Item(Item(Name("steps"), Literal("work")), Literal("outputs")), Literal("id")))
    later_step = replace(step("next", needs=("work",)), call=replace(call("work"), arguments={"x": reads}))
    desk = begin(SHADOW, step("work"), later_step, step("ask", manual=Manual("sre")), rung=Rung.OBSERVE)
    assert {run.status for run in desk.incidents["INC-1"].steps.values()} == {"observed"}
    assert desk.calls() == []
    assert desk.pages(PageKind.FAILURE) == []
    assert str(desk.incidents["INC-1"].containment) == "none"


# Permits ----------------------------------------------------------------------------------------------------------


def test_a_deferred_cut_pages_at_once_and_one_click_lets_it_through() -> None:
    desk = begin(SHADOW, DISABLE, desk={"permit": lambda _: "too many targets"})
    assert desk.status("shadow") == "deferred"
    assert [p.reason for p in desk.pages(PageKind.FAILURE)] == ["deferred:shadow,disable"]
    desk.happen("INC-1", Overridden("shadow", "a"))
    assert [c.step for c in desk.calls()] == ["shadow"]
    desk.happen("INC-1", Permitted(("shadow", "disable")))  # late, and only news for the other
    assert (desk.status("shadow"), desk.status("disable")) == ("running", "running")
    assert len([e for e in desk.entries["agent:agent-7"] if isinstance(e.event, HoldPlaced)]) == 2


def test_a_group_lets_one_incident_in_and_the_next_when_it_is_done_but_never_holds_up_a_cut() -> None:
    group = Concurrency(call("x", g="one").arguments["g"])
    desk = begin(step("a"), step("b", needs=("a",)), concurrency=group)
    desk.open(playbook(SHADOW, step("a"), concurrency=group), runbook=None)
    assert (desk.status("a", "INC-2"), desk.status("shadow", "INC-2")) == ("deferred", "running")
    desk.settle("a", FOUND, "INC-1")
    desk.settle("b", FOUND, "INC-1")
    assert desk.groups["book:one"] == ["INC-2"]
    desk.settle("a", FOUND, "INC-2")
    assert desk.groups["book:one"] == []


# Holds ------------------------------------------------------------------------------------------------------------


def two(first: Any, second: Any) -> Desk:
    desk = begin(first)
    desk.open(playbook(second), runbook=None)
    return desk


def test_the_strictest_hold_is_in_force_and_a_release_loosens_to_the_next() -> None:
    desk = two(SHADOW, DISABLE)
    desk.settle_all(FOUND)
    assert desk.force("agent:agent-7", "mode") == 3
    desk.happen("INC-2", Released("disable", "a"))
    assert desk.status("disable", "INC-2") == "released"
    assert desk.incidents["INC-2"].steps["disable"].why == "still held by INC-1"
    assert [c.params["level"] for c in desk.calls()] == [2]
    desk.settle_all(FOUND)
    assert desk.force("agent:agent-7", "mode") == 2
    desk.happen("INC-1", Released("shadow", "a"))
    (undo,) = desk.calls()
    assert (undo.verb, undo.undo) == ("undo", {"was": 0})
    desk.settle(undo, FOUND)
    assert desk.status("shadow") == "released"
    assert not desk.targets["agent:agent-7"].held


def test_a_looser_hold_is_proved_by_the_stricter_one_that_is_in_force() -> None:
    desk = two(DISABLE, SHADOW)
    desk.settle_all(FOUND)
    assert (desk.force("agent:agent-7", "mode"), desk.status("shadow", "INC-2")) == (3, "done")


def test_a_stricter_hold_that_fails_does_not_fail_a_looser_one() -> None:
    desk = two(DISABLE, SHADOW)
    desk.settle("disable", NO)
    assert desk.status("disable") == "failed"
    assert [c.params["level"] for c in desk.calls()] == [2]
    desk.settle("shadow", FOUND, "INC-2")
    assert desk.status("shadow", "INC-2") == "done"


def test_what_is_in_force_is_not_loosened_for_a_newcomer_while_somebody_claims_it() -> None:
    desk = begin(DISABLE)
    desk.settle("disable", FOUND)
    desk.open(playbook(DISABLE), runbook=None)
    desk.settle("disable", NO)  # the second incident's own try, though the first one's hold is in force
    desk.happen("INC-1", Released("disable", "a"))
    desk.open(playbook(SHADOW), runbook=None)
    assert [c.params["level"] for c in desk.calls()] == [3]
    desk.settle_all(FOUND)
    assert (desk.force("agent:agent-7", "mode"), desk.status("shadow", "INC-3")) == (3, "done")


def test_two_steps_of_one_incident_hold_the_same_thing_apart() -> None:
    desk = begin(SHADOW, DISABLE)
    desk.settle_all(FOUND)
    assert (desk.status("shadow"), desk.status("disable")) == ("done", "done")
    desk.happen("INC-1", Released("disable", "a"))
    assert desk.incidents["INC-1"].steps["disable"].why == "still held by another step of this incident"
    desk.settle_all(FOUND)
    assert desk.force("agent:agent-7", "mode") == 2


@pytest.mark.parametrize("outcome", [NO, Skipped("not here"), Done(Grade.CONFIG, nothing_held="no lease")])
def test_a_release_of_a_call_under_way_ends_with_it_where_nothing_came_into_force(outcome: Any) -> None:
    desk = begin(SHADOW)
    desk.happen("INC-1", Released("shadow", "a"))
    assert desk.status("shadow") == "releasing"
    desk.settle("shadow", outcome)
    assert desk.status("shadow") == "released"


def test_a_lost_answer_may_have_cut_so_its_release_undoes_it() -> None:
    desk = begin(SHADOW)
    desk.settle("shadow", Unknown("lost"))
    assert str(desk.incidents["INC-1"].containment) == "unknown"
    desk.happen("INC-1", Released("shadow", "a"))
    assert [c.verb for c in desk.calls()] == ["undo"]


def test_a_release_that_fails_at_one_target_is_asked_again_for_that_one() -> None:
    desk = begin(step("cut", "both", contains=True))
    desk.settle_all(FOUND)
    desk.happen("INC-1", Released("cut", "a"))
    first, second = desk.calls()
    desk.settle(first, FOUND)
    assert str(desk.incidents["INC-1"].containment) == "partial"
    desk.settle(second, NO)
    assert desk.status("cut") == "failed"
    desk.happen("INC-1", Released("cut", "a"))
    assert [c.target for c in desk.calls()] == [second.target]
    desk.settle_all(FOUND)
    assert desk.status("cut") == "released"


def test_a_release_is_asked_again_while_it_is_under_way_at_another_target() -> None:
    desk = begin(step("cut", "both", contains=True))
    desk.settle_all(FOUND)
    desk.happen("INC-1", Released("cut", "a"))
    first, second = desk.calls()
    desk.settle(first, NO)
    desk.happen("INC-1", Released("cut", "a"))
    assert sorted(c.target for c in desk.calls()) == sorted((first.target, second.target))
    desk.settle_all(FOUND)
    assert desk.status("cut") == "released"


def test_a_cut_whose_release_failed_is_not_contained_any_more() -> None:
    desk = begin(step("shadow", contains=True))
    desk.settle_all(FOUND)
    assert str(desk.incidents["INC-1"].containment) == "contained"
    desk.happen("INC-1", Released("shadow", "a"))
    desk.settle_all(NO)
    assert str(desk.incidents["INC-1"].containment) != "contained"
    desk.happen("INC-1", Overridden("shadow", "a", accept=False))
    desk.settle_all(FOUND)
    assert str(desk.incidents["INC-1"].containment) == "contained"


def test_a_cut_that_found_nothing_has_nothing_to_release() -> None:
    desk = begin(step("cut", "none", contains=True))
    assert str(desk.incidents["INC-1"].containment) == "contained"
    assert desk.refuses("INC-1", Released("cut", "a")) == "not_held"


def test_what_cannot_be_undone_is_not_released() -> None:
    desk = begin(step("cut", "lock", contains=True))
    desk.settle_all(FOUND)
    assert desk.refuses("INC-1", Released("cut", "a")) == "not_undoable"


def test_a_cut_that_a_person_stopped_waiting_for_may_still_come_true_and_be_released() -> None:
    desk = begin(SHADOW)
    desk.happen("INC-1", Overridden("shadow", "a", accept=True))
    assert desk.status("shadow") == "cancelled"
    desk.settle("shadow", FOUND)
    assert str(desk.incidents["INC-1"].containment) == "contained"
    desk.happen("INC-1", Released("shadow", "a"))
    desk.settle_all(FOUND)
    assert desk.status("shadow") == "released"


def test_below_its_grade_is_partial() -> None:
    desk = begin(replace(SHADOW, require=Grade.EFFECT))
    desk.settle("shadow", Done(Grade.CONFIG, undo={}))
    assert str(desk.incidents["INC-1"].containment) == "partial"


# The end ----------------------------------------------------------------------------------------------------------


def test_resolving_cancels_what_has_not_begun_and_follows_cuts_to_their_end() -> None:
    desk = begin(SHADOW, replace(DISABLE, approval=BOTH), step("work"), step("next", after=("work",)))
    (work,) = desk.calls("work")
    click = approve(desk, "disable", "a", "security_team")
    desk.happen("INC-1", StatusChanged(Status.RESOLVED, "a"))
    assert [desk.status(name) for name in ("shadow", "disable", "work", "next")] == ["running", *["cancelled"] * 3]
    assert not desk.incidents["INC-1"].wants(work.id)
    assert desk.refuses("INC-1", click) == "closed"
    assert desk.refuses("INC-1", Overridden("disable", "a")) == "already_over"
    desk.settle("shadow", FOUND)
    assert desk.status("shadow") == "done"
    late = ActionSettled(work.id, "work", work.call, work.verb, FOUND)
    desk.happen("INC-1", late)  # it was under way: that is on the record, and starts nothing
    assert desk.status("next") == "cancelled"


def test_a_late_answer_of_a_call_that_was_run_again_is_recorded_once_and_changes_nothing() -> None:
    desk = begin(step("work"))
    (old,) = desk.calls()
    desk.happen("INC-1", Overridden("work", "a"))
    before = desk.incidents["INC-1"]
    assert not before.wants(old.id)
    settled = ActionSettled(old.id, "work", old.call, old.verb, NO)
    assert desk.happen("INC-1", settled) == ()
    assert desk.incidents["INC-1"].steps == before.steps
    assert desk.refuses("INC-1", settled) == "already_settled"


def drafts(desk: Desk) -> list[str]:
    found = [d for entry in desk.entries["INC-1"] for d in entry.decisions if isinstance(d, DraftDocument)]
    return [draft.kind for draft in found]


def test_papers_are_drafted_when_containment_settles_and_at_the_end() -> None:
    desk = begin(SHADOW)
    assert drafts(desk) == []
    desk.settle("shadow", FOUND)
    assert drafts(desk) == ["internal-brief", "customer-initial"]
    desk.happen("INC-1", StatusChanged(Status.RESOLVED, "a"))
    assert drafts(desk) == ["internal-brief", "customer-initial", "postmortem"]


def test_papers_are_drafted_when_they_are_due_at_the_latest_and_not_for_a_false_alarm() -> None:
    desk = begin(SHADOW, runbook=RUNBOOK)
    desk.forward(60)
    assert drafts(desk) == ["internal-brief", "customer-initial"]
    false = begin(SHADOW)
    false.happen("INC-1", StatusChanged(Status.FALSE_POSITIVE, "a"))
    false.settle("shadow", FOUND)
    assert drafts(false) == []


def test_a_hold_that_failed_half_way_is_undone_by_its_release():
    """The mode stands at one gateway and not at the other: the step failed, and yet there is something to take back."""
    at = datetime(2026, 1, 5, 10, tzinfo=UTC)
    hold = Hold("INC-1", "shadow", "agent.set_mode", {"agent": "7"}, "agents", 2, 5.0, attempts=1)
    target, (run,) = containment.advance(containment.Target("agent:7"), HoldPlaced("agent:7", hold, "0:agent:7"), at)
    failed = Failed(retryable=False, why="one of two", undo={"previous": "active"})
    settled = ActionSettled(run.id, "shadow", "0:agent:7", Verb.RUN, failed)
    target, decisions = containment.advance(target, settled, at)
    assert decisions == ()
    target, (undo,) = containment.advance(target, HoldReleased("agent:7", "INC-1", "shadow", "lead"), at)
    assert (undo.verb, undo.undo) == (Verb.UNDO, {"previous": "active"})
