"""Vault and OpenBao: the entity, its tokens, its secret ids and its leases."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bot.domain.agent import Agent, VaultIdentity
from bot.domain.reach import Alive, Held
from bot.ports import Ports, Vault, connected
from bot.reach import Found, Limit, Look, Unread, each

TOKENS = 200  # accessors that are looked up at most: a Vault lists those of everybody
LEASES = 200


def looks(agent: Agent, ports: Ports) -> Iterator[Look]:
    if agent.vault:
        yield Look(agent.vault.connection, partial(_look, agent.id, agent.vault, ports))


def _look(agent: str, known: VaultIdentity, ports: Ports) -> Iterator[Found]:
    vault = connected(ports.vaults, known.connection)
    disabled = False
    if known.entity_id:
        entity = vault.read_entity(known.entity_id)
        disabled = entity is not None and entity.disabled
        alive = Alive.YES if entity and not disabled else Alive.NO
        why = "disabled" if disabled else "" if entity else "it is gone"
        yield Held("entity", known.entity_id, known.connection, agent, alive=alive, why=why)
    yield from each(partial(_tokens, agent, known, vault, disabled))
    for role in known.approles:
        yield from each(partial(_secret_ids, agent, known, vault, role, disabled))
    for prefix in known.lease_prefixes:
        yield from each(partial(_leases, agent, known, vault, prefix))
    for role in known.auth_roles:
        yield Limit(f"{known.connection}: who can log in by {role} cannot be listed")


def _tokens(agent: str, known: VaultIdentity, vault: Vault, disabled: bool) -> Iterator[Found]:
    listed = vault.list_token_accessors() if known.entity_id else ()
    accessors = tuple(dict.fromkeys((*known.token_accessors, *listed)))
    for accessor in accessors[:TOKENS]:
        token = vault.lookup_accessor(accessor)
        if token is None or (accessor not in known.token_accessors and token.entity_id != known.entity_id):
            continue
        dead = disabled and token.entity_id == known.entity_id
        alive, why = (Alive.NO, "its entity is disabled") if dead else (Alive.YES, "")
        yield Held("vault-token", accessor, known.connection, agent, alive=alive, why=why)
    if len(accessors) > TOKENS:
        yield Unread(f"{known.connection}: {len(accessors) - TOKENS} more token accessors were not looked up")


def _secret_ids(agent: str, known: VaultIdentity, vault: Vault, role: str, disabled: bool) -> Iterator[Found]:
    alive, why = (Alive.NO, "its entity is disabled") if disabled else (Alive.YES, "")
    for accessor in vault.list_secret_ids(role):
        yield Held("secret-id", accessor, known.connection, agent, of=role, alive=alive, why=why)


def _leases(agent: str, known: VaultIdentity, vault: Vault, prefix: str) -> Iterator[Found]:
    """Those that are listed are alive: Vault forgets a lease when it is revoked or has run out."""
    found = vault.list_leases(prefix)
    for lease in found[:LEASES]:
        yield Held("lease", lease, known.connection, agent, alive=Alive.YES)
    if len(found) > LEASES:
        yield Unread(f"{known.connection}: {len(found) - LEASES} more leases under {prefix}")
