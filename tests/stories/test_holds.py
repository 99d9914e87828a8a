"""Two incidents hold one agent: what one lets go of the other still holds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyotp
import pytest

from bot.domain.agent import Mode
from tests.stories import siem
from tests.stories.town import TOTP, Town, until

CHANGE, EXPOSURE = "unintended_production_change", "data_exposure"
STEPS = ("shadow", "revoke_vault", "disable_keys")


@pytest.fixture
def town(tmp_path: Path, moto: str) -> Iterator[Town]:
    with Town(tmp_path / "operator", moto, f"sqlite:///{tmp_path}/firedoor.db", minute=60) as built:
        siem.add(built)
        yield built


def held(town: Town) -> tuple[bool, bool, bool]:
    """Whether the agent is in shadow, its entity disabled, its key inactive: asked of the systems."""
    entity = town.vault.read_entity("e-7")
    (key,) = town.aws("iam").list_access_keys(UserName=town.user)["AccessKeyMetadata"]
    shadowed = town.gateway.agent("agent-7").mode is Mode.SHADOW and not town.gateway.attempt_effect(
        "agent-7", "deploy"
    )
    return shadowed, bool(entity and entity.disabled), key["Status"] == "Inactive"


def codes() -> Iterator[tuple[str, str]]:
    """A person and a code that is good now; each counts once."""
    now = time.time()
    for half_minute in (0, 1):
        for person, secret in TOTP.items():
            yield person, pyotp.TOTP(secret).at(now + 30 * half_minute)


def release(town: Town, incident: str, step: str, proof: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    person, code = proof
    return town.firedoor("incident", "release", incident, step, "--as", person, "--code", code)


def test_what_one_incident_releases_another_still_holds(town: Town) -> None:
    town.serve()
    for type, severity in ((CHANGE, "high"), (EXPOSURE, "medium")):
        assert town.post(siem.alert("agent-7", type, severity=severity), siem.NAME).status_code == 202
    for incident in ("INC-1", "INC-2"):
        until(
            lambda id=incident: town.show(id)["containment"] == "contained", 60, lambda id=incident: str(town.show(id))
        )
    assert town.show("INC-2")["linked"] == ["INC-1"]
    assert held(town) == (True, True, True)
    assert {tuple(one["by"]) for one in town.show("INC-1")["holds"]} == {("INC-1", "INC-2")}

    assert release(town, "INC-1", "shadow", ("security-ops-1", "000000")).returncode != 0
    proofs = codes()
    for step in STEPS[:2]:
        done = release(town, "INC-1", step, next(proofs))
        assert done.returncode == 0, done.stderr
    until(lambda: all(town.show("INC-1")["steps"][step]["status"] == "released" for step in STEPS[:2]))
    time.sleep(1)  # whatever might still have been loosened
    assert held(town) == (True, True, True)
    assert town.show("INC-2")["containment"] == "contained"

    for step in STEPS[:2]:
        done = release(town, "INC-2", step, next(proofs))
        assert done.returncode == 0, done.stderr
    until(lambda: held(town) == (False, False, True), 30, lambda: f"{held(town)} {town.show('INC-2')['steps']}")
    assert town.gateway.attempt_effect("agent-7", "deploy")
    until(lambda: all(town.show("INC-2")["steps"][step]["status"] == "released" for step in STEPS[:2]))
    assert town.firedoor("incident", "verify").returncode == 0
