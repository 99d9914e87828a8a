"""Who is paged, to the minute: the matrix of A7, acknowledgements, the containment clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.domain.decisions import Page, PageKind, Post
from bot.domain.escalation import Contact, Level, Matrix
from bot.domain.events import Acknowledged, Overridden, PageSent, Status, StatusChanged, Timers, Unacknowledged
from bot.domain.outcome import Done, Failed, Grade, Pending, Unknown
from tests.domain.desk import Desk, call, minutes, playbook, step
from tests.domain.incidents import MATRIX, ROSTER, RUNBOOK

EXPOSURE = Matrix(
    "data_exposure",
    "m" * 64,
    (
        Level("Security Ops", ("security_ops",), minutes(0), minutes(10)),
        Level("DPO", ("dpo",), minutes(10), minutes(30)),
        Level("Legal and Executive", ("legal", "executive"), minutes(30), minutes(60)),
    ),
)
EXPOSED = {
    "security_ops": (Contact("secops-1", ("slack",)),),
    "dpo": (Contact("dpo-1", ("email",)),),
    "legal": (Contact("legal-1", ("email",)),),
    "executive": (Contact("exec-1", ("email",)),),
    "sre": (Contact("responder-1", ("slack",)),),
}
FOUND = Done(Grade.EFFECT, undo={"was": 0})
CONTAINING = playbook(step("shadow", "mode", {"level": 2}, contains=True))
PATIENT = Timers(containment=10**9)  # the second clock stays out of the way


def opened(**changes: Any) -> Desk:
    desk = Desk()
    desk.open(**{"runbook": None, "timers": PATIENT, **changes})
    return desk


def by_minute(desk: Desk, until: int) -> dict[int, list[str]]:
    """Minute -> who is paged in it."""
    paged: dict[int, list[str]] = {}
    for minute in range(until + 1):
        if people := [person for person, _ in desk.send()]:
            paged[minute] = people
        desk.forward(1)
    return paged


def test_an_unintended_production_change_to_the_minute() -> None:
    sre, security, cto = "responder-1", "security-1", "cto-1"
    everybody = sorted(("responder-1", "security-1", "cto-1", "secops-1", "product-1"))
    assert by_minute(opened(), 64) == {
        **{minute: [sre] for minute in (0, 5, 10)},
        **{minute: [sre, security] for minute in (15, 20, 25)},
        **{minute: [cto, sre, security] for minute in (30, 35, 40, 45, 50, 55)},
        60: everybody,
    }


def test_a_data_exposure_to_the_minute() -> None:
    desk = opened(matrix=EXPOSURE, roster=EXPOSED)
    third = sorted(("secops-1", "dpo-1", "legal-1", "exec-1"))
    assert by_minute(desk, 60) == {
        **{minute: ["secops-1"] for minute in (0, 5)},
        **{minute: ["dpo-1", "secops-1"] for minute in (10, 15, 20, 25)},
        **dict.fromkeys((30, 35, 40, 45, 50, 55), third),
        60: sorted(EXPOSED[role][0].person for role in EXPOSED),
    }


def test_nine_repeats_after_the_last_breach_then_hourly() -> None:
    minute = sorted(by_minute(opened(), 300))
    assert [m for m in minute if m > 60] == [*range(65, 110, 5), 165, 225, 285]


def test_the_clock_counts_from_the_opening_however_late_it_is_looked_at() -> None:
    desk = opened()
    desk.send()
    desk.sleep(7.5)
    assert desk.send() == [("responder-1", (0,))]
    desk.forward(2.5)
    assert desk.send() == [("responder-1", (0,))]
    desk.forward(5)
    assert desk.send() == [("responder-1", (0,)), ("security-1", (1,))]


def test_after_a_night_one_page_a_person_that_lists_the_levels_and_knows_how_late_it_is() -> None:
    two_hats = {**ROSTER, "cto": (Contact("responder-1", ("slack",)),)}
    desk = opened(roster=two_hats)
    desk.send()
    desk.sleep(8 * 60)
    pages = desk.pages()
    assert sorted((page.person, page.levels) for page in pages) == [
        ("product-1", (2,)),
        ("responder-1", (0, 2)),
        ("secops-1", (2,)),
        ("security-1", (1,)),
    ]
    assert {desk.now - page.due for page in pages} == {minutes(8 * 60 - 5)}
    desk.wake()
    assert desk.pages() == pages


def test_an_ack_stops_pages_and_takes_back_those_that_have_not_left() -> None:
    desk = opened()
    (page,) = desk.pages()
    desk.happen("INC-1", Acknowledged("responder-1", "slack"))
    assert desk.pages() == []
    assert not desk.incidents["INC-1"].wants(page.id)
    assert desk.refuses("INC-1", Acknowledged("responder-1", "link")) == "already_acknowledged"
    assert by_minute(desk, 29) == {}


def test_a_page_in_flight_at_the_ack_is_still_told() -> None:
    desk = opened()
    (page,) = desk.pages()
    desk.happen("INC-1", Acknowledged("responder-1", "slack"))
    sent = PageSent(page.id, page.key, page.person, page.way)
    desk.happen("INC-1", sent)
    assert desk.refuses("INC-1", sent) == "already_settled"


def test_an_ack_that_runs_out_pages_the_levels_that_are_reached_by_then() -> None:
    desk = opened(timers=replace(PATIENT, ack_ttl=20 * 60))
    desk.send()
    desk.happen("INC-1", Acknowledged("responder-1", "slack"))
    desk.forward(19)
    assert desk.send() == []
    desk.forward(1)
    assert desk.send() == [("responder-1", (0,)), ("security-1", (1,))]
    assert desk.incidents["INC-1"].acked_by == ""


@pytest.mark.parametrize("minute", [1, 110])
def test_an_ack_taken_back_pages_at_once_even_between_two_rounds(minute: int) -> None:
    desk = opened(roster={"sre": ROSTER["sre"]})
    desk.sleep(minute)
    desk.send()
    desk.happen("INC-1", Acknowledged("responder-1", "slack"))
    desk.forward(0.5)
    desk.happen("INC-1", Unacknowledged("responder-1", "slack"))
    assert [person for person, _ in desk.send()] == ["responder-1"]


@pytest.mark.parametrize("nobody", [(), (Contact("responder-1", ()),)])
def test_an_empty_level_hands_over_at_once_and_brings_no_later_one_forward(nobody: tuple[Contact, ...]) -> None:
    desk = opened(roster={**ROSTER, "sre": nobody})
    assert by_minute(desk, 30) == {
        **{minute: ["security-1"] for minute in range(0, 30, 5)},
        30: ["cto-1", "security-1"],
    }


def test_where_nobody_is_on_any_level_everybody_is_paged_at_once() -> None:
    desk = Desk(eager=False)
    desk.open(runbook=None, timers=PATIENT, roster={"product_owner": ROSTER["product_owner"]})
    said = [d.purpose for _, d in desk.queue.values() if isinstance(d, Post)]
    assert said[:3] == ["nobody_on_call:SRE", "nobody_on_call:Head of Security", "nobody_on_call:CTO on call"]
    assert desk.send() == [("product-1", (2,))]


def test_a_way_that_fails_is_followed_by_the_next_and_a_level_by_the_next_level() -> None:
    desk = opened()
    (slack,) = desk.pages()
    desk.fail(slack)
    (mail,) = desk.pages()
    assert (mail.person, mail.way, mail.round) == ("responder-1", "email", slack.round)
    desk.fail(mail)
    assert [page.person for page in desk.pages()] == ["security-1"]
    desk.fail(desk.pages()[0])
    desk.fail(desk.pages()[0])
    assert sorted(page.person for page in desk.pages()) == ["product-1", "secops-1"]


def test_an_unreachable_upper_level_hands_over_though_a_lower_one_was_reached() -> None:
    desk = opened()
    desk.send()
    desk.sleep(15)
    security = next(page for page in desk.pages() if page.person == "security-1")
    desk.fail(security)
    assert [page.person for page in desk.pages()] == ["responder-1", "cto-1"]


def test_a_failed_page_after_the_end_or_an_ack_is_not_followed_by_another() -> None:
    for end in (StatusChanged(Status.RESOLVED, "a"), Acknowledged("a", "slack")):
        desk = opened()
        (page,) = desk.pages()
        desk.happen("INC-1", end)
        desk.queue[page.id] = ("INC-1", page)
        desk.fail(page)
        assert desk.pages(None) == []


def test_resolving_stops_the_matrix_and_opening_again_starts_it_from_the_same_opening() -> None:
    desk = opened()
    desk.forward(4)
    desk.happen("INC-1", Acknowledged("responder-1", "slack"))
    desk.happen("INC-1", StatusChanged(Status.RESOLVED, "responder-1"))
    assert desk.next_moment() is None
    desk.forward(27)
    desk.happen("INC-1", StatusChanged(Status.INVESTIGATING, "responder-1"))
    assert [person for person, _ in desk.send()] == ["cto-1", "responder-1", "security-1"]


# The second clock -------------------------------------------------------------------------------------------------


def containing(**changes: Any) -> Desk:
    desk = Desk()
    desk.open(CONTAINING, **{"runbook": None, "timers": Timers(containment=15 * 60, ack_ttl=86400), **changes})
    desk.send()
    return desk


def clock(desk: Desk) -> list[str]:
    return [person for person, _ in desk.send(PageKind.CONTAINMENT)]


def test_the_containment_clock_pages_whoever_acked_first_and_then_everybody_reached() -> None:
    desk = containing()
    desk.happen("INC-1", Acknowledged("cto-1", "slack"))
    desk.forward(14)
    assert clock(desk) == []
    desk.forward(1)
    assert clock(desk) == ["cto-1"]
    desk.forward(5)
    assert clock(desk) == ["cto-1", "responder-1", "security-1"]
    desk.forward(5)
    assert clock(desk) == ["cto-1", "responder-1", "security-1"]


def test_a_night_away_is_one_containment_page_a_person() -> None:
    desk = containing()
    desk.sleep(600)
    assert len(clock(desk)) == len(set(MATRIX.roles))


def test_containment_stops_its_clock_for_good_also_when_people_release_later() -> None:
    desk = containing()
    desk.forward(15)
    (page,) = desk.pages(PageKind.CONTAINMENT)[:1]
    desk.settle("shadow", FOUND)
    assert desk.pages(PageKind.CONTAINMENT) == []
    assert not desk.incidents["INC-1"].wants(page.id)
    assert "containment" not in desk.incidents["INC-1"].timers


def test_an_override_stops_it_and_another_try_does_not() -> None:
    desk = containing()
    desk.settle("shadow", Unknown("lost"))
    desk.happen("INC-1", Overridden("shadow", "a"))
    desk.settle("shadow", Failed(False, "denied"))
    desk.forward(15)
    assert clock(desk)
    desk.happen("INC-1", Overridden("shadow", "a", accept=True))
    desk.forward(60)
    assert clock(desk) == []
    assert str(desk.incidents["INC-1"].containment) == "partial"


def test_opening_again_what_was_never_contained_starts_the_clock_again() -> None:
    desk = containing()
    desk.settle("shadow", Failed(False, "denied"))
    desk.happen("INC-1", StatusChanged(Status.RESOLVED, "a"))
    desk.forward(60)
    assert clock(desk) == []
    desk.happen("INC-1", StatusChanged(Status.INVESTIGATING, "a"))
    desk.forward(5)
    assert clock(desk)


# What else needs a person -----------------------------------------------------------------------------------------


def failures(desk: Desk) -> set[tuple[str, str]]:
    return {(page.person, page.reason) for page in desk.pages(PageKind.FAILURE)}


@pytest.mark.parametrize("outcome", [Failed(False, "denied"), Unknown("lost")])
def test_a_containing_step_that_ends_badly_pages_though_it_is_acked(outcome: Failed | Unknown) -> None:
    desk = containing()
    desk.happen("INC-1", Acknowledged("cto-1", "slack"))
    desk.settle("shadow", outcome)
    assert failures(desk) == {("cto-1", "step:shadow"), ("responder-1", "step:shadow")}


def test_a_trigger_that_errs_pages() -> None:
    assert failures(opened(trigger_errors=("other",))) == {("responder-1", "trigger_error")}


def test_on_failure_pages_once_also_where_there_is_something_to_roll_back() -> None:
    desk = Desk()
    book = playbook(
        step("mend", rollback=call("undo_work")),
        step("first", after=("mend",)),
        step("second", after=("mend",)),
        on_failure=(call("page.escalate"),),
    )
    desk.open(book, runbook=None)
    desk.settle("mend", FOUND)
    desk.settle("first", Failed(False, "no"))
    assert failures(desk) == {("responder-1", "on_failure")}
    desk.settle("second", Failed(False, "no"))
    assert len(desk.pages(PageKind.FAILURE)) == 1
    desk.settle("rollback:mend", Failed(False, "no"))
    assert failures(desk) == {("responder-1", "on_failure"), ("responder-1", "step:rollback:mend")}


def test_notices_leave_whatever_was_acked_or_resolved_and_the_review_is_still_asked_for() -> None:
    desk = Desk()
    desk.open(runbook=RUNBOOK, notify=("sre", "cto"))
    assert [notice.person for notice in desk.notices()] == ["responder-1", "cto-1"]
    desk.happen("INC-1", Acknowledged("responder-1", "slack"))
    desk.happen("INC-1", StatusChanged(Status.RESOLVED, "responder-1"))
    assert len(desk.notices()) == 2
    assert desk.pages(None) == []
    desk.forward(timedelta(hours=73) / timedelta(minutes=1))
    assert [notice.topic for notice in desk.notices()] == ["opened", "opened", "phase:review"]


def test_waiting_for_a_system_that_is_away_pages_by_the_clock_only() -> None:
    desk = containing()
    for _ in range(40):
        desk.settle("shadow", Pending(desk.now, why="away", unavailable=True))
        desk.forward(0.5)
    assert failures(desk) == set()
    assert clock(desk)
    assert isinstance(desk.calls()[0].so_far, type(None))


def test_page_keys_name_incident_kind_level_round_person_and_way() -> None:
    desk = opened()
    keys = set()
    for _ in range(100):
        pages: list[Page] = desk.pages()
        assert not keys & {page.key for page in pages}
        keys |= {page.key for page in pages}
        desk.send()
        desk.forward(1)
    assert "INC-1/escalation/2/3/security-1/slack" in keys


def test_a_playbook_whose_time_is_over_pages_for_what_it_left_undone() -> None:
    desk = opened(book=playbook(step("mend"), step("then", after=("mend",)), timeout=minutes(20)))
    desk.happen("INC-1", Acknowledged("security-1", "cli"))
    desk.forward(19)
    assert not reasons(desk, "run")
    desk.forward(2)
    paged = {(page.person, page.reason) for page in reasons(desk, "run")}
    assert paged == {("security-1", "run:mend,then"), ("responder-1", "run:mend,then")}


def test_a_playbook_that_ended_in_time_pages_nobody_later() -> None:
    desk = opened(book=playbook(step("mend"), timeout=minutes(20)))
    desk.settle("mend", FOUND)
    desk.forward(60)
    assert not reasons(desk, "run")


def reasons(desk: Desk, kind: str) -> list[Page]:
    made = [decision for entries in desk.entries.values() for entry in entries for decision in entry.decisions]
    return [one for one in made if isinstance(one, Page) and one.reason.partition(":")[0] == kind]
