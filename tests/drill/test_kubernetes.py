"""An agent that runs in a cluster, cut there too, as `firedoor drill` plays it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import yaml

from bot.config import EXAMPLE, load
from bot.domain.containment import Containment
from bot.domain.outcome import Done, Grade
from bot.drill.command import DRILLS
from bot.drill.scenario import load_scenario
from bot.wiring import rehearsal

AGENT = """  agent-7:
    service_accounts: ["system:serviceaccount:agents:agent-7"]
    kubernetes: {workloads: [agents/Deployment/agent-7], pod_labels: {app: agent-7}}
"""
STEPS = {
    "pods": {"uses": "k8s.collect_pods", "irreversible": True},
    "tokens": {"uses": "k8s.revoke_tokens", "contains": True, "require": "verified-effect"},
    "network": {"uses": "k8s.deny_network", "contains": True},
    "stop": {"uses": "k8s.scale_to_zero", "contains": True, "after": ["pods"]},
}


def test_pods_are_kept_then_stopped_and_no_token_lives(tmp_path: Path) -> None:
    folder = tmp_path / "operator"
    shutil.copytree(EXAMPLE, folder)
    agents, settings = folder / "agents.yaml", folder / "firedoor.yaml"
    agents.write_text(agents.read_text().replace("  agent-7:\n", AGENT, 1))
    cluster = "\nconnections:\n  kubernetes: {kind: kubernetes, in_cluster: true}\n"
    settings.write_text(settings.read_text().replace("\nconnections:\n", cluster, 1))
    path = folder / "playbooks/data-exposure.yaml"
    playbook = yaml.safe_load(path.read_text())
    playbook["steps"] |= {name: {**step, "with": {"agent": "${{ agent.id }}"}} for name, step in STEPS.items()}
    path.write_text(yaml.safe_dump(playbook, sort_keys=False))
    scenario = load_scenario(DRILLS / "leaked-key.yaml")
    early = timedelta(minutes=10)
    scenario = replace(scenario, until=early, people=tuple(move for move in scenario.people if move.at < early))
    run = rehearsal(scenario, load(folder), folder, f"sqlite:///{tmp_path}/record.db")
    sim = run.estate.clusters["kubernetes"]
    assert {each for each in run.estate.alive(run.config.agents.agents["agent-7"]) if "agents" in each} >= {
        "token of system:serviceaccount:agents:agent-7"
    }
    assert len(sim.running("agents")) == 2

    incident = run.run(lambda _line: None)

    assert incident.containment is Containment.CONTAINED
    assert run.estate.alive(run.config.agents.agents["agent-7"]) == []
    assert sim.running("agents") == []
    (tokens,) = incident.steps["tokens"].calls.values()
    assert isinstance(tokens.outcome, Done)
    assert tokens.outcome.grade is Grade.EFFECT
    (pods,) = incident.steps["pods"].calls.values()
    assert isinstance(pods.outcome, Done)
    assert run.estate.evidence
    manifest = json.loads(run.estate.evidence.get(pods.outcome.evidence["manifest"]) or b"")
    assert len(manifest["items"]) == 2
    assert "hvs." not in json.dumps(manifest)
