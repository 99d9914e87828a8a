"""`firedoor actions policy`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Firedoor

PLAYBOOK = """\
apiVersion: firedoor/v1
kind: Playbook
id: unclassified
version: 1.0.0
description: One step.
rung: propose
triggers:
  - types: [unclassified]
limits: {runs: 20/1h, targets: 10, targets_percent: 50}
steps:
  closed:
    uses: aws.scp_deny
    with: {agent: "${{ agent.id }}", connection: organization}
    contains: true
    intent: Deny it everything.
    impact: It stops.
    cost: None.
    policy: contain-agent
"""


def test_the_policies_name_the_agents_own_resources(firedoor: Firedoor, folder: Path) -> None:
    told = json.loads(firedoor("actions", "policy", "--config", folder, "--json").out)
    statements = told["aws"]["aws"]["Statement"]
    of = {action: statement for statement in statements for action in statement["Action"]}
    roles = [f"arn:aws:iam::123456789012:role/agents/agent-{each}" for each in (7, 9)]
    assert of["iam:PutRolePolicy"]["Resource"] == roles
    assert of["iam:UpdateAccessKey"]["Resource"] == ["arn:aws:iam::123456789012:user/agent-7"]
    assert of["iam:AttachRolePolicy"]["Condition"] == {
        "ArnEquals": {"iam:PolicyARN": ["arn:aws:iam::aws:policy/AWSDenyAll"]}
    }
    assert "lambda:PutFunctionConcurrency" not in of, "no playbook uses it"
    vault = told["vault"]["vault"]
    assert 'path "identity/entity/id/e-7" { capabilities=["read","update"] }' in vault
    assert 'path "sys/leases/lookup/database/creds/agent-9/*" { capabilities=["list","sudo"] }' in vault
    assert not any("+" in line for line in vault)


def test_it_is_printed_as_it_is_pasted(firedoor: Firedoor, folder: Path) -> None:
    told = firedoor("actions", "policy", "--config", folder)
    assert told.code == 0
    _, _, rest = told.out.partition("AWS connection aws\n")
    document, _ = json.JSONDecoder().raw_decode(rest)
    assert document["Version"] == "2012-10-17"
    assert 'path "sys/leases/revoke" { capabilities=["update"] }' in told.out


def test_a_connection_that_the_playbook_names_gets_what_it_needs_and_no_other(firedoor: Firedoor, folder: Path) -> None:
    (folder / "playbooks/unclassified.yaml").write_text(PLAYBOOK)
    told = firedoor("actions", "policy", "--config", folder, "--json")
    assert told.code == 0, told.err
    policies = json.loads(told.out)["aws"]
    assert "organizations" not in json.dumps(policies["aws"])
    statements = policies["organization"]["Statement"]
    assert [each["Resource"] for each in statements] == [["*"]]
    assert all(action.startswith("organizations:") for each in statements for action in each["Action"])


def test_github_permissions_name_the_repositories(firedoor: Firedoor, folder: Path) -> None:
    steps = PLAYBOOK.replace("aws.scp_deny", "github.disable_workflow").replace(", connection: organization", "")
    (folder / "playbooks/unclassified.yaml").write_text(steps)
    agents = folder / "agents.yaml"
    section = '    github: {workflows: ["acme/shop:deploy.yml"], repositories: ["acme/docs"]}\n    aws:\n'
    agents.write_text(agents.read_text().replace("    aws:\n", section, 1))
    settings = folder / "firedoor.yaml"
    connection = "connections:\n  github: {kind: github, token: env:GITHUB_TOKEN}\n"
    settings.write_text(settings.read_text().replace("connections:\n", connection, 1))
    told = json.loads(firedoor("actions", "policy", "--config", folder, "--json").out)
    assert told["github"] == {"github": ["Actions: write", "on acme/docs", "on acme/shop"]}
    assert "GitHub connection github" in firedoor("actions", "policy", "--config", folder).out


def test_a_role_for_each_namespace_names_what_the_agents_have(firedoor: Firedoor, folder: Path) -> None:
    agents, settings = folder / "agents.yaml", folder / "firedoor.yaml"
    lives = """  agent-7:
    service_accounts: ["system:serviceaccount:agents:agent-7", "system:serviceaccount:batch:agent-7"]
    kubernetes: {workloads: [agents/Deployment/agent-7, batch/CronJob/nightly], pod_labels: {app: agent-7}}
"""
    agents.write_text(agents.read_text().replace("  agent-7:\n", lives, 1))
    cluster = "\nconnections:\n  kubernetes: {kind: kubernetes, in_cluster: true}\n"
    settings.write_text(settings.read_text().replace("\nconnections:\n", cluster, 1))
    kept = PLAYBOOK.partition("steps:\n")[0] + "steps:\n"
    words = 'with: {agent: "${{ agent.id }}"}, contains: true'
    for action in ("revoke_tokens", "scale_to_zero", "deny_network"):
        kept += f"  {action}: {{uses: k8s.{action}, {words}, intent: a, impact: b, cost: c, policy: contain-agent}}\n"
    (folder / "playbooks/unclassified.yaml").write_text(kept)
    told = firedoor("actions", "policy", "--config", folder, "--json")
    assert told.code == 0, told.err
    here, batch = json.loads(told.out)["kubernetes"]["kubernetes"]
    assert [each["metadata"]["namespace"] for each in (here, batch)] == ["agents", "batch"]
    rules = {(one["resources"][0], verb): one.get("resourceNames") for one in here["rules"] for verb in one["verbs"]}
    assert rules["serviceaccounts", "delete"] == ["agent-7"]
    assert rules["serviceaccounts/token", "create"] == ["agent-7"]
    assert rules["serviceaccounts", "create"] is None, "RBAC knows no name there"
    assert rules["deployments/scale", "patch"] == ["agent-7"]
    assert rules["networkpolicies", "update"] == ["firedoor-deny-agent-7"]
    assert not any("cronjobs" in resource or "statefulsets" in resource for resource, _ in rules)
    rules = {(one["resources"][0], verb): one.get("resourceNames") for one in batch["rules"] for verb in one["verbs"]}
    assert rules["cronjobs", "patch"] == ["nightly"]
    assert rules["jobs", "patch"] is None, "a CronJob's jobs have names that nobody knows before"
    assert "kind: Role\n" in firedoor("actions", "policy", "--config", folder).out
    agents = folder / "agents.yaml"
    agents.write_text(agents.read_text().replace("kubernetes: {workloads", "kubernetes: {enrol: true, workloads", 1))
    whole = json.loads(firedoor("actions", "policy", "--config", folder, "--json").out)["kubernetes"]["kubernetes"][0]
    assert (whole["kind"], whole["rules"][0]["resources"]) == ("ClusterRole", ["tokenreviews"]), "its pods enrol"
