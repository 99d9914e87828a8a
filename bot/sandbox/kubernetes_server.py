"""The simulated cluster behind HTTP, answering with the API server's own status codes and Status bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bot.errors import Denied, Rejected, Unavailable
from bot.ports.kubernetes import SERVED
from bot.sandbox.kubernetes_api import KINDS, Answered, Object, SimApi
from bot.sandbox.loopback import Loopback

Answer = tuple[int, Mapping[str, Any] | str]  # status, and JSON or text
REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}
REVIEWS = "apis/authentication.k8s.io/v1"
ACCESS = "apis/authorization.k8s.io/v1"
_PATH = re.compile(
    rf"({'|'.join(sorted({*SERVED.values()}))})/(?:namespaces/([^/]+)/)?([a-z]+)(?:/([^/]+))?(?:/([a-z]+))?"
)


class KubernetesServer(Loopback):
    """An API server on 127.0.0.1 and a free port, in front of `sim`: what is set up or broken there shows here. `token`
    is the bot's. Faults of the simulator become its answers (Denied 403, Rejected 422 or as they say, Unavailable 503
    or, with `retry_after`, 429); Unavailable(sent=True) is silence for `hang` seconds."""

    def __init__(self, sim: SimApi, token: str, *, hang: float = 5.0) -> None:
        self.sim, self.token, self.hang = sim, token, hang
        self._odd: list[tuple[str, int, str]] = []
        super().__init__(_handler(self))

    def answer_once(self, path: str, status: int, text: str) -> None:
        """The next request of `path` gets this, whatever it asks: a proxy's page, a redirect, half an answer."""
        self._odd.append((path, status, text))

    def reply(self, method: str, path: str, query: Mapping[str, str], token: str, body: Object, accept: str) -> Answer:
        """`path` without its first slash. Raises the simulator's faults."""
        for at, (odd_path, status, text) in enumerate(self._odd):
            if odd_path == path:
                del self._odd[at]
                return status, text
        user = self.sim.bot if token == self.token else self.sim.user_of(token)
        if not user:
            return 401, status_of(401, "Unauthorized")
        if path in (f"{REVIEWS}/selfsubjectreviews", f"{REVIEWS}/tokenreviews", f"{ACCESS}/selfsubjectaccessreviews"):
            return 201, self._review(path, user, body)
        if method == "GET" and (found := discovery(path)) is not None:
            return 200, found
        if user != self.sim.bot:
            why = f'User "{user}" cannot {method.lower()} path "/{path}"'
            return 403, status_of(403, why)
        match = _PATH.fullmatch(path)
        if match is None or SERVED.get(match[3]) != match[1]:
            return 404, status_of(404, "the server could not find the requested resource")
        return self._serve(method, match[2] or "", match[3], match[4] or "", match[5] or "", query, body, accept)

    def _serve(
        self,
        method: str,
        namespace: str,
        resource: str,
        name: str,
        part: str,
        query: Mapping[str, str],
        body: Object,
        accept: str,
    ) -> Answer:
        sim = self.sim
        match (method, bool(name), part):
            case ("GET", False, ""):
                found = sim.find(resource, namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
                return 200, listing(resource, found, query, bare="PartialObjectMetadataList" in accept)
            case ("POST", False, ""):
                return 201, sim.create(resource, namespace, body)
            case ("GET", True, ""):
                return 200, sim.get(resource, namespace, name)
            case ("PUT", True, ""):
                return 200, sim.replace(resource, namespace, name, body)
            case ("PATCH", True, ""):
                return 200, sim.merge(resource, namespace, name, body)
            case ("PATCH", True, "scale"):
                return 200, scale_of(sim.merge(resource, namespace, name, body, "/scale"))
            case ("DELETE", True, ""):
                return 200, sim.remove(resource, namespace, name, (body.get("preconditions") or {}).get("uid", ""))
            case ("GET", True, "scale"):
                return 200, scale_of(sim.get(resource, namespace, name, part="/scale"))
            case ("GET", True, "log"):
                limit = int(query.get("limitBytes", 1 << 20))
                previous, container = query.get("previous") == "true", query.get("container", "agent")
                return 200, sim.log(namespace, name, container, previous=previous, limit=limit)
            case ("POST", True, "token"):
                token, expires = sim.token_request(namespace, name, int(body["spec"]["expirationSeconds"]))
                return 201, {**body, "status": {"token": token, "expirationTimestamp": _time(expires)}}
        return 405, status_of(405, "the server does not allow this method on the requested resource")

    def _review(self, path: str, user: str, body: Object) -> Object:
        spec = body.get("spec") or {}
        match path.rpartition("/")[2]:
            case "selfsubjectreviews":
                with self.sim.call("create", "selfsubjectreviews"):
                    return {**body, "status": {"userInfo": {"username": user, "groups": ["system:authenticated"]}}}
            case "tokenreviews":
                return {**body, "status": self.sim.token_review(str(spec.get("token")), spec.get("audiences") or ())}
        asked = spec.get("resourceAttributes") or {}
        part = f"/{asked['subresource']}" if asked.get("subresource") else ""
        denied = {f"{asked.get('verb')} {asked.get('resource')}{part}", "*"} & self.sim.denied
        return {**body, "status": {"allowed": user == self.sim.bot and not denied}}


def _handler(server: KubernetesServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one segment an answer; two would wait for the client's delayed ACK

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            wait: float | None = None
            try:
                body = json.loads(content or b"{}")
                path, accept = unquote(url.path[1:]), self.headers.get("Accept", "")
                status, answer = server.reply(self.command, path, query, token, body, accept)
            except ValueError:  # protobuf, as kubectl would rather send, or garbage
                status, answer = 415, status_of(415, "the body of the request was no JSON", "UnsupportedMediaType")
            except Denied as refused:
                status, answer = 403, status_of(403, refused.why)
            except Answered as refused:
                status, answer = refused.code, status_of(refused.code, refused.why, refused.reason)
            except Rejected as refused:
                status, answer = 422, status_of(422, refused.why, "Invalid")
            except Unavailable as fault:
                if fault.sent:
                    server.stopped.wait(server.hang)
                    self.close_connection = True
                    return
                wait = fault.retry_after
                status = 503 if wait is None else 429
                answer = status_of(status, fault.why)
            self._send(status, answer, wait)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def _send(self, status: int, answer: Mapping[str, Any] | str, wait: float | None) -> None:
            text = isinstance(answer, str)
            content = str(answer).encode() if text else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(content)))
            if wait is not None:
                self.send_header("Retry-After", f"{wait:.0f}")
            if 300 <= status < 400:
                self.send_header("Location", str(answer))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Silent: the caller's record is the log."""

    return Handler


def status_of(code: int, why: str, reason: str = "") -> Object:
    """A failure, as the API says it."""
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**head, "message": why, "reason": reason or REASONS.get(code, "Unknown"), "code": code}


def scale_of(held: Object) -> Object:
    replicas = {"replicas": held["spec"].get("replicas", 1)}
    head = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": held["metadata"]}
    return {**head, "spec": replicas, "status": replicas}


def listing(resource: str, found: list[Object], query: Mapping[str, str], *, bare: bool) -> Object:
    """A page of a list: `continue` is where the next begins. `bare`: metadata only."""
    start, limit = int(query.get("continue") or 0), int(query.get("limit") or 0)
    end = start + limit if limit else len(found)
    items = [{"metadata": each["metadata"]} for each in found] if bare else found
    version = SERVED[resource].removeprefix("apis/").removeprefix("api/")
    kind = {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList"} if bare else {
        "apiVersion": version,
        "kind": f"{KINDS[resource]}List",
    }  # fmt: skip
    more = {"continue": str(end)} if end < len(found) else {}
    return {**kind, "metadata": {"resourceVersion": "1", **more}, "items": items[start:end]}


def discovery(path: str) -> Object | None:
    """What the API offers, for clients that look first (kubectl does)."""
    groups = sorted({where.removeprefix("apis/") for where in SERVED.values() if where.startswith("apis/")})
    if path == "version":
        return {"major": "1", "minor": "32", "gitVersion": "v1.32.0-sandbox", "platform": "linux/amd64"}
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        offered = []
        for each in groups:
            version = {"groupVersion": each, "version": each.rpartition("/")[2]}
            offered.append({"name": each.rpartition("/")[0], "versions": [version], "preferredVersion": version})
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": offered}
    if path not in SERVED.values():
        return None
    here = sorted(resource for resource, where in SERVED.items() if where == path)
    verbs = ["create", "delete", "get", "list", "patch", "update"]
    resources = [
        {"name": each, "singularName": KINDS[each].lower(), "namespaced": True, "kind": KINDS[each], "verbs": verbs}
        for each in here
    ]
    if path == "apis/apps/v1":
        scale = {
            "namespaced": True,
            "group": "autoscaling",
            "version": "v1",
            "kind": "Scale",
            "verbs": ["get", "patch"],
        }
        resources += [{"name": f"{each}/scale", "singularName": "", **scale} for each in here]
    if path == "api/v1":
        token: Object = {"namespaced": True, "group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
        resources.append({"name": "serviceaccounts/token", "singularName": "", **token, "verbs": ["create"]})
        resources.append({"name": "pods/log", "singularName": "", "namespaced": True, "kind": "Pod", "verbs": ["get"]})
    group = path.removeprefix("apis/").removeprefix("api/")
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources}


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
