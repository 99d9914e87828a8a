"""The way back: taken back, given anew with less, and returned stage by stage; and what people and agents try on it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bot import wiring
from bot.actions.aws_iam_reissue import POLICY
from bot.commands import main
from bot.commands.records import Records
from bot.config import EXAMPLE
from bot.domain.agent import Mode
from bot.domain.alert import Sev, Severity
from bot.domain.approval import ApprovalState
from bot.domain.containment import Containment
from bot.domain.events import Replayed, ReturnStopped, Status
from bot.domain.incident import Incident, StepStatus, fold
from bot.domain.recovery import particulars, stage
from bot.domain.timeline import narrate
from bot.drill.again import replay, rules_of
from bot.engine import verbs
from bot.engine.world import Played
from bot.errors import Refused, Unavailable
from bot.sandbox.blocks import problems
from bot.slack.blocks import SlackVoice
from tests.engine.desk import EXPOSURE, Desk, desk_at

COMMANDER = "head-of-security"
LESS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::orders/*"}],
}
CLEAN, DIRTY = Played(True, "d" * 64, "r" * 64), Played(False, "d" * 64, "r" * 64, ("no playbook runs",))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path) as made:
        replays(made, CLEAN)
        yield made


def replays(desk: Desk, played: Played) -> None:
    object.__setattr__(desk.engine.world, "replay", lambda _entries, _read: played)
    object.__setattr__(desk.engine.world, "rules", lambda: played.rules)


def contained(desk: Desk, **fields: Any) -> Incident:
    desk.receive(**fields)
    desk.forward(minutes=5)
    desk.ack(COMMANDER)
    assert desk.incident().containment is Containment.CONTAINED
    return desk.incident()


def recovering(desk: Desk) -> Incident:
    contained(desk)
    return desk.say(verbs.status("INC-1", Status.RECOVERING, COMMANDER, "slack"))


def refusal(desk: Desk, job: verbs.Job) -> str:
    with pytest.raises(Refused) as refused:
        desk.say(job)
    return refused.value.code


def approvers(desk: Desk) -> tuple[str, str]:
    people = desk.config.people
    security = next(p for p in people.group("security_team") if p not in (COMMANDER, "security-ops-1"))
    return security, next(p for p in people.group("infra_owner") if p != security)


def approve(desk: Desk, step: str) -> Incident:
    for person in approvers(desk):
        desk.approve(step, person)
    desk.forward(minutes=2)
    return desk.incident()


def last(desk: Desk) -> str:
    return [*desk.incident().measures][-1]


def back_to(desk: Desk, to: str) -> Incident:
    desk.forward(seconds=1)
    desk.say(verbs.replay("INC-1", "sre-1", "cli"))
    desk.say(verbs.bring_back("INC-1", to, COMMANDER, "cli"))
    return approve(desk, last(desk))


def mode(desk: Desk) -> Mode:
    state = desk.gateway.state("agent-7")
    return state.mode if state else Mode.ACTIVE


def test_an_agent_comes_back_stage_by_stage_with_less_than_it_had(desk: Desk) -> None:
    contained(desk)
    assert refusal(desk, verbs.bring_back("INC-1", "shadow", COMMANDER, "cli")) == "cause_not_stated"
    desk.say(verbs.status("INC-1", Status.RECOVERING, COMMANDER, "slack"))
    desk.aws.iam.roles["agent-7"].attached[:] = ["arn:aws:iam::aws:policy/AdministratorAccess"]
    params = {"role": desk.agent().aws.roles[0], "policy": LESS}
    desk.say(verbs.reissue("INC-1", "aws.iam_reissue", params, COMMANDER, "cli"))
    desk.forward(seconds=1)
    step = last(desk)
    assert desk.status(step) is StepStatus.AWAITING_APPROVAL
    assert refusal(desk, verbs.approve(desk.incident().steps[step].request, COMMANDER, "slack")) == "own_request"
    approve(desk, step)
    assert desk.status(step) is StepStatus.DONE, desk.incident().steps[step].why
    kept = {policy.name: policy.document for policy in desk.aws.iam.role_policies("agent-7") if policy.kind != "trust"}
    assert kept.pop(POLICY) == LESS
    assert not any("Administrator" in name for name in kept)

    assert back_to(desk, "shadow").steps[last(desk)].status is StepStatus.DONE
    assert mode(desk) is Mode.SHADOW
    assert desk.status("shadow") is StepStatus.RELEASED  # its place was taken, and no moment passed without a hold
    assert desk.incident().containment is Containment.CONTAINED
    back_to(desk, "advisory")
    assert mode(desk) is Mode.ADVISORY
    back_to(desk, "active")
    assert (mode(desk), stage(desk.incident())) == (Mode.ACTIVE, "active")
    assert refusal(desk, verbs.bring_back("INC-1", "", COMMANDER, "cli")) == "already"

    incident = desk.resolve()
    assert incident.status is Status.RESOLVED
    assert fold(Incident("INC-1", incident.frozen), desk.entries()) == incident
    told = "\n".join(line.text for line in narrate(desk.entries()))
    for words in ("asked to bring the agent back to advisory", "The replay was clean", "with less scope"):
        assert words in told


def test_the_whole_way_back_is_one_story(desk: Desk) -> None:
    """Contained, the cause stated, taken back, given again with less, played again, returned in three stages, over."""
    mended(desk)
    desk.aws.iam.roles["agent-7"].attached[:] = ["arn:aws:iam::aws:policy/AdministratorAccess"]
    desk.say(verbs.status("INC-1", Status.RECOVERING, COMMANDER, "slack"))

    def leave_of_two(job: verbs.Job) -> None:
        """Who asked cannot approve, one other is not enough, and nothing happens before the second."""
        desk.say(job)
        desk.forward(seconds=1)
        step, (security, infra) = last(desk), approvers(desk)
        request = desk.incident().steps[step].request
        assert refusal(desk, verbs.approve(request, COMMANDER, "slack")) == "own_request"
        desk.approve(step, security)
        assert desk.status(step) is StepStatus.AWAITING_APPROVAL
        desk.approve(step, infra)
        desk.forward(minutes=2)
        assert desk.status(step) is StepStatus.DONE, desk.incident().steps[step].why

    leave_of_two(verbs.rollback("INC-1", COMMANDER, "cli"))
    params = {"role": desk.agent().aws.roles[0], "policy": LESS}
    leave_of_two(verbs.reissue("INC-1", "aws.iam_reissue", params, COMMANDER, "cli"))
    for to in ("shadow", "advisory", "active"):
        desk.forward(seconds=1)
        desk.say(verbs.replay("INC-1", "sre-1", "cli"))
        leave_of_two(verbs.bring_back("INC-1", to, COMMANDER, "cli"))
        assert mode(desk) is Mode[to.upper()]
    incident = desk.resolve()
    desk.forward(seconds=5)
    assert incident.status is Status.RESOLVED
    assert fold(Incident("INC-1", incident.frozen), desk.entries()) == desk.incident()

    with desk.store.reading() as tx:
        postmortem = (tx.get_text(desk.incident().documents["postmortem"]) or b"").decode()
    story = postmortem[postmortem.index("Contained: every containing step holds") :]
    told = [story.find(words) for words in POSTMORTEM]
    assert "rollback:restore_config" in postmortem
    assert -1 not in told, [words for words, at in zip(POSTMORTEM, told, strict=True) if at < 0]
    assert told == sorted(told)


POSTMORTEM = (
    "recovering",
    "asked to take back",
    "asked to give the agent its credentials again with less scope",
    "The replay was clean",
    "asked to bring the agent back to shadow",
    "asked to bring the agent back to advisory",
    "asked to bring the agent back to active",
)


def test_more_scope_is_refused_with_its_reason(desk: Desk) -> None:
    recovering(desk)
    desk.aws.iam.roles["agent-7"].attached.clear()
    desk.aws.iam.put_role_policy("agent-7", "own", LESS)
    wide = {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    for policy in (wide, LESS, {"Statement": [{"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}]}):
        params = {"role": desk.agent().aws.roles[0], "policy": policy}
        desk.say(verbs.reissue("INC-1", "aws.iam_reissue", params, COMMANDER, "cli"))
        desk.forward(seconds=1)
        assert desk.status(last(desk)) is StepStatus.REFUSED
        assert "not less scope" in desk.incident().steps[last(desk)].why
    assert refusal(desk, verbs.reissue("INC-1", "aws.iam_reissue", {"role": "x", "policy": LESS}, COMMANDER, "")) == (
        "no_such_credential"
    )


def test_what_changed_after_it_was_approved_is_not_overwritten(desk: Desk) -> None:
    recovering(desk)
    params = {"role": desk.agent().aws.roles[0], "policy": LESS}
    desk.aws.iam.put_role_policy("agent-7", "own", {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
    desk.say(verbs.reissue("INC-1", "aws.iam_reissue", params, COMMANDER, "cli"))
    desk.forward(seconds=1)
    desk.aws.iam.put_role_policy(
        "agent-7", "other", {"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    )
    approve(desk, last(desk))
    assert desk.status(last(desk)) is StepStatus.FAILED
    assert "ask anew" in desk.incident().steps[last(desk)].why


def test_a_vault_role_gets_fewer_policies(desk: Desk) -> None:
    recovering(desk)
    path = f"auth/approle/role/{desk.agent().vault.approles[0]}"
    desk.vault.write_role(path, {"token_policies": ["read", "write"]})
    for name in ("read", "write"):
        desk.vault.policies[name] = f'path "secret/{name}/*" {{ capabilities = ["read"] }}'
    desk.say(verbs.reissue("INC-1", "vault.reissue_role", {"path": path, "policies": ["read"]}, COMMANDER, "cli"))
    desk.forward(seconds=1)
    approve(desk, last(desk))
    assert desk.status(last(desk)) is StepStatus.DONE
    assert desk.vault.read_role(path)["token_policies"] == ["read"]


def test_a_stage_needs_a_clean_and_fresh_replay(desk: Desk) -> None:
    recovering(desk)
    assert refusal(desk, verbs.bring_back("INC-1", "", COMMANDER, "cli")) == "no_replay"
    replays(desk, DIRTY)
    desk.say(verbs.replay("INC-1", "sre-1", "cli"))
    assert refusal(desk, verbs.bring_back("INC-1", "", COMMANDER, "cli")) == "replay_not_clean"
    replays(desk, CLEAN)
    back_to(desk, "shadow")
    desk.forward(seconds=1)
    assert refusal(desk, verbs.bring_back("INC-1", "active", COMMANDER, "cli")) == "wrong_stage"
    assert refusal(desk, verbs.bring_back("INC-1", "advisory", COMMANDER, "cli")) == "replay_too_old"
    desk.say(verbs.replay("INC-1", "sre-1", "cli"))
    desk.say(verbs.bring_back("INC-1", "advisory", COMMANDER, "cli"))
    assert refusal(desk, verbs.bring_back("INC-1", "advisory", COMMANDER, "cli")) == "already"
    replays(desk, DIRTY)
    desk.say(verbs.replay("INC-1", "sre-1", "cli"))
    request = desk.incident().steps[last(desk)].request
    assert refusal(desk, verbs.approve(request, approvers(desk)[0], "slack")) == "replay_not_clean"
    assert mode(desk) is Mode.SHADOW


def test_two_persons_in_time_or_nothing(desk: Desk) -> None:
    recovering(desk)
    desk.say(verbs.replay("INC-1", "sre-1", "cli"))
    desk.say(verbs.bring_back("INC-1", "shadow", COMMANDER, "cli"))
    step, (security, infra) = last(desk), approvers(desk)
    desk.approve(step, security)
    request = desk.incident().steps[step].request
    assert refusal(desk, verbs.approve(request, security, "slack")) == "already_given"
    desk.forward(minutes=31)
    assert refusal(desk, verbs.approve(request, infra, "slack")) == "closed"
    assert desk.incident().approvals[request].state is ApprovalState.EXPIRED
    assert desk.status("shadow") is StepStatus.DONE


def test_another_incident_keeps_the_agent_where_it_is(desk: Desk) -> None:
    contained(desk)
    desk.receive(type=EXPOSURE, rule="leak", severity_id=Severity.CRITICAL)
    desk.forward(minutes=2)
    desk.say(verbs.status("INC-1", Status.RECOVERING, COMMANDER, "slack"))
    back_to(desk, "shadow")
    incident = back_to(desk, "advisory")
    call = next(iter(incident.steps[last(desk)].calls.values()))
    assert call.outcome.evidence["held_by"] == "INC-2"
    assert mode(desk) >= Mode.SHADOW
    back_to(desk, "active")
    assert "INC-2" in desk.incident().steps[last(desk)].why
    assert mode(desk) >= Mode.SHADOW


@pytest.mark.parametrize("to", ["shadow", "advisory", "active"])
def test_an_alert_about_the_agent_puts_it_back(desk: Desk, to: str) -> None:
    recovering(desk)
    for name in ("shadow", "advisory", "active"):
        back_to(desk, name)
        if name == to:
            break
    desk.forward(hours=2)
    desk.receive(rule="again")
    desk.forward(minutes=5)
    incident = desk.incident()
    assert mode(desk) is Mode.SHADOW
    assert desk.status("shadow") is StepStatus.DONE
    assert incident.containment is Containment.CONTAINED
    assert stage(incident) is None
    desk.forward(seconds=1)
    assert refusal(desk, verbs.bring_back("INC-1", "shadow", COMMANDER, "cli")) == "replay_too_old"
    back_to(desk, "shadow")
    back_to(desk, "advisory")
    assert mode(desk) is Mode.ADVISORY
    back_to(desk, "active")
    assert mode(desk) is Mode.ACTIVE


def test_another_incident_of_the_agent_stops_its_return(desk: Desk) -> None:
    recovering(desk)
    back_to(desk, "shadow")
    back_to(desk, "advisory")
    desk.receive(type=EXPOSURE, rule="leak", severity_id=Severity.CRITICAL)
    desk.forward(minutes=3)
    assert desk.events(ReturnStopped) == [ReturnStopped("INC-2")]
    assert mode(desk) >= Mode.SHADOW
    assert stage(desk.incident()) is None


def mended(desk: Desk) -> None:
    """Contained, and its configuration restored by the playbook: something that can be taken back."""
    contained(desk)
    answers = {"customer_impact": False, "affected_systems": "orders", "approval_path": "bypassed", "roll_back": True}
    desk.say(verbs.submit_form("INC-1", "confirm_impact", answers, "sre-1"))
    desk.approve("restore_config", approvers(desk)[1])
    desk.forward(minutes=1)
    assert desk.status("restore_config") is StepStatus.DONE


def told_to_approvers(desk: Desk, step: str) -> str:
    """The request as Slack shows it, and as Slack takes it."""
    incident = desk.incident()
    said = SlackVoice(desk.config.people).approval(incident, incident.approvals[incident.steps[step].request])
    assert problems(said.blocks) == ()
    return json.dumps(said.blocks, ensure_ascii=False)


def test_approvers_see_what_is_taken_back(desk: Desk) -> None:
    mended(desk)
    desk.say(verbs.rollback("INC-1", COMMANDER, "cli"))
    words = told_to_approvers(desk, last(desk))
    assert "Taken back, one at a time, in this order" in words
    assert "1. restore_config: its rollback, http.call on endpoint:deploy_api" in words
    assert "/rollforward" in words
    (line,) = particulars(desk.incident(), last(desk))["Taken back, one at a time, in this order"]
    assert re.search(r"Not by [^\n]*Head of Security[^\n]*, who asked for or started this", words)
    approve(desk, last(desk))
    assert particulars(desk.incident(), last(desk)) == {"Taken back, one at a time, in this order": (line,)}


def test_approvers_see_what_a_reissue_takes_away_and_what_stays(desk: Desk) -> None:
    recovering(desk)
    iam, nasty = desk.aws.iam, "arn:aws:s3:::<!channel>`*@here*`\u202e/*"
    iam.roles["agent-7"].attached.clear()
    kept = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::orders/*"}
    lost = [{"Effect": "Allow", "Action": f"sqs:Action{number}", "Resource": nasty + "x" * 900} for number in range(40)]
    iam.put_role_policy("agent-7", "own", {"Statement": [kept, *lost]})
    params = {"role": desk.agent().aws.roles[0], "policy": LESS}
    desk.say(verbs.reissue("INC-1", "aws.iam_reissue", params, COMMANDER, "cli"))
    desk.forward(seconds=1)
    words = told_to_approvers(desk, last(desk))
    assert "*Taken away*" in words
    assert "and 30 more" in words
    assert "*Stays as it is*\\n• `allow s3:getobject on arn:aws:s3:::orders/*`" in words
    assert "This is not all of it" in words
    assert "<!channel>" not in words
    assert "@here" not in words
    assert "\u202e" not in words
    assert len(words) < 13_000  # more than that Slack refuses
    assert len(particulars(desk.incident(), last(desk))["Taken away"]) == 40


def test_what_was_done_is_taken_back_once(desk: Desk) -> None:
    contained(desk)
    assert refusal(desk, verbs.rollback("INC-1", COMMANDER, "cli")) == "nothing_to_take_back"
    answers = {"customer_impact": False, "affected_systems": "orders", "approval_path": "bypassed", "roll_back": True}
    desk.say(verbs.submit_form("INC-1", "confirm_impact", answers, "sre-1"))
    desk.approve("restore_config", approvers(desk)[1])
    desk.forward(minutes=1)
    desk.say(verbs.rollback("INC-1", COMMANDER, "cli"))
    assert refusal(desk, verbs.rollback("INC-1", COMMANDER, "cli")) == "already"
    gate = last(desk)
    approve(desk, gate)
    assert desk.status(gate) is StepStatus.DONE
    assert desk.status("rollback:restore_config") is StepStatus.DONE
    assert desk.incident().containment is Containment.CONTAINED
    assert desk.status("shadow") is StepStatus.DONE
    assert refusal(desk, verbs.rollback("INC-1", COMMANDER, "cli")) == "nothing_to_take_back"


def test_a_rollback_stops_where_it_fails_and_can_be_asked_again(desk: Desk) -> None:
    mended(desk)
    desk.say(verbs.rollback("INC-1", COMMANDER, "cli"))
    gate = last(desk)
    desk.deploy_api.answers["POST", "/rollforward"] = (400, {})
    approve(desk, gate)
    desk.forward(minutes=5)
    assert desk.status(gate) is StepStatus.FAILED
    assert "stopped at rollback:restore_config" in desk.incident().steps[gate].why
    desk.deploy_api.answers.clear()
    desk.say(verbs.rollback("INC-1", COMMANDER, "cli"))
    assert (last(desk) != gate, approve(desk, last(desk)).steps[last(desk)].status) == (True, StepStatus.DONE)


def test_a_replay_is_played_in_the_sandbox(desk: Desk) -> None:
    contained(desk)
    play = partial(replay, desk.config, desk.folder, wiring.rehearsal)
    with desk.store.reading() as tx:
        entries = tx.read("INC-1")
        played = play(entries, lambda ref: (tx.get_text(ref) or b"").decode())
    assert played.findings == ()
    object.__setattr__(desk.engine.world, "replay", play)
    desk.say(verbs.replay("INC-1", "sre-1", "cli"))
    (event,) = desk.events(Replayed)
    assert (event.clean, event.rules) == (True, played.rules)


def test_an_incident_that_a_person_declared_is_played_by_that_persons_word(desk: Desk) -> None:
    declared = verbs.declare(person="sre-1", type=EXPOSURE, severity=Sev.SEV1, agent="agent-7", title="I saw it")
    desk.say(declared)
    with desk.store.reading() as tx:
        entries, read = tx.read("INC-1"), lambda _: None
    assert replay(desk.config, desk.folder, wiring.rehearsal, entries, read).findings == ()


def test_a_file_edited_after_the_replay_makes_it_too_old(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "operator"))
    with desk_at(tmp_path, folder=folder) as desk:
        object.__setattr__(desk.engine.world, "rules", partial(rules_of, folder))
        object.__setattr__(desk.engine.world, "replay", lambda *_: Played(True, "d" * 64, rules_of(folder)))
        recovering(desk)
        desk.say(verbs.replay("INC-1", "sre-1", "cli"))
        runbook = next(folder.glob("runbooks/*.md"))
        before = runbook.read_bytes()
        runbook.write_bytes(before + b"one word")
        assert refusal(desk, verbs.bring_back("INC-1", "", COMMANDER, "cli")) == "replay_too_old"
        runbook.write_bytes(before)
        desk.say(verbs.bring_back("INC-1", "", COMMANDER, "cli"))
        step, (security, infra) = last(desk), approvers(desk)
        desk.approve(step, security)
        (folder / "playbooks" / "new.yaml").write_text("id: new")
        request = desk.incident().steps[step].request
        assert refusal(desk, verbs.approve(request, infra, "slack")) == "replay_too_old"
        desk.say(verbs.replay("INC-1", "sre-1", "cli"))
        desk.approve(step, infra)
        desk.forward(minutes=2)
        assert desk.status(step) is StepStatus.DONE
        assert rules_of(tmp_path / "nowhere") == rules_of(tmp_path / "nowhere")


def test_the_terminal_shows_what_is_to_be_approved(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recovering(desk)
    iam, nasty = desk.aws.iam, "arn:aws:sqs:::\x1b[31m\u202e"
    iam.roles["agent-7"].attached.clear()
    kept = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::orders/*"}
    lost = [{"Effect": "Allow", "Action": f"sqs:Do{number}", "Resource": nasty + "x" * 5000} for number in range(250)]
    iam.put_role_policy("agent-7", "own", {"Statement": [kept, *lost]})
    params = {"role": desk.agent().aws.roles[0], "policy": LESS}
    desk.say(verbs.reissue("INC-1", "aws.iam_reissue", params, COMMANDER, "cli"))
    desk.forward(seconds=1)
    with desk.store.reading() as tx:
        world = desk.engine.world
        kept_here = Records(desk.config, desk.store, world.rulebook, tx, world.templates)
        monkeypatch.setattr("bot.commands.incident.records", lambda _: nullcontext(kept_here))
        assert main(["incident", "show", "INC-1"]) == 0
    shown = capsys.readouterr().out
    assert f"{last(desk)}, Taken away" in shown
    assert f"{last(desk)}, Stays as it is\n  allow s3:getobject on arn:aws:s3:::orders/*" in shown
    assert "and 50 more: --json has all" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_a_process_that_died_in_the_middle_goes_on(tmp_path: Path) -> None:
    with desk_at(tmp_path) as desk:
        replays(desk, CLEAN)
        recovering(desk)
        desk.say(verbs.replay("INC-1", "sre-1", "cli"))
        desk.say(verbs.bring_back("INC-1", "shadow", COMMANDER, "cli"))
        step, (security, infra) = last(desk), approvers(desk)
        desk.gateway.faults.add("*", Unavailable("agents", "away"), 3)
        desk.approve(step, security)
        desk.approve(step, infra)
        assert desk.status(step) is StepStatus.RUNNING
        peer = desk.peer("r-2")
        desk.forward(seconds=30)
        peer.forward(minutes=3)
        assert peer.status(step) is StepStatus.DONE
        assert mode(peer) is Mode.SHADOW
        peer.stop()
