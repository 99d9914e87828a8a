"""The `github.*` actions: on the simulator, and through the real client on the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.actions import Action
from bot.actions.github_block_environment import BlockEnvironment
from bot.actions.github_cancel_runs import CancelRuns
from bot.actions.github_disable_workflow import DisableWorkflow
from bot.actions.github_revoke_installation import RevokeInstallation
from bot.domain.agent import Agent, GithubIdentity
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.errors import Denied, Unavailable
from bot.ports import Ports
from bot.sandbox.clock import SimClock
from tests.actions.driver import drive, stage
from tests.actions.estate import Enrolled
from tests.github_estate import GUARDED, INSTALLED, SHOP, WAYS, Town, town

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
KEY = "test.0/INC-7/12.0"
GITHUB = GithubIdentity(
    app="agents_app",
    installation=INSTALLED,
    login="agent-7[bot]",
    workflows=(f"{SHOP}:deploy.yml",),
    environments=(f"{SHOP}:production",),
)
AGENT = Agent("agent-7", github=GITHUB)
REVOKE, DISABLE, BLOCK, CANCEL = RevokeInstallation(), DisableWorkflow(), BlockEnvironment(), CancelRuns()
ACTIONS = (REVOKE, DISABLE, BLOCK, CANCEL)
CHANGES = {
    REVOKE.id: "suspend",
    DISABLE.id: "set_workflow",
    BLOCK.id: "set_environment",
    CANCEL.id: "cancel_run",
}


@dataclass
class Estate:
    town: Town
    guarded: dict[str, str] = field(default_factory=dict)

    @property
    def ports(self) -> Ports:
        githubs = {"github": self.town.github, "agents_app": self.town.app}
        return Ports(self.town.clock, Enrolled((), self.guarded), githubs=githubs)

    def run(self, action: Action, agent: Agent = AGENT, *, twice: bool = False, key: str = KEY) -> Outcome:
        return drive(action, params(action, agent), self.ports, self.town.clock, key, twice=twice)

    def done(self, action: Action, agent: Agent = AGENT, *, twice: bool = False, key: str = KEY) -> Done:
        outcome = self.run(action, agent, twice=twice, key=key)
        assert isinstance(outcome, Done), outcome
        assert set(outcome.evidence) <= set(action.outputs)
        return outcome

    def verify(self, action: Action) -> Done | None:
        return action.verify(params(action), self.ports)

    def undo(self, action: Action, done: Done) -> Outcome:
        assert done.undo is not None
        return action.undo(params(action), self.ports, undo=done.undo, key=KEY)


def params(action: Action, agent: Agent = AGENT) -> dict[str, Any]:
    (target,) = action.targets({"agent": agent.id}, agent)
    return dict(target.params)


@pytest.fixture(params=WAYS)
def estate(request: pytest.FixtureRequest) -> Iterator[Estate]:
    with town(request.param, SimClock(NOW)) as made:
        yield Estate(made)


every = pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
switches = pytest.mark.parametrize("action", [REVOKE, DISABLE, BLOCK], ids=lambda action: action.id)


@every
def test_it_is_done_read_back_and_done_again(estate: Estate, action: Action) -> None:
    assert estate.verify(action) is None
    done = estate.done(action, twice=True)
    assert (done.grade, done.nothing_held) == (action.best_grade, "")
    assert estate.verify(action) is not None
    again = estate.done(action, key="test.0/INC-8/3.0")
    assert again.grade >= Grade.CONFIG
    assert len(estate.town.sim.running(SHOP)) >= 1, "agent-8's run goes on"
    estate.town.sim.start(SHOP, "nightly.yml", "agent-8[bot]")


@switches
def test_undo_restores_what_was_there_and_no_more(estate: Estate, action: Any) -> None:
    done = estate.done(action)
    assert done.undo is not None
    again = estate.done(action, key="test.0/INC-8/3.0")
    assert isinstance(estate.undo(action, again), Done)
    assert estate.verify(action) is not None, "it was so before that incident"
    for _ in range(2):
        assert isinstance(estate.undo(action, done), Done)
    assert estate.verify(action) is None
    assert action.state(params(action), action.system(params(action), estate.ports)) == done.undo["before"]


@every
def test_throttled_and_hanging_are_waited_out(estate: Estate, action: Action) -> None:
    estate.town.sim.faults.add("*", Unavailable("github", "throttled", retry_after=90))
    first = stage(action, params(action), estate.ports, key=KEY)
    assert isinstance(first, Pending)
    assert first.unavailable
    assert first.check_at - NOW == timedelta(seconds=90)
    estate.town.sim.faults.add(CHANGES[action.id], Unavailable("github", "no answer", sent=True))
    estate.town.sim.faults.add(CHANGES[action.id], Unavailable("github", "no answer", sent=True), after=True)
    done = estate.done(action)
    assert done.grade >= Grade.CONFIG
    if action.undoable:
        assert isinstance(estate.undo(action, done), Done)
        assert estate.verify(action) is None, "what hung was carried out, and is not taken for what was there before"


@every
def test_denied_is_said_and_nothing_is_claimed(estate: Estate, action: Action) -> None:
    estate.town.sim.denied.add(CHANGES[action.id])
    refused = estate.run(action)
    assert isinstance(refused, Failed)
    assert not refused.retryable
    assert "Resource not accessible by integration" in refused.why
    assert estate.verify(action) is None


@every
def test_what_is_protected_is_left_alone(estate: Estate, action: Action) -> None:
    estate.guarded["agent-7"] = "runs the plant"
    assert estate.run(action) == Skipped("runs the plant")
    assert estate.verify(action) is None


@every
def test_targets_of_strangers_and_of_agents_without_github(action: Action) -> None:
    with pytest.raises(ValueError, match=r"no agent 'ghost' in agents\.yaml"):
        action.targets({"agent": "ghost"}, None)
    assert action.targets({"agent": "a"}, Agent("a")) == ()


def test_a_suspended_installation_is_proved_by_a_refused_token(estate: Estate) -> None:
    done = estate.done(REVOKE)
    assert done.evidence == {"installation": INSTALLED, "account": "acme", "suspended": True, "token_refused": True}
    with pytest.raises(Denied):
        estate.town.sim.use_installation(INSTALLED)
    estate.undo(REVOKE, done)
    estate.town.sim.use_installation(INSTALLED)


def test_without_a_token_at_hand_it_is_read_back_only(estate: Estate) -> None:
    """A process that died in between has lost its probe, and one that finds it suspended gets none."""
    estate.town.app.suspend(INSTALLED)
    done = estate.done(REVOKE)
    assert (done.grade, done.evidence["token_refused"]) == (Grade.CONFIG, False)
    assert isinstance(estate.undo(REVOKE, done), Done)
    assert estate.verify(REVOKE) is not None, "an owner had suspended it: it stays so"


def test_a_token_that_goes_on_working_is_never_called_contained(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(estate.town.app), "probe_refused", lambda _app, _id: False)
    done = estate.done(REVOKE)
    assert done.grade is Grade.UNVERIFIED
    assert done.undo == {"before": False}
    assert estate.verify(REVOKE) is None


def test_only_its_own_app_can_suspend_it(estate: Estate) -> None:
    with pytest.raises(ValueError, match="only the app itself can suspend its installation"):
        REVOKE.targets({"agent": "agent-7"}, replace(AGENT, github=replace(GITHUB, app="", installation=0)))
    other = estate.run(REVOKE, replace(AGENT, github=replace(GITHUB, installation=4)))
    assert isinstance(other, Failed)
    assert "it was uninstalled, or it is another app's" in other.why


def test_a_disabled_workflow_starts_no_run_and_ends_none(estate: Estate) -> None:
    done = estate.done(DISABLE)
    assert done.evidence == {"repository": SHOP, "workflow": "deploy.yml", "state": "disabled_manually"}
    with pytest.raises(Denied):
        estate.town.sim.start(SHOP, "deploy.yml", "agent-7[bot]")
    assert len(estate.town.sim.running(SHOP)) == 2
    estate.undo(DISABLE, done)
    estate.town.sim.start(SHOP, "deploy.yml", "agent-7[bot]")


@pytest.mark.parametrize("action", [DISABLE, BLOCK], ids=lambda action: action.id)
def test_what_github_does_not_know_is_no_evidence(estate: Estate, action: Action) -> None:
    agent = replace(
        AGENT, github=replace(GITHUB, workflows=(f"{SHOP}:gone.yml",), environments=("acme/secret:production",))
    )
    failed = estate.run(action, agent)
    assert isinstance(failed, Failed)
    assert "or the bot may not see it: correct agents.yaml" in failed.why


def test_nothing_deploys_and_the_rest_of_the_rules_stays(estate: Estate) -> None:
    sim = estate.town.sim
    assert sim.may_deploy(SHOP, "production", "main")
    done = estate.done(BLOCK, twice=True)
    assert not any(
        sim.may_deploy(SHOP, "production", one, protected=True) for one in ("main", "v1", "firedoor/blocked")
    )
    assert done.evidence["admins_bypass"] is True
    held = sim.environment(SHOP, "production")
    assert held is not None
    assert (held.reviewers, held.wait_timer, held.prevent_self_review) == (GUARDED.reviewers, 30, True)
    estate.undo(BLOCK, done)
    assert sim.environment(SHOP, "production") == GUARDED


def test_a_half_written_environment_is_written_whole_by_the_repeat(estate: Estate) -> None:
    """The process dies between the policy and its patterns."""
    first = stage(BLOCK, params(BLOCK), estate.ports, key=KEY)
    assert isinstance(first, Pending)
    estate.town.sim.set_environment(SHOP, replace(GUARDED, patterns=(GUARDED.patterns[0],)))
    done = stage(BLOCK, params(BLOCK), estate.ports, key=KEY, so_far=first.so_far)
    assert isinstance(done, Done)
    assert isinstance(estate.undo(BLOCK, done), Done)
    assert estate.town.sim.environment(SHOP, "production") == GUARDED


def test_the_agents_runs_end_and_nobody_elses(estate: Estate) -> None:
    sim = estate.town.sim
    (others,) = (run.id for run in sim.runs(SHOP) if "agent-8[bot]" in run.actors)
    by_login = sim.start(SHOP, "nightly.yml", "agent-7[bot]")
    stubborn = sim.start(SHOP, "deploy.yml", "a-person", stubborn=True)
    done = estate.done(CANCEL)
    assert sim.running(SHOP) == {others}
    assert (done.evidence["cancelled"], done.evidence["forced"]) == (3, 1)
    assert {by_login, stubborn} <= set(done.evidence["runs"])
    assert estate.town.clock.now() - NOW >= timedelta(seconds=30), "it may clean up first"
    assert estate.done(CANCEL).nothing_held == f"no run of agent-7 is queued or under way in {SHOP}"


def test_runs_that_begin_meanwhile_are_cancelled_too(estate: Estate) -> None:
    so_far = None
    for turn in range(40):
        outcome = stage(CANCEL, params(CANCEL), estate.ports, key=KEY, so_far=so_far)
        if not isinstance(outcome, Pending):
            break
        so_far = outcome.so_far
        estate.town.clock.forward(seconds=5)
        if turn < 5:
            estate.town.sim.start(SHOP, "deploy.yml", "agent-7[bot]")
    assert isinstance(outcome, Done)
    assert outcome.evidence["cancelled"] == 6
    assert len(estate.town.sim.running(SHOP)) == 1


def test_runs_that_never_end_are_named(estate: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = estate.town.sim.start(SHOP, "deploy.yml", "agent-7[bot]", stubborn=True)
    monkeypatch.setattr(type(estate.town.github), "cancel_run", lambda *_, **__: None)
    monkeypatch.setattr("bot.actions.github_cancel_runs._PATIENCE", timedelta(minutes=1))
    failed = estate.run(CANCEL)
    assert isinstance(failed, Failed)
    assert failed.retryable
    assert str(stuck) in failed.why
    assert estate.verify(CANCEL) is None


def test_many_runs_are_cancelled_in_chunks(estate: Estate) -> None:
    for _ in range(50):
        estate.town.sim.start(SHOP, "deploy.yml", "agent-7[bot]")
    assert estate.done(CANCEL).evidence["cancelled"] == 51


def test_whose_runs_they_are_must_be_said() -> None:
    github = GithubIdentity(repositories=(SHOP,))
    with pytest.raises(ValueError, match=r"whose runs in acme/shop are agent-7's\? Add github.login"):
        CANCEL.targets({"agent": "agent-7"}, Agent("agent-7", github=github))
    (target,) = CANCEL.targets({"agent": "agent-7"}, Agent("agent-7", github=replace(github, login="x[bot]")))
    assert (target.id, target.params["workflows"]) == (f"github-runs:{SHOP}", [])
