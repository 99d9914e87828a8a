"""Everything an operator is given works as it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.actions import Action, registry
from bot.config import EXAMPLE, Config, check, load
from bot.config.playbooks import load_playbook
from bot.config.schema import playbook_schema_text
from bot.domain.agent import Agent, AwsIdentity
from bot.domain.alert import Sev
from bot.domain.outcome import Grade
from bot.domain.playbook import Rung

ROOT = Path(__file__).parents[2]
ACTIONS = registry()


@pytest.fixture(scope="module")
def example() -> Config:
    return load(EXAMPLE)


def minutes(*numbers: int) -> list[timedelta]:
    return [timedelta(minutes=number) for number in numbers]


def test_the_example_has_nothing_wrong_with_it(example: Config) -> None:
    assert [str(problem) for problem in check(example, ACTIONS)] == []


def test_the_example_is_what_the_repository_ships() -> None:
    for name in ("playbooks", "runbooks"):
        assert (EXAMPLE / name).resolve() == ROOT / name


@pytest.mark.parametrize(
    ("type", "levels"),
    [
        (
            "unintended_production_change",
            [(("sre",), 0, 15), (("head_of_security",), 15, 30), (("cto_on_call",), 30, 60)],
        ),
        ("data_exposure", [(("security_ops",), 0, 10), (("dpo",), 10, 30), (("legal", "executive"), 30, 60)]),
        ("unclassified", [(("security_ops",), 0, 10), (("head_of_security",), 10, 30), (("cto_on_call",), 30, 60)]),
    ],
)
def test_the_matrices(example: Config, type: str, levels: list[tuple[tuple[str, ...], int, int]]) -> None:
    found = [(level.roles, level.page_at, level.ack_by) for level in example.matrices[type].levels]
    assert found == [(roles, *minutes(page_at, ack_by)) for roles, page_at, ack_by in levels]


@pytest.mark.parametrize("type", ["unintended_production_change", "data_exposure", "unclassified"])
def test_every_runbook_has_the_five_phases(example: Config, type: str) -> None:
    runbook = example.runbooks[type]
    assert [phase.name for phase in runbook.phases] == [
        "containment",
        "communication",
        "investigation",
        "remediation",
        "review",
    ]
    assert [phase.due for phase in runbook.phases] == minutes(15, 60, 120, 24 * 60, 72 * 60)
    assert all(phase.checklist for phase in runbook.phases)
    assert runbook.body_markdown.startswith("# ")
    assert runbook.playbook in example.playbooks


def test_production_change_contains_at_once_and_quarantines_with_two_groups(example: Config) -> None:
    steps = example.playbooks["unintended-production-change"].steps
    at_once = [step.id for step in steps.values() if step.contains and not step.needs and not step.after]
    assert at_once[:4] == ["shadow", "revoke_vault", "disable_keys", "revoke_sessions"]
    others = ["shadow_delegates", "revoke_delegates_vault", "disable_delegates_keys", "revoke_delegates_sessions"]
    assert at_once[4:] == [*others, "revoke_chained"]
    assert steps["shadow"].require is Grade.EFFECT
    approval = steps["quarantine_role"].approval
    assert approval is not None
    assert approval.each == {"security_team": 1, "infra_owner": 1}


def test_unclassified_only_proposes(example: Config) -> None:
    assert example.playbooks["unclassified"].rung is Rung.PROPOSE


def test_the_defaults_are_those_of_the_semantics(example: Config) -> None:
    assert [example.settings.ack_ttl[sev] for sev in Sev] == minutes(30, 60, 240, 240)
    assert example.settings.notify == ("sre", "security_ops", "product_owner", "cto_on_call")
    assert example.settings.mode == "sandbox"


def test_agents_are_found_by_what_alerts_call_them(example: Config) -> None:
    for actor in ("agent-7", "e-7", "AKIAAGENT7EXAMPLE000", "arn:aws:iam::123456789012:role/agents/agent-7"):
        agent = example.agents.by_actor([actor])
        assert agent is not None
        assert agent.id == "agent-7"
    assert example.agents.by_actor(["agent-7", "agent-9"]) is None
    assert example.agents.protected("iam-role:arn:aws:iam::123456789012:role/firedoor")
    assert not example.agents.protected("agent:agent-7")
    assert example.agents.count("iam-role") == 2


def test_instances_count_only_where_all_of_them_are_listed(example: Config) -> None:
    agent = Agent("agent-1", aws=AwsIdentity(instances=("i-1", "i-2", "i-3")))
    listed = replace(example.agents, agents={"agent-1": agent, "agent-2": Agent("agent-2")})
    assert listed.count("ec2-instance") == 3
    tagged = Agent("agent-2", aws=AwsIdentity(instance_tags=(("agent", "2"),)))
    assert replace(example.agents, agents={"agent-1": agent, "agent-2": tagged}).count("ec2-instance") == 0


def test_on_call_changes_with_the_week(example: Config) -> None:
    monday = datetime(2026, 1, 5, 9, tzinfo=UTC)
    for weeks, person in ((-1, "sre-1"), (0, "sre-1"), (1, "sre-2"), (2, "sre-1")):
        (contact,) = example.people.roster(monday + timedelta(weeks=weeks))["sre"]
        assert contact.person == person
        assert contact.ways == ("slack", "email")


def test_who_may_do_what(example: Config) -> None:
    people = example.people
    assert people.may("product-owner", "declare")
    assert people.may("head-of-security", "release")
    assert not people.may("product-owner", "release")
    assert people.may("product-owner", "release", roles=["incident_commander"])
    assert not people.may("agent-7", "declare")
    assert not people.may("product-owner", "no_such_verb")
    assert people.group("infra_owner") == ("sre-1", "infra-owner-1", "infra-owner-2")


@pytest.mark.parametrize("action", ACTIONS.values(), ids=list(ACTIONS))
def test_the_example_of_every_action_is_a_step(action: Action) -> None:
    body = "".join(f"    {line}\n" for line in action.example.strip().splitlines())
    head = "apiVersion: firedoor/v1\nkind: Playbook\nid: example\nversion: 1.0.0\nsteps:\n"
    playbook = load_playbook(f"{head}  it:\n{body}", action.id, ACTIONS)
    call = playbook.steps["it"].call
    assert call is not None
    assert call.uses == action.id


def test_the_published_schema_is_the_loaders() -> None:
    """Written by: python -m bot.config.schema > docs/playbook.schema.json"""
    assert (ROOT / "docs/playbook.schema.json").read_text() == playbook_schema_text(ACTIONS)
