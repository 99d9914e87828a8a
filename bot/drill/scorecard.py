"""What a drill is scored on: the four times of the blueprint, and whether the proof holds when the agent is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bot.documents.report import Score, scores
from bot.domain.containment import Containment
from bot.domain.incident import Incident
from bot.domain.measures import Measures, Verdict, measures
from bot.domain.record import Entry


@dataclass(frozen=True, slots=True)
class Scorecard:
    measures: Measures
    checks: tuple[Score, ...]

    @property
    def passed(self) -> bool:
        return all(line.verdict is Verdict.MET for line in self.lines)

    @property
    def lines(self) -> tuple[Score, ...]:
        return (*scores(self.measures), *self.checks)

    def json(self, scenario: str, incident: Incident) -> dict[str, Any]:
        """score.json: times in seconds, null where it was not reached."""
        times = [
            {
                "measure": f"time_to_{one.name}",
                "target_seconds": one.target.total_seconds(),
                "result_seconds": None if one.result is None else one.result.total_seconds(),
                "verdict": str(one.verdict),
                "note": one.note,
            }
            for one in self.measures
        ]
        checks = [
            {"check": one.measure, "wanted": one.target, "found": one.result, "verdict": str(one.verdict)}
            for one in self.checks
        ]
        return {
            "scenario": scenario,
            "incident": incident.id,
            "playbook": incident.frozen.playbook.id if incident.frozen.playbook else None,
            "runbook": incident.frozen.runbook.id if incident.frozen.runbook else None,
            "containment": str(incident.containment),
            "status": str(incident.status),
            "times": times,
            "checks": checks,
            "passed": self.passed,
        }


def score(
    incident: Incident, entries: Sequence[Entry], replayed: Incident, alive: Sequence[str], verified: int
) -> Scorecard:
    """`alive`: what the agent gets through at the end. `replayed`: the verified record folded again."""
    contained = incident.containment is Containment.CONTAINED
    return Scorecard(
        measures(incident, entries),
        (
            _check("Containment, by the record", "contained", str(incident.containment), contained),
            _check("What the agent gets through at the end", "nothing", ", ".join(alive) or "nothing", not alive),
            _check(
                "The record verifies and replays",
                "to the same state",
                f"{verified} entries, {'the same' if replayed == incident else 'another state'}",
                replayed == incident,
            ),
        ),
    )


def _check(what: str, wanted: str, found: str, met: bool) -> Score:
    return Score(what, wanted, found, Verdict.MET if met else Verdict.MISSED)
