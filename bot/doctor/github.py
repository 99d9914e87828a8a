"""GitHub: is the credential good, and does each agent's app know its installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial

from bot.adapters.github import HttpGithub
from bot.config import Config
from bot.config.connections import GithubConnection
from bot.doctor import Check, Finding, State


def checks(config: Config, connect: Callable[[str, GithubConnection], HttpGithub]) -> Iterator[Check]:
    for name, made in config.settings.connections.items():
        if isinstance(made, GithubConnection):
            known = [(agent.id, agent.github) for agent in config.agents.agents.values() if agent.github]
            installations = {id: one.installation for id, one in known if one.app == name}
            yield Check(name, partial(_github, name, partial(connect, name, made), installations))


def _github(name: str, connect: Callable[[], HttpGithub], installations: Mapping[str, int]) -> Iterator[Finding]:
    with closing(connect()) as github:
        yield Finding(State.OK, name, f"GitHub knows the bot as {github.identity()}")
        for agent, id in installations.items():
            found = github.installation(id)
            if found is None:
                todo = "Correct github.installation in agents.yaml, or github.app: it may be another app's."
                yield Finding(State.FAIL, f"{name} {agent}", f"its app knows no installation {id}", todo)
            else:
                suspended = ", suspended now" if found.suspended else ""
                yield Finding(State.OK, f"{name} {agent}", f"installation {id} on {found.account}{suspended}")
