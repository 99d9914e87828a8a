"""Every shipped drill, played as `make drill` plays it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from bot.config import EXAMPLE, load
from bot.drill.command import DRILLS, drill
from bot.drill.scenario import load_scenario
from bot.errors import ConfigError
from bot.wiring import rehearsal

SHIPPED = sorted(DRILLS.glob("*.yaml"))


def play(scenario: Path, out: Path) -> tuple[int, list[str]]:
    said: list[str] = []
    return drill(scenario, out, None, said.append, rehearsal), said


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], tuple[int, list[str], Path]]:
    """Exit code, what was said, and the folder of reports. A drill is played once, and every test reads that."""

    @cache
    def played(scenario: Path) -> tuple[int, list[str], Path]:
        out = tmp_path_factory.mktemp(scenario.stem)
        return (*play(scenario, out), out)

    return played


@pytest.mark.parametrize("scenario", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_drill_meets_its_targets_and_leaves_its_report(
    scenario: Path, shipped: Callable[[Path], tuple[int, list[str], Path]]
) -> None:
    code, said, out = shipped(scenario)
    assert code == 0, "\n".join(said)
    score = json.loads((out / "score.json").read_text())
    assert score["passed"]
    assert {one["measure"] for one in score["times"]} == {
        "time_to_detect",
        "time_to_contain",
        "time_to_acknowledge",
        "time_to_notify",
    }
    assert all(one["result_seconds"] is not None for one in score["times"])
    for paper in ("postmortem.md", "customer-initial.md", "internal-brief.md"):
        assert "to be completed by" in (out / paper).read_text()
    report = (out / "report.html").read_text()
    assert "<svg" in report
    assert "Direct messages to" in report  # Slack, as people saw it
    fetched = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(https?:[^"')\s]+)""", report)
    assert fetched == []  # self-contained


def test_the_shipped_drills_run_every_shipped_playbook(shipped: Callable[[Path], tuple[int, list[str], Path]]) -> None:
    scores = [json.loads((shipped(path)[2] / "score.json").read_text()) for path in SHIPPED]
    assert all(score["runbook"] for score in scores)
    assert {score["playbook"] for score in scores} == set(load(EXAMPLE).playbooks)


def test_a_drill_that_is_not_contained_in_time_fails(tmp_path: Path) -> None:
    """Nobody approves the quarantine: the target is missed, and the command says so."""
    text = (DRILLS / "dropped-table.yaml").read_text()
    kept = [line for line in text.splitlines() if "step: quarantine_role" not in line]
    path = tmp_path / "nobody.yaml"
    path.write_text(
        "\n".join(kept)
        .replace("roll_back: true", "roll_back: false")
        .replace("  - {at: 16m, who: infra-owner-2, does: approve, step: restore_config}\n", "")
    )
    code, said = play(path, tmp_path / "out")
    assert code == 1
    score = json.loads((tmp_path / "out/score.json").read_text())
    verdicts = {one["measure"]: one["verdict"] for one in score["times"]}
    assert verdicts["time_to_contain"] == "missed"
    assert not score["passed"]
    assert any("MISSED" in line for line in said)


def test_a_script_that_does_not_fit_the_product_is_refused_by_line(tmp_path: Path) -> None:
    text = (DRILLS / "dropped-table.yaml").read_text().replace("refused: own_request", "refused: closed")
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"wrong\.yaml:\d+: security-ops-1 could not approve: You started"):
        play(path, tmp_path / "out")


def test_a_broken_scenario_says_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("apiVersion: firedoor/v1\nkind: Drill\nid: x\ntitle: y\nagent: agent-7\nstarts: noon\npepole: []\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml:6"):
        load_scenario(path)
