"""A sandbox holds nothing live, and leaves nothing that is live alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bot import wiring
from bot.adapters.clock import SystemClock
from bot.commands import main
from bot.config import EXAMPLE, Config, SecretRef, load
from bot.embedded import KEYS, TERMINAL, sandbox
from bot.errors import ConfigError
from bot.sandbox.agents import SimGateway
from bot.sandbox.aws import SimIam
from bot.sandbox.vault import SimVault


@pytest.fixture(scope="module")
def config() -> Config:
    return load(EXAMPLE)


def test_every_system_in_it_is_simulated_and_no_secret_of_the_configuration_is_read(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = SecretRef("env", "FIREDOOR_SIEM_SECRET")
    monkeypatch.setenv(ref.name, "the-secret-of-the-live-siem")
    with sandbox(config, EXAMPLE, tmp_path, environ={}) as embedded, closing(embedded.bot.store):
        ports, settings = embedded.bot.engine.world.ports, embedded.bot.config.settings
        assert {type(vault) for vault in ports.vaults.values()} == {SimVault}
        assert {type(gateway) for gateway in ports.gateways.values()} == {SimGateway}
        assert {type(account.iam) for account in ports.aws.values()} == {SimIam}
        assert embedded.bot.secret(ref) == embedded.bot.secret(ref) != "the-secret-of-the-live-siem"
        assert settings.mode == "sandbox"
        assert settings.slack
        assert settings.slack.api_url == embedded.workspace.api_url
        assert not any(source.queue for source in embedded.bot.config.sources.values())


def test_its_record_never_becomes_a_live_one(config: Config, tmp_path: Path) -> None:
    with sandbox(config, EXAMPLE, tmp_path, environ={}) as embedded:
        embedded.bot.store.close()
    live = replace(config.settings, mode="live", store=f"sqlite:///{tmp_path}/record.db", keys=KEYS)
    live_config = replace(config, settings=live)
    with pytest.raises(ConfigError, match="sandbox"):
        wiring.open_store(live_config, tmp_path, wiring.read_keys(live_config, tmp_path), SystemClock())


@pytest.mark.parametrize("token", ["xoxb-1-2-abc", "xoxp-1", "xapp-1-A-2"])
def test_it_does_not_start_beside_a_real_token(config: Config, tmp_path: Path, token: str) -> None:
    with (
        pytest.raises(ConfigError, match="real Slack workspace"),
        sandbox(config, EXAMPLE, tmp_path, environ={"ANY_NAME": token}),
    ):
        pytest.fail("it started")
    (tmp_path / "token").write_text(token)
    assert config.settings.slack
    slack = replace(config.settings.slack, bot_token=SecretRef("file", "token"))
    named = replace(config, settings=replace(config.settings, slack=slack))
    with pytest.raises(ConfigError, match="file:token"), sandbox(named, tmp_path, tmp_path / "data", environ={}):
        pytest.fail("it started")


def test_the_record_is_new_unless_it_is_kept_and_nobody_elses_file_is_touched(config: Config, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    keys = []
    for keep in (False, True, False):
        with sandbox(config, EXAMPLE, tmp_path, keep=keep, environ={}) as embedded, closing(embedded.bot.store):
            keys.append(embedded.bot.store.public_key)
    assert keys[0] == keys[1] != keys[2]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_one_sandbox_to_a_folder(config: Config, tmp_path: Path) -> None:
    with sandbox(config, EXAMPLE, tmp_path, environ={}) as embedded, closing(embedded.bot.store):
        with pytest.raises(ConfigError, match="another sandbox"), sandbox(config, EXAMPLE, tmp_path, environ={}):
            pytest.fail("it started")
        with sandbox(config, EXAMPLE, tmp_path / "other", environ={}) as second:
            second.bot.store.close()


def test_the_command_line_reads_its_record_from_the_folder_that_it_writes(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # started twice: what is there is written anew
        with sandbox(config, EXAMPLE, tmp_path, keep=True, environ={}) as embedded, closing(embedded.bot.store):
            folder = str(tmp_path / TERMINAL)
            assert main(["incident", "list", "--config", folder]) == 0
            assert main(["incident", "verify", "--config", folder]) == 0
            assert load(tmp_path / TERMINAL).settings.port == embedded.port
    assert capsys.readouterr().out.count("There is no incident.\n0 streams, 0 broken.\n") == 2
