"""`vault.revoke_accessors`: the tokens that an agent has are dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import vault
from bot.domain.agent import Agent
from bot.domain.playbook import Target


class RevokeAccessors(vault.Cut):
    """Revokes the agent's tokens with all their children, by accessor: those that agents.yaml names, and every one of
    its entity. They are refused at once; their leases are only queued (vault.revoke_leases waits for those). The agent
    may log in anew unless that is stopped (vault.disable_entity, vault.stop_role). Batch tokens have no accessor and
    cannot be revoked: where a role issues them, or the tokens cannot be searched, the outcome is `unverified` and names
    what does help. It cannot be undone: the agent logs in again."""

    id = "vault.revoke_accessors"
    params = (vault.AGENT,)
    outputs = (
        "accessors_revoked",
        "tokens_searched",
        "alive",
        "not_restored",
        "why",
    )
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "auth/token/lookup-accessor" { capabilities=["update"] }',
            'path "auth/token/revoke-accessor" { capabilities=["update"] }',
            'path "auth/token/accessors" { capabilities=["list","sudo"] }',
            'path "identity/entity/id/*" { capabilities=["read"] }',
            'path "auth/approle/role/+" { capabilities=["read"] }',
        )
    }
    example = 'uses: vault.revoke_accessors\nwith: {agent: "${{ agent.id }}"}\ncontains: true\nirreversible: true\n'
    parts = frozenset({vault.Part.TOKENS})
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = vault.identity(params, agent)
        if agent is None or known is None:
            return ()
        kept: dict[str, Any] = {
            "entity_id": known.entity_id,
            "approles": known.approles,
            "token_accessors": known.token_accessors,
        }
        name = f"vault-entity:{known.entity_id}" if known.entity_id else f"vault-agent:{agent.id}"
        return (vault.target(name, agent.id, known, **kept),) if any(kept.values()) else ()
