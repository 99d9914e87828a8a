from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone

from bot.domain.agent import Agent, AwsIdentity, KubernetesIdentity, VaultIdentity
from bot.domain.alert import Alert, AlertText, Resource, Severity
from bot.domain.reach import Held, Reach, reach_names
from bot.domain.view import (
    AGENT,
    ALERT,
    ALERT_WITH_TEXT,
    INCIDENT,
    REACH,
    Shape,
    agent_names,
    alert_names,
    incident_names,
    time_text,
)

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
ALERT_ = Alert("u", "s", "p", "r", Severity.HIGH, NOON, resources=(Resource("i-1", labels={"a": "b"}),))


def same_keys(shape: Shape, value: object) -> None:
    match shape:
        case Mapping():
            assert isinstance(value, Mapping)
            assert shape.keys() == value.keys()
            for key, inner in shape.items():
                same_keys(inner, value[key])
        case tuple():
            assert isinstance(value, list)
            for each in value:
                same_keys(shape[0], each)


def test_the_shapes_the_loader_checks_are_the_views() -> None:
    same_keys(ALERT, alert_names(ALERT_))
    same_keys(ALERT_WITH_TEXT, alert_names(ALERT_, AlertText("t", "m")))
    agent = Agent("agent-7", vault=VaultIdentity(), aws=AwsIdentity(), kubernetes=KubernetesIdentity())
    same_keys(AGENT, agent_names(agent))
    same_keys(REACH, reach_names(Reach.of([Held("session", "s", "aws", "a", chained=True, allowed=True)], ["away"])))
    same_keys(INCIDENT, incident_names(id="INC-1", severity="SEV1", type="t", status="open", opened_at=NOON))


def test_the_text_is_only_there_where_it_is_given() -> None:
    assert "title" not in alert_names(ALERT_)
    assert alert_names(ALERT_, AlertText("t", "m"))["title"] == "t"


def test_an_agent_without_vault_has_null_there() -> None:
    names = agent_names(Agent("agent-7", labels=(("env", "prod"),)))
    assert names["vault"] is None
    assert names["labels"] == {"env": "prod"}


def test_times_are_utc_to_the_second() -> None:
    assert time_text(NOON.astimezone(timezone(timedelta(hours=2)))) == "2026-03-01T12:00:00Z"
