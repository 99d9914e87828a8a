"""Reading and speaking to incidents of a served bot, whose systems are all away."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Desk, Firedoor, Said

CONFIRM = (
    "confirm_impact",
    "customer_impact=no",
    "affected_systems=orders",
    "approval_path=bypassed",
    "roll_back=yes",
)


def told(said: Said) -> Any:
    assert said.code == 0, said.err
    return json.loads(said.out)


def declared(desk: Desk) -> str:
    said = desk.says(
        "sre-1", "declare", "Agent mails customers", "--type", "unintended_production_change", "--agent", "agent-7"
    )
    assert said.code == 0, said.err
    return said.out.partition(":")[0]


def show(desk: Desk, incident: str) -> dict[str, Any]:
    shown: dict[str, Any] = told(desk.reads("incident", "show", incident, "--json"))
    return shown


def test_an_incident_from_the_command_line(desk: Desk) -> None:
    incident = declared(desk)
    assert incident == "INC-1"
    shown = show(desk, incident)
    assert (shown["status"], shown["severity"], shown["declared_by"]) == ("open", "SEV3", "sre-1")
    assert shown["steps"]["shadow"]["required"] == "verified-effect"
    assert "declared by a person" in shown["why"]
    assert shown["handshake"] in ("requested", "enforced"), "its playbook orders shadow"

    assert "acknowledged by sre-1" in desk.says("sre-1", "ack", incident).out
    assert show(desk, incident)["acked_by"] == "sre-1"
    again = desk.says("head-of-security", "ack", incident)
    assert (again.code, again.err) == (4, "firedoor: INC-1 is already acknowledged by sre-1.\n")
    assert "not acknowledged" in desk.says("head-of-security", "unack", incident).out

    noted = desk.says("head-of-security", "note", incident, "see the \x1b[31mwiki")
    assert noted.code == 0, noted.err
    assert shown["pages_may_repeat"] == 0
    text = desk.reads("incident", "show", incident).out
    assert "sent, 0 of them may repeat an earlier one" in text
    assert re.search(r"^ *handshake +(requested|enforced): ", text, re.MULTILINE)
    assert "| see the \ufffd[31mwiki" in text
    assert "\x1b" not in text

    listed = desk.reads("incident", "list", "--open")
    assert re.search(r"^INC-1 +SEV3 +unintended_production_change +agent-7 +open +running", listed.out, re.MULTILINE)
    assert told(desk.reads("incident", "list", "--json"))[0]["incident"] == "INC-1"


def test_it_goes_on_and_ends(desk: Desk) -> None:
    incident = declared(desk)
    # An unreachable system is no answer: the cut waits for it, and a person may take that on themselves.
    for step in ("shadow", "revoke_vault"):
        assert desk.says("head-of-security", "override", incident, step, "--accept").code == 0
    assert show(desk, incident)["steps"]["shadow"]["status"] == "cancelled"
    moved = desk.says("infra-owner-1", "status", incident, "investigating")
    assert moved.out.startswith("INC-1: investigating")
    refused = desk.says("infra-owner-1", "release", incident, "disable_keys")
    assert (refused.code, refused.err) == (4, "firedoor: release is for incident_commander; infra-owner-1 is not.\n")
    assert desk.says("sre-1", "resolve", incident).code == 0
    assert desk.reads("incident", "list", "--open").out == "No incident is open.\n"


def test_forms_and_approvals(desk: Desk) -> None:
    incident = declared(desk)
    early = desk.says("sre-1", "form", incident, *CONFIRM)
    assert early.code == 4
    assert "not waiting for a form" in early.err
    unreadable = desk.says("sre-1", "form", incident, "confirm_impact", "customer_impact")
    assert (unreadable.code, unreadable.err[:37]) == (2, "firedoor: 'customer_impact' is no fie")
    unknown = desk.says("infra-owner-1", "approve", f"{incident}/1.99")
    assert (unknown.code, unknown.err) == (
        4,
        f"firedoor: {incident} has no request '{incident}/1.99'. Nothing waits for approval there.\n",
    )
    assert desk.says("infra-owner-1", "refuse", f"{incident}/1.99", "--why", "no").code == 4
    assert desk.says("infra-owner-1", "approve", incident).code == 2


def test_the_record_is_read_while_the_server_runs_and_verified(desk: Desk) -> None:
    incident = declared(desk)
    verified = desk.reads("incident", "verify")
    assert verified.code == 0, verified.out
    assert re.search(r"^INC-1: \d+ entries, signatures and chain hold", verified.out, re.MULTILINE)
    assert re.search(r"^agent:agent-7: \d+ entries", verified.out, re.MULTILINE)
    replayed = desk.reads("replay", incident)
    assert replayed.code == 0
    assert "entries verified and folded" in replayed.out
    missing = desk.reads("incident", "document", incident, "postmortem")
    assert (missing.code, missing.err) == (4, "firedoor: INC-1 has no document 'postmortem'. Drafted: none yet.\n")
    stands = desk.reads("incident", "document", incident, "containment")
    assert stands.code == 0, stands.err
    assert stands.out.startswith("# Containment of INC-1: ")
    assert "## What is alive" in stands.out


def test_who_speaks_is_proved(desk: Desk) -> None:
    wrong = desk.says("sre-1", "declare", "x", code="000000")
    assert (wrong.code, wrong.err) == (4, "firedoor: The person or the code is wrong.\n")
    code = desk.code()
    assert desk.says("sre-1", "declare", "x", code=code).code == 0
    used = desk.says("sre-1", "declare", "x", code=code)
    assert (used.code, used.err) == (4, "firedoor: This code was used already: wait for the next one.\n")
    assert desk.says("dpo", "declare", "x", code=desk.code()).code == 4  # no TOTP secret in people.yaml


def test_what_a_command_needs_to_speak(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = desk.firedoor("incident", "ack", "INC-1", "--server", desk.url)
    assert (nobody.code, nobody.err) == (2, "firedoor: who is speaking? Use --as PERSON, an id from people.yaml.\n")
    silent = desk.firedoor("incident", "ack", "INC-1", "--server", desk.url, "--as", "sre-1")
    assert (silent.code, silent.err) == (2, "firedoor: your TOTP code is missing. Use --code 123456.\n")
    monkeypatch.setenv("FIREDOOR_PERSON", "sre-1")
    monkeypatch.setenv("FIREDOOR_CODE", desk.code())
    monkeypatch.setenv("FIREDOOR_SERVER", desk.url)
    assert desk.firedoor("incident", "declare", "x", "--json").code == 0


def test_a_server_that_is_not_there(live: Path, firedoor: Firedoor) -> None:
    proof = ("--as", "sre-1", "--code", "123456")
    away = firedoor("incident", "ack", "INC-1", *proof, "--server", "http://127.0.0.1:9")
    assert away.code == 5
    assert away.err.startswith("firedoor: server: http://127.0.0.1:9 does not answer")
    assert away.err.count("\n") == 1
    by_settings = firedoor("incident", "ack", "INC-1", *proof, "--config", live)
    assert (by_settings.code, "http://127.0.0.1:8080" in by_settings.err) == (5, True)
    assert firedoor("incident", "ack", "INC-1", *proof, "--server", "ftp://x").code == 2


def test_reading_without_a_server(desk: Desk) -> None:
    declared(desk)
    desk.up.close()
    assert show(desk, "INC-1")["incident"] == "INC-1"
    unknown = desk.reads("incident", "show", "INC-404")
    assert (unknown.code, unknown.err) == (
        4,
        "firedoor: There is no incident 'INC-404'. See: firedoor incident list\n",
    )


def test_a_record_that_was_tampered_with_is_found(desk: Desk) -> None:
    declared(desk)
    with sqlite3.connect(desk.folder / "firedoor.db") as raw:
        raw.execute(
            "UPDATE entries SET body = replace(body, 'agent-7', 'agent-9') WHERE stream = 'INC-1' AND version = 1"
        )
    raw.close()
    desk.bot.engine.submit(lambda r: r.tx.note_fault("INC-1", "as the server found it")).result()
    assert desk.reads("incident", "list").out.startswith("BROKEN INC-1: nothing is written to it any more. as the ")
    assert told(desk.reads("incident", "list", "--json"))[0]["broken"] == "as the server found it"
    desk.up.close()
    verified = desk.reads("incident", "verify", "INC-1")
    assert verified.code == 1
    assert "BROKEN INC-1/1: the digest does not fit the bytes" in verified.out
    shown = desk.reads("incident", "show", "INC-1")
    assert (shown.code, shown.err) == (1, "firedoor: INC-1/1: the digest does not fit the bytes\n")


def test_what_could_not_be_read_is_in_quarantine(desk: Desk) -> None:
    assert desk.reads("quarantine", "list").out == "Nothing is in quarantine.\n"
    at = desk.bot.engine.world.ports.clock.now()
    desk.bot.engine.submit(lambda r: r.tx.quarantine("siem", "no rule", b'{"a": "\x1b[0m"}', at, "sqs:siem:1")).result()
    assert "sqs:siem:1" in desk.reads("quarantine", "list").out
    assert told(desk.reads("quarantine", "list", "--json"))[0]["reason"] == "no rule"
    assert desk.reads("quarantine", "show", "sqs:siem:1").out.endswith('{"a": "\ufffd[0m"}\n')
    assert desk.reads("quarantine", "show", "nothing").code == 4


def test_actions_are_explained(firedoor: Firedoor) -> None:
    assert "vault.revoke_agent" in firedoor("actions", "list").out
    shown = firedoor("actions", "show", "vault.revoke_agent")
    assert "uses: vault.revoke_agent" in shown.out
    assert told(firedoor("actions", "show", "agent.set_mode", "--json"))["best_grade"] == "verified-effect"
    wrong = firedoor("actions", "show", "vault.revoke")
    assert (wrong.code, "Did you mean 'vault.revoke_agent'?" in wrong.err) == (4, True)
