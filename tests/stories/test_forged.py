"""What a forged alert can make a live bot do: page people, and nothing else. It comes from a stranger, or is
about the bot itself, whom its source may not speak of, or what must not be touched; or it was said before."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bot.domain.agent import Mode
from tests.stories import siem
from tests.stories.town import ACCOUNT, Town, until

CHANGE, EXPOSURE = "unintended_production_change", "data_exposure"
BOT = f"arn:aws:iam::{ACCOUNT}:role/firedoor"
BREAK_GLASS = f"arn:aws:iam::{ACCOUNT}:role/break-glass"


@pytest.fixture
def town(tmp_path: Path, moto: str) -> Iterator[Town]:
    with Town(tmp_path / "operator", moto, f"sqlite:///{tmp_path}/firedoor.db", minute=60) as built:
        siem.add(built)
        with built.editing("sources.yaml") as body:
            known = body["sources"][siem.NAME]
            body["sources"]["narrow"] = {**known, "agents": ["agent-9"]}
            narrow = {**known, "agents": ["agent-9"], "map": {**known["map"], "actors": "[actor]"}}
            body["sources"]["narrow-by-actor"] = narrow
            wide = {**known, "map": {**known["map"], "resources": "[resource]"}}
            body["sources"]["signed"] = {**wide, "auth": {"kind": "hmac", "secret": "env:T_BEARER"}}
        with built.editing("agents.yaml") as body:
            body["protected"] = [BREAK_GLASS]
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


def signed(town: Town, id: str, body: bytes, *, secret: str = "", at: float = 0.0) -> httpx.Response:
    """By Standard Webhooks, in this test's own few lines."""
    stamp = str(int(at or time.time()))
    key = (secret or town.env["T_BEARER"]).encode()
    mark = hmac.digest(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256)
    headers = {
        "webhook-id": id,
        "webhook-timestamp": stamp,
        "webhook-signature": "v1," + base64.b64encode(mark).decode(),
        "content-type": "application/json",
    }
    return httpx.post(f"{town.url}/v1/alerts/signed", content=body, headers=headers, timeout=20)


def opened(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    (receipt,) = answer.json()["alerts"]
    return dict(receipt)


def test_forged_alerts_of_trusted_sources_page_people_and_contain_nothing(town: Town) -> None:
    town.serve()
    # A source that may only speak of agent-9 names agent-7, by its name and by its access key.
    of_others = opened(town.post(siem.alert("agent-7", CHANGE), "narrow"))
    by_actor = opened(town.post(siem.alert("", EXPOSURE) | {"actor": town.key}, "narrow-by-actor"))
    assert "may not speak of agent-7" in by_actor["why"]
    # A signed one about agent-7 that names a protected identity beside it.
    body = json.dumps(siem.alert("agent-7", CHANGE) | {"resource": BREAK_GLASS}).encode()
    protected = opened(signed(town, "msg-1", body))
    assert "only proposed" in protected["why"]
    incidents = [one["incident"] for one in (of_others, by_actor, protected)]
    assert len(set(incidents)) == 3

    # Said again, re-stamped as senders do, it gets its first answer and counts once; changed or stale it is nobody's.
    assert opened(signed(town, "msg-1", body)) == protected
    assert opened(signed(town, "msg-1", body, at=time.time() - 30)) == protected
    assert signed(town, "msg-1", body, at=time.time() - 3600).status_code == 401
    assert signed(town, "msg-2", body, secret="another-secret-0123456789").status_code == 401
    assert town.post(siem.alert("agent-7", CHANGE), "narrow", token="wrong-secret-0123456789").status_code == 401
    assert town.post(siem.alert("agent-7", CHANGE), "narrow", token="").status_code == 401

    for incident in incidents:
        until(lambda id=incident: any(p["state"] == "sent" for p in town.show(id)["pages"]), 30)
    told = town.show(protected["incident"])
    assert (told["alerts_total"], told["repeats"]) == (1, 0)
    until(lambda: town.show(by_actor["incident"])["steps"]["evidence"]["status"] == "done", 60)
    for incident in incidents:
        steps = town.show(incident)["steps"]
        begun = [name for name, run in steps.items() if run["contains"] and run["targets"] and run["settled_at"]]
        assert begun == []
        assert town.show(incident)["containment"] not in ("contained", "none")
    assert sorted(town.incidents()) == sorted(incidents)
    assert untouched(town)


def test_alerts_of_strangers_and_about_the_bot_page_people_and_contain_nothing(town: Town) -> None:
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
