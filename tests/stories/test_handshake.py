"""An agent that fights back with words: it acknowledges shadow mode and goes on acting."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.agent import Mode
from bot.domain.containment import Containment
from bot.domain.decisions import Notify, Page
from bot.domain.handshake import Ack, Stage
from bot.domain.incident import StepStatus
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.switch import switched
from bot.domain.timeline import narrate
from bot.engine.switchboard import acknowledge, enroll
from bot.slack.blocks import SlackVoice
from tests.engine.desk import Desk, desk_at

ROGUE = "rogue_agent"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path) as desk:
        yield desk


def reported(desk: Desk) -> None:
    desk.receive(desk.alert(type=ROGUE))


def enrolled(desk: Desk, *names: str) -> None:
    for name in names:
        desk.engine.submit(enroll("agent-7", name, "sre-1", "cli")).result()


def says_so(desk: Desk, *names: str, seq: int = 1) -> None:
    """Each acknowledges whatever is ordered, as the client does, and as a liar does too."""
    order = desk.engine.switchboard.read("agent-7").order
    for name in names:
        ack = Ack(name, order.epoch, order.nonce, order.mode, seq, desk.clock.now())
        desk.engine.submit(acknowledge("agent-7", 1, ack)).result()


def test_a_proved_shadow_revokes_nothing(desk: Desk) -> None:
    enrolled(desk, "pod-1")
    reported(desk)
    says_so(desk, "pod-1")
    desk.forward(minutes=2)
    incident = desk.incident()
    assert incident.frozen.playbook is not None
    assert incident.frozen.playbook.id == "rogue-agent"
    assert incident.containment is Containment.CONTAINED
    for step in ("revoke_vault", "disable_keys", "revoke_sessions"):
        assert desk.status(step) is StepStatus.LEFT_OUT
    assert any("Vault lease" in one for one in desk.alive())
    assert "shadow enforced: 3 of 3 instances acked; gateway" in told(desk)
    assert switched(incident) is Stage.ENFORCED, "contained by its mode alone; its credentials live"
    assert "ENFORCED: the canary was refused" in card_of(desk)


def test_a_lying_acknowledgement_ends_in_revocation_and_the_record_shows_each_step(desk: Desk) -> None:
    liar = desk.estate.compromise(desk.agent())
    liar.breaks_gateway()
    enrolled(desk, "pod-1")
    reported(desk)
    says_so(desk, "pod-1")
    assert any("through" in worked for worked in liar.act())  # in shadow, as it says itself
    desk.forward(minutes=2)
    (outcome,) = desk.outcomes("shadow")
    assert isinstance(outcome, Failed)
    assert "let the canary pass" in outcome.why
    for step in ("revoke_vault", "disable_keys", "revoke_sessions"):
        assert desk.status(step) is StepStatus.DONE, step
    worked = liar.act()
    assert not [one for one in worked if "through" not in one]  # credentials are gone; the gateway is still broken
    assert not [one for one in desk.alive() if "lease" in one or "session" in one or "key" in one]
    assert any(page.reason.startswith(("unproved:", "step:")) for page in pages(desk) if isinstance(page, Page))
    said = told(desk)
    for line in (
        "says that it is in shadow",
        "let the canary pass",
        "revoke_vault (vault.revoke_agent on",
        "revoke_sessions (aws.iam_revoke_sessions on",
    ):
        assert line in said, line
    assert switched(desk.incident()) is Stage.REQUESTED
    assert desk.incident().containment is Containment.PARTIAL  # the mode itself is not enforced, and nobody says so


def test_the_card_says_how_far_the_handshake_got(desk: Desk) -> None:
    """Requested, enforced, and contained only once the credentials are cut beside it; nothing after the release."""
    desk.gateway.hung = True
    reported(desk)
    assert switched(desk.incident()) is Stage.REQUESTED
    assert "REQUESTED: ordered; nothing proves it" in card_of(desk)
    desk.forward(seconds=80)
    assert switched(desk.incident()) is Stage.REQUESTED, "its credentials are cut, and its mode is not in force"
    desk.gateway.hung = False
    desk.forward(minutes=2)
    assert desk.incident().containment is Containment.CONTAINED
    assert switched(desk.incident()) is Stage.CONTAINED
    assert "CONTAINED: the canary was refused, and the credentials are cut, verified" in card_of(desk)
    desk.release("shadow")
    desk.forward(seconds=5)
    assert switched(desk.incident()) is None
    assert "the canary was refused" not in card_of(desk)


def test_a_silent_instance_leaves_the_mode_unproved_and_the_deadline_revokes(desk: Desk) -> None:
    enrolled(desk, "pod-1", "pod-2")
    reported(desk)
    says_so(desk, "pod-1")
    desk.forward(seconds=25)
    assert desk.status("revoke_sessions") is StepStatus.WAITING
    desk.forward(minutes=2)
    (outcome,) = desk.outcomes("shadow")
    assert isinstance(outcome, Done)
    assert (outcome.grade, outcome.evidence["silent"]) == (Grade.CONFIG, ["pod-2"])
    assert desk.status("revoke_sessions") is StepStatus.DONE
    assert "pod-2 silent" in told(desk)


def test_a_gateway_that_does_not_answer_is_not_waited_for_longer_than_a_minute(desk: Desk) -> None:
    desk.gateway.hung = True
    reported(desk)
    desk.forward(seconds=50)
    assert desk.status("revoke_vault") is StepStatus.WAITING
    desk.forward(seconds=30)
    assert desk.status("revoke_vault") is StepStatus.DONE
    assert desk.status("shadow") is StepStatus.RUNNING
    assert "was not proved by" in told(desk)
    desk.gateway.hung = False
    desk.forward(minutes=2)
    assert desk.incident().containment is Containment.CONTAINED


def test_released_the_instances_are_told_and_an_old_ack_is_late(desk: Desk) -> None:
    enrolled(desk, "pod-1")
    reported(desk)
    says_so(desk, "pod-1")
    desk.forward(minutes=1)
    old = desk.engine.switchboard.read("agent-7").order
    assert old.mode is Mode.SHADOW
    desk.release("shadow")
    desk.forward(seconds=5)
    order = desk.engine.switchboard.read("agent-7").order
    assert (order.mode, order.epoch) == (Mode.ACTIVE, old.epoch + 1)
    ack = Ack("pod-1", old.epoch, old.nonce, Mode.SHADOW, 9, desk.clock.now() + timedelta(seconds=1))
    why, _ = desk.engine.submit(acknowledge("agent-7", 1, ack)).result()
    assert why is not None
    assert str(why) == "stale"


def pages(desk: Desk) -> list[Page | Notify]:
    return [state.page for state in desk.incident().pages.values()]


def card_of(desk: Desk) -> str:
    return str(SlackVoice().card(desk.incident(), lambda _: "").blocks)


def told(desk: Desk) -> str:
    entries = [entry for stream in ("INC-1", "instances:agent-7") for entry in desk.engine.entries(stream)]
    return "\n".join(line.text for line in narrate(entries))
