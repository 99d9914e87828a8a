"""Acknowledge links: looking changes nothing, the button says who, and what is no longer true is not pretended."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.engine import verbs
from bot.errors import Unavailable
from bot.sandbox.clock import SimClock
from bot.web.links import AckLinks, Forged, ack_link
from tests.web.desk import Desk

KEY = bytes(32)


def test_a_page_carries_a_link_for_the_person_it_goes_to(desk: Desk):
    id = desk.opened()
    token = desk.links.token(desk.links.url(id, "sre-1"))
    asked = desk.links.check(token)
    assert (asked.incident, asked.person, asked.expired) == (id, "sre-1", False)


def test_looking_shows_the_incident_and_acknowledges_nothing(desk: Desk):
    id = desk.opened()
    for method in ("GET", "HEAD", "GET"):
        answer = desk.ask(method, _path(desk, id))
        assert answer.status_code == 200
    assert "<button" in answer.text
    assert "SEV2" in answer.text
    assert desk.incident(id).acked_by == ""


def test_the_button_acknowledges_for_that_person(desk: Desk):
    id = desk.opened()
    answer = desk.ask("POST", _path(desk, id))
    assert answer.status_code == 200
    assert f"You acknowledged {id}" in answer.text
    assert "<button" not in answer.text
    assert desk.incident(id).acked_by == "sre-1"
    assert desk.engine.entries(id)[-1].event.via == "link"


def test_pressed_twice_or_too_late_it_says_how_things_stand(desk: Desk):
    id = desk.opened()
    desk.ask("POST", _path(desk, id))
    assert f"You acknowledged {id}" in desk.ask("POST", _path(desk, id)).text
    other = desk.ask("POST", _path(desk, id, "security-ops-1"))
    assert (other.status_code, "SRE 1 has it since" in other.text) == (200, True)
    desk.engine.submit(verbs.status(id, "false_positive", "head-of-security", "slack")).result()
    over = desk.ask("GET", _path(desk, id))
    assert (over.status_code, f"{id} is over" in over.text, "<button" in over.text) == (200, True, False)


def test_after_a_day_a_link_is_only_good_for_looking(desk: Desk):
    id = desk.opened()
    path = _path(desk, id)
    desk.clock.forward(hours=24)
    for method in ("GET", "POST"):
        answer = desk.ask(method, path)
        assert (answer.status_code, "expired" in answer.text) == (410, True)
    assert desk.incident(id).acked_by == ""


def test_who_has_left_cannot_acknowledge(desk: Desk):
    id = desk.opened()
    answer = desk.ask("POST", _path(desk, id, "left-long-ago"))
    assert (answer.status_code, "not in people.yaml" in answer.text) == (403, True)
    assert desk.incident(id).acked_by == ""


def test_a_forged_link_leads_nowhere(desk: Desk):
    id = desk.opened()
    token = desk.links.token(desk.links.url(id, "sre-1"))
    foreign = ack_link("http://x", KEY, id, "sre-1", desk.clock.now())
    said, signature = token.split(".")
    for wrong in ("", "x", token[:-1], f"{said}.{'A' * 43}", f"A{said[1:]}.{signature}", desk.links.token(foreign)):
        answer = desk.ask("POST", f"/ack/{wrong}")
        assert (answer.status_code, "not valid" in answer.text) == (404, True)
    assert desk.incident(id).acked_by == ""


def test_an_incident_that_is_not_here_is_said_so_in_safe_words(desk: Desk):
    answer = desk.ask("GET", _path(desk, "INC-<b>9"))
    assert (answer.status_code, "<b>9" in answer.text) == (404, False)


def test_the_store_may_be_away(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    id = desk.opened()

    def away():
        raise Unavailable("store", "gone")

    monkeypatch.setattr(desk.engine.store, "reading", away)
    answer = desk.ask("GET", _path(desk, id))
    assert (answer.status_code, "Try again" in answer.text) == (503, True)


def test_the_page_brings_all_it_needs_and_lets_nothing_else_in(desk: Desk):
    answer = desk.ask("GET", _path(desk, desk.opened()))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "http" not in answer.text.replace("http-equiv", "")


def test_the_log_holds_no_link(desk: Desk, caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    id = desk.opened()
    token = desk.links.token(desk.links.url(id, "sre-1"))
    desk.ask("GET", f"/ack/{token}")
    desk.ask("POST", f"/ack/{token}")
    fields = "".join(str(vars(record)) for record in caplog.records if record.name.startswith("bot."))
    assert token not in fields
    assert "acknowledged by link" in caplog.text


def test_without_a_public_address_there_is_no_link(clock: SimClock):
    assert AckLinks("", KEY, clock).url("INC-1", "sre-1") == ""


@settings(max_examples=200, deadline=None)
@given(token=st.text(max_size=120) | st.from_regex(r"[A-Za-z0-9_-]{8,40}\.[A-Za-z0-9_-]{43}", fullmatch=True))
def test_no_token_made_without_the_key_is_taken(token: str):
    from datetime import UTC, datetime

    with pytest.raises(Forged):
        AckLinks("http://x", KEY, SimClock(datetime(2026, 1, 5, tzinfo=UTC))).check(token)


def _path(desk: Desk, incident: str, person: str = "sre-1") -> str:
    return f"/ack/{desk.links.token(desk.links.url(incident, person))}"
