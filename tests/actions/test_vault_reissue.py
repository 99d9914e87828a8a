"""A Vault role gets policies that allow less: on the simulator, and through hvac on the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from bot.actions.vault_reissue_role import ReissueRole
from bot.adapters.vault import HvacVault
from bot.domain.agent import Agent, VaultIdentity
from bot.domain.outcome import Done, Failed, Outcome, Pending
from bot.errors import Unavailable
from bot.ports import Ports, Vault
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer
from tests.actions.driver import drive, stage
from tests.actions.estate import Enrolled

ROLE = "auth/approle/role/agent-7"
AGENT = Agent("agent-7", vault=VaultIdentity(entity_id="e-7", approles=("agent-7",)))
READ = 'path "secret/data/app/*" { capabilities = ["read"] }'
WRITE = '# all of it\npath "secret/data/*" { capabilities = ["read", "update", "delete"] }'
KEY = "test.0/INC-7/12.0"


@dataclass
class Estate:
    sim: SimVault
    vault: Vault
    clock: SimClock = field(default_factory=lambda: SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC)))

    @property
    def ports(self) -> Ports:
        return Ports(self.clock, Enrolled(()), vaults={"vault": self.vault})

    def run(self, params: dict[str, Any], *, twice: bool = False) -> Outcome:
        return drive(ReissueRole(), params, self.ports, self.clock, KEY, twice=twice)

    def read(self, *policies: str) -> dict[str, Any]:
        outcome = self.run(params(*policies))
        assert isinstance(outcome, Done), outcome
        assert {*outcome.evidence} <= {*ReissueRole.outputs}
        return dict(outcome.evidence)

    def role(self) -> list[str]:
        return list((self.sim.read_role(ROLE) or {})["token_policies"])


def params(*policies: str, **more: Any) -> dict[str, Any]:
    (target,) = ReissueRole().targets({"agent": "agent-7", "policies": list(policies), **more}, AGENT)
    return dict(target.params)


def applied(read: dict[str, Any], *policies: str) -> dict[str, Any]:
    return params(*policies, apply=True, before=read["digest"])


@pytest.fixture(params=["simulator", "hvac"])
def estate(request: pytest.FixtureRequest) -> Iterator[Estate]:
    clock = SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC))
    sim = SimVault(clock)
    sim.add_entity("e-7")
    sim.add_role(ROLE, token_policies=["app-write"], token_ttl=3600)
    sim.policies |= {
        "app-write": WRITE,
        "app-read": READ,
        "default": 'path "sys/tools/hash" { capabilities=["update"] }',
    }
    if request.param == "simulator":
        yield Estate(sim, sim, clock)
        return
    with VaultServer(sim, "bot-token", hang=2) as server:
        vault = HvacVault(server.url, lambda: "bot-token", read_timeout=0.8)
        yield Estate(sim, vault, clock)
        vault.close()


def test_the_difference_is_by_path_and_capability_and_nothing_is_written(estate: Estate) -> None:
    read = estate.read("app-read")
    assert (read["verdict"], read["why"]) == ("narrower", "")
    assert read["diff"] == [
        *("- policy app-write", "+ policy app-read"),
        *("- delete, read, update on secret/data/*", "+ read on secret/data/app/*"),
    ]
    assert estate.role() == ["app-write"]
    assert ReissueRole().verify(params("app-read"), estate.ports) is None


def test_it_is_given_read_back_and_given_again(estate: Estate) -> None:
    wanted = applied(estate.read("app-read"), "app-read")
    for _ in range(2):
        outcome = estate.run(wanted, twice=True)
        assert isinstance(outcome, Done), outcome
        assert estate.role() == ["app-read"]
        assert ReissueRole().verify(wanted, estate.ports) is not None
    assert (estate.sim.read_role(ROLE) or {})["token_ttl"] == 3600
    assert not ReissueRole.undoable


def test_what_changed_since_it_was_read_is_not_overwritten(estate: Estate) -> None:
    wanted = applied(estate.read("app-read"), "app-read")
    estate.sim.policies["app-read"] = WRITE.replace("secret/data/*", "secret/data/app/*")
    outcome = estate.run(wanted)
    assert isinstance(outcome, Failed)
    assert "a policy changed since this was approved" in outcome.why
    forged = params("app-write", "app-read", apply=True, before=estate.read("app-write", "app-read")["digest"])
    assert isinstance(outcome := estate.run(forged), Failed)
    assert "not provably less" in outcome.why
    assert estate.role() == ["app-write"]


@pytest.mark.parametrize(
    ("policies", "word", "why"),
    [
        (("app-write",), "same", "exactly as much"),
        (("app-read", "ops"), "wider", "sudo on sys/mounts"),
        (("app-read", "strange"), "unclear", "policy strange: of"),
        (("app-read", "nobody-wrote-this"), "unclear", "no policy nobody-wrote-this"),
    ],
    ids=["same", "wider", "not understood", "missing"],
)
def test_what_is_not_provably_less_is_said(estate: Estate, policies: tuple[str, ...], word: str, why: str) -> None:
    estate.sim.policies |= {
        "ops": 'path "sys/mounts" { capabilities = ["sudo"] }',
        "strange": 'path "a" { capabilities = ["read"] denied_parameters = { "x" = [] } }',
    }
    read = estate.read(*policies)
    assert read["verdict"] == word
    assert why in read["why"]
    assert isinstance(estate.run(applied(read, *policies)), Failed) == (word != "same")


def test_a_policy_that_held_the_entitys_back_is_not_taken_away(estate: Estate) -> None:
    estate.sim.policies |= {"team": WRITE, "held": 'path "secret/data/prod/*" { capabilities = ["deny"] }'}
    estate.sim.policies_of["e-7"] = ("team",)
    estate.sim.write_role(ROLE, {"token_policies": ["held", "app-write"]})
    read = estate.read("app-read")
    assert read["verdict"] == "wider"
    assert "secret/data/prod/*" in read["why"]
    assert estate.read("app-read", "held")["verdict"] == "narrower"


def test_where_the_bot_may_not_read_it_cannot_tell(estate: Estate) -> None:
    estate.sim.denied.add("read_policy")
    read = estate.read("app-read")
    assert read["verdict"] == "unclear"
    assert "cannot be told" in read["why"]
    estate.sim.denied.clear()
    assert isinstance(estate.run(applied(read, "app-read")), Failed)


def test_throttled_sealed_denied_gone_and_hanging(estate: Estate) -> None:
    wanted = applied(estate.read("app-read"), "app-read")
    estate.sim.faults.add("*", Unavailable("vault", "rate limit quota exceeded", retry_after=9), times=2)
    assert isinstance(stage(ReissueRole(), wanted, estate.ports, key=KEY), Pending)
    estate.sim.faults.clear()
    estate.sim.sealed = True
    assert isinstance(stage(ReissueRole(), wanted, estate.ports, key=KEY), Pending)
    estate.sim.sealed = False
    estate.sim.denied.add("write_role")
    assert isinstance(refused := estate.run(wanted), Failed)
    assert not refused.retryable
    estate.sim.denied.clear()
    estate.sim.faults.add("write_role", Unavailable("vault", "no answer", sent=True))
    assert isinstance(estate.run(wanted), Done)
    estate.sim.delete_role(ROLE)
    assert isinstance(gone := estate.run(wanted), Failed)
    assert "make the role first" in gone.why
