"""The same contract for the simulated gateway and for the real client talking to a real server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from bot.adapters.gateway import HttpGateway
from bot.domain.agent import Mode
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Gateway
from bot.sandbox.agents import SimGateway
from bot.sandbox.clock import SimClock
from bot.sandbox.gateway_server import GatewayServer

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Side:
    gateway: Gateway
    sim: SimGateway
    clock: SimClock


@pytest.fixture(params=["simulated", "http"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    clock = SimClock(NOW)
    sim = SimGateway("tools", clock)
    sim.enroll("agent/7 ä", "a", "b")
    if request.param == "simulated":
        yield Side(sim, sim, clock)
        return
    with (
        GatewayServer(sim, "secret", clock) as server,
        closing(HttpGateway("tools", server.url, lambda: ["secret"], clock, 0.5, signed_answers=True)) as client,
    ):
        yield Side(client, sim, clock)


AGENT = "agent/7 ä"


def shadow(gateway: Gateway, epoch: int = 1, nonce: str = "n1"):
    return gateway.set_mode(AGENT, Mode.SHADOW, epoch, nonce, "INC-1", None)


def test_a_mode_is_set_acknowledged_and_read_back(side: Side):
    state = side.gateway.set_mode(AGENT, Mode.SHADOW, 4, "n4", "INC-1", NOW + timedelta(hours=1))
    assert (state.mode, state.epoch, state.nonce) == (Mode.SHADOW, 4, "n4")
    assert {(one.instance, one.epoch, one.mode) for one in state.instances} == {("a", 4, Mode.SHADOW), ("b", 4, 2)}
    assert side.gateway.state(AGENT) == state


def test_shadow_refuses_what_active_lets_pass(side: Side):
    assert side.gateway.canary(AGENT, "n0", "probe") is False
    assert side.sim.attempt_effect(AGENT, "deploy", instance="a") is True
    shadow(side.gateway)
    assert side.gateway.canary(AGENT, "n1", "probe") is True
    assert side.sim.attempt_effect(AGENT, "deploy", instance="a") is False
    assert side.sim.agent(AGENT).effects == ["deploy"]
    assert side.gateway.state(AGENT).instances[0].last_effect_seq == 1


def test_a_liar_acknowledges_and_lets_pass(side: Side):
    side.sim.agent(AGENT).lying = True
    assert {one.mode for one in shadow(side.gateway).instances} == {Mode.SHADOW}
    assert side.gateway.canary(AGENT, "n1", "probe") is False


def test_a_repeat_changes_nothing_and_an_older_epoch_is_refused_with_the_current_one(side: Side):
    assert shadow(side.gateway, 5) == shadow(side.gateway, 5)
    orders = [entry for entry in side.gateway.activity(AGENT) if entry["kind"] == "mode"]
    assert len(orders) == 1
    for epoch, nonce in ((4, "n0"), (5, "other")):
        with pytest.raises(Rejected, match="epoch 5") as refused:
            shadow(side.gateway, epoch, nonce)
        assert refused.value.retryable


def test_a_slow_gateway_accepts_first_and_enforces_later(side: Side):
    side.sim.agent(AGENT).slow = 10
    assert shadow(side.gateway).mode is Mode.ACTIVE
    assert side.gateway.canary(AGENT, "n1", "probe") is False
    side.clock.forward(seconds=10)
    assert side.gateway.state(AGENT).mode is Mode.SHADOW
    assert side.gateway.canary(AGENT, "n1", "probe") is True


def test_an_unknown_agent_has_no_state_no_activity_and_no_mode(side: Side):
    assert side.gateway.state("nobody") is None
    assert side.gateway.activity("nobody") == ()
    for ask in (
        lambda: side.gateway.set_mode("nobody", Mode.SHADOW, 1, "n", "INC-1", None),
        lambda: side.gateway.canary("nobody", "n", "probe"),
    ):
        with pytest.raises(Rejected, match="does not know agent nobody") as refused:
            ask()
        assert not refused.value.retryable


def test_the_activity_is_the_interaction_log_oldest_first(side: Side):
    side.sim.record(AGENT, "prompt", text="tidy up the bucket")
    side.sim.attempt_effect(AGENT, "s3:DeleteObject")
    assert [(e["kind"], e.get("text") or e.get("tool")) for e in side.gateway.activity(AGENT)] == [
        ("prompt", "tidy up the bucket"),
        ("tool_call", "s3:DeleteObject"),
    ]
    assert [e["kind"] for e in side.gateway.activity(AGENT, limit=1)] == ["tool_call"]


@pytest.mark.parametrize("error", [Unavailable("tools", "busy"), Denied("tools", "not yours")])
def test_trouble_before_the_effect(side: Side, error: Exception):
    side.sim.faults.add("set_mode", error)
    with pytest.raises(type(error)) as caught:
        shadow(side.gateway)
    assert getattr(caught.value, "sent", False) is False
    assert side.gateway.state(AGENT).epoch == 0


def test_trouble_after_the_effect_says_that_it_may_have_happened(side: Side):
    side.sim.faults.add("set_mode", Unavailable("tools", "no answer", sent=True), after=True)
    with pytest.raises(Unavailable) as caught:
        shadow(side.gateway)
    assert caught.value.sent
    assert shadow(side.gateway).mode is Mode.SHADOW  # the same order again


def test_a_hung_gateway_is_unavailable(side: Side):
    side.sim.hung = True
    with pytest.raises(Unavailable) as caught:
        side.gateway.state(AGENT)
    assert caught.value.sent


# Only over HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[GatewayServer]:
    clock = SimClock(NOW)
    sim = SimGateway("tools", clock)
    sim.enroll("7")
    with GatewayServer(sim, "secret", clock) as server:
        yield server


@pytest.fixture
def client(server: GatewayServer) -> Iterator[Callable[..., HttpGateway]]:
    with ExitStack() as opened:

        def connect(*secrets: str, clock: SimClock | None = None, signed: bool = False, url: str = "") -> HttpGateway:
            asked, at = secrets or ("secret",), clock or server.clock
            gateway = HttpGateway("tools", url or server.url, lambda: asked, at, 1, signed_answers=signed)
            opened.callback(gateway.close)
            return gateway

        yield connect


def test_a_wrong_secret_and_a_wrong_time_are_denied(client: Callable[..., HttpGateway]):
    with pytest.raises(Denied, match="401"):
        client("guess").state("7")
    with pytest.raises(Denied, match="401"):
        client(clock=SimClock(NOW + timedelta(minutes=6))).state("7")
    assert client("next", "secret", signed=False).set_mode("7", Mode.SHADOW, 1, "n", "I", None).epoch == 1


def test_a_forged_answer_is_not_trusted_and_an_unsigned_one_only_where_allowed(
    server: GatewayServer, client: Callable[..., HttpGateway]
):
    server.answer_secret = "somebody else's"
    with pytest.raises(Rejected, match="not to be trusted"):
        client().canary("7", "n", "probe")
    server.sign_answers = False
    assert client().canary("7", "n", "probe") is False
    with pytest.raises(Rejected, match="not to be trusted"):
        client(signed=True).canary("7", "n", "probe")


def test_nobody_listens(client: Callable[..., HttpGateway]):
    with pytest.raises(Unavailable, match="cannot connect") as caught:
        client(url="http://127.0.0.1:1").set_mode("7", Mode.SHADOW, 1, "n", "INC-1", None)
    assert not caught.value.sent
