"""The single cuts at Vault: on the simulator, and through hvac on the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.actions import Action, Registry
from bot.actions.vault_destroy_secret_ids import DestroySecretIds
from bot.actions.vault_disable_entity import DisableEntity
from bot.actions.vault_revoke_accessors import RevokeAccessors
from bot.actions.vault_revoke_leases import RevokeLeases
from bot.actions.vault_revoke_prefix import RevokePrefix
from bot.actions.vault_stop_role import StopRole
from bot.adapters.vault import HvacVault
from bot.domain.agent import Agent, VaultIdentity
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.redaction import redact
from bot.errors import Denied, Unavailable
from bot.ports import Ports, Vault
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer
from tests.actions.driver import drive, stage
from tests.actions.estate import Enrolled

PREFIX = "aws/creds/agent-7/"
ROLE = "auth/approle/role/agent-7"
CLUSTER = "auth/kubernetes/role/agent-7"
KEY = "test.0/INC-7/12.0"
VAULT = VaultIdentity(
    entity_id="e-7", lease_prefixes=(PREFIX,), approles=("agent-7",), auth_roles=(CLUSTER,), token_accessors=()
)
AGENT = Agent("agent-7", vault=VAULT)
ACTIONS = (DisableEntity(), DestroySecretIds(), RevokeAccessors(), RevokeLeases(), RevokePrefix(), StopRole())
CHANGES = {
    "vault.disable_entity": "set_entity_disabled",
    "vault.destroy_secret_ids": "destroy_secret_id",
    "vault.revoke_accessors": "revoke_accessor",
    "vault.revoke_leases": "revoke_lease",
    "vault.revoke_prefix": "revoke_prefix",
    "vault.stop_role": "delete_role",
}


@dataclass
class Estate:
    clock: SimClock
    sim: SimVault
    vault: Vault
    guarded: dict[str, str] = field(default_factory=dict)
    token: str = ""

    @property
    def ports(self) -> Ports:
        return Ports(self.clock, Enrolled((), self.guarded), vaults={"vault": self.vault})

    def run(self, action: Action, agent: Agent = AGENT, *, twice: bool = False, at: int = 0) -> Outcome:
        return drive(action, params(action, agent, at), self.ports, self.clock, KEY, twice=twice)

    def done(self, action: Action, agent: Agent = AGENT, *, twice: bool = False, at: int = 0) -> Done:
        outcome = self.run(action, agent, twice=twice, at=at)
        assert isinstance(outcome, Done), outcome
        assert set(outcome.evidence) <= set(action.outputs)
        return outcome

    def verify(self, action: Action, agent: Agent = AGENT, at: int = 0) -> Done | None:
        return action.verify(params(action, agent, at), self.ports)

    def undo(self, action: Action, done: Done, at: int = 0) -> Outcome:
        assert done.undo is not None
        return action.undo(params(action, AGENT, at), self.ports, undo=done.undo, key=KEY)


def params(action: Action, agent: Agent = AGENT, at: int = 0) -> dict[str, Any]:
    return dict(action.targets({"agent": agent.id}, agent)[at].params)


def identity(**changes: Any) -> Agent:
    return replace(AGENT, vault=replace(VAULT, **changes))


@pytest.fixture(params=["simulator", "hvac"])
def estate(request: pytest.FixtureRequest) -> Iterator[Estate]:
    """The agent is logged in, with a child token, two leases, two secret ids and two roles; a neighbour too."""
    clock = SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC))
    sim = SimVault(clock)
    for entity in ("e-7", "e-8"):
        sim.add_entity(entity)
    token = sim.login("e-7")
    sim.issue_lease(PREFIX, "agent-7", token=token)
    sim.issue_lease(PREFIX + "deep", "agent-7", token=sim.login("e-7", parent=token))
    for role in ("agent-7", "agent-7", "agent-8"):
        sim.add_secret_id(role)
    sim.add_role(CLUSTER, bound_service_account_names=["agent-7"], token_policies=["agent-7"], token_ttl=3600)
    sim.issue_lease("aws/creds/agent-77", "agent-77", token=sim.login("e-8"))
    if request.param == "simulator":
        yield Estate(clock, sim, sim, token=token)
        return
    with VaultServer(sim, "bot-token", hang=2) as server:
        vault = HvacVault(server.url, lambda: "bot-token", read_timeout=0.8)
        yield Estate(clock, sim, vault, token=token)
        vault.close()


every = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)


@every
def test_it_is_done_read_back_and_done_again(estate: Estate, action: Action) -> None:
    assert estate.verify(action) is None
    done = estate.done(action, twice=True)
    assert (done.grade, done.nothing_held) == (Grade.CONFIG, "")
    assert (done.undo is not None) == action.undoable
    assert estate.verify(action) is not None
    again = estate.done(action)
    assert again.grade is Grade.CONFIG
    assert len(estate.sim.leases_of("agent-77")) == 1, "the neighbour's"
    assert estate.sim.list_secret_ids("agent-8")


@every
def test_throttled_sealed_and_hanging_are_waited_out(estate: Estate, action: Action) -> None:
    estate.sim.faults.add("*", Unavailable("vault", "rate limit quota exceeded", retry_after=9), times=3)
    begun = estate.clock.now()
    first = stage(action, params(action), estate.ports, key=KEY)
    assert isinstance(first, Pending)
    assert first.unavailable
    assert (first.check_at - begun) == timedelta(seconds=9)
    estate.sim.faults.clear()
    estate.sim.sealed = True
    sealed = stage(action, params(action), estate.ports, key=KEY)
    assert isinstance(sealed, Pending)
    assert "sealed" in sealed.why
    estate.sim.sealed = False
    estate.sim.faults.add(CHANGES[action.id], Unavailable("vault", "no answer", sent=True), after=True)
    assert estate.done(action).grade is Grade.CONFIG


@every
def test_denied_is_said_with_the_policy_that_lacks(estate: Estate, action: Action) -> None:
    estate.sim.denied.add("*")
    failed = estate.run(action)
    assert isinstance(failed, Failed)
    assert not failed.retryable
    assert "permission denied" in failed.why
    estate.sim.denied = {CHANGES[action.id]}
    refused = estate.run(action)
    assert isinstance(refused, Failed)
    assert estate.verify(action) is None


@every
def test_what_is_gone_holds_nothing(estate: Estate, action: Action) -> None:
    gone = identity(
        entity_id="gone", lease_prefixes=("aws/creds/gone/",), approles=("gone",), auth_roles=("auth/jwt/role/gone",)
    )
    done = estate.done(action, gone)
    assert done.nothing_held
    assert estate.clock.now() == datetime(2026, 3, 1, 9, tzinfo=UTC)


@every
def test_what_is_protected_is_left_alone(estate: Estate, action: Action) -> None:
    estate.guarded["agent-7"] = "runs the plant"
    assert estate.run(action) == Skipped("runs the plant")
    assert estate.verify(action) is None


@every
def test_targets_of_strangers_and_of_agents_without_vault(action: Action) -> None:
    with pytest.raises(ValueError, match=r"agents\.yaml"):
        action.targets({"agent": "ghost"}, None)
    assert action.targets({"agent": "a"}, Agent("a")) == ()
    assert Registry().undoable(action.id) is action.undoable


def test_a_disabled_entity_refuses_its_tokens_and_is_enabled_again(estate: Estate) -> None:
    batch = estate.sim.login("e-7", batch=True)
    done = estate.done(DisableEntity())
    assert done.evidence == {"entity_disabled": True, "alive": []}
    for token in (estate.token, batch):
        with pytest.raises(Denied):
            estate.sim.use_token(token)
    with pytest.raises(Denied):
        estate.sim.login("e-7")
    assert len(estate.sim.leases_of("agent-7")) == 2, "its leases are another step's"
    for _ in range(2):
        assert isinstance(estate.undo(DisableEntity(), done), Done)
    estate.sim.use_token(estate.token)
    with pytest.raises(ValueError, match=r"names no vault\.entity_id of agent-7"):
        DisableEntity().targets({"agent": "agent-7"}, identity(entity_id=""))


def test_one_who_found_it_disabled_does_not_enable_it(estate: Estate) -> None:
    estate.sim.set_entity_disabled("e-7", True)
    done = estate.done(DisableEntity())
    undone = estate.undo(DisableEntity(), done)
    assert isinstance(undone, Done)
    assert undone.evidence == {"entity_disabled": True}


def test_secret_ids_and_tokens_are_gone_and_leases_are_only_queued(estate: Estate) -> None:
    assert estate.done(DestroySecretIds()).evidence["secret_ids_destroyed"] == 2
    assert estate.sim.list_secret_ids("agent-7") == ()
    revoked = estate.done(RevokeAccessors())
    assert revoked.evidence["accessors_revoked"] == 2
    with pytest.raises(Denied):
        estate.sim.use_token(estate.token)
    assert len(estate.sim.accessors()) == 1, "the neighbour's"
    assert len(estate.sim.leases_of("agent-7")) == 2
    estate.clock.forward(seconds=3)
    assert estate.sim.leases_of("agent-7") == set()


def test_batch_tokens_are_refused_with_what_helps_instead(estate: Estate) -> None:
    estate.sim.add_role(ROLE, bind_secret_id=True, token_type="batch")
    batch = estate.sim.login("e-7", batch=True)
    done = estate.done(RevokeAccessors())
    assert done.grade is Grade.UNVERIFIED
    assert "approle agent-7 issues batch tokens, which have no accessor" in done.evidence["why"]
    assert "vault.disable_entity" in done.evidence["why"]
    estate.sim.use_token(batch)
    estate.done(DisableEntity())
    with pytest.raises(Denied):
        estate.sim.use_token(batch)
    assert estate.done(RevokeAccessors()).grade is Grade.CONFIG, "now the entity refuses them"


def test_tokens_that_cannot_be_searched_are_not_called_revoked(estate: Estate) -> None:
    estate.sim.denied.add("list_token_accessors")
    done = estate.done(RevokeAccessors())
    assert (done.grade, done.evidence["tokens_searched"]) == (Grade.UNVERIFIED, False)
    assert "could not be searched" in done.evidence["why"]
    verified = estate.verify(RevokeAccessors())
    assert verified is None or verified.grade is Grade.UNVERIFIED


@pytest.mark.parametrize("action", [RevokeLeases(), RevokePrefix()], ids=lambda action: action.id)
def test_with_its_backend_down_it_waits_and_is_never_contained(estate: Estate, action: Action) -> None:
    estate.sim.backends_down.add("aws/")
    so_far, why = None, ""
    for _ in range(4):
        outcome = stage(action, params(action), estate.ports, key=KEY, so_far=so_far)
        assert isinstance(outcome, Pending)
        so_far, why = outcome.so_far, outcome.why
        estate.clock.forward(seconds=30)
    assert "backend of aws/creds/agent-7" in why
    assert estate.verify(action) is None
    estate.sim.backends_down.clear()
    assert isinstance(stage(action, params(action), estate.ports, key=KEY, so_far=so_far), Done)


@pytest.mark.parametrize("action", [RevokeLeases(), RevokePrefix()], ids=lambda action: action.id)
def test_an_irrevocable_lease_is_named_and_never_contained(estate: Estate, action: Action) -> None:
    (deep,) = (lease for lease in estate.sim.leases_of("agent-7") if "/deep/" in lease)
    estate.sim.give_up(deep)
    failed = estate.run(action)
    assert isinstance(failed, Failed)
    assert f"given up on 1 leases (irrevocable): kill the credentials at their provider: {deep}" in failed.why
    assert estate.sim.leases_of("agent-7") >= {deep}
    assert estate.verify(action) is None
    estate.sim.denied.add("irrevocable_lease_ids")
    counted = estate.run(action)
    assert isinstance(counted, Failed)
    assert "given up on 1 leases" in counted.why, "a token that may not list them may count them"


def test_a_thousand_leases_go_in_one_call(estate: Estate) -> None:
    for _ in range(300):
        estate.sim.issue_lease(PREFIX, "agent-7")
    done = estate.done(RevokePrefix())
    assert done.evidence["leases_revoked"] == 302
    assert estate.clock.now() == datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.mark.parametrize("at", [0, 1], ids=[ROLE, CLUSTER])
def test_a_role_is_exported_deleted_and_written_back(estate: Estate, at: int) -> None:
    role = (ROLE, CLUSTER)[at]
    says, role_id = estate.sim.read_role(role), estate.sim.read_role_id(role)
    estate.sim.login("e-7", role=role)
    done = estate.done(StopRole(), twice=True, at=at)
    assert done.evidence == {"role": role, "exists": False}
    with pytest.raises(Denied):
        estate.sim.login("e-7", role=role)
    assert redact(dict(done.undo or {}), salt=b"s" * 32)[1] == (), "the record keeps the export whole"
    for _ in range(2):
        assert isinstance(estate.undo(StopRole(), done, at), Done)
    assert (estate.sim.read_role(role), estate.sim.read_role_id(role)) == (says, role_id)
    assert estate.verify(StopRole(), at=at) is None


def test_a_role_id_that_is_a_credential_is_not_kept(estate: Estate) -> None:
    estate.sim.add_role(ROLE, bind_secret_id=False, bound_cidr_list=None)
    done = estate.done(StopRole())
    assert done.undo == {"before": {"says": {"bind_secret_id": False, "bound_cidr_list": None}}}


def test_a_role_that_somebody_made_anew_is_left_as_it_is(estate: Estate) -> None:
    done = estate.done(StopRole())
    estate.sim.add_role(ROLE, bind_secret_id=True, token_type="default", token_policies=["narrow"])
    undone = estate.undo(StopRole(), done)
    assert isinstance(undone, Failed)
    assert "differs in token_policies: somebody made it anew" in undone.why
    assert (estate.sim.read_role(ROLE) or {})["token_policies"] == ["narrow"]


def test_a_path_that_is_no_role_is_refused() -> None:
    with pytest.raises(ValueError, match="is no auth role"):
        StopRole().targets({"agent": "agent-7"}, identity(auth_roles=("sys/policies/acl/root",)))
