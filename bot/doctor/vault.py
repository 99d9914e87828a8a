"""Vault: is the token good, and may it do on each path what containing these agents needs."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from bot.adapters.http import Answer, Site
from bot.config import Config, SecretRef
from bot.config.connections import VaultConnection
from bot.doctor import Check, Finding, State
from bot.domain.agent import VaultIdentity
from bot.errors import Denied, Rejected

POLICY = "Compare docs/vault-policy.hcl with the token's policies."
SHORT = 24 * 3600  # seconds: a token that ends sooner, and that nobody renews, ends during an incident
ALWAYS: Mapping[str, frozenset[str]] = {
    "sys/leases/lookup": frozenset({"update"}),
    "sys/leases/revoke": frozenset({"update"}),
    "sys/leases/count": frozenset({"read"}),
    "auth/token/lookup-accessor": frozenset({"update"}),
    "auth/token/revoke-accessor": frozenset({"update"}),
    "auth/token/accessors": frozenset({"list", "sudo"}),
}


def checks(config: Config, secret: Callable[[SecretRef], str]) -> Iterator[Check]:
    for name, made in config.settings.connections.items():
        if isinstance(made, VaultConnection):
            needs = needed(config, name)
            yield Check(name, partial(_vault, name, made, secret, needs))


def needed(config: Config, connection: str) -> dict[str, frozenset[str]]:
    """Path -> capabilities, for the agents of a connection."""
    found = dict(ALWAYS)
    for agent in config.agents.agents.values():
        if agent.vault and agent.vault.connection == connection:
            found |= _of(agent.vault)
    return found


def _of(agent: VaultIdentity) -> dict[str, frozenset[str]]:
    found = {f"sys/leases/lookup/{prefix}": frozenset({"list", "sudo"}) for prefix in agent.lease_prefixes}
    if agent.entity_id:
        found[f"identity/entity/id/{agent.entity_id}"] = frozenset({"read", "update"})
    for role in agent.approles:
        found[f"auth/approle/role/{role}/secret-id"] = frozenset({"list"})
        found[f"auth/approle/role/{role}/secret-id-accessor/destroy"] = frozenset({"update"})
    if agent.mode_path:
        mount, _, rest = agent.mode_path.partition("/")
        found[f"{mount}/data/{rest}"] = frozenset({"create", "update", "read"})
    return found


def _vault(
    name: str, made: VaultConnection, secret: Callable[[SecretRef], str], needs: Mapping[str, frozenset[str]]
) -> Iterator[Finding]:
    tls = ssl.create_default_context(cafile=made.verify) if made.verify else None
    site = Site(name, made.url, tls=tls)
    headers = {"x-vault-token": secret(made.token), "x-vault-request": "true"}
    if made.namespace:
        headers["x-vault-namespace"] = made.namespace

    def ask(method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        content = json.dumps(body).encode() if body else b""
        return site.send(method, f"/v1/{path}", headers=headers, content=content, timeout=made.read_timeout)

    try:
        own = ask("GET", "auth/token/lookup-self")
        if own.status == 403:
            why = "Vault refuses its token: it is wrong or has expired, or may not read auth/token/lookup-self"
            yield Finding(State.FAIL, name, why, POLICY)
            return
        yield from _token(name, _data(name, own))
        yield from _capabilities(name, ask("POST", "sys/capabilities-self", {"paths": [*needs]}), needs)
    finally:
        site.close()


def _token(name: str, data: Mapping[str, Any]) -> Iterator[Finding]:
    ttl = data.get("ttl")
    policies = [str(policy) for policy in data.get("policies") or ()]
    yield Finding(State.OK, name, f"its token is good ({_life(ttl)})")
    if "root" in policies:
        todo = "Give it a token with docs/vault-policy.hcl alone."
        yield Finding(State.WARN, name, "its token is a root token: it may do everything", todo)
    if isinstance(ttl, int) and 0 < ttl < SHORT and not data.get("renewable"):
        todo = "Give it a periodic token, and something that renews it."
        yield Finding(State.WARN, name, f"its token ends in {_life(ttl)} and cannot be renewed", todo)


def _capabilities(name: str, answer: Answer, needs: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    subject = f"{name} policy"
    if answer.status == 403:
        todo = "Let it update sys/capabilities-self, as docs/vault-policy.hcl does."
        yield Finding(State.UNVERIFIED, subject, "the token may not ask what it may do", todo)
        return
    said = _data(name, answer)
    lacking = []
    for path, wanted in needs.items():
        has = {str(one) for one in said.get(path) or ()}
        if "root" not in has and (missing := sorted(wanted - has)):
            lacking.append(f"{path} ({', '.join(missing)})")
    if lacking:
        yield Finding(State.FAIL, subject, f"it lacks: {'; '.join(lacking)}", POLICY)
    else:
        yield Finding(State.OK, subject, f"it may do what its {len(needs)} paths need")


def _data(name: str, answer: Answer) -> Mapping[str, Any]:
    if answer.status == 403:
        raise Denied(name, "Vault answered 403")
    data = answer.body().get("data")
    if answer.status != 200 or not isinstance(data, dict):
        raise Rejected(name, f"what answers there is no Vault (status {answer.status})")
    return data


def _life(ttl: object) -> str:
    if not isinstance(ttl, int) or ttl <= 0:
        return "without an end"
    return f"{ttl // 3600} h" if ttl >= 3600 else f"{ttl} s"
