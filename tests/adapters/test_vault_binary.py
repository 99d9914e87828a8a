"""What the bot does to Vault, done to the stand-in and, where `vault` or `bao` is on PATH, to the real one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from bot.actions.vault_stop_role import StopRole
from bot.adapters.vault import HvacVault
from bot.domain.agent import Agent, VaultIdentity
from bot.domain.outcome import Done, Grade
from bot.errors import Rejected
from bot.ports import KvValue, Ports
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer
from tests.actions.driver import drive
from tests.actions.estate import Enrolled
from tests.adapters.vault_binary import BINARIES, Held, serving

STAND_IN = "stand-in"


@pytest.fixture(params=[STAND_IN, *BINARIES], scope="module")
def held(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    if request.param != STAND_IN:
        with serving(request.param, tmp_path_factory.mktemp(request.param)) as real:
            yield real
        return
    sim = SimVault(SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC)))
    with VaultServer(sim, "bot-token") as server:
        sim.add_entity("e-7", "agent-7")
        accessor = sim.login("e-7")
        sim.add_secret_id("agent-7")
        for _ in range(2):
            sim.issue_lease("pki/issue/agent-7/", "agent-7")
        sim.issue_lease("pki/issue/agent-8/", "agent-8")
        token = sim.token(accessor)
        yield Held(server.url, "bot-token", "e-7", token, accessor, "pki/issue/agent-7/", "secret/agents/agent-7/mode")


@pytest.fixture
def vault(held: Held) -> Iterator[HvacVault]:
    made = HvacVault(held.url, lambda: held.bot_token)
    yield made
    made.close()


def test_the_mode_is_written_by_check_and_set(vault: HvacVault, held: Held) -> None:
    assert vault.read_kv(held.kv) is None
    assert vault.write_kv(held.kv, {"mode": "shadow"}, cas=0) == 1
    assert vault.read_kv(held.kv) == KvValue({"mode": "shadow"}, 1)
    with pytest.raises(Rejected, match="check-and-set"):
        vault.write_kv(held.kv, {"mode": "active"}, cas=0)


def test_what_an_agent_holds_is_taken_from_it(vault: HvacVault, held: Held) -> None:
    """In the order of `vault.revoke_agent`, each read back."""
    assert held.works()
    vault.set_entity_disabled(held.entity, True)
    entity = vault.read_entity(held.entity)
    assert entity is not None
    assert entity.disabled
    assert not held.works()

    (secret_id,) = vault.list_secret_ids("agent-7")
    for _ in range(2):
        vault.destroy_secret_id("agent-7", secret_id)
    assert vault.list_secret_ids("agent-7") == ()

    assert held.accessor in vault.list_token_accessors()
    token = vault.lookup_accessor(held.accessor)
    assert token is not None
    assert token.entity_id == held.entity
    vault.revoke_accessor(held.accessor)
    assert vault.lookup_accessor(held.accessor) is None

    leases = vault.list_leases(held.prefix)
    assert len(leases) == 2
    assert vault.lookup_lease(leases[0]) is not None
    for lease in leases * 2:
        vault.revoke_lease(lease)
    assert vault.lookup_lease(leases[0]) is None
    assert vault.list_leases(held.prefix) == ()


def test_all_under_a_prefix_is_taken(vault: HvacVault) -> None:
    assert len(vault.list_leases("pki/issue/agent-8/")) == 1
    for _ in range(2):
        vault.revoke_prefix("pki/issue/agent-8/")
    assert vault.list_leases("pki/issue/agent-8/") == ()
    assert vault.irrevocable_lease_ids() == ()


def test_a_role_is_deleted_and_comes_back_as_it_was(vault: HvacVault) -> None:
    """By `vault.stop_role` itself, which reads back every field that the role had."""
    clock = SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC))
    ports = Ports(clock, Enrolled(), vaults={"vault": vault})
    agent = Agent("agent-7", vault=VaultIdentity(approles=("agent-7",)))
    action = StopRole()
    (target,) = action.targets({"agent": "agent-7"}, agent)
    done = drive(action, target.params, ports, clock, "test.0/INC-7/12.0")
    assert isinstance(done, Done)
    assert done.grade is Grade.CONFIG
    assert vault.read_role("auth/approle/role/agent-7") is None
    undone = action.undo(target.params, ports, undo=done.undo or {}, key="test.0/INC-7/13.0")
    assert isinstance(undone, Done), undone
    assert vault.read_role_id("auth/approle/role/agent-7") == (done.undo or {})["before"]["role_id"]


def test_what_is_not_there(vault: HvacVault) -> None:
    assert vault.read_entity("00000000-0000-0000-0000-000000000000") is None
    assert vault.lookup_accessor("nobody") is None
    assert vault.lookup_lease("pki/issue/agent-7/nothing") is None
