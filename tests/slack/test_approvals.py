"""What an approver is told, and the form that asks for a code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bot.domain.agent import VaultIdentity
from bot.domain.approval import Approval, ApprovalState
from bot.domain.events import AgentResolved, ApprovalGiven, ApprovalRefused, Posted
from bot.domain.expression import Item, ListOf, Literal, Name, Template
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.playbook import ApprovalRule, Call, OnError, Playbook, Stage
from bot.errors import Refused
from bot.sandbox.blocks import button, view_problems
from bot.slack.approvals import code_form, request
from bot.slack.standing import Crowd
from tests.domain.incidents import AGENT, HOSTILE, PLAYBOOK, Story, begin, step
from tests.slack.test_blocks import ACTIVE, check, shown, texts

CROWD = Crowd()
TWO = ApprovalRule({"security_team": 1, "infra_owner": 1}, step_up="totp")
WORDS = {"intent": "End it", "impact": "Others wait", "cost": "12 EUR", "policy": "modify-infra"}
BACK = Call("http.call", {"path": Template(Literal("/forward")), "agent": Template(Item(Name("agent"), Literal("id")))})


def book(**changes: Any) -> Playbook:
    cut = replace(PLAYBOOK.steps["quarantine"], **changes)
    return replace(PLAYBOOK, steps={"quarantine": cut})


def asked(story: Story) -> Approval:
    return story.incident.approvals[story.request("quarantine")]


def test_a_request_is_confirmed_with_context() -> None:
    story = begin(book(**WORDS, contains=False, rollback=BACK))
    made = request(story.incident, asked(story), CROWD)
    check(made)
    for part in (
        "*Intent:* End it\n*What it does:* `aws.iam_deny_all`",
        "Scope, frozen: 1 target",
        "`iam-role:agent-7` through `aws`",
        "*Impact:* Others wait. By the plan: changes iam-role of agent-7.",
        '*Rollback:* `http.call`, `{"agent": "agent-7", "path": "/forward"}`',
        "*Cost:* 12 EUR",
        "policy modify-infra",
        "Until 12:10:00 UTC; undecided by then, it counts as refused.",
    ):
        assert part in shown(made)


def test_what_the_author_left_out_is_said_to_be_missing() -> None:
    story = begin(book())
    words = shown(request(story.incident, asked(story), CROWD))
    assert "*Cost:* not stated" in words
    assert "policy not stated" in words
    assert "*Intent:* not stated" in words
    assert "*Rollback:* a release restores what stood before" in words


@pytest.mark.parametrize("word", WORDS)
def test_the_hash_covers_the_words(word: str) -> None:
    one, other = begin(book(**WORDS)), begin(book(**{**WORDS, word: "something else"}))
    assert asked(one).hash != asked(other).hash


def test_where_a_code_is_asked_the_click_alone_does_not_count() -> None:
    story = begin(book(approval=TWO))
    made = request(story.incident, asked(story), CROWD)
    check(made)
    assert button(made.blocks, "approve")["text"]["text"] == "Approve with a code"
    assert "Each gives a TOTP code with it." in shown(made)
    yes = ApprovalGiven(asked(story).request, "a", ("security_team",), asked(story).hash, "slack")
    with pytest.raises(Refused, match="asks for a TOTP code"):
        story.happen(yes)
    story.happen(replace(yes, proof="totp"))
    assert [who for who, _ in asked(story).given] == ["a"]


def test_the_form_for_the_code_shows_the_plan_and_harmless_text() -> None:
    story = begin(book(approval=TWO, **dict.fromkeys(WORDS, HOSTILE)), agent_uid=HOSTILE)
    view = code_form(story.incident, asked(story), "private")
    assert view_problems(view, "modal") == ()
    assert "Scope, frozen: 1 target" in str(view)
    for text in texts(view):
        assert not ACTIVE.search(text), text


def test_one_human_being_under_two_names_counts_once() -> None:
    story = begin(book(), initiator="owner-2")
    yes = ApprovalGiven(asked(story).request, "a", ("security_team", "infra_owner"), asked(story).hash)
    with pytest.raises(Refused, match="You started this incident"):
        story.happen(replace(yes, also=("owner-2",)))
    story.happen(yes)
    with pytest.raises(Refused, match="You approved this already"):
        story.happen(replace(yes, by="a-again", also=("a",)))


def test_a_changed_plan_asks_anew_and_the_old_message_says_so() -> None:
    story = begin(book())
    old = asked(story)
    moved = replace(AGENT, vault=VaultIdentity(entity_id="e-8"), id="agent-8")
    story.happen(AgentResolved(moved))
    new = asked(story)
    assert new.request != old.request
    assert new.hash != old.hash
    assert story.incident.approvals[old.request].state is ApprovalState.SUPERSEDED
    purposes = [entry.event.purpose for entry in story.entries if isinstance(entry.event, Posted)]
    edits = [purpose for purpose in purposes if purpose.startswith("request:")]
    assert edits == [f"request:{old.request}"]
    words = shown(request(story.incident, story.incident.approvals[old.request], CROWD))
    assert "SUPERSEDED: the plan changed" in words
    with pytest.raises(Refused, match="already superseded"):
        story.happen(ApprovalGiven(old.request, "a", ("security_team",), old.hash))


# Rollouts ---------------------------------------------------------------------------------------------------------

STAGED = replace(
    PLAYBOOK,
    steps={
        id: step(
            id,
            "aws.iam_deny_all",
            foreach=ListOf(tuple(map(Literal, range(5)))),
            approval=ApprovalRule({"infra_owner": 1}),
            stage=Stage(("1", "50%", "100%"), number),
            needs=needs,
        )
        for number, (id, needs) in enumerate((("patch@1", ()), ("patch@50%", ("patch@1",)), ("patch", ("patch@50%",))))
    },
)


def say(story: Story, name: str, *, yes: bool) -> None:
    run, groups = story.incident.steps[name], ("infra_owner",)
    event = ApprovalGiven(run.request, "a", groups, run.hash) if yes else ApprovalRefused(run.request, "a", groups)
    story.happen(event)


def calls(story: Story, name: str) -> list[str]:
    return [call.plan.name.partition(":")[0] for call in story.incident.steps[name].calls.values()]


def test_a_rollout_asks_at_each_milestone() -> None:
    story = begin(STAGED)
    assert [a.step for a in story.incident.approvals.values()] == ["patch@1"]
    words = shown(request(story.incident, story.incident.approvals[story.request("patch@1")], CROWD))
    assert "*Stage 1 of 3:* up to 1 of the list; a refusal stops the rest and leaves what is done" in words
    done = Done(Grade.CONFIG, {})
    for name, numbers in (("patch@1", ["0"]), ("patch@50%", ["1", "2"]), ("patch", ["3", "4"])):
        assert calls(story, name) == numbers
        assert story.incident.steps[name].status == "awaiting_approval"
        say(story, name, yes=True)
        for _ in numbers:
            story.settle(name, done)
        assert story.incident.steps[name].status == "done"
    hashes = [a.hash for a in story.incident.approvals.values()]
    assert len({*hashes}) == len(hashes) == 3


@pytest.mark.parametrize("on_error", OnError)
def test_a_refusal_stops_the_rest_and_leaves_what_is_done(on_error: OnError) -> None:
    steps = {id: replace(one, on_error=on_error, rollback=BACK) for id, one in STAGED.steps.items()}
    story = begin(replace(STAGED, steps=steps))
    say(story, "patch@1", yes=True)
    story.settle("patch@1", Done(Grade.CONFIG, {}))
    say(story, "patch@50%", yes=False)
    assert [run.status for run in story.incident.steps.values()] == ["done", "refused", "skipped"]


@pytest.mark.parametrize("on_error", OnError)
def test_a_failed_stage_stops_the_rest(on_error: OnError) -> None:
    story = begin(replace(STAGED, steps={id: replace(one, on_error=on_error) for id, one in STAGED.steps.items()}))
    say(story, "patch@1", yes=True)
    story.settle("patch@1", Failed(False, "no"))
    assert [run.status for run in story.incident.steps.values()] == ["failed", "skipped", "skipped"]
    assert len(story.incident.approvals) == 1
