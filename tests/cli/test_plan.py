"""`firedoor plan`: what would happen, by the rules that decide in earnest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Firedoor, edit

FINDING: dict[str, Any] = {
    "id": "f-1",
    "rule": {"id": "agent-ddl-outside-plan", "name": "DDL outside the plan"},
    "severity": "critical",
    "agent": {"id": "agent-7"},
    "timestamp": "2026-03-02T02:46:00Z",
    "types": ["unintended_production_change"],
    "message": "DROP TABLE; password=hunter2-hunter2",
    "resources": [{"id": "i-0a91bb0c77de41f02", "type": "AWS::EC2::Instance"}],
    "labels": {"env": "prod"},
}


def written(tmp_path: Path, **changes: Any) -> Path:
    file = tmp_path / "alert.json"
    file.write_text(json.dumps({**FINDING, **changes}))
    return file


def planned(firedoor: Firedoor, folder: Path, playbook: str, alert: Path, *more: object) -> dict[str, Any]:
    done = firedoor("plan", playbook, "--alert", alert, "--config", folder, "--json", *more)
    assert done.code in (0, 1), done.err
    told: dict[str, Any] = json.loads(done.out)
    assert bool(told["problems"]) == bool(done.code)
    return told


@pytest.fixture
def change(firedoor: Firedoor, folder: Path, tmp_path: Path) -> dict[str, Any]:
    return planned(firedoor, folder, "unintended-production-change", written(tmp_path))


def step(told: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in told["steps"] if one["step"] == name)
    return found


def test_the_incident_and_what_triggers(change: dict[str, Any]) -> None:
    assert (change["type"], change["severity"], change["agent"]) == ("unintended_production_change", "SEV1", "agent-7")
    assert [one["matches"] for one in change["triggers"]] == [True]
    assert change["would_run"] == "unintended-production-change"
    assert change["contains_by_itself"]
    assert change["problems"] == []


def test_the_order_is_that_of_the_graph(change: dict[str, Any]) -> None:
    waves: dict[int, list[str]] = {}
    for one in change["steps"]:
        waves.setdefault(one["wave"], []).append(one["step"])
    own = [step for step in waves[1] if "delegates" not in step and step != "revoke_chained"]
    assert own == ["shadow", "revoke_vault", "disable_keys", "revoke_sessions", "evidence", "snapshot"]
    chained = next(one for one in change["steps"] if one["step"] == "revoke_chained")
    assert chained["condition_known_when"] == ["the look at what it holds"]
    assert "quarantine_role" in waves[2]
    assert waves[3] == ["restore_config"]


def test_targets_grades_and_marks(change: dict[str, Any]) -> None:
    shadow, vault = step(change, "shadow"), step(change, "revoke_vault")
    assert [call["target"] for call in shadow["calls"]] == ["agent:agent-7"]
    assert (shadow["requires"], shadow["best_grade"]) == ("verified-effect", "verified-effect")
    assert shadow["contains"]
    assert not shadow["irreversible"]
    assert vault["irreversible"]
    assert vault["calls"][0]["params"]["lease_prefixes"] == ["aws/creds/agent-7/", "database/creds/agent-7/"]
    assert [call["target"] for call in step(change, "snapshot")["calls"]] == ["ec2-instance:i-0a91bb0c77de41f02"]


def test_what_a_policy_would_deny_is_told_by_the_evaluator(
    change: dict[str, Any], firedoor: Firedoor, folder: Path, tmp_path: Path
) -> None:
    def answers(name: str) -> list[tuple[str, str]]:
        return [(one["asked_by"], one["answer"]) for one in step(change, name)["calls"][0]["denies"]]

    before, after = "a session from before", "a session from after"
    assert answers("revoke_sessions") == [(before, "explicitDeny"), (after, "not denied")]
    assert answers("quarantine_role") == [(before, "explicitDeny"), (after, "explicitDeny")]
    assert answers("shadow") == []
    alert = written(tmp_path)
    text = firedoor("plan", "unintended-production-change", "--alert", alert, "--config", folder).out
    assert "a session from before: explicitDeny; a session from after: not denied" in text


def test_approvals_name_who_can_give_them_and_never_the_initiator(change: dict[str, Any]) -> None:
    approval = step(change, "quarantine_role")["approval"]
    assert approval["each"] == {"security_team": 1, "infra_owner": 1}
    assert approval["not"] == "security-ops-1"
    assert approval["able"]["security_team"] == ["security-ops-2", "head-of-security"]
    assert step(change, "shadow")["approval"] is None


def test_what_depends_on_earlier_outputs_is_said_to(change: dict[str, Any]) -> None:
    restore = step(change, "restore_config")
    assert restore["condition_known_when"] == ["confirm_impact"]
    assert restore["calls"][0]["target"] == "endpoint:deploy_api"
    assert restore["approval"]["each"] == {"infra_owner": 1}
    assert restore["rollback"] == "http.call"


def test_inputs_that_are_outputs_of_earlier_steps_are_not_guessed(
    firedoor: Firedoor, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "draft.yaml"
    file.write_text(
        "apiVersion: firedoor/v1\nkind: Playbook\nid: draft\nversion: 0.1.0\ntriggers: [{types: [data_exposure]}]\n"
        "steps:\n"
        "  keep:\n    uses: evidence.collect\n    with: {agent: '${{ agent.id }}'}\n    irreversible: true\n"
        "  tell:\n    needs: [keep]\n    uses: http.call\n    irreversible: true\n"
        "    with: {connection: deploy_api, path: '/evidence/${{ steps.keep.outputs.manifest_sha256 }}'}\n"
    )
    told = planned(firedoor, folder, str(file), written(tmp_path))
    tell = step(told, "tell")
    assert (tell["inputs_known_when"], tell["calls"], tell["status"]) == (["keep"], [], "unknown")
    text = firedoor("plan", file, "--alert", written(tmp_path), "--config", folder).out
    assert "known when keep is done" in text


def test_the_blast_radius_is_counted_by_kind(change: dict[str, Any]) -> None:
    radius = {one["kind"]: one for one in change["blast_radius"]}
    assert radius["agent"] == {"kind": "agent", "targets": ["agent:agent-7"], "enrolled": 2, "percent": 50}
    assert radius["ec2-instance"]["percent"] is None
    assert change["held_back"] == []


def test_what_the_agent_and_its_delegates_hold_is_counted_from_agents_yaml(
    firedoor: Firedoor, folder: Path, tmp_path: Path
) -> None:
    edit(folder / "agents.yaml", lambda body: body["agents"]["agent-7"].update(delegates=["agent-9"]))
    alert = written(tmp_path)
    own, child = planned(firedoor, folder, "unintended-production-change", alert)["holds"]
    once = ("access-key", "user", "approle", "role", "entity", "gateway", "instance", "agent")
    assert own == {"agent": "agent-7", "counts": dict.fromkeys(once, 1) | {"lease-prefix": 2}}
    assert child["agent"] == "agent-9"
    asked = ("plan", "unintended-production-change", "--alert", str(alert), "--source", "siem", "--config", str(folder))
    said = firedoor(*asked).out
    assert "agent-7 holds 1 key, 1 AppRole, 2 lease prefixes, 1 role, 1 Vault entity, 1 gateway" in said
    assert "agent-9, which acts for it, holds 1 AppRole, 1 lease prefix, 1 role, 1 Vault entity and 1 gateway" in said
    assert "firedoor reach agent-7" in said


def test_limits_that_would_hold_it_back_are_said(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    edit(folder / "playbooks/data-exposure.yaml", lambda body: body["limits"].update(targets=2))
    told = planned(firedoor, folder, "data-exposure", written(tmp_path, types=["data_exposure"]))
    assert told["held_back"] == ["5 targets, over the limit of 2"]


def test_a_source_that_may_only_propose(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    edit(folder / "sources.yaml", lambda body: body["sources"]["siem"].update(may_contain=False))
    told = planned(firedoor, folder, "unintended-production-change", written(tmp_path))
    assert not told["contains_by_itself"]
    assert told["distrust"] == "the source siem may only propose"
    shadow = step(told, "shadow")
    assert shadow["status"] == "awaiting_approval"
    assert shadow["approval"]["because"] == told["distrust"]


def test_an_agent_that_is_not_enrolled_is_a_problem(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    told = planned(firedoor, folder, "unintended-production-change", written(tmp_path, agent={"id": "agent-404"}))
    assert told["agent"] is None
    assert any(problem.startswith("shadow cannot be planned") for problem in told["problems"])
    text = firedoor("plan", "unclassified", "--alert", written(tmp_path, agent={"id": "agent-404"}), "--config", folder)
    assert text.code == 1
    assert "agent-404, not enrolled" in text.out


def test_another_playbook_than_the_one_that_would_run(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    text = firedoor("plan", "data-exposure", "--alert", written(tmp_path), "--config", folder)
    assert text.code == 0
    assert "does not match: it is for data_exposure, not unintended_production_change" in text.out
    assert "unintended-production-change, not data-exposure" in text.out


def test_secrets_and_escape_sequences_of_an_alert_are_not_printed(
    firedoor: Firedoor, folder: Path, tmp_path: Path
) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    alert = written(tmp_path, rule={"id": f"\x1b[2Jx {secret}"})
    for more in ((), ("--json",)):
        done = firedoor("plan", "unintended-production-change", "--alert", alert, "--config", folder, *more)
        assert done.code == 0, done.err
        assert "\x1b" not in done.out
        assert secret not in done.out
        assert "hunter2" not in done.out


def test_nothing_is_written_and_no_secret_is_needed(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    (folder / "keys/record.pem").unlink()
    before = sorted(folder.rglob("*"))
    assert firedoor("plan", "data-exposure", "--alert", written(tmp_path), "--config", folder).code == 0
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("plan", "data-exposur"), 2, "Did you mean 'data-exposure'?"),
        (("plan", "data-exposure", "--source", "siemm"), 2, "Did you mean 'siem'?"),
        (("plan", "data-exposure", "--source", "guardduty"), 1, "guardduty"),
        (("plan", "data-exposure", "--pick", "2"), 2, "the delivery has 1 alert."),
    ],
)
def test_mistakes_are_one_line(
    firedoor: Firedoor, folder: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = firedoor(*arguments, "--alert", written(tmp_path), "--config", folder)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("firedoor: ")
    assert says in done.err
    assert done.err.count("\n") == 1


def test_files_that_are_no_alert(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "alert.json"
    for text, code in (("{", 1), ("[]", 2), ('{"nothing": 1}', 2)):
        file.write_text(text)
        done = firedoor("plan", "data-exposure", "--alert", file, "--config", folder)
        assert done.code == code, done
        assert done.err.count("\n") == 1
    assert firedoor("plan", "data-exposure", "--alert", tmp_path / "none", "--config", folder).code == 2
