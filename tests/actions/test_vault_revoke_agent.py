"""Cutting an agent off from Vault: on the simulator, and through hvac on the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from bot.actions import registry
from bot.actions.vault_revoke_agent import RevokeAgent
from bot.adapters.vault import HvacVault
from bot.commands.policy import merged
from bot.domain.agent import Agent, VaultIdentity
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.errors import Denied, Unavailable
from bot.ports import Ports, Vault
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer
from tests.actions.driver import drive, stage

ACTION = RevokeAgent()
PREFIX = "aws/creds/agent-7/"
KEY = "test.0/INC-7/12.0"
AGENT = Agent(
    id="agent-7",
    vault=VaultIdentity(entity_id="e-7", lease_prefixes=(PREFIX, "database/creds/agent-7"), approles=("agent-7",)),
)


class Register:
    """ports.Directory of no agents, with a protected list."""

    def __init__(self) -> None:
        self.guarded: dict[str, str] = {}

    def agent(self, agent_id: str) -> Agent | None:
        raise AssertionError(f"actions take {agent_id} from their params")

    def by_actor(self, actors: object) -> Agent | None:
        raise AssertionError(f"actions take {actors} from their params")

    def protected(self, target: str) -> str:
        return self.guarded.get(target, "")

    def count(self, kind: str) -> int:
        raise AssertionError(f"no action counts {kind}")


@dataclass
class Estate:
    clock: SimClock
    sim: SimVault
    ports: Ports
    register: Register
    token: str = ""

    def run(self, agent: Agent = AGENT, *, twice: bool = False) -> Outcome:
        return drive(ACTION, params(agent), self.ports, self.clock, KEY, twice=twice)

    def verify(self, agent: Agent = AGENT) -> Done | None:
        return ACTION.verify(params(agent), self.ports)

    def undo(self, done: Outcome, agent: Agent = AGENT) -> Outcome:
        assert isinstance(done, Done)
        assert done.undo is not None
        return ACTION.undo(params(agent), self.ports, undo=done.undo, key=KEY)


def params(agent: Agent = AGENT) -> dict[str, Any]:
    (target,) = ACTION.targets({"agent": agent.id}, agent)
    return dict(target.params)


def identity(**changes: Any) -> Agent:
    assert AGENT.vault
    return replace(AGENT, vault=replace(AGENT.vault, **changes))


@pytest.fixture(params=["simulator", "hvac"])
def empty(request: pytest.FixtureRequest) -> Iterator[Estate]:
    clock, register = SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC)), Register()
    sim = SimVault(clock)

    def estate(vault: Vault) -> Estate:
        return Estate(clock, sim, Ports(clock=clock, directory=register, vaults={"vault": vault}), register)

    if request.param == "simulator":
        yield estate(sim)
        return
    with VaultServer(sim, "bot-token", hang=2) as server:
        vault = HvacVault(server.url, lambda: "bot-token", read_timeout=0.8)
        yield estate(vault)
        vault.close()


@pytest.fixture
def estate(empty: Estate) -> Estate:
    """The agent is logged in, with a child token, three leases and two secret ids; so is an innocent neighbour."""
    sim = empty.sim
    for entity in ("e-7", "e-8"):
        sim.add_entity(entity)
    empty.token = sim.login("e-7")
    child = sim.login("e-7", parent=empty.token)
    sim.issue_lease(PREFIX, "agent-7", token=empty.token)
    sim.issue_lease(PREFIX + "deep", "agent-7", token=child)
    sim.issue_lease("database/creds/agent-7", "agent-7", token=child)
    sim.add_secret_id("agent-7")
    sim.add_secret_id("agent-7")
    sim.issue_lease("aws/creds/agent-77", "agent-77", token=sim.login("e-8"))
    return empty


def test_targets() -> None:
    (target,) = ACTION.targets({"agent": "agent-7"}, AGENT)
    assert (target.id, target.kind, target.system) == ("vault-entity:e-7", "vault-entity", "vault")
    assert target.params == {
        "agent": "agent-7",
        "connection": "vault",
        "entity_id": "e-7",
        "lease_prefixes": [PREFIX, "database/creds/agent-7"],
        "approles": ["agent-7"],
        "token_accessors": [],
    }
    (target,) = ACTION.targets({"agent": "agent-7"}, identity(entity_id=""))
    assert target.id == "vault-agent:agent-7"
    assert ACTION.targets({"agent": "a"}, Agent("a")) == ()
    assert ACTION.targets({"agent": "a"}, Agent("a", vault=VaultIdentity(mode_path="agents/a/mode"))) == ()
    with pytest.raises(ValueError, match=r"no agent 'ghost' in agents\.yaml"):
        ACTION.targets({"agent": "ghost"}, None)


def test_the_agent_is_cut_off_and_it_is_read_back(estate: Estate) -> None:
    done = estate.run()
    assert done == Done(
        Grade.CONFIG,
        {
            "entity_disabled": True,
            "leases_revoked": 3,
            "leases_alive": 0,
            "accessors_revoked": 2,
            "secret_ids_destroyed": 2,
            "sts_leases": 0,
            "tokens_searched": True,
            "alive": [],
            "not_restored": ["leases", "secret_ids", "tokens"],
        },
        undo={"entity": "enabled"},
    )
    assert estate.sim.leases_of("agent-7") == set()
    with pytest.raises(Denied):
        estate.sim.use_token(estate.token)
    with pytest.raises(Denied):
        estate.sim.login("e-7")
    assert len(estate.sim.leases_of("agent-77")) == 1
    assert len(estate.sim.accessors()) == 1
    verified = estate.verify()
    assert verified is not None
    assert verified.grade is Grade.CONFIG


def test_the_first_stage_saves_and_changes_nothing(estate: Estate) -> None:
    first = ACTION.run(params(), estate.ports, key=KEY)
    assert isinstance(first, Pending)
    assert (first.so_far["entity"], first.so_far["leases_found"], len(first.so_far["leases"])) == ("enabled", 3, 3)
    assert len(estate.sim.leases_of("agent-7")) == 3
    estate.sim.use_token(estate.token)
    assert estate.verify() is None


def test_evidence_has_only_the_promised_keys(estate: Estate) -> None:
    done = estate.run()
    assert isinstance(done, Done)
    assert set(done.evidence) <= set(ACTION.outputs)


def test_dying_after_every_stage_changes_no_outcome(estate: Estate) -> None:
    for _ in range(50):
        estate.sim.issue_lease(PREFIX, "agent-7")
    done = estate.run(twice=True)
    assert isinstance(done, Done)
    assert done.grade is Grade.CONFIG
    assert (done.evidence["leases_revoked"], done.undo) == (53, {"entity": "enabled"})


def test_again_finds_it_cut_and_restores_nothing_of_its_own(estate: Estate) -> None:
    estate.run()
    again = estate.run()
    assert isinstance(again, Done)
    assert (again.grade, again.undo) == (Grade.CONFIG, {"entity": "disabled"})
    assert again.evidence["leases_revoked"] == 0


def test_many_leases_are_cut_in_chunks(estate: Estate) -> None:
    for _ in range(100):
        estate.sim.issue_lease(PREFIX, "agent-7")
    so_far, sizes, begun = None, [], estate.clock.now()
    while isinstance(outcome := ACTION.run(params(), estate.ports, key=KEY, so_far=so_far), Pending):
        so_far = outcome.so_far
        sizes.append(len(estate.sim.leases_of("agent-7")))
        assert outcome.check_at == begun, "no waiting while there is something to cut"
    assert isinstance(outcome, Done)
    assert max(before - after for before, after in pairwise(sizes)) <= 20
    assert outcome.evidence["leases_revoked"] == 103


def test_leases_of_a_revoked_token_are_waited_for_where_they_cannot_be_revoked_at_once(estate: Estate) -> None:
    estate.sim.backends_down.add("database/")
    outcome = ACTION.run(params(), estate.ports, key=KEY)
    assert isinstance(outcome, Pending)
    outcome = ACTION.run(params(), estate.ports, key=KEY, so_far=outcome.so_far)
    assert isinstance(outcome, Pending)
    assert outcome.check_at > estate.clock.now()
    assert "still alive: vault-lease:database/creds/agent-7/" in outcome.why
    assert "backend of database/creds/agent-7" in outcome.why
    estate.sim.backends_down.clear()
    assert isinstance(ACTION.run(params(), estate.ports, key=KEY, so_far=outcome.so_far), Done)


def test_an_irrevocable_lease_is_named_and_never_called_contained(estate: Estate) -> None:
    (lease,) = (each for each in estate.sim.leases_of("agent-7") if each.startswith("database/"))
    estate.sim.give_up(lease)
    done = estate.run()
    assert isinstance(done, Done)
    assert done.grade is Grade.UNVERIFIED
    assert done.evidence["alive"] == [f"vault-lease:{lease}"]
    assert (done.evidence["leases_revoked"], done.evidence["leases_alive"]) == (2, 1)
    assert "given up on 1 leases (irrevocable): kill the credentials at their provider" in done.evidence["why"]
    assert done.undo == {"entity": "enabled"}, "a release must still know how it was"
    assert set(done.evidence) <= set(ACTION.outputs)
    assert estate.verify() is None
    assert estate.clock.now() - datetime(2026, 3, 1, 9, tzinfo=UTC) >= timedelta(minutes=11)


def test_a_backend_that_is_down_starves_no_other_lease(estate: Estate) -> None:
    for _ in range(45):
        estate.sim.issue_lease(PREFIX, "agent-7")
    estate.sim.backends_down.add("aws/")
    done = estate.run()
    assert isinstance(done, Done)
    assert done.grade is Grade.UNVERIFIED
    assert {each.split("/")[0] for each in estate.sim.leases_of("agent-7")} == {"aws"}


def test_many_refused_secret_ids_starve_no_lease(estate: Estate) -> None:
    for _ in range(60):
        estate.sim.add_secret_id("agent-7")
    estate.sim.denied |= {"destroy_secret_id", "list_token_accessors"}
    done = estate.run()
    assert isinstance(done, Done)
    assert (done.grade, done.evidence["leases_alive"]) == (Grade.UNVERIFIED, 0)
    assert "and 42 more" in done.evidence["why"]


def test_a_batch_token_is_named(empty: Estate) -> None:
    empty.sim.add_entity("e-7")
    accessor = empty.sim.login("e-7", batch=True)
    done = empty.run(identity(token_accessors=(accessor,)))
    assert isinstance(done, Done)
    assert (done.grade, done.evidence["alive"]) == (Grade.UNVERIFIED, [f"vault-token:{accessor}"])
    assert "batch tokens cannot be revoked" in done.evidence["why"]
    with pytest.raises(Denied):
        empty.sim.use_token(accessor)


def test_nothing_there(empty: Estate) -> None:
    done = empty.run()
    assert isinstance(done, Done)
    assert done.nothing_held.startswith("no entity e-7, no lease under aws/creds/agent-7/")
    assert isinstance(empty.verify(), Done)


def test_leases_without_an_entity(empty: Estate) -> None:
    empty.sim.issue_lease(PREFIX, "agent-7")
    done = empty.run()
    assert isinstance(done, Done)
    assert (done.grade, done.nothing_held, done.evidence["leases_revoked"]) == (Grade.CONFIG, "", 1)
    assert done.undo == {"entity": "missing"}


def test_known_tokens_of_an_agent_without_an_entity(empty: Estate) -> None:
    parent = empty.sim.login()
    empty.sim.issue_lease(PREFIX, "agent-7", token=empty.sim.login(parent=parent))
    done = empty.run(identity(entity_id="", approles=(), token_accessors=(parent,)))
    assert isinstance(done, Done)
    assert done.grade is Grade.CONFIG
    assert empty.sim.accessors() == frozenset()
    assert empty.sim.leases_of("agent-7") == set()


def test_tokens_of_an_approle_without_an_entity_cannot_be_seen_so_nothing_is_proved(empty: Estate) -> None:
    empty.sim.add_secret_id("agent-7")
    blind = identity(entity_id="")
    done = empty.run(blind)
    assert isinstance(done, Done)
    assert (done.grade, done.evidence["secret_ids_destroyed"]) == (Grade.UNVERIFIED, 1)
    assert "agents.yaml names no entity_id" in done.evidence["why"]
    verified = empty.verify(blind)
    assert verified is not None
    assert verified.grade is Grade.UNVERIFIED


def test_revoked_sts_leases_are_counted_because_aws_honours_them_on(estate: Estate) -> None:
    estate.sim.issue_lease("aws/sts/agent-7", "agent-7")
    done = estate.run(identity(lease_prefixes=("aws/sts/agent-7",)))
    assert isinstance(done, Done)
    assert done.evidence["sts_leases"] == 1


def test_undo_enables_the_entity_and_says_what_stays_gone(estate: Estate) -> None:
    done = estate.run()
    for _ in range(2):
        undone = estate.undo(done)
        assert undone == Done(
            Grade.CONFIG, {"entity_disabled": False, "not_restored": ["leases", "secret_ids", "tokens"]}
        )
    estate.sim.login("e-7")
    assert estate.verify() is None


def test_undo_leaves_an_entity_disabled_that_was_so_before(estate: Estate) -> None:
    estate.sim.set_entity_disabled("e-7", True)
    done = estate.run()
    undone = estate.undo(done)
    assert isinstance(undone, Done)
    assert undone.evidence["entity_disabled"] is True


def test_undo_of_an_entity_that_is_gone(estate: Estate) -> None:
    done = estate.run()
    gone = ACTION.undo({**params(), "entity_id": "deleted"}, estate.ports, undo=done.undo or {}, key=KEY)
    assert isinstance(gone, Failed)
    assert "deleted is gone from Vault" in gone.why


def test_denied_everywhere_fails_and_names_the_policy(estate: Estate) -> None:
    estate.sim.denied.add("*")
    failed = estate.run()
    assert isinstance(failed, Failed)
    assert not failed.retryable
    assert "permission denied" in failed.why
    assert len(estate.sim.leases_of("agent-7")) == 3
    with pytest.raises(Denied):
        estate.verify()


@pytest.mark.parametrize("call", ["list_secret_ids", "destroy_secret_id", "revoke_accessor", "revoke_lease"])
def test_one_missing_right_stops_none_of_the_other_cuts(estate: Estate, call: str) -> None:
    lone = estate.sim.issue_lease(PREFIX, "agent-7")  # of no known token, so that only a revocation ends it
    estate.sim.denied.add(call)
    done = estate.run()
    assert isinstance(done, Done)
    assert done.grade is Grade.UNVERIFIED, "the entity was disabled and must be enabled on release"
    assert "permission denied" in done.evidence["why"]
    with pytest.raises(Denied):
        estate.sim.use_token(estate.token)
    assert estate.sim.leases_of("agent-7") == ({lone} if call == "revoke_lease" else set())
    assert (call == "revoke_accessor") or len(estate.sim.accessors()) == 1


def test_tokens_that_may_not_be_listed_are_still_refused_by_their_entity(estate: Estate) -> None:
    estate.sim.denied.add("list_token_accessors")
    done = estate.run()
    assert isinstance(done, Done)
    assert (done.grade, done.evidence["tokens_searched"]) == (Grade.CONFIG, False)
    with pytest.raises(Denied):
        estate.sim.use_token(estate.token)


def test_throttled_and_sealed_are_waited_out(estate: Estate) -> None:
    estate.sim.faults.add("*", Unavailable("vault", "rate limit quota exceeded", retry_after=9), times=3)
    begun = estate.clock.now()
    assert isinstance(estate.run(), Done)
    assert estate.clock.now() - begun >= timedelta(seconds=27)

    estate.sim.sealed = True
    outage = stage(ACTION, params(), estate.ports, key=KEY)
    assert isinstance(outage, Pending)
    assert outage.unavailable


@pytest.mark.parametrize("call", ["set_entity_disabled", "destroy_secret_id", "revoke_accessor", "revoke_lease"])
def test_a_call_that_hangs_after_its_effect_is_made_again(estate: Estate, call: str) -> None:
    estate.sim.faults.add(call, Unavailable("vault", "no answer", sent=True), after=True)
    done = estate.run()
    assert isinstance(done, Done)
    assert done.grade is Grade.CONFIG
    assert (done.evidence["leases_revoked"], done.evidence["secret_ids_destroyed"]) == (3, 2)
    assert done.undo == {"entity": "enabled"}


def test_a_protected_entity_is_left_alone(estate: Estate) -> None:
    estate.register.guarded["e-7"] = "the bot's own entity"
    assert estate.run() == Skipped("the bot's own entity")
    estate.sim.use_token(estate.token)


def test_a_connection_that_is_not_configured() -> None:
    clock = SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC))
    failed = drive(ACTION, params(), Ports(clock=clock, directory=Register()), clock, KEY)
    assert isinstance(failed, Failed)
    assert "no connection of this name is configured" in failed.why


def test_the_example_is_a_step_that_names_this_action() -> None:
    step = yaml.safe_load(ACTION.example)
    assert step["uses"] == ACTION.id
    assert set(step["with"]) == {param.name for param in ACTION.params}


def test_the_policy_in_the_docs_is_what_the_actions_say_they_need() -> None:
    policy = (Path(__file__).parents[2] / "docs/vault-policy.hcl").read_text()
    needed = {line for action in registry().values() for line in action.permissions.get("vault", ())}
    asked_by_the_doctor = {
        'path "auth/token/lookup-self" { capabilities=["read"] }',
        'path "sys/capabilities-self" { capabilities=["update"] }',
    }
    assert merged(policy.splitlines()) == merged(needed | asked_by_the_doctor)
    assert not any("revoke-force" in line for line in merged(policy.splitlines()))
