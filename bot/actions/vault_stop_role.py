"""`vault.stop_role`: nobody logs in by it any more, however many credentials they have for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import vault
from bot.actions.switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.playbook import Target
from bot.ports import Ports, Vault, connected

EXAMPLE = "auth/kubernetes/role/agent-7"


class StopRole(Switch[Vault]):
    """Deletes the auth roles that the agent logs in by: its AppRoles, and those that agents.yaml names as `auth_roles`
    (Kubernetes, JWT, AWS ...). What a role says is saved first; releasing writes it back, an AppRole's role id too
    where a secret id is asked for besides (alone it would be a credential, and is not kept). Its secret ids are gone
    for good: the agent is given new ones. Tokens that were issued by it live on until they end, without renewal
    (vault.disable_entity, vault.revoke_accessors). A role that somebody made anew meanwhile is left as it is."""

    id = "vault.stop_role"
    params = (vault.AGENT,)
    outputs = ("role", "exists", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "vault": (
            'path "auth/approle/role/+" { capabilities=["create","read","update","delete"] }',
            'path "auth/approle/role/+/role-id" { capabilities=["read","update"] }',
        )
    }
    example = 'uses: vault.stop_role\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    named = ("agent", "role")

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = vault.identity(params, agent)
        if agent is None or known is None:
            return ()
        roles = dict.fromkeys((*(f"auth/approle/role/{role}" for role in known.approles), *known.auth_roles))
        if wrong := [role for role in roles if not re.fullmatch(r"auth/[\w./-]+/role/[\w.-]+", role)]:
            raise ValueError(f"{wrong[0]!r} is no auth role: write vault.auth_roles of {agent.id} like {EXAMPLE}")
        return tuple(
            Target(
                f"vault-role:{role}",
                {"agent": agent.id, "connection": known.connection, "role": role},
                known.connection,
            )
            for role in roles
        )

    def system(self, params: Mapping[str, Any], ports: Ports) -> Vault:
        return connected(ports.vaults, params["connection"])

    def name(self, params: Mapping[str, Any]) -> str:
        return str(params["role"])

    def absent(self, params: Mapping[str, Any], system: Vault) -> None:
        """Never: that it is not there is what was wanted."""

    def unwanted(self, params: Mapping[str, Any], system: Vault) -> Done | Failed | None:
        if system.read_role(params["role"]) is not None:
            return None
        evidence = {"role": params["role"], "exists": False}
        return Done(Grade.CONFIG, evidence, nothing_held=f"Vault has no role {params['role']}")

    def state(self, params: Mapping[str, Any], system: Vault) -> dict[str, Any]:
        says = dict(system.read_role(params["role"]) or {})
        found: dict[str, Any] = {"says": says}
        if _is_approle(params["role"]) and says.get("bind_secret_id"):
            found["role_id"] = system.read_role_id(params["role"])
        return found

    def change(self, params: Mapping[str, Any], system: Vault, key: str) -> Mapping[str, Any]:
        system.delete_role(params["role"])
        return {}

    def seen(self, params: Mapping[str, Any], system: Vault, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None if system.read_role(params["role"]) is not None else {"role": params["role"], "exists": False}

    def restore(self, params: Mapping[str, Any], system: Vault, before: Mapping[str, Any]) -> str:
        role, says = params["role"], before["says"]
        if system.read_role(role) is None:
            system.write_role(role, {name: value for name, value in says.items() if value is not None})
        found = system.read_role(role) or {}
        if other := sorted(name for name, value in says.items() if found.get(name) != value):
            return f"{role} is there and differs in {', '.join(other)}: somebody made it anew, so it is left as it is"
        if (wanted := before.get("role_id")) and system.read_role_id(role) != wanted:
            system.write_role_id(role, wanted)
            if system.read_role_id(role) != wanted:
                return f"Vault took the call, but {role} does not have its role id back"
        return ""


def _is_approle(role: str) -> bool:
    return role.startswith("auth/approle/role/")
