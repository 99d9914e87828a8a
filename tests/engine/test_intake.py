"""Where an alert goes: repeats counted and told, a flood in one count, nothing lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bot.domain.alert import Sev, Severity
from bot.domain.containment import Containment
from bot.domain.events import AlertReceived, AlertsCounted, Status
from bot.domain.incident import StepStatus
from bot.domain.source import Auth
from bot.engine import verbs
from bot.engine.intake import NEWS_A_MINUTE, receive
from bot.engine.responder import Responder
from bot.errors import Refused
from tests.engine.desk import EXPOSURE, PRODUCTION, SIEM, Desk


def test_repeats_are_counted_and_told_once_a_minute(desk: Desk) -> None:
    desk.receive()
    receipts = [desk.receive() for _ in range(50)]
    assert {receipt.status for receipt in receipts} == {"repeated"}
    assert "number 51" in receipts[-1].why
    assert desk.events(AlertsCounted) == []

    desk.forward(minutes=2)
    told = desk.events(AlertsCounted)
    assert [event.count for event in told] == [50]
    assert desk.incident().repeats == 50

    desk.receive()
    desk.forward(minutes=2)
    assert [event.count for event in desk.events(AlertsCounted)] == [50, 1]
    assert desk.paged == ["sre-1"]


def test_after_its_window_a_repeat_is_news_again(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=61)
    assert desk.receive().status == "attached"
    assert len(desk.events(AlertReceived)) == 1


def test_other_news_joins_the_open_incident(desk: Desk) -> None:
    desk.receive()
    receipt = desk.receive(rule="second")
    assert (receipt.status, receipt.incident) == ("attached", "INC-1")
    assert desk.incident().alerts == 2


def test_another_type_or_agent_opens_its_own(desk: Desk) -> None:
    desk.receive()
    assert desk.receive(rule="second", type=EXPOSURE).incident == "INC-2"
    assert desk.receive(agent="agent-9").incident == "INC-3"


def test_a_flood_is_counted_to_the_last_alert(desk: Desk) -> None:
    desk.receive()
    for number in range(100):
        desk.receive(rule=f"r-{number}")
    assert len(desk.events(AlertReceived)) == NEWS_A_MINUTE

    desk.forward(minutes=3)
    incident = desk.incident()
    assert incident.alerts + incident.repeats == 101
    assert len(desk.entries()) < 150


def test_news_after_the_end_opens_another_incident(desk: Desk) -> None:
    desk.receive()
    desk.resolve()
    assert desk.receive().incident == "INC-2"


def test_what_was_counted_before_the_end_is_told_after_it(desk: Desk) -> None:
    desk.receive()
    desk.receive()
    desk.resolve()
    desk.forward(minutes=2)
    assert desk.incident().repeats == 1


def test_the_end_of_a_condition_opens_nothing(desk: Desk) -> None:
    assert desk.receive(resolved=True).status == "ignored"
    desk.receive()
    assert desk.receive(resolved=True).status == "attached"
    assert desk.events(AlertReceived)[0].why == "the source says that it is over"


def test_the_same_delivery_twice_is_kept_once(desk: Desk) -> None:
    alert = desk.alert()
    desk.receive(alert)
    desk.receive(alert)
    with desk.store.reading() as tx:
        assert len(tx.alerts("INC-1")) == 1


def test_severity_follows_the_alert(desk: Desk) -> None:
    desk.receive(severity_id=Severity.FATAL)
    assert desk.incident().severity is Sev.SEV1


def test_a_person_declares_and_the_playbook_of_the_type_runs(desk: Desk) -> None:
    job = verbs.declare(person="sre-1", type=EXPOSURE, severity=Sev.SEV1, agent="agent-7", title="I saw it")
    desk.say(job)
    desk.forward(minutes=1)
    assert desk.alive() == []
    with pytest.raises(Refused, match="is open"):
        desk.say(job)
    with pytest.raises(Refused, match="no agent"):
        desk.say(verbs.declare(person="sre-1", type=EXPOSURE, agent="agent-404", title="x"))


@pytest.mark.parametrize("type", [EXPOSURE, PRODUCTION])
def test_no_step_of_a_shipped_playbook_fails_for_want_of_an_alert(desk: Desk, type: str) -> None:
    desk.say(verbs.declare(person="sre-1", type=type, severity=Sev.SEV1, agent="agent-7", title="I saw it"))
    desk.forward(minutes=1)
    incident = desk.incident()
    assert {run.id: run.why for run in incident.steps.values() if run.status == "failed"} == {}
    assert incident.steps["quarantine_role"].status == "awaiting_approval", "SEV1 counts as a critical alert does"


def test_a_batch_of_deliveries_is_one_incident(desk: Desk) -> None:
    """As a storm does it: all in one transaction."""
    alerts = [desk.alert(rule=f"r-{number % 3}") for number in range(9)]

    def storm(responder: Responder) -> list[str]:
        return [receive(responder, alert, SIEM, b"{}").status for alert in alerts]

    statuses = desk.engine.submit(storm).result()
    assert statuses == ["opened", "attached", "attached", *["repeated"] * 6]
    desk.forward(minutes=2)
    assert desk.incident().alerts + desk.incident().repeats == 9


@pytest.mark.parametrize("agent", ["agent-7", None])
def test_a_reopened_incident_takes_its_alerts_again(desk: Desk, agent: str | None) -> None:
    desk.receive(agent=agent)
    desk.resolve()
    desk.say(verbs.status("INC-1", Status.INVESTIGATING, "head-of-security", "slack"))
    desk.forward(hours=3)
    again = desk.receive(agent=agent)
    assert (again.status, again.incident) == ("attached", "INC-1")
    desk.resolve()
    assert desk.receive(agent=agent).incident == "INC-2"


def test_a_declared_incident_takes_alerts_again_too(desk: Desk) -> None:
    desk.say(verbs.declare(person="sre-1", type=PRODUCTION, agent="agent-7", title="It drops tables"))
    desk.resolve()
    desk.say(verbs.status("INC-1", Status.INVESTIGATING, "head-of-security", "slack"))
    assert desk.receive().incident == "INC-1"


def test_what_another_incident_took_over_is_not_reopened(desk: Desk) -> None:
    desk.receive()
    desk.resolve()
    assert desk.receive().incident == "INC-2"
    with pytest.raises(Refused, match=r"INC-2 is open for this agent and type: work there") as refused:
        desk.say(verbs.status("INC-1", Status.INVESTIGATING, "head-of-security", "slack"))
    assert refused.value.code == "key_taken"
    assert desk.incident().status is Status.RESOLVED
    desk.resolve("INC-2")
    desk.say(verbs.status("INC-1", Status.INVESTIGATING, "head-of-security", "slack"))
    assert desk.receive().incident == "INC-1"


def test_a_worse_or_more_trusted_alert_about_the_same_undoes_what_its_weak_twin_held_back(desk: Desk) -> None:
    """Anybody may open an incident that only proposes. That must not keep a trusted source from containing."""
    desk.receive(source=replace(SIEM, name="anybody", auth=Auth.NONE, may_contain=False))
    assert desk.incident().containment is Containment.RUNNING
    assert desk.incident().steps["shadow"].status is StepStatus.AWAITING_APPROVAL
    assert desk.alive()
    assert desk.receive().status == "attached"
    assert desk.incident().steps["shadow"].status is StepStatus.DONE


def test_an_alert_that_was_too_weak_for_the_playbook_is_followed_by_one_that_starts_it(desk: Desk) -> None:
    desk.receive(severity_id=Severity.LOW)
    assert desk.incident().containment is Containment.NONE
    assert not desk.incident().started
    desk.receive(severity_id=Severity.FATAL)
    assert desk.incident().severity is Sev.SEV1
    assert desk.incident().steps["shadow"].status is StepStatus.DONE


def test_a_person_starts_the_playbook_that_is_only_at_hand(desk: Desk) -> None:
    desk.receive(severity_id=Severity.LOW)
    desk.say(verbs.contain("INC-1", "sre-1", "cli"))
    assert desk.incident().steps["shadow"].status is StepStatus.DONE
    with pytest.raises(Refused, match="runs already"):
        desk.say(verbs.contain("INC-1", "sre-1", "cli"))
