"""The simulated Vault behind HTTP, answering with Vault's own status codes and error bodies."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bot.errors import Denied, Rejected, Unavailable
from bot.sandbox.loopback import Loopback
from bot.sandbox.vault import SimVault

Answer = tuple[int, Mapping[str, Any] | None]  # status, JSON body; None is no content
Route = Callable[[SimVault, tuple[str, ...], Mapping[str, Any]], Answer]

NO_CONTENT: Answer = (204, None)
NOT_FOUND: Answer = (404, {"errors": []})


class VaultServer(Loopback):
    """Vault on 127.0.0.1 and a free port, in front of `sim`: what is set up or broken there shows here. `token` is the
    bot's; an agent's is `sim.token(accessor)`. Faults of the simulator become Vault's answers (Denied 403, Rejected
    400, Unavailable 503 or, with `retry_after`, 429); Unavailable(sent=True) is silence for `hang` seconds."""

    def __init__(self, sim: SimVault, token: str, *, hang: float = 5.0) -> None:
        self.sim, self.token, self.hang = sim, token, hang
        self.own: dict[str, Any] = {}  # what its own lookup says otherwise
        self.may: dict[str, list[str]] = {}  # path -> capabilities, where they are not all
        self._odd: list[tuple[str, int, tuple[str, ...]]] = []
        super().__init__(_handler(self))

    def answer_once(self, path: str, status: int, *errors: str) -> None:
        """The next request of `path` (without /v1/) gets this answer: for the rare ones that no simulator state makes
        (403 `bad token` of a half-swept accessor, a proxy's 502, a standby's 307)."""
        self._odd.append((path, status, errors))

    def reply(self, method: str, path: str, token: str, body: Mapping[str, Any]) -> Answer:
        """`path` without /v1/; `method` as Vault sees it (GET ?list=true is LIST). Raises the simulator's faults."""
        for at, (odd_path, status, errors) in enumerate(self._odd):
            if odd_path == path:
                del self._odd[at]
                return status, {"errors": list(errors)}
        if path == "sys/health":
            return (503 if self.sim.sealed else 200), {
                "initialized": True,
                "sealed": self.sim.sealed,
                "standby": False,
                "server_time_utc": int(time.time()),
                "version": "sandbox",
            }
        if token != self.token:
            return self._as_agent(method, path, token)
        if (method, path) == ("GET", "auth/token/lookup-self"):
            return 200, {"data": {"accessor": "bot", "policies": ["firedoor"], "ttl": 0, "renewable": True, **self.own}}
        if path == "sys/capabilities-self":
            return 200, {"data": {one: self.may.get(one, ["root"]) for one in body["paths"]}}
        for (verb, pattern), route in ROUTES.items():
            match = re.fullmatch(pattern, path)
            if match and method in verb.split():
                return route(self.sim, match.groups(), body)
        return 404, {"errors": [f"no handler for route {path!r}. route entry not found."]}

    def _as_agent(self, method: str, path: str, token: str) -> Answer:
        """An agent's own token may look at itself and at nothing else; a dead one may not even do that."""
        accessor = self.sim.accessor(token)
        self.sim.use_token(accessor)
        if (method, path) != ("GET", "auth/token/lookup-self"):
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        return 200, {"data": {"accessor": accessor, "display_name": "token"}}


def _handler(server: VaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one segment an answer; two would wait for the client's delayed ACK

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            url = urlsplit(self.path)
            method = "LIST" if parse_qs(url.query).get("list") == ["true"] else self.command
            path = unquote(url.path.removeprefix("/v1/"))
            wait: float | None = None
            try:
                status, answer = server.reply(method, path, self.headers.get("X-Vault-Token", ""), body)
            except Denied as refused:
                status, answer = 403, {"errors": [refused.why]}
            except Rejected as rejected:
                status, answer = 400, {"errors": [rejected.why]}
            except Unavailable as fault:
                if fault.sent:
                    server.stopped.wait(server.hang)
                    self.close_connection = True
                    return
                wait = fault.retry_after
                status, answer = (503 if wait is None else 429), {"errors": [fault.why]}
            self._send(status, b"" if answer is None else json.dumps(answer).encode(), wait)

        do_GET = do_POST = do_PUT = do_LIST = do_DELETE = handle_any

        def _send(self, status: int, content: bytes, wait: float | None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", "no-store")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            if wait is not None:
                self.send_header("Retry-After", f"{wait:.0f}")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Silent: the caller's record is the log."""

    return Handler


def _keys(keys: tuple[str, ...]) -> Answer:
    return (200, {"data": {"keys": list(keys)}}) if keys else NOT_FOUND


def _lookup_lease(sim: SimVault, _: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    lease = sim.lookup_lease(body["lease_id"])
    if lease is None:
        return 400, {"errors": ["invalid lease"]}
    expires = lease.expire_time.isoformat().replace("+00:00", "Z") if lease.expire_time else None
    return 200, {"data": {"id": lease.id, "ttl": lease.ttl, "expire_time": expires, "renewable": True}}


def _list_leases(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    """One level: a deeper lease shows as its next folder, with a slash."""
    folder = path[0].rstrip("/") + "/"
    below = [lease.removeprefix(folder) for lease in sim.list_leases(folder)]
    return _keys(tuple(sorted({first + slash for first, slash, _ in (key.partition("/") for key in below)})))


def _revoke_lease(sim: SimVault, _: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    sim.revoke_lease(body["lease_id"])
    return NO_CONTENT


def _revoke_prefix(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    sim.revoke_prefix(path[0])
    return NO_CONTENT


def _count_leases(sim: SimVault, _: tuple[str, ...], __: Mapping[str, Any]) -> Answer:
    irrevocable = sim.irrevocable_leases()
    return 200, {"data": {"lease_count": irrevocable, "counts": {}}}


def _list_irrevocable(sim: SimVault, _: tuple[str, ...], __: Mapping[str, Any]) -> Answer:
    leases = [{"lease_id": lease, "mount_id": "", "error": "given up"} for lease in sim.irrevocable_lease_ids()]
    return 200, {"data": {"lease_count": len(leases), "counts": {}, "leases": leases}}


def _read_role(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    says = sim.read_role(path[0])
    return NOT_FOUND if says is None else (200, {"data": dict(says)})


def _write_role(sim: SimVault, path: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    sim.write_role(path[0], body)
    return NO_CONTENT


def _delete_role(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    sim.delete_role(path[0])
    return NO_CONTENT


def _read_role_id(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    role_id = sim.read_role_id(path[0])
    return (200, {"data": {"role_id": role_id}}) if role_id else NOT_FOUND


def _write_role_id(sim: SimVault, path: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    sim.write_role_id(path[0], body["role_id"])
    return NO_CONTENT


def _list_accessors(sim: SimVault, _: tuple[str, ...], __: Mapping[str, Any]) -> Answer:
    return _keys(sim.list_token_accessors())


def _lookup_accessor(sim: SimVault, _: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    token = sim.lookup_accessor(body["accessor"])
    if token is None:
        return 400, {"errors": ["invalid accessor"]}
    return 200, {"data": {"id": "", "accessor": token.accessor, "entity_id": token.entity_id, "ttl": token.ttl}}


def _revoke_accessor(sim: SimVault, _: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    known = body["accessor"] in sim.accessors()
    sim.revoke_accessor(body["accessor"])
    return NO_CONTENT if known else (200, {"warnings": ["No token found with this accessor"], "data": None})


def _read_entity(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    entity = sim.read_entity(path[0])
    if entity is None:
        return NOT_FOUND
    said = {"id": entity.id, "name": entity.name, "disabled": entity.disabled}
    return 200, {"data": {**said, "policies": list(sim.policies_of.get(entity.id, ())), "group_ids": []}}


def _read_policy(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    text = sim.read_policy(path[0])
    if text is None:
        return NOT_FOUND
    return 200, {"data": {"name": path[0], "policy": text}}


def _audit_hash(sim: SimVault, path: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    return 200, {"data": {"hash": sim.audit_hash(path[0], body["input"])}}


def _update_entity(sim: SimVault, path: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    sim.set_entity_disabled(path[0], bool(body.get("disabled", False)))
    return NO_CONTENT


def _list_secret_ids(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    return _keys(sim.list_secret_ids(path[0]))


def _destroy_secret_id(sim: SimVault, path: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    sim.destroy_secret_id(path[0], body["secret_id_accessor"])
    return NO_CONTENT


def _read_kv(sim: SimVault, path: tuple[str, ...], _: Mapping[str, Any]) -> Answer:
    value = sim.read_kv("/".join(path))
    if value is None:
        return NOT_FOUND
    return 200, {"data": {"data": dict(value.data), "metadata": {"version": value.version}}}


def _write_kv(sim: SimVault, path: tuple[str, ...], body: Mapping[str, Any]) -> Answer:
    version = sim.write_kv("/".join(path), body["data"], int(body["options"]["cas"]))
    return 200, {"data": {"version": version}}


ROUTES: Mapping[tuple[str, str], Route] = {
    ("PUT POST", "sys/leases/lookup"): _lookup_lease,
    ("LIST", "sys/leases/lookup/(.+)"): _list_leases,
    ("PUT POST", "sys/leases/revoke"): _revoke_lease,
    ("PUT POST", "sys/leases/revoke-prefix/(.+)"): _revoke_prefix,
    ("GET", "sys/leases/count"): _count_leases,
    ("GET", "sys/leases"): _list_irrevocable,
    ("GET", "(auth/[^/]+/role/[^/]+)"): _read_role,
    ("PUT POST", "(auth/[^/]+/role/[^/]+)"): _write_role,
    ("DELETE", "(auth/[^/]+/role/[^/]+)"): _delete_role,
    ("GET", "(auth/approle/role/[^/]+)/role-id"): _read_role_id,
    ("PUT POST", "(auth/approle/role/[^/]+)/role-id"): _write_role_id,
    ("LIST", "auth/token/accessors/?"): _list_accessors,
    ("PUT POST", "auth/token/lookup-accessor"): _lookup_accessor,
    ("PUT POST", "auth/token/revoke-accessor"): _revoke_accessor,
    ("GET", "identity/entity/id/([^/]+)"): _read_entity,
    ("PUT POST", "identity/entity/id/([^/]+)"): _update_entity,
    ("GET", "sys/policies/acl/([^/]+)"): _read_policy,
    ("PUT POST", "sys/audit-hash/(.+)"): _audit_hash,
    ("LIST", "auth/approle/role/([^/]+)/secret-id"): _list_secret_ids,
    ("PUT POST", "auth/approle/role/([^/]+)/secret-id-accessor/destroy"): _destroy_secret_id,
    ("GET", "([^/]+)/data/(.+)"): _read_kv,
    ("PUT POST", "([^/]+)/data/(.+)"): _write_kv,
}
