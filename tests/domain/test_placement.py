from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.domain.alert import Alert, Resource, Sev, Severity
from bot.domain.placement import clamp, key_of, severity_of
from bot.domain.source import SourceRules

SOURCE = SourceRules(name="siem", kind="generic", owner="person-1")
ALERT = Alert("u", "siem", "x", "rule", Severity.HIGH, datetime(2026, 1, 5, tzinfo=UTC), agent_uid="agent-7")


@pytest.mark.parametrize(("ocsf", "sev"), [(0, 3), (1, 4), (2, 4), (3, 3), (4, 2), (5, 1), (6, 1)])
def test_levels_by_default(ocsf: int, sev: int):
    assert severity_of(replace(ALERT, severity_id=Severity(ocsf)), SOURCE) == Sev(sev)


@pytest.mark.parametrize(("severity", "ceiling", "found"), [(6, 3, 3), (2, 3, 2), (0, 3, 0), (0, 2, 2), (5, 0, 0)])
def test_clamping_takes_unknown_for_medium(severity: int, ceiling: int, found: int):
    assert clamp(Severity(severity), Severity(ceiling)) == found


def test_a_critical_asset_makes_it_more_urgent_up_to_the_sources_word():
    on_asset = replace(ALERT, severity_id=Severity.MEDIUM, resources=(Resource("i-1", criticality="Critical"),))
    assert severity_of(on_asset, SOURCE) is Sev.SEV2
    assert severity_of(on_asset, replace(SOURCE, max_severity=Severity.MEDIUM)) is Sev.SEV3
    assert severity_of(replace(on_asset, severity_id=Severity.FATAL), SOURCE) is Sev.SEV1


def test_keys():
    assert key_of(ALERT, "data_exposure") == "agent-7|data_exposure"
    unknown = replace(ALERT, agent_uid=None)
    assert key_of(unknown, "data_exposure") == f"#{unknown.dedup_key()}|data_exposure"


def test_severity_maps_hold_ocsf_numbers():
    with pytest.raises(ValueError, match="0 to 6"):
        replace(SOURCE, severity_map={"P1": 9})
