import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.actions.evidence_collect import CollectEvidence
from bot.domain.agent import Agent, AwsIdentity, VaultIdentity
from bot.domain.outcome import Done, Failed, Grade
from bot.errors import Denied, Unavailable
from bot.ports import Ports
from bot.sandbox.agents import SimGateway
from bot.sandbox.clock import SimClock
from bot.sandbox.vault import SimVault
from tests.actions.driver import drive
from tests.actions.estate import Enrolled, Shelf, Trail, account

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = "prod.1/INC-7/12.0"
ACTION = CollectEvidence()
ROLE = "arn:aws:iam::111122223333:role/agent-7"
AGENT = Agent(
    "7",
    gateways=("tools",),
    vault=VaultIdentity(lease_prefixes=("aws/creds/agent-7/",)),
    aws=AwsIdentity(roles=(ROLE,), users=("agent-7",), access_keys=("AKIAEXAMPLE7",)),
)
SECRET = "hvs.CAESIabcdefghijklmnopqrstuvwxyz0123456789"


class Desk:
    def __init__(self) -> None:
        self.clock = SimClock(NOW)
        self.tools, self.vault = SimGateway("tools", self.clock), SimVault(self.clock)
        self.trail, self.shelf = Trail(), Shelf()
        self.tools.enroll("7")
        self.tools.record("7", "prompt", text=f"use {SECRET} to log in \ud800")
        self.tools.attempt_effect("7", "s3:DeleteObject")
        self.lease = self.vault.issue_lease("aws/creds/agent-7/", "7")
        late, early = NOW - timedelta(hours=1), NOW - timedelta(hours=25)
        self.trail.kept["AccessKeyId", "AKIAEXAMPLE7"] = [
            {"EventId": "e1", "EventTime": late, "EventName": "DeleteObject"},
            {"EventId": "e0", "EventTime": early, "EventName": "ListBuckets"},
        ]
        self.ports = Ports(
            self.clock,
            Enrolled([AGENT]),
            vaults={"vault": self.vault},
            aws={"aws": account(trail=self.trail)},
            gateways={"tools": self.tools},
            evidence=self.shelf,
            salt=b"salt",
        )

    def collect(self) -> Any:
        (target,) = ACTION.targets({"agent": "7"}, AGENT)
        return drive(ACTION, target.params, self.ports, self.clock, KEY)

    def manifest(self, done: Done) -> dict[str, Any]:
        return json.loads(self.shelf.get(done.evidence["manifest"]) or b"")

    def item(self, done: Done, source: str) -> Any:
        (entry,) = (item for item in self.manifest(done)["items"] if item["source"] == source)
        content = self.shelf.get(entry["address"]) or b""
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["size"] == len(content)
        return json.loads(content), entry


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_target_names_every_source():
    (target,) = ACTION.targets({"agent": "7"}, AGENT)
    assert (target.id, target.system) == ("agent-evidence:7", "tools")
    assert target.params["lookups"] == [
        ["AccessKeyId", "AKIAEXAMPLE7"],
        ["Username", "agent-7"],
        ["ResourceName", ROLE],
    ]
    assert ACTION.targets({"agent": "7"}, Agent("7", vault=VaultIdentity(), aws=AwsIdentity())) == ()
    with pytest.raises(ValueError, match="agent 7 is not enrolled"):
        ACTION.targets({"agent": "7"}, None)


def test_everything_is_stored_under_its_digest_for_a_year_and_listed(desk: Desk):
    done = desk.collect()
    assert (done.grade, done.evidence["items"], done.evidence["missing"]) == (Grade.CONFIG, 5, [])
    assert set(done.evidence) == set(ACTION.outputs)
    content = desk.shelf.get(done.evidence["manifest"]) or b""
    assert done.evidence["manifest_sha256"] == hashlib.sha256(content).hexdigest()
    manifest = desk.manifest(done)
    assert manifest["key"] == KEY
    assert manifest["window"] == {"from": "2026-02-28T12:00:00+00:00", "to": "2026-03-01T12:00:00+00:00"}
    assert {stored.locked_until for _, stored in desk.shelf.objects.values()} == {NOW + timedelta(days=365)}
    events, entry = desk.item(done, "cloudtrail/aws/AccessKeyId=AKIAEXAMPLE7")
    assert [event["EventId"] for event in events] == ["e1"]
    assert entry["records"] == 1
    leases, _ = desk.item(done, "vault/vault/leases/aws/creds/agent-7/")
    assert leases == [desk.lease]


def test_secrets_are_taken_out_and_counted(desk: Desk):
    activity, entry = desk.item(desk.collect(), "gateway/tools/activity")
    assert [one["kind"] for one in activity] == ["prompt", "tool_call"]
    assert "[redacted:vault" in activity[0]["text"]
    assert entry["redacted"] == 1
    assert not any(SECRET.encode() in content for content, _ in desk.shelf.objects.values())


def test_again_it_stores_nothing_twice(desk: Desk):
    done = desk.collect()
    stored = len(desk.shelf.objects)
    assert desk.collect() == done
    assert len(desk.shelf.objects) == stored


def test_a_source_that_cannot_be_read_is_missing_and_the_others_are_collected(desk: Desk):
    desk.tools.hung = True
    desk.vault.denied = {"list_leases"}
    desk.trail.faults.add("events", Denied("aws", "no lookup for the bot"))
    done = desk.collect()
    assert done.evidence["items"] == 2
    assert [entry.partition(": ")[0] for entry in done.evidence["missing"]] == [
        "gateway/tools/activity",
        "cloudtrail/aws/AccessKeyId=AKIAEXAMPLE7",
        "vault/vault/leases/aws/creds/agent-7/",
    ]
    assert desk.manifest(done)["missing"][1] == {
        "source": "cloudtrail/aws/AccessKeyId=AKIAEXAMPLE7",
        "why": "no lookup for the bot",
    }


@pytest.mark.parametrize("after", [False, True])
def test_without_its_store_it_waits(desk: Desk, after: bool):
    desk.shelf.faults.add("put", Unavailable("evidence", "no answer"), times=2, after=after)
    done = desk.collect()
    assert done.evidence["items"] == 5
    assert desk.clock.now() > NOW


def test_without_any_store_it_says_so(desk: Desk):
    desk.ports = Ports(desk.clock, Enrolled([AGENT]))
    assert desk.collect() == Failed(False, "no evidence store is configured: add `evidence` to firedoor.yaml")
