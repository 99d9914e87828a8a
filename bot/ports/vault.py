"""HashiCorp Vault and OpenBao, as the actions see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Lease:
    id: str
    ttl: int  # seconds left
    expire_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entity:
    id: str
    name: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class VaultToken:
    accessor: str
    entity_id: str
    ttl: int


@dataclass(frozen=True, slots=True)
class KvValue:
    data: Mapping[str, Any]
    version: int


class Vault(Protocol):
    """HashiCorp Vault or OpenBao, one namespace."""

    def list_leases(self, prefix: str) -> tuple[str, ...]:
        """Full lease ids under a prefix, sub-prefixes walked; () where there are none (Vault says 404)."""

    def lookup_lease(self, lease_id: str) -> Lease | None:
        """None where Vault says 400 `invalid lease`: it is gone."""

    def revoke_lease(self, lease_id: str) -> None:
        """Synchronous; a missing lease succeeds too."""

    def read_entity(self, entity_id: str) -> Entity | None: ...

    def entity_policies(self, entity_id: str) -> Mapping[str, str] | None:
        """The ACL policies of the entity and of its groups, as their text by name; None where it is gone. Those that
        only a token carries (by its auth role) are not among them."""

    def read_policy(self, name: str) -> str | None:
        """An ACL policy's text; None where Vault has none of that name."""

    def audit_hash(self, device: str, text: str) -> str:
        """How the audit device of that path (`file`) writes this text: `hmac-sha256:...`."""

    def set_entity_disabled(self, entity_id: str, disabled: bool) -> None: ...

    def list_secret_ids(self, approle: str) -> tuple[str, ...]:
        """Accessors of the role's secret ids; () where there are none."""

    def destroy_secret_id(self, approle: str, accessor: str) -> None: ...

    def list_token_accessors(self) -> tuple[str, ...]: ...

    def lookup_accessor(self, accessor: str) -> VaultToken | None: ...

    def revoke_accessor(self, accessor: str) -> None:
        """Kills the token and its child tree at once; its leases are only queued. An unknown one succeeds."""

    def revoke_prefix(self, prefix: str) -> None:
        """Every lease under it, synchronously; stops with Rejected(retryable=True) at the first that cannot be."""

    def irrevocable_leases(self) -> int: ...

    def irrevocable_lease_ids(self) -> tuple[str, ...]:
        """Leases that the queue has given up on, of all mounts."""

    def read_role(self, path: str) -> Mapping[str, Any] | None:
        """What an auth role says. `path` is the whole of it: `auth/approle/role/agent-7`."""

    def write_role(self, path: str, says: Mapping[str, Any]) -> None: ...

    def delete_role(self, path: str) -> None:
        """An AppRole's secret ids go with it. A missing one succeeds too."""

    def read_role_id(self, path: str) -> str:
        """Of an AppRole; '' where there is no such role."""

    def write_role_id(self, path: str, role_id: str) -> None: ...

    def read_kv(self, path: str) -> KvValue | None:
        """KV v2. `path` is `mount/key...`."""

    def write_kv(self, path: str, data: Mapping[str, Any], cas: int) -> int:
        """Returns the new version. A wrong `cas` raises Rejected(retryable=True)."""
