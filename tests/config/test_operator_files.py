"""What an operator may get wrong, and what they are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.config import ConfigErrors, check, resolve
from bot.config.runbooks import load_runbook
from bot.config.secrets import SecretRef, secret_ref
from bot.errors import ConfigError
from tests.config.folder import Folder

SQLITE = 'url: "sqlite:///firedoor.db"'
SRE_1 = "name: SRE 1, email: sre-1@example.com, slack: U0SRE1,"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "firedoor.yaml",
            "install: example",
            "instal: x",
            "unknown key 'instal' in firedoor.yaml. Did you mean 'install'?",
        ),
        ("firedoor.yaml", "mode: sandbox", "mode: dev", "'mode' is 'dev', which is none of live, sandbox, tabletop."),
        ("firedoor.yaml", SQLITE, "url: postgresql://a:hush@db/x", "'url' holds a password."),
        ("firedoor.yaml", SQLITE, "", "'store' needs either 'url' or 'url_secret'."),
        ("firedoor.yaml", "port: 8080", "port: 80800", "'port' is 80800; it must be between 0 and 65535."),
        ("firedoor.yaml", "env:FIREDOOR_VAULT_TOKEN", "hvs.hush", "'token' must name a secret, not hold one."),
        ("firedoor.yaml", "env:FIREDOOR_SLACK_BOT_TOKEN", "xoxb-hush", "'bot_token' must name a secret, not hold one."),
        ("firedoor.yaml", "  app_token: env:FIREDOOR_SLACK_APP_TOKEN\n", "", "'slack' needs either 'app_token'"),
        ("firedoor.yaml", "https://vault.", "https://root:hush@vault.", "'url' holds a user or password."),
        ("firedoor.yaml", "https://vault.", "ftp://vault.", "'url' is not an http(s) URL."),
        ("firedoor.yaml", "kind: gateway", "kind: gatewy", "'kind' is 'gatewy', which is none of vault, aws, gateway"),
        ("firedoor.yaml", "kind: folder", "kind: s3", "'bucket' and kind s3 belong together."),
        ("firedoor.yaml", "dedup_window: 1h", "dedup_window: 48h", "'dedup_window' is longer than a day."),
        ("firedoor.yaml", "containment: 15m", "containment: 0s", "'containment' must be longer than nothing."),
        ("firedoor.yaml", "ack_ttl: {SEV1:", "ack_ttl: {SEV0:", "unknown key 'SEV0' in 'ack_ttl'. Did you mean 'SEV"),
        ("firedoor.yaml", "updates: {SEV1: 30m", "updates: {SEV1: 30s", "'SEV1': an update every 0:00:30 keeps people"),
        ("agents.yaml", "aws/creds/agent-7/", "aws/", "the lease prefix 'aws/' is too wide."),
        ("agents.yaml", "i-0a91bb0c77de41f02", "web-1", "'web-1' is no EC2 instance id."),
        ("agents.yaml", "entity_id: e-9", "entity_id: e-7", "'e-7' belongs to 'agent-7' and to 'agent-9'."),
        ("agents.yaml", "::123456789012:role/agents/agent-9", "::999999999999:role/agents/agent-9", "another account"),
        (
            "agents.yaml",
            "arn:aws:iam::123456789012:role/agents/agent-7",
            "agent-7",
            "'agent-7' is not the ARN of a role.",
        ),
        ("agents.yaml", ":role/firedoor", ":role/agents/agent-7", "is the bot's own and belongs to agent 'agent-7'."),
        (
            "agents.yaml",
            "team: platform",
            "delegates: [agent-8]",
            "an unknown delegate 'agent-8'. Did you mean 'agent-",
        ),
        ("people.yaml", "env:FIREDOOR_TOTP_SRE_1", "JBSWY3DPEHPK3PXP", "'totp' must name a secret, not hold one."),
        (
            "people.yaml",
            SRE_1,
            f"{SRE_1} ways: [webhook],",
            "'sre-1' is to be reached by webhook, and has no 'webhook'.",
        ),
        (
            "people.yaml",
            "persons: [sre-1, sre-2]",
            "persons: [sre-1, sre-3]",
            "'sre' names 'sre-3', no person. Did you",
        ),
        ("people.yaml", "dpo: {on_call: [dpo]}", "dpo: {}", "the role 'dpo' needs either 'on_call' or 'rotation'."),
        ("people.yaml", "erase: [dpo]", "erase: [dpos]", "'erase' names 'dpos', no role or group. Did you mean 'dpo'?"),
        ("people.yaml", "erase: [dpo]", "eras: [dpo]", "unknown verb 'eras'. Did you mean 'erase'?"),
        ("people.yaml", "  incident_commander: {on", "  commander: {on", "the role 'incident_commander' is missing"),
        (
            "escalation.yaml",
            "types: [unclassified, rogue_agent]",
            "types: [other]",
            "there is no matrix for 'unclassified'.",
        ),
        (
            "escalation.yaml",
            "types: [unclassified, rogue_agent]",
            "types: [data_exposure]",
            "the type 'data_exposure' has two matrices.",
        ),
        (
            "escalation.yaml",
            "[dpo], page_at: 10m, ack_by: 30m",
            "[dpo], page_at: 10m, ack_by: 10m",
            "after it is paged.",
        ),
        ("escalation.yaml", "[dpo], page_at: 10m", "[], page_at: 10m", "the level 'L2' names no role."),
        (
            "escalation.yaml",
            "[legal, executive], page_at: 30m",
            "[legal], page_at: 5m",
            "'L3' comes before the one above it.",
        ),
        ("sources.yaml", "auth: {kind: sqs}", "auth: {kind: none}", "'queue' and auth kind sqs belong together."),
        (
            "sources.yaml",
            "{kind: grafana, secret: env:FIREDOOR_GRAFANA_SECRET}",
            "{kind: hmac}",
            "auth hmac needs a 'secret'.",
        ),
        (
            "sources.yaml",
            "{kind: bearer, secret: env:FIREDOOR_FALCO_TOKEN}",
            "{kind: none}",
            "'falco' proves nothing, so it may only propose.",
        ),
        ("sources.yaml", "max_severity: high", "max_severity: hi", "'max_severity' is 'hi', which is none of unknown,"),
        (
            "sources.yaml",
            "kind: generic",
            "kind: falco",
            "a field map belongs to the kinds generic and slack; 'siem' is falco.",
        ),
        (
            "sources.yaml",
            "'data_exposure' in alert.types",
            "'x' in alert.typs",
            "there is no 'typs'. Did you mean 'types'?",
        ),
    ],
)
def test_refused(folder: Folder, file: str, old: str, new: str, message: str) -> None:
    found = folder.edit(file, old, new).problems()
    assert any(line.startswith(f"{file}:") and message in line for line in found), found
    assert "hush" not in "\n".join(found)


def test_every_file_is_reported_in_one_run(folder: Folder) -> None:
    folder.edit("firedoor.yaml", "mode: sandbox", "mode: dev").edit("people.yaml", "erase:", "eras:")
    folder.edit("playbooks/unclassified.yaml", "rung: propose", "rung: maybe")
    (folder.path / "escalation.yaml").unlink()
    (folder.path / "agents.yaml").write_text("agents: [")
    with pytest.raises(ConfigErrors) as error:
        folder.load()
    files = [problem.where.partition(":")[0] for problem in error.value.problems]
    assert files == ["firedoor.yaml", "agents.yaml", "people.yaml", "escalation.yaml", "playbooks/unclassified.yaml"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "people.yaml",
            "  legal: {on_call: [legal]}",
            "  legal: {on_call: []}",
            "nobody holds the role 'legal'; escalation",
        ),
        ("people.yaml", "  legal: {on_call: [legal]}\n", "  law: {on_call: [legal]}\n", "the role 'legal' is missing;"),
        ("people.yaml", ", email: dpo@example.com, slack: U0DPO", "", "data_exposure: nobody of the level 'L2' can be"),
        ("people.yaml", "owner-2@example.com, slack: U0INFRA2, groups: [infra_owner]", "x@example.com", None),
        (
            "firedoor.yaml",
            "ways: {email: mail, webhook: hooks}",
            "ways: {email: mail}",
            "people are reached by webhook",
        ),
        (
            "firedoor.yaml",
            "  agents: {kind: gateway",
            "  gate: {kind: gateway",
            "agents.yaml: agent-7: the connection 'agents' is not in",
        ),
        (
            "firedoor.yaml",
            "  deploy_api: {",
            "  deployment: {",
            "unintended-production-change.yaml:117: the connection 'deploy_api'",
        ),
        ("firedoor.yaml", 'account: "123456789012"', 'account: "1"', "'agent-7' lives in account 123456789012"),
        ("agents.yaml", "owner: product-owner", "owner: somebody", "the owner 'somebody' of 'agent-9' is no person."),
        (
            "agents.yaml",
            "risk: medium}\n    gateways: [agents]",
            "risk: low}",
            "agent 'agent-9' has no gateway to refuse a",
        ),
        (
            "sources.yaml",
            "types: [unintended_production_change]",
            "agents: [agent-8]",
            "speak of 'agent-8', which is no agent",
        ),
        (
            "sources.yaml",
            "or 'InstanceCredential' in alert.rule) }}\n    type: data_exposure",
            "or false) }}\n    type: leak",
            "'leak'",
        ),
        (
            "playbooks/unclassified.yaml",
            "types: [unclassified]",
            "types: [odd]",
            "triggered by 'odd', which has no matrix.",
        ),
        (
            "playbooks/data-exposure.yaml",
            "security_team: 1",
            "security_team: 4",
            "asks 4 of 'security_team', and people",
        ),
        ("playbooks/data-exposure.yaml", "security_team: 1", "security_team: 3", "no one to stand in for them."),
        (
            "people.yaml",
            "security-ops-2@example.com",
            "Security-Ops-1@example.com",
            "'security-ops-1' and 'security-ops-2' are one person",
        ),
        ("people.yaml", "slack: U0INFRA2", "slack: U0INFRA1", "'infra-owner-1' and 'infra-owner-2' are one person"),
        (
            "playbooks/data-exposure.yaml",
            "security_team: 1}",
            "security_team: 3}, step_up: totp",
            "asks 3 of 'security_team' for a TOTP code, and 2 of them have a secret.",
        ),
        (
            "runbooks/unclassified.md",
            "\nplaybook: unclassified",
            "\nplaybook: nothing",
            "the playbook 'nothing', which is missing",
        ),
        ("runbooks/unclassified.md", "type: unclassified", "type: other", "its type 'other' has no matrix."),
    ],
)
def test_check(folder: Folder, file: str, old: str, new: str, message: str | None) -> None:
    folder.edit(file, old, new)
    found = [str(problem) for problem in check(folder.load(), folder.actions)]
    assert message is None or any(message in line for line in found), found


def test_advice_does_not_block(folder: Folder) -> None:
    folder.edit("runbooks/unclassified.md", "type: unclassified", "type: other")
    found = check(folder.load(), folder.actions)
    assert {problem.blocking for problem in found} == {True, False}
    assert all(("warning: " in str(problem)) is not problem.blocking for problem in found)


def test_secrets_are_read_when_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "one")
    (tmp_path / "token").write_text("two\n")
    (tmp_path / "empty").write_text("")
    assert resolve(SecretRef("env", "A_TOKEN")) == "one"
    assert resolve(SecretRef("file", str(tmp_path / "token"))) == "two"
    for missing in ("env:NOT_SET_ANYWHERE", f"file:{tmp_path}/none", f"file:{tmp_path}/empty"):
        ref = secret_ref(missing)
        assert ref is not None
        with pytest.raises(ConfigError, match=re.escape(missing)):
            resolve(ref)
    assert secret_ref("hunter2") is None
    assert secret_ref("env:NOT A NAME") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# no front matter", "r.md:1: a runbook starts with YAML between two lines of '---'."),
        ("---\nid: x\n", "r.md:1: a runbook starts with YAML"),
        ("---\nid: x\nid: y\n---\n", "r.md:3: the key 'id' stands twice (first at line 2)."),
    ],
)
def test_refused_runbooks(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_runbook(text, "r.md")
    assert str(error.value).startswith(message)


def test_phases_stand_in_the_order_of_their_deadlines(folder: Folder) -> None:
    folder.edit("runbooks/data-exposure.md", "due: 2h", "due: 30m")
    assert any("not in the order of their deadlines" in line for line in folder.problems())
