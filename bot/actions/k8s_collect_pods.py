"""`k8s.collect_pods`: what the agent's pods are and said, kept before they are gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar

from bot.actions import Action, k8s
from bot.actions.evidence_collect import RETENTION
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import Target
from bot.domain.redaction import Json
from bot.errors import SystemFailure
from bot.ports import Cluster, Evidence, Ports

BOX = timedelta(seconds=90)  # until what was not read is left
PODS = 50
LOG = 1024 * 1024  # bytes of one log


class CollectPods(Action):
    """Keeps what the agent's pods are and said: of each its manifest, its events, and the log of every container, of
    this run and of the one before (the last 10,000 lines, at most 1 MiB). Secrets are taken out. A pod is the agent's
    by its `pod_labels` or its service account. Each is stored under its SHA-256, kept for 365 days, and a manifest
    lists them all. After 90 seconds, and after 50 pods, it ends: what was not read is named in `missing`, there too.
    Logs are lost with their pods: run it beside the cuts, not after k8s.scale_to_zero."""

    id = "k8s.collect_pods"
    params = (k8s.AGENT, k8s.CONNECTION)
    outputs = ("manifest", "manifest_sha256", "items", "missing")
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
            late = [f"{each['namespace']}/{each['name']}: the time was up" for each in todo]
            rest = {**so_far, "todo": [], "missing": [*so_far["missing"], *late]}
            return self._manifest(params, ports, ports.evidence, rest, key)
        item, missing = _collect(todo[0], cluster, ports, ports.evidence, since + RETENTION)
        done = {**so_far, "todo": todo[1:], "items": [*so_far["items"], item]}
        kept = {**done, "missing": [*so_far["missing"], *missing]}
        return Pending(now, kept, f"{len(todo) - 1} pods to go")

    def _manifest(
        self, params: Mapping[str, Any], ports: Ports, shelf: Evidence, so_far: Mapping[str, Any], key: str
    ) -> Done:
        manifest = {
            "schema": "firedoor/evidence/v1",
            "agent": params["agent"],
            "key": key,
            "collected_at": so_far["since"],
            "items": so_far["items"],
            "missing": so_far["missing"],
        }
        until = datetime.fromisoformat(so_far["since"]) + RETENTION
        stored = shelf.put(_json(manifest), name=f"{params['agent']}-pods-manifest.json", retain_until=until)
        evidence = {"manifest": stored.address, "manifest_sha256": stored.sha256, "items": len(so_far["items"])}
        return Done(Grade.CONFIG, {**evidence, "missing": [*so_far["missing"]]})

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """None: what was stored is checked by its manifest, whose address is in the record and not in the params."""
        return None


def _begin(params: Mapping[str, Any], cluster: Cluster, now: datetime) -> Mapping[str, Any]:
    found = [pod for each in params["namespaces"] for pod in k8s.own_pods(params, cluster.pods(each))]
    todo = [
        {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid, "containers": [*pod.containers]} for pod in found
    ]
    beyond = [f"{len(todo) - PODS} more pods: {PODS} are the most"] if len(todo) > PODS else []
    return {"since": now.isoformat(), "todo": todo[:PODS], "items": [], "missing": beyond}


def _collect(
    pod: Mapping[str, Any], cluster: Cluster, ports: Ports, shelf: Evidence, until: datetime
) -> tuple[dict[str, Any], list[str]]:
    """The item, and what of it could not be read. A failure of the evidence store is not caught."""
    found: dict[str, Json] = {}
    missing: list[str] = []
    named = f"{pod['namespace']}/{pod['name']}"
    for part, read in _parts(pod, cluster):
        try:
            value = read()
        except SystemFailure as failure:
            missing.append(f"{named} {part}: {ports.clean(failure.why)}")
            continue
        if value is not None:
            found[part] = json.loads(json.dumps(value, default=str))
    clean = _json(ports.clean({"pod": named, "uid": pod["uid"], **found}))
    stored = shelf.put(clean, name=f"pod-{named.replace('/', '_')}.json", retain_until=until)
    if not found:
        missing.append(f"{named}: it is gone")
    return {
        "pod": named,
        "parts": sorted(found),
        "redacted": clean.count(b"[redacted:"),
        "sha256": stored.sha256,
        "size": stored.size,
        "address": stored.address,
    }, missing


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


def _json(value: Json) -> bytes:
    """The same value, the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
