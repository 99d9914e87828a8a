"""Real input, end to end: `firedoor serve` as a process, PostgreSQL, moto, the Vault stand-in, a gateway, Slack, mail.

The test looks at AWS, Vault, the gateway and the bucket itself; what the bot says about them is only compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pyotp
import pytest

from bot.adapters.clock import SystemClock
from bot.commands.records import records
from bot.domain.agent import Mode
from bot.domain.decisions import Page, PageKind
from bot.domain.events import NoteAdded, PageSent
from bot.domain.record import Entry
from bot.errors import Denied
from tests.stories.town import TOTP, Town, until

KEEPING = ("evidence", "snapshot")


@pytest.fixture
def town(tmp_path: Path, moto: str, store_url: str) -> Iterator[Town]:
    with Town(tmp_path / "operator", moto, store_url, minute=0.4) as built:
        yield built


def contained(town: Town) -> Any:
    return until(lambda: (shown := town.show())["containment"] == "contained" and shown, 60, lambda: str(town.show()))


def kept(town: Town) -> dict[str, Any]:
    """The incident, once evidence and snapshots are taken."""
    shown: dict[str, Any] = until(
        lambda: all((told := town.show())["steps"][step]["status"] == "done" for step in KEEPING) and told,
        60,
        lambda: str(town.show()["steps"]),
    )
    return shown


def assert_cut(town: Town) -> None:
    """The agent holds nothing any more: asked of the systems, not of the bot."""
    iam, ec2 = town.aws("iam"), town.aws("ec2")
    keys = iam.list_access_keys(UserName=town.user)["AccessKeyMetadata"]
    assert [(key["AccessKeyId"], key["Status"]) for key in keys] == [(town.key, "Inactive")]
    policy = iam.get_role_policy(RoleName=town.role, PolicyName="AWSRevokeOlderSessions")["PolicyDocument"]
    (statement,) = policy["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Resource"]) == ("Deny", ["*"], ["*"])
    assert "aws:TokenIssueTime" in statement["Condition"]["DateLessThan"]
    assert town.vault.read_entity("e-7").disabled  # type: ignore[union-attr]  # the stand-in has it
    assert not town.vault.leases_of("agent-7")
    with pytest.raises(Denied):
        town.vault.use_token(town.token)
    interfaces = ec2.describe_network_interfaces(
        Filters=[{"Name": "attachment.instance-id", "Values": [town.instance]}]
    )
    groups = {group["GroupId"] for each in interfaces["NetworkInterfaces"] for group in each["Groups"]}
    assert len(groups) == 1
    (quarantine,) = ec2.describe_security_groups(GroupIds=list(groups))["SecurityGroups"]
    assert quarantine["IpPermissions"] == quarantine["IpPermissionsEgress"] == []
    assert town.gateway.state("agent-7").mode is Mode.SHADOW  # type: ignore[union-attr]  # it is enrolled
    assert not town.gateway.attempt_effect("agent-7", "deploy")


def assert_kept(town: Town, shown: dict[str, Any]) -> None:
    """One snapshot a volume, and evidence whose bytes are what the record says. `shown` is once both steps are done."""
    assert {shown["steps"][step]["status"] for step in KEEPING} == {"done"}
    ec2, s3 = town.aws("ec2"), town.aws("s3")
    volumes = ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [town.instance]}])["Volumes"]
    snapshots = ec2.describe_snapshots(Filters=[{"Name": "tag-key", "Values": ["firedoor:decision"]}])["Snapshots"]
    taken = [snapshot["VolumeId"] for snapshot in snapshots]
    assert volumes
    assert {volume["VolumeId"]: taken.count(volume["VolumeId"]) for volume in volumes} == {
        volume["VolumeId"]: 1 for volume in volumes
    }
    evidence = shown["steps"]["evidence"]["outputs"]
    objects = s3.list_objects_v2(Bucket=town.bucket)["Contents"]
    stored = {one["Key"]: s3.get_object(Bucket=town.bucket, Key=one["Key"])["Body"].read() for one in objects}
    assert {key.rpartition("/")[2] for key in stored} == {hashlib.sha256(body).hexdigest() for body in stored.values()}
    manifest = next(b for b in stored.values() if hashlib.sha256(b).hexdigest() == evidence["manifest_sha256"])
    listed = {item["sha256"] for item in json.loads(manifest)["items"]}
    assert listed
    assert listed <= {key.rpartition("/")[2] for key in stored}


def code(person: str) -> str:
    return pyotp.TOTP(TOTP[person]).now()


def record(town: Town) -> tuple[Entry, ...]:
    with mock.patch.dict(os.environ, town.env), records(town.folder) as kept:
        return kept.entries("INC-1")


def escalations(town: Town) -> list[tuple[str, str]]:
    """(person, state) of every page of the matrix that left."""
    return [
        (p["person"], p["state"]) for p in town.show()["pages"] if p["kind"] == "escalation" and p["state"] == "sent"
    ]


def asked(town: Town) -> dict[int, timedelta]:
    """When the record first decides to page each level, counted from the opening; a level never paged is not in it."""
    first: dict[int, timedelta] = {}
    opened, *_ = entries = record(town)
    for entry in entries:
        for page in entry.decisions:
            if isinstance(page, Page) and page.kind is PageKind.ESCALATION:
                for level in page.levels:
                    first.setdefault(level + 1, entry.at - opened.at)
    return first


def left(town: Town, person: str) -> timedelta:
    """When the record first says that a page of the matrix reached this person's way, counted from the opening."""
    opened, *_ = entries = record(town)
    sent = ((e.at, e.event) for e in entries if isinstance(e.event, PageSent))
    return min(at for at, page in sent if page.person == person and "/escalation/" in page.key) - opened.at


def assert_in_turn(town: Town) -> None:
    """L1 with the opening itself; L2 and L3 when the SLA before them has passed, and not before. Late is never wrong
    here: the machine may be slow."""
    first = asked(town)
    assert set(first) == {1, 2, 3}
    assert first[1] == timedelta()
    for level, person, minutes in ((2, "head-of-security", 15), (3, "cto-1", 30)):
        sla = timedelta(seconds=round(minutes * town.minute))
        assert first[level] >= sla, f"L{level} was paged before its SLA"
        assert left(town, person) >= sla


@pytest.mark.parametrize(
    ("store_url", "door"),
    [
        ("postgresql", "sqs"),
        pytest.param("postgresql", "webhook", marks=pytest.mark.soak),
        pytest.param("sqlite", "sqs", marks=pytest.mark.soak),
        pytest.param("sqlite", "webhook", marks=pytest.mark.soak),
    ],
    indirect=["store_url"],
)
def test_a_guardduty_finding_contains_pages_and_leaves_the_papers(town: Town, door: str) -> None:
    town.serve()
    if door == "sqs":
        town.send_to_queue(json.dumps(town.finding()))
    else:
        answer = town.post(town.finding())
        assert answer.status_code == 202, answer.text
        assert answer.json()["alerts"][0]["status"] == "opened"

    # L1 at once, over Slack, with a working button; the next levels as the SLA before them passes
    # (a minute lasts 0.4 seconds).
    l1 = until(lambda: town.workspace.direct_messages("U0SRE1"))
    assert "INC-1" in str(l1[-1])
    l2 = until(lambda: [body for _, body in town.hooks.received if "INC-1" in str(body)], 40)
    assert l2
    until(lambda: "cto-1" in {person for person, _ in escalations(town)}, 60, lambda: str(asked(town)))
    assert [to for to, content in town.mailbox.mails if to == "cto-1@example.com" and "INC-1" in content]

    shown = contained(town)
    assert_cut(town)
    assert_kept(town, kept(town))
    assert_in_turn(town)
    grades = {step: run["grade"] for step, run in shown["steps"].items() if run["contains"]}
    assert grades["shadow"] == "verified-effect"
    for step in ("revoke_vault", "disable_keys", "revoke_sessions", "isolate"):
        assert grades[step] == "verified-config"

    # An ack, by the button that stands in Slack, stops the pages.
    message = next(
        m for m in reversed(town.workspace.direct_messages("U0SRE1")) if m.blocks and "'ack'" in str(m.blocks)
    )
    town.slack.click("U0SRE1", message.channel, message.ts, "ack").wait(10)
    until(lambda: town.show()["acked_by"] == "sre-1")
    pages = escalations(town)
    assert "escalation" not in town.show()["deadlines"]
    time.sleep(6 * town.minute)  # past the next moment at which everybody would have been paged again
    assert escalations(town) == pages

    resolved = town.firedoor(
        "incident", "resolve", "INC-1", "--as", "head-of-security", "--code", code("head-of-security")
    )
    assert resolved.returncode == 0, resolved.stderr
    until(lambda: {"postmortem", "customer-initial", "internal-brief"} <= set(town.show()["documents"]))
    paper = town.firedoor("incident", "document", "INC-1", "postmortem")
    assert "INC-1" in paper.stdout
    assert town.firedoor("incident", "verify").returncode == 0
    assert '"containment": "contained"' in town.firedoor("incident", "show", "INC-1", "--json").stdout


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_an_ack_in_time_wakes_nobody_else(tmp_path: Path, moto: str, store_url: str) -> None:
    with Town(tmp_path / "operator", moto, store_url, minute=1) as town:  # L2 is due 15 seconds after the opening
        town.serve()
        assert town.post(town.finding()).status_code == 202
        message = until(
            lambda: next(
                (
                    m
                    for m in reversed(town.workspace.direct_messages("U0SRE1"))
                    if m.blocks and "'ack'" in str(m.blocks)
                ),
                None,
            )
        )
        town.slack.click("U0SRE1", message.channel, message.ts, "ack").wait(30)
        until(lambda: town.show()["acked_by"] == "sre-1")
        opened = record(town)[0].at
        sla = timedelta(seconds=round(15 * town.minute))
        assert town.show()["acked_at"] < str(opened + sla), "the machine is too slow for this test"
        until(lambda: SystemClock().now() > opened + sla + timedelta(seconds=2 * town.minute), 120)
        noted = town.firedoor("incident", "note", "INC-1", "still here", "--as", "sre-1", "--code", code("sre-1"))
        assert noted.returncode == 0, noted.stderr
        assert max(entry.at for entry in record(town) if isinstance(entry.event, NoteAdded)) > opened + sla
        assert asked(town).keys() == {1}
        assert {person for person, _ in escalations(town)} == {"sre-1"}
