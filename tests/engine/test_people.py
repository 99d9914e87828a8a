"""Who is reached, when, and what stops it; what happens where a way to reach them is dead."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.config import EXAMPLE
from bot.domain.alert import Severity
from bot.domain.approval import ApprovalState
from bot.domain.events import PageFailed, PageSent, Posted
from bot.domain.incident import StepStatus
from bot.domain.timeline import narrate
from bot.engine import verbs
from bot.engine.world import Said
from bot.errors import Denied, Refused, Rejected, SystemFailure, Unavailable
from bot.ports import PageMessage
from bot.slack.blocks import SlackVoice
from tests.engine.desk import Desk, desk_at


def test_levels_are_paged_as_their_time_comes(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=14)
    assert set(desk.paged) == {"sre-1"}
    desk.forward(minutes=2)
    assert set(desk.paged) == {"sre-1", "head-of-security"}
    desk.forward(minutes=15)
    assert set(desk.paged) == {"sre-1", "head-of-security", "cto-1"}
    desk.forward(minutes=30)
    assert {"dpo", "legal", "executive", "product-owner"} <= set(desk.paged)


def test_an_ack_stops_escalation_and_not_the_notices(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=3)
    assert desk.ack("sre-1").acked_by == "sre-1"
    before = desk.escalated
    desk.forward(minutes=45)
    assert desk.escalated == before
    assert {m.person for m in desk.rang if "/notice/" in m.key} >= {"product-owner", "cto-1", "security-ops-1"}


def test_an_ack_runs_out_and_escalation_goes_on(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=1)
    desk.ack("sre-1")
    desk.forward(minutes=62)  # SEV2: an hour
    assert desk.incident().acked_by == ""
    assert "cto-1" in desk.paged


def test_an_ack_takes_back_what_has_not_left(desk: Desk) -> None:
    desk.chat.faults.add("direct", Unavailable("slack", "ratelimited", retry_after=30), times=1000)
    desk.mail.faults.add("send", Unavailable("mail", "no route", retry_after=30), times=1000)
    desk.receive()
    assert desk.pages == []
    desk.ack("sre-1")
    desk.chat.faults.clear()
    desk.mail.faults.clear()
    desk.forward(minutes=40)
    assert desk.escalated == []
    assert {state.state for state in desk.incident().pages.values() if "/escalation/" in state.page.key} <= {
        "withdrawn",
        "failed",
    }


def test_where_slack_is_down_mail_goes_at_once(desk: Desk) -> None:
    desk.chat.faults.add("*", Unavailable("slack", "ratelimited", retry_after=30), times=10_000)
    desk.receive()
    assert [(page.person, page.address) for page in desk.pages] == [("sre-1", "sre-1@example.com")]
    failed = desk.events(PageFailed)
    assert {event.way for event in failed} == {"slack"}
    assert desk.posts() == ()


def test_posts_catch_up_in_order_when_slack_is_back(desk: Desk) -> None:
    desk.chat.faults.add("*", Unavailable("slack", "ratelimited", retry_after=30), times=10_000)
    desk.receive()
    desk.forward(minutes=2)
    desk.ack("sre-1")
    desk.forward(minutes=2)
    desk.say(verbs.note("INC-1", "the pipeline was left open", "sre-1"))
    desk.resolve()
    desk.forward(minutes=2)
    assert desk.posts() == ()

    desk.chat.faults.clear()
    desk.forward(minutes=2)
    posted = [event.purpose for event in desk.events(Posted)]
    spoken = [purpose for purpose in posted if purpose != "card"]
    assert spoken.index("containment:contained") < spoken.index("acknowledged") < spoken.index("status:resolved")
    assert len({post.message.key for post in desk.posts()}) == len(desk.posts())
    assert desk.queued() == 0


def test_a_dead_way_hands_over_to_the_next(desk: Desk) -> None:
    desk.chat.faults.add("direct", Rejected("slack", "account_inactive"), times=1000)
    desk.receive()
    ways = [(event.person, event.way) for event in desk.events(PageSent) if "/escalation/" in event.key]
    assert ways == [("sre-1", "email")]


def test_a_page_that_a_peer_took_over_while_it_was_sent_says_that_it_may_repeat(desk: Desk) -> None:
    phone = desk.estate.pagers["slack"]
    taken: list[str] = []

    class Slow:
        def send(self, message: PageMessage) -> str:
            receipt = phone.send(message)
            if not taken:
                with desk.store.transaction() as tx:  # our lease has run out meanwhile
                    claims = tx.claim("r-2", tx.now() + timedelta(seconds=4), 100, dead=("r-1",))
                taken.extend(getattr(claim.decision, "key", "") for claim in claims)
            return receipt

    desk.estate.pagers["slack"] = Slow()
    desk.receive()
    sent = {event.key: event.may_repeat for event in desk.events(PageSent) if event.way == "slack"}
    assert any(sent[key] for key in taken if key in sent)
    assert {key for key, may_repeat in sent.items() if may_repeat} <= {*taken}


def test_where_nobody_of_a_level_is_reached_the_next_is(desk: Desk) -> None:
    for pager in ("slack", "email", "webhook"):
        desk.estate.pagers[pager].deaf.add("sre-1")
    desk.receive()
    desk.forward(minutes=1)
    assert set(desk.paged) == {"head-of-security"}


def test_a_night_without_the_process_is_one_page_a_person_and_says_how_late(desk: Desk) -> None:
    desk.receive()
    desk.rang.clear()
    desk.sleep(hours=8)
    assert len(desk.escalated) == len(set(desk.escalated)) == 8
    sent = [event for event in desk.events(PageSent) if event.late > 3600]
    assert sent
    assert not any(event.may_repeat for event in sent)


def test_what_the_voice_cannot_word_is_paged_plainly(tmp_path: Path) -> None:
    class Stammer(SlackVoice):
        def page(self, *_: Any, **__: Any) -> Said:
            raise KeyError("a template")

    with desk_at(tmp_path, voice=Stammer()) as desk:
        desk.receive()
        assert desk.paged == ["sre-1"]
        assert desk.pages[0].subject == "Firedoor: INC-1 (SEV2, unintended_production_change) needs you."


@pytest.mark.parametrize("hours", [8, 1 / 6])
def test_a_click_after_a_night_grants_no_expired_approval(tmp_path: Path, hours: float) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "config")
    book = folder / "playbooks" / "unintended-production-change.yaml"
    book.write_text(book.read_text().replace("timeout: 10m, on_timeout: escalate", "timeout: 10m, on_timeout: refuse"))
    with desk_at(tmp_path, folder=folder) as desk:
        desk.receive(severity_id=Severity.CRITICAL)
        desk.forward(seconds=30)
        request = desk.incident().steps["quarantine_role"].request
        asked = desk.incident().approvals[request]
        desk.approve("quarantine_role", "security-ops-2")
        desk.clock.set(asked.asked_at + timedelta(hours=hours))  # no timer rang meanwhile

        with pytest.raises(Refused, match="already expired"):
            desk.approve("quarantine_role", "infra-owner-2")
        desk.engine.settle()
        assert desk.incident().approvals[request].state is ApprovalState.EXPIRED
        assert desk.status("quarantine_role") is StepStatus.REFUSED


def test_an_approval_that_escalates_stays_open_for_a_late_click(desk: Desk) -> None:
    desk.receive(severity_id=Severity.CRITICAL)
    desk.forward(seconds=30)
    desk.approve("quarantine_role", "security-ops-2")
    desk.clock.set(desk.clock.now() + timedelta(hours=2))
    desk.approve("quarantine_role", "infra-owner-2")
    assert desk.status("quarantine_role") is not StepStatus.AWAITING_APPROVAL
    assert any(page.key.startswith("INC-1/failure/") for page in desk.pages)


@pytest.mark.parametrize("answer", [Rejected("slack", "channel_not_found"), Denied("slack", "missing_scope")])
def test_a_request_that_cannot_be_posted_pages_and_says_how_to_decide(desk: Desk, answer: SystemFailure) -> None:
    desk.chat.faults.add("post", answer, times=1000)
    desk.receive(severity_id=Severity.CRITICAL)
    desk.forward(minutes=1)
    request = desk.incident().steps["quarantine_role"].request
    (page,) = [page for page in desk.pages if "quarantine_role could not be posted" in page.subject]
    assert page.person == "sre-1"
    assert f"firedoor incident approve {request}" in page.body
    assert "1 security team and 1 infra owner" in page.body
    said = " ".join(line.text for line in narrate(desk.entries()))
    assert "sre-1 was paged by slack (the request to approve quarantine_role could not be posted)" in said

    desk.approve("quarantine_role", "security-ops-2")
    desk.approve("quarantine_role", "infra-owner-2")
    desk.forward(minutes=1)
    assert desk.status("quarantine_role") is StepStatus.DONE
