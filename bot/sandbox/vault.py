"""A Vault that fits in memory: what the sandbox, the drills and the tests contain agents in."""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Clock, Entity, KvValue, Lease, VaultToken
from bot.sandbox.faults import Faults

_APPROLES = "auth/approle/role/"
_QUEUED = timedelta(seconds=2)  # how long the leases of a revoked token live on


@dataclass(frozen=True, slots=True)
class _Lease:
    agent: str
    token: str  # accessor of the token it was issued to, or ""
    expires: datetime
    dies: datetime | None = None  # queued for revocation, carried out then


@dataclass(frozen=True, slots=True)
class _Token:
    entity: str
    parent: str
    expires: datetime
    batch: bool = False


class SimVault:
    """ports.Vault in memory, behaving as the real one where containment depends on it: revoking an accessor kills the
    token and its children at once and only queues their leases; a disabled entity is refused at once while its leases
    live on; batch tokens cannot be revoked; with its backend down a revocation fails and the lease stays.

    Trouble: `faults` scripts single calls; `sealed`, `denied` (method names, or "*") and `backends_down` (lease
    prefixes) last until they are taken back. `settle()` carries out what is queued, as time does.
    """

    def __init__(self, clock: Clock, *, system: str = "vault") -> None:
        self.faults = Faults()
        self.sealed = False
        self.denied: set[str] = set()
        self.backends_down: set[str] = set()
        self._clock, self._system = clock, system
        self.policies: dict[str, str] = {}  # ACL policies: name -> text
        self.policies_of: dict[str, tuple[str, ...]] = {}  # entity -> their names
        self._lock = threading.RLock()
        self._numbers = count(1)
        self._leases: dict[str, _Lease] = {}
        self._entities: dict[str, Entity] = {}
        self._tokens: dict[str, _Token] = {}
        self._secret_ids: dict[str, list[str]] = {}  # by approle
        self._roles: dict[str, dict[str, Any]] = {}  # by path
        self._role_ids: dict[str, str] = {}
        self._kv: dict[str, KvValue] = {}
        self._irrevocable: set[str] = set()

    # ports.Vault ------------------------------------------------------------------------------------------------

    def list_leases(self, prefix: str) -> tuple[str, ...]:
        with self._call("list_leases"):
            return tuple(sorted(lease for lease in self._leases if lease.startswith(prefix.rstrip("/") + "/")))

    def lookup_lease(self, lease_id: str) -> Lease | None:
        with self._call("lookup_lease"):
            lease = self._leases.get(lease_id)
            return Lease(lease_id, self._seconds_to(lease.expires), lease.expires) if lease else None

    def revoke_lease(self, lease_id: str) -> None:
        with self._call("revoke_lease"):
            if lease_id in self._leases and self._is_down(lease_id):
                raise self._unreached(lease_id)
            self._drop(lease_id)

    def read_entity(self, entity_id: str) -> Entity | None:
        with self._call("read_entity"):
            return self._entities.get(entity_id)

    def entity_policies(self, entity_id: str) -> Mapping[str, str] | None:
        with self._call("entity_policies"):
            names = self.policies_of.get(entity_id, ())
            return {name: self.policies.get(name, "") for name in names} if entity_id in self._entities else None

    def read_policy(self, name: str) -> str | None:
        with self._call("read_policy"):
            return self.policies.get(name)

    def audit_hash(self, device: str, text: str) -> str:
        with self._call("audit_hash"):
            key = f"{self._system}/{device.strip('/')}".encode()
            return f"hmac-sha256:{hmac.digest(key, text.encode(), 'sha256').hex()}"

    def set_entity_disabled(self, entity_id: str, disabled: bool) -> None:
        with self._call("set_entity_disabled"):
            if entity_id not in self._entities:
                raise Rejected(self._system, f"no entity found from id {entity_id}")
            self._entities[entity_id] = replace(self._entities[entity_id], disabled=disabled)

    def list_secret_ids(self, approle: str) -> tuple[str, ...]:
        with self._call("list_secret_ids"):
            return tuple(self._secret_ids.get(approle, ()))

    def destroy_secret_id(self, approle: str, accessor: str) -> None:
        with self._call("destroy_secret_id"):
            if accessor in self._secret_ids.get(approle, ()):
                self._secret_ids[approle].remove(accessor)

    def list_token_accessors(self) -> tuple[str, ...]:
        with self._call("list_token_accessors"):
            return tuple(accessor for accessor, token in self._tokens.items() if not token.batch)

    def lookup_accessor(self, accessor: str) -> VaultToken | None:
        with self._call("lookup_accessor"):
            token = self._tokens.get(accessor)
            return VaultToken(accessor, token.entity, self._seconds_to(token.expires)) if token else None

    def revoke_accessor(self, accessor: str) -> None:
        with self._call("revoke_accessor"):
            if accessor in self._tokens and self._tokens[accessor].batch:
                raise Rejected(self._system, "batch tokens cannot be revoked")
            self._end_token(accessor)

    def irrevocable_leases(self) -> int:
        with self._call("irrevocable_leases"):
            return len(self._irrevocable)

    def irrevocable_lease_ids(self) -> tuple[str, ...]:
        with self._call("irrevocable_lease_ids"):
            return tuple(sorted(self._irrevocable))

    def revoke_prefix(self, prefix: str) -> None:
        with self._call("revoke_prefix"):
            folder = prefix.rstrip("/") + "/"
            for lease_id in sorted(lease for lease in self._leases if lease.startswith(folder)):
                if self._is_down(lease_id):
                    raise self._unreached(lease_id)
                self._drop(lease_id)

    def read_role(self, path: str) -> Mapping[str, Any] | None:
        with self._call("read_role"):
            return dict(self._roles[path]) if path in self._roles else None

    def write_role(self, path: str, says: Mapping[str, Any]) -> None:
        with self._call("write_role"):
            if path not in self._roles:
                self.add_role(path)
            self._roles[path] |= says

    def delete_role(self, path: str) -> None:
        with self._call("delete_role"):
            self._roles.pop(path, None)
            self._role_ids.pop(path, None)
            self._secret_ids.pop(path.removeprefix(_APPROLES), None)

    def read_role_id(self, path: str) -> str:
        with self._call("read_role_id"):
            return self._role_ids.get(path, "")

    def write_role_id(self, path: str, role_id: str) -> None:
        with self._call("write_role_id"):
            self._role_ids[path] = role_id

    def read_kv(self, path: str) -> KvValue | None:
        with self._call("read_kv"):
            return self._kv.get(path)

    def write_kv(self, path: str, data: Mapping[str, Any], cas: int) -> int:
        with self._call("write_kv"):
            version = self._kv[path].version if path in self._kv else 0
            if cas != version:
                why = f"check-and-set parameter did not match the current version ({cas} given for {path})"
                raise Rejected(self._system, why, retryable=True)
            self._kv[path] = KvValue(dict(data), version + 1)
            return version + 1

    # The estate, as drills and tests set it up and look at it ---------------------------------------------------

    def add_entity(self, entity_id: str, name: str = "", *, disabled: bool = False) -> None:
        with self._lock:
            self._entities[entity_id] = Entity(entity_id, name or entity_id, disabled)

    def add_secret_id(self, approle: str) -> str:
        """Mints a secret id for the role (made when missing) and returns its accessor."""
        with self._lock:
            accessor = f"{approle}-secret-{next(self._numbers)}"
            self._secret_ids.setdefault(approle, []).append(accessor)
            if _APPROLES + approle not in self._roles:
                self.add_role(_APPROLES + approle, bind_secret_id=True, token_type="default", token_policies=[approle])
            return accessor

    def add_role(self, path: str, **says: Any) -> None:
        """An auth role that agents log in by; an AppRole has a role id besides."""
        with self._lock:
            self._roles[path] = dict(says)
            if path.startswith(_APPROLES):
                self._role_ids[path] = f"role-id-{next(self._numbers)}"

    def issue_lease(self, prefix: str, agent: str, *, token: str = "", ttl: timedelta = timedelta(hours=1)) -> str:
        """A dynamic credential is handed to an agent; returns the lease id. With `token` (an accessor) Vault refuses
        as `use_token` does, and the lease hangs on that token."""
        with self._lock:
            if token:
                self.use_token(token)
            lease_id = f"{prefix.rstrip('/')}/{agent}-{next(self._numbers):04d}"
            self._leases[lease_id] = _Lease(agent, token, self._clock.now() + ttl)
            return lease_id

    def leases_of(self, agent: str) -> set[str]:
        """The agent's leases that are alive right now."""
        with self._lock:
            self._pass_time()
            return {lease_id for lease_id, lease in self._leases.items() if lease.agent == agent}

    def login(
        self,
        entity: str = "",
        *,
        role: str = "",
        parent: str = "",
        batch: bool = False,
        ttl: timedelta = timedelta(hours=8),
    ) -> str:
        """A token is issued; returns its accessor. Raises Denied where the entity is disabled, or the auth role (its
        path) is not there."""
        with self._lock:
            if role and role not in self._roles:
                raise Denied(self._system, f"invalid role {role}")
            self._refuse_disabled(entity)
            accessor = f"accessor-{next(self._numbers):04d}"
            self._tokens[accessor] = _Token(entity, parent, self._clock.now() + ttl, batch)
            return accessor

    def accessors(self) -> frozenset[str]:
        """Of every live token, batch tokens included."""
        with self._lock:
            self._pass_time()
            return frozenset(self._tokens)

    @staticmethod
    def token(accessor: str) -> str:
        """The bearer token behind an accessor, as its holder sends it (`accessor` is the way back)."""
        return f"hvs.sandbox.{accessor}"

    @staticmethod
    def accessor(token: str) -> str:
        return token.removeprefix("hvs.sandbox.")

    def use_token(self, accessor: str) -> None:
        """The holder of the token calls Vault. Raises Denied where it is revoked, expired or its entity disabled."""
        with self._lock:
            self._pass_time()
            if accessor not in self._tokens:
                raise Denied(self._system, "permission denied")
            self._refuse_disabled(self._tokens[accessor].entity)

    def give_up(self, lease_id: str) -> None:
        """Vault's queue has used up its retries: the lease is irrevocable and stays."""
        with self._lock:
            self._irrevocable.add(lease_id)
            self.backends_down.add(lease_id)

    def settle(self) -> None:
        """Carries out every queued revocation whose backend is up."""
        with self._lock:
            self._pass_time(everything=True)

    # Inside -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._lock:
            self._pass_time()
            if self.sealed:
                raise Unavailable(self._system, "Vault is sealed")
            if self.denied & {name, "*"}:
                raise Denied(self._system, f"{name}: permission denied")
            self.faults.before(name)
            yield
            self.faults.after(name)

    def _pass_time(self, *, everything: bool = False) -> None:
        now = self._clock.now()
        for lease_id, lease in list(self._leases.items()):
            due = lease.expires <= now or (lease.dies is not None and (everything or lease.dies <= now))
            if due and not self._is_down(lease_id):
                self._drop(lease_id)
        for accessor in [accessor for accessor, token in self._tokens.items() if token.expires <= now]:
            self._end_token(accessor)

    def _end_token(self, accessor: str) -> None:
        self._tokens.pop(accessor, None)
        for lease_id, lease in self._leases.items():
            if lease.token == accessor and not lease.dies:
                self._leases[lease_id] = replace(lease, dies=self._clock.now() + _QUEUED)
        for child in [child for child, token in self._tokens.items() if token.parent == accessor]:
            self._end_token(child)

    def _drop(self, lease_id: str) -> None:
        self._leases.pop(lease_id, None)
        self._irrevocable.discard(lease_id)

    def _unreached(self, lease_id: str) -> Rejected:
        return Rejected(self._system, f"failed to revoke entry: backend of {lease_id} is down", retryable=True)

    def _is_down(self, lease_id: str) -> bool:
        return any(lease_id.startswith(prefix) for prefix in self.backends_down)

    def _refuse_disabled(self, entity: str) -> None:
        if entity in self._entities and self._entities[entity].disabled:
            raise Denied(self._system, "permission denied")

    def _seconds_to(self, moment: datetime) -> int:
        return max(0, int((moment - self._clock.now()).total_seconds()))
