"""Clicks in every order: acknowledge against resolve, approve against refuse, expiry and a plan that changes meanwhile.

The model beside it knows nothing of `missing`: it tries every way to seat persons in the groups that are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import permutations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bot.domain.agent import Agent
from bot.domain.approval import Approval, ApprovalState
from bot.domain.events import (
    Acknowledged,
    AgentResolved,
    ApprovalGiven,
    ApprovalRefused,
    Event,
    Released,
    Status,
    StatusChanged,
    Unacknowledged,
)
from bot.domain.incident import Incident, StepStatus, fold
from bot.domain.playbook import ApprovalRule, OnTimeout, Playbook
from bot.errors import Refused
from tests.domain.incidents import AGENT, DENIED, PLAYBOOK, Story, begin

GROUPS: Mapping[str, tuple[str, ...]] = {
    "sec-1": ("security_team",),
    "sec-2": ("security_team",),
    "infra-1": ("infra_owner",),
    "both-1": ("infra_owner", "security_team"),
    "other-1": ("legal",),
    "owner-2": ("infra_owner", "security_team"),  # the initiator
}
ALSO = {"sec-2": ("sec-1",), "sec-1": ("sec-2",)}  # one human being, two ids
STEP = "quarantine"
RULES = (
    ApprovalRule({"security_team": 1, "infra_owner": 1}, timedelta(minutes=10), OnTimeout.REFUSE),
    ApprovalRule({"security_team": 1, "infra_owner": 1}, timedelta(minutes=10), OnTimeout.ESCALATE),
    ApprovalRule({"security_team|infra_owner": 2}, timedelta(minutes=10), OnTimeout.REFUSE, step_up="totp"),
)
PERSONS = st.sampled_from([*GROUPS])
MOSTLY_NONE = st.sampled_from((0, 0, 0, 0, 1))
CLICKS = st.tuples(PERSONS, MOSTLY_NONE, MOSTLY_NONE, st.sampled_from(("totp", "totp", "")))


def human_being(person: str) -> str:
    return min((person, *ALSO.get(person, ())))


def quorum(each: Mapping[str, int], persons: list[str]) -> bool:
    """Every seat is taken by somebody of its group, and nobody sits twice."""
    seats = [group.split("|") for group, count in each.items() for _ in range(count)]
    human = [*{human_being(person): person for person in persons}.values()]
    return any(
        all({*seat} & {*GROUPS[who]} for seat, who in zip(seats, order, strict=True))
        for order in permutations(human, len(seats))
    )


class Room(RuleBasedStateMachine):
    story: Story
    book: Playbook

    @initialize(rule=st.sampled_from(RULES))
    def opens(self, rule: ApprovalRule) -> None:
        steps = {**PLAYBOOK.steps, STEP: replace(PLAYBOOK.steps[STEP], approval=rule)}
        self.book = replace(PLAYBOOK, steps=steps)
        self.another()

    @precondition(lambda self: self.asked.state is not ApprovalState.OPEN and self.asked not in self.screens)
    @rule()
    def another(self) -> None:
        """The one before was decided: from the start."""
        self.story, self.agents = begin(self.book), 0
        self.screens = [self.asked]  # every request as it was shown at some time

    @property
    def incident(self) -> Incident:
        return self.story.incident

    @property
    def asked(self) -> Approval:
        return self.incident.approvals[self.story.request(STEP)]

    # What people and time do ------------------------------------------------------------------------------------

    @rule(clicks=st.lists(CLICKS, min_size=1, max_size=8))
    def approve(self, clicks: list[tuple[str, int, int, str]]) -> None:
        for person, which, seen, proof in clicks:
            self.approves(person, self.screens[-1 - which % len(self.screens)], self.hash_of(which + seen), proof)

    def hash_of(self, which: int) -> str:
        return self.screens[-1 - which % len(self.screens)].hash

    def approves(self, person: str, screen: Approval, hash: str, proof: str) -> None:
        event = ApprovalGiven(screen.request, person, GROUPS[person], hash, "slack", ALSO.get(person, ()), proof)
        before = self.incident.approvals[screen.request]
        why = self.click(event)
        after = self.incident.approvals[screen.request]
        match why:
            case None:
                assert before.state is ApprovalState.OPEN
                assert after.given == (*before.given, (person, GROUPS[person]))
                assert not before.step_up or proof == before.step_up
            case Refused(code="closed"):
                assert before.state is not ApprovalState.OPEN
                assert f"already {before.state}" in str(why)
            case Refused(code="already_given"):
                assert {person, *ALSO.get(person, ())} & {who for who, _ in before.given}
            case Refused(code="own_request"):
                assert person == "owner-2"
            case Refused(code="not_an_approver"):
                assert person == "other-1"
            case Refused(code="plan_changed"):
                assert before.hash != hash
            case Refused(code="proof_needed"):
                assert before.step_up
                assert proof != before.step_up
            case _:
                raise AssertionError(why)

    @rule(person=PERSONS, which=MOSTLY_NONE)
    def refuses(self, person: str, which: int) -> None:
        screen = self.screens[-1 - which % len(self.screens)]
        before = self.incident.approvals[screen.request]
        why = self.click(ApprovalRefused(screen.request, person, GROUPS[person]))
        if why is None:
            assert before.state is ApprovalState.OPEN
            assert self.incident.approvals[screen.request].state is ApprovalState.REFUSED
        else:
            assert (why.code == "closed") is (before.state is not ApprovalState.OPEN)

    @rule(person=PERSONS)
    def acknowledges(self, person: str) -> None:
        before = self.incident
        why = self.click(Acknowledged(person, "slack"))
        if why is None:
            assert not before.over
            assert self.incident.acked_by == person
        elif before.over:
            assert (why.code, str(why)) == ("already_over", f"INC-7 is already {before.status}.")
        else:
            who = "you" if before.acked_by == person else before.acked_by
            assert str(why) == f"INC-7 is already acknowledged by {who}."

    @rule(person=PERSONS)
    def unacknowledges(self, person: str) -> None:
        was = self.incident.acked_by
        if self.click(Unacknowledged(person, "slack")) is None:
            assert was
            assert not self.incident.acked_by

    @rule(to=st.sampled_from((Status.RESOLVED, Status.RESOLVED, Status.INVESTIGATING, Status.FALSE_POSITIVE)))
    def says_how_it_stands(self, to: Status) -> None:
        self.click(StatusChanged(to, "commander-1"))

    @rule(minutes=st.integers(0, 6))
    def waits(self, minutes: int) -> None:
        self.changing(lambda: self.story.wait(timedelta(minutes=minutes)))

    @precondition(lambda self: not self.incident.over)
    @rule()
    def changes_the_plan(self) -> None:
        self.agents += 1
        changed: Agent = replace(AGENT, id=f"agent-{7 + self.agents % 3}")
        self.changing(lambda: self.story.happen(AgentResolved(changed)))
        self.screens.append(self.asked)

    @precondition(lambda self: self.incident.steps[STEP].status is StepStatus.RUNNING)
    @rule()
    def comes_back(self) -> None:
        self.changing(lambda: self.story.settle(STEP, DENIED))

    @precondition(lambda self: self.incident.steps[STEP].holding)
    @rule()
    def releases(self) -> None:
        self.click(Released(STEP, "commander-1"))

    # What always holds ------------------------------------------------------------------------------------------

    def click(self, event: Event) -> Refused | None:
        """None where it was recorded; a refusal leaves the record as it was, and says why in a sentence."""
        entries = len(self.story.entries)
        try:
            self.changing(lambda: self.story.happen(event))
        except Refused as refused:
            why = refused
        else:
            return None
        assert len(self.story.entries) == entries
        assert str(why).endswith(".")
        return why

    def changing(self, change: Callable[[], object]) -> None:
        before = self.incident.approvals
        change()
        for id, was in before.items():
            now = self.incident.approvals[id]
            if was.state is not ApprovalState.OPEN:
                assert (now.state, now.given) == (was.state, was.given), "no transition after a terminal one"
            assert now.given[: len(was.given)] == was.given, "what was said stays said"

    @invariant()
    def a_quorum_is_of_different_eligible_human_beings(self) -> None:
        for asked in self.incident.approvals.values():
            persons = [who for who, _ in asked.given]
            humans = {human_being(who) for who in persons}
            assert len(humans) == len(persons)
            assert not {"owner-2", "other-1"} & {*persons}
            assert quorum(asked.each, persons) is (asked.state is ApprovalState.GRANTED) or (
                asked.state is not ApprovalState.OPEN and not quorum(asked.each, persons)
            )

    @invariant()
    def nothing_of_it_runs_without_its_quorum(self) -> None:
        run = self.incident.steps[STEP]
        if run.status in (StepStatus.READY, StepStatus.RUNNING, StepStatus.DONE) and run.calls:
            asked = self.incident.approvals[run.request]
            assert asked.state is ApprovalState.GRANTED
            assert asked.hash == run.hash

    @invariant()
    def the_record_says_the_same(self) -> None:
        folded = fold(Incident("INC-7", self.story.frozen), self.story.entries)
        assert folded.approvals == self.incident.approvals
        assert folded.steps == self.incident.steps


TestRoom = Room.TestCase
TestRoom.settings = settings(max_examples=80, stateful_step_count=25, deadline=None, derandomize=True)
