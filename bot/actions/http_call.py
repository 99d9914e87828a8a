"""http.call: one request to a connection that the operator configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import Action
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Unknown
from bot.domain.playbook import Param, Target
from bot.errors import Unavailable
from bot.ports import Ports, connected

_IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")  # RFC 9110, 9.2.2
_LATER = (408, 425, 429)
_LONGEST = 200  # characters of an output


class HttpCall(Action):
    """Sends one request to a configured connection, with the decision's key as `Idempotency-Key`. It succeeds when the
    status is expected. The record keeps the status, and of the answer's JSON object only the fields named in `keep`
    (texts cut at 200 characters). A POST or PATCH whose answer got lost is `unknown`, unless `idempotent: true` says
    that the other side honours the key. Taking it back is another call, written as the step's `rollback`."""

    id = "http.call"
    params = (
        Param("connection", doc="name of an HTTP connection in firedoor.yaml"),
        Param("path", doc="path below the connection's URL, beginning with /"),
        Param("method", required=False, default="POST", choices=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")),
        Param("body", "mapping", required=False, doc="sent as JSON"),
        Param("expect", "list", required=False, doc="statuses that mean success; any 2xx when left out"),
        Param("keep", "list", required=False, default=(), doc="fields of the answer that later steps may read"),
        Param("idempotent", "boolean", required=False, default=False, doc="a repeated key is carried out once"),
        Param("timeout", "number", required=False, default=30, doc="seconds"),
    )
    outputs = ("status", "body")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {"http": ("the method and path of the step",)}
    example = """\
uses: http.call
with: {connection: deploy_api, path: /rollback, body: {release: previous}, keep: [deployment]}
rollback: {uses: http.call, with: {connection: deploy_api, path: /rollforward}}
irreversible: true
"""
    containing = False
    best_grade = Grade.UNVERIFIED
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        if not params["path"].startswith("/"):
            raise ValueError(f"path {params['path']!r} must begin with /: the host is the connection's")
        return (Target(f"endpoint:{params['connection']}", dict(params), params["connection"]),)

    def run(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        key: str,
        so_far: Mapping[str, Any] | None = None,
    ) -> Outcome:
        endpoint = connected(ports.endpoints, params["connection"])
        method, path = _method(params), params["path"]
        try:
            status, body = endpoint.request(
                method, path, params.get("body"), key=key, timeout=float(params.get("timeout") or 30)
            )
        except Unavailable as error:
            if error.sent and not self.repeatable(params):
                why = f"{method} {path} may have been carried out: {error.why}. Look at {error.system}, then settle it"
                return Unknown(why)
            raise
        expected = params.get("expect") or range(200, 300)
        if status not in expected:
            later = status in _LATER or (status >= 500 and self.repeatable(params))
            return Failed(retryable=later, why=f"{params['connection']} answered {status} to {method} {path}")
        kept = {name: _short(body[name]) for name in params.get("keep") or () if name in body}
        return Done(Grade.UNVERIFIED, {"status": status, "body": kept})

    def repeatable(self, params: Mapping[str, Any]) -> bool:
        return bool(params.get("idempotent")) or _method(params) in _IDEMPOTENT

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """None: what a call did is not to be read back; a GET step of its own can look."""
        return None


def _method(params: Mapping[str, Any]) -> str:
    return str(params.get("method") or "POST").upper()


def _short(value: Any) -> Any:
    """Numbers and short texts only: an answer is somebody else's text."""
    return value if isinstance(value, bool | int | float) or value is None else str(value)[:_LONGEST]
