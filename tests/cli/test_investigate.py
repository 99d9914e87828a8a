"""What was kept, and whether a human was asked: the six commands against a served bot and a gateway that answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest

from bot.adapters.clock import SystemClock
from bot.commands.command import Exit
from bot.sandbox.agents import SimGateway
from bot.sandbox.gateway_server import GatewayServer
from tests.cli.conftest import Desk, Said, edit
from tests.stories.town import until

PERSON, OWN_TOTP = "head-of-security", "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"


@pytest.fixture
def live(live: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A gateway is there. Its agent did two things: one under an approval that nobody gave, one under none."""
    clock = SystemClock()
    gateway = SimGateway("agents", clock)
    gateway.enroll("agent-7")
    gateway.record("agent-7", "prompt", text="use ghp_0123456789abcdefghijABCDEFGHIJ012345 \x1b[31m")
    gateway.record("agent-7", "tool_call", tool="deploy.run", approval="INC-9/1.0", plan="a" * 64)
    gateway.record("agent-7", "tool_call", tool="db.migrate.orders")
    monkeypatch.setenv("FIREDOOR_TOTP_HEAD_OF_SECURITY", OWN_TOTP)
    with GatewayServer(gateway, "gateway-secret-of-this-test", clock) as server:
        edit(live / "firedoor.yaml", lambda body: body["connections"]["agents"].update(url=server.url))
        yield live


def says(desk: Desk, *arguments: object, nth: int) -> Said:
    """As a person; three codes are good at a time, and each counts once."""
    at = desk.bot.engine.world.ports.clock.now().timestamp() + 30 * (nth - 1)
    proof = ("--as", PERSON, "--code", pyotp.TOTP(OWN_TOTP).at(int(at)))
    return desk.firedoor(*arguments, *proof, "--server", desk.url, "--config", desk.folder)


def test_what_was_kept_and_whether_a_human_was_asked(desk: Desk, tmp_path: Path) -> None:
    early = desk.reads("evidence", "list", "INC-1")
    assert (early.code, early.err) == (4, "firedoor: There is no incident 'INC-1'. See: firedoor incident list\n")
    declared = desk.says("sre-1", "declare", "Deploys at night", "--type", "unclassified", "--agent", "agent-7")
    assert declared.code == 0, declared.err
    until(lambda: "approval path  2 bypassed" in desk.reads("incident", "show", "INC-1").out, 30)

    said = desk.reads("evidence", "list", "INC-1")
    assert said.code == 0, said.err
    assert said.out.startswith("INC-1: 1 item in 1 manifest\n")
    row = re.search(r"^  ([0-9a-f]{16})  agent_activity +3 +\d+ +1 +gateway/agents/activity$", said.out, re.MULTILINE)
    assert row is not None, said.out
    item = row[1]
    assert "Not collected: nobody knows what it would have shown\n" in said.out
    assert "vault/vault/audit: firedoor.yaml does not say where its audit log is" in said.out
    assert re.search(r"^  \S+ \S+Z  collected  firedoor  INC-1/\d+  1 item by evidence", said.out, re.MULTILINE)
    assert max(map(len, said.out.splitlines())) < 200

    said = desk.reads("evidence", "verify", "INC-1")
    assert said.code == 0
    assert said.out.endswith("INC-1: 2 objects of 1 manifest read, 0 wrong.\n")

    said = desk.reads("investigate", "approvals", "INC-1")
    assert said.code == Exit.FOUND
    assert said.out.startswith("INC-1: approval path: 2 bypassed\n")
    assert "it names INC-9/1.0, which the record does not have" in said.out
    assert f"seen in gateway: record 2 of item {item} (firedoor evidence show INC-1 {item})" in said.out
    said = desk.reads("investigate", "approvals", "INC-1", "--json")
    assert said.code == Exit.FOUND, said.err
    as_json = json.loads(said.out)
    assert [one["verdict"] for one in as_json["findings"]] == ["bypassed", "bypassed"]
    assert as_json["timeline"] == []

    said = desk.reads("investigate", "timeline", "INC-1")
    assert re.search(r"^\S+ \S+Z  gateway  tool_call deploy.run$", said.out, re.MULTILINE)
    assert re.search(r"^\S+ \S+Z  record   sre-1 declared SEV3 unclassified", said.out, re.MULTILINE)
    assert "\x1b" not in said.out
    assert desk.reads("investigate", "timeline", "INC-1", "--limit", "0").code == Exit.USAGE
    assert "earlier lines are left out" in desk.reads("investigate", "timeline", "INC-1", "--limit", "2").out

    unproved = desk.firedoor("evidence", "show", "INC-1", item, "--server", desk.url, "--config", desk.folder)
    assert (unproved.code, unproved.out) == (Exit.USAGE, "")
    said = says(desk, "evidence", "show", "INC-1", item, nth=0)
    assert json.loads(said.out)[1]["approval"] == "INC-9/1.0"
    assert "ghp_" not in said.out

    out = tmp_path / "out"
    said = says(desk, "evidence", "export", "INC-1", out, nth=1)
    assert said.code == 0, said.err
    assert says(desk, "evidence", "export", "INC-1", out, nth=1).code == Exit.USAGE  # it is not empty
    assert desk.firedoor("evidence", "verify", "--export", out).out.startswith("2 items of INC-1, 0 wrong.\n")

    assert says(desk, "investigate", "approvals", "INC-1", "--record", nth=2).code == 0
    links = json.loads(desk.reads("evidence", "list", "INC-1", "--json").out)["custody"]
    assert [(one["what"], one["who"]) for one in links][2:4] == [("read", PERSON), ("exported", PERSON)]

    kept = next((desk.folder / "evidence" / "sha256").glob(f"{item}*"))
    kept.chmod(0o600)
    kept.write_bytes(kept.read_bytes().replace(b"deploy.run", b"search.run"))
    said = desk.reads("evidence", "verify", "INC-1")
    assert said.code == Exit.FOUND
    assert re.search(rf"^WRONG  {item}  gateway/agents/activity: .* was changed", said.out, re.MULTILINE)
    said = desk.reads("investigate", "approvals", "INC-1")
    assert "its SHA-256 differs" in said.out
