"""What a source may not do: exceed its word, or break the reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.domain.alert import Severity
from bot.domain.source import Auth, SourceRules
from bot.errors import BadAlert
from bot.sources import MOST_ALERTS, MOST_LABELS, MOST_RESOURCES, read
from bot.sources.fields import SAFE_INTEGER, identifier, moment, severity
from tests.sources.rules import KINDS, PAYLOADS, payload, rules


def _alert(**labels: str) -> dict[str, Any]:
    given = {"alertname": "X", "severity": "critical"} | labels
    return {"alerts": [{"status": "firing", "labels": given, "startsAt": "2026-01-05T10:00:00Z"}]}


def test_severity_is_clamped_to_the_source():
    (alert,) = read(rules("alertmanager", max_severity=Severity.MEDIUM), _alert())
    assert alert.severity_id is Severity.MEDIUM


def test_a_source_can_rename_severities():
    (alert,) = read(rules("alertmanager", severity_map={"P1": 6, "critical": 2}), _alert(severity="p1"))
    assert alert.severity_id is Severity.FATAL
    (alert,) = read(rules("alertmanager", severity_map={"P1": 6, "critical": 2}), _alert())
    assert alert.severity_id is Severity.LOW


def test_a_claimed_type_that_is_not_the_sources_is_dropped_and_kept_in_view():
    source = rules("alertmanager", types=("data_exposure",))
    (alert,) = read(source, _alert(incident_type="data_exposure, unintended_production_change"))
    assert alert.types == ("data_exposure",)
    assert alert.unmapped["firedoor.types_not_believed"] == ["unintended_production_change"]


def test_an_agent_that_is_not_the_sources_is_not_named_by_it():
    (alert,) = read(rules("alertmanager", agents=("agent-8",)), _alert(agent="agent-7"))
    assert alert.agent_uid is None
    assert alert.unmapped["firedoor.agent_not_believed"] == "agent-7"
    (alert,) = read(rules("alertmanager", agents=("agent-7",)), _alert(agent="agent-7"))
    assert alert.agent_uid == "agent-7"


def test_a_source_without_authentication_may_not_contain():
    with pytest.raises(ValueError, match="may not have may_contain"):
        SourceRules(name="open", kind="generic", owner="person-1", auth=Auth.NONE, may_contain=True)


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(BadAlert, match="the kinds are: alertmanager, falco"):
        read(rules("splunk"), {})


def test_lists_and_texts_have_ends():
    many = {"alerts": _alert()["alerts"] * (MOST_ALERTS + 1)}
    with pytest.raises(BadAlert, match="over 5000"):
        read(rules("alertmanager"), many)
    event = payload("guardduty_event")
    event["detail"]["resource"]["s3BucketDetails"] = [{"name": f"bucket-{n}"} for n in range(150)]
    event["detail"]["description"] = "x" * 100_000
    event["detail"]["extra"] = {"big": "y" * 100_000}
    (alert,) = read(rules("guardduty"), event)
    assert len(alert.resources) == MOST_RESOURCES
    assert alert.unmapped["firedoor.resources_left_out"] == 52
    assert alert.unmapped["firedoor.left_out"] == ["extra"]
    assert len(alert.text.message) == 8192
    (alert,) = read(rules("alertmanager"), _alert(**{f"l{n}": "v" for n in range(500)}))
    assert len(alert.labels) == MOST_LABELS


def test_long_names_stay_apart_and_lose_no_alert():
    first, second = identifier("a" * 5000 + "1"), identifier("a" * 5000 + "2")
    assert len(first) == len(second) == 512
    assert first != second
    (alert,) = read(rules("alertmanager"), _alert(agent="a" * 5000))
    assert len(alert.agent_uid or "") == 512


def test_names_are_printed_on_one_line_and_in_one_direction():
    (alert,) = read(rules("alertmanager"), _alert(alertname="a\nb\u202ec\ud800d"))
    assert alert.rule == "a\ufffdb\ufffdc\ufffdd"
    assert alert.dedup_key()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-01-05T10:00:00+02:00", "2026-01-05T08:00:00+00:00"),
        ("2026-01-05T10:00:00.123456789Z", "2026-01-05T10:00:00.123456+00:00"),
        (1767607200, "2026-01-05T10:00:00+00:00"),
        (1767607200000, "2026-01-05T10:00:00+00:00"),
        ("1767607200123456789", "2026-01-05T10:00:00.123457+00:00"),
    ],
)
def test_times_are_aware_utc(given: Any, expected: str):
    assert moment(given, "x").isoformat() == expected


@pytest.mark.parametrize("given", ["2026-01-05T10:00:00", "2026-01-05", "soon", "", None, True, [], "9" * 400, 1e308])
def test_other_times_are_refused(given: Any):
    with pytest.raises(BadAlert, match=r"^x: expected a time with an offset"):
        moment(given, "x")


@pytest.mark.parametrize(
    ("value", "level"), [(8.0, 4), (8.9, 4), (9, 5), (0.5, 0), ("NaN", 0), ("HIGH", 4), ("7", 4), ([], 0), (True, 0)]
)
def test_severities_by_word_or_lower_bound(value: Any, level: int):
    assert severity(value, {"high": 4, "1": 2, "4": 3, "7": 4, "9": 5}) == level


# Anything at all --------------------------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def _reads_or_refuses(source: SourceRules, value: object) -> None:
    try:
        alerts = read(source, value)
    except BadAlert:
        return
    for alert in alerts:
        assert alert.dedup_key()
        assert alert.severity_id <= source.max_severity
        rfc8785.dumps(dict(alert.unmapped))
        rfc8785.dumps([alert.uid, alert.rule, alert.agent_uid, *alert.actors, dict(alert.labels)])


@pytest.mark.parametrize("kind", KINDS)
@given(value=json_values)
@settings(max_examples=60, deadline=None)
def test_any_json_is_read_or_refused(kind: str, value: object):
    _reads_or_refuses(rules(kind), value)


@pytest.mark.parametrize("path", sorted(PAYLOADS.glob("*.json")), ids=lambda path: path.stem)
@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_a_real_payload_with_anything_in_any_place_is_read_or_refused(path: Any, data: st.DataObject):
    value = json.loads(path.read_text())
    holder, key = data.draw(st.sampled_from(list(_places(value))))
    holder[key] = data.draw(json_values)
    _reads_or_refuses(rules(path.stem.partition("_")[0]), value)


def _places(value: Any):
    for key in value.keys() if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


@pytest.mark.parametrize("kind", KINDS)
def test_nesting_is_refused_before_it_hurts(kind: str):
    deep: Any = {}
    for _ in range(100_000):
        deep = {"detail": deep} if kind != "opa" else [deep]
    with pytest.raises(BadAlert, match="nested more than 64 levels"):
        read(rules(kind), deep)
    while deep:  # taken apart level by level: freeing it whole would recurse
        deep = deep.get("detail") if isinstance(deep, dict) else deep[0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 5000, {1: 2}, {"a": object()}, b"x", {"a": {1, 2}}])
def test_what_is_not_json_is_refused(value: Any):
    for kind in KINDS:
        with pytest.raises(BadAlert):
            read(rules(kind), value)


def test_integers_beyond_canonical_json_become_digits():
    alert = _alert()
    alert["alerts"][0]["values"] = {"n": SAFE_INTEGER + 1}
    (read_alert,) = read(rules("grafana"), alert)
    assert read_alert.unmapped["values"] == {"n": str(SAFE_INTEGER + 1)}
