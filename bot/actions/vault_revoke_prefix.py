"""`vault.revoke_prefix`: the credentials that an agent was given are revoked, all in one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

from bot.actions.vault_revoke_leases import RevokeLeases
from bot.domain.agent import VaultIdentity
from bot.ports import Vault


class RevokePrefix(RevokeLeases):
    """Revokes every lease under each of the agent's prefixes in one call to Vault, and looks again until all are gone:
    for an agent with thousands of them, where vault.revoke_leases would take too long. Vault stops at the first lease
    that it cannot revoke and the rest lives: the step then goes on trying, and never counts as contained. Leases that
    Vault has given up on (irrevocable) are named; nothing is ever forced. Only whole prefixes of agents.yaml are
    revoked. A revoked lease of AWS STS changes nothing at AWS: `sts_leases` counts them. It cannot be undone."""

    id = "vault.revoke_prefix"
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "sys/leases/lookup" { capabilities=["update"] }',
            'path "sys/leases/lookup/aws/creds/*" { capabilities=["list","sudo"] }',
            'path "sys/leases/revoke-prefix/aws/creds/*" { capabilities=["update","sudo"] }',
            'path "sys/leases" { capabilities=["read","sudo"] }',
            'path "sys/leases/count" { capabilities=["read"] }',
        )
    }
    example = 'uses: vault.revoke_prefix\nwith: {agent: "${{ agent.id }}"}\ncontains: true\nirreversible: true\n'

    def lease_calls(self, who: VaultIdentity, vaults: Vault, leases: Sequence[str]) -> list[Callable[[], None]]:
        held = [prefix for prefix in who.lease_prefixes if any(lease.startswith(prefix) for lease in leases)]
        return [partial(vaults.revoke_prefix, prefix) for prefix in held]
