"""firedoor agents: enrolled, listed and revoked as a person at the command line does it."""

from __future__ import annotations

import json
import time
import uuid

import httpx
from openapi_spec_validator import validate

from bot.adapters.clock import SystemClock
from bot.adapters.signing import sign, verify
from tests.cli.conftest import Desk, Firedoor


def speak(desk: Desk, *arguments: object) -> str:
    told = desk.firedoor("agents", *arguments, "--as", "sre-1", "--code", desk.code(), "--server", desk.url)
    assert told.code == 0, told.err
    return told.out


def asks(desk: Desk, key: str) -> httpx.Response:
    headers = {**sign([key], str(uuid.uuid4()), SystemClock().now(), b""), "firedoor-instance": "agent-7/pod-1"}
    return httpx.get(f"{desk.url}/agents/v1/mode", headers=headers)


def test_an_instance_from_enrolment_to_revocation(desk: Desk) -> None:
    assert "No instance is enrolled" in desk.reads("agents", "list").out
    key = next(line for line in speak(desk, "enroll", "agent-7", "pod-1").splitlines() if line.startswith("whsec_"))
    answer = asks(desk, key)
    assert answer.status_code == 200
    verify([key], answer.headers, answer.content, SystemClock().now())
    body = json.dumps(
        {"agent": "agent-7", "instance": "pod-1", "last_effect_seq": 1, "ts": time.time()}
        | {name: answer.json()[name] for name in ("epoch", "nonce", "mode")}
    ).encode()
    headers = {**sign([key], str(uuid.uuid4()), SystemClock().now(), body), "firedoor-instance": "agent-7/pod-1"}
    assert httpx.post(f"{desk.url}/agents/v1/acks", content=body, headers=headers).status_code == 200
    (row,) = json.loads(desk.reads("agents", "list", "agent-7", "--json").out)
    assert (row["instance"], row["mode"], row["revoked"], row["enrolled_by"]) == ("pod-1", "active", False, "sre-1")
    assert "agent-7/pod-1" in desk.reads("agents", "list").out
    assert "is revoked" in speak(desk, "revoke", "agent-7", "pod-1")
    assert asks(desk, key).status_code == 401
    assert "revoked" in desk.reads("agents", "list").out


def test_openapi_is_printed(firedoor: Firedoor) -> None:
    validate(json.loads(firedoor("agents", "openapi").out))
