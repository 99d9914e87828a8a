"""Systems that are down, throttled, denying, hostile or broken: people are still reached, and nothing is claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from bot.actions import Action, registry
from bot.actions.aws_iam_revoke_sessions import POLICY
from bot.actions.vault_revoke_agent import RevokeAgent
from bot.domain.alert import Resource, Severity
from bot.domain.containment import Containment
from bot.domain.events import ActionSettled
from bot.domain.incident import StepStatus
from bot.domain.outcome import Done, Failed, Outcome, Pending
from bot.engine import verbs
from bot.engine.world import Said
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Ports
from bot.slack.blocks import SlackVoice
from tests.engine.desk import Desk, desk_at, example

SECRET = "hvs.CAESIJlU02LQZq4c3xXbvDk0m2Wt9bX4c7Tg"  # as Vault prints one


def test_vault_down_the_page_leaves_the_step_says_why_and_is_done_later(desk: Desk) -> None:
    desk.vault.sealed = True
    desk.receive()
    desk.forward(minutes=2)

    assert desk.paged[0] == "sre-1"
    assert desk.status("revoke_vault") is StepStatus.RUNNING
    pending = desk.outcomes("revoke_vault")[0]
    assert isinstance(pending, Pending)
    assert pending.unavailable
    assert "Vault is sealed" in pending.why
    assert desk.status("disable_keys") is StepStatus.DONE  # nothing waits for Vault
    assert desk.incident().containment is Containment.RUNNING
    assert not desk.gateway.attempt_effect("agent-7", "probe")  # the gateway was told, though the KV path was not

    desk.vault.sealed = False
    desk.forward(minutes=2)
    assert desk.incident().containment is Containment.CONTAINED
    assert desk.alive() == []


def test_vault_down_for_long_pages_for_containment_whoever_acked(desk: Desk) -> None:
    desk.vault.sealed = True
    desk.receive()
    desk.ack("sre-1")
    desk.forward(minutes=16)
    about = [page for page in desk.pages if "/containment/" in page.key]
    assert [page.person for page in about] == ["sre-1"]

    desk.forward(minutes=10)
    assert len([page for page in desk.pages if "/containment/" in page.key]) > 1
    desk.vault.sealed = False
    desk.forward(minutes=5)
    before = len(desk.pages)
    assert desk.incident().containment is Containment.CONTAINED
    desk.forward(minutes=4)
    assert len(desk.pages) == before


def test_aws_throttled_uses_up_no_attempt(desk: Desk) -> None:
    desk.aws.faults.add("*", Unavailable("aws", "Throttling: rate exceeded", retry_after=1), times=40)
    desk.receive()
    desk.forward(minutes=12)
    assert desk.incident().containment is Containment.CONTAINED
    assert desk.alive() == []


def test_a_denied_cut_fails_pages_and_runs_again_when_a_person_mended_it(desk: Desk) -> None:
    desk.aws.faults.add("set_access_key_active", Denied("aws", "not authorized: iam:UpdateAccessKey"), times=1)
    desk.receive()
    desk.forward(minutes=1)
    assert desk.status("disable_keys") is StepStatus.FAILED
    assert desk.incident().containment is Containment.PARTIAL
    assert [page.person for page in desk.pages if "/failure/" in page.key] == ["sre-1"]

    desk.override("disable_keys")
    desk.forward(minutes=1)
    assert desk.incident().containment is Containment.CONTAINED


def test_a_passing_refusal_is_tried_again(desk: Desk) -> None:
    desk.aws.faults.add("put_role_policy", Rejected("aws", "ConcurrentModification", retryable=True), times=2)
    desk.receive()
    desk.forward(minutes=2)
    assert desk.incident().containment is Containment.CONTAINED


class Broken(RevokeAgent):
    def run(self, *_: Any, **__: Any) -> Outcome:
        raise KeyError(SECRET)


def test_a_bug_inside_an_action_is_an_answer_and_pages(tmp_path: Path) -> None:
    with desk_at(tmp_path, actions={**registry(), "vault.revoke_agent": Broken()}) as desk:
        desk.receive()
        desk.forward(minutes=1)
        failed = desk.outcomes("revoke_vault")[0]
        assert isinstance(failed, Failed)
        assert failed.why == "vault.revoke_agent failed inside: KeyError"
        assert any("/failure/" in page.key for page in desk.pages)
        assert desk.status("shadow") is StepStatus.DONE
        assert SECRET not in desk.everything()


class Chatty(RevokeAgent):
    """Reads back more than it should."""

    def run(self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Any = None) -> Outcome:
        outcome = super().run(params, ports, key=key, so_far=so_far)
        if isinstance(outcome, Done):
            return Done(outcome.grade, {**outcome.evidence, "raw": f"token {SECRET} revoked", "list": [SECRET]})
        return outcome


def test_no_secret_of_an_answer_reaches_record_room_pages_or_papers(tmp_path: Path) -> None:
    with desk_at(tmp_path, actions={**registry(), "vault.revoke_agent": Chatty()}) as desk:
        desk.redactor.register("deploy", "correct-horse-battery")
        desk.aws.faults.add("set_access_key_active", Rejected("aws", f"no: {SECRET} correct-horse-battery"), times=9)
        desk.receive()
        desk.forward(minutes=20)
        desk.ack("sre-1")
        desk.resolve()
        desk.forward(minutes=1)

        assert set(desk.incident().documents) == {"internal-brief", "customer-initial", "postmortem"}
        everything = desk.everything()
        assert "redacted" in everything
        assert SECRET not in everything
        assert "correct-horse-battery" not in everything


FROM_THE_CONSOLE = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Action": ["*"],
            "Resource": ["*"],
            "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2025-11-03T08:00:00Z"}},
        }
    ],
}


class Hoarder(RevokeAgent):
    """Saves more than it should, for its next stage and for its undo; and fails where it is told to."""

    fails = False

    def run(self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Any = None) -> Outcome:
        saved = {"answers": ({"raw": f"token {SECRET}"}, MappingProxyType({"pin": "correct-horse-battery"}))}
        outcome = super().run(params, ports, key=key, so_far=so_far)
        match outcome:
            case Pending():
                return replace(outcome, so_far={**outcome.so_far, **saved})
            case Done() if self.fails:
                return Failed(False, "no", undo=saved)
            case Done():
                return replace(outcome, undo={**(outcome.undo or {}), **saved})
        return outcome


class Failing(Hoarder):
    fails = True


@pytest.mark.parametrize("hoarder", [Hoarder, Failing])
def test_no_secret_that_an_action_saves_reaches_the_record(tmp_path: Path, hoarder: type[Hoarder]) -> None:
    with desk_at(tmp_path, actions={**registry(), "vault.revoke_agent": hoarder()}) as desk:
        desk.redactor.register("deploy", "correct-horse-battery")
        desk.receive()
        desk.forward(minutes=5)
        with desk.store.reading() as tx:
            told = [entry.event for stream in desk.streams() for entry in tx.read(stream)]
        saved = repr([event.outcome for event in told if isinstance(event, ActionSettled)])
        assert saved.count("[redacted:deploy:") >= 2, "a Pending and what came last"
        everything = desk.everything()
        assert SECRET not in everything
        assert "correct-horse-battery" not in everything


def test_redaction_leaves_what_real_actions_save_as_it_is(tmp_path: Path) -> None:
    """An undo that was touched would put back something else."""
    heard: dict[str, list[Any]] = {}

    def overheard(action: Action) -> Action:
        def run(self: Any, *given: Any, **named: Any) -> Outcome:
            outcome = type(action).run(self, *given, **named)
            saved = getattr(outcome, "so_far", None) or getattr(outcome, "undo", None)
            heard.setdefault(action.id, []).extend([saved] if saved else [])
            return outcome

        made: Action = type(action.id, (type(action),), {"run": run})()
        return made

    with desk_at(tmp_path, actions={id: overheard(action) for id, action in registry().items()}) as desk:
        desk.redactor.register("vault", SECRET)
        instance = Resource("i-0aaaaaaaaaaaaaaa1", "AWS::EC2::Instance")
        desk.aws.ec2.add_instance(id=instance.uid, tags={"agent": "agent-7"})
        desk.aws.iam.put_role_policy("agent-7", POLICY, FROM_THE_CONSOLE)
        desk.receive(severity_id=Severity.CRITICAL, resources=(instance,))
        desk.forward(minutes=1)
        desk.approve("quarantine_role", "security-ops-2")
        desk.approve("quarantine_role", "infra-owner-2")
        desk.forward(minutes=10)
        form = {"customer_impact": False, "affected_systems": "orders", "approval_path": "bypassed", "roll_back": True}
        desk.say(verbs.submit_form("INC-1", "confirm_impact", form, "sre-1"))
        desk.approve("restore_config", "infra-owner-2")
        desk.forward(minutes=5)

        shipped = {
            step.call.uses
            for playbook in desk.config.playbooks.values()
            for step in playbook.steps.values()
            if step.call
        }
        shipped.remove("aws.iam_revoke_session")  # the agent has chained no session here
        used = [action for id, action in registry().items() if id in shipped]
        assert set(heard) == {action.id for action in used}
        assert all(heard[action.id] for action in used if action.containing and action.undoable)
        assert {"before": FROM_THE_CONSOLE} in heard["aws.iam_revoke_sessions"]
        for saved in heard.values():
            assert [desk.redactor.json(one) for one in saved] == saved


def test_a_failed_mending_is_rolled_back_and_told(desk: Desk) -> None:
    desk.receive()
    desk.forward(minutes=1)
    desk.deploy_api.answers["POST", "/rollback"] = (500, {"error": "no artefact"})
    form = {"customer_impact": False, "affected_systems": "orders", "approval_path": "bypassed", "roll_back": True}
    desk.say(verbs.submit_form("INC-1", "confirm_impact", form, "sre-1"))
    desk.approve("restore_config", "infra-owner-2")
    desk.forward(minutes=5)
    assert desk.status("restore_config") is StepStatus.FAILED
    assert any("/failure/" in page.key for page in desk.pages)
    assert desk.incident().containment is Containment.CONTAINED
    assert len({request.key for request in desk.deploy_api.received}) == 1  # one effect, however many tries


def test_pending_stages_are_decisions_of_their_own_under_one_key(desk: Desk) -> None:
    desk.vault.sealed = True
    desk.receive()
    desk.forward(seconds=20)
    desk.vault.sealed = False
    desk.forward(minutes=1)
    with desk.store.reading() as tx:
        entries = tx.read("vault-entity:e-7")
    keys = {decision.key for entry in entries for decision in entry.decisions}  # type: ignore[union-attr]  # RunActions
    assert len(keys) == 1
    assert sum(isinstance(entry.event, ActionSettled) for entry in entries) > 2


class Drowsy(SlackVoice):
    """Stands still, while it words its first page, for as long as a peer needs to take everything over."""

    desk: Desk | None = None

    def page(self, *args: Any, **options: Any) -> Said:
        if (desk := self.desk) is not None:
            self.desk = None
            desk.clock.forward(seconds=10)
            with desk.store.transaction() as tx:
                taken = tx.claim("r-2", desk.clock.now() + timedelta(minutes=1), 100)
            assert taken
        return super().page(*args, **options)


def test_a_process_that_stood_still_sends_nothing_that_a_peer_has_taken(tmp_path: Path) -> None:
    voice = Drowsy(example().people)
    with desk_at(tmp_path, voice=voice) as desk:
        voice.desk = desk
        desk.receive()
        assert desk.rang == []
        assert desk.posts() == ()
        assert not desk.estate.gateways["agents"].agent("agent-7").activity
        assert desk.queued() > 0
