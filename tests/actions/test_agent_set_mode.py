import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.actions.agent_set_mode import MOST_TURNS, READ_AGAIN, SetMode
from bot.adapters.gateway import HttpGateway
from bot.domain.agent import Agent, AwsIdentity, Mode, VaultIdentity
from bot.domain.handshake import sentence
from bot.domain.outcome import Done, Failed, Grade, Pending
from bot.errors import Denied, Unavailable
from bot.ports import InstanceMode, Ports
from bot.sandbox.agents import SimGateway, SimSwitchboard
from bot.sandbox.clock import SimClock
from bot.sandbox.gateway_server import GatewayServer
from bot.sandbox.vault import SimVault
from tests.actions.driver import drive, stage
from tests.actions.estate import Enrolled, Parameters, account

KEY, UNDO = "prod.1/INC-7/12.0", "prod.1/INC-7/40.0"
ACTION = SetMode()
AGENT = Agent(
    "7",
    gateways=("tools", "mcp"),
    vault=VaultIdentity(mode_path="agents/7/mode"),
    aws=AwsIdentity(mode_parameter="/agents/7/mode"),
)


@dataclass
class Estate:
    clock: SimClock = field(default_factory=lambda: SimClock(datetime(2026, 3, 1, 12, tzinfo=UTC)))
    agent: Agent = AGENT

    def __post_init__(self) -> None:
        self.tools, self.mcp = SimGateway("tools", self.clock), SimGateway("mcp", self.clock)
        for gateway in (self.tools, self.mcp):
            gateway.enroll("7", "a", "b")
        self.vault, self.parameters = SimVault(self.clock), Parameters()
        self.directory = Enrolled([self.agent])
        self.board = SimSwitchboard()
        self.ports = Ports(
            self.clock,
            self.directory,
            switchboard=self.board,
            vaults={"vault": self.vault},
            aws={"aws": account(self.parameters)},
            gateways={"tools": self.tools, "mcp": self.mcp},
        )

    def params(self, mode: str = "shadow") -> Any:
        (target,) = ACTION.targets({"agent": "7", "mode": mode}, self.agent)
        return target.params

    def set(self, mode: str = "shadow", key: str = KEY, **how: Any) -> Any:
        return drive(ACTION, self.params(mode), self.ports, self.clock, key, **how)

    def modes(self) -> list[str]:
        """At the gateways, in the parameter, in Vault."""
        stored = self.vault.read_kv("agents/7/mode")
        found = [gateway.agent("7").mode.name.lower() for gateway in (self.tools, self.mcp)]
        found.append(json.loads(self.parameters.values["/agents/7/mode"][0])["mode"])
        return [*found, stored.data["mode"] if stored else ""]


@pytest.fixture
def estate() -> Estate:
    return Estate()


def only(**ways: Any) -> Estate:
    return Estate(agent=Agent("7", **ways))


# Targets ----------------------------------------------------------------------------------------------------------


def test_the_target_is_the_agent_with_all_its_ways_and_the_mode_as_level():
    (target,) = ACTION.targets({"agent": "7", "mode": "disabled"}, AGENT)
    assert (target.id, target.system, target.level) == ("agent:7", "tools", 3)
    assert target.params == {
        "agent": "7",
        "mode": "disabled",
        "gateways": ["tools", "mcp"],
        "aws": "aws",
        "parameter": "/agents/7/mode",
        "vault": "vault",
        "path": "agents/7/mode",
    }


def test_what_cannot_be_said():
    ask = {"agent": "7", "mode": "shadow"}
    with pytest.raises(ValueError, match="agent 7 is not enrolled"):
        ACTION.targets(ask, None)
    with pytest.raises(ValueError, match="'off' is not a mode"):
        ACTION.targets(ask | {"mode": "off"}, AGENT)


# It works ---------------------------------------------------------------------------------------------------------


def test_shadow_is_in_force_everywhere_and_proved_at_the_gateways(estate: Estate):
    done = estate.set()
    assert isinstance(done, Done)
    assert done.grade is Grade.EFFECT
    assert done.evidence == {
        "mode": "shadow",
        "epoch": 1,
        "ways": ["gateway tools", "gateway mcp", "parameter /agents/7/mode", "kv agents/7/mode"],
        "enforced_by": ["gateway tools", "gateway mcp"],
        "instances": 4,
        "acknowledged": 4,
        "silent": [],
        "stage": "enforced",
    }
    assert set(done.evidence) == set(ACTION.outputs)
    assert estate.modes() == ["shadow"] * 4
    assert not estate.tools.attempt_effect("7", "deploy", instance="a")
    document = json.loads(estate.parameters.values["/agents/7/mode"][0])
    assert document == estate.vault.read_kv("agents/7/mode").data
    assert {key: document[key] for key in ("agent", "incident", "epoch", "expires")} == {
        "agent": "7",
        "incident": "INC-7",
        "epoch": 1,
        "expires": None,
    }


@pytest.mark.parametrize(
    ("ways", "grade", "proved"),
    [
        ({"gateways": ("tools",)}, Grade.EFFECT, ["gateway tools"]),
        ({"vault": VaultIdentity(mode_path="agents/7/mode")}, Grade.CONFIG, []),
        ({"aws": AwsIdentity(mode_parameter="/agents/7/mode")}, Grade.CONFIG, []),
    ],
)
def test_the_grade_is_what_could_be_proved(ways: Any, grade: Grade, proved: list[str]):
    done = only(**ways).set()
    assert (done.grade, done.evidence["enforced_by"]) == (grade, proved)


def test_a_looser_mode_is_read_back_and_no_canary_is_fired(estate: Estate):
    estate.set("disabled")
    fired = len(estate.tools.canaries)
    done = estate.set("advisory", key="prod.1/INC-7/20.0")
    assert (done.grade, done.evidence["epoch"], len(estate.tools.canaries)) == (Grade.CONFIG, 2, fired)
    assert estate.modes() == ["advisory"] * 4


def test_the_epoch_is_above_the_highest_anywhere(estate: Estate):
    estate.mcp.set_mode("7", Mode.ADVISORY, 41, "n", "INC-1", None)
    estate.parameters.put("/agents/7/mode", '{"mode": "active", "epoch": 5}')
    assert estate.set().evidence["epoch"] == 42


def test_each_stage_again_changes_nothing(estate: Estate):
    done = estate.set(twice=True)
    assert done.grade is Grade.EFFECT
    orders = [entry for entry in estate.tools.agent("7").activity if entry["kind"] == "mode"]
    assert [order["epoch"] for order in orders] == [1]
    assert estate.parameters.values["/agents/7/mode"][1] == estate.vault.read_kv("agents/7/mode").version == 1
    assert set(done.undo["previous"].values()) == {"active"}


def test_nothing_is_written_before_what_was_in_force_is_saved(estate: Estate):
    first = stage(ACTION, estate.params(), estate.ports, key=KEY)
    assert isinstance(first, Pending)
    assert first.so_far["previous"]["gateway tools"] == "active"
    assert estate.tools.agent("7").epoch == 0
    assert not estate.parameters.values


# It does not work -------------------------------------------------------------------------------------------------


def test_a_gateway_that_lets_the_canary_pass_is_a_failure(estate: Estate):
    estate.mcp.agent("7").lying = True
    failed = estate.set()
    assert isinstance(failed, Failed)
    assert failed.retryable
    assert failed.why.startswith("gateway mcp let the canary pass: mode not enforced (in force at gateway tools")


def test_an_instance_that_stays_silent_is_waited_for_and_then_named(estate: Estate):
    estate.tools.agent("7").silent = {"b"}
    before = estate.clock.now()
    done = estate.set()
    assert estate.clock.now() - before == MOST_TURNS * READ_AGAIN
    assert done.grade is Grade.CONFIG
    assert done.evidence["enforced_by"] == ["gateway tools", "gateway mcp"]
    assert (done.evidence["instances"], done.evidence["acknowledged"]) == (4, 3)
    assert done.evidence["silent"] == ["b at gateway tools"]
    assert set(done.undo["previous"].values()) == {"active"}
    assert ACTION.verify(estate.params(), estate.ports).grade is Grade.CONFIG


def test_an_instance_that_acknowledges_late_is_waited_for(estate: Estate):
    agent = estate.tools.agent("7")
    agent.silent = {"a", "b"}
    params, so_far = estate.params(), None
    for _ in range(3):
        outcome = stage(ACTION, params, estate.ports, key=KEY, so_far=so_far)
        assert isinstance(outcome, Pending)
        so_far = outcome.so_far
    assert outcome.why.startswith("gateway tools: a, b has not acknowledged epoch 1 (in force at gateway mcp")
    agent.instances["a"] = InstanceMode("a", 1, Mode.SHADOW)
    agent.instances["b"] = InstanceMode("b", 2, Mode.DISABLED)
    done = stage(ACTION, params, estate.ports, key=KEY, so_far=so_far)
    assert isinstance(done, Done)
    assert (done.grade, done.evidence["silent"]) == (Grade.EFFECT, [])
    agent.instances["b"] = InstanceMode("b", 1, Mode.ADVISORY)
    assert ACTION.verify(params, estate.ports).evidence["silent"] == ["b at gateway tools"]


def test_a_gateway_without_instances_is_judged_by_the_canary(estate: Estate):
    estate.tools.agent("7").instances.clear()
    done = estate.set()
    assert (done.grade, done.evidence["instances"]) == (Grade.EFFECT, 2)


def test_silence_does_not_hide_that_a_gateway_does_not_enforce(estate: Estate):
    estate.tools.agent("7").silent, estate.mcp.agent("7").lying = {"b"}, True
    before = estate.clock.now()
    failed = estate.set()
    assert isinstance(failed, Failed)
    assert "mcp let the canary pass" in failed.why
    assert "gateway tools: b has not acknowledged" in failed.why
    assert estate.clock.now() == before


def test_an_unreachable_gateway_holds_up_no_other(estate: Estate):
    estate.tools.hung = True
    params, so_far = estate.params(), None
    for _ in range(4):
        outcome = stage(ACTION, params, estate.ports, key=KEY, so_far=so_far)
        assert isinstance(outcome, Pending)
        so_far = outcome.so_far
    assert outcome.unavailable
    assert "gateway tools: no answer in time" in outcome.why
    assert "in force at gateway mcp, parameter /agents/7/mode, kv agents/7/mode" in outcome.why
    assert estate.modes() == ["active", "shadow", "shadow", "shadow"]
    estate.tools.hung = False
    done = drive(ACTION, params, estate.ports, estate.clock, KEY)
    assert done.evidence["enforced_by"] == ["gateway tools", "gateway mcp"]


class Hanging(SimGateway):
    """Takes every connection, and answers nobody until it is `freed`."""

    def __init__(self, name: str, clock: SimClock) -> None:
        super().__init__(name, clock)
        self.freed = threading.Event()

    def state(self, agent: str) -> Any:
        assert self.freed.wait(60)
        return super().state(agent)


def test_a_gateway_that_hangs_does_not_delay_the_first_order_to_the_others(estate: Estate):
    """Instances, a second gateway, the parameter and the KV path have their order while it has not said a word."""
    hanging = Hanging("tools", estate.clock)
    hanging.enroll("7", "a")
    estate.ports = replace(estate.ports, gateways={"tools": hanging, "mcp": estate.mcp})
    estate.tools = hanging
    estate.board.enroll("7", "pod-1")
    with ThreadPoolExecutor(1) as performer:
        params = estate.params()
        first = performer.submit(stage, ACTION, params, estate.ports, key=KEY).result(60)
        assert isinstance(first, Pending)
        assert (first.unavailable, first.check_at) == (False, estate.clock.now())
        assert "gateway tools" not in first.so_far["epochs"]
        assert len(first.so_far["epochs"]) == 4
        second = performer.submit(stage, ACTION, params, estate.ports, key=KEY, so_far=first.so_far)
        try:
            for _ in range(30_000):
                ordered = estate.board.acks("7")
                if ordered and ordered.mode is Mode.SHADOW and set(_stored(estate)) == {"shadow"}:
                    break
                time.sleep(0.001)
            assert set(_stored(estate)) == {"shadow"}
            assert not second.done()
        finally:
            hanging.freed.set()
        third = stage(ACTION, params, estate.ports, key=KEY, so_far=second.result(60).so_far)
    assert isinstance(third, Done)
    assert estate.modes() == ["shadow"] * 4


def _stored(estate: Estate) -> list[str]:
    """The mode at the second gateway, in the parameter and at the KV path; '' where there is none yet."""
    kept, kv = estate.parameters.values.get("/agents/7/mode"), estate.vault.read_kv("agents/7/mode")
    texts = [json.loads(kept[0])["mode"] if kept else "", kv.data["mode"] if kv else ""]
    return [estate.mcp.agent("7").mode.name.lower(), *texts]


def test_an_unreachable_gateway_does_not_hide_that_another_does_not_enforce(estate: Estate):
    estate.tools.hung, estate.mcp.agent("7").lying = True, True
    failed = estate.set()
    assert isinstance(failed, Failed)
    assert failed.retryable
    assert "mcp let the canary pass" in failed.why
    assert "gateway tools: no answer in time" in failed.why


def test_an_answer_that_got_lost_is_asked_for_again(estate: Estate):
    estate.tools.faults.add("set_mode", Unavailable("tools", "no answer", sent=True, retry_after=30), after=True)
    estate.parameters.faults.add("put", Unavailable("aws", "throttled"), after=True)
    before = estate.clock.now()
    done = estate.set()
    assert done.grade is Grade.EFFECT
    assert (estate.clock.now() - before).total_seconds() == 30
    assert estate.parameters.values["/agents/7/mode"][1] == 1


def test_a_way_that_refuses_the_bot_is_final_once_the_others_are_set(estate: Estate):
    estate.tools.faults.add("*", Denied("tools", "answered 401"), times=99)
    failed = estate.set()
    assert isinstance(failed, Failed)
    assert not failed.retryable
    assert failed.why == (
        "gateway tools: answered 401 (in force at gateway mcp, parameter /agents/7/mode, kv agents/7/mode)"
    )
    assert failed.undo  # it is in force at three of four: a release has to know what was before
    assert failed.undo["previous"]["gateway mcp"] == "active"


def test_a_gateway_that_is_not_configured(estate: Estate):
    estate.ports = Ports(estate.clock, estate.directory, vaults={"vault": estate.vault}, aws=estate.ports.aws)
    failed = estate.set()
    assert not failed.retryable
    assert "no connection of this name is configured" in failed.why


def test_a_slow_gateway_is_waited_for_and_not_for_ever(estate: Estate):
    estate.tools.agent("7").slow = 9
    assert estate.set().grade is Grade.EFFECT
    estate.tools.agent("7").slow = 3600
    failed = estate.set("disabled", key="prod.1/INC-7/20.0")
    assert failed.retryable
    assert failed.why.startswith("gateway tools accepted the mode and does not have it in force yet")


def test_overtaken_between_reading_and_writing_it_takes_a_newer_epoch(estate: Estate):
    first = stage(ACTION, estate.params(), estate.ports, key=KEY)
    assert isinstance(first, Pending)
    estate.tools.set_mode("7", Mode.ADVISORY, 6, "other", "INC-6", None)
    estate.vault.write_kv("agents/7/mode", {"mode": "advisory", "epoch": 9, "nonce": "other"}, cas=0)
    second = stage(ACTION, estate.params(), estate.ports, key=KEY, so_far=first.so_far)
    assert isinstance(second, Pending)
    assert second.so_far["epochs"] == {
        "gateway tools": 10,
        "gateway mcp": 1,
        "parameter /agents/7/mode": 1,
        "kv agents/7/mode": 10,
    }
    done = stage(ACTION, estate.params(), estate.ports, key=KEY, so_far=second.so_far)
    assert isinstance(done, Done)
    assert done.undo["previous"]["gateway tools"] == "advisory"
    assert done.undo["previous"]["gateway mcp"] == "active"


def test_somebody_who_keeps_overtaking_is_named(estate: Estate):
    params, outcome = estate.params(), stage(ACTION, estate.params(), estate.ports, key=KEY)
    for turn in range(MOST_TURNS + 1):
        assert isinstance(outcome, Pending)
        estate.tools.set_mode("7", Mode.ACTIVE, 10 * (turn + 1), f"other{turn}", "INC-6", None)
        outcome = stage(ACTION, params, estate.ports, key=KEY, so_far=outcome.so_far)
    assert isinstance(outcome, Failed)
    assert "gateway tools is at epoch 160, written by somebody else" in outcome.why


def test_a_protected_agent_is_not_touched(estate: Estate):
    estate.directory.untouchable = {"7": "it runs the reactor"}
    assert estate.set() == Failed(False, "agent 7 is protected: it runs the reactor")
    assert estate.tools.agent("7").activity == []


# Verify and undo --------------------------------------------------------------------------------------------------


def test_verify_reads_it_back_and_fires_the_canary_again(estate: Estate):
    assert ACTION.verify(estate.params(), estate.ports) is None
    estate.set()
    assert ACTION.verify(estate.params(), estate.ports).grade is Grade.EFFECT
    estate.mcp.agent("7").lying = True
    assert ACTION.verify(estate.params(), estate.ports) is None


def test_verify_accepts_a_stricter_mode_and_not_a_looser_one(estate: Estate):
    estate.set("disabled")
    assert ACTION.verify(estate.params(), estate.ports).grade is Grade.EFFECT
    estate.parameters.put("/agents/7/mode", "who changed this?")
    assert ACTION.verify(estate.params(), estate.ports) is None


def test_undo_restores_what_each_way_had_under_a_newer_epoch(estate: Estate):
    estate.mcp.set_mode("7", Mode.ADVISORY, 3, "n", "INC-1", None)
    estate.parameters.put("/agents/7/mode", "advisory")
    done = estate.set()
    for _ in range(2):
        back = ACTION.undo(estate.params(), estate.ports, undo=done.undo, key=UNDO)
        assert back.grade is Grade.CONFIG
        assert back.evidence["mode"] == "advisory"
        assert back.evidence["epoch"] == 5
        assert estate.modes() == ["active", "advisory", "advisory", "active"]
    assert estate.tools.attempt_effect("7", "deploy", instance="a")


def test_undo_goes_on_after_an_outage(estate: Estate):
    done = estate.set()
    estate.mcp.hung = True
    waiting = ACTION.undo(estate.params(), estate.ports, undo=done.undo, key=UNDO)
    assert isinstance(waiting, Pending)
    assert waiting.unavailable
    assert estate.modes() == ["active", "shadow", "active", "active"]
    estate.mcp.hung = False
    assert isinstance(ACTION.undo(estate.params(), estate.ports, undo=done.undo, key=UNDO), Done)
    assert estate.modes() == ["active"] * 4
    assert estate.parameters.values["/agents/7/mode"][1] == 2


def test_undo_says_when_the_mode_before_is_not_known(estate: Estate):
    estate.parameters.put("/agents/7/mode", "who wrote this?")
    done = estate.set()
    failed = ACTION.undo(estate.params(), estate.ports, undo=done.undo, key=UNDO)
    assert failed == Failed(
        False, "the mode before is not known at parameter /agents/7/mode: set it with agent.set_mode"
    )
    assert estate.modes() == ["shadow"] * 4


def test_what_was_saved_survives_a_repeat_that_finds_its_own_order(estate: Estate):
    first = stage(ACTION, estate.params(), estate.ports, key=KEY)
    assert isinstance(first, Pending)
    stage(ACTION, estate.params(), estate.ports, key=KEY, so_far=first.so_far)
    lost = stage(ACTION, estate.params(), estate.ports, key=KEY)  # as if nothing had been saved
    assert isinstance(lost, Pending)
    assert set(lost.so_far["previous"].values()) == {None}
    again = stage(ACTION, estate.params(), estate.ports, key=KEY, so_far=first.so_far)
    assert isinstance(again, Done)
    assert set(again.undo["previous"].values()) == {"active"}


# Against a real gateway -------------------------------------------------------------------------------------------


def test_the_same_over_signed_http(estate: Estate):
    with (
        GatewayServer(estate.tools, "secret", estate.clock) as server,
        closing(HttpGateway("tools", server.url, lambda: ["secret"], estate.clock, 0.3)) as gateway,
    ):
        estate.ports = replace(estate.ports, gateways={"tools": gateway, "mcp": estate.mcp})
        done = estate.set(twice=True)
        assert (done.grade, done.evidence["acknowledged"]) == (Grade.EFFECT, 4)
        assert ACTION.verify(estate.params(), estate.ports).grade is Grade.EFFECT
        assert ACTION.undo(estate.params(), estate.ports, undo=done.undo, key=UNDO).grade is Grade.CONFIG
        assert estate.modes() == ["active"] * 4
        estate.tools.hung = True
        first = stage(ACTION, estate.params(), estate.ports, key="prod.1/INC-8/1.0")
        waiting = stage(ACTION, estate.params(), estate.ports, key="prod.1/INC-8/1.0", so_far=first.so_far)
        assert waiting.unavailable
        assert estate.modes() == ["active", "shadow", "shadow", "shadow"]


# Instances that are enrolled here ----------------------------------------------------------------------------------


def test_an_agent_without_any_other_way_is_ordered_and_its_word_is_no_proof():
    estate = only()
    assert ACTION.targets({"agent": "7", "mode": "shadow"}, estate.agent)[0].system == "instances"
    estate.board.enroll("7", "pod-1", "pod-2")
    done = estate.set()
    assert isinstance(done, Done)
    assert (done.grade, done.evidence["stage"]) == (Grade.CONFIG, "acked")
    assert (done.evidence["acknowledged"], done.evidence["enforced_by"]) == (2, [])
    assert estate.board.ordered == [("7", Mode.SHADOW, 1, "INC-7")]
    assert isinstance(ACTION.verify(estate.params(), estate.ports), Done)
    back = ACTION.undo(estate.params(), estate.ports, undo=done.undo or {}, key=UNDO)
    assert isinstance(back, Done)
    assert estate.board.ordered[-1] == ("7", Mode.ACTIVE, 2, "INC-7")


def test_nobody_to_tell_fails_and_says_so():
    done = only().set()
    assert done == Failed(False, "agent 7 has no gateway, OPA, SSM parameter, KV path or instance: nobody to tell")


def test_with_a_gateway_that_refuses_instances_must_still_be_heard():
    estate = only(gateways=("tools",))
    estate.board.enroll("7", "pod-1", "pod-2")
    estate.board.silent.add(("7", "pod-2"))
    done = estate.set()
    assert isinstance(done, Done)
    assert done.grade is Grade.CONFIG
    assert (done.evidence["silent"], done.evidence["stage"]) == (["pod-2"], "enforced")
    assert sentence(done.evidence) == (
        "shadow enforced: 3 of 4 instances acked, pod-2 silent; gateway tools refused the canary"
    )


def test_a_lying_acknowledgement_is_found_out_by_the_canary():
    estate = only(gateways=("tools",))
    estate.board.enroll("7", "pod-1")
    estate.tools.agent("7").lying = True
    done = estate.set()
    assert isinstance(done, Failed)
    assert "gateway tools let the canary pass" in done.why
    state = estate.board.acks("7")
    assert state is not None
    assert state.instances[0].mode is Mode.SHADOW


def test_instances_that_came_during_the_hold_follow_the_others_out_of_it():
    estate = only(gateways=("tools",))
    done = estate.set()
    assert isinstance(done, Done)
    estate.board.enroll("7", "late")
    estate.board.order("7", Mode.SHADOW, 1, "enrolment", "INC-7")
    assert isinstance(ACTION.undo(estate.params(), estate.ports, undo=done.undo or {}, key=UNDO), Done)
    state = estate.board.acks("7")
    assert state is not None
    assert (state.mode, estate.tools.agent("7").mode) == (Mode.ACTIVE, Mode.ACTIVE)
