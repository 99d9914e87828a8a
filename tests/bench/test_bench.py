"""The bench's programs are alive: a tiny storm goes all the way and everything in it is accounted for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bench import credentials, ledger, modes, storm
from bench.figures import Row, Spread, Target, table
from bench.slack import burst, most

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_tiny_storm_is_kept_counted_and_paged_once() -> None:
    rows = storm.measure("sqlite", "", seconds=0.05, alerts=100)  # raises where a count is wrong
    assert [row.measure for row in rows] == [
        "storm, distinct, sqlite, 2,000/s",
        "storm, distinct, sqlite, saturated",
        "storm, one alert repeated, sqlite",
    ]
    assert all(row.ratio and row.targets for row in rows)


def test_nothing_measured_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Spread.of([])


def test_percentiles_are_those_of_the_sorted_values() -> None:
    assert Spread.of([n / 1000 for n in range(100, 0, -1)]) == Spread(100, 51.0, 100.0, 100.0)


def test_a_missed_target_says_by_how_much() -> None:
    fast, few = Target("p99", 30.0, 10.0, "ms"), Target("alerts", 1_000.0, 4_000.0, "/s", at_least=True)
    assert str(fast) == "MISSED 3.0 x: p99 30.0 ms, <= 10.0"
    assert str(few) == "MISSED 4.0 x: alerts 1,000.0 /s, >= 4,000.0"
    row = Row("storm", "3 / 30", "1 / 2", 3.0, (fast, Target("p50", 3.0, 5.0, "ms")))
    assert not row.met
    assert table([row]).splitlines()[2].endswith("met: p50 3.0 ms, <= 5.0")


def test_a_small_ledger_is_sealed_proved_and_audited() -> None:
    rows = ledger.measure(entries=300)  # raises where the audit finds anything
    assert [row.ratio is not None for row in rows] == [True, False, False, True]


def test_a_few_credentials_are_cut_and_no_sooner_than_their_calls_take() -> None:
    (row,) = credentials.measure("sqlite", "", sizes=(4,), runs=1)
    assert row.ratio is not None
    assert row.ratio >= 0.9


@pytest.mark.soak
def test_a_few_agents_are_told_and_opa_is_told_that_nothing_changed() -> None:
    told, polled = modes.measure("sqlite", "", agents=10, seconds=0.1)  # raises where one is not told
    assert told.ratio
    assert polled.ratio


def test_calls_are_counted_for_the_worst_minute_wherever_it_begins() -> None:
    stamps = [NOON + timedelta(seconds=s) for s in (0, 50, 70, 109, 110)]
    assert most(stamps, timedelta(seconds=60)) == 3
    assert most(stamps[:1], timedelta(seconds=60)) == 1


def test_a_burst_is_what_runs_ahead_of_one_a_second() -> None:
    def posts(*seconds: float) -> float:
        return burst([NOON + timedelta(seconds=s) for s in seconds])

    assert posts(0, 1, 2, 3) == 1
    assert posts(0, 0, 0, 0.5) == 3.5
    assert posts(0, 0, 10, 10) == 2  # what it has rested does not count
