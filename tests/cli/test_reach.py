"""`firedoor reach`: what is shown, and what it says where a system does not answer."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import clients, reach
from bot.commands import main
from bot.config import EXAMPLE
from bot.domain.agent import Agent
from bot.domain.reach import Alive, Held
from bot.ports import Ports
from bot.reach import Found, Look, survey
from bot.sandbox.clock import SimClock
from tests.engine.desk import MONDAY, example

LIVE = clients.live_ports


@pytest.fixture(autouse=True)
def nothing_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports(SimClock(MONDAY), example().agents)
    monkeypatch.setattr(clients, "live_ports", lambda *_: ports)


def test_systems_that_are_away_are_named_and_the_exit_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reach", "agent-7", "--config", str(EXAMPLE), "--timeout", "0.2", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["agent"] == "agent-7"
    assert {why.partition(":")[0] for why in told["unread"]} == {"agents", "vault", "aws"}


def test_an_unknown_agent_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reach", "agent-77", "--config", str(EXAMPLE)]) == 4
    assert "agent-7" in capsys.readouterr().err


def test_names_from_systems_cannot_write_on_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = Held("lease", "x\x1b[2Jy\n<!channel>", "vault", "agent-7", alive=Alive.YES)
    _only(monkeypatch, lambda: iter([hostile]))
    assert main(["reach", "agent-7", "--config", str(EXAMPLE)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "agent-7 holds 1 lease" in out


def test_a_system_that_hangs_is_given_up_and_what_it_said_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    def hang() -> Iterator[Found]:
        yield Held("lease", "one", "slow", "agent-7", alive=Alive.YES)
        end.wait(30)

    _only(monkeypatch, hang)
    config = example()
    begun = time.monotonic()
    found = survey([config.agents.agents["agent-7"]], Ports(SimClock(MONDAY), config.agents), seconds=0.3)
    assert time.monotonic() - begun < 20
    end.set()
    assert [one.id for one in found.held] == ["one"]
    assert found.unread == ("slow: no answer within 0 s; what it said before counts",)


def test_a_look_that_fails_inside_hides_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Found]:
        yield Held("lease", "one", "slow", "agent-7")
        raise KeyError("a bug")

    _only(monkeypatch, broken)
    config = example()
    found = survey([config.agents.agents["agent-7"]], Ports(SimClock(MONDAY), config.agents), threads=False)
    assert len(found.held) == 1
    assert found.unread == ("slow: the look at it failed inside (KeyError)",)


def _only(monkeypatch: pytest.MonkeyPatch, ask: object) -> None:
    """One system, asked like this, in place of all."""

    class System:
        @staticmethod
        def looks(agent: Agent, ports: Ports) -> Iterator[Look]:  # noqa: ARG004 - the shape of a look
            yield Look("slow", ask)  # type: ignore[arg-type] # each test's own

    monkeypatch.setattr(reach, "systems", lambda: {"slow": System})


# As it is in earnest --------------------------------------------------------------------------------------------------

SETTINGS = """
install: example
mode: sandbox
store: {url: "sqlite:///firedoor.db"}
public_url: http://127.0.0.1:8080
slack: {bot_token: env:NO_SUCH_SLACK_TOKEN, app_token: env:NO_SUCH_SLACK_TOKEN, channel: incidents}
connections:
  vault: {kind: vault, url: "http://127.0.0.1:9", token: env:NO_SUCH_VAULT_SECRET}
  aws: {kind: aws, account: "123456789012", region: eu-central-1, role_arn: "arn:aws:iam::123456789012:role/firedoor",
        external_id: env:NO_SUCH_EXTERNAL_ID}
  agents: {kind: gateway, url: "http://127.0.0.1:9", secret: env:A_GATEWAY_SECRET}
  other: {kind: gateway, url: "https://127.0.0.1:9", secret: env:A_GATEWAY_SECRET, ca: /no/such/ca.pem}
"""


def test_a_connection_without_its_secret_is_named_as_unread_and_the_others_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A secret that is read when a client is made, one that a call wants, a certificate that is not there, and a system
    that is away; and a Slack token, which nobody needs here."""
    folder = tmp_path / "config"
    shutil.copytree(EXAMPLE, folder)
    (folder / "firedoor.yaml").write_text(SETTINGS)
    agents = (folder / "agents.yaml").read_text()
    (folder / "agents.yaml").write_text(agents.replace("gateways: [agents]", "gateways: [agents, other]", 1))
    monkeypatch.setattr(clients, "live_ports", LIVE)
    monkeypatch.setenv("A_GATEWAY_SECRET", "a-secret-of-some-length")
    assert main(["reach", "agent-7", "--config", str(folder), "--timeout", "20", "--json"]) == 1
    told = dict(why.split(": ", 1) for why in json.loads(capsys.readouterr().out)["unread"])
    assert told["vault"] == "the environment variable is not set (env:NO_SUCH_VAULT_SECRET)"
    assert told["aws"] == "the environment variable is not set (env:NO_SUCH_EXTERNAL_ID)"
    assert "No such file" in told["other"]
    assert set(told) == {"vault", "aws", "agents", "other"}, "the gateway was asked, and is away"
