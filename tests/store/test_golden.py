"""Records that earlier releases wrote are still read, and still say the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bot.domain.agent import Agent, AwsIdentity, VaultIdentity
from bot.domain.alert import Alert, Resource, Sev, Severity
from bot.domain.decisions import Decision, Page, PageKind, PlaceHold, RunAction
from bot.domain.escalation import Contact
from bot.domain.events import (
    Acknowledged,
    ActionSettled,
    Event,
    FormSubmitted,
    Hold,
    HoldPlaced,
    Opened,
    Pins,
    TextRef,
    Verb,
)
from bot.domain.outcome import Done, Grade, Pending
from bot.store import codec, seal
from bot.store.seal import Signer

GOLDEN = Path(__file__).parent / "golden"
TEN = datetime(2026, 1, 5, 10, tzinfo=UTC)

_AGENT = Agent(
    "agent-7", "Deployer", "p-owner", "platform", ("gw",),
    VaultIdentity(entity_id="e-7", lease_prefixes=("aws/creds/agent-7/",)),
    AwsIdentity(account="123456789012", roles=("arn:aws:iam::123456789012:role/agent-7",)),
    labels=(("env", "prod"),),
)  # fmt: skip
_ALERT = Alert(
    "f-1", "guardduty", "guardduty", "UnauthorizedAccess", Severity.CRITICAL, TEN, "agent-7", ("AKIAEXAMPLE",),
    (Resource("i-1", "AWS::EC2::Instance", labels={"env": "prod"}),), labels={"env": "prod", "größe": "\ue000"},
    unmapped={"score": 8.5, "count": 3, "path": ["a", None, True]},
)  # fmt: skip
_HOLD = Hold("INC-1", "shadow", "agent.set_mode", {"agent": "agent-7"}, "gw", 2, 120.0)
RECORDS: dict[str, tuple[tuple[Event, tuple[Decision, ...]], ...]] = {
    "0.1.0": (
        (
            Opened(
                "INC-1", "live", "data_exposure", Sev.SEV1, "agent-7", _AGENT, _ALERT, TextRef("t-1", "d" * 64),
                Pins("p" * 64, "m" * 64, ""), {"sre": (Contact("p-1", ("slack", "email")),)}, initiator="p-owner",
                proposed=("unused",),
            ),
            (
                Page("INC-1/1.0", "INC-1/0/0/p-1/slack", "INC-1", PageKind.ESCALATION, (0,), 0, "p-1", "slack",
                     ("email",), "opened", TEN),
                PlaceHold("INC-1/1.1", "agent:agent-7", "0:agent:agent-7", _HOLD),
            ),
        ),
        (
            HoldPlaced("agent:agent-7", _HOLD, "0:agent:agent-7"),
            (
                RunAction("agent:agent-7/1.0", "agent:agent-7/1.0", "INC-1", "shadow", "0:agent:agent-7",
                          "agent:agent-7", "agent.set_mode", Verb.RUN, {"agent": "agent-7"}, "gw", 120.0,
                          contains=True),
            ),
        ),
        (
            ActionSettled("agent:agent-7/1.0", "shadow", "0:agent:agent-7", Verb.RUN,
                          Pending(TEN + timedelta(seconds=5, microseconds=7), {"epoch": 3}, "waiting for the gateway")),
            (),
        ),
        (
            ActionSettled("agent:agent-7/1.0", "shadow", "0:agent:agent-7", Verb.RUN,
                          Done(Grade.EFFECT, {"refused": True, "latency": 0.25}, {"mode": 0}), 1),
            (),
        ),
        (Acknowledged("p-1", "link"), ()),
        (
            FormSubmitted("impact", "p-1", {"customers": 12, "share": 0.5, "yes": True},
                          {"why": TextRef("t-2", "e" * 64)}),
            (),
        ),
    ),
}  # fmt: skip


def written(release: str) -> dict[str, Any]:
    """How a golden file is made, once, when its release is cut."""
    signer = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    entries, previous = [], ""
    for version, (event, decisions) in enumerate(RECORDS[release], 1):
        identity = {"install": "golden", "epoch": 1, "mode": "live", "stream": "INC-1"}
        place = {"version": version, "at": codec.time_text(TEN), "rules": 1, "previous": previous}
        body = seal.canonical(codec.encode(event, decisions) | identity | place)
        previous = seal.digest(body)
        entries.append({"body": body.decode(), "signature": signer.sign(body), "key_id": signer.key_id})
    return {"release": release, "public": signer.public().hex(), "entries": entries}


@pytest.mark.parametrize("release", RECORDS)
def test_a_golden_record_decodes_equal(release: str) -> None:
    golden = json.loads((GOLDEN / f"{release}.json").read_text())
    signer = Signer(Ed25519PrivateKey.generate(), trusted=[bytes.fromhex(golden["public"])])
    previous, decoded = "", []
    for entry in golden["entries"]:
        body = entry["body"].encode()
        signer.verify(body, entry["signature"], entry["key_id"])
        fields = seal.parse(entry["body"])
        assert fields["previous"] == previous
        previous = seal.digest(body)
        decoded.append(codec.decode(fields))
    assert tuple(decoded) == RECORDS[release]


def test_every_golden_file_is_read_here() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(RECORDS)
