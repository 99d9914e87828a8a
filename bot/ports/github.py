"""GitHub, or a GitHub Enterprise Server, as the actions see it. A repository is `owner/name`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

ACTIVE = "active"  # the state of a workflow that can be started


@dataclass(frozen=True, slots=True)
class Installation:
    """An app on an account. A suspended one can reach nothing of that account."""

    id: int
    account: str
    app: str  # slug
    suspended: bool


@dataclass(frozen=True, slots=True)
class Workflow:
    path: str  # .github/workflows/deploy.yml
    state: str  # active, disabled_manually, disabled_inactivity, disabled_fork, deleted


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a workflow that has not ended."""

    id: int
    workflow: str  # path
    actors: frozenset[str]  # logins: by whom, and who started it again
    status: str  # queued, in_progress, requested, waiting, pending


@dataclass(frozen=True, slots=True, order=True)
class RefPattern:
    """Which branches, or which tags, may deploy."""

    name: str
    type: str = "branch"  # branch, tag


# Git lets no part of a branch or tag end in .lock, so that nobody can make one that this lets through.
BLOCKED = RefPattern("firedoor/blocked.lock")


@dataclass(frozen=True, slots=True)
class Environment:
    """What guards deployments to it. `branches`: `all` refs may deploy, only `protected` branches, or only the
    `patterns`. `reviewers` are (User or Team, id); `wait_timer` is in minutes."""

    name: str
    branches: Literal["all", "protected", "patterns"] = "all"
    patterns: tuple[RefPattern, ...] = ()
    wait_timer: int = 0
    reviewers: tuple[tuple[str, int], ...] = ()
    prevent_self_review: bool = False
    admins_bypass: bool = False  # read only: administrators may pass its rules


class Github(Protocol):
    """One connection: the bot's own access, or a key of an agent's own app."""

    def installation(self, id: int) -> Installation | None:
        """As the connection's app knows it; None: not an installation of this app, or not any more."""

    def suspend(self, id: int) -> None:
        """Only the app itself can. Again: the same result."""

    def unsuspend(self, id: int) -> None: ...

    def take_probe(self, id: int) -> bool:
        """Takes a token of the installation in hand (it may read metadata, and stays in this process); False where
        none is to be had. It is what the agent holds, so that its refusal proves something."""

    def probe_refused(self, id: int) -> bool | None:
        """Whether GitHub refuses the token in hand; None where there is none, or it has ended by itself."""

    def workflow(self, repository: str, file: str) -> Workflow | None:
        """None where there is none, or the bot may not see it: GitHub does not tell."""

    def set_workflow(self, repository: str, file: str, *, enabled: bool) -> None: ...

    def runs(self, repository: str) -> tuple[Run, ...]:
        """All that have not ended."""

    def cancel_run(self, repository: str, id: int, *, force: bool = False) -> None:
        """Asks it to end; `force` without letting it clean up. One that has ended, or is gone, succeeds too."""

    def environment(self, repository: str, name: str) -> Environment | None: ...

    def set_environment(self, repository: str, wanted: Environment) -> None:
        """Everything of it but `admins_bypass`."""
