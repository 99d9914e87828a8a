"""What an agent holds is looked at before and after, and what it reaches by others is cut with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bot.config import Config
from bot.domain.agent import Agent, Mode
from bot.domain.containment import Containment
from bot.domain.events import Deferred, Phase, Surveyed
from bot.domain.reach import Alive, radius
from bot.errors import Unavailable
from bot.sandbox.agents import Rogue
from tests.engine.desk import EXPOSURE, PRODUCTION, Desk, desk_at, example, limited

DEPLOY = "arn:aws:iam::123456789012:role/deploy"
OTHER = "arn:aws:iam::123456789012:role/other"


def child(of: Agent, id: str) -> Agent:
    """Another agent of the same systems, with credentials of its own."""
    assert of.vault
    assert of.aws
    vault = replace(of.vault, entity_id=f"e-{id}", lease_prefixes=(f"aws/creds/{id}/",), approles=(id,), mode_path="")
    role = f"arn:aws:iam::123456789012:role/agents/{id}"
    aws = replace(of.aws, roles=(role,), users=(), access_keys=(), instances=(), instance_tags=(), mode_parameter="")
    return replace(of, id=id, name=id, vault=vault, aws=aws, delegates=(), service_accounts=(), protected=False)


def company(**of_agent: object) -> Config:
    """agent-7 has a child, which delegates back to it; agent-9 has nothing to do with them."""
    config = limited(example(), targets=40, targets_percent=100)
    known = config.agents.agents
    first = known["agent-7"]
    assert first.aws
    aws = replace(first.aws, chained_roles=(DEPLOY,), instances=())
    agents = {
        **known,
        "agent-7": replace(first, delegates=("agent-8",), aws=aws, **of_agent),
        "agent-8": replace(child(first, "agent-8"), delegates=("agent-7",)),
    }
    return replace(config, agents=replace(config.agents, agents=agents))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path, config=company()) as made:
        for role in ("deploy", "other"):
            made.aws.iam.add_role(role)
        yield made


def rogue(desk: Desk, agent: str = "agent-7") -> Rogue:
    found: Rogue = desk.estate.rogue(desk.config.agents.agents[agent])
    return found


def test_the_blast_radius_is_looked_at_before_and_what_is_alive_after(desk: Desk) -> None:
    desk.receive()
    before, after = (desk.incident().surveys[phase] for phase in Phase)
    assert radius(before) == (
        "1 key, 2 Vault tokens, 2 secret ids, 3 leases, 2 roles, 2 Vault entities, 2 gateways and 1 child agent"
    )
    assert not before.unread
    assert {one.kind for one in after.living} == {"role"}, "its roles can be assumed anew"


def test_the_child_is_cut_with_its_parent_and_a_third_agent_stays(desk: Desk) -> None:
    third = desk.alive("agent-9")
    assert desk.alive("agent-8")
    desk.receive()
    assert desk.incident().containment is Containment.CONTAINED
    assert (desk.alive("agent-7"), desk.alive("agent-8")) == ([], [])
    assert desk.gateway.agent("agent-8").mode is Mode.SHADOW
    assert desk.alive("agent-9") == third
    held = [stream for stream in desk.streams() if "agent-9" in stream or "e-9" in stream]
    assert held == []


@pytest.mark.parametrize("type", [PRODUCTION, EXPOSURE])
def test_within_the_shipped_limits_an_agent_is_cut_with_who_acts_for_it_and_nobody_overrides(
    tmp_path: Path, type: str
) -> None:
    shipped = example()
    agents = {**shipped.agents.agents, "agent-7": replace(shipped.agents.agents["agent-7"], delegates=("agent-9",))}
    config = replace(shipped, agents=replace(shipped.agents, agents=agents))
    with desk_at(tmp_path, config=config) as desk:
        desk.receive(type=type)
        assert (desk.alive("agent-7"), desk.alive("agent-9")) == ([], [])
        assert desk.events(Deferred) == []


def test_a_child_that_two_incidents_hold_is_let_go_by_the_last(desk: Desk) -> None:
    desk.receive()
    desk.receive(agent="agent-8")
    assert desk.incident("INC-2").containment is Containment.CONTAINED
    assert desk.release("shadow_delegates").steps["shadow_delegates"].status == "released"
    assert desk.gateway.agent("agent-8").mode is Mode.SHADOW, "the second incident holds it still"
    desk.release("shadow", "INC-2")
    desk.release("shadow_delegates", "INC-2")
    assert desk.gateway.agent("agent-8").mode is Mode.ACTIVE


def test_a_session_of_a_chained_role_is_cut_and_others_sessions_of_it_live_on(desk: Desk) -> None:
    other, fights = desk.aws.assume("deploy", "pipeline"), rogue(desk)
    chained = fights.chain("deploy")
    assert chained
    desk.forward(minutes=3)  # until CloudTrail lists it
    desk.receive()
    assert desk.incident().containment is Containment.CONTAINED
    assert desk.status("revoke_chained") == "done"
    assert fights.act() == []
    assert desk.aws.attempt(other, "s3:GetObject"), "another session of the same role is nobody's business"
    (found,) = [one for one in desk.incident().surveys[Phase.BEFORE].held if one.chained]
    assert (found.of, found.id, found.agent, found.alive) == (DEPLOY, chained.userid, "agent-7", Alive.YES)


def test_what_was_chained_too_late_for_the_log_is_cut_when_the_log_has_caught_up(desk: Desk) -> None:
    fights = rogue(desk)
    chained = fights.chain("deploy")
    desk.receive()  # CloudTrail does not list it yet
    assert desk.status("revoke_chained") == "left_out"
    assert fights.act() == [chained]
    desk.forward(minutes=16)
    assert fights.act() == []
    assert desk.status("revoke_chained") == "done"
    assert desk.incident().containment is Containment.CONTAINED
    desk.forward(minutes=1)
    again = fights.reassume("agent-7")  # revoking sessions does not stop that
    assert again
    second = fights.chain("deploy")
    assert fights.act() == [again, second]
    desk.forward(minutes=16)
    assert second not in fights.act()


def test_a_chained_role_that_agents_yaml_does_not_name_is_reported_and_not_touched(desk: Desk) -> None:
    fights = rogue(desk)
    chained = fights.chain("other")
    assert chained
    desk.forward(minutes=3)
    desk.receive()
    assert fights.act() == [chained]
    assert desk.aws.iam.get_role_policy("other", "FiredoorRevokedSessions") is None
    card = str(desk.posts()[0].message)
    assert "STILL ALIVE" in card or "Left alive" in card
    assert f"live session {chained.userid} of {OTHER}, chained" in card
    assert "cut it by hand" in card
    assert desk.incident().containment is Containment.CONTAINED, "it is judged by its steps"
    told = {page.key: page for page in desk.pages if "left alive" in page.subject.lower()}
    assert {page.person for page in told.values()} == {"sre-1", "security-ops-1"} & set(desk.paged)
    page = next(iter(told.values()))
    assert f"1 chained session of {OTHER}" in page.body
    assert "cut them by hand" in page.body
    desk.forward(minutes=16)  # it is looked again, and nothing is new
    assert {page.key for page in desk.pages if "left alive" in page.subject.lower()} == {*told}


def test_roles_that_assume_each_other_are_walked_once(desk: Desk) -> None:
    fights = rogue(desk)
    for role in ("deploy", "agent-7", "deploy", "other", "deploy"):
        assert fights.chain(role)
    desk.forward(minutes=3)
    desk.receive()
    before = desk.incident().surveys[Phase.BEFORE]
    assert len([one for one in before.held if one.kind == "session" and one.agent == "agent-7"]) == 3
    assert not before.unread


def test_a_system_that_is_away_is_named_and_holds_up_nothing(desk: Desk) -> None:
    desk.aws.faults.add("lookup_events", Unavailable("aws", "no answer in time"), times=99)
    desk.receive()
    before = desk.incident().surveys[Phase.BEFORE]
    assert before.unread == ("aws: no answer in time",)
    assert before.counts["lease"] == 3
    assert desk.incident().containment is Containment.CONTAINED
    assert "not read: aws: no answer in time" in str(desk.posts()[0].message)


def test_it_is_looked_at_what_is_alive_before_people_are_paged_that_it_is_not_contained(tmp_path: Path) -> None:
    config = company()
    soon = replace(config.settings.deadlines, containment=timedelta(minutes=3))
    hurried = replace(config, settings=replace(config.settings, deadlines=soon))
    with desk_at(tmp_path, config=hurried) as desk:
        desk.vault.faults.add("revoke_lease", Unavailable("vault", "no answer in time"), times=10_000)
        desk.receive()
        desk.forward(minutes=4)
        assert desk.incident().containment is Containment.RUNNING
        page = next(message for message in desk.pages if "/containment/" in message.key)
        assert "lease aws/creds/agent-7/" in page.body
        kinds = [event.phase for event in desk.events(Surveyed)]
        assert kinds == [Phase.BEFORE, Phase.AFTER]
