"""Firedoor's side of the agents' API, written from its contract's text for one instance, with everything an attacker or
a broken network could do to it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
INSTANCE = "agent-7/pod-1"

Headers = dict[str, str]
Twist = Callable[[int, Headers, bytes], tuple[int, Headers, bytes]]


class Reference:
    """`with Reference() as server:`. `twist` changes GET answers on their way: (status, headers, body). `lease` in
    seconds. `stop` and `start` keep the port, as a bot that is killed and comes back."""

    def __init__(self, *, mode: str | None = "active", lease: float = 45.0, on_loss: str = "shadow") -> None:
        self.lease, self.renew, self.on_loss = lease, lease / 3, on_loss
        self.key = base64.b64decode(KEY.removeprefix("whsec_"))
        self.acks: list[dict[str, Any]] = []
        self.polls = 0
        self.twist: Twist | None = None
        self.ack_answer: tuple[int, dict[str, Any]] | None = None
        self.current: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._running = False
        self._port = 0
        if mode:
            self.order(mode)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def order(self, mode: str, epoch: int | None = None) -> int:
        with self._changed:
            epoch = epoch if epoch is not None else self.current.get("epoch", 0) + 1
            self.current = {"mode": mode, "epoch": epoch, "nonce": f"nonce-{epoch}", "incident": "INC-7"}
            self._changed.notify_all()
            return epoch

    def acknowledged(self, epoch: int, seconds: float = 30.0) -> dict[str, Any]:
        """The acknowledgement of an epoch, once it is here."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(a["epoch"] == epoch for a in self.acks), seconds), self.acks
            return next(ack for ack in self.acks if ack["epoch"] == epoch)

    def asked(self, polls: int, seconds: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.polls >= polls, seconds), self.polls

    def __enter__(self) -> Reference:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _handler(self))
        self._port = self._server.server_address[1]
        self._running = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._running = False
            self._changed.notify_all()
        self._server.shutdown()
        self._server.cut()
        self._server.server_close()

    def answer(self, method: str, target: str, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        mark = self.mac(headers["webhook-id"], headers["webhook-timestamp"], body)
        if headers.get("webhook-signature") != mark or headers.get("firedoor-instance") != INSTANCE:
            return 401, {}, b"{}"
        parts = urlsplit(target)
        if (method, parts.path) == ("POST", "/agents/v1/acks"):
            return self.signed(headers["webhook-id"], *self._ack(json.loads(body)))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if (method, parts.path) != ("GET", "/agents/v1/mode"):
            return 404, {}, b"{}"
        with self._changed:
            self.polls += 1
            self._changed.notify_all()
            since = int(query["since"])
            self._changed.wait_for(lambda: self.current["epoch"] > since or not self._running, float(query["wait"]))
            answer = self.signed(headers["webhook-id"], 200, self.told())
        return self.twist(*answer) if self.twist else answer

    def told(self, **changed: Any) -> dict[str, Any]:
        now = time.time()
        lease = {"until": _iso(now + self.lease), "renew_after": _iso(now + self.renew)}
        agent, instance = INSTANCE.split("/")
        who = {"agent": agent, "instance": instance, "on_lease_loss": self.on_loss, "issued_at": _iso(now)}
        return who | self.current | {"lease": lease} | changed

    def signed(self, message_id: str, status: int, value: dict[str, Any]) -> tuple[int, Headers, bytes]:
        body, at = json.dumps(value).encode(), str(int(time.time()))
        mark = self.mac(message_id, at, body)
        return status, {"webhook-id": message_id, "webhook-timestamp": at, "webhook-signature": mark}, body

    def mac(self, message_id: str, timestamp: str, body: bytes) -> str:
        digest = hmac.digest(self.key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
        return "v1," + base64.b64encode(digest).decode()

    def _ack(self, ack: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self._changed:
            self.acks.append(ack)
            self._changed.notify_all()
            if self.ack_answer:
                return self.ack_answer
            if ack["epoch"] < self.current["epoch"]:
                return 409, {"epoch": self.current["epoch"]}
            return 200, {"accepted": True, "epoch": ack["epoch"], "mode": ack["mode"]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The other end went away: that is what is tested."""

    def cut(self) -> None:
        """As the kernel does for a process that was killed."""
        for request in list(self.open):
            self.shutdown_request(request)


def _handler(reference: Reference) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, headers, content = reference.answer(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
