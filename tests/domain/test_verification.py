"""A cut is looked at again: it stands, it was taken away, it cannot be read, or it was used since."""

from __future__ import annotations

from datetime import timedelta

from bot.domain.containment import Containment
from bot.domain.decisions import PageKind, Post, RunAction
from bot.domain.events import Aftermath, Overridden, Released, Standing, Status, StatusChanged, Use, Verb, Verified
from bot.domain.outcome import Done, Failed, Grade, Pending
from tests.domain.desk import Desk, minutes, playbook, step

CHECKS = (minutes(1), minutes(5), minutes(15), minutes(60))
DENY = "iam-role:agent-7"


def cut(action: str = "deny", **changes: object) -> Desk:
    """One cut, in force and verified."""
    desk = Desk()
    desk.open(playbook(step("cut", action, {"level": 1}, contains=True), verify=CHECKS, **changes))
    desk.settle("cut", Done(Grade.CONFIG, undo={"was": 0}))
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED
    desk.send(None)
    return desk


def look(desk: Desk, standing: Standing, **found: object) -> Verified:
    sent = desk.calls()[0]
    assert sent.verb is Verb.VERIFY
    return desk.look(sent, standing, **({"grade": Grade.CONFIG} if standing is Standing.STANDS else {}), **found)


def reasons(desk: Desk) -> list[str]:
    return sorted({page.reason for page in desk.pages(PageKind.CONTAINMENT)})


def test_it_is_looked_at_on_its_deadlines_and_then_every_hour_until_released() -> None:
    desk = cut("mode")
    start, seen = desk.now, []
    while (at := desk.next_moment()) and at < start + minutes(200):
        desk.now = at
        desk.wake()
        for sent in desk.calls():
            seen.append((desk.now - start) // minutes(1))
            desk.look(sent, Standing.STANDS, grade=Grade.CONFIG)
    assert seen == [1, 5, 15, 60, 120, 180]
    desk.happen("INC-1", Released("cut", "a"))
    desk.settle("cut", Done(Grade.CONFIG))
    assert desk.targets["agent:agent-7"].next_deadline is None


def test_what_was_taken_away_is_put_back_and_people_are_paged_at_once() -> None:
    desk = cut()
    desk.forward(1)
    look(desk, Standing.LOST, why="the policy is gone")
    incident = desk.incidents["INC-1"]
    assert incident.containment is Containment.RUNNING
    assert "containment" in incident.timers
    assert reasons(desk) == ["undone:cut"]
    again = desk.calls()[0]
    assert (again.verb, again.key) == (Verb.RUN, again.id)  # a new run of the same hold
    desk.settle(again, Done(Grade.CONFIG))
    incident = desk.incidents["INC-1"]
    assert incident.containment is Containment.CONTAINED
    assert reasons(desk) == ["undone:cut"]  # not taken back: somebody fights
    assert incident.first_contained_at < incident.contained_at  # type: ignore[operator] # both are set
    assert desk.targets[DENY].controls["deny"].undo == {"was": 0}  # what the first call saved


def test_a_fight_goes_round_no_faster_than_the_first_deadline_and_pages_no_more_often_than_containment() -> None:
    desk = cut()
    rounds = pages = 0
    end = desk.now + minutes(30)
    while desk.now < end:
        desk.forward(0.5)
        for sent in desk.calls():
            if sent.verb is Verb.VERIFY:
                desk.look(sent, Standing.LOST)
            else:
                rounds += 1
                desk.settle(sent, Done(Grade.CONFIG))
        pages += len({page.round for page in desk.pages(PageKind.CONTAINMENT)})
        desk.send(None)
    assert 15 <= rounds <= 30
    assert pages <= 7  # every five minutes


def test_what_cannot_be_read_for_a_while_does_not_count_as_verified_until_it_can_be_again() -> None:
    desk = cut()
    desk.forward(1)
    for left in (2, 1, 0):
        look(desk, Standing.UNREAD, why="IAM denies the read")
        contained = desk.incidents["INC-1"].containment is Containment.CONTAINED
        assert contained is bool(left)
        desk.forward(0 if not left else 1)
    assert desk.incidents["INC-1"].containment is Containment.PARTIAL
    assert reasons(desk) == ["unread:cut"]
    assert not [d for d in desk.calls() if d.verb is Verb.RUN]  # nothing says that it is gone
    desk.forward(5)
    look(desk, Standing.STANDS)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED


def test_a_use_after_the_cut_is_apart_from_the_grade_and_stays_until_the_log_is_clean() -> None:
    desk = cut()
    start = desk.now
    while not (sent := _asks_the_log(desk)):
        desk.forward(1)
        for other in desk.calls():
            if not other.so_far:
                desk.look(other, Standing.STANDS, grade=Grade.CONFIG)
    assert desk.now - start >= minutes(15)
    use = Use(desk.now - minutes(3), "GetObject", "ASIA1")
    desk.look(sent, Standing.STANDS, grade=Grade.CONFIG, after=Aftermath(start, desk.now, 1, (use,)))
    assert reasons(desk) == ["used:cut"]
    desk.settle(desk.calls()[0], Done(Grade.CONFIG))  # cut again
    incident = desk.incidents["INC-1"]
    assert incident.containment is Containment.PARTIAL  # the grade is there; the proof is not
    outcome = incident.steps["cut"].calls[f"0:{DENY}"].outcome
    assert isinstance(outcome, Done)
    assert outcome.grade is Grade.CONFIG
    recut = desk.now
    while not (sent := _asks_the_log(desk)):
        desk.forward(1)
        for other in desk.calls():
            if not other.so_far:
                desk.look(other, Standing.STANDS, grade=Grade.CONFIG)
    assert sent.so_far == {"since": recut.isoformat()}
    desk.look(sent, Standing.STANDS, grade=Grade.CONFIG, after=Aftermath(recut, desk.now))
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED


def _asks_the_log(desk: Desk) -> RunAction | None:
    return next((sent for sent in desk.calls() if sent.verb is Verb.VERIFY and sent.so_far), None)


def test_an_inconclusive_log_changes_nothing() -> None:
    desk = cut()
    after = Aftermath(desk.now, desk.now, why="no event at all")
    desk.forward(1)
    look(desk, Standing.STANDS, after=after)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED
    assert after.verdict == "inconclusive"
    assert reasons(desk) == []


def test_a_release_does_not_wait_for_a_look_that_hangs() -> None:
    desk = cut()
    desk.forward(1)
    hanging = desk.calls()[0]
    desk.happen("INC-1", Released("cut", "a"))
    assert [sent.verb for sent in desk.calls()] == [Verb.UNDO]
    assert hanging.id not in desk.queue
    desk.settle("cut", Done(Grade.CONFIG))
    assert desk.status("cut") == "released"


def test_a_second_incident_is_told_as_well() -> None:
    desk = cut()
    book = playbook(step("same", "deny", {"level": 1}, contains=True), verify=CHECKS)
    desk.open(book)
    desk.settle("same", Done(Grade.CONFIG))
    desk.forward(1)
    look(desk, Standing.LOST)
    assert {i.containment for i in desk.incidents.values()} == {Containment.RUNNING}
    desk.settle_all(Done(Grade.CONFIG))
    assert {i.containment for i in desk.incidents.values()} == {Containment.CONTAINED}


def test_a_cut_that_could_not_be_verified_is_when_a_look_can() -> None:
    desk = Desk()
    desk.open(playbook(step("cut", "mode", {"level": 1}, contains=True), verify=CHECKS))
    desk.settle("cut", Done(Grade.UNVERIFIED, {"why": "it does not read so"}))
    assert desk.incidents["INC-1"].containment is Containment.PARTIAL
    desk.forward(1)
    look(desk, Standing.LOST)  # as before: nothing was ever seen that could be lost
    assert desk.incidents["INC-1"].containment is Containment.PARTIAL
    assert not desk.calls()
    desk.forward(4)
    look(desk, Standing.STANDS)
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED
    assert "why" not in desk.incidents["INC-1"].steps["cut"].outputs


def test_a_re_apply_that_fails_is_left_to_people() -> None:
    desk = cut()
    desk.forward(1)
    look(desk, Standing.LOST)
    desk.settle(desk.calls()[0], Failed(False, "denied"))
    assert desk.incidents["INC-1"].containment is Containment.PARTIAL
    assert "step:cut" in {page.reason for page in desk.pages(None)}
    desk.forward(59)
    while (sent := next(iter(desk.calls()), None)) and sent.verb is Verb.VERIFY:
        desk.look(sent, Standing.LOST)
    assert not desk.calls()
    desk.happen("INC-1", Overridden("cut", "a"))
    desk.settle(desk.calls()[0], Done(Grade.CONFIG))
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED


def test_after_the_end_a_lost_cut_is_put_back_and_told_as_a_notice() -> None:
    desk = cut()
    desk.happen("INC-1", StatusChanged(Status.RESOLVED, "a"))
    desk.forward(1)
    look(desk, Standing.LOST)
    assert reasons(desk) == []
    assert {notice.topic.rpartition(":")[0] for notice in desk.notices()} == {"undone:cut"}
    desk.settle_all(Done(Grade.CONFIG))
    assert desk.incidents["INC-1"].containment is Containment.CONTAINED


def test_the_time_to_spread_that_the_system_states_is_a_moment_of_its_own() -> None:
    desk = Desk(eager=True)
    desk.open(playbook(step("cut", "deny", {"level": 1}, contains=True), verify=CHECKS))
    alive = (desk.now + minutes(3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    desk.settle("cut", Done(Grade.CONFIG, {"alive_until": alive}))
    desk.forward(1)
    look(desk, Standing.STANDS)
    assert desk.targets[DENY].next_deadline == desk.now + minutes(2)
    desk.forward(2)
    desk.look(desk.calls()[0], Standing.STANDS, grade=Grade.CONFIG)
    outcome = desk.incidents["INC-1"].steps["cut"].calls[f"0:{DENY}"].outcome
    assert isinstance(outcome, Done)
    assert outcome.evidence == {"alive_until": alive}


def test_the_room_is_told() -> None:
    desk = cut()
    desk.eager = False
    desk.forward(1)
    look(desk, Standing.LOST)
    posts = [d.purpose for _, d in desk.queue.values() if isinstance(d, Post)]
    assert "undone:cut" in posts


def test_the_same_state_comes_from_the_record() -> None:
    desk = cut()
    desk.forward(1)
    look(desk, Standing.LOST)
    desk.settle(desk.calls()[0], Pending(desk.now + timedelta(seconds=5), {"stage": 1}))
    desk.forward(1)
    desk.settle_all(Done(Grade.CONFIG))
    assert desk.folded("INC-1") == desk.incidents["INC-1"]
    assert desk.folded_target(DENY) == desk.targets[DENY]
