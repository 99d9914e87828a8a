"""An OPA on loopback: the answers of its data API, as its source gives them, over a SimOpa."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from bot.errors import Denied, Rejected, Unavailable
from bot.sandbox.loopback import Loopback
from bot.sandbox.opa import SimOpa

_VERBS = {"GET": "mode", "PUT": "set_mode", "POST": "refuses"}


class OpaServer(Loopback):
    """`with OpaServer(opa, "token") as server:` serves at `server.url` (127.0.0.1, a free port). Without a token it
    asks for none. `decision` is where its policy's decision stands."""

    def __init__(self, opa: SimOpa, token: str = "", decision: str = "firedoor/allow") -> None:
        self.opa, self.token, self.decision = opa, token, decision.split("/")
        super().__init__(_handler(self))

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """Status, and the JSON body or None for none at all."""
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return 401, _error("unauthorized", "request rejected by administrative policy")
        path = [unquote(part) for part in urlsplit(target).path.strip("/").split("/")]
        if path[:2] != ["v1", "data"]:
            return 404, None
        try:
            if method in _VERBS:
                self.opa.faults.before(_VERBS[method])
            return self._data(method, path[2:], body)
        except Unavailable as trouble:
            return (504 if trouble.sent else 503), None
        except Denied:
            return 403, _error("unauthorized", "request rejected by administrative policy")
        except Rejected as refusal:
            return 500, _error("internal_error", refusal.why)

    def _data(self, method: str, path: list[str], body: bytes) -> tuple[int, Any]:
        try:
            given = json.loads(body) if body else {}
        except ValueError as error:
            return 400, _error("invalid_parameter", str(error))
        match method:
            case "PUT":
                if owner := self.opa.owner(path):
                    return 400, _error("invalid_parameter", owner)
                self.opa.write(path, given)
                self.opa.faults.after("set_mode")
                return 204, None
            case "GET":
                return 200, _result(self.opa.read(path))
            case "POST":
                asked = given.get("input")
                found = self.opa.decide(asked or {}) if path == self.decision else self.opa.read(path)
                return 200, {"decision_id": str(uuid.uuid4())} | _result(found)
            case _:
                return 405, None


def _result(value: Any) -> dict[str, Any]:
    """What is undefined has no `result`."""
    return {} if value is None else {"result": value}


def _error(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def _handler(server: OpaServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, value = server.answer(self.command, self.path, headers, body)
            content = b"" if value is None else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            if status != 204:
                self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
