"""`firedoor init` and `firedoor check`."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.actions import registry
from bot.commands.command import Exit
from bot.config import EXAMPLE, load
from bot.config.schema import playbook_schema_text
from bot.errors import ConfigError
from bot.store import Signer
from bot.wiring import read_keys
from tests.cli.conftest import Firedoor, edit


def test_init_makes_a_folder_that_check_passes(firedoor: Firedoor, tmp_path: Path) -> None:
    folder = tmp_path / "Acme Prod"
    made = firedoor("init", folder)
    assert made.code == 0, made.err
    assert "firedoor drill" in made.out
    assert load(folder).settings.install == "acme-prod"
    checked = firedoor("check", folder)
    assert (checked.code, checked.out) == (0, f"0 problems in {folder}.\n")
    for path in EXAMPLE.iterdir():
        assert (folder / path.name).exists()
        assert not (folder / path.name).is_symlink()


def test_the_schema_that_the_playbooks_name_is_there_and_is_the_loaders(firedoor: Firedoor, tmp_path: Path) -> None:
    assert firedoor("init", tmp_path / "made").code == 0
    playbooks = sorted((tmp_path / "made/playbooks").glob("*.yaml"))
    assert playbooks
    for playbook in playbooks:
        first, _, _ = playbook.read_text().partition("\n")
        _, named, path = first.partition("$schema=")
        assert named, f"{playbook.name} names no schema"
        assert (playbook.parent / path).read_text() == playbook_schema_text(registry())


def test_init_joins_a_folder_with_documents_and_overwrites_no_schema(firedoor: Firedoor, tmp_path: Path) -> None:
    schema = tmp_path / "docs/playbook.schema.json"
    schema.parent.mkdir()
    schema.write_text("ours")
    refused = firedoor("init", tmp_path, "--install", "acme")
    assert refused.code == 2
    assert "docs/playbook.schema.json already" in refused.err
    assert schema.read_text() == "ours"
    schema.rename(schema.with_name("README.md"))
    assert firedoor("init", tmp_path, "--install", "acme").code == 0
    assert (tmp_path / "docs/README.md").read_text() == "ours"
    assert schema.exists()


def test_the_keys_are_fresh_readable_by_the_bot_and_by_nobody_else(firedoor: Firedoor, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert firedoor("init", tmp_path / name).code == 0
    one, two = (read_keys(load(tmp_path / name), tmp_path / name) for name in ("one", "two"))
    assert one.signer.public() != two.signer.public()
    assert len({one.master, one.salt, two.master, two.salt}) == 4
    keys = tmp_path / "one/keys"
    assert Signer.load(keys / "record.pem").public() == one.signer.public()
    assert base64.b64decode((keys / "artefacts.key").read_text()) == one.master
    assert {(keys / name).stat().st_mode & 0o777 for name in ("record.pem", "artefacts.key", "salt.key")} == {0o600}
    assert keys.stat().st_mode & 0o777 == 0o700


def test_init_overwrites_nothing_and_says_what_is_there(firedoor: Firedoor, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    again = firedoor("init", folder)
    assert again.code == 2
    assert again.out == ""
    assert "agents.yaml" in again.err
    assert "keys" in again.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_init_leaves_other_files_of_a_folder_alone(firedoor: Firedoor, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("ours")
    assert firedoor("init", tmp_path, "--install", "acme").code == 0
    assert (tmp_path / "README.md").read_text() == "ours"
    assert load(tmp_path).settings.install == "acme"


@pytest.mark.parametrize("name", ["Acme", "1st", "a b", ""])
def test_a_name_that_is_none_is_refused(firedoor: Firedoor, tmp_path: Path, name: str) -> None:
    made = firedoor("init", tmp_path / "x", "--install", name or " ")
    assert made.code == 2
    assert not (tmp_path / "x").exists()


def test_init_into_a_file_says_so(firedoor: Firedoor, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    made = firedoor("init", tmp_path / "x")
    assert made.code == 2
    assert made.err == f"firedoor: {tmp_path}/x is a file; a folder is needed.\n"


def test_check_says_every_problem_with_its_line(firedoor: Firedoor, folder: Path) -> None:
    people = folder / "people.yaml"
    people.write_text(people.read_text().replace("declare: [anyone]", "declair: [anyone]"))
    playbook = folder / "playbooks/data-exposure.yaml"
    playbook.write_text(playbook.read_text().replace("uses: vault.revoke_agent", "uses: vault.revoke", 1))
    checked = firedoor("check", "--config", folder)
    assert checked.code == 1
    lines = checked.out.splitlines()
    assert any(line.startswith("people.yaml:") and "Did you mean 'declare'?" in line for line in lines)
    assert any("playbooks/data-exposure.yaml:" in line and "vault.revoke_agent" in line for line in lines)
    assert lines[-1].startswith("2 problems in")


def test_advice_is_printed_and_does_not_fail(firedoor: Firedoor, folder: Path) -> None:
    edit(folder / "firedoor.yaml", lambda body: body.pop("public_url"))
    checked = firedoor("check", folder)
    assert checked.code == 0
    assert "warning: 'public_url' is missing" in checked.out
    assert "0 problems" in checked.out
    assert "1 piece of advice" in checked.out


def test_check_reads_secrets_only_when_asked(firedoor: Firedoor, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIREDOOR_VAULT_TOKEN", raising=False)
    assert firedoor("check", folder).code == 0
    asked = firedoor("check", folder, "--secrets")
    assert asked.code == 1
    assert (
        "settings.connections.vault.token: env:FIREDOOR_VAULT_TOKEN: the environment variable is not set." in asked.out
    )
    assert "keys" not in asked.out
    monkeypatch.setenv("FIREDOOR_VAULT_TOKEN", "hvs.of-this-test")
    again = firedoor("check", folder, "--secrets")
    assert "FIREDOOR_VAULT_TOKEN" not in again.out
    assert "of-this-test" not in again.out


def test_check_of_no_folder_is_a_mistake_in_the_command(firedoor: Firedoor, tmp_path: Path) -> None:
    checked = firedoor("check", tmp_path / "nowhere")
    assert checked.code == 2
    assert "firedoor init" in checked.err


def test_init_check_and_plan_as_real_processes(tmp_path: Path) -> None:
    alert = tmp_path / "alert.json"
    alert.write_text(
        '{"id": "f-1", "rule": {"id": "r"}, "severity": "high", "agent": {"id": "agent-7"}, "types": ["data_exposure"],'
        ' "timestamp": "2026-03-02T02:46:00Z"}'
    )

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bot", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "FIREDOOR_CONFIG": str(tmp_path / "made")},
            cwd=Path(__file__).parents[2],
        )

    for arguments in (("init", tmp_path / "made"), ("check",), ("plan", "data-exposure", "--alert", alert)):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
    assert "this playbook" in done.stdout
    assert run("nonsense").returncode == 2


def test_a_wrong_configuration_is_one_line_and_code_3(firedoor: Firedoor, folder: Path) -> None:
    text = (folder / "firedoor.yaml").read_text()
    (folder / "firedoor.yaml").write_text(text.replace("notify:", "notifi:").replace("intake:", "intak:"))
    listed = firedoor("incident", "list", "--config", folder)
    assert listed.code == 3
    assert listed.err.startswith("firedoor: firedoor.yaml:")
    assert listed.err.endswith("(1 more: run firedoor check)\n")
    assert listed.err.count("\n") == 1
    with pytest.raises(ConfigError):
        load(folder)


def test_the_policy_comes_with_it_and_is_checked(firedoor: Firedoor, folder: Path) -> None:
    policy = folder / "policies" / "actions.yaml"
    policy.write_text(policy.read_text().replace("risk: medium", "risk: huge"))
    checked = firedoor("check", folder)
    assert checked.code == Exit.FOUND
    assert "policies/actions.yaml:21: 'risk' is 'huge', which is none of low, medium, high." in checked.out
    policy.unlink()
    checked = firedoor("check", folder)
    assert checked.code == 0
    assert "no approval is audited. firedoor init writes one" in checked.out
