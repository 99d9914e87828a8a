"""What an orchestrator and Prometheus are told."""

from __future__ import annotations

import threading

import pytest

from bot.domain.containment import Containment
from bot.domain.events import PageSent
from bot.errors import RecordBroken, Unavailable
from bot.web import health
from bot.web.app import application
from bot.web.doors import Doors
from tests.web.desk import Desk, secret_of


def test_a_process_is_alive_and_ready(desk: Desk):
    assert desk.ask("GET", "/healthz").json() == {"alive": True}
    assert desk.ask("GET", "/readyz").json() == {"ready": True, "reasons": [], "degraded": []}
    assert desk.ask("HEAD", "/readyz").content == b""
    assert desk.ask("POST", "/readyz").status_code == 405


def test_a_record_that_cannot_be_read_is_said_and_the_others_are_served(desk: Desk):
    desk.engine.operators.hear(RecordBroken("INC-1/3: the digest does not fit the bytes", "INC-1"))
    desk.engine.operators.look(wait=True)
    answer = desk.ask("GET", "/readyz")
    assert answer.status_code == 200
    assert "INC-1/3: the digest does not fit the bytes: nothing is written to INC-1" in answer.json()["degraded"][0]


def test_a_store_that_does_not_answer_makes_it_unready_and_not_dead(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def away():
        raise Unavailable("store", "connection refused")

    monkeypatch.setattr(desk.engine.store, "reading", away)
    answer = desk.ask("GET", "/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["store: connection refused"])
    assert desk.ask("GET", "/healthz").status_code == 200
    metrics = desk.ask("GET", "/metrics")
    assert (metrics.status_code, _value(metrics.text, "firedoor_store_up")) == (200, 0)


def test_a_store_that_hangs_is_waited_for_by_one_thread(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    hanging, asked = threading.Event(), []

    def hangs(self: object):
        asked.append(self)
        hanging.wait(10)

    monkeypatch.setattr(type(desk.engine.store), "database_now", hangs)
    monkeypatch.setattr(health, "PATIENCE", 0.05)
    parts = desk.engine, desk.intake, Doors(desk.engine, secret_of), desk.links, desk.metrics
    desk.app = application(*parts, faults=lambda: ("the reader of the queue of guardduty has stopped",))
    for _ in range(4):
        reasons = desk.ask("GET", "/readyz").json()["reasons"]
        assert [reason.partition(":")[0] for reason in reasons] == [
            "the reader of the queue of guardduty has stopped",
            "store",
        ]
    hanging.set()
    assert len(asked) == 1


def test_a_queue_that_cannot_be_read_is_told_and_no_reason_to_take_the_process_out(desk: Desk):
    parts = desk.engine, desk.intake, Doors(desk.engine, secret_of), desk.links, desk.metrics
    desk.app = application(*parts, troubles=lambda: ("the queue of guardduty is not read: sqs: no answer",))
    answer = desk.ask("GET", "/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    assert answer.json()["degraded"] == ["the queue of guardduty is not read: sqs: no answer"]


def test_alerts_incidents_pages_and_commits_are_counted(desk: Desk):
    id = desk.opened()
    desk.opened(id="f-2")
    desk.alert("siem", b"{")
    desk.ask("POST", "/v1/alerts/siem", content=b"{}")
    text = desk.ask("GET", "/metrics").text
    for result, count in {"opened": 1, "repeated": 1, "bad_alert": 1, "not_authentic": 1}.items():
        assert _value(text, f'firedoor_alerts_total{{result="{result}",source="siem"}}') == count
    assert _value(text, "firedoor_outbox_decisions") > 0
    desk.clock.forward(seconds=7)
    assert _value(desk.ask("GET", "/metrics").text, "firedoor_outbox_oldest_seconds") == 7
    desk.engine.settle()
    text = desk.ask("GET", "/metrics").text
    assert _value(text, 'firedoor_incidents_open{containment="running",severity="SEV2"}') == 1
    assert _value(text, 'firedoor_pages_total{result="sent",way="slack"}') > 0
    on_time = _value(text, 'firedoor_page_lateness_seconds_bucket{le="5.0"}')
    assert on_time < _value(text, 'firedoor_page_lateness_seconds_bucket{le="15.0"}'), "some left seven seconds late"
    assert _value(text, "firedoor_outbox_decisions") == 0
    assert _value(text, "firedoor_commit_jobs_count") > 0
    assert f'"{id}"' not in text


def test_a_page_that_may_repeat_is_counted_apart(desk: Desk):
    id = desk.opened()
    page = next(state.page for state in desk.incident(id).pages.values() if state.state == "queued")
    again = PageSent(page.id, page.key, page.person, page.way, may_repeat=True)
    desk.engine.submit(lambda responder: responder.append(id, again)).result()
    text = desk.ask("GET", "/metrics").text
    assert _value(text, f'firedoor_pages_total{{result="may_repeat",way="{page.way}"}}') == 1


def test_the_time_to_containment_is_counted_once(desk: Desk):
    id = desk.opened(types=["unintended_production_change"])
    state = desk.incident(id)
    for _ in range(60):
        desk.engine.settle()
        desk.clock.forward(seconds=15)
        state = desk.incident(id)
        for request, approval in state.approvals.items():
            for person in ("head-of-security", "infra-owner-1"):
                if str(approval.state) == "open":
                    desk.says(person, f"/v1/incidents/{id}/approve", request=request)
                    desk.clock.forward(seconds=30)
    assert state.containment is Containment.CONTAINED
    text = desk.ask("GET", "/metrics").text
    assert _value(text, "firedoor_containment_seconds_count") == 1
    taken = (state.contained_at - state.start).total_seconds()
    assert _value(text, "firedoor_containment_seconds_sum") == taken


def test_labels_are_words_of_the_configuration_and_the_code(desk: Desk):
    desk.opened()
    desk.engine.settle()
    known = {*desk.bot.config.sources, *desk.bot.config.settings.connections, "slack", "email", "webhook", "evidence"}
    known |= {f"pages by {way}" for way in ("slack", "email", "webhook")}  # breakers
    words = {"opened", "sent", "failed", "SEV2", "running", "+Inf"}
    for line in desk.ask("GET", "/metrics").text.splitlines():
        if "{" in line:
            labels = line.partition("{")[2].rpartition("}")[0]
            values = {part.partition("=")[2].strip('"') for part in labels.split(",")}
            unknown = {value for value in values - known - words if not value.replace(".", "").isdigit()}
            assert not unknown, line


def _value(text: str, name: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))
