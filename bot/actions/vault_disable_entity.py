"""`vault.disable_entity`: all of an agent's tokens and logins are refused at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import vault
from bot.domain.agent import Agent
from bot.domain.playbook import Target


class DisableEntity(vault.Cut):
    """Disables the agent's entity: Vault refuses each of its tokens (batch tokens too) and every new login at once.
    Leases that it has been given live on (vault.revoke_leases), and so do tokens without an entity. Releasing enables
    the entity again, if it was enabled before. An agent whose entity agents.yaml does not name is refused."""

    id = "vault.disable_entity"
    params = (vault.AGENT,)
    outputs = (
        "entity_disabled",
        "alive",
        "why",
    )
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": ('path "identity/entity/id/*" { capabilities=["read","update"] }',)
    }
    example = 'uses: vault.disable_entity\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    parts = frozenset({vault.Part.ENTITY})

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = vault.identity(params, agent)
        if agent is None or known is None:
            return ()
        if not known.entity_id:
            raise ValueError(
                f"agents.yaml names no vault.entity_id of {agent.id}: add it, or revoke what it holds one by one "
                "(vault.revoke_accessors, vault.revoke_leases, vault.stop_role)"
            )
        return (vault.target(f"vault-entity:{known.entity_id}", agent.id, known, entity_id=known.entity_id),)
