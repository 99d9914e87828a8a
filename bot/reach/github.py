"""GitHub: the installation of the agent's app, its workflows with their runs, and the environments it deploys to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bot.domain.agent import Agent, GithubIdentity
from bot.domain.reach import Alive, Held
from bot.ports import Github, Ports, connected
from bot.ports.github import ACTIVE, BLOCKED
from bot.reach import Found, Limit, Look, Unread, each

RUNS = 50  # of a repository that are told
UNSEEN = "GitHub knows nothing of it, or the bot may not see it"


def looks(agent: Agent, ports: Ports) -> Iterator[Look]:
    known = agent.github
    if known is None:
        return
    if known.app:
        yield Look(known.app, partial(_installation, agent.id, known, ports))
    if known.repositories or known.workflows or known.environments:
        yield Look(known.connection, partial(_look, agent.id, known, ports))


def _installation(agent: str, known: GithubIdentity, ports: Ports) -> Iterator[Found]:
    """Only the agent's own app may ask for it."""
    id, found = str(known.installation), connected(ports.githubs, known.app).installation(known.installation)
    if found is None:
        yield Held("installation", id, known.app, agent, why="it was uninstalled, or it is another app's")
        return
    alive, why = (Alive.NO, "suspended") if found.suspended else (Alive.YES, "")
    yield Held("installation", id, known.app, agent, of=found.account, alive=alive, why=why)


def _look(agent: str, known: GithubIdentity, ports: Ports) -> Iterator[Found]:
    github = connected(ports.githubs, known.connection)
    workflows = [tuple(text.split(":", 1)) for text in dict.fromkeys(known.workflows)]
    for repository, file in workflows:
        yield from each(partial(_workflow, agent, known, github, repository, file))
    for repository in dict.fromkeys((*known.repositories, *(where for where, _ in workflows))):
        files = {file for where, file in workflows if where == repository}
        if files or known.login:
            yield from each(partial(_runs, agent, known, github, repository, files))
        else:
            yield Limit(f"{known.connection}: whose runs in {repository} are its own stands not in agents.yaml")
    for repository, name in (text.split(":", 1) for text in dict.fromkeys(known.environments)):
        yield from each(partial(_environment, agent, known, github, repository, name))


def _workflow(agent: str, known: GithubIdentity, github: Github, repository: str, file: str) -> Iterator[Found]:
    """GitHub answers the same for what is not there and for what the bot may not see: neither counts as dead."""
    found = github.workflow(repository, file)
    alive = Alive.UNKNOWN if found is None else Alive.YES if found.state == ACTIVE else Alive.NO
    why = UNSEEN if found is None else found.state.replace("_", " ")
    yield Held("workflow", f"{repository}:{file}", known.connection, agent, of=repository, alive=alive, why=why)


def _runs(agent: str, known: GithubIdentity, github: Github, repository: str, files: set[str]) -> Iterator[Found]:
    """Those of its workflows, and those by its login: not other people's."""
    found = [
        run
        for run in github.runs(repository)
        if (known.login and known.login in run.actors) or run.workflow.rpartition("/")[2] in files
    ]
    for run in found[:RUNS]:
        why, id = f"{run.workflow}, {run.status.replace('_', ' ')}", f"{repository}#{run.id}"
        yield Held("run", id, known.connection, agent, of=repository, alive=Alive.YES, why=why)
    if len(found) > RUNS:
        yield Unread(f"{known.connection}: {len(found) - RUNS} more runs in {repository}")


def _environment(agent: str, known: GithubIdentity, github: Github, repository: str, name: str) -> Iterator[Found]:
    found = github.environment(repository, name)
    if found is None:
        alive, why = Alive.UNKNOWN, UNSEEN
    elif found.branches == "patterns" and set(found.patterns) <= {BLOCKED}:
        alive, why = Alive.NO, "nothing may be deployed there"
    else:
        alive, why = Alive.YES, _FROM[found.branches]
    yield Held("environment", f"{repository}:{name}", known.connection, agent, of=repository, alive=alive, why=why)


_FROM = {
    "all": "any branch may deploy there",
    "protected": "protected branches may deploy there",
    "patterns": "some branches or tags may deploy there",
}
