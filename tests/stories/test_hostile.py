"""What a stranger can make a live bot do: page people, and nothing else; and what it can make it repeat: no secret."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.domain.agent import Mode
from tests.stories.town import ACCOUNT, Town, until

BOT = f"arn:aws:iam::{ACCOUNT}:role/firedoor"
SECRETS = {
    "vault": "hvs.CAESIJ" + "x7Kq2mVb9TzR4wPn8sLd3fGh6jYcE1aU5oQi0eXt",
    "github": "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8",
    "password": "correct-horse-battery-9931",
}


@pytest.fixture
def town(tmp_path: Path, moto: str) -> Iterator[Town]:
    with Town(tmp_path / "operator", moto, f"sqlite:///{tmp_path}/firedoor.db", minute=60) as built:
        yield built


def untouched(town: Town) -> bool:
    """Asked of the systems: everything the agent held is still there."""
    iam, ec2 = town.aws("iam"), town.aws("ec2")
    (key,) = iam.list_access_keys(UserName=town.user)["AccessKeyMetadata"]
    policies = iam.list_role_policies(RoleName=town.role)["PolicyNames"]
    groups = ec2.describe_instances(InstanceIds=[town.instance])["Reservations"][0]["Instances"][0]["SecurityGroups"]
    entity, mode = town.vault.read_entity("e-7"), town.gateway.state("agent-7")
    return (
        key["Status"] == "Active"
        and policies == []
        and all(group["GroupName"] != "firedoor-quarantine" for group in groups)
        and entity is not None
        and not entity.disabled
        and len(town.vault.leases_of("agent-7")) == 2
        and mode is not None
        and mode.mode is Mode.ACTIVE
    )


def test_forged_alerts_page_people_and_contain_nothing(town: Town) -> None:
    with town.editing("agents.yaml") as agents:
        agents["protected"] = ["agent-9", f"arn:aws:iam::{ACCOUNT}:role/break-glass"]
    town.serve()

    assert town.post(town.finding(), token="wrong-secret-0123456789").status_code == 401
    assert untouched(town)

    # Through a source that proves nothing: an incident, people, proposals.
    first = town.post(town.finding(), source="anybody", token="").json()["alerts"][0]
    assert first["status"] == "opened"
    assert "may only propose" in first["why"]

    # Through a trusted source, naming the bot itself and a protected identity.
    about_the_bot = town.finding()
    keys = about_the_bot["detail"]["resource"]["accessKeyDetails"]
    keys |= {"accessKeyId": BOT, "userName": "firedoor", "principalId": BOT}
    about_the_bot["detail"]["resource"]["instanceDetails"]["iamInstanceProfile"]["arn"] = BOT
    second = town.post(about_the_bot).json()["alerts"][0]
    assert second["status"] == "opened"

    until(lambda: town.workspace.direct_messages("U0SRE1"), 60)
    for opened in (first, second):
        shown = until(lambda id=opened["incident"]: _quiet(town, id), 60)
        cuts = {step: run["status"] for step, run in shown["steps"].items() if run["contains"]}
        assert not {"running", "done"} & set(cuts.values()), cuts
        assert shown["containment"] != "contained"
    assert untouched(town)


def _quiet(town: Town, incident: str) -> dict[str, object] | None:
    shown = town.show(incident)
    kept = shown["steps"]["evidence"]["status"]
    return shown if kept not in ("waiting", "ready", "running") else None


def test_a_planted_secret_is_nowhere_afterwards(town: Town) -> None:
    served = town.serve()
    finding = town.finding()
    finding["detail"]["description"] = f"the agent wrote {SECRETS['vault']} and {SECRETS['github']} into a ticket"
    finding["detail"]["service"]["additionalInfo"] = {"password": SECRETS["password"]}
    town.vault_server.answer_once("/v1/sys/leases/revoke", 500, f"backend said {SECRETS['vault']}")
    town.gateway.record("agent-7", "tool_call", text=f"export TOKEN={SECRETS['github']}")
    assert town.post(finding).status_code == 202
    until(lambda: town.show()["containment"] == "contained", 90, lambda: str(town.show()["steps"]))
    until(lambda: "internal-brief" in town.show()["documents"], 30)
    metrics = town.metrics()
    paper = town.firedoor("incident", "document", "INC-1", "internal-brief").stdout
    assert "INC-1" in paper
    s3 = town.aws("s3")
    evidence = [
        s3.get_object(Bucket=town.bucket, Key=one["Key"])["Body"].read()
        for one in s3.list_objects_v2(Bucket=town.bucket)["Contents"]
    ]
    served.stop()
    where = {
        "the database": b"".join(path.read_bytes() for path in town.folder.parent.glob("firedoor.db*")),
        "the log": served.log.read_bytes(),
        "Slack": str(town.workspace.state()).encode(),
        "mail": str(town.mailbox.mails).encode(),
        "webhooks": str(town.hooks.received).encode(),
        "metrics": metrics.encode(),
        "a document": paper.encode(),
        "evidence": b"".join(evidence),
        "the record, read": str(town.show()).encode(),
    }
    found = [
        (what, name) for name, secret in SECRETS.items() for what, text in where.items() if secret.encode() in text
    ]
    assert found == []
