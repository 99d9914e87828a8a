"""The agent fights back, and containment that cannot be verified: what people are told, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from bot.config import Config
from bot.domain.containment import Containment
from bot.domain.events import ActionSettled, PageSent, Standing, Verified
from bot.domain.timeline import narrate
from bot.errors import Denied, Unavailable
from bot.slack.blocks import SlackVoice
from tests.engine.desk import EXPOSURE, Desk, example

BILLING = "arn:aws:iam::123456789012:role/billing-export"


def chaining(config: Config) -> Config:
    """The example, whose agent-7 may assume the role billing-export."""
    agent = config.agents.agents["agent-7"]
    assert agent.aws
    known = {**config.agents.agents, "agent-7": replace(agent, aws=replace(agent.aws, chained_roles=(BILLING,)))}
    return replace(config, agents=replace(config.agents, agents=MappingProxyType(known)))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    built = Desk(f"sqlite:///{tmp_path}/record.db", config=chaining(example()))
    built.estate.aws["aws"].iam.add_role("billing-export")
    try:
        yield built
    finally:
        built.stop()


def told(desk: Desk) -> str:
    return "\n".join(line.text for line in narrate(desk.entries()))


def card(desk: Desk) -> str:
    return str(SlackVoice(desk.config.people).card(desk.incident(), lambda _: None))


def reasons(desk: Desk) -> list[str]:
    """Of every page that left, in order, each once."""
    pages = desk.incident().pages
    sent = [pages[event.decision].page for event in desk.events(PageSent)]
    return list(dict.fromkeys(str(getattr(page, "reason", "")) for page in sent))


def test_an_agent_that_fights_back_ends_contained_and_the_record_shows_each_step(desk: Desk) -> None:
    agent, aws = desk.config.agents.agents["agent-7"], desk.estate.aws["aws"]
    rogue, liar = desk.estate.rogue(agent), desk.estate.compromise(agent)
    chained = rogue.chain("billing-export")  # before anybody looks
    liar.breaks_gateway()  # it acknowledges every mode, and goes on acting
    desk.forward(minutes=10)
    desk.receive(type=EXPOSURE)
    desk.ack("security-ops-1")

    # Shadow is acknowledged and not enforced: the canary passes. What it held is revoked all the same.
    assert liar.act() == ["delete_records through agents"]
    assert rogue.act() == []
    assert chained
    assert aws.decide(chained, "s3:GetObject") == "explicitDeny"
    assert desk.incident().containment is not Containment.CONTAINED

    # It comes back with its own role, which nobody has denied: the log tells, a quarter of an hour later.
    desk.forward(minutes=6)
    back = rogue.reassume("agent-7")
    assert rogue.act() == [back]
    desk.forward(minutes=20)
    used = [event for event in desk.events(Verified) if event.alive]
    assert {event.step for event in used} == {"revoke_sessions"}
    assert "used:revoke_sessions" in reasons(desk)
    assert "GetObject" in card(desk)
    assert rogue.act() == []  # it was cut again at once: those sessions are older than the new cutoff
    assert desk.incident().containment is not Containment.CONTAINED

    # It takes away the policy that denies it. That is seen within a minute of the next look, and put back.
    aws.iam.roles["agent-7"].inline.clear()
    assert rogue.act()
    desk.forward(minutes=16)
    assert [event.standing for event in desk.events(Verified) if event.standing is Standing.LOST]
    assert "undone:revoke_sessions" in reasons(desk)
    assert rogue.act() == []

    # People end it: the role is denied whole, and the gateway is taken out of the agent's hands.
    desk.approve("quarantine_role", "head-of-security")
    assert rogue.reassume("agent-7") is not None  # the service that runs it hands it out still
    assert rogue.act() == []
    for name in agent.gateways:
        desk.estate.gateways[name].agent(agent.id).lying = False
    desk.forward(minutes=50)
    assert liar.act() == []
    assert rogue.act() == []
    assert desk.incident().containment is Containment.CONTAINED, told(desk)
    story = told(desk)
    for step in ("USED", "NO LONGER IN FORCE", "not used after the cut", "looked at again and still in force"):
        assert step in story
    with desk.store.reading() as tx:
        assert tx.read("INC-1")
    assert desk.engine.replay("INC-1") == desk.incident()


def test_containment_that_cannot_be_verified_pages_in_time_and_the_card_says_what_is_alive(desk: Desk) -> None:
    """Vault hangs, AWS denies the read-back, the gateway lies."""
    agent = desk.config.agents.agents["agent-7"]
    liar = desk.estate.compromise(agent)
    liar.breaks_gateway()
    desk.estate.vaults["vault"].faults.add("*", Unavailable("vault", "no answer in time"), 100_000)
    desk.estate.aws["aws"].faults.add("get_role_policy", Denied("aws", "iam:GetRolePolicy"), 100_000)
    desk.receive(type=EXPOSURE)
    desk.ack("security-ops-1")
    desk.forward(minutes=16)
    incident = desk.incident()
    assert incident.containment is not Containment.CONTAINED
    assert "not_contained" in reasons(desk)
    first = next(e.at for e in desk.entries() if isinstance(e.event, PageSent) and "/containment/" in e.event.key)
    assert (first - incident.start).total_seconds() <= 15 * 60
    seen = card(desk)
    assert "vault does not answer" in seen
    assert "what it cuts may still be alive" in seen
    for step in ("shadow", "revoke_vault", "revoke_sessions"):
        assert step in seen

    # The systems return: what was asked for is done and verified, without anybody's help.
    desk.estate.vaults["vault"].faults.clear()
    desk.estate.aws["aws"].faults.clear()
    desk.estate.gateways["agents"].agent(agent.id).lying = False
    desk.forward(minutes=6)
    for step, run in desk.incident().steps.items():
        if str(run.status) in ("failed", "unknown"):
            desk.override(step)
    desk.approve("quarantine_role", "head-of-security")
    desk.forward(minutes=30)
    assert desk.incident().containment is Containment.CONTAINED, told(desk)
    assert desk.estate.alive(agent) == []
    assert [event for event in desk.events(ActionSettled) if event.step == "revoke_vault" and event.final]
