"""The command line, and folders to use it on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest
import yaml

from bot import wiring
from bot.adapters.gateway import HttpGateway
from bot.commands import main
from bot.serving import serving
from bot.web.server import Server

TOTP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
SPEAKERS = ("sre-1", "head-of-security", "infra-owner-1")


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Firedoor = Callable[..., Said]


@pytest.fixture
def firedoor(capsys: pytest.CaptureFixture[str]) -> Firedoor:
    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("operator") / "example"
    assert main(["init", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(_made: Path, tmp_path: Path) -> Path:
    """What `firedoor init` makes."""
    return Path(shutil.copytree(_made, tmp_path / "example"))


def edit(file: Path, change: Callable[[Any], None]) -> None:
    body = yaml.safe_load(file.read_text())
    change(body)
    file.write_text(yaml.safe_dump(body, sort_keys=False))


def _lonely(settings: Any) -> None:
    """Live, with every system at an address where nobody answers."""
    settings["mode"] = "live"
    del settings["slack"], settings["public_url"]
    connections = settings["connections"]
    for name in ("vault", "agents", "deploy_api"):
        connections[name]["url"] = "http://127.0.0.1:9"
    connections["aws"] = {**connections["aws"], "endpoint_url": "http://127.0.0.1:9", "timeout": 1}
    del connections["aws"]["role_arn"]
    settings["ledger"]["every"] = "1s"
    connections["mail"] |= {"host": "127.0.0.1", "port": 9, "timeout": 1}


@pytest.fixture
def live(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `serve` takes."""
    edit(folder / "firedoor.yaml", _lonely)
    edit(folder / "sources.yaml", lambda body: body["sources"].pop("guardduty"))
    for source in ("SECURITYHUB", "ALERTMANAGER", "FALCO", "OPA"):
        monkeypatch.setenv(f"FIREDOOR_{source}_TOKEN", f"{source.lower()}-token-of-this-test")
    monkeypatch.setenv("FIREDOOR_GRAFANA_SECRET", "grafana-secret-of-this-test")
    monkeypatch.setenv("FIREDOOR_SIEM_SECRET", "siem-secret-of-this-test")
    monkeypatch.setenv("FIREDOOR_VAULT_TOKEN", "vault-token-of-this-test")
    monkeypatch.setenv("FIREDOOR_GATEWAY_SECRET", "gateway-secret-of-this-test")
    monkeypatch.setenv("FIREDOOR_WEBHOOK_SECRET", "webhook-secret-of-this-test")
    monkeypatch.setenv("FIREDOOR_WEBHOOK_HEAD_OF_SECURITY", "http://127.0.0.1:9/page")
    monkeypatch.setenv("FIREDOOR_DEPLOY_AUTHORIZATION", "Bearer deploy-token-of-this-test")
    for name in ("SRE_1", "INFRA_1", "SECOPS_1", "HEAD_OF_SECURITY"):
        monkeypatch.setenv(f"FIREDOOR_TOTP_{name}", TOTP)
    for name, value in (("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing")):
        monkeypatch.setenv(name, value)
    return folder


@dataclass(slots=True)
class Desk:
    """A served bot, and people at the command line."""

    folder: Path
    url: str
    firedoor: Firedoor
    bot: wiring.Bot
    up: ExitStack
    steps: int = 0

    def says(self, person: str, *arguments: object, code: str = "") -> Said:
        code = code or self.code()
        return self.firedoor("incident", *arguments, "--as", person, "--code", code, "--server", self.url)

    def code(self) -> str:
        """Three are good at a time, and each counts once."""
        at = self.bot.engine.world.ports.clock.now().timestamp() + 30 * (self.steps % 3 - 1)
        self.steps += 1
        return pyotp.TOTP(TOTP).at(int(at))

    def reads(self, *arguments: object) -> Said:
        return self.firedoor(*arguments, "--config", self.folder)


@pytest.fixture
def desk(live: Path, firedoor: Firedoor) -> Iterator[Desk]:
    bot = wiring.build(live)
    with ExitStack() as up:
        server = Server(up.enter_context(serving(bot)))
        up.callback(server.stop)
        yield Desk(live, server.start(), firedoor, bot, up)
    for gateway in bot.engine.world.ports.gateways.values():
        assert isinstance(gateway, HttpGateway)
        gateway.close()  # a process that ends has its sockets closed; this one goes on
