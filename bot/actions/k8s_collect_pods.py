"""`k8s.collect_pods`: what the agent's pods are and said, kept before they are gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from bot.actions import Action, evidence, k8s
from bot.actions.evidence import Source
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import Target
from bot.errors import SystemFailure
from bot.ports import Cluster, Evidence, Ports

KIND = "pod_logs"
BOX = timedelta(seconds=90)  # until what was not read is left
PODS = 50
LOG = 1024 * 1024  # bytes of one log


class CollectPods(Action):
    """Keeps what the agent's pods are and said: of each its manifest, its events, and the log of every container, of
    this run and of the one before (the last 10,000 lines, at most 1 MiB). Secrets are taken out, and
    the manifest says how many, of which kind and where. A pod is the agent's by its `pod_labels` or its service
    account. Each is stored under its SHA-256, locked for as long as `evidence.retain` says, and a manifest lists them
    all. After 90 seconds, and after 50 pods, it ends: what was not read is named in `missing`, there too.
    Logs are lost with their pods: run it beside the cuts, not after k8s.scale_to_zero."""

    id = "k8s.collect_pods"
    params = (k8s.AGENT, k8s.CONNECTION)
    outputs = ("manifest", "manifest_sha256", "items", "missing", "redacted", "locked_until")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kubernetes": ("list pods", "get pods", "get pods/log", "list events"),
        "aws": ("s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectVersion"),
    }
    example = 'uses: k8s.collect_pods\nwith: {agent: "${{ agent.id }}"}\nirreversible: true\n'
    containing = False
    best_grade = Grade.CONFIG
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = k8s.identity(params, agent)
        if known is None or agent is None or not (where := k8s.namespaces(known, agent)):
            return ()
        concrete = {
            "agent": agent.id,
            "connection": known.connection,
            "namespaces": list(where),
            "labels": dict(known.pod_labels),
            "accounts": [k8s.user(*account) for account in k8s.accounts(agent)],
        }
        return (Target(f"k8s-evidence:{known.connection}/{agent.id}", concrete, known.connection),)

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        """A pod a stage. Again: what is the same is stored once."""
        if ports.evidence is None:
            return Failed(False, "no evidence store is configured: add `evidence` to firedoor.yaml")
        cluster, now = k8s.cluster(params, ports), ports.clock.now()
        if so_far is None:
            return Pending(now, _begin(params, cluster, now), "looked for its pods")
        since, todo = datetime.fromisoformat(so_far["since"]), so_far["todo"]
        if not todo:
            return self._manifest(params, ports, ports.evidence, so_far, key)
        if now - since >= BOX:
            late = [_lacking(params, each, "", "the time was up") for each in todo]
            rest = {**so_far, "todo": [], "missing": [*so_far["missing"], *late]}
            return self._manifest(params, ports, ports.evidence, rest, key)
        item, missing = _collect(params, todo[0], cluster, ports, ports.evidence, key, since + ports.retain)
        done = {**so_far, "todo": todo[1:], "items": [*so_far["items"], item]}
        kept = {**done, "missing": [*so_far["missing"], *missing]}
        return Pending(now, kept, f"{len(todo) - 1} pods to go")

    def _manifest(
        self, params: Mapping[str, Any], ports: Ports, shelf: Evidence, so_far: Mapping[str, Any], key: str
    ) -> Done:
        manifest = {
            "schema": evidence.SCHEMA,
            "agent": params["agent"],
            "key": key,
            "collected_at": so_far["since"],
            "items": so_far["items"],
            "missing": so_far["missing"],
        }
        until = datetime.fromisoformat(so_far["since"]) + ports.retain
        name = f"{params['agent']}-pods-manifest.json"
        stored = shelf.put(evidence.as_bytes(manifest), name=name, retain_until=until)
        return Done(
            Grade.CONFIG,
            {
                "manifest": stored.address,
                "manifest_sha256": stored.sha256,
                "items": len(so_far["items"]),
                "missing": [f"{one['source']}: {one['why']}" for one in so_far["missing"]],
                "redacted": sum(item["redacted"]["count"] for item in so_far["items"]),
                "locked_until": stored.locked_until.isoformat() if stored.locked_until else "",
            },
        )

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """None: what was stored is checked by its manifest, whose address is in the record and not in the params."""
        return None


def _begin(params: Mapping[str, Any], cluster: Cluster, now: datetime) -> Mapping[str, Any]:
    found = [pod for each in params["namespaces"] for pod in k8s.own_pods(params, cluster.pods(each))]
    todo = [
        {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid, "containers": [*pod.containers]} for pod in found
    ]
    why = f"{len(todo) - PODS} more pods: {PODS} are the most"
    beyond = [{"source": f"k8s/{params['connection']}", "kind": KIND, "why": why}] if len(todo) > PODS else []
    return {"since": now.isoformat(), "todo": todo[:PODS], "items": [], "missing": beyond}


def _collect(
    params: Mapping[str, Any],
    pod: Mapping[str, Any],
    cluster: Cluster,
    ports: Ports,
    shelf: Evidence,
    key: str,
    until: datetime,
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The item, a record a part, and what could not be read. A failure of the evidence store is not caught."""
    found: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []
    for part, read in _parts(pod, cluster):
        try:
            value = read()
        except SystemFailure as failure:
            missing.append(_lacking(params, pod, part, str(ports.clean(failure.why))))
            continue
        if value is not None:
            found.append({"pod": _named(pod), "uid": pod["uid"], "part": part, "value": value})
    if not found:
        missing.append(_lacking(params, pod, "", "it is gone"))
    source = Source(_source(params, pod), KIND, params["connection"], lambda: found)
    item = evidence.keep(ports, shelf, source, found, key=key, keep_until=until)
    return item | {"parts": sorted(one["part"] for one in found)}, missing


def _lacking(params: Mapping[str, Any], pod: Mapping[str, Any], part: str, why: str) -> dict[str, str]:
    return {"source": "/".join(filter(None, (_source(params, pod), part))), "kind": KIND, "why": why}


def _source(params: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    return f"k8s/{params['connection']}/{_named(pod)}"


def _named(pod: Mapping[str, Any]) -> str:
    return f"{pod['namespace']}/{pod['name']}"


def _parts(pod: Mapping[str, Any], cluster: Cluster) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Logs first: they go first."""
    namespace, name = pod["namespace"], pod["name"]
    for container in pod["containers"]:
        for previous in (False, True):
            word = "previous_log" if previous else "log"
            yield (
                f"{word}/{container}",
                partial(cluster.logs, namespace, name, container, previous=previous, limit=LOG),
            )
    yield "manifest", partial(cluster.pod_manifest, namespace, name)
    yield "events", lambda: [*cluster.events(namespace, pod["uid"])] or None
