"""`vault.revoke_agent`: cut an agent off from Vault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import vault
from bot.domain.agent import Agent
from bot.domain.playbook import Target


class RevokeAgent(vault.Cut):
    """Cuts an agent off from Vault: disables its entity (its tokens and logins are refused at once), destroys the
    secret ids of its approles, revokes its tokens with their children and every lease under its prefixes, and reads all
    of it back. What cannot be revoked is named. Releasing enables the entity again, if it was enabled before; leases,
    tokens and secret ids do not come back: the agent logs in anew, with a new secret id. Values that it has read stay
    known to it."""

    id = "vault.revoke_agent"
    params = (vault.AGENT,)
    outputs = (
        "entity_disabled",
        "leases_revoked",
        "leases_alive",
        "accessors_revoked",
        "secret_ids_destroyed",
        "sts_leases",
        "tokens_searched",
        "alive",
        "not_restored",
        "why",
    )
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "sys/leases/lookup" { capabilities=["update"] }',
            'path "sys/leases/lookup/aws/creds/*" { capabilities=["list","sudo"] }',
            'path "sys/leases/revoke" { capabilities=["update"] }',
            'path "sys/leases/count" { capabilities=["read"] }',
            'path "auth/token/lookup-accessor" { capabilities=["update"] }',
            'path "auth/token/revoke-accessor" { capabilities=["update"] }',
            'path "auth/token/accessors" { capabilities=["list","sudo"] }',
            'path "identity/entity/id/*" { capabilities=["read","update"] }',
            'path "auth/approle/role/+/secret-id" { capabilities=["list"] }',
            'path "auth/approle/role/+/secret-id-accessor/destroy" { capabilities=["update"] }',
        )
    }
    example = 'uses: vault.revoke_agent\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    parts = frozenset(vault.Part)

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = vault.identity(params, agent)
        if agent is None or known is None:
            return ()
        kept: dict[str, Any] = {
            "entity_id": known.entity_id,
            "lease_prefixes": known.lease_prefixes,
            "approles": known.approles,
            "token_accessors": known.token_accessors,
        }
        name = f"vault-entity:{known.entity_id}" if known.entity_id else f"vault-agent:{agent.id}"
        return (vault.target(name, agent.id, known, **kept),) if any(kept.values()) else ()
