"""`github.cancel_runs`: what an agent has under way in GitHub Actions ends."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from bot.actions import Action, github
from bot.actions.switch import protected
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Target
from bot.errors import Denied, Rejected, SystemFailure
from bot.ports import Github, Ports, Run

_POLITE = timedelta(seconds=30)  # in which a cancelled run may clean up, before it is forced
_PATIENCE = timedelta(minutes=10)
_AGAIN = timedelta(seconds=5)
_CHUNK = 20  # cancellations a stage
_NAMED = 20


class CancelRuns(Action):
    """Cancels the agent's workflow runs that are queued or under way, in each of its repositories: runs of its
    workflows, and runs by its login. Those that have not ended after 30 seconds are forced, without their clean-up
    steps. It is looked again until none is left, new ones included, for ten minutes. What a run has done stays done;
    github.disable_workflow keeps new ones from starting. It cannot be undone: start the run again by hand."""

    id = "github.cancel_runs"
    params = (github.AGENT,)
    outputs = ("repository", "cancelled", "forced", "runs", "alive")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {"github": ("Actions: write",)}
    example = 'uses: github.cancel_runs\nwith: {agent: "${{ agent.id }}"}\ncontains: true\nirreversible: true\n'
    containing = True
    best_grade = Grade.CONFIG
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = github.identity(params, agent)
        if agent is None or known is None:
            return ()
        workflows = [each.split(":", 1) for each in known.workflows]
        found = []
        for repository in dict.fromkeys((*known.repositories, *(each[0] for each in workflows))):
            files = [file for owner, file in workflows if owner == repository]
            if not files and not known.login:
                raise ValueError(
                    f"whose runs in {repository} are {agent.id}'s? Add github.login or its workflows to agents.yaml"
                )
            concrete = {
                "agent": agent.id,
                "connection": known.connection,
                "repository": repository,
                "login": known.login,
                "workflows": files,
            }
            found.append(Target(f"github-runs:{repository}", concrete, known.connection))
        return tuple(found)

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        if why := protected(ports, params["agent"], params["repository"]):
            return Skipped(why)
        system, now, where = github.system(params, ports), ports.clock.now(), params["repository"]
        alive = _own(params, system)
        if so_far is None:
            if not alive:
                nothing = f"no run of {params['agent']} is queued or under way in {where}"
                return Done(Grade.CONFIG, _evidence(params, {}, []), nothing_held=nothing)
            begun = {"since": now.isoformat(), "asked": {}, "forced": []}
            return Pending(now, begun, f"found {len(alive)} runs to cancel in {where}")
        asked, forced = dict(so_far["asked"]), list(so_far["forced"])
        refused: list[SystemFailure] = []
        for one in sorted(alive, key=lambda run: str(run.id) in asked)[:_CHUNK]:  # new ones are starved by none
            # A run's own time counts: one that was started meanwhile may clean up as well.
            first = datetime.fromisoformat(asked.setdefault(str(one.id), now.isoformat()))
            force = now - first >= _POLITE
            try:
                system.cancel_run(where, one.id, force=force)
            except (Denied, Rejected) as failure:  # one refusal stops no other
                refused.append(failure)
                continue
            if force and one.id not in forced:
                forced.append(one.id)
        kept = {**so_far, "asked": asked, "forced": forced}
        left = _own(params, system)
        if not left:
            return Done(Grade.CONFIG, _evidence(params, asked, forced))
        named = ", ".join(str(one.id) for one in left[:_NAMED])
        because = "; ".join(dict.fromkeys(failure.why for failure in refused))
        why = f"{len(left)} runs in {where} have not ended: {named}" + (f" ({because})" if because else "")
        hopeless = bool(refused) and all(isinstance(failure, Denied) for failure in refused)
        if hopeless or now - datetime.fromisoformat(so_far["since"]) >= _PATIENCE:
            return Failed(not hopeless, why)
        unasked = any(str(one.id) not in asked for one in left)
        return Pending(now if unasked and not refused else now + _AGAIN, kept, why)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        if _own(params, github.system(params, ports)):
            return None
        return Done(Grade.CONFIG, _evidence(params, {}, []))


def _own(params: Mapping[str, Any], system: Github) -> list[Run]:
    """The agent's runs that have not ended: not other people's."""
    return [
        run
        for run in system.runs(params["repository"])
        if params["login"] in run.actors or run.workflow.rpartition("/")[2] in params["workflows"]
    ]


def _evidence(params: Mapping[str, Any], asked: Mapping[str, Any], forced: list[int]) -> dict[str, Any]:
    return {
        "repository": params["repository"],
        "cancelled": len(asked),
        "forced": len(forced),
        "runs": [int(id) for id in [*asked][:_NAMED]],
        "alive": 0,
    }
