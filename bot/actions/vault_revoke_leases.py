"""`vault.revoke_leases`: the credentials that an agent was given are revoked, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import vault
from bot.domain.agent import Agent
from bot.domain.playbook import Target


class RevokeLeases(vault.Cut):
    """Revokes every lease under the agent's prefixes, each with an answer of its own, and looks again until all are
    gone. While a secrets engine cannot reach its system the lease lives, the step goes on trying, and it never counts
    as contained; leases that Vault has given up on (irrevocable) are named, to be killed at their provider. Nothing is
    ever forced: that drops a lease whose credential may live. A revoked lease of AWS STS changes nothing at AWS, where
    the session goes on until it ends: `sts_leases` counts them (aws.iam_revoke_sessions). It cannot be undone."""

    id = "vault.revoke_leases"
    params = (vault.AGENT,)
    outputs = (
        "leases_revoked",
        "leases_alive",
        "sts_leases",
        "alive",
        "not_restored",
        "why",
    )
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "sys/leases/lookup" { capabilities=["update"] }',
            'path "sys/leases/lookup/aws/creds/*" { capabilities=["list","sudo"] }',
            'path "sys/leases/revoke" { capabilities=["update"] }',
            'path "sys/leases" { capabilities=["read","sudo"] }',
            'path "sys/leases/count" { capabilities=["read"] }',
        )
    }
    example = 'uses: vault.revoke_leases\nwith: {agent: "${{ agent.id }}"}\ncontains: true\nirreversible: true\n'
    parts = frozenset({vault.Part.LEASES})
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        return vault.prefix_targets(params, agent)
