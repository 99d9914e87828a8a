"""What an agent has on GitHub, asked of the simulator and through the real client of the stand-in server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from bot.actions import registry
from bot.domain.agent import Agent, GithubIdentity
from bot.domain.outcome import Done
from bot.domain.reach import Alive, Reach, radius
from bot.errors import Unavailable
from bot.ports import Environment, Ports
from bot.reach import survey
from bot.sandbox.clock import SimClock
from tests.actions.driver import drive
from tests.actions.estate import Enrolled
from tests.github_estate import INSTALLED, SHOP, WAYS, Town, town

GITHUB = GithubIdentity(
    app="agents_app",
    installation=INSTALLED,
    login="agent-7[bot]",
    workflows=(f"{SHOP}:deploy.yml",),
    environments=(f"{SHOP}:production",),
)
AGENT = Agent("agent-7", github=GITHUB)
CUTS = ("github.revoke_installation", "github.disable_workflow", "github.cancel_runs", "github.block_environment")


@dataclass
class Looking:
    town: Town

    @property
    def ports(self) -> Ports:
        githubs = {"github": self.town.github, "agents_app": self.town.app}
        return Ports(self.town.clock, Enrolled((AGENT,)), githubs=githubs)

    def look(self, agent: Agent = AGENT) -> Reach:
        return survey((agent,), self.ports, threads=False)

    def cut(self, action: str) -> None:
        chosen = registry()[action]
        for target in chosen.targets({"agent": AGENT.id}, AGENT):
            done = drive(chosen, target.params, self.ports, self.town.clock, "test.0/INC-7/12.0")
            assert isinstance(done, Done), done


@pytest.fixture(params=WAYS)
def here(request: pytest.FixtureRequest, clock: SimClock) -> Iterator[Looking]:
    with town(request.param, clock) as made:
        yield Looking(made)


def states(found: Reach) -> dict[str, tuple[Alive, str]]:
    return {one.kind: (one.alive, one.why) for one in found.held}


def test_its_installation_workflows_runs_and_environments_are_told_and_nobody_elses(here: Looking) -> None:
    found = here.look()
    assert radius(found) == "1 GitHub installation, 1 workflow run, 1 workflow and 1 GitHub environment"
    assert (found.alive, found.unread, found.limits) == (4, (), ())
    assert states(found) == {
        "installation": (Alive.YES, ""),
        "run": (Alive.YES, ".github/workflows/deploy.yml, in progress"),
        "workflow": (Alive.YES, "active"),
        "environment": (Alive.YES, "some branches or tags may deploy there"),
    }


def test_a_run_by_its_login_is_its_own_wherever_it_may_run(here: Looking) -> None:
    here.town.sim.start(SHOP, "nightly.yml", "agent-7[bot]")
    assert here.look().counts["run"] == 2


def test_what_was_cut_is_dead(here: Looking) -> None:
    for action in CUTS:
        here.cut(action)
    found = here.look()
    assert found.alive == 0
    assert states(found) == {
        "installation": (Alive.NO, "suspended"),
        "workflow": (Alive.NO, "disabled manually"),
        "environment": (Alive.NO, "nothing may be deployed there"),
    }


def test_what_github_does_not_know_is_not_dead(here: Looking) -> None:
    """It answers the same for what the bot may not see."""
    other = replace(
        GITHUB, installation=5, login="", workflows=(f"{SHOP}:no.yml",), environments=(f"{SHOP}:no",), repositories=()
    )
    found = here.look(replace(AGENT, github=other))
    assert {one.alive for one in found.held} == {Alive.UNKNOWN}
    assert dict(found.counts) == {"installation": 1, "workflow": 1, "environment": 1}


def test_whose_runs_they_are_is_not_guessed(here: Looking) -> None:
    found = here.look(Agent("agent-7", github=GithubIdentity(repositories=(SHOP,))))
    assert found.held == ()
    assert found.limits == (f"github: whose runs in {SHOP} are its own stands not in agents.yaml",)


def test_what_is_refused_is_named_and_the_rest_told(here: Looking) -> None:
    here.town.sim.denied = {"runs"}
    found = here.look()
    assert set(found.counts) == {"installation", "workflow", "environment"}
    (why,) = found.unread
    assert "Resource not accessible by integration" in why


def test_a_github_that_is_away_is_named_and_the_agents_own_app_asked_all_the_same(here: Looking) -> None:
    here.town.sim.faults.add("workflow", Unavailable("github", "no answer in time"))
    found = here.look()
    assert set(found.counts) == {"installation"}
    (why,) = found.unread
    assert why.startswith("github: ")


def test_an_open_environment_says_who_may_deploy(here: Looking) -> None:
    here.town.sim.add_environment(SHOP, Environment("staging"))
    found = here.look(Agent("agent-7", github=GithubIdentity(environments=(f"{SHOP}:staging",))))
    assert states(found) == {"environment": (Alive.YES, "any branch may deploy there")}
