"""GitHub's REST API (version 2022-11-28) over the bot's own HTTP client."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import quote, urlencode

from bot.adapters.http import MIB, Answer, Site
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Clock
from bot.ports.github import Environment, Installation, RefPattern, Run, Workflow

_VERSION = "2022-11-28"
_PAGE = 50  # a run is up to 20 KiB of JSON
_PAGES = 20  # GitHub shows a filtered list up to 1,000 results
_UNFINISHED = ("queued", "in_progress", "requested", "waiting", "pending")
_EARLY = timedelta(minutes=5)  # before its end a token is not relied on any more
_SECONDARY = 60.0  # seconds: what GitHub asks to wait where it names no time


@dataclass(frozen=True, slots=True)
class AppKey:
    """A GitHub App: its id (or client id), and one of its private keys in PEM, asked late."""

    id: str
    private_key: Callable[[], str]


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    ends: datetime


class _Throttling(Site):
    """A site that says by GitHub's own headers how long to wait."""

    def __init__(self, system: str, url: str, clock: Clock, tls: ssl.SSLContext | None) -> None:
        super().__init__(system, url, tls=tls)
        self._clock = clock

    def _judge(self, answer: Answer) -> None:
        """Throttled is 403 or 429, with `x-ratelimit-remaining: 0`, with `retry-after`, or only in words."""
        message = str(answer.body().get("message", ""))
        spent = answer.headers.get("x-ratelimit-remaining") == "0"
        limited = spent or "retry-after" in answer.headers or "rate limit" in message.lower()
        if answer.status == 429 or (answer.status == 403 and limited):
            raise Unavailable(self.system, f"throttled: {message}", retry_after=self._wait(answer.headers, spent=spent))
        super()._judge(answer)

    def _wait(self, headers: Mapping[str, str], *, spent: bool) -> float:
        if (named := headers.get("retry-after", "")).isdecimal():
            return float(named)
        if spent and (reset := headers.get("x-ratelimit-reset", "")).isdecimal():
            return max(1.0, float(reset) - self._clock.now().timestamp())
        return _SECONDARY


class HttpGithub:
    """ports.Github. Authenticated by `token`, or as a GitHub App by `app`: then each repository's calls carry a token
    of the app's own installation there. `url` is https://api.github.com, or https://HOST/api/v3 of a GitHub Enterprise
    Server. No address is taken from an answer, and no redirect is followed."""

    def __init__(
        self,
        name: str,
        url: str,
        clock: Clock,
        *,
        token: Callable[[], str] | None = None,
        app: AppKey | None = None,
        timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._site, self._clock, self._timeout = _Throttling(name, url, clock, tls), clock, timeout
        self._token, self._app = token, app
        self._installations: dict[str, int] = {}  # by owner
        self._tokens: dict[int, _Token] = {}  # of the app's own installations
        self._probes: dict[int, _Token] = {}
        self._signed: tuple[str, _Token] | None = None  # by which key
        self._lock = threading.Lock()

    def close(self) -> None:
        self._site.close()

    def identity(self) -> str:
        """Whom GitHub takes the connection for. Raises Denied where it takes it for nobody."""
        if self._token is not None:
            answer = self._ask("GET", "/rate_limit", f"Bearer {self._token()}")  # every token may, and it costs nothing
            limit = ((self._ok(answer, "to look at the token").body().get("resources") or {}).get("core") or {}).get(
                "limit"
            )
            return f"the holder of a token with {limit} calls an hour"
        return f"the app {self._ok(self._as_app('GET', '/app'), 'to look at the app').body().get('slug')}"

    # Installations ----------------------------------------------------------------------------------------------

    def installation(self, id: int) -> Installation | None:
        answer = self._as_app("GET", f"/app/installations/{id}")
        if answer.status == 404:
            return None
        body = self._ok(answer, f"to read installation {id}").body()
        account = body.get("account") or {}
        suspended = bool(body.get("suspended_at"))
        return Installation(id, str(account.get("login", "")), str(body.get("app_slug", "")), suspended)

    def suspend(self, id: int) -> None:
        self._ok(self._as_app("PUT", f"/app/installations/{id}/suspended"), f"to suspend installation {id}")

    def unsuspend(self, id: int) -> None:
        self._ok(self._as_app("DELETE", f"/app/installations/{id}/suspended"), f"to unsuspend installation {id}")
        with self._lock:
            self._probes.pop(id, None)

    def take_probe(self, id: int) -> bool:
        answer = self._as_app("POST", f"/app/installations/{id}/access_tokens", {"permissions": {"metadata": "read"}})
        if not 200 <= answer.status < 300:  # suspended already, or never granted metadata
            return False
        probe = self._minted(answer)
        if not self._accepted(probe):
            return False
        with self._lock:
            self._probes[id] = probe
        return True

    def probe_refused(self, id: int) -> bool | None:
        with self._lock:
            probe = self._probes.get(id)
        if probe is None or probe.ends - _EARLY <= self._clock.now():
            return None
        return not self._accepted(probe)

    def _accepted(self, probe: _Token) -> bool:
        try:
            answer = self._ask("GET", "/installation/repositories?per_page=1", f"Bearer {probe.value}")
        except Denied:  # 401
            return False
        return answer.status not in (403, 404)

    # Workflows and their runs -----------------------------------------------------------------------------------

    def workflow(self, repository: str, file: str) -> Workflow | None:
        answer = self._of(repository, "GET", f"/actions/workflows/{quote(file, safe='')}")
        if answer.status == 404:
            return None
        body = self._ok(answer, f"to read {file} of {repository}").body()
        return Workflow(str(body.get("path", "")), str(body.get("state", "")))

    def set_workflow(self, repository: str, file: str, *, enabled: bool) -> None:
        verb = "enable" if enabled else "disable"
        answer = self._of(repository, "PUT", f"/actions/workflows/{quote(file, safe='')}/{verb}")
        self._ok(answer, f"to {verb} {file} of {repository}")

    def runs(self, repository: str) -> tuple[Run, ...]:
        found: dict[int, Run] = {}
        for status in _UNFINISHED:
            for run in self._pages(repository, "/actions/runs", "workflow_runs", status=status):
                actors = {str((run.get(role) or {}).get("login", "")) for role in ("actor", "triggering_actor")}
                path = str(run.get("path", "")).partition("@")[0]  # a reusable one carries its ref
                found[int(run["id"])] = Run(int(run["id"]), path, frozenset(actors - {""}), str(run["status"]))
        return tuple(found[id] for id in sorted(found))

    def cancel_run(self, repository: str, id: int, *, force: bool = False) -> None:
        answer = self._of(repository, "POST", f"/actions/runs/{id}/{'force-cancel' if force else 'cancel'}")
        if answer.status not in (404, 409):  # it has ended
            self._ok(answer, f"to cancel run {id} of {repository}")

    # Environments -----------------------------------------------------------------------------------------------

    def environment(self, repository: str, name: str) -> Environment | None:
        answer = self._of(repository, "GET", f"/environments/{quote(name, safe='')}")
        if answer.status == 404:
            return None
        body = self._ok(answer, f"to read environment {name} of {repository}").body()
        rules = {str(rule.get("type")): rule for rule in body.get("protection_rules") or ()}
        reviews, branches = rules.get("required_reviewers", {}), _branches(body.get("deployment_branch_policy"))
        held = self._patterns(repository, name) if branches == "patterns" else {}
        return Environment(
            name=str(body.get("name", name)),
            branches=branches,
            patterns=tuple(sorted(held)),
            wait_timer=int(rules.get("wait_timer", {}).get("wait_timer") or 0),
            reviewers=tuple(
                sorted((str(one["type"]), int(one["reviewer"]["id"])) for one in reviews.get("reviewers", ()))
            ),
            prevent_self_review=bool(reviews.get("prevent_self_review")),
            admins_bypass=bool(body.get("can_admins_bypass")),
        )

    def set_environment(self, repository: str, wanted: Environment) -> None:
        """GitHub drops what the call leaves out; but a rule that the plan does not know is refused even when empty."""
        policy = {
            "protected_branches": wanted.branches == "protected",
            "custom_branch_policies": wanted.branches == "patterns",
        }
        body: dict[str, Any] = {"deployment_branch_policy": None if wanted.branches == "all" else policy}
        if wanted.wait_timer:
            body["wait_timer"] = wanted.wait_timer
        if wanted.reviewers:
            body["reviewers"] = [{"type": kind, "id": id} for kind, id in wanted.reviewers]
            body["prevent_self_review"] = wanted.prevent_self_review
        path = f"/environments/{quote(wanted.name, safe='')}"
        self._ok(self._of(repository, "PUT", path, body), f"to write environment {wanted.name} of {repository}")
        if wanted.branches != "patterns":
            return
        held = self._patterns(repository, wanted.name)
        for pattern in wanted.patterns:
            if pattern not in held:
                made = {"name": pattern.name, "type": pattern.type}
                answer = self._of(repository, "POST", f"{path}/deployment-branch-policies", made)
                self._ok(answer, f"to let {pattern.name} deploy to {wanted.name}")
        for pattern, id in held.items():
            if pattern not in wanted.patterns:
                answer = self._of(repository, "DELETE", f"{path}/deployment-branch-policies/{id}")
                if answer.status != 404:
                    self._ok(answer, f"to keep {pattern.name} from deploying to {wanted.name}")

    def _patterns(self, repository: str, environment: str) -> dict[RefPattern, int]:
        path = f"/environments/{quote(environment, safe='')}/deployment-branch-policies"
        return {
            RefPattern(str(one["name"]), str(one.get("type") or "branch")): int(one["id"])
            for one in self._pages(repository, path, "branch_policies")
        }

    # Inside -----------------------------------------------------------------------------------------------------

    def _pages(self, repository: str, path: str, key: str, **query: str) -> Iterator[Mapping[str, Any]]:
        for page in range(1, _PAGES + 1):
            asked = urlencode({**query, "per_page": _PAGE, "page": page})
            body = self._ok(self._of(repository, "GET", f"{path}?{asked}"), f"to list {key} of {repository}").body()
            found = body.get(key)
            if not isinstance(found, list):
                raise Rejected(self._site.system, f"an answer that is not GitHub's: no {key}")
            yield from found
            if len(found) < _PAGE:
                return

    def _of(self, repository: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        owner, _, name = repository.partition("/")
        at = f"/repos/{quote(owner, safe='')}/{quote(name, safe='')}"
        if self._token is not None:
            return self._ask(method, at + path, f"Bearer {self._token()}", body)
        return self._ask(method, at + path, f"Bearer {self._own(owner, at)}", body)

    def _own(self, owner: str, at: str) -> str:
        """A token of the app's own installation on that account."""
        with self._lock:
            id = self._installations.get(owner)
            held = self._tokens.get(id) if id else None
        if held and held.ends - _EARLY > self._clock.now():
            return held.value
        if id is None:
            found = self._ok(self._as_app("GET", f"{at}/installation"), f"to find its own installation on {owner}")
            id = int(found.body().get("id") or 0)
        minted = self._minted(
            self._ok(self._as_app("POST", f"/app/installations/{id}/access_tokens"), f"to get a token for {owner}")
        )
        with self._lock:
            self._installations[owner], self._tokens[id] = id, minted
        return minted.value

    def _minted(self, answer: Answer) -> _Token:
        body = answer.body()
        try:
            return _Token(str(body["token"]), datetime.fromisoformat(str(body["expires_at"])).astimezone(UTC))
        except (KeyError, ValueError) as odd:
            raise Rejected(self._site.system, f"an answer that is not GitHub's: no token ({odd!r})") from odd

    def _as_app(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        if self._app is None:
            why = "it is no GitHub App: give the connection `app_id` and `private_key`"
            raise Rejected(self._site.system, why)
        return self._ask(method, path, f"Bearer {self._jwt(self._app)}", body)

    def _jwt(self, app: AppKey) -> str:
        import jwt  # only those who have GitHub pay for it

        pem, now = app.private_key(), self._clock.now()
        if self._signed and self._signed[0] == pem and self._signed[1].ends - _EARLY > now:
            return self._signed[1].value
        at = int(now.timestamp())
        claims = {"iat": at - 60, "exp": at + 540, "iss": app.id}  # GitHub takes ten minutes at most
        try:
            signed = jwt.encode(claims, pem, algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError) as odd:
            why = f"the private key of app {app.id} is no RSA key in PEM ({type(odd).__name__}): download it anew"
            raise Rejected(self._site.system, why) from odd
        self._signed = (pem, _Token(signed, now + timedelta(seconds=540)))  # reading the key takes longer than the call
        return signed

    def _ask(self, method: str, path: str, authorization: str, body: Mapping[str, Any] | None = None) -> Answer:
        headers = {
            "accept": "application/vnd.github+json",
            "authorization": authorization,
            "user-agent": "firedoor",
            "x-github-api-version": _VERSION,
        }
        content = b""
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body).encode()
        return self._site.send(method, path, headers=headers, content=content, timeout=self._timeout, limit=8 * MIB)

    def _ok(self, answer: Answer, what: str) -> Answer:
        """Raises unless it was done. 404 may mean that the bot may not see it: GitHub does not tell."""
        if 200 <= answer.status < 300:
            return answer
        said = str(answer.body().get("message", ""))[:200]
        match answer.status:
            case 403:
                needs = answer.headers.get("x-accepted-github-permissions", "")
                hint = f"; the call needs {needs}" if needs else ""
                raise Denied(self._site.system, f"GitHub refused {what}: {said}{hint}")
            case 404:
                raise Rejected(self._site.system, f"GitHub knows nothing {what}, or the bot may not see it")
            case status:
                raise Rejected(self._site.system, f"GitHub answered {status} {what}: {said}", retryable=status >= 500)


def _branches(policy: Mapping[str, Any] | None) -> Literal["all", "protected", "patterns"]:
    if not policy:
        return "all"
    return "patterns" if policy.get("custom_branch_policies") else "protected"
