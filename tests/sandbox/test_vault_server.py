"""The stand-in's status codes and bodies, by raw HTTP: the table of Vault's own answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from bot.errors import Unavailable
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from bot.sandbox.vault_server import VaultServer

Ask = Callable[..., httpx.Response]


@pytest.fixture
def server() -> Iterator[VaultServer]:
    with VaultServer(SimVault(SimClock(datetime(2026, 3, 1, 9, tzinfo=UTC))), "bot-token") as server:
        yield server


@pytest.fixture
def sim(server: VaultServer) -> SimVault:
    return server.sim


@pytest.fixture
def ask(server: VaultServer) -> Iterator[Ask]:
    with httpx.Client(base_url=server.url + "/v1/") as client:

        def ask(method: str, path: str, body: Any = None, token: str = "bot-token") -> httpx.Response:
            return client.request(method, path, json=body, headers={"X-Vault-Token": token})

        yield ask


def told(answer: httpx.Response) -> tuple[int, list[str]]:
    return answer.status_code, answer.json()["errors"]


def test_lease_lookup(ask: Ask, sim: SimVault) -> None:
    lease = sim.issue_lease("aws/creds/a", "a")
    found = ask("PUT", "sys/leases/lookup", {"lease_id": lease})
    assert found.status_code == 200
    assert found.json()["data"] == {
        "id": lease,
        "ttl": 3600,
        "expire_time": "2026-03-01T10:00:00Z",
        "renewable": True,
    }
    assert told(ask("PUT", "sys/leases/lookup", {"lease_id": "aws/creds/a/none"})) == (400, ["invalid lease"])


def test_lease_list_is_one_level(ask: Ask, sim: SimVault) -> None:
    sim.issue_lease("aws/creds/a", "x")
    sim.issue_lease("aws/creds/a/deep", "y")
    assert ask("LIST", "sys/leases/lookup/aws/creds/a/").json()["data"] == {"keys": ["deep/", "x-0001"]}
    assert ask("GET", "sys/leases/lookup/aws/creds?list=true").json()["data"] == {"keys": ["a/"]}
    assert told(ask("LIST", "sys/leases/lookup/none/")) == (404, [])


def test_lease_revocation(ask: Ask, sim: SimVault) -> None:
    for _ in range(2):
        assert ask("PUT", "sys/leases/revoke", {"lease_id": "aws/creds/a/none"}).status_code == 204
    lease = sim.issue_lease("aws/creds/a", "a")
    sim.backends_down.add("aws/")
    status, errors = told(ask("PUT", "sys/leases/revoke", {"lease_id": lease}))
    assert (status, len(errors)) == (400, 1)
    assert ask("PUT", "sys/leases/revoke-prefix/aws/creds").status_code == 400
    assert sim.leases_of("a") == {lease}
    sim.backends_down.clear()
    assert ask("PUT", "sys/leases/revoke-prefix/aws/creds").status_code == 204
    assert sim.leases_of("a") == set()


def test_irrevocable_leases_are_counted(ask: Ask, sim: SimVault) -> None:
    sim.give_up(sim.issue_lease("aws/creds/a", "a"))
    assert ask("GET", "sys/leases/count?type=irrevocable").json()["data"]["lease_count"] == 1


def test_accessors(ask: Ask, sim: SimVault) -> None:
    assert told(ask("LIST", "auth/token/accessors")) == (404, [])
    accessor = sim.login("e-7")
    assert ask("LIST", "auth/token/accessors").json()["data"]["keys"] == [accessor]
    assert ask("POST", "auth/token/lookup-accessor", {"accessor": accessor}).json()["data"]["entity_id"] == "e-7"
    assert ask("POST", "auth/token/revoke-accessor", {"accessor": accessor}).status_code == 204
    assert told(ask("POST", "auth/token/lookup-accessor", {"accessor": accessor})) == (400, ["invalid accessor"])
    again = ask("POST", "auth/token/revoke-accessor", {"accessor": accessor})
    assert (again.status_code, again.json()["warnings"]) == (200, ["No token found with this accessor"])


def test_a_dead_token_is_refused_on_every_call(ask: Ask, sim: SimVault) -> None:
    sim.add_entity("e-7")
    disabled, revoked = sim.login("e-7"), sim.login()
    for accessor in (disabled, revoked):
        assert ask("GET", "auth/token/lookup-self", token=sim.token(accessor)).status_code == 200
    sim.set_entity_disabled("e-7", True)
    sim.revoke_accessor(revoked)
    for token in (sim.token(disabled), sim.token(revoked), "stolen", ""):
        for path in ("auth/token/lookup-self", "sys/leases/count"):
            assert told(ask("GET", path, token=token)) == (403, ["permission denied"])


def test_an_agents_token_has_no_operators_rights(ask: Ask, sim: SimVault) -> None:
    assert ask("GET", "sys/leases/count", token=sim.token(sim.login())).status_code == 403


def test_entities(ask: Ask, sim: SimVault) -> None:
    sim.add_entity("e-7", "agent-7")
    assert ask("POST", "identity/entity/id/e-7", {"disabled": True}).status_code == 204
    found = ask("GET", "identity/entity/id/e-7").json()["data"]
    assert found == {"id": "e-7", "name": "agent-7", "disabled": True, "group_ids": [], "policies": []}
    assert told(ask("GET", "identity/entity/id/nobody")) == (404, [])
    assert ask("POST", "identity/entity/id/nobody", {"disabled": True}).status_code == 400


def test_secret_ids(ask: Ask, sim: SimVault) -> None:
    secret_id = sim.add_secret_id("a")
    assert ask("LIST", "auth/approle/role/a/secret-id").json()["data"]["keys"] == [secret_id]
    destroyed = ask("POST", "auth/approle/role/a/secret-id-accessor/destroy", {"secret_id_accessor": secret_id})
    assert destroyed.status_code == 204
    assert told(ask("LIST", "auth/approle/role/a/secret-id")) == (404, [])


def test_kv(ask: Ask) -> None:
    assert told(ask("GET", "agents/data/a/mode")) == (404, [])
    write = {"data": {"mode": "shadow"}, "options": {"cas": 0}}
    assert ask("POST", "agents/data/a/mode", write).json()["data"]["version"] == 1
    status, errors = told(ask("POST", "agents/data/a/mode", write))
    assert status == 400
    assert "check-and-set parameter did not match the current version" in errors[0]
    assert ask("GET", "agents/data/a/mode").json()["data"]["data"] == {"mode": "shadow"}


def test_sealed_and_throttled(ask: Ask, sim: SimVault) -> None:
    sim.faults.add(
        "*", Unavailable("vault", 'request path "sys/leases/count": rate limit quota exceeded', retry_after=3)
    )
    throttled = ask("GET", "sys/leases/count")
    assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "3")
    assert ask("GET", "sys/health", token="").json()["sealed"] is False
    sim.sealed = True
    assert told(ask("GET", "sys/leases/count")) == (503, ["Vault is sealed"])
    health = ask("GET", "sys/health", token="")
    assert (health.status_code, health.json()["sealed"]) == (503, True)


def test_a_path_that_vault_does_not_have(ask: Ask) -> None:
    assert ask("GET", "sys/nothing").status_code == 404
