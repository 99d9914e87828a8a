"""Steps that wait for another's proof: left out when it comes, run when it does not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.domain.containment import Containment
from bot.domain.decisions import PageKind
from bot.domain.events import Overridden, Released, Status, StatusChanged
from bot.domain.incident import StepStatus
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Unknown
from bot.domain.playbook import ApprovalRule, Playbook, Rung
from tests.domain.desk import Desk, playbook, step

MINUTE = timedelta(seconds=60)
PROVED, BELOW = Done(Grade.EFFECT, undo={}), Done(Grade.CONFIG, undo={})


def book(**changes: object) -> Playbook:
    shadow = step(
        "shadow",
        "mode",
        {"level": 2},
        contains=True,
        require=Grade.EFFECT,
        unproved=MINUTE,
        **changes.pop("shadow", {}),
    )
    revoke = step("revoke", "deny", contains=True, irreversible=True, unless="shadow")
    return playbook(shadow, revoke, **changes)


def statuses(desk: Desk) -> tuple[StepStatus, StepStatus]:
    steps = desk.incidents["INC-1"].steps
    return steps["shadow"].status, steps["revoke"].status


def unproved(desk: Desk) -> int:
    return sum(page.reason == "unproved:shadow" for page in desk.pages(PageKind.FAILURE))


def test_proof_in_time_leaves_the_rest_out_and_is_containment() -> None:
    desk = Desk()
    desk.open(book())
    assert statuses(desk) == (StepStatus.RUNNING, StepStatus.WAITING)
    assert not desk.calls("revoke")
    desk.settle("shadow", PROVED)
    assert statuses(desk) == (StepStatus.DONE, StepStatus.LEFT_OUT)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED
    assert "unproved:shadow" not in desk.incidents["INC-1"].timers
    desk.forward(2)
    assert not desk.calls("revoke")
    assert unproved(desk) == 0


@pytest.mark.parametrize("outcome", [BELOW, Failed(False, "the canary passed", {}), Unknown("who knows")])
def test_what_settles_without_proof_runs_the_rest_at_once_and_people_hear_of_it(outcome: Outcome) -> None:
    desk = Desk()
    desk.open(book())
    desk.settle("shadow", outcome)
    assert desk.calls("revoke")
    assert desk.pages(PageKind.FAILURE)
    assert "unproved:shadow" not in desk.incidents["INC-1"].timers
    desk.settle("revoke", BELOW)
    assert desk.incidents["INC-1"].steps["revoke"].status is StepStatus.DONE


def test_the_deadline_runs_the_rest_and_the_first_step_goes_on() -> None:
    desk = Desk()
    desk.open(book())
    desk.settle("shadow", Pending(desk.now + timedelta(minutes=10), why="an instance is silent"))
    desk.forward(0.9)
    assert not desk.calls("revoke")
    desk.forward(0.2)
    assert desk.calls("revoke")
    assert unproved(desk) > 0
    paged = unproved(desk)
    desk.settle("revoke", BELOW)
    desk.forward(10)
    desk.settle("shadow", PROVED)
    assert statuses(desk) == (StepStatus.DONE, StepStatus.DONE)
    assert unproved(desk) == paged
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED


def test_nobody_tried_so_nothing_is_revoked_and_nothing_is_contained() -> None:
    desk = Desk()
    approval = ApprovalRule({"lead": 1})
    desk.open(book(shadow={"approval": approval}))
    assert statuses(desk) == (StepStatus.AWAITING_APPROVAL, StepStatus.WAITING)
    desk.forward(5)
    assert statuses(desk)[1] is StepStatus.WAITING  # its clock starts with its first call
    desk.happen("INC-1", StatusChanged(Status.FALSE_POSITIVE, "a"))
    assert not desk.calls("revoke")


def test_a_person_who_takes_it_as_it_is_needs_no_revocation() -> None:
    desk = Desk()
    desk.open(book())
    desk.happen("INC-1", Overridden("shadow", "a", accept=True))
    assert statuses(desk)[1] is StepStatus.LEFT_OUT


def test_released_before_its_proof_it_is_no_question_any_more() -> None:
    desk = Desk()
    desk.open(book())
    desk.settle("shadow", PROVED)
    desk.happen("INC-1", Released("shadow", "a"))
    desk.forward(3)
    assert not desk.calls("revoke")


def test_observing_says_both() -> None:
    desk = Desk()
    desk.open(book(rung=Rung.OBSERVE))
    assert statuses(desk) == (StepStatus.OBSERVED, StepStatus.OBSERVED)
    assert unproved(desk) == 0
