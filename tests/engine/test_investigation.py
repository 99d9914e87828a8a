"""An agent made three privileged actions: one that was approved, one with nobody's leave, and one under an approval
that was given for another plan. The audit names each, by itself, as soon as the evidence is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.domain.alert import Severity
from bot.domain.events import ApprovalsAudited, EvidenceRead
from bot.domain.evidence import custody, manifests
from bot.domain.incident import Incident
from bot.domain.timeline import narrate
from bot.engine import verbs
from bot.engine.investigator import _Reading, investigate
from bot.errors import RecordBroken, Refused
from tests.engine.desk import Desk

STEP = "quarantine_role"
PERSON = "head-of-security"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(f"sqlite:///{tmp_path / 'firedoor.db'}")
    yield desk
    desk.stop()


def approved(desk: Desk) -> tuple[str, str]:
    """A plan that two persons approved, in an incident of another agent: (request, its hash)."""
    desk.receive(agent="agent-9", severity_id=Severity.CRITICAL)
    desk.forward(minutes=1)
    request = desk.incident().steps[STEP].request
    groups = desk.incident().approvals[request].each
    for group in groups:
        others = {person for person, _ in desk.incident().approvals[request].given} | {"security-ops-1"}
        desk.approve(STEP, next(one for one in desk.config.people.group(group) if one not in others))
    approval = desk.incident().approvals[request]
    assert not approval.refused_by
    assert len(approval.given) == 2
    return request, approval.hash


def three_deeds(desk: Desk) -> tuple[str, str]:
    request, plan = approved(desk)
    desk.forward(minutes=5)
    tools = next(iter(desk.estate.gateways.values()))
    tools.record("agent-7", "prompt", text="tidy up *bold* <!channel> \x1b[31m")
    tools.record("agent-7", "tool_call", tool="deploy.run", approval=request, plan=plan)
    desk.forward(seconds=30)
    tools.record("agent-7", "tool_call", tool="db.migrate.orders")
    desk.forward(seconds=30)
    tools.record("agent-7", "tool_call", tool="deploy.rollback", approval=request, plan="f" * 64)
    desk.forward(seconds=30)
    desk.receive()
    desk.forward(minutes=2)
    return request, plan


def kept(desk: Desk, id: str = "INC-2") -> tuple[ApprovalsAudited, dict]:
    audited = desk.incident(id).audited
    assert audited is not None
    with desk.store.reading() as tx:
        return audited, json.loads(tx.get_text(audited.artefact) or b"")


def test_the_audit_names_each_of_three_deeds(desk: Desk):
    request, plan = three_deeds(desk)
    audited, result = kept(desk)
    assert (audited.valid, audited.bypassed, audited.misapplied, audited.unknown) == (1, 1, 1, 0)
    by_name = {one["name"]: one for one in result["findings"]}
    assert {name: one["verdict"] for name, one in by_name.items()} == {
        "tool:deploy.run": "valid",
        "tool:db.migrate.orders": "bypassed",
        "tool:deploy.rollback": "misapplied",
    }
    assert plan[:12] in by_name["tool:deploy.rollback"]["why"]
    assert by_name["tool:db.migrate.orders"]["shown_by"] == []
    digests = {f"{one.stream}/{one.version}": one.digest for one in desk.entries("INC-1")}
    for name in ("tool:deploy.run", "tool:deploy.rollback"):
        shown = by_name[name]["shown_by"]
        assert len(shown) == 3  # the request, and the two who approved it
        assert all(digests[f"{one['stream']}/{one['version']}"] == one["digest"] for one in shown)
    assert by_name["tool:deploy.run"]["approval"] == request


def test_the_record_the_card_and_the_question_say_it(desk: Desk):
    three_deeds(desk)
    said = [line.text for line in narrate(desk.entries("INC-2")) if line.text.startswith("Approval path")]
    assert said == ["Approval path: 1 bypassed, 1 misapplied, 1 valid."]
    channel, ts = desk.incident("INC-2").card
    messages = desk.chat.messages(channel)
    (card,) = (one.message for one in messages if one.ref.ts == ts)
    assert "approval path: 1 bypassed, 1 misapplied, 1 valid" in json.dumps(card.blocks)
    posts = [
        one.message.text for one in messages if "Approval path: " in one.message.text and "proof" in one.message.text
    ]
    assert len(posts) == 2  # of both incidents, in one channel
    assert "1 misapplied, 1 valid. confirm_impact asks for it" in posts[1]


def test_the_timeline_merges_the_logs_and_the_record(desk: Desk):
    three_deeds(desk)
    _, result = kept(desk)
    rows = result["timeline"]
    assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
    assert {"gateway", "record"} <= {row["source"] for row in rows}
    prompt = next(row for row in rows if "tidy up" in row["text"])
    assert "\x1b" not in prompt["text"]
    assert result["caveats"].keys() >= {row["source"] for row in rows}


def test_asked_again_it_says_the_same(desk: Desk):
    three_deeds(desk)
    first, result = kept(desk)
    desk.say(verbs.audit("INC-2", PERSON, "cli"))
    again, once_more = kept(desk)
    assert again.decision != first.decision
    assert once_more["findings"] == result["findings"]
    assert len(desk.events(ApprovalsAudited, "INC-2")) == 2


def test_without_evidence_there_is_nothing_to_audit(desk: Desk):
    desk.receive(type="unclassified", agent=None)
    with pytest.raises(Refused, match="no evidence yet"):
        desk.say(verbs.audit("INC-1", PERSON, "cli"))


def test_reading_is_a_link_of_the_chain_of_custody(desk: Desk):
    three_deeds(desk)
    desk.say(verbs.read_evidence("INC-2", "export", (), PERSON, "cli"))
    links = [(one.what, one.who) for one in custody(desk.entries("INC-2"))]
    assert ("collected", "firedoor") in links
    assert ("judged", "firedoor") in links
    assert links[-1] == ("exported", PERSON)
    with pytest.raises(Refused, match="read_evidence is for"):
        desk.say(verbs.read_evidence("INC-2", "show", ("a" * 64,), "dpo", "cli"))
    assert len(desk.events(EvidenceRead, "INC-2")) == 1


def _again(desk: Desk, evidence: object, id: str = "INC-2", other: object = None):
    world = desk.engine.world
    folded: tuple[Incident, tuple] = (desk.incident(id), desk.entries(id))
    find = other or (lambda stream: (desk.incident(stream), desk.entries(stream)) if stream == "INC-1" else None)
    return investigate(*folded, evidence, world.config.policy, find)  # type: ignore[arg-type]  # stand-ins


class Tampered:
    """The evidence store after somebody changed what is in it."""

    def __init__(self, store: object) -> None:
        self._store = store

    def get(self, address: str) -> bytes | None:
        data = self._store.get(address)
        return data.replace(b"deploy.", b"search.") if data else None


def test_evidence_that_was_changed_is_named_and_not_believed(desk: Desk):
    three_deeds(desk)
    found = _again(desk, Tampered(desk.estate.evidence))
    assert any("its SHA-256 differs" in one for one in found.missing)
    assert all(one.deed.source != "gateway" for one in found.findings)
    gone = _again(desk, None)
    assert gone.findings == ()
    assert len(gone.missing) == len(manifests(desk.entries("INC-2")))


def test_a_record_that_cannot_be_read_makes_it_unknown_and_not_bypassed(desk: Desk):
    three_deeds(desk)

    def broken(_: str) -> None:
        raise RecordBroken("INC-1: a signature does not fit")

    verdicts = {one.deed.name: str(one.verdict) for one in _again(desk, desk.estate.evidence, other=broken).findings}
    assert verdicts["tool:deploy.run"] == "unknown"
    assert verdicts["tool:db.migrate.orders"] == "bypassed"


def test_a_manifest_of_pods_does_not_make_the_agents_own_log_missing(desk: Desk):
    three_deeds(desk)
    store, incident = desk.estate.evidence, desk.incident("INC-2")
    (kept_one,) = manifests(desk.entries("INC-2"))
    item = {"source": "k8s/kubernetes/agents/a", "kind": "pod_logs", "sha256": "0", "address": "gone"}
    late = {
        "items": [item],
        "missing": [{"source": "k8s/kubernetes/agents/b", "kind": "pod_logs", "why": "it is gone"}],
    }
    put = store.put(json.dumps(late).encode(), name="pods", retain_until=None)
    read = _Reading(store, incident)
    assert [*read.manifest(kept_one), *read.manifest(replace(kept_one, address=put.address, sha256=put.sha256))]
    assert read.heard
    assert "k8s/kubernetes/agents/b: it is gone" in read.missing


def test_without_a_policy_it_says_that_nothing_was_judged(tmp_path: Path):
    plain = Desk(f"sqlite:///{tmp_path / 'firedoor.db'}")
    desk = replace(plain, config=replace(plain.config, policy={}), estate=None, rang=[])
    desk.receive()
    desk.forward(minutes=2)
    audited, _ = kept(desk, "INC-1")
    assert "policies/actions.yaml is missing" in audited.why
    desk.stop()
    plain.stop()


def test_the_postmortem_shows_the_findings_and_escapes_what_the_logs_say(desk: Desk):
    three_deeds(desk)
    desk.resolve("INC-2")
    with desk.store.reading() as tx:
        text = (tx.get_text(desk.incident("INC-2").documents["postmortem"]) or b"").decode()
    assert "1 bypassed, 1 misapplied, 1 valid" in text
    assert "`tool:db.migrate.orders` in gateway | bypassed | it names no approval | nothing in the record" in text
    assert "## Appendix: what the logs and the record say" in text
    assert "*bold*" not in text
    assert "<!channel>" not in text
    assert "\x1b" not in text
