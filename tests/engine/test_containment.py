"""Alerts that contain, holds that several incidents share, permits, and what must never be touched."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bot.config import EXAMPLE
from bot.domain.agent import Mode
from bot.domain.alert import Resource, Severity
from bot.domain.containment import Containment
from bot.domain.events import ActionSettled, Deferred, Permitted, Released
from bot.domain.incident import StepStatus
from bot.domain.outcome import Done, Failed, Grade, Skipped
from bot.domain.source import Auth, SourceRules
from bot.engine import verbs
from bot.engine.intake import receive
from bot.errors import Refused
from bot.ports import KvValue
from tests.engine.desk import EXPOSURE, SIEM, Desk, desk_at, example, limited

CUTS = ("shadow", "revoke_vault", "disable_keys", "revoke_sessions")


def test_an_alert_is_contained_and_every_cut_is_proved(desk: Desk) -> None:
    assert len(desk.alive()) == 5

    assert desk.receive().status == "opened"
    desk.forward(minutes=1)

    incident = desk.incident()
    assert incident.containment is Containment.CONTAINED
    assert desk.alive() == []
    for step in CUTS:
        assert desk.status(step) is StepStatus.DONE
        required = incident.spec(step).require
        assert all(isinstance(o, Done) and o.grade >= required for o in desk.outcomes(step))
    assert isinstance(shadow := desk.outcomes("shadow")[0], Done)
    assert shadow.grade is Grade.EFFECT
    assert desk.queued() == 0
    assert desk.alive("agent-9") != []


def test_the_record_folds_to_the_state_that_is_served(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=20)
    desk.ack("sre-1")

    for stream in desk.streams():
        assert desk.store.verify(stream) > 0
    assert desk.engine.replay("INC-1") == desk.incident()
    known = desk.engine.writer.known("INC-1")
    assert known
    assert known.state == desk.engine.replay("INC-1")


def test_a_cut_is_made_once_for_all_incidents_that_hold_it(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=1)
    epoch = desk.gateway.agent("agent-7").epoch

    desk.receive(type=EXPOSURE, rule="exfiltration")
    desk.forward(minutes=1)

    second = desk.incident("INC-2")
    assert second.linked == ("INC-1",)
    assert [desk.status(step, "INC-2") for step in CUTS] == [StepStatus.DONE] * 4
    assert desk.gateway.agent("agent-7").epoch >= epoch
    with desk.store.reading() as tx:
        settled = [e.event for e in tx.read("agent:agent-7") if isinstance(e.event, ActionSettled)]
    assert all(isinstance(event.outcome, Done) for event in settled if event.final)


def test_releasing_one_incident_leaves_what_the_other_holds(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=1)
    desk.receive(type=EXPOSURE, rule="exfiltration")
    desk.forward(minutes=1)

    for step in CUTS:
        desk.release(step, "INC-1")
    desk.forward(minutes=1)

    assert [desk.status(step) for step in CUTS] == [StepStatus.RELEASED] * 4
    assert "still held by INC-2" in desk.incident().steps["shadow"].why
    assert desk.alive() == []
    assert desk.incident().containment is Containment.NONE
    assert desk.incident("INC-2").containment is not Containment.NONE


def test_releasing_the_last_incident_restores_what_was_before(desk: Desk) -> None:
    before = _estate(desk)
    desk.receive()
    desk.forward(minutes=1)
    desk.receive(type=EXPOSURE, rule="exfiltration")
    desk.forward(minutes=1)

    for incident in ("INC-1", "INC-2"):
        for step in CUTS:
            desk.release(step, incident)
        desk.forward(minutes=1)

    assert [desk.status(step, "INC-2") for step in CUTS] == [StepStatus.RELEASED] * 4
    assert _estate(desk) == before
    assert desk.alive() == ["side effects through agents", "session of agent-7", "key AKIAAGENT7EXAMPLE000"]


def _estate(desk: Desk) -> tuple[object, ...]:
    """What a release gives back; leases and sessions do not come back."""
    role = desk.aws.iam.roles["agent-7"]
    kv = desk.vault.read_kv("agents/agent-7/mode")
    entity = desk.vault.read_entity("e-7")
    assert kv is None or isinstance(kv, KvValue)
    return (
        desk.gateway.agent("agent-7").mode,
        kv.data["mode"] if kv else "active",
        entity and entity.disabled,
        desk.aws.iam.keys["AKIAAGENT7EXAMPLE000"].active,
        sorted(map(str, role.documents())),
    )


def test_a_release_is_refused_twice_and_to_those_who_may_not(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=1)

    with pytest.raises(Refused, match="release is for"):
        desk.release("shadow", person="dpo")
    desk.release("shadow")
    with pytest.raises(Refused, match="holds nothing"):
        desk.release("shadow")
    assert len(desk.events(Released)) == 1


def test_a_stricter_hold_wins_and_falls_back_when_it_goes(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "config")
    playbook = folder / "playbooks/data-exposure.yaml"
    playbook.write_text(playbook.read_text().replace("mode: shadow", "mode: disabled"))
    with desk_at(tmp_path, folder=folder) as desk:
        desk.receive()
        desk.forward(minutes=1)
        desk.receive(type=EXPOSURE, rule="exfiltration")
        desk.forward(minutes=1)
        assert desk.gateway.agent("agent-7").mode is Mode.DISABLED

        desk.release("shadow", "INC-2")
        desk.forward(minutes=1)
        assert desk.status("shadow", "INC-2") is StepStatus.RELEASED
        assert desk.gateway.agent("agent-7").mode is Mode.SHADOW
        assert desk.alive() == []

        desk.release("shadow", "INC-1")
        desk.forward(minutes=1)
        assert desk.gateway.agent("agent-7").mode is Mode.ACTIVE


# Approvals, permits and groups ----------------------------------------------------------------------------------


def test_an_approved_cut_runs_and_the_initiator_cannot_approve(desk: Desk) -> None:
    desk.receive(severity_id=Severity.CRITICAL)
    desk.forward(minutes=1)
    assert desk.incident().containment is Containment.RUNNING

    with pytest.raises(Refused):
        desk.approve("quarantine_role", "security-ops-1")  # owner of the source
    desk.approve("quarantine_role", "security-ops-2")
    assert desk.status("quarantine_role") is StepStatus.AWAITING_APPROVAL
    desk.approve("quarantine_role", "infra-owner-2")
    desk.forward(minutes=1)

    assert desk.status("quarantine_role") is StepStatus.DONE
    assert desk.incident().containment is Containment.CONTAINED
    assert desk.aws.attempt(desk.aws.assume("agent-7"), "s3:GetObject") is False


def test_a_limit_defers_pages_at_once_and_is_overridden_by_a_person(tmp_path: Path) -> None:
    with desk_at(tmp_path, config=limited(example(), runs=1)) as desk:
        desk.receive()
        desk.forward(minutes=1)
        desk.resolve()

        desk.receive(rule="again")
        assert desk.events(Deferred, "INC-2")[0].why.startswith("unintended-production-change ran 1 times")
        assert {desk.status(step, "INC-2") for step in CUTS} == {StepStatus.DEFERRED}
        assert any("/failure/" in page.key and page.incident == "INC-2" for page in desk.pages)

        with pytest.raises(Refused, match="override is for"):
            desk.override("shadow", "INC-2", "legal")
        for step in CUTS:
            desk.override(step, "INC-2")
        desk.forward(minutes=1)
        assert desk.incident("INC-2").containment is Containment.CONTAINED


def test_a_limit_counts_what_ran_within_its_hour(tmp_path: Path) -> None:
    with desk_at(tmp_path, config=limited(example(), runs=1)) as desk:
        desk.receive()
        desk.resolve()
        desk.forward(hours=1, minutes=1)
        desk.receive(rule="again")
        assert desk.events(Deferred, "INC-2") == []
        assert desk.events(Permitted, "INC-2")


def test_too_many_targets_are_deferred(tmp_path: Path) -> None:
    with desk_at(tmp_path, config=limited(example(), targets=3)) as desk:
        desk.receive()
        assert "4 targets" in desk.events(Deferred)[0].why


def test_a_concurrency_group_lets_one_incident_mend_at_a_time(desk: Desk) -> None:
    """Two incidents of one playbook and agent: only steps that do not contain wait for each other."""
    instance = Resource("i-0aaaaaaaaaaaaaaa1", "AWS::EC2::Instance")
    desk.aws.ec2.add_instance(id=instance.uid, tags={"agent": "agent-7"})
    desk.receive(resources=(instance,))  # its snapshot takes half a minute, and holds the group
    desk.resolve()
    assert desk.status("snapshot") is StepStatus.CANCELLED
    desk.receive(rule="again", resources=(instance,))
    assert desk.status("snapshot", "INC-2") is StepStatus.RUNNING

    desk.engine.submit(_open_another(desk)).result()
    desk.engine.settle()
    waiting = desk.incident("INC-3")
    assert waiting.steps["evidence"].status is StepStatus.DEFERRED
    assert "works in the group" in waiting.steps["evidence"].why
    assert desk.status("shadow", "INC-3") is not StepStatus.DEFERRED

    desk.forward(minutes=2)
    assert desk.status("snapshot", "INC-2") is StepStatus.DONE
    assert desk.status("evidence", "INC-3") is StepStatus.DONE


def _open_another(desk: Desk) -> verbs.Job:
    """A second open incident of the same agent and playbook, as two replicas may have opened one: by a lost key."""

    def job(responder: object) -> object:
        responder.tx.drop_open_keys("INC-2")  # type: ignore[attr-defined]  # a Responder
        return partial(receive, alert=desk.alert(rule="third"), source=SIEM, body=b"{}")(responder)  # type: ignore[arg-type]  # as above

    return job  # type: ignore[return-value]  # as above


# What is not touched --------------------------------------------------------------------------------------------


def test_an_unknown_agent_is_contained_by_nobody_and_pages(desk: Desk) -> None:
    desk.receive(agent="agent-404")
    desk.forward(minutes=1)

    assert desk.incident().agent is None
    assert {desk.status(step) for step in CUTS} == {StepStatus.FAILED}
    assert "not enrolled" in desk.incident().steps["shadow"].why
    assert "sre-1" in desk.paged
    assert desk.incident().containment is Containment.PARTIAL


def test_an_unknown_agent_keys_on_the_news_itself(desk: Desk) -> None:
    assert desk.receive(agent=None, rule="a").incident == "INC-1"
    assert desk.receive(agent=None, rule="b").incident == "INC-2"
    assert desk.receive(agent=None, rule="a").status == "repeated"


def test_an_actor_names_the_agent(desk: Desk) -> None:
    desk.receive(agent=None, actors=("AKIAAGENT7EXAMPLE000",))
    desk.forward(minutes=1)
    assert desk.incident().begun.agent_uid == "agent-7"
    assert desk.alive() == []


@pytest.mark.parametrize(
    "named",
    [
        {"actors": ("arn:aws:iam::123456789012:role/firedoor",)},
        {"resources": (Resource("arn:aws:iam::123456789012:role/break-glass", "AWS::IAM::Role"),)},
    ],
    ids=["bot", "protected"],
)
def test_an_alert_that_names_what_is_protected_only_proposes(desk: Desk, named: dict[str, object]) -> None:
    desk.receive(**named)
    desk.forward(minutes=1)
    assert {desk.status(step) for step in CUTS} == {StepStatus.AWAITING_APPROVAL}
    assert len(desk.alive()) == 5


@pytest.mark.parametrize(
    "source",
    [
        SourceRules("siem", "generic", "security-ops-1", auth=Auth.HMAC, may_contain=False),
        SourceRules("siem", "generic", "security-ops-1", auth=Auth.HMAC, may_contain=True, agents=("agent-9",)),
    ],
    ids=["may not contain", "may not speak of it"],
)
def test_a_source_that_may_not_contain_only_proposes(desk: Desk, source: SourceRules) -> None:
    desk.receive(source=source)
    desk.forward(minutes=1)
    assert {desk.status(step) for step in CUTS} == {StepStatus.AWAITING_APPROVAL}
    assert len(desk.alive()) == 5
    assert desk.paged[0] == "sre-1"


def test_a_protected_identity_is_refused_whatever_asked(tmp_path: Path) -> None:
    config = example()
    agents = replace(config.agents, off_limits={**config.agents.off_limits, "e-7": "it is the bot's own"})
    with desk_at(tmp_path, config=replace(config, agents=agents)) as desk:
        desk.receive()
        desk.forward(minutes=1)
        assert desk.outcomes("revoke_vault") == [Failed(False, "refused: it is the bot's own")]
        entity = desk.vault.read_entity("e-7")
        assert entity
        assert not entity.disabled
        assert desk.incident().containment is Containment.PARTIAL


def test_what_is_resolved_while_held_stays_held(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=1)
    desk.resolve()
    desk.forward(hours=1)
    assert desk.alive() == []
    desk.release("shadow")
    assert desk.status("shadow") is StepStatus.RELEASED
    assert not isinstance(desk.outcomes("revoke_vault")[0], Skipped)
