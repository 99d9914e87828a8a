"""What every account and every Vault says of the policies in force: the simulators, and the real clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bot.adapters.vault import HvacVault
from bot.ports import Vault
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer
from tests.aws_estate import ADMIN, Estate, Real, Simulated, fresh

DENY_ALL = "arn:aws:iam::aws:policy/AWSDenyAll"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}


@pytest.fixture(params=["simulator", "boto3"])
def account(request: pytest.FixtureRequest, clock: SimClock) -> Estate:
    return Simulated(clock) if request.param == "simulator" else Real(request.getfixturevalue("moto"), clock)


def test_a_role_says_all_that_is_in_force_for_it(account: Estate):
    iam, name = account.account.iam, fresh("role")
    account.add_role(name)
    iam.put_role_policy(name, "inline-one", POLICY)
    iam.set_boundary(name, DENY_ALL)
    found = {(one.kind, one.name): one for one in iam.role_policies(name) or ()}
    assert found.keys() == {("trust", ""), ("inline", "inline-one"), ("boundary", DENY_ALL), ("managed", ADMIN)}
    assert found["inline", "inline-one"].document == POLICY
    admin = found["managed", ADMIN]
    assert admin.version.startswith("v")
    assert admin.document["Statement"][0]["Effect"] == "Allow"
    assert iam.role_policies("nobody") is None


def test_a_user_says_all_that_is_its_own(account: Estate):
    iam, name = account.account.iam, fresh("user")
    account.add_user(name)
    iam.put_user_policy(name, "inline-one", POLICY)
    found = iam.user_policies(name)
    assert found is not None
    assert {one.name for one in found if one.kind == "inline"} == {"inline-one"}
    assert iam.user_policies("nobody") is None


def test_a_user_says_what_its_groups_have_too(account: Estate):
    name, group = fresh("user"), fresh("group")
    account.add_user(name)
    account.add_group(group, name, "of-the-group", POLICY, DENY_ALL)
    found = account.account.iam.user_policies(name)
    of_group = {(one.kind, one.name): one.document for one in found or () if one.group == group}
    assert of_group.keys() == {("inline", "of-the-group"), ("managed", DENY_ALL)}
    assert of_group["inline", "of-the-group"] == POLICY
    assert {one.group for one in found or ()} - {""} == {group}


@dataclass
class Known:
    sim: SimVault
    vault: Vault


@pytest.fixture(params=["simulator", "hvac"])
def known(request: pytest.FixtureRequest, clock: SimClock) -> Iterator[Known]:
    sim = SimVault(clock)
    if request.param == "simulator":
        yield Known(sim, sim)
        return
    with VaultServer(sim, "bot-token") as server:
        vault = HvacVault(server.url, lambda: "bot-token")
        yield Known(sim, vault)
        vault.close()


def test_an_entity_says_its_policies_as_their_text(known: Known):
    known.sim.add_entity("e-7", "agent-7")
    known.sim.policies["deploy"] = 'path "secret/data/prod/*" { capabilities = ["read"] }'
    known.sim.policies_of["e-7"] = ("deploy", "deleted-since")
    assert known.vault.entity_policies("e-7") == {"deploy": known.sim.policies["deploy"], "deleted-since": ""}
    assert known.vault.entity_policies("nobody") is None
    assert known.vault.read_policy("deploy") == known.sim.policies["deploy"]
    assert known.vault.read_policy("deleted-since") is None


def test_an_accessor_is_hashed_as_the_log_writes_it(known: Known):
    hashed = known.vault.audit_hash("file", "accessor-1")
    assert hashed.startswith("hmac-sha256:")
    assert hashed == known.sim.audit_hash("file", "accessor-1") != known.vault.audit_hash("file", "accessor-2")
