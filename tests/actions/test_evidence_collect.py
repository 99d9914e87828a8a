import hashlib
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.actions import evidence
from bot.actions.evidence import Source
from bot.actions.evidence_collect import CollectEvidence
from bot.actions.vault_revoke_agent import RevokeAgent
from bot.domain.agent import Agent, AwsIdentity, VaultIdentity
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.redaction import redactions
from bot.errors import Denied, Unavailable
from bot.ports import Ports
from bot.sandbox.agents import SimGateway
from bot.sandbox.aws import SimAws
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
    vault=VaultIdentity(lease_prefixes=("aws/creds/agent-7/",), entity_id="e-7", token_accessors=("accessor-7",)),
    aws=AwsIdentity(roles=(ROLE,), users=("agent-7",), access_keys=("AKIAEXAMPLE7",)),
)
SECRET = "hvs.CAESIabcdefghijklmnopqrstuvwxyz0123456789"


class Log:
    """ports.AuditLog in memory."""

    device = "file"

    def __init__(self) -> None:
        self.asked: Collection[str] = ()

    def entries(self, who: Collection[str], since: datetime, until: datetime) -> tuple[Mapping[str, Any], ...]:
        assert until - since == timedelta(hours=24)
        self.asked = who
        return ({"time": NOW.isoformat(), "auth": {"entity_id": "e-7"}, "request": {"path": "secret/data/x"}},)


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
        self.vault.add_entity("e-7", "agent-7")
        self.vault.policies["deploy"] = 'path "secret/data/*" { capabilities = ["read"] }'
        self.vault.policies_of["e-7"] = ("deploy",)
        aws = SimAws(self.clock)
        aws.iam.add_role("agent-7")
        aws.iam.add_user("agent-7")
        self.log = Log()
        self.ports = Ports(
            self.clock,
            Enrolled([AGENT]),
            vaults={"vault": self.vault},
            aws={"aws": account(trail=self.trail, iam=aws.iam)},
            audits={"vault": self.log},
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
    assert (target.id, target.system) == ("agent-evidence:7", "evidence")  # no thread of what contains
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
    assert (done.grade, done.evidence["items"], done.evidence["missing"]) == (Grade.CONFIG, 9, [])
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
    assert entry | {"key": KEY, "lock": "COMPLIANCE", "kind": "cloudtrail", "connection": "aws"} == entry
    assert entry["locked_until"] == done.evidence["locked_until"] == "2027-03-01T12:00:00+00:00"


def test_what_it_was_allowed_to_do_is_kept_as_documents(desk: Desk):
    done = desk.collect()
    role, _ = desk.item(done, "iam/aws/role/agent-7/policies")
    assert [policy["kind"] for policy in role] == ["trust", "managed"]
    assert role[1]["document"]["Statement"][0]["Effect"] == "Allow"
    policies, _ = desk.item(done, "vault/vault/entity/e-7/policies")
    assert policies == [{"name": "deploy", "policy": desk.vault.policies["deploy"]}]


def test_the_audit_log_is_asked_by_entity_and_by_the_accessors_hash(desk: Desk):
    audit, _ = desk.item(desk.collect(), "vault/vault/audit")
    assert [one["request"]["path"] for one in audit] == ["secret/data/x"]
    assert desk.log.asked == ["e-7", desk.vault.audit_hash("file", "accessor-7"), "accessor-7"]


def test_an_audit_log_that_nobody_configured_is_missing_and_not_empty(desk: Desk):
    desk.ports = replace(desk.ports, audits={})
    (missing,) = desk.manifest(desk.collect())["missing"]
    assert missing["source"] == "vault/vault/audit"
    assert "does not say where" in missing["why"]


def test_secrets_are_taken_out_and_counted(desk: Desk):
    activity, entry = desk.item(desk.collect(), "gateway/tools/activity")
    assert [one["kind"] for one in activity] == ["prompt", "tool_call"]
    assert "[redacted:vault" in activity[0]["text"]
    assert entry["redacted"] == {"count": 1, "kinds": {"vault": 1}, "where": ["/0/text"]}
    assert entry["kinds"] == {"prompt": 1, "tool_call": 1}
    assert not any(SECRET.encode() in content for content, _ in desk.shelf.objects.values())


def test_again_it_stores_nothing_twice(desk: Desk):
    done = desk.collect()
    stored = len(desk.shelf.objects)
    assert desk.collect() == done
    assert len(desk.shelf.objects) == stored


def test_a_source_that_cannot_be_read_is_missing_and_the_others_are_collected(desk: Desk):
    desk.tools.hung = True
    desk.vault.denied = {"list_leases"}
    desk.trail.kept["Username", "agent-7"] = [{"EventTime": NOW}]
    lookups = desk.trail.events
    desk.trail.events = lambda attribute, *rest: _denied() if attribute == "AccessKeyId" else lookups(attribute, *rest)
    done = desk.collect()
    assert done.evidence["items"] == 6
    assert [entry.partition(": ")[0] for entry in done.evidence["missing"]] == [
        "vault/vault/leases/aws/creds/agent-7/",
        "gateway/tools/activity",
        "cloudtrail/aws/AccessKeyId=AKIAEXAMPLE7",
    ]
    assert desk.manifest(done)["missing"][2] == {
        "source": "cloudtrail/aws/AccessKeyId=AKIAEXAMPLE7",
        "kind": "cloudtrail",
        "why": "no lookup for the bot",
    }


def test_of_a_busy_key_the_newest_are_kept_and_the_rest_is_named_missing(desk: Desk):
    desk.trail.kept["AccessKeyId", "AKIAEXAMPLE7"] = [{"EventId": f"e{n}", "EventTime": NOW} for n in range(1001)]
    done = desk.collect()
    events, _ = desk.item(done, "cloudtrail/aws/AccessKeyId=AKIAEXAMPLE7")
    assert len(events) == 1000
    (missing,) = desk.manifest(done)["missing"]
    assert missing["source"] == "cloudtrail/aws/AccessKeyId=AKIAEXAMPLE7"
    assert missing["why"] == "it has more than the newest 1000 events: the older ones were not read"


@pytest.mark.parametrize("after", [False, True])
def test_without_its_store_it_waits(desk: Desk, after: bool):
    desk.shelf.faults.add("put", Unavailable("evidence", "no answer"), times=2, after=after)
    done = desk.collect()
    assert done.evidence["items"] == 9
    assert desk.clock.now() > NOW


def test_without_any_store_it_says_so(desk: Desk):
    desk.ports = Ports(desk.clock, Enrolled([AGENT]))
    assert desk.collect() == Failed(False, "no evidence store is configured: add `evidence` to firedoor.yaml")


def _denied() -> Any:
    raise Denied("aws", "no lookup for the bot")


@pytest.fixture
def stuck():
    """A source that hangs until the test is over."""
    over = threading.Event()
    yield over.wait
    over.set()


def test_a_source_that_hangs_is_named_and_holds_up_no_other(desk: Desk, stuck: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(CollectEvidence, "box", 0.5)
    monkeypatch.setattr(desk.tools, "activity", lambda *_: stuck())
    done = desk.collect()
    assert done.evidence["items"] == 8
    assert done.evidence["missing"] == ["gateway/tools/activity: no whole answer within 0.5 s"]


def test_revocation_leaves_while_a_source_hangs(desk: Desk, stuck: Any):
    """The source is the very Vault: its leases are revoked while the collector still waits for it to list them."""
    entered, list_leases = threading.Event(), desk.vault.list_leases

    def hangs(prefix: str) -> tuple[str, ...]:
        if threading.current_thread().name.startswith("evidence-"):
            entered.set()
            stuck()
        return list_leases(prefix)

    desk.vault.list_leases = hangs  # type: ignore[method-assign]  # only the collector's threads hang
    (target,) = ACTION.targets({"agent": "7"}, AGENT)
    collecting = threading.Thread(target=ACTION.run, args=(target.params, desk.ports), kwargs={"key": KEY}, daemon=True)
    collecting.start()
    assert entered.wait(30)
    (cut,) = RevokeAgent().targets({"agent": "7"}, AGENT)
    assert cut.system != target.system  # another pool of threads
    assert isinstance(drive(RevokeAgent(), cut.params, desk.ports, desk.clock, KEY), Done)
    assert desk.vault.leases_of("7") == set()
    assert collecting.is_alive()


def test_what_queues_behind_a_hanging_source_of_its_connection_is_not_asked(stuck: Any):
    asked: list[int] = []

    def answers(number: int) -> Sequence[Any]:
        asked.append(number)
        return [number]

    hang = [Source(f"slow-{n}", "cloudtrail", "aws", lambda: stuck() or []) for n in range(2)]
    behind = [Source(f"behind-{n}", "cloudtrail", "aws", lambda n=n: answers(n)) for n in range(2)]
    beside = [Source("beside", "vault_leases", "vault", lambda: [1])]
    read = {one.source.name: one for one in evidence.read_all([*hang, *behind, *beside], 0.3)}
    assert read["beside"].found == [1]
    assert {read[f"slow-{n}"].why for n in range(2)} == {"no whole answer within 0.3 s"}
    assert all(read[f"behind-{n}"].why.startswith("not asked: aws did not answer") for n in range(2))
    assert asked == []


def test_redactions_are_told_by_their_json_pointers():
    mark = "[redacted:aws:0123abcd]"
    found = redactions({"a/b": [{"~x": f"one {mark} two {mark}"}], mark: 1, "plain": "[redacted:no]"})
    assert [(one.kind, one.path, one.digest) for one in found] == [
        ("aws", "/a~1b/0/~0x", "0123abcd"),
        ("aws", "/a~1b/0/~0x", "0123abcd"),
        ("aws", "", "0123abcd"),
    ]
