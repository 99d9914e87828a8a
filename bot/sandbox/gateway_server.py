"""A gateway on loopback: the signed HTTP contract over a SimGateway's agents, written from the contract's text.

The signatures are this side's own few lines, not the bot's: two parties that agree, instead of one that agrees with
itself.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bot.domain.agent import Mode
from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import Clock, GatewayState
from bot.sandbox.agents import SimGateway
from bot.sandbox.loopback import Loopback

_STALE_SECONDS = 300


class GatewayServer(Loopback):
    """`with GatewayServer(gateway, "secret", clock) as server:` serves at `server.url` (127.0.0.1, a free port).
    `sign_answers` may be switched off, and `answer_secret` changed, to see what the bot makes of it. A gateway that
    is `hung` takes requests and never answers them."""

    def __init__(self, gateway: SimGateway, secret: str, clock: Clock) -> None:
        self.gateway, self.secret, self.clock = gateway, secret, clock
        self.sign_answers, self.answer_secret = True, secret
        super().__init__(_handler(self))

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON body for one request."""
        if not self._signed(headers, body):
            return 401, {"error": "not signed by the bot, or not now"}
        parts = urlsplit(target)
        _, version, agents, agent, *rest = [*parts.path.split("/"), "", "", "", ""]
        if (version, agents) != ("v1", "agents"):
            return 404, {"error": "no such resource"}
        try:
            return self._dispatch(method, unquote(agent), rest[0], parse_qs(parts.query), body)
        except Rejected as refusal:
            return self._refusal(unquote(agent), refusal)
        except Denied as refusal:
            return 403, {"error": refusal.why}
        except Unavailable as trouble:
            return (504 if trouble.sent else 503), {"error": trouble.why}
        except (KeyError, TypeError, ValueError) as error:
            return 422, {"error": repr(error)}

    def mac(self, secret: str, message_id: str, timestamp: str, body: bytes) -> str:
        digest = hmac.digest(secret.encode(), f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
        return "v1," + base64.b64encode(digest).decode()

    def _signed(self, headers: Mapping[str, str], body: bytes) -> bool:
        message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        mark = self.mac(self.secret, message_id, timestamp, body)
        if not any(hmac.compare_digest(mark, given) for given in headers.get("webhook-signature", "").split(" ")):
            return False
        return abs(self.clock.now().timestamp() - int(timestamp)) <= _STALE_SECONDS

    def _dispatch(
        self, method: str, agent: str, rest: str, query: Mapping[str, list[str]], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        order = json.loads(body) if body else {}
        match method, rest:
            case "PUT", "mode":
                if order["agent"] != agent:  # the path is not signed, the body is
                    raise ValueError("the body speaks of another agent")
                until = datetime.fromisoformat(order["not_after"]) if order["not_after"] else None
                mode = Mode[order["mode"].upper()]
                state = self.gateway.set_mode(agent, mode, order["epoch"], order["nonce"], order["incident"], until)
                return 200, _body(state)
            case "POST", "canary":
                refused = self.gateway.canary(agent, order["nonce"], order["effect"])
                return (403 if refused else 200), {"refused": refused, "epoch": self.gateway.agent(agent).epoch}
            case "GET", "":
                found = self.gateway.state(agent)
                return (200, _body(found)) if found else (404, {"error": "unknown agent"})
            case "GET", "activity":
                entries = self.gateway.activity(agent, int(query.get("limit", ["1000"])[0]))
                return 200, {"activity": list(entries)}
            case _:
                return 405, {"error": "not in the contract"}

    def _refusal(self, agent: str, refusal: SystemFailure) -> tuple[int, dict[str, Any]]:
        try:
            found = self.gateway.agent(agent)
        except KeyError:
            return 404, {"error": refusal.why}
        return 409, {"error": refusal.why, "epoch": found.waiting[2] if found.waiting else found.epoch}


def _body(state: GatewayState) -> dict[str, Any]:
    instances = [
        {
            "instance": one.instance,
            "epoch": one.epoch,
            "mode": one.mode.name.lower(),
            "last_effect_seq": one.last_effect_seq,
        }
        for one in state.instances
    ]
    return {"mode": state.mode.name.lower(), "epoch": state.epoch, "nonce": state.nonce, "instances": instances}


def _handler(server: GatewayServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if server.gateway.hung:
                server.stopped.wait()
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, value = server.answer(self.command, self.path, headers, body)
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            if server.sign_answers:
                message_id, timestamp = headers.get("webhook-id", ""), str(int(server.clock.now().timestamp()))
                self.send_header("webhook-id", message_id)
                self.send_header("webhook-timestamp", timestamp)
                mark = server.mac(server.answer_secret, message_id, timestamp, content)
                self.send_header("webhook-signature", mark)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: the gateway keeps its own log."""

    return Handler
