"""The command line with a token instead of a code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bot import wiring
from bot.serving import serving
from bot.web.server import Server
from tests.adapters.provider import AUDIENCE, Provider, providing
from tests.cli.conftest import Firedoor, edit


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as provider:
        yield provider


def test_a_token_file_or_variable_proves_who_speaks(
    live: Path, firedoor: Firedoor, provider: Provider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    oidc = {"issuer": provider.issuer, "audience": AUDIENCE}
    edit(live / "firedoor.yaml", lambda settings: settings.update(oidc=oidc))
    bot = wiring.build(live)
    token = tmp_path / "token"
    token.write_text(provider.token(bot.engine.world.ports.clock.now()) + "\n")
    with ExitStack() as up:
        server = Server(up.enter_context(serving(bot)))
        up.callback(server.stop)
        there = ("--server", server.start())
        declared = firedoor("incident", "declare", "It deletes", "--oidc-token-file", token, *there)
        assert (declared.code, declared.err) == (0, "")
        other = firedoor("incident", "ack", "INC-1", "--oidc-token-file", token, "--as", "sre-2", *there)
        assert other.code == 4
        assert "sre-1's" in other.err
        monkeypatch.setenv("FIREDOOR_OIDC_TOKEN", token.read_text())
        assert "acknowledged by sre-1" in firedoor("incident", "ack", "INC-1", *there).out


def test_a_token_file_that_holds_none_is_said(firedoor: Firedoor, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("empty", "missing"):
        said = firedoor("incident", "ack", "INC-1", "--oidc-token-file", tmp_path / name, "--config", folder)
        assert said.code == 2
        assert str(tmp_path / name) in said.err
