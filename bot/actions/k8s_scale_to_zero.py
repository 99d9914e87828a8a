"""`k8s.scale_to_zero`: a workload runs no pods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import k8s
from bot.actions.switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome
from bot.domain.playbook import Param, Target
from bot.ports import Cluster, Pod, Ports, Workload
from bot.ports.kubernetes import SUSPENDED


class ScaleToZero(Switch[Cluster]):
    """Scales each Deployment, StatefulSet and ReplicaSet of the agent to zero, suspends each CronJob, with the jobs
    that it has started, and each Job, and waits up to five minutes until no pod of them is left. What the pods held in
    memory is lost: k8s.collect_pods before. A HorizontalPodAutoscaler rests while its workload stands at zero, but not
    one whose minimum is 0, and not KEDA, which starts pods from zero: `may_restart` names them, pause them by hand. So
    does whatever applies manifests by itself (Argo CD, Flux). Tokens that left the pods stay good: k8s.revoke_tokens.
    Releasing restores the number, or resumes; a suspended Job starts its pods anew."""

    id = "k8s.scale_to_zero"
    params = (
        k8s.AGENT,
        Param("workload", required=False, doc="one workload, namespace/Kind/name; every one of the agent by default"),
        k8s.CONNECTION,
    )
    outputs = ("workload", "pods", "may_restart", "alive", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kubernetes": (
            *(f"get {each}.apps" for each in ("deployments", "statefulsets", "replicasets")),
            *(f"patch {each}.apps/scale" for each in ("deployments", "statefulsets", "replicasets")),
            *(f"{verb} {each}.batch" for each in ("cronjobs", "jobs") for verb in ("get", "patch")),
            "list jobs.batch",
            "list pods",
            "list horizontalpodautoscalers.autoscaling",
        )
    }
    example = 'uses: k8s.scale_to_zero\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    patience = timedelta(minutes=5)

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = k8s.identity(params, agent)
        if known is None or agent is None:
            return ()
        users = [k8s.user(*account) for account in k8s.accounts(agent)]
        named = (params["workload"],) if params.get("workload") else known.workloads
        found = []
        for text in dict.fromkeys(named):
            namespace, kind, name = k8s.workload(text)
            concrete = {
                "agent": agent.id,
                "connection": known.connection,
                "namespace": namespace,
                "kind": kind,
                "name": name,
                "listed": text in known.workloads,
                "accounts": users,
            }
            found.append(Target(f"k8s-workload:{known.connection}/{text}", concrete, known.connection))
        return tuple(found)

    def system(self, params: Mapping[str, Any], ports: Ports) -> Cluster:
        return k8s.cluster(params, ports)

    def name(self, params: Mapping[str, Any]) -> str:
        return f"{params['namespace']}/{params['kind']}/{params['name']}"

    def absent(self, params: Mapping[str, Any], system: Cluster) -> Failed | None:
        if self._find(params, system):
            return None
        return Failed(
            False,
            f"connection {params['connection']} knows no {self.name(params)}: it was deleted (its pods may still end), "
            "or it is in another cluster (then name its connection)",
        )

    def unwanted(self, params: Mapping[str, Any], system: Cluster) -> Failed | None:
        found = self._find(params, system)
        account = k8s.user(found.namespace, found.service_account) if found else ""
        if refused := k8s.off_limits(params["namespace"], [account], system):
            return refused
        if found and found.owner and found.kind != "Job":
            return Failed(
                False, f"{self.name(params)} belongs to {found.owner}, which would undo it: stop that instead"
            )
        if not params["listed"] and account not in params["accounts"]:
            why = f"{self.name(params)} runs as {account}, which is no account of {params['agent']}"
            return Failed(False, f"{why}: add it to agents.yaml, or stop it by hand")
        return None

    def state(self, params: Mapping[str, Any], system: Cluster) -> Mapping[str, Any]:
        found = self._find(params, system)
        if found is None or found.suspended is None:
            return {"replicas": found.replicas if found else 0}
        return {"suspended": found.suspended, "jobs": {job.name: job.suspended for job in _jobs(found, system)}}

    def change(self, params: Mapping[str, Any], system: Cluster, key: str) -> Mapping[str, Any]:
        found = self._find(params, system)
        for each in _parts(found, system):
            if each.stopped:
                continue
            if each.suspended is None:
                system.scale(each, 0)
            else:
                system.suspend(each, True)
        return {}

    def seen(self, params: Mapping[str, Any], system: Cluster, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = self._find(params, system)
        if found is None or not all(each.stopped for each in _parts(found, system)):
            return None
        if _pods(found, system):
            return None
        restarts = [] if found.kind in SUSPENDED else [*_restarts(found, system)]
        return {"workload": self.name(params), "pods": 0} | ({"may_restart": restarts} if restarts else {})

    def restore(self, params: Mapping[str, Any], system: Cluster, before: Mapping[str, Any]) -> str:
        found = self._find(params, system)
        for each in _parts(found, system):
            if each.suspended is not None:
                was = before["suspended"] if found and each.uid == found.uid else before["jobs"].get(each.name)
                if was is False and each.suspended:
                    system.suspend(each, False)
            elif each.replicas == 0 and before["replicas"]:
                system.scale(each, before["replicas"])
            elif each.replicas != before["replicas"]:
                return f"{self.name(params)} was scaled to {each.replicas} since: it is left so"
        now = self.state(params, system)
        same = all(now.get(key) == before[key] for key in ("replicas", "suspended") if key in before)
        return "" if same else f"the cluster took the call, but {self.name(params)} does not read as before"

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        outcome = super().run(params, ports, key=key, so_far=so_far)
        if not isinstance(outcome, Done) or outcome.grade is not Grade.UNVERIFIED:
            return outcome
        system = self.system(params, ports)
        found = self._find(params, system)
        left = [f"pod {pod.name} on {pod.node or 'no node'}" for pod in _pods(found, system)] if found else []
        return replace(outcome, evidence={**outcome.evidence, "alive": left})

    def _find(self, params: Mapping[str, Any], system: Cluster) -> Workload | None:
        return system.workload(params["kind"], params["namespace"], params["name"])


def _jobs(found: Workload, system: Cluster) -> tuple[Workload, ...]:
    """Suspending a CronJob only keeps it from starting more."""
    return system.jobs(found.namespace, found.uid) if found.kind == "CronJob" else ()


def _parts(found: Workload | None, system: Cluster) -> tuple[Workload, ...]:
    """The CronJob first, so that it starts no more of them."""
    return (found, *_jobs(found, system)) if found else ()


def _pods(found: Workload, system: Cluster) -> list[Pod]:
    """Those that run or end."""
    selectors = [each.selector for each in _parts(found, system) if each.selector]
    return [pod for selector in selectors for pod in system.pods(found.namespace, selector) if pod.runs]


def _restarts(found: Workload, system: Cluster) -> Iterator[str]:
    for each in system.autoscalers(found.namespace):
        if each.target != f"{found.kind}/{found.name}":
            continue
        if each.driver:
            yield f"{each.driver} drives autoscaler {each.name}, and may start pods again: pause its ScaledObject"
        elif each.minimum == 0:
            yield f"autoscaler {each.name} may start pods again: its minimum is 0"
