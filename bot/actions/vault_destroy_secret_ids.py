"""`vault.destroy_secret_ids`: nobody logs in with them any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import vault
from bot.domain.agent import Agent
from bot.domain.playbook import Target


class DestroySecretIds(vault.Cut):
    """Destroys every secret id of the agent's AppRoles, so that those whom they were given to cannot log in again.
    Tokens that they were used for live on (vault.revoke_accessors, vault.disable_entity), and whoever may make secret
    ids makes new ones (vault.stop_role). It cannot be undone: the agent is given new ones."""

    id = "vault.destroy_secret_ids"
    params = (vault.AGENT,)
    outputs = (
        "secret_ids_destroyed",
        "alive",
        "not_restored",
        "why",
    )
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "auth/approle/role/+/secret-id" { capabilities=["list"] }',
            'path "auth/approle/role/+/secret-id-accessor/destroy" { capabilities=["update"] }',
        )
    }
    example = 'uses: vault.destroy_secret_ids\nwith: {agent: "${{ agent.id }}"}\ncontains: true\nirreversible: true\n'
    parts = frozenset({vault.Part.SECRET_IDS})
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = vault.identity(params, agent)
        if agent is None or known is None:
            return ()
        return tuple(
            vault.target(f"vault-role:auth/approle/role/{role}", agent.id, known, approles=(role,))
            for role in dict.fromkeys(known.approles)
        )
