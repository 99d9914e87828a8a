"""An agent with Vault and GitHub is cut off part by part: a drill on the simulated estate, played whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from bot.config import EXAMPLE, load
from bot.domain.containment import Containment
from bot.drill.scenario import load_scenario
from bot.wiring import rehearsal

SECTION = """\
    github:
      app: agents_app
      installation: 77
      login: "agent-7[bot]"
      workflows: ["acme/shop:deploy.yml"]
      environments: ["acme/shop:production"]
    aws:
"""
CONNECTIONS = """\
connections:
  github: {kind: github, token: env:GITHUB_TOKEN}
  agents_app: {kind: github, app_id: "1234", private_key: file:secrets/agents-app.pem}
"""
HEAD = """\
apiVersion: firedoor/v1
kind: Playbook
id: unintended-production-change
version: 1.0.0
description: Everything, part by part.
rung: act
triggers:
  - types: [unintended_production_change]
limits: {runs: 20/1h, targets: 30, targets_percent: 100}
steps:
"""
STEP = """\
  s{number}:
    uses: {action}
    with: {{agent: "${{{{ agent.id }}}}"}}
    contains: true{more}
"""
STEPS = {
    "vault.disable_entity": "",
    "vault.stop_role": "\n    after: [s0]",
    "vault.destroy_secret_ids": "\n    irreversible: true",
    "vault.revoke_accessors": "\n    irreversible: true",
    "vault.revoke_leases": "\n    irreversible: true",
    "github.revoke_installation": "\n    require: verified-effect",
    "github.disable_workflow": "",
    "github.cancel_runs": "\n    irreversible: true",
    "github.block_environment": "",
}
DRILL = """\
apiVersion: firedoor/v1
kind: Drill
id: parts
title: An agent on GitHub
agent: agent-7
starts: "2026-03-02T02:47:00Z"
until: 20m
faults:
  - {at: 0s, system: github, times: 3, why: "throttled"}
alerts:
  - at: 0s
    ago: 38s
    source: siem
    payload:
      id: f-1
      rule: {id: agent-ddl-outside-plan, name: "Agent ran DDL outside its approved plan"}
      severity: critical
      agent: {id: agent-7}
      types: [unintended_production_change]
      message: "agent-7 deployed what nobody asked for"
      labels: {env: prod}
"""


def folder(path: Path) -> Path:
    shutil.copytree(EXAMPLE, path)
    agents = path / "agents.yaml"
    agents.write_text(agents.read_text().replace("    aws:\n", SECTION, 1))
    settings = path / "firedoor.yaml"
    settings.write_text(settings.read_text().replace("connections:\n", CONNECTIONS, 1))
    steps = (STEP.format(number=n, action=action, more=more) for n, (action, more) in enumerate(STEPS.items()))
    (path / "playbooks/unintended-production-change.yaml").write_text(HEAD + "".join(steps))
    (path / "drills/parts.yaml").write_text(DRILL)
    return path


def test_an_agent_is_cut_off_from_vault_and_github_part_by_part(tmp_path: Path) -> None:
    config = load(folder(tmp_path / "operator"))
    agent = config.agents.agents["agent-7"]
    assert config.agents.count("github-installation") == 1
    scenario = load_scenario(tmp_path / "operator/drills/parts.yaml")
    played = rehearsal(scenario, config, tmp_path / "operator", f"sqlite:///{tmp_path}/record.db")

    def alive() -> list[str]:
        return [one for one in played.estate.alive(agent) if "Vault" in one or "acme" in one or "installation" in one]

    assert len(alive()) == 6
    incident = played.run(lambda _line: None)
    assert incident.containment is Containment.CONTAINED
    assert alive() == []
    assert played.estate.githubs["github"].faults.waiting() == [], "it was waited out"
