"""The simulated GitHub behind its REST API: paths, status codes, headers and refusals as api.github.com gives them."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import jwt

from bot.errors import Denied, Rejected, Unavailable
from bot.ports.github import Environment, RefPattern
from bot.sandbox.github import SimGithub
from bot.sandbox.loopback import Loopback

Answer = tuple[int, Mapping[str, Any] | None]  # status, JSON body; None is no content
OWN = 1  # the bot's own installation
NO_CONTENT: Answer = (204, None)
NOT_FOUND: Answer = (404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})


class GithubServer(Loopback):
    """GitHub on 127.0.0.1 and a free port, in front of `sim`. It takes `token`, JSON Web Tokens of app `app` that
    verify by `public_key` (PEM), and the installation tokens that it hands out for those. Faults of the simulator
    become GitHub's answers: Denied 403, Rejected 422, Unavailable 503, or with `retry_after` the rate limit, `throttle`
    (`primary` by 403 and `x-ratelimit-*`, `secondary` by 429 and `retry-after`); Unavailable(sent=True) is silence for
    `hang` seconds. `odd` answers the next request of a path by itself."""

    def __init__(self, sim: SimGithub, token: str, *, app: str = "", public_key: str = "", hang: float = 5.0) -> None:
        self.sim, self.token, self.app, self.public_key, self.hang = sim, token, app, public_key, hang
        self.throttle = "primary"
        self.odd: dict[str, tuple[int, Mapping[str, Any], Mapping[str, str]]] = {}
        self.asked: list[str] = []  # "METHOD path", in order
        self._issued: dict[str, int] = {}  # installation tokens
        self._pattern_ids: dict[tuple[str, str, RefPattern], int] = {}
        super().__init__(_handler(self))

    def reply(self, method: str, path: str, query: Mapping[str, str], bearer: str, body: Mapping[str, Any]) -> Answer:
        """Raises the simulator's faults. The caller was let in by `bearer`, or gets 401."""
        if path == "/app" or path.startswith("/app/") or path.endswith("/installation"):
            if not self._is_app(bearer):
                return 401, {"message": "A JSON web token could not be decoded"}
        elif bearer in self._issued:
            if path == "/installation/repositories" or self._issued[bearer] != OWN:
                return self._as_installation(self._issued[bearer], path)
        elif bearer != self.token:
            return 401, {"message": "Bad credentials"}
        for (verb, pattern), route in ROUTES.items():
            if verb == method and (match := re.fullmatch(pattern, path)):
                return route(self, tuple(map(unquote, match.groups())), query, body)
        return NOT_FOUND

    def _is_app(self, bearer: str) -> bool:
        """Of the right app, and good for ten minutes at most. Whether it has ended yet is the simulator's clock's."""
        try:
            claims = jwt.decode(
                bearer, self.public_key, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
            )
        except jwt.PyJWTError:
            return False
        now = self.sim.clock.now().timestamp()
        return bool(claims["iss"] == self.app and claims["iat"] <= now < claims["exp"] <= claims["iat"] + 660)

    def _as_installation(self, id: int, path: str) -> Answer:
        try:
            self.sim.use_installation(id)
        except Denied:
            return 403, {"message": f"Sorry. Your installation {id} was suspended"}
        if path != "/installation/repositories":
            return 403, {"message": "Resource not accessible by integration"}
        return 200, {"total_count": 0, "repositories": []}

    def mint(self, id: int) -> Answer:
        token = "ghs_" + secrets.token_hex(18)
        self._issued[token] = id
        ends = self.sim.clock.now() + timedelta(hours=1)
        return 201, {"token": token, "expires_at": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "permissions": {}}

    def pattern_id(self, repository: str, environment: str, pattern: RefPattern) -> int:
        return self._pattern_ids.setdefault((repository, environment, pattern), 500 + len(self._pattern_ids))


Route = Callable[[GithubServer, tuple[str, ...], Mapping[str, str], Mapping[str, Any]], Answer]


def _handler(server: GithubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one segment an answer

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            server.asked.append(f"{self.command} {url.path}")
            if not self.headers.get("User-Agent"):
                self._send(403, {"message": "Request forbidden by administrative rules."})
                return
            if odd := server.odd.pop(url.path, None):
                self._send(*odd)
                return
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            try:
                self._send(*server.reply(self.command, url.path, query, bearer, body))
            except Denied as refused:
                self._send(403, {"message": refused.why}, {"X-Accepted-GitHub-Permissions": "actions=write"})
            except Rejected as rejected:
                self._send(422, {"message": rejected.why})
            except Unavailable as fault:
                self._fail(fault)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def _fail(self, fault: Unavailable) -> None:
            if fault.sent:
                server.stopped.wait(server.hang)
                self.close_connection = True
            elif fault.retry_after is None:
                self._send(503, {"message": fault.why})
            elif server.throttle == "primary":
                reset = server.sim.clock.now().timestamp() + fault.retry_after
                headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{reset:.0f}"}
                self._send(403, {"message": "API rate limit exceeded"}, headers)
            else:
                headers = {"Retry-After": f"{fault.retry_after:.0f}"}
                self._send(429, {"message": "You have exceeded a secondary rate limit"}, headers)

        def _send(self, status: int, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None = None) -> None:
            content = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json; charset=utf-8")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Silent: the caller's record is the log."""

    return Handler


def _app(server: GithubServer, _: tuple[str, ...], __: Mapping[str, str], ___: Mapping[str, Any]) -> Answer:
    return 200, {"id": int(server.app), "slug": "agents"}


def _rate_limit(_: GithubServer, __: tuple[str, ...], ___: Mapping[str, str], ____: Mapping[str, Any]) -> Answer:
    return 200, {"resources": {"core": {"limit": 5000, "remaining": 4999}}}


# Installations ------------------------------------------------------------------------------------------------------


def _installation(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    found = server.sim.installation(int(path[0]))
    if found is None:
        return NOT_FOUND
    at = "2026-03-01T09:00:00Z" if found.suspended else None
    return 200, {
        "id": found.id,
        "account": {"login": found.account, "type": "Organization"},
        "app_slug": found.app,
        "suspended_at": at,
        "suspended_by": {"login": "firedoor"} if at else None,
    }


def _suspend(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    server.sim.suspend(int(path[0]))
    return NO_CONTENT


def _unsuspend(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    server.sim.unsuspend(int(path[0]))
    return NO_CONTENT


def _token(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    id = int(path[0])
    if id != OWN:
        if not server.sim.take_probe(id):
            return 403, {"message": "This installation has been suspended"}
        server.sim.use_installation(id)
    return server.mint(id)


def _own(_: GithubServer, path: tuple[str, ...], __: Mapping[str, str], ___: Mapping[str, Any]) -> Answer:
    return 200, {"id": OWN, "account": {"login": path[0].partition("/")[0]}, "suspended_at": None}


# Workflows and runs -------------------------------------------------------------------------------------------------


def _workflow(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    found = server.sim.workflow(*path)
    return NOT_FOUND if found is None else (200, {"id": 7, "path": found.path, "state": found.state})


def _switch(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    server.sim.set_workflow(path[0], path[1], enabled=path[2] == "enable")
    return NO_CONTENT


def _runs(server: GithubServer, path: tuple[str, ...], query: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    found = [run for run in server.sim.runs(path[0]) if run.status == query.get("status", run.status)]
    shown = [
        {
            "id": run.id,
            "path": run.workflow,
            "status": run.status,
            "actor": {"login": min(run.actors)},
            "triggering_actor": {"login": max(run.actors)},
        }
        for run in _page(found, query)
    ]
    return 200, {"total_count": len(found), "workflow_runs": shown}


def _cancel(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    repository, id, how = path
    known = int(id) in server.sim.running(repository)
    server.sim.cancel_run(repository, int(id), force=how == "force-cancel")
    return (202, {}) if known else (409, {"message": "Cannot cancel a workflow run that is completed."})


# Environments -------------------------------------------------------------------------------------------------------


def _environment(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    found = server.sim.environment(*path)
    if found is None:
        return NOT_FOUND
    rules: list[dict[str, Any]] = []
    if found.wait_timer:
        rules.append({"id": 1, "type": "wait_timer", "wait_timer": found.wait_timer})
    if found.reviewers:
        people = [{"type": kind, "reviewer": {"id": id}} for kind, id in found.reviewers]
        own = {"prevent_self_review": found.prevent_self_review, "reviewers": people}
        rules.append({"id": 2, "type": "required_reviewers", **own})
    policy = None
    if found.branches != "all":
        rules.append({"id": 3, "type": "branch_policy"})
        custom = found.branches == "patterns"
        policy = {"protected_branches": not custom, "custom_branch_policies": custom}
    return 200, {
        "id": 9,
        "name": found.name,
        "protection_rules": rules,
        "deployment_branch_policy": policy,
        "can_admins_bypass": found.admins_bypass,
    }


def _put_environment(
    server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], body: Mapping[str, Any]
) -> Answer:
    """What the body leaves out is dropped; patterns stay as long as the policy has patterns."""
    policy = body.get("deployment_branch_policy")
    if policy and policy["protected_branches"] == policy["custom_branch_policies"]:
        return 422, {"message": "protected_branches and custom_branch_policies cannot have the same value"}
    custom = bool(policy and policy["custom_branch_policies"])
    held = server.sim.environment(*path)
    server.sim.set_environment(
        path[0],
        Environment(
            name=path[1],
            branches="patterns" if custom else "protected" if policy else "all",
            patterns=held.patterns if held and custom else (),
            wait_timer=body.get("wait_timer") or 0,
            reviewers=tuple(sorted((one["type"], one["id"]) for one in body.get("reviewers") or ())),
            prevent_self_review=bool(body.get("prevent_self_review")),
        ),
    )
    return _environment(server, path, {}, {})


def _patterns(server: GithubServer, path: tuple[str, ...], query: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    held = server.sim.environment(*path)
    if held is None:
        return NOT_FOUND
    shown = [
        {"id": server.pattern_id(path[0], path[1], one), "name": one.name, "type": one.type}
        for one in _page(held.patterns, query)
    ]
    return 200, {"total_count": len(held.patterns), "branch_policies": shown}


def _add_pattern(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], body: Mapping[str, Any]) -> Answer:
    held = server.sim.environment(*path)
    if held is None or held.branches != "patterns":
        return NOT_FOUND
    made = RefPattern(body["name"], body.get("type", "branch"))
    if made in held.patterns:
        return 303, None
    _set_patterns(server, path, held, (*held.patterns, made))
    return 200, {"id": server.pattern_id(path[0], path[1], made), "name": made.name, "type": made.type}


def _drop_pattern(server: GithubServer, path: tuple[str, ...], _: Mapping[str, str], __: Mapping[str, Any]) -> Answer:
    held = server.sim.environment(*path[:2])
    found = [one for one in held.patterns if server.pattern_id(path[0], path[1], one) == int(path[2])] if held else []
    if held is None or not found:
        return NOT_FOUND
    _set_patterns(server, path, held, tuple(one for one in held.patterns if one not in found))
    return NO_CONTENT


def _set_patterns(
    server: GithubServer, path: tuple[str, ...], held: Environment, patterns: tuple[RefPattern, ...]
) -> None:
    kept = Environment(path[1], "patterns", patterns, held.wait_timer, held.reviewers, held.prevent_self_review)
    server.sim.set_environment(path[0], kept)


def _page(found: Any, query: Mapping[str, str]) -> Any:
    size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
    return found[(page - 1) * size : page * size]


_REPOSITORY = "/repos/([^/]+/[^/]+)"
_ENVIRONMENT = f"{_REPOSITORY}/environments/([^/]+)"
ROUTES: Mapping[tuple[str, str], Route] = {
    ("GET", "/app"): _app,
    ("GET", "/rate_limit"): _rate_limit,
    ("GET", r"/app/installations/(\d+)"): _installation,
    ("PUT", r"/app/installations/(\d+)/suspended"): _suspend,
    ("DELETE", r"/app/installations/(\d+)/suspended"): _unsuspend,
    ("POST", r"/app/installations/(\d+)/access_tokens"): _token,
    ("GET", f"{_REPOSITORY}/installation"): _own,
    ("GET", f"{_REPOSITORY}/actions/workflows/([^/]+)"): _workflow,
    ("PUT", f"{_REPOSITORY}/actions/workflows/([^/]+)/(enable|disable)"): _switch,
    ("GET", f"{_REPOSITORY}/actions/runs"): _runs,
    ("POST", rf"{_REPOSITORY}/actions/runs/(\d+)/(cancel|force-cancel)"): _cancel,
    ("GET", _ENVIRONMENT): _environment,
    ("PUT", _ENVIRONMENT): _put_environment,
    ("GET", f"{_ENVIRONMENT}/deployment-branch-policies"): _patterns,
    ("POST", f"{_ENVIRONMENT}/deployment-branch-policies"): _add_pattern,
    ("DELETE", rf"{_ENVIRONMENT}/deployment-branch-policies/(\d+)"): _drop_pattern,
}
