"""CloudTrail's LookupEvents on loopback, over the trail of a simulated account.

Source: CloudTrail API Reference, LookupEvents (AWS JSON 1.1; one attribute, 50 events a page, every error a 400).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.sandbox.aws import PAGE, SimAws
from bot.sandbox.loopback import Loopback

_TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"
_ATTRIBUTES = ("AccessKeyId", "EventId", "EventName", "EventSource", "ReadOnly", "ResourceName", "ResourceType")


class CloudTrailServer(Loopback):
    """`with CloudTrailServer(sim) as server:` serves at `server.url` (127.0.0.1, a free port). Faults of the
    simulator's `lookup_events` become AWS's answers: Unavailable is ThrottlingException (InternalFailure where it is
    `sent`), Denied AccessDeniedException, Rejected InvalidLookupAttributesException. `asked` keeps every request."""

    def __init__(self, sim: SimAws) -> None:
        self.sim = sim
        self.asked: list[Mapping[str, Any]] = []
        super().__init__(_handler(self))

    def answer(self, target: str, body: bytes) -> tuple[int, Mapping[str, Any]]:
        if target != _TARGET:
            return _error("UnknownOperationException", f"no {target or 'operation'} here")
        try:
            asked = json.loads(body)
            self.asked.append(asked)
            return self._look(asked)
        except (ValueError, KeyError, TypeError) as error:
            return _error("InvalidParameterException", f"{type(error).__name__}: {error}")
        except SystemFailure as trouble:
            return _trouble(trouble)

    def _look(self, asked: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        (wanted,) = asked["LookupAttributes"]  # AWS takes one
        attribute, value = wanted["AttributeKey"], wanted["AttributeValue"]
        if attribute not in (*_ATTRIBUTES, "Username"):
            return _error("InvalidLookupAttributesException", f"no attribute {attribute!r}")
        size = asked.get("MaxResults", PAGE)
        if not 1 <= size <= PAGE:
            return _error("InvalidMaxResultsException", f"MaxResults is 1 to {PAGE}")
        since, until = (datetime.fromtimestamp(asked[name], UTC) for name in ("StartTime", "EndTime"))
        if since > until:
            return _error("InvalidTimeRangeException", "StartTime is after EndTime")
        question = hashlib.sha256(json.dumps([attribute, value, asked["StartTime"], asked["EndTime"]]).encode())
        start = _start(str(asked.get("NextToken", "")), question.hexdigest())
        if start is None:
            return _error("InvalidNextTokenException", "the token is of another question")
        events, more = self.sim.cloudtrail.page(attribute, value, since, until, start)
        told: dict[str, Any] = {"Events": [_listed(event) for event in events[:size]]}
        if more or len(events) > size:
            token = f"{question.hexdigest()} {start + size}"
            told["NextToken"] = base64.b64encode(token.encode()).decode()
        return 200, told


def _start(token: str, question: str) -> int | None:
    """Where a page begins; None for a token that is no answer to this question."""
    if not token:
        return 0
    of, _, start = base64.b64decode(token).decode().partition(" ")
    return int(start) if of == question else None


def _listed(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """As LookupEvents lists an event: some of its fields, and the whole of it as text."""
    who = event["userIdentity"]
    return {
        "EventId": event["eventID"],
        "EventName": event["eventName"],
        "EventTime": datetime.fromisoformat(event["eventTime"]).timestamp(),
        "EventSource": event["eventSource"],
        "Username": who.get("userName") or who.get("principalId", "").partition(":")[2],
        "AccessKeyId": who.get("accessKeyId", ""),
        "Resources": [{"ResourceType": one["type"], "ResourceName": one["ARN"]} for one in event.get("resources", ())],
        "CloudTrailEvent": json.dumps(event),
    }


def _trouble(trouble: SystemFailure) -> tuple[int, Mapping[str, Any]]:
    match trouble:
        case Unavailable(sent=True):
            return 500, {"__type": "InternalFailure", "message": "internal failure"}
        case Unavailable():
            return _error("ThrottlingException", "Rate exceeded")
        case Denied():
            who = "User: arn:aws:sts::111111111111:assumed-role/firedoor/firedoor"
            return _error("AccessDeniedException", f"{who} is not authorized to perform: cloudtrail:LookupEvents")
        case Rejected(why=why):
            return _error("InvalidLookupAttributesException", why)
    raise trouble


def _error(code: str, message: str) -> tuple[int, Mapping[str, Any]]:
    return 400, {"__type": code, "message": message}


def _handler(server: CloudTrailServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, told = server.answer(self.headers.get("x-amz-target", ""), body)
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler
