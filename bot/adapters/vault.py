"""HashiCorp Vault and OpenBao through hvac."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import hvac
import requests
from hvac import exceptions as vault
from requests import exceptions as http
from requests.adapters import HTTPAdapter

from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Entity, KvValue, Lease, VaultToken

# Not an answer of the asked Vault but of its state or of something before it: standby redirects, eventual consistency,
# quotas, standbys that do not serve, proxies, a seal.
_NOT_NOW = frozenset({301, 302, 307, 308, 412, 429, 472, 473, 502, 503, 504})
_MAYBE_DONE = frozenset({502, 504})  # a proxy answered; the Vault behind it may have acted
_GONE = ("invalid lease", "lease not found", "invalid accessor", "bad token", "token not found")


class HvacVault:
    """ports.Vault for one address and namespace. `token` is asked before every request, so that a renewed one is used;
    timeouts are in seconds, `verify` is a CA bundle's path or True. Nothing is retried here and no redirect followed
    (it would carry the token along): the caller decides what an outage means.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        namespace: str = "",
        system: str = "vault",
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
        verify: str | bool = True,
        pool: int = 8,
    ) -> None:
        self._system = system
        self._session = requests.Session()
        self._session.verify = verify
        self._session.auth = _Token(token)
        self._session.hooks["response"].append(self._refuse_not_now)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=pool, max_retries=0))
        self._client = hvac.Client(
            url=url,
            token="",  # `_Token` sets it; without this hvac would look in the environment
            namespace=namespace or None,
            session=self._session,
            timeout=(connect_timeout, read_timeout),
            allow_redirects=False,
        )

    def close(self) -> None:
        self._session.close()

    # Leases -----------------------------------------------------------------------------------------------------

    def list_leases(self, prefix: str) -> tuple[str, ...]:
        found: list[str] = []
        folders = [prefix.rstrip("/") + "/"]
        while folders:
            folder = folders.pop()
            needs = _needs(f"sys/leases/lookup/{folder}*", "list", "sudo")
            with self._asking(f"to list the leases under {folder}", needs):
                for key in self._keys(lambda path: self._client.sys.list_leases(prefix=path), folder):
                    (folders if key.endswith("/") else found).append(folder + key)
        return tuple(sorted(found))

    def lookup_lease(self, lease_id: str) -> Lease | None:
        with self._asking(f"to look up lease {lease_id}", _needs("sys/leases/lookup", "update")):
            try:
                data = self._client.sys.read_lease(lease_id=lease_id)["data"]
            except vault.InvalidRequest as answer:
                _raise_unless_gone(answer)
                return None
            expires = data.get("expire_time")
            return Lease(lease_id, int(data["ttl"]), datetime.fromisoformat(expires) if expires else None)

    def revoke_lease(self, lease_id: str) -> None:
        # A 400 here is the secrets engine failing to reach what it made the credential in: worth another try.
        with self._asking(f"to revoke lease {lease_id}", _needs("sys/leases/revoke", "update"), retryable=True):
            self._client.sys.revoke_lease(lease_id=lease_id)

    def irrevocable_leases(self) -> int:
        with self._asking("to count irrevocable leases", _needs("sys/leases/count", "read")):
            answer = self._client.adapter.get("/v1/sys/leases/count", params={"type": "irrevocable"})
            return int(answer["data"]["lease_count"])

    def irrevocable_lease_ids(self) -> tuple[str, ...]:
        with self._asking("to list irrevocable leases", _needs("sys/leases", "read", "sudo")):
            answer = self._client.adapter.get("/v1/sys/leases", params={"type": "irrevocable"})
            return tuple(lease["lease_id"] for lease in answer["data"]["leases"])

    def revoke_prefix(self, prefix: str) -> None:
        folder = prefix.rstrip("/") + "/"
        needs = _needs(f"sys/leases/revoke-prefix/{folder}*", "update", "sudo")
        with self._asking(f"to revoke the leases under {folder}", needs, retryable=True):
            self._client.sys.revoke_prefix(prefix=folder)

    # Auth roles -------------------------------------------------------------------------------------------------

    def read_role(self, path: str) -> Mapping[str, Any] | None:
        with self._asking(f"to read {path}", _needs(path, "read")):
            answer = self._client.read(path)
            return dict(answer["data"]) if answer else None

    def write_role(self, path: str, says: Mapping[str, Any]) -> None:
        with self._asking(f"to write {path}", _needs(path, "create", "update")):
            self._client.write_data(path, data=dict(says))

    def delete_role(self, path: str) -> None:
        with self._asking(f"to delete {path}", _needs(path, "delete")):
            self._client.delete(path)

    def read_role_id(self, path: str) -> str:
        with self._asking(f"to read the role id of {path}", _needs(f"{path}/role-id", "read")):
            answer = self._client.read(f"{path}/role-id")
            return str(answer["data"]["role_id"]) if answer else ""

    def write_role_id(self, path: str, role_id: str) -> None:
        with self._asking(f"to write the role id of {path}", _needs(f"{path}/role-id", "update")):
            self._client.write_data(f"{path}/role-id", data={"role_id": role_id})

    # Identity ---------------------------------------------------------------------------------------------------

    def read_entity(self, entity_id: str) -> Entity | None:
        with self._asking(f"to read entity {entity_id}", _needs("identity/entity/id/*", "read", "update")):
            try:
                data = self._client.secrets.identity.read_entity(entity_id)["data"]
            except vault.InvalidPath:
                return None
            return Entity(data["id"], data["name"], bool(data["disabled"]))

    def entity_policies(self, entity_id: str) -> Mapping[str, str] | None:
        with self._asking(f"to read entity {entity_id}", _needs("identity/entity/id/*", "read", "update")):
            try:
                entity = self._client.secrets.identity.read_entity(entity_id)["data"]
            except vault.InvalidPath:
                return None
            groups = [f"identity/group/id/{group}" for group in entity.get("group_ids") or ()]
        names = list(entity.get("policies") or ())
        for group in groups:
            with self._asking(f"to read {group}", _needs("identity/group/id/*", "read")):
                answer = self._client.read(group)
                names += (answer or {}).get("data", {}).get("policies") or ()
        return {name: self.read_policy(name) or "" for name in sorted(set(names))}  # '': it was deleted

    def read_policy(self, name: str) -> str | None:
        with self._asking(f"to read policy {name}", _needs("sys/policies/acl/*", "read")):
            try:
                return str(self._client.sys.read_acl_policy(name)["data"]["policy"])
            except vault.InvalidPath:
                return None

    def audit_hash(self, device: str, text: str) -> str:
        with self._asking(f"to hash for the audit log {device}", _needs(f"sys/audit-hash/{device}", "update")):
            return str(self._client.sys.calculate_hash(path=device, input_to_hash=text)["data"]["hash"])

    def set_entity_disabled(self, entity_id: str, disabled: bool) -> None:
        with self._asking(
            f"to {'disable' if disabled else 'enable'} entity {entity_id}",
            _needs("identity/entity/id/*", "read", "update"),
        ):
            self._client.secrets.identity.update_entity(entity_id, disabled=disabled)

    def list_secret_ids(self, approle: str) -> tuple[str, ...]:
        with self._asking(
            f"to list the secret ids of approle {approle}", _needs("auth/approle/role/+/secret-id", "list")
        ):
            return self._keys(self._client.auth.approle.list_secret_id_accessors, approle)

    def destroy_secret_id(self, approle: str, accessor: str) -> None:
        with self._asking(
            f"to destroy secret id {accessor} of approle {approle}",
            _needs("auth/approle/role/+/secret-id-accessor/destroy", "update"),
        ):
            try:
                self._client.auth.approle.destroy_secret_id_accessor(approle, accessor)
            except vault.InvalidPath:
                return  # gone already, with its role or without

    # Tokens -----------------------------------------------------------------------------------------------------

    def list_token_accessors(self) -> tuple[str, ...]:
        with self._asking("to list token accessors", _needs("auth/token/accessors", "list", "sudo")):
            return self._keys(self._client.auth.token.list_accessors)

    def lookup_accessor(self, accessor: str) -> VaultToken | None:
        with self._asking(f"to look up accessor {accessor}", _needs("auth/token/lookup-accessor", "update")):
            try:
                data = self._client.auth.token.lookup_accessor(accessor)["data"]
            except (vault.InvalidRequest, vault.Forbidden) as answer:
                # 403 `bad token`: the token is dead, its accessor's index entry not yet swept.
                _raise_unless_gone(answer)
                return None
            return VaultToken(data["accessor"], data["entity_id"], int(data["ttl"]))

    def revoke_accessor(self, accessor: str) -> None:
        with self._asking(f"to revoke accessor {accessor}", _needs("auth/token/revoke-accessor", "update")):
            try:
                self._client.auth.token.revoke_accessor(accessor)
            except vault.InvalidRequest as answer:  # older releases; newer ones answer 200 with a warning
                _raise_unless_gone(answer)

    # KV v2 ------------------------------------------------------------------------------------------------------

    def read_kv(self, path: str) -> KvValue | None:
        mount, _, key = path.partition("/")
        with self._asking(f"to read {path}", _needs(f"{mount}/data/{key}", "read")):
            try:
                answer = self._client.secrets.kv.v2.read_secret_version(
                    key, mount_point=mount, raise_on_deleted_version=True
                )
            except vault.InvalidPath:
                return None
            return KvValue(answer["data"]["data"], answer["data"]["metadata"]["version"])

    def write_kv(self, path: str, data: Mapping[str, Any], cas: int) -> int:
        mount, _, key = path.partition("/")
        with self._asking(f"to write {path}", _needs(f"{mount}/data/{key}", "create", "update")):
            try:
                answer = self._client.secrets.kv.v2.create_or_update_secret(
                    key, secret=dict(data), cas=cas, mount_point=mount
                )
            except vault.InvalidRequest as refused:
                if "check-and-set" not in str(refused):
                    raise
                raise Rejected(self._system, f"{_words(refused)} ({path}, cas {cas})", retryable=True) from refused
            return int(answer["data"]["version"])

    # Inside -----------------------------------------------------------------------------------------------------

    def _keys(self, listing: Callable[..., Any], *args: str) -> tuple[str, ...]:
        try:
            return tuple(listing(*args)["data"]["keys"])
        except vault.InvalidPath:
            return ()

    def _refuse_not_now(self, answer: requests.Response, **_: object) -> None:
        """Raises Unavailable while the headers are still at hand: hvac's exceptions drop Retry-After."""
        if answer.status_code not in _NOT_NOW:
            return
        errors = answer.text[:200].strip()  # read, so that the connection goes back to the pool
        wait = answer.headers.get("Retry-After", "")
        raise Unavailable(
            self._system,
            f"HTTP {answer.status_code} {errors}".strip(),
            sent=answer.status_code in _MAYBE_DONE,
            retry_after=float(wait) if wait.isdecimal() else None,
        )

    @contextmanager
    def _asking(self, what: str, needs: str, *, retryable: bool = False) -> Iterator[None]:
        """Translates what hvac and requests raise; `needs` is the policy line that the call depends on."""
        try:
            yield
        except (vault.Forbidden, vault.Unauthorized) as refused:
            why = f"Vault refused {what}: {_words(refused)}. The bot's token is invalid or its policy lacks: {needs}"
            raise Denied(self._system, why) from refused
        except vault.InternalServerError as broken:
            raise Rejected(self._system, f"Vault failed {what}: {_words(broken)}", retryable=True) from broken
        except vault.VaultNotInitialized as empty:
            raise Unavailable(self._system, "Vault is not initialized") from empty
        except vault.VaultError as answer:
            raise Rejected(self._system, f"Vault rejected {what}: {_words(answer)}", retryable=retryable) from answer
        except http.ConnectTimeout as silent:
            raise Unavailable(self._system, f"no connection in time {what}") from silent
        except http.Timeout as silent:
            raise Unavailable(self._system, f"no answer in time {what}", sent=True) from silent
        except http.ConnectionError as broken:
            # A pool that never connected wraps its reason; an established connection that broke does not.
            unsent = hasattr(broken.args[0] if broken.args else None, "reason")
            raise Unavailable(self._system, f"unreachable {what}", sent=not unsent) from broken
        except http.RequestException as broken:
            raise Unavailable(self._system, f"{type(broken).__name__} {what}", sent=True) from broken
        except (KeyError, TypeError, AttributeError, ValueError) as odd:
            raise Rejected(self._system, f"an answer that is not Vault's {what}: {odd!r}") from odd


class _Token(requests.auth.AuthBase):
    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Vault-Token"] = self._token()
        return request


def _needs(path: str, *capabilities: str) -> str:
    quoted = ", ".join(f'"{capability}"' for capability in capabilities)
    return f'path "{path}" {{ capabilities = [{quoted}] }}'


def _words(answer: vault.VaultError) -> str:
    return "; ".join(answer.errors or ()) or str(answer.args[0] or type(answer).__name__)[:200]


def _raise_unless_gone(answer: vault.VaultError) -> None:
    if not any(words in _words(answer) for words in _GONE):
        raise answer
