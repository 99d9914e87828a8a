"""Every shipped drill, played as `make drill` plays it."""

from __future__ import annotations

import json
import re
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


@pytest.mark.parametrize("scenario", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_drill_meets_its_targets_and_leaves_its_report(scenario: Path, tmp_path: Path) -> None:
    code, said = play(scenario, tmp_path)
    assert code == 0, "\n".join(said)
    score = json.loads((tmp_path / "score.json").read_text())
    assert score["passed"]
    assert {one["measure"] for one in score["times"]} == {
        "time_to_detect",
        "time_to_contain",
        "time_to_acknowledge",
        "time_to_notify",
    }
    assert all(one["result_seconds"] is not None for one in score["times"])
    for paper in ("postmortem.md", "customer-initial.md", "internal-brief.md"):
        assert "to be completed by" in (tmp_path / paper).read_text()
    report = (tmp_path / "report.html").read_text()
    assert "<svg" in report
    assert "Direct messages to" in report  # Slack, as people saw it
    fetched = re.findall(r"""(?:src|href|url\()\s*=?\s*["']?(https?:[^"')\s]+)""", report)
    assert fetched == []  # self-contained


def test_the_shipped_drills_run_every_shipped_playbook(tmp_path: Path) -> None:
    config = load(EXAMPLE)
    ran = set()
    for path in SHIPPED:
        run = rehearsal(load_scenario(path), config, EXAMPLE, f"sqlite:///{tmp_path}/{path.stem}.db")
        incident = run.run(lambda _line: None)
        assert incident.frozen.playbook
        assert incident.frozen.runbook
        ran.add(incident.frozen.playbook.id)
    assert ran == set(config.playbooks)


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
