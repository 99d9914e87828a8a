"""policies/actions.yaml: the shipped one, and every way to get one wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.config import check
from tests.config.folder import Folder

FILE = "policies/actions.yaml"
TICKET = "  - id: create-ticket\n    description: Open or comment a ticket.\n    risk: low\n"


def test_the_shipped_policy_reads_and_fits_the_people(folder: Folder):
    config = folder.load()
    infra = config.policy["modify-infra"]
    assert (infra.risk, infra.privileged, infra.each) == ("high", True, {"security_team": 1, "infra_owner": 1})
    assert (infra.valid_for, infra.covers) == (timedelta(hours=2), 2)  # the canary, and production after it
    assert config.policy["change-access"].covers == 1
    assert not config.policy["read-only-files"].privileged
    assert [one for one in check(config, folder.actions) if "policies" in one.where] == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    risk: medium\n", "    risk: huge\n", "'risk' is 'huge', which is none of low, medium, high"),
        (TICKET, TICKET + "    rsk: low\n", "unknown key 'rsk' in an action"),
        (TICKET, TICKET.replace("create-ticket", "modify-infra"), "the action 'modify-infra' stands twice"),
        ('["tool:ticket.*"]', '["ticket"]', "'ticket' is no name of a log"),
        ("kind: ActionPolicy", "kind: Policy", "'kind' is 'Policy'"),
        ("approvers: [security_team, infra_owner] # one", "approvers: [] # one", "names no 'approvers'"),
        ("valid_for: 2h # from", "valid_for: 0s # from", "would run out as it is given"),
        ("covers: 2 #", "covers: 0 #", "'covers'"),
        (TICKET, TICKET + "    covers: 2\n", "says how much an approval 'covers', and requires none"),
        ("allowed_actions:", "actions:", "'allowed_actions' is missing"),
    ],
)
def test_a_mistake_is_said_with_its_file_and_line(folder: Folder, old: str, new: str, said: str):
    problems = folder.edit(FILE, old, new).problems()
    assert any(said in problem and problem.startswith(f"{FILE}:") for problem in problems), problems


def test_a_group_that_nobody_is_in_does_not_pass(folder: Folder):
    folder.edit(FILE, "approvers: [security_team, infra_owner] # one", "approvers: [security_tem] # one")
    (problem,) = (one for one in check(folder.load(), folder.actions) if one.where == FILE)
    assert problem.blocking
    assert "Did you mean 'security_team'?" in str(problem)


def test_without_the_file_there_is_no_policy(folder: Folder):
    (folder.path / FILE).unlink()
    config = folder.load()
    assert config.policy == {}
    (advice,) = (one for one in check(config, folder.actions) if one.where == FILE)
    assert not advice.blocking
    assert "no approval is audited" in str(advice)


TOKEN = "token: env:FIREDOOR_VAULT_TOKEN}"


@pytest.mark.parametrize(
    ("audit", "said"),
    [
        ("{path: audit.log, bucket: b, connection: aws}", "needs either 'path' or 'bucket'"),
        ("{bucket: b}", "needs the 'connection' that reaches its bucket"),
        ("{pth: audit.log}", "unknown key 'pth' in 'audit'"),
    ],
)
def test_an_audit_log_is_a_file_a_url_or_a_bucket(folder: Folder, audit: str, said: str):
    folder.edit("firedoor.yaml", TOKEN, f"token: env:FIREDOOR_VAULT_TOKEN, audit: {audit}}}")
    assert any(said in problem and problem.startswith("firedoor.yaml:") for problem in folder.problems())


def test_an_audit_log_is_reached_through_a_connection_of_its_kind(folder: Folder):
    folder.edit("firedoor.yaml", TOKEN, TOKEN[:-1] + ", audit: {path: /audit, connection: aws}}")
    (problem,) = (one for one in check(folder.load(), folder.actions) if "vault.audit" in one.where)
    assert "is not of kind http" in str(problem)
