"""What every Vault does: the simulator, and hvac against the stand-in server in front of the same simulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from bot.adapters.vault import HvacVault
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Entity, KvValue, Vault
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer

PREFIX = "aws/creds/agent-7/"
NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


@dataclass
class Estate:
    clock: SimClock
    sim: SimVault
    vault: Vault


@pytest.fixture(params=["simulator", "hvac"])
def estate(request: pytest.FixtureRequest) -> Iterator[Estate]:
    clock = SimClock(NOW)
    sim = SimVault(clock)
    if request.param == "simulator":
        yield Estate(clock, sim, sim)
        return
    with VaultServer(sim, "bot-token") as server:
        vault = HvacVault(server.url, lambda: "bot-token", read_timeout=0.5)
        yield Estate(clock, sim, vault)
        vault.close()


@pytest.fixture
def server() -> Iterator[VaultServer]:
    with VaultServer(SimVault(SimClock(NOW)), "bot-token", hang=2) as server:
        yield server


@pytest.fixture
def hvac_vault(server: VaultServer) -> Iterator[HvacVault]:
    vault = HvacVault(server.url, lambda: server.token, connect_timeout=0.5, read_timeout=0.2)
    yield vault
    vault.close()


def test_leases_are_listed_with_their_sub_prefixes(estate: Estate) -> None:
    one = estate.sim.issue_lease(PREFIX, "agent-7")
    deep = estate.sim.issue_lease(PREFIX + "prod/eu", "agent-7")
    other = estate.sim.issue_lease("aws/creds/agent-77", "agent-77")
    assert set(estate.vault.list_leases(PREFIX)) == {one, deep}
    assert estate.vault.list_leases(PREFIX.rstrip("/")) == estate.vault.list_leases(PREFIX)
    assert estate.vault.list_leases("aws/creds") == tuple(sorted((one, deep, other)))
    assert estate.vault.list_leases("database/creds/nobody") == ()


def test_a_lease_has_a_time_to_live_and_ends(estate: Estate) -> None:
    lease_id = estate.sim.issue_lease(PREFIX, "agent-7", ttl=timedelta(minutes=5))
    estate.clock.forward(minutes=1)
    lease = estate.vault.lookup_lease(lease_id)
    assert lease is not None
    assert (lease.id, lease.ttl, lease.expire_time) == (lease_id, 240, NOW + timedelta(minutes=5))
    estate.clock.forward(minutes=4)
    assert estate.vault.lookup_lease(lease_id) is None


def test_a_revoked_lease_is_gone_and_may_be_revoked_again(estate: Estate) -> None:
    lease_id = estate.sim.issue_lease(PREFIX, "agent-7")
    estate.vault.revoke_lease(lease_id)
    estate.vault.revoke_lease(lease_id)
    assert estate.vault.lookup_lease(lease_id) is None
    assert estate.vault.list_leases(PREFIX) == ()
    assert estate.sim.leases_of("agent-7") == set()


def test_with_its_backend_down_a_lease_stays(estate: Estate) -> None:
    lease_id = estate.sim.issue_lease(PREFIX, "agent-7")
    estate.sim.backends_down.add("aws/")
    with pytest.raises(Rejected, match="failed to revoke entry") as failure:
        estate.vault.revoke_lease(lease_id)
    assert failure.value.retryable
    assert estate.vault.lookup_lease(lease_id) is not None
    assert estate.vault.irrevocable_leases() == 0
    estate.sim.give_up(lease_id)
    assert estate.vault.irrevocable_leases() == 1


def test_a_disabled_entity_is_refused_while_its_leases_live(estate: Estate) -> None:
    estate.sim.add_entity("e-7", "agent-7")
    accessor = estate.sim.login("e-7")
    lease = estate.sim.issue_lease(PREFIX, "agent-7", token=accessor)
    estate.vault.set_entity_disabled("e-7", True)
    assert estate.vault.read_entity("e-7") == Entity("e-7", "agent-7", disabled=True)
    with pytest.raises(Denied):
        estate.sim.use_token(accessor)
    with pytest.raises(Denied):
        estate.sim.login("e-7")
    assert estate.sim.leases_of("agent-7") == {lease}
    estate.vault.set_entity_disabled("e-7", False)
    estate.sim.use_token(accessor)


def test_an_unknown_entity(estate: Estate) -> None:
    assert estate.vault.read_entity("nobody") is None
    with pytest.raises(Rejected):
        estate.vault.set_entity_disabled("nobody", True)


def test_secret_ids_are_listed_and_destroyed(estate: Estate) -> None:
    one, two = estate.sim.add_secret_id("agent-7"), estate.sim.add_secret_id("agent-7")
    assert set(estate.vault.list_secret_ids("agent-7")) == {one, two}
    for _ in range(2):
        estate.vault.destroy_secret_id("agent-7", one)
    assert estate.vault.list_secret_ids("agent-7") == (two,)
    assert estate.vault.list_secret_ids("no-such-role") == ()


def test_revoking_an_accessor_kills_its_children_at_once_and_queues_their_leases(estate: Estate) -> None:
    parent = estate.sim.login("e-7")
    child = estate.sim.login("e-7", parent=parent)
    grandchild = estate.sim.login("e-7", parent=child)
    stranger = estate.sim.login("e-8")
    lease = estate.sim.issue_lease(PREFIX, "agent-7", token=grandchild)
    assert set(estate.vault.list_token_accessors()) == {parent, child, grandchild, stranger}
    token = estate.vault.lookup_accessor(parent)
    assert token is not None
    assert (token.accessor, token.entity_id, token.ttl) == (parent, "e-7", 8 * 3600)

    estate.vault.revoke_accessor(parent)
    assert estate.vault.list_token_accessors() == (stranger,)
    assert estate.vault.lookup_accessor(grandchild) is None
    with pytest.raises(Denied):
        estate.sim.use_token(child)
    assert estate.vault.list_leases(PREFIX) == (lease,), "only queued"
    estate.clock.forward(seconds=3)
    assert estate.vault.list_leases(PREFIX) == ()


def test_queued_leases_drop_when_they_settle_unless_the_backend_is_down(estate: Estate) -> None:
    accessor = estate.sim.login("e-7")
    estate.sim.issue_lease(PREFIX, "agent-7", token=accessor)
    stuck = estate.sim.issue_lease("database/creds/agent-7", "agent-7", token=accessor)
    estate.sim.backends_down.add("database/")
    estate.vault.revoke_accessor(accessor)
    estate.sim.settle()
    assert estate.sim.leases_of("agent-7") == {stuck}


def test_an_unknown_accessor_and_no_accessors(estate: Estate) -> None:
    estate.vault.revoke_accessor("nobody")
    assert estate.vault.lookup_accessor("nobody") is None
    assert estate.vault.list_token_accessors() == ()


def test_a_batch_token_cannot_be_revoked(estate: Estate) -> None:
    accessor = estate.sim.login("e-7", batch=True)
    with pytest.raises(Rejected, match="batch tokens cannot be revoked"):
        estate.vault.revoke_accessor(accessor)
    assert estate.vault.list_token_accessors() == ()


def test_kv_is_written_by_check_and_set(estate: Estate) -> None:
    path = "agents/agent-7/mode"
    assert estate.vault.read_kv(path) is None
    assert estate.vault.write_kv(path, {"mode": "shadow"}, cas=0) == 1
    assert estate.vault.write_kv(path, {"mode": "disabled"}, cas=1) == 2
    assert estate.vault.read_kv(path) == KvValue({"mode": "disabled"}, 2)
    with pytest.raises(Rejected, match="check-and-set") as refused:
        estate.vault.write_kv(path, {"mode": "active"}, cas=1)
    assert refused.value.retryable


def test_a_prefix_is_revoked_up_to_the_first_that_cannot_be(estate: Estate) -> None:
    for _ in range(3):
        estate.sim.issue_lease(PREFIX, "agent-7")
    stuck = estate.sim.issue_lease(PREFIX + "deep", "agent-7")
    other = estate.sim.issue_lease("aws/creds/agent-77", "agent-77")
    estate.sim.give_up(stuck)
    with pytest.raises(Rejected, match="failed to revoke entry") as failure:
        estate.vault.revoke_prefix(PREFIX)
    assert failure.value.retryable
    assert estate.vault.irrevocable_lease_ids() == (stuck,)
    estate.sim.backends_down.clear()
    for _ in range(2):
        estate.vault.revoke_prefix(PREFIX)
    assert estate.vault.list_leases("aws/creds") == (other,)
    assert estate.vault.irrevocable_lease_ids() == ()


def test_a_role_is_read_deleted_and_written(estate: Estate) -> None:
    path = "auth/approle/role/agent-7"
    assert estate.vault.read_role(path) is None
    assert estate.vault.read_role_id(path) == ""
    estate.vault.delete_role(path)
    estate.sim.add_secret_id("agent-7")
    says, role_id = estate.vault.read_role(path), estate.vault.read_role_id(path)
    assert says is not None
    assert role_id
    for _ in range(2):
        estate.vault.delete_role(path)
    assert estate.vault.read_role(path) is None
    assert estate.vault.list_secret_ids("agent-7") == ()
    estate.vault.write_role(path, says)
    assert estate.vault.read_role_id(path) != role_id, "a new one is made"
    estate.vault.write_role_id(path, role_id)
    assert (estate.vault.read_role(path), estate.vault.read_role_id(path)) == (says, role_id)


def test_sealed_is_unavailable(estate: Estate) -> None:
    estate.sim.sealed = True
    with pytest.raises(Unavailable, match="sealed") as outage:
        estate.vault.list_leases(PREFIX)
    assert not outage.value.sent


def test_throttled_is_unavailable_with_its_wait(estate: Estate) -> None:
    estate.sim.faults.add("revoke_lease", Unavailable("vault", "rate limit quota exceeded", retry_after=7))
    with pytest.raises(Unavailable, match="rate limit quota exceeded") as outage:
        estate.vault.revoke_lease("aws/creds/x/1")
    assert (outage.value.sent, outage.value.retry_after) == (False, 7)
    estate.vault.revoke_lease("aws/creds/x/1")


def test_silence_may_hide_an_effect(estate: Estate) -> None:
    lease_id = estate.sim.issue_lease(PREFIX, "agent-7")
    estate.sim.faults.add("revoke_lease", Unavailable("vault", "no answer", sent=True), after=True)
    with pytest.raises(Unavailable, match="no answer") as outage:
        estate.vault.revoke_lease(lease_id)
    assert outage.value.sent
    assert estate.sim.leases_of("agent-7") == set()


def test_denied(estate: Estate) -> None:
    estate.sim.denied.add("list_leases")
    with pytest.raises(Denied, match="permission denied"):
        estate.vault.list_leases(PREFIX)
    assert estate.vault.lookup_lease("aws/creds/x/1") is None


# The real client alone ------------------------------------------------------------------------------------------


def test_a_refusal_names_the_policy_line_that_lacks(server: VaultServer, hvac_vault: HvacVault) -> None:
    server.sim.denied.add("*")
    line = r'lacks: path "sys/leases/lookup/aws/creds/agent-7/\*" { capabilities = \["list", "sudo"\] }'
    with pytest.raises(Denied, match=line):
        hvac_vault.list_leases(PREFIX)
    with pytest.raises(Denied, match=r'path "identity/entity/id/\*"'):
        hvac_vault.set_entity_disabled("e-7", True)
    with pytest.raises(Denied, match=r'path "auth/token/lookup-accessor"'):
        hvac_vault.lookup_accessor("a-1")


def test_the_token_is_asked_for_each_request(server: VaultServer) -> None:
    tokens = iter(["stale", "bot-token"])
    vault = HvacVault(server.url, lambda: next(tokens))
    with pytest.raises(Denied):
        vault.irrevocable_leases()
    assert vault.irrevocable_leases() == 0
    vault.close()


def test_an_accessor_that_is_only_half_swept_is_gone(server: VaultServer, hvac_vault: HvacVault) -> None:
    server.answer_once("auth/token/lookup-accessor", 403, "bad token")
    assert hvac_vault.lookup_accessor("a-1") is None
    server.answer_once("auth/token/revoke-accessor", 400, "invalid accessor")
    hvac_vault.revoke_accessor("a-1")
    server.answer_once("auth/approle/role/r/secret-id-accessor/destroy", 404)
    hvac_vault.destroy_secret_id("r", "s-1")


@pytest.mark.parametrize(("status", "sent"), [(307, False), (412, False), (472, False), (502, True), (503, False)])
def test_what_is_not_the_asked_vaults_own_answer_is_unavailable(
    server: VaultServer, hvac_vault: HvacVault, status: int, sent: bool
) -> None:
    server.answer_once("sys/leases/revoke", status, "not now")
    with pytest.raises(Unavailable, match=f"HTTP {status}.*not now") as outage:
        hvac_vault.revoke_lease("aws/creds/x/1")
    assert outage.value.sent is sent


@pytest.mark.parametrize(("status", "retryable"), [(400, False), (500, True), (405, False)])
def test_an_error_of_vaults_own_is_rejected(
    server: VaultServer, hvac_vault: HvacVault, status: int, retryable: bool
) -> None:
    server.answer_once("sys/leases/lookup", status, "it broke")
    with pytest.raises(Rejected, match="it broke") as rejected:
        hvac_vault.lookup_lease("aws/creds/x/1")
    assert rejected.value.retryable is retryable


def test_an_answer_without_the_expected_fields_is_rejected(server: VaultServer, hvac_vault: HvacVault) -> None:
    server.answer_once("sys/leases/count", 200)
    with pytest.raises(Rejected, match="not Vault's"):
        hvac_vault.irrevocable_leases()


def test_a_read_that_times_out_may_have_been_carried_out(server: VaultServer, hvac_vault: HvacVault) -> None:
    server.sim.faults.add("read_entity", Unavailable("vault", "hangs", sent=True))
    with pytest.raises(Unavailable, match="no answer in time") as outage:
        hvac_vault.read_entity("e-7")
    assert outage.value.sent


def test_a_closed_port_was_never_reached() -> None:
    with VaultServer(SimVault(SimClock(NOW)), "bot-token") as gone:
        url = gone.url
    vault = HvacVault(url, lambda: "bot-token", connect_timeout=0.5)
    with pytest.raises(Unavailable, match="unreachable") as outage:
        vault.revoke_lease("aws/creds/x/1")
    assert not outage.value.sent
    vault.close()
