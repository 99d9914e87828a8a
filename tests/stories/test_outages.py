"""A system is away when it is needed: people are paged all the same, the record says what is open and why, and what is
open is done when the system comes back."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest

from bot.domain.agent import Mode
from bot.sandbox.workspace import Message
from tests.stories.line import Line
from tests.stories.test_real_input import assert_cut, assert_kept
from tests.stories.town import Town, until

Steps = dict[str, Any]
CUTS = ("shadow", "revoke_vault", "disable_keys", "revoke_sessions", "isolate")
HOUR_OF_MINUTES = 60.0  # the matrix in its own time: nobody but the first level is paged

once = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)


@pytest.fixture
def town(tmp_path: Path, moto: str, store_url: str) -> Iterator[Town]:
    with Town(tmp_path / "operator", moto, store_url, minute=HOUR_OF_MINUTES) as built:
        yield built


def when(town: Town, true: Callable[[dict[str, Any]], Any], seconds: float = 90) -> dict[str, Any]:
    """INC-1, as soon as this is so."""
    found: dict[str, Any] = until(
        lambda: true(told := town.show()) and told, seconds, lambda: json.dumps(town.show())[-6000:]
    )
    return found


def settled(told: dict[str, Any], *steps: str) -> bool:
    return all(told["steps"][step]["status"] == "done" for step in steps)


def paged_over_slack(town: Town) -> list[str]:
    """The keys of the matrix's pages to the first level, one for each message."""
    keys = [str(m.metadata["event_payload"]["key"]) for m in town.workspace.direct_messages("U0SRE1") if m.metadata]
    return [key for key in keys if key.startswith("INC-1/escalation/")]


def complete(town: Town) -> dict[str, Any]:
    """Contained, and so found in every system; one verdict a call."""
    told = when(town, lambda one: one["containment"] == "contained" and settled(one, *CUTS, "evidence", "snapshot"))
    assert_cut(town)
    assert_kept(town, told)
    verified = town.firedoor("incident", "verify")
    assert verified.returncode == 0, verified.stdout
    return told


def throttled(request: bytes) -> bytes:
    """AWS's way to say it, which differs by service."""
    found = re.search(rb"Credential=[^/]+/\d+/[^/]+/([a-z0-9-]+)/", request)
    service = found[1].decode() if found else ""
    status, kind = "400 Bad Request", "text/xml"
    match service:
        case "ssm" | "sqs":
            body, kind = '{"__type": "ThrottlingException", "message": "Rate exceeded"}', "application/x-amz-json-1.1"
        case "ec2":
            status = "503 Service Unavailable"
            body = "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>"
        case "s3":
            status, body = "503 Slow Down", "<Error><Code>SlowDown</Code></Error>"
        case _:
            body = (
                "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"
            )
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return (head + body).encode()


@once
@pytest.mark.parametrize("how", ["trouble", pytest.param("gone", marks=pytest.mark.soak)])
def test_vault_and_aws_are_away_when_the_alert_arrives(town: Town, how: str) -> None:
    with Line(town.moto) as aws, Line(town.vault_server.url) as vault:
        with town.editing("firedoor.yaml") as settings:
            settings["connections"]["aws"]["endpoint_url"] = aws.url
            settings["connections"]["vault"]["url"] = vault.url
        town.serve()
        if how == "trouble":
            town.vault.sealed = True
            aws.answer(throttled)
        else:
            vault.cut()
            aws.cut()
        assert town.post(town.finding()).status_code == 202

        until(lambda: paged_over_slack(town))
        words = {"disable_keys": "throttled", "revoke_sessions": "throttled", "revoke_vault": "sealed"}
        if how == "gone":
            words = {"disable_keys": "no answer", "revoke_sessions": "no answer", "revoke_vault": "unreachable"}
        when(town, lambda one: all(word in one["steps"][step]["why"].lower() for step, word in words.items()))
        # The gateway did not wait for the other places where the mode is published.
        until(lambda: town.gateway.agent("agent-7").mode is Mode.SHADOW)
        assert not town.gateway.attempt_effect("agent-7", "deploy")
        aws.mend()

        when(town, lambda one: settled(one, "disable_keys", "revoke_sessions"))
        shown = json.loads(town.firedoor("incident", "show", "INC-1", "--json").stdout)
        assert shown["containment"] == "running"
        for step in ("disable_keys", "revoke_sessions"):
            assert shown["steps"][step]["grade"] == "verified-config"
        for step in ("revoke_vault", "shadow"):
            assert (shown["steps"][step]["status"], shown["steps"][step]["grade"]) == ("running", "")
            assert words["revoke_vault"] in shown["steps"][step]["why"].lower()
        assert town.vault.leases_of("agent-7"), "nothing could be revoked yet"

        town.vault.sealed = False
        vault.mend()
        complete(town)
    assert len(paged_over_slack(town)) == 1


@once
def test_slack_and_then_mail_are_away_when_people_must_be_paged(town: Town) -> None:
    with town.editing("people.yaml") as people:
        people["persons"]["sre-1"] |= {"webhook": "env:T_HOOK_URL", "ways": ["slack", "email", "webhook"]}
    with town.editing("firedoor.yaml") as settings:
        settings["notify"] = ["sre", "cto_on_call"]  # fewer posts, which Slack takes one a second
    town.serve()
    town.workspace.fault("ratelimited", method="conversations.open", times=1, retry_after=30)
    town.workspace.fault("down", times=100_000)
    town.mailbox.refuse = True
    finding = town.finding()
    del finding["detail"]["resource"]["instanceDetails"]  # contained sooner
    assert town.post(finding).status_code == 202

    until(lambda: [body for _, body in town.hooks.received if "INC-1" in str(body)])
    told = when(town, lambda one: _ways(one, "sre-1").get("webhook") == "sent")
    assert _ways(told, "sre-1") == {"slack": "failed", "email": "failed", "webhook": "sent"}
    said = [line["text"] for line in told["timeline"] if "to sre-1 by" in line["text"]]
    assert any("slack did not leave: slack: rate limited" in text for text in said), said
    assert any("email did not leave: mail: the mail server answered 451" in text for text in said), said

    when(town, lambda one: one["containment"] == "contained")
    assert not [m for m in town.workspace.messages("C0INCIDENTS") if "INC-1" in str(m)]
    town.mailbox.refuse = False
    town.workspace.clear_faults()

    def caught_up() -> Any:
        here = town.workspace.messages("C0INCIDENTS")
        return any("CONTAINED" in m.text for m in here if m.is_reply) and here

    messages = until(caught_up, 60, lambda: str(town.workspace.messages("C0INCIDENTS")))
    card, *thread = messages
    assert card.blocks
    assert "INC-1" in str(card.blocks)
    assert all(m.thread_ts == card.ts for m in thread), "one card, and the rest in its thread"
    places = [_place(m) for m in messages]
    assert len(set(places)) == len(places)
    assert places == sorted(places), "told in the order in which it happened"
    assert town.firedoor("incident", "verify").returncode == 0


def _place(message: Message) -> tuple[int, ...]:
    """`INC-1/12.0`: the entry that caused the message, and which of its decisions it is."""
    assert message.metadata
    return tuple(map(int, message.metadata["event_payload"]["key"].removeprefix("INC-1/").split(".")))


def _ways(told: dict[str, Any], person: str) -> dict[str, str]:
    return {p["way"]: p["state"] for p in told["pages"] if (p["person"], p["kind"]) == (person, "escalation")}


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_the_database_goes_away_while_it_contains(town: Town, tmp_path: Path) -> None:
    """Longer than a page may take: what was done meanwhile is recorded as done, once."""
    socket = tmp_path / "line"
    socket.mkdir()
    parts = urlsplit(town.store_url)
    (real,) = parse_qs(parts.query)["host"]
    with Line(f"{real}/.s.PGSQL.5432", socket / ".s.PGSQL.5432") as line:
        town.env["T_STORE"] = urlunsplit(parts._replace(query=urlencode({"host": str(socket)})))
        sqs = town.aws("sqs")
        sqs.set_queue_attributes(QueueUrl=town.queue, Attributes={"VisibilityTimeout": "4"})
        town.serve()
        finding = town.finding()
        town.mailbox.slow = 2.0  # a notice is on its way when the database goes
        assert town.post(finding).status_code == 202
        until(lambda: town.mailbox.mails)
        line.cut()

        away = town.post(town.finding())
        assert (away.status_code, away.json()["code"]) == (503, "store_away"), away.text
        assert int(away.headers["retry-after"]) > 0
        late = town.finding()
        late["detail"]["type"] = "Recon:IAMUser/MaliciousIPCaller"  # not a repeat
        town.send_to_queue(json.dumps(late))
        time.sleep(14)
        assert _left(sqs, town) == 1
        assert town.post(late).status_code == 503
        line.mend()

        until(lambda: town.post(finding).status_code == 202, 60)
        until(lambda: _left(sqs, town) == 0, 60)
        told = complete(town)
        # The sender's repeat, the message of the queue: all of one incident, and nothing twice.
        assert town.incidents() == ("INC-1",)
        assert (told["alerts_total"], told["repeats"]) in ((2, 0), (2, 1)), told["alerts"]
        assert len(paged_over_slack(town)) == 1
        until(lambda: {p["state"] for p in town.show()["pages"]} == {"sent"}, 60, lambda: str(town.show()["pages"]))
        assert [to for to, _ in town.mailbox.mails].count("cto-1@example.com") == 1
        modes = [entry for entry in town.gateway.agent("agent-7").activity if entry["kind"] == "mode"]
        assert len(modes) == 1


def _left(sqs: Any, town: Town) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=town.queue, AttributeNames=names)["Attributes"]
    return sum(map(int, found.values()))
