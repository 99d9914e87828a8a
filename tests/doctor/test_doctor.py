"""`firedoor doctor` against a whole town, with one thing broken at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bot import wiring
from bot.adapters.clock import SystemClock
from bot.commands import main
from bot.config import load, resolve
from bot.doctor import Check, Finding, State, aws, clocks, examine, slack, systems, vault
from bot.doctor.aws import _principal, permissions
from bot.errors import Unavailable
from bot.sandbox.workspace.rooms import BOT_USER
from bot.slack.manifest import scopes
from tests.adapters.provider import providing
from tests.stories.town import Town

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory, moto: str) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("doctor")
    with (
        Town(folder / "firedoor", moto, f"sqlite:///{folder}/firedoor.db") as town,
        pytest.MonkeyPatch.context() as env,
    ):
        for name, value in town.env.items():
            env.setenv(name, value)
        with town.editing("firedoor.yaml") as settings:
            for connection in settings["connections"].values():
                if connection["kind"] == "http":
                    connection["url"] = town.hooks.url.removesuffix("/page")
        town.workspace.without({*town.workspace.app.scopes} - {*scopes()})
        config = load(town.folder)
        keys = wiring.read_keys(config, town.folder)
        wiring.open_store(config, town.folder, keys, SystemClock()).close()
        yield town


@pytest.fixture
def doctor(town: Town, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """What the command finds; `code` is its exit code."""

    def run(*arguments: str, code: int = 0) -> list[Finding]:
        capsys.readouterr()
        ended = main(["doctor", "--config", str(town.folder), "--json", *arguments])
        found = [Finding(State(one.pop("state")), **one) for one in json.loads(capsys.readouterr().out)]
        assert ended == code, [one for one in found if one.state is State.FAIL]
        return found

    return run


Doctor = Callable[..., list[Finding]]


def asked(town: Town, make: Callable[..., Iterator[Check]], **options: Any) -> list[Finding]:
    """Of one kind of system only."""
    config, secret = load(town.folder), partial(resolve, folder=town.folder)
    clock = SystemClock()
    arguments: dict[Any, tuple[Any, ...]] = {vault.checks: (), systems.checks: (clock,)}
    return [*examine(make(config, secret, *arguments.get(make, (clock.now,)), **options))]


def stored(town: Town) -> dict[str, Any]:
    config = load(town.folder)
    keys = wiring.read_keys(config, town.folder)
    return {"store": lambda: wiring.open_store(config, town.folder, keys, SystemClock(), read_only=True)}


def said(found: list[Finding], state: str, subject: str = "") -> str:
    return "\n".join(one.what for one in found if one.state == state and one.subject.startswith(subject))


def test_a_town_in_order_has_no_failure_and_says_what_it_could_not_know(town: Town, doctor: Doctor):
    found = doctor()
    well = {one.subject for one in found if one.state is State.OK}
    assert {"store", "store clock", "slack", "slack scopes", "slack delivery", "slack people", "vault"} <= well
    assert {"aws", "aws clock", "evidence", "queue guardduty", "mail", "agents", "vault policy"} <= well
    assert "slack channel C0INCIDENTS" in well
    assert "AWS does not say what it may do" in said(found, "unverified", "aws policy"), "moto simulates no policies"
    assert "no page was sent" in said(found, "unverified")
    assert town.hooks.received == []
    assert town.mailbox.mails == []
    assert all(one.todo for one in found if one.state is not State.OK)


def test_the_text_says_the_same_and_shows_no_secret(town: Town, capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--config", str(town.folder)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith("unverified")
    assert "0 FAIL" in out
    for name in ("T_BOT", "T_APP", "T_VAULT", "T_HOOK", "T_HOOK_URL", "T_GATEWAY"):
        assert town.env[name] not in out


@contextmanager
def slack_without(town: Town, *missing: str) -> Iterator[None]:
    surplus = {*town.workspace.app.scopes} - {*scopes()}
    town.workspace.without(surplus | {*missing})
    yield
    town.workspace.without(surplus)


def test_slack_scopes_too_few_and_too_many(town: Town):
    with slack_without(town, "pins:write", "reactions:read"):
        assert "pins:write, reactions:read" in said(asked(town, slack.checks), "FAIL", "slack scopes")
    town.workspace.without(())
    assert "team:read" in said(asked(town, slack.checks), "WARN", "slack scopes")
    town.workspace.without({*town.workspace.app.scopes} - {*scopes()})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"is_ext_shared": True}, "another organisation"),
        ({"is_archived": True}, "archived|no such channel"),
        ({"members": frozenset()}, "no such channel|no member"),
    ],
)
def test_a_channel_that_is_not_as_it_should_be(town: Town, changes: dict[str, Any], why: str):
    was = town.workspace.channels["C0INCIDENTS"]
    town.workspace.channels["C0INCIDENTS"] = replace(was, **changes)
    try:
        told = said(asked(town, slack.checks), "FAIL", "slack channel")
        assert any(one in told for one in why.split("|")), told
    finally:
        town.workspace.channels["C0INCIDENTS"] = was
    assert BOT_USER in was.members


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"deleted": True}, "deactivated"),
        ({"is_restricted": True}, "a guest"),
        ({"is_bot": True}, "a bot"),
        ({"team_id": "T0PARTNER"}, "another workspace"),
        ({"email": "somebody@example.com"}, "another e-mail address"),
        (None, "there is no user"),
    ],
)
def test_a_person_who_is_not_who_people_yaml_says(town: Town, changes: dict[str, Any] | None, why: str):
    was = town.workspace.people.pop("U0SECOPS1")
    if changes is not None:
        town.workspace.people["U0SECOPS1"] = replace(was, **changes)
    try:
        found = asked(town, slack.checks)
    finally:
        town.workspace.people["U0SECOPS1"] = was
    assert why in said(found, "FAIL", "slack person security-ops-1")
    assert "2 of 3 can decide" in said(found, "WARN", "group security_team")


def test_slack_tokens_that_are_wrong(town: Town, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("T_BOT", "xoxb-wrong")
    monkeypatch.setenv("T_APP", "xoxb-wrong-too")
    found = asked(town, slack.checks)
    assert "invalid_auth" in said(found, "FAIL", "slack")
    assert "Slack refused" in said(found, "FAIL", "slack delivery")
    monkeypatch.delenv("T_BOT")
    assert "environment variable is not set" in said(asked(town, slack.checks), "FAIL", "slack")


def test_slack_that_has_had_enough_is_no_wrong_person(town: Town):
    town.workspace.faults.add("users.info", Unavailable("slack", "enough", retry_after=30))
    assert "not asked" in said(asked(town, slack.checks), "unverified", "slack person")


def test_vault(town: Town, monkeypatch: pytest.MonkeyPatch):
    server = town.vault_server
    monkeypatch.setattr(server, "may", {"sys/leases/revoke": ["read"], "identity/entity/id/e-7": ["read", "update"]})
    told = said(asked(town, vault.checks), "FAIL", "vault policy")
    assert told == "it lacks: sys/leases/revoke (update)"
    monkeypatch.setattr(server, "may", {})
    monkeypatch.setattr(server, "own", {"policies": ["root"], "ttl": 600, "renewable": False})
    warned = said(asked(town, vault.checks), "WARN", "vault")
    assert "root token" in warned
    assert "ends in 600 s" in warned
    server.answer_once("sys/capabilities-self", 403, "permission denied")
    assert "may not ask" in said(asked(town, vault.checks), "unverified", "vault policy")
    monkeypatch.setenv("T_VAULT", "another")
    assert "refuses its token" in said(asked(town, vault.checks), "FAIL", "vault")


def test_aws(town: Town):
    with edited(town, "firedoor.yaml") as settings:
        settings["connections"]["aws"]["account"] = "999999999999"
        settings["evidence"]["bucket"] = "nobodys-bucket"
    try:
        with edited(town, "agents.yaml") as agents:
            agents["agents"]["agent-7"]["aws"].update(account="999999999999", roles=[])
        found = asked(town, aws.checks, write=False)
        assert "configured is 999999999999" in said(found, "FAIL", "aws")
        assert "nobodys-bucket" in said(found, "FAIL", "evidence")
    finally:
        restore(town)


def test_a_bucket_is_written_to_only_when_it_is_asked(town: Town):
    s3 = town.aws("s3")
    assert s3.list_objects_v2(Bucket=town.bucket)["KeyCount"] == 0
    assert "wrote and read back" in said(asked(town, aws.checks, write=True), "ok", "evidence")
    assert s3.list_objects_v2(Bucket=town.bucket)["KeyCount"] == 1


def test_systems_that_are_away(town: Town, doctor: Doctor):
    with edited(town, "firedoor.yaml") as settings:
        for name, made in settings["connections"].items():
            if made["kind"] in ("vault", "gateway", "http"):
                settings["connections"][name] = {**made, "url": "http://127.0.0.1:9"}
            if made["kind"] == "smtp":
                settings["connections"][name] = {**made, "port": 9}
        settings["store"] = {"url": "sqlite:///nothing-here.db"}
        settings["slack"]["api_url"] = "http://127.0.0.1:9/api/"
    try:
        found = doctor(code=1)
    finally:
        restore(town)
    failed = {one.subject for one in found if one.state is State.FAIL}
    assert {"vault", "agents", "mail", "slack", "slack channels", "slack people"} <= failed
    assert "no store here" in said(found, "WARN", "store")


def test_an_agent_that_its_gateway_does_not_know(town: Town):
    with edited(town, "agents.yaml") as agents:
        agents["agents"]["agent-9"]["gateways"] = ["agents"]
    try:
        assert "knows no agent-9" in said(asked(town, systems.checks, **stored(town)), "FAIL", "agents")
    finally:
        restore(town)


def test_a_provider_of_tokens(town: Town):
    with providing() as provider:
        with edited(town, "firedoor.yaml") as settings:
            settings["oidc"] = {"issuer": provider.issuer, "audience": "firedoor"}
        try:
            assert "publishes keys that count: 1" in said(asked(town, systems.checks, **stored(town)), "ok", "oidc")
            provider.listener.dead = True
            assert said(asked(town, systems.checks, **stored(town)), "FAIL", "oidc")
        finally:
            restore(town)


# Without a town ------------------------------------------------------------------------------------------------------


def test_one_that_hangs_is_left_behind_and_the_others_are_told():
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding(State.OK, "slow", "so far")
        never.wait(60)

    quick = Check("quick", lambda: [Finding(State.OK, "quick", "fine")])
    found = [*examine([Check("slow", hangs, patience=0.2), quick])]
    never.set()
    assert [(one.subject, one.state) for one in found] == [("slow", "ok"), ("slow", "FAIL"), ("quick", "ok")]
    assert "no answer within" in found[1].what


def test_a_bug_in_one_check_is_not_the_end(caplog: pytest.LogCaptureFixture):
    def broken() -> Iterator[Finding]:
        raise ZeroDivisionError
        yield

    (found,) = examine([Check("odd", broken)])
    assert (found.state, found.what) == (State.UNVERIFIED, "the check failed inside: ZeroDivisionError")
    assert "odd" in caplog.text


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (2, "ok"), (30, "WARN"), (-30, "WARN"), (-300, "FAIL")])
def test_clocks_are_compared(seconds: int, state: str):
    found = clocks("slack clock", NOON + timedelta(seconds=seconds), NOON, NOON + timedelta(milliseconds=200))
    assert found.state == state


def test_a_simulation_is_asked_of_the_role_behind_a_session():
    assert _principal("arn:aws:sts::123456789012:assumed-role/firedoor/x") == "arn:aws:iam::123456789012:role/firedoor"
    assert _principal("arn:aws:iam::123456789012:user/x") == "arn:aws:iam::123456789012:user/x"


def test_what_the_playbooks_need_in_aws_is_asked_about(town: Town):
    assert {"iam:PutRolePolicy", "ec2:CreateSnapshots"} <= permissions(load(town.folder))


# The operator's files ------------------------------------------------------------------------------------------------

KEPT: dict[Path, str] = {}


@contextmanager
def edited(town: Town, name: str) -> Iterator[dict[str, Any]]:
    """As `Town.editing`, until `restore`."""
    KEPT.setdefault(town.folder / name, (town.folder / name).read_text())
    with town.editing(name) as body:
        yield body


def restore(town: Town) -> None:
    for path in [path for path in KEPT if path.parent == town.folder]:
        path.write_text(KEPT.pop(path))
