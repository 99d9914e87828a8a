"""What every GitHub does: the simulator, and the real client against the stand-in server in front of the same one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.actions.github_block_environment import NOTHING
from bot.adapters.github import AppKey, HttpGithub
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Environment, Installation, RefPattern, Workflow
from bot.sandbox.clock import SimClock
from tests.github_estate import APP, GUARDED, INSTALLED, SHOP, WAYS, Town, key, town

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)


@pytest.fixture(params=WAYS)
def here(request: pytest.FixtureRequest) -> Iterator[Town]:
    with town(request.param, SimClock(NOW)) as made:
        yield made


@pytest.fixture
def real() -> Iterator[Town]:
    with town("http", SimClock(NOW)) as made:
        yield made


def test_an_installation_is_suspended_and_its_tokens_are_refused(here: Town) -> None:
    assert here.app.installation(INSTALLED) == Installation(INSTALLED, "acme", "agent-7", suspended=False)
    assert here.app.probe_refused(INSTALLED) is None, "none in hand"
    assert here.app.take_probe(INSTALLED)
    assert here.app.probe_refused(INSTALLED) is False
    for _ in range(2):
        here.app.suspend(INSTALLED)
    assert here.app.probe_refused(INSTALLED) is True
    assert here.app.installation(INSTALLED) == Installation(INSTALLED, "acme", "agent-7", suspended=True)
    with pytest.raises(Denied):
        here.sim.use_installation(INSTALLED)
    assert not here.app.take_probe(INSTALLED), "no token is to be had"
    for _ in range(2):
        here.app.unsuspend(INSTALLED)
    here.sim.use_installation(INSTALLED)
    assert here.app.probe_refused(INSTALLED) is None, "it is not kept"


def test_an_installation_that_is_not_this_apps(here: Town) -> None:
    assert here.app.installation(4) is None
    with pytest.raises(Rejected):
        here.app.suspend(4)


def test_a_workflow_is_disabled_and_enabled(here: Town) -> None:
    assert here.github.workflow(SHOP, "deploy.yml") == Workflow(".github/workflows/deploy.yml", "active")
    here.github.set_workflow(SHOP, "deploy.yml", enabled=False)
    assert here.github.workflow(SHOP, "deploy.yml") == Workflow(".github/workflows/deploy.yml", "disabled_manually")
    with pytest.raises(Denied):
        here.sim.start(SHOP, "deploy.yml", "agent-7[bot]")
    here.github.set_workflow(SHOP, "deploy.yml", enabled=True)
    here.sim.start(SHOP, "deploy.yml", "agent-7[bot]")
    assert here.github.workflow(SHOP, "gone.yml") is None
    assert here.github.workflow("acme/gone", "deploy.yml") is None
    with pytest.raises(Rejected):
        here.github.set_workflow(SHOP, "gone.yml", enabled=False)


def test_runs_are_listed_page_by_page_and_cancelled(here: Town) -> None:
    for _ in range(60):
        here.sim.start(SHOP, "deploy.yml", "agent-7[bot]")
    found = here.github.runs(SHOP)
    assert len(found) == 62
    assert found[0].workflow == ".github/workflows/deploy.yml"
    assert (found[0].actors, found[0].status) == (frozenset({"agent-7[bot]"}), "in_progress")
    first = found[0].id
    here.github.cancel_run(SHOP, first)
    assert first in here.sim.running(SHOP), "it cleans up"
    here.clock.forward(seconds=10)
    assert first not in here.sim.running(SHOP)
    here.github.cancel_run(SHOP, first)
    here.github.cancel_run(SHOP, 4)
    assert here.github.runs("acme/gone") == ()


def test_a_stubborn_run_is_forced(here: Town) -> None:
    run = here.sim.start(SHOP, "deploy.yml", "agent-7[bot]", stubborn=True)
    here.github.cancel_run(SHOP, run)
    here.clock.forward(minutes=5)
    assert run in here.sim.running(SHOP)
    for _ in range(2):
        here.github.cancel_run(SHOP, run, force=True)
    assert run not in here.sim.running(SHOP)


@pytest.mark.parametrize(
    "wanted",
    [
        Environment("production"),
        Environment("production", "protected", wait_timer=5),
        Environment("production", "patterns", (NOTHING,), reviewers=(("User", 9),)),
        Environment("production", "patterns", ()),
    ],
    ids=["all", "protected", "patterns", "none"],
)
def test_an_environment_is_written_and_comes_back_as_it_was(here: Town, wanted: Environment) -> None:
    before = here.github.environment(SHOP, "production")
    assert before == GUARDED
    for asked in (wanted, wanted, GUARDED, GUARDED):
        here.github.set_environment(SHOP, asked)
        assert here.github.environment(SHOP, "production") == replace(asked, admins_bypass=True)


def test_refs_that_do_not_match_do_not_deploy(here: Town) -> None:
    assert here.sim.may_deploy(SHOP, "production", "main")
    here.github.set_environment(SHOP, replace(GUARDED, patterns=(NOTHING,)))
    assert not here.sim.may_deploy(SHOP, "production", "main")
    assert here.github.environment(SHOP, "gone") is None


def test_no_branch_can_have_the_name_that_is_let_through() -> None:
    for kind in ("heads", "tags"):
        checked = subprocess.run(["git", "check-ref-format", f"refs/{kind}/{NOTHING.name}"], check=False)
        assert checked.returncode == 1


@pytest.mark.parametrize("throttle", ["primary", "secondary"])
def test_throttled_is_unavailable_with_its_wait(here: Town, throttle: str) -> None:
    if here.server:
        here.server.throttle = throttle
    here.sim.faults.add("runs", Unavailable("github", "throttled", retry_after=240))
    with pytest.raises(Unavailable) as outage:
        here.github.runs(SHOP)
    assert (outage.value.sent, outage.value.retry_after) == (False, 240)
    assert len(here.github.runs(SHOP)) == 2


def test_a_limit_that_names_no_time_is_waited_for_a_minute(real: Town) -> None:
    assert real.server
    said = {"message": "You have exceeded a secondary rate limit."}
    real.server.odd[f"/repos/{SHOP}/actions/runs"] = (403, said, {})
    with pytest.raises(Unavailable) as outage:
        real.github.runs(SHOP)
    assert outage.value.retry_after == 60


def test_denied_names_what_the_call_needs(real: Town) -> None:
    real.sim.denied.add("set_workflow")
    with pytest.raises(Denied, match="the call needs actions=write"):
        real.github.set_workflow(SHOP, "deploy.yml", enabled=False)


def test_silence_may_hide_an_effect(here: Town) -> None:
    here.sim.faults.add("set_workflow", Unavailable("github", "no answer", sent=True), after=True)
    with pytest.raises(Unavailable) as outage:
        here.github.set_workflow(SHOP, "deploy.yml", enabled=False)
    assert outage.value.sent
    assert here.sim.workflow(SHOP, "deploy.yml") == Workflow(".github/workflows/deploy.yml", "disabled_manually")


def test_a_wrong_token_and_a_wrong_key(real: Town) -> None:
    assert real.server
    stranger = HttpGithub("github", real.server.url, real.clock, token=lambda: "old")
    with pytest.raises(Denied, match="credential is not accepted"):
        stranger.runs(SHOP)
    with pytest.raises(Rejected, match="it is no GitHub App"):
        stranger.suspend(INSTALLED)
    stranger.close()
    other = HttpGithub("github", real.server.url, real.clock, app=AppKey("99", lambda: key()[0]))
    with pytest.raises(Denied):
        other.installation(INSTALLED)
    other.close()
    broken = HttpGithub("github", real.server.url, real.clock, app=AppKey(APP, lambda: "no key"))
    with pytest.raises(Rejected, match="is no RSA key in PEM") as odd:
        broken.installation(INSTALLED)
    assert "no key" not in str(odd.value), "a key is never repeated"
    broken.close()


def test_as_an_app_it_works_with_its_own_installations_token(real: Town) -> None:
    assert real.server
    for _ in range(2):
        assert real.app.workflow(SHOP, "deploy.yml") is not None
    tokens = "POST /app/installations/1/access_tokens"
    assert real.server.asked.count(tokens) == 1
    real.clock.forward(minutes=56)
    assert real.app.workflow(SHOP, "deploy.yml") is not None
    assert real.server.asked.count(tokens) == 2, "a token that ends soon is replaced"


def test_a_probe_that_ended_by_itself_proves_nothing(real: Town) -> None:
    assert real.app.take_probe(INSTALLED)
    real.app.suspend(INSTALLED)
    assert real.app.probe_refused(INSTALLED) is True
    real.clock.forward(minutes=56)
    assert real.app.probe_refused(INSTALLED) is None


@pytest.mark.parametrize("status", [301, 307])
def test_no_redirect_is_followed(real: Town, status: int) -> None:
    assert real.server
    path = f"/repos/{SHOP}/actions/workflows/deploy.yml"
    real.server.odd[path] = (status, {"message": "Moved"}, {"Location": "http://127.0.0.1:1/steal"})
    with pytest.raises(Rejected, match="a redirect: none is followed"):
        real.github.workflow(SHOP, "deploy.yml")


@pytest.mark.parametrize("body", [[], {"workflow_runs": None}, {"token": "x"}], ids=["list", "null", "other"])
def test_an_answer_that_is_not_githubs(real: Town, body: object) -> None:
    assert real.server
    real.server.odd[f"/repos/{SHOP}/actions/runs"] = (200, body, {})  # type: ignore[assignment]  # on purpose
    with pytest.raises(Rejected, match="not GitHub's"):
        real.github.runs(SHOP)


def test_a_name_cannot_leave_its_repository(real: Town) -> None:
    assert real.server
    for repository, name in ((SHOP, ".."), (SHOP, "a/../../b"), (f"{SHOP}/../../app", "x")):
        with pytest.raises(Rejected, match="walks out of its folder"):
            real.github.environment(repository, name)
    assert real.github.environment(SHOP, "eu/west?x#y") is None
    assert real.server.asked == [f"GET /repos/{SHOP}/environments/eu%2Fwest%3Fx%23y"]


def test_patterns_survive_as_refs_of_their_type(here: Town) -> None:
    tags = replace(GUARDED, patterns=(RefPattern("main", "tag"), RefPattern("main")))
    here.github.set_environment(SHOP, tags)
    found = here.github.environment(SHOP, "production")
    assert found is not None
    assert found.patterns == (RefPattern("main", "branch"), RefPattern("main", "tag"))
