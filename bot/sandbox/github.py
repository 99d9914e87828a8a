"""A GitHub that fits in memory: installations, workflows with their runs, and environments that refuse deployments."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from itertools import count

from bot.errors import Denied, Rejected
from bot.ports import Clock
from bot.ports.github import ACTIVE, Environment, Installation, Run, Workflow
from bot.sandbox.faults import Faults

_CLEANING_UP = timedelta(seconds=10)  # how long a cancelled run goes on


@dataclass(frozen=True, slots=True)
class _Run:
    repository: str
    run: Run
    stubborn: bool  # its `always()` steps outlive a cancellation
    ends: datetime | None = None


class SimGithub:
    """ports.Github in memory, behaving as the real one where containment depends on it: a suspended installation's
    tokens are refused; a disabled workflow starts no run and ends none; a run that is cancelled goes on for a moment,
    and a stubborn one until it is forced; only refs that an environment's rule matches deploy to it.

    `faults` scripts single calls; `denied` (method names, or "*") lasts until it is taken back."""

    def __init__(self, clock: Clock, *, system: str = "github") -> None:
        self.faults = Faults()
        self.denied: set[str] = set()
        self.clock, self.system = clock, system
        self._lock = threading.RLock()
        self._numbers = count(1001)
        self._installations: dict[int, Installation] = {}
        self._probes: set[int] = set()
        self._workflows: dict[tuple[str, str], Workflow] = {}
        self._runs: dict[int, _Run] = {}
        self._environments: dict[tuple[str, str], Environment] = {}

    # ports.Github -----------------------------------------------------------------------------------------------

    def installation(self, id: int) -> Installation | None:
        with self._call("installation"):
            return self._installations.get(id)

    def suspend(self, id: int) -> None:
        self._set_suspended("suspend", id, suspended=True)

    def unsuspend(self, id: int) -> None:
        self._set_suspended("unsuspend", id, suspended=False)

    def take_probe(self, id: int) -> bool:
        with self._call("take_probe"):
            if id not in self._installations or self._installations[id].suspended:
                return False
            self._probes.add(id)
            return True

    def probe_refused(self, id: int) -> bool | None:
        with self._call("probe_refused"):
            return self._installations[id].suspended if id in self._probes and id in self._installations else None

    def workflow(self, repository: str, file: str) -> Workflow | None:
        with self._call("workflow"):
            return self._workflows.get((repository, file))

    def set_workflow(self, repository: str, file: str, *, enabled: bool) -> None:
        with self._call("set_workflow"):
            if (repository, file) not in self._workflows:
                raise Rejected(self.system, f"GitHub knows nothing to change: {file} of {repository}")
            state = ACTIVE if enabled else "disabled_manually"
            self._workflows[repository, file] = replace(self._workflows[repository, file], state=state)

    def runs(self, repository: str) -> tuple[Run, ...]:
        with self._call("runs"):
            self._pass_time()
            return tuple(each.run for each in self._runs.values() if each.repository == repository)

    def cancel_run(self, repository: str, id: int, *, force: bool = False) -> None:
        with self._call("cancel_run"):
            self._pass_time()
            held = self._runs.get(id)
            if held is None or held.repository != repository:
                return
            if force:
                del self._runs[id]
            elif held.ends is None and not held.stubborn:
                self._runs[id] = replace(held, ends=self.clock.now() + _CLEANING_UP)

    def environment(self, repository: str, name: str) -> Environment | None:
        with self._call("environment"):
            return self._environments.get((repository, name))

    def set_environment(self, repository: str, wanted: Environment) -> None:
        with self._call("set_environment"):
            held = self._environments.get((repository, wanted.name), wanted)
            patterns = tuple(sorted(wanted.patterns)) if wanted.branches == "patterns" else ()
            self._environments[repository, wanted.name] = replace(
                wanted, patterns=patterns, admins_bypass=held.admins_bypass
            )

    # The estate, as drills and tests set it up and look at it ---------------------------------------------------

    def add_installation(self, id: int, *, app: str = "agents", account: str = "acme") -> None:
        with self._lock:
            self._installations[id] = Installation(id, account, app, suspended=False)

    def drop_installation(self, id: int) -> None:
        with self._lock:
            del self._installations[id]

    def use_installation(self, id: int) -> None:
        """The holder of one of its tokens calls GitHub. Raises Denied where it is suspended or gone."""
        with self._lock:
            if not self.is_usable(id):
                raise Denied(self.system, "This installation has been suspended")

    def is_usable(self, id: int) -> bool:
        with self._lock:
            return id in self._installations and not self._installations[id].suspended

    def add_workflow(self, repository: str, file: str) -> None:
        with self._lock:
            self._workflows[repository, file] = Workflow(f".github/workflows/{file}", ACTIVE)

    def drop_workflow(self, repository: str, file: str) -> None:
        with self._lock:
            del self._workflows[repository, file]

    def start(self, repository: str, file: str, actor: str, *, stubborn: bool = False) -> int:
        """A run is started; returns its id. Raises Denied where the workflow is disabled."""
        with self._lock:
            if not self.is_startable(repository, file):
                raise Denied(self.system, f"{file} is disabled")
            run = Run(next(self._numbers), self._workflows[repository, file].path, frozenset({actor}), "in_progress")
            self._runs[run.id] = _Run(repository, run, stubborn)
            return run.id

    def is_startable(self, repository: str, file: str) -> bool:
        with self._lock:
            return self._workflows[repository, file].state == ACTIVE

    def running(self, repository: str) -> set[int]:
        """Ids of the runs that have not ended, right now."""
        with self._lock:
            self._pass_time()
            return {id for id, held in self._runs.items() if held.repository == repository}

    def add_environment(self, repository: str, environment: Environment) -> None:
        with self._lock:
            self._environments[repository, environment.name] = environment

    def drop_environment(self, repository: str, name: str) -> None:
        with self._lock:
            del self._environments[repository, name]

    def may_deploy(self, repository: str, name: str, branch: str, *, protected: bool = False) -> bool:
        """Whether a job on that branch gets to the environment."""
        with self._lock:
            held = self._environments[repository, name]
            if held.branches == "patterns":
                return any(one.type == "branch" and fnmatchcase(branch, one.name) for one in held.patterns)
            return protected or held.branches == "all"

    # Inside -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._lock:
            if self.denied & {name, "*"}:
                raise Denied(self.system, f"{name}: Resource not accessible by integration")
            self.faults.before(name)
            yield
            self.faults.after(name)

    def _set_suspended(self, name: str, id: int, *, suspended: bool) -> None:
        with self._call(name):
            if id not in self._installations:
                raise Rejected(self.system, f"GitHub knows nothing to {name}: installation {id}")
            self._installations[id] = replace(self._installations[id], suspended=suspended)
            if not suspended:
                self._probes.discard(id)

    def _pass_time(self) -> None:
        for id, held in list(self._runs.items()):
            if held.ends is not None and held.ends <= self.clock.now():
                del self._runs[id]
