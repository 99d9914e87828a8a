"""When it is looked at what an agent holds, and what the looks change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from bot.domain.agent import CHILDREN, Agent, delegates_of
from bot.domain.containment import Containment
from bot.domain.decisions import PageKind
from bot.domain.events import Phase, Status, StatusChanged
from bot.domain.expression import Item, Literal, Name
from bot.domain.outcome import Done, Grade
from bot.domain.reach import LISTED, Alive, Held, Reach, living_text, named, radius
from tests.domain.desk import Desk, playbook, step

GOT = Held("session", "AROA1:x", "aws", "agent-7", "role", alive=Alive.YES, chained=True, allowed=True)
DONE = Done(Grade.EFFECT)
CHAINED = step(
    "chained", "mode", {"name": Item(Name("item"), Literal("session"))}, contains=True,
    foreach=Item(Name("reach"), Literal("chained")),
)  # fmt: skip
OWN = step("own", "deny", contains=True)


def test_only_the_steps_that_read_it_wait_for_the_first_look() -> None:
    desk = Desk()
    desk.open(playbook(OWN, CHAINED))
    assert (desk.status("own"), desk.status("chained")) == ("running", "waiting")
    desk.settle("own", DONE)
    assert desk.incidents["INC-1"].containment is Containment.RUNNING, "what is to be cut is not known yet"
    desk.survey(GOT)
    desk.settle("chained", DONE)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED


def test_a_look_that_finds_nothing_or_nobody_leaves_the_verdict_to_the_others() -> None:
    desk = Desk()
    desk.open(playbook(OWN, CHAINED))
    desk.settle("own", DONE)
    desk.survey(replace(GOT, allowed=False), replace(GOT, id="b", alive=Alive.NO), unread=("aws: away",))
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED


def test_without_an_agent_nobody_looks_and_nothing_waits() -> None:
    desk = Desk()
    desk.open(playbook(CHAINED), agent=None)
    assert desk.surveys == {}
    assert desk.status("chained") != "waiting"


def test_it_is_looked_again_when_containment_settles_and_when_the_logs_have_caught_up() -> None:
    desk = Desk()
    desk.open(playbook(OWN))
    assert desk.survey().phase is Phase.BEFORE
    desk.settle("own", DONE)
    first = desk.survey()
    assert (first.phase, first.again_at) == (Phase.AFTER, desk.now + timedelta(minutes=15))
    desk.forward(14)
    assert desk.surveys == {}
    desk.forward(1)
    assert desk.survey().again_at is None
    desk.forward(600)
    assert desk.surveys == {}


def test_a_look_that_was_out_when_containment_settled_is_followed_by_another() -> None:
    desk = Desk()
    desk.open(playbook(OWN))
    desk.settle("own", DONE)
    assert len(desk.surveys) == 1
    assert desk.survey().phase is Phase.BEFORE
    assert desk.survey().phase is Phase.AFTER


def test_what_a_later_look_finds_is_cut_and_what_was_cut_stays_held() -> None:
    desk = Desk()
    desk.open(playbook(OWN, CHAINED))
    desk.survey(GOT)
    desk.settle("own", DONE)
    desk.settle("chained", DONE)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED
    late = replace(GOT, id="AROA1:late")
    desk.survey(late)
    assert desk.incidents["INC-1"].containment is Containment.RUNNING
    assert {one.target for one in desk.calls("chained")} == {"agent:AROA1:x", "agent:AROA1:late"}
    for sent in desk.calls("chained"):
        desk.settle(sent, DONE)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED
    held = [target.id for target in desk.targets.values() if target.held]
    assert {"agent:AROA1:x", "agent:AROA1:late"} <= {*held}


def test_children_are_found_once_however_they_delegate() -> None:
    agents = {
        "a": Agent("a", delegates=("b", "c", "gone")),
        "b": Agent("b", delegates=("c", "a")),
        "c": Agent("c", delegates=("b", "d")),
        "d": Agent("d"),
    }
    assert [child.id for child in delegates_of(agents["a"], agents.get)] == ["b", "c", "d"]
    many = {str(n): Agent(str(n), delegates=(str(n + 1),)) for n in range(200)}
    assert len(delegates_of(many["0"], many.get)) == CHILDREN


def test_the_radius_counts_everything_and_lists_the_worst() -> None:
    leases = [Held("lease", f"l{n:03}", "vault", "a", alive=Alive.YES) for n in range(500)]
    reach = Reach.of([*leases, GOT, GOT, Held("odd-thing", "x", "y", "a", alive=Alive.NO)], ["away"] * 3)
    assert (len(reach.held), reach.alive, reach.unread) == (LISTED, 501, ("away",))
    assert radius(reach) == "1 live session, 500 leases, 0 roles (+1 chained) and 1 odd thing"
    assert reach.held[0] == GOT
    assert living_text(reach, 1).endswith("and 500 more")
    assert radius(Reach()) == "nothing that could be found"
    assert named(GOT) == "live session AROA1:x of role, chained"


def test_the_best_known_of_two_sessions_of_one_name_counts() -> None:
    dead = replace(GOT, alive=Alive.NO, why="revoked")
    assert Reach.of([dead, GOT]).held == Reach.of([GOT, dead]).held == (GOT,)


UNCUT = replace(GOT, id="AROA2:x", of="other", allowed=False)


def test_people_are_paged_once_for_a_chained_session_that_may_not_be_cut_and_again_for_another() -> None:
    desk = Desk()
    desk.open(playbook(OWN))
    desk.survey(UNCUT)
    desk.settle("own", DONE)
    assert desk.pages(PageKind.FAILURE) == [], "before the cuts it is no news"
    desk.survey(UNCUT, GOT)
    first = desk.pages(PageKind.FAILURE)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED, "it is judged by its steps"
    assert {page.reason for page in first} == {"left_alive"}
    desk.send(PageKind.FAILURE)
    desk.forward(15)
    desk.survey(UNCUT)
    assert desk.pages(PageKind.FAILURE) == [], "nothing is new"


def test_another_session_that_is_found_later_pages_again_and_after_the_end_it_is_a_notice() -> None:
    desk, other = Desk(), replace(UNCUT, id="AROA2:y")
    desk.open(playbook(OWN), notify=("sre",))
    desk.survey()
    desk.settle("own", DONE)
    desk.survey(UNCUT)
    assert desk.send(PageKind.FAILURE)
    desk.forward(15)
    desk.survey(UNCUT, other)
    assert desk.send(PageKind.FAILURE)
    late = Desk()
    late.open(playbook(OWN), notify=("sre",))
    late.survey()
    late.settle("own", DONE)
    late.happen("INC-1", StatusChanged(Status.RESOLVED, "responder-1"))
    late.survey(UNCUT)
    assert late.pages(PageKind.FAILURE) == []
    assert [notice.topic.partition(":")[0] for notice in late.notices()][-1] == "left_alive"
