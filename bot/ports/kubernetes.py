"""A Kubernetes cluster, as the actions see it, and how its objects are read.

`of` takes an object as the API server writes it (JSON): the client and the simulator read the same words the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

Manifest = Mapping[str, Any]  # an object of the API, as JSON

# Resource -> where the API serves it. What is not here is never asked for.
SERVED: Mapping[str, str] = {
    **dict.fromkeys(("serviceaccounts", "secrets", "pods", "events"), "api/v1"),
    **dict.fromkeys(("deployments", "statefulsets", "replicasets"), "apis/apps/v1"),
    **dict.fromkeys(("cronjobs", "jobs"), "apis/batch/v1"),
    "horizontalpodautoscalers": "apis/autoscaling/v2",
    "networkpolicies": "apis/networking.k8s.io/v1",
}
# Kind -> resource, of what can be brought to a stop and started again.
WORKLOADS: Mapping[str, str] = {
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "ReplicaSet": "replicasets",
    "CronJob": "cronjobs",
    "Job": "jobs",
}
LOG_LINES = 10_000  # of a container, the last ones
SUSPENDED = ("CronJob", "Job")  # they have no number, and are suspended instead
TOKEN_SECRET = "kubernetes.io/service-account-token"
POD_OF_TOKEN = "authentication.kubernetes.io/pod"  # -name and -uid: of the user that a token is reviewed to be
ACCOUNT_OF_SECRET = "kubernetes.io/service-account.name"  # annotation of such a Secret
REVOKED = "firedoor/revoked"  # annotation of an account made anew by k8s.revoke_tokens: the decision that made it


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    namespace: str
    name: str
    uid: str
    manifest: Manifest  # what makes the same account anew: its name, labels, annotations, pull secrets
    finalizers: tuple[str, ...] = ()  # of one that is being deleted: what it waits for

    @property
    def annotations(self) -> Mapping[str, str]:
        found: Mapping[str, str] = self.manifest["metadata"].get("annotations", {})
        return found

    @classmethod
    def of(cls, found: Manifest) -> ServiceAccount:
        meta = found["metadata"]
        kept = {key: meta[key] for key in ("name", "namespace", "labels", "annotations") if meta.get(key)}
        rest = {key: found[key] for key in ("imagePullSecrets", "automountServiceAccountToken") if key in found}
        manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": kept, **rest}
        waits = tuple(meta.get("finalizers", ())) if meta.get("deletionTimestamp") else ()
        return cls(meta["namespace"], meta["name"], meta["uid"], manifest, waits)


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs pods. `replicas` of those that have a number, `suspended` of the others."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: str  # resourceVersion: a change of another one is refused
    service_account: str
    selector: str  # of its pods, as a label selector; '' of a CronJob, which has only jobs
    replicas: int | None = None
    suspended: bool | None = None
    owner: str = ""  # `Kind/name` of what controls it
    owner_uid: str = ""
    finished: bool = False  # a Job that has ended

    @property
    def stopped(self) -> bool:
        """It starts no pods; those it had may still end."""
        return self.finished or self.suspended is True or self.replicas == 0

    @classmethod
    def of(cls, kind: str, found: Manifest) -> Workload:
        meta, spec = found["metadata"], found["spec"]
        template = spec["jobTemplate"]["spec"]["template"] if kind == "CronJob" else spec["template"]
        owner: Manifest = next((each for each in meta.get("ownerReferences", ()) if each.get("controller")), {})
        ended = {each["type"] for each in found.get("status", {}).get("conditions", ()) if each["status"] == "True"}
        return cls(
            kind=kind,
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            version=meta["resourceVersion"],
            service_account=template["spec"].get("serviceAccountName") or "default",
            selector=selector_text(spec.get("selector") or {}),
            replicas=None if kind in SUSPENDED else spec.get("replicas", 1),
            suspended=bool(spec.get("suspend")) if kind in SUSPENDED else None,
            owner=f"{owner['kind']}/{owner['name']}" if owner else "",
            owner_uid=owner.get("uid", ""),
            finished=kind == "Job" and bool(ended & {"Complete", "Failed"}),
        )


@dataclass(frozen=True, slots=True)
class Autoscaler:
    """A HorizontalPodAutoscaler. It rests while its workload stands at zero, unless `minimum` is 0 or something else
    drives it (`driver`: KEDA)."""

    name: str
    target: str  # Kind/name
    minimum: int
    driver: str = ""

    @classmethod
    def of(cls, found: Manifest) -> Autoscaler:
        spec, labels = found["spec"], found["metadata"].get("labels", {})
        target = spec["scaleTargetRef"]
        driver = "KEDA" if any("keda.sh/" in label for label in labels) else ""
        return cls(found["metadata"]["name"], f"{target['kind']}/{target['name']}", spec.get("minReplicas", 1), driver)


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    uid: str
    service_account: str
    labels: Mapping[str, str]
    containers: tuple[str, ...]  # those that start it up, and those that somebody attached, too
    phase: str
    node: str = ""
    terminating: bool = False
    host_network: bool = False  # then no NetworkPolicy reaches it

    @property
    def runs(self) -> bool:
        """Or may run, as far as the API server knows."""
        return self.phase not in ("Succeeded", "Failed")

    @classmethod
    def of(cls, found: Manifest) -> Pod:
        meta, spec = found["metadata"], found["spec"]
        kinds = ("initContainers", "containers", "ephemeralContainers")
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            service_account=spec.get("serviceAccountName") or "default",
            labels=meta.get("labels") or {},
            containers=tuple(each["name"] for kind in kinds for each in spec.get(kind) or ()),
            phase=found.get("status", {}).get("phase", "Unknown"),
            node=spec.get("nodeName", ""),
            terminating="deletionTimestamp" in meta,
            host_network=bool(spec.get("hostNetwork")),
        )


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    name: str
    spec: Manifest

    @classmethod
    def of(cls, found: Manifest) -> NetworkPolicy:
        return cls(found["metadata"]["name"], found["spec"])

    def selects(self, labels: Mapping[str, str]) -> bool:
        return selects(self.spec.get("podSelector") or {}, labels)

    @property
    def allows(self) -> bool:
        """Policies add up: what one of them lets through, no other stops."""
        return bool(self.spec.get("ingress") or self.spec.get("egress"))


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels and matchExpressions) holds for these labels; an empty one always does."""
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    for one in selector.get("matchExpressions") or ():
        has, values = one["key"] in labels, one.get("values") or ()
        matches = {
            "Exists": has,
            "DoesNotExist": not has,
            "In": has and labels[one["key"]] in values,
            "NotIn": not has or labels[one["key"]] not in values,
        }
        if not matches[one["operator"]]:
            return False
    return True


def selector_text(selector: Manifest) -> str:
    """The same as a request writes it."""
    words = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or ():
        values = ",".join(one.get("values") or ())
        words.append(
            {
                "Exists": one["key"],
                "DoesNotExist": f"!{one['key']}",
                "In": f"{one['key']} in ({values})",
                "NotIn": f"{one['key']} notin ({values})",
            }[one["operator"]]
        )
    return ",".join(words)


@dataclass(frozen=True, slots=True)
class PodToken:
    """Whose a token is, as the cluster says: the user name of its account, and the pod that it was made for."""

    user: str
    pod: str = ""
    uid: str = ""  # the pod's

    @classmethod
    def of(cls, status: Manifest, audience: str) -> PodToken | None:
        """Of a TokenReview's status; None for a token that is not good, or not for this audience."""
        if status.get("authenticated") is not True or audience not in (status.get("audiences") or ()):
            return None  # a server that knows of no audiences names none, and would take a token made for another
        user = status["user"]
        extra = user.get("extra") or {}
        pod, uid = (next(iter(extra.get(f"{POD_OF_TOKEN}-{part}") or ()), "") for part in ("name", "uid"))
        return cls(user["username"], pod, uid)


class Cluster(Protocol):
    """One Kubernetes cluster. A change names the uid or the version that it was decided on; where another took its
    place meanwhile it is Rejected(retryable=True)."""

    def identity(self) -> str:
        """The bot's own user name there, `system:serviceaccount:firedoor:firedoor`."""

    # Service accounts and their tokens

    def service_account(self, namespace: str, name: str) -> ServiceAccount | None: ...

    def create_service_account(self, manifest: Manifest) -> ServiceAccount: ...

    def delete_service_account(self, namespace: str, name: str, uid: str) -> None:
        """One that is gone already succeeds; a finalizer may hold it up."""

    def token_secrets(self, namespace: str, account: str) -> tuple[str, ...]:
        """Names of the Secrets with a token of the account that never expires. Their contents are not read."""

    def delete_secret(self, namespace: str, name: str) -> None:
        """One that is gone already succeeds."""

    def hold_token(self, namespace: str, name: str, uid: str) -> bool:
        """Has two tokens of the account issued, tries one, and keeps the other in this process, never told, to be tried
        after the cut (the one that was tried is remembered by the API server for ten seconds). False where the cluster
        would not issue one, or would not take it."""

    def token_accepted(self, uid: str, now: datetime) -> bool | None:
        """Whether the cluster still takes the token that was kept; None where this process has none that is good."""

    def review_token(self, token: str, audience: str) -> PodToken | None:
        """Whose it is, asked of the cluster itself (TokenReview); None where the token is refused, or was made for
        another audience. The pod is empty of a token that is bound to none."""

    # Workloads

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None: ...

    def jobs(self, namespace: str, owner_uid: str) -> tuple[Workload, ...]:
        """The Jobs that a CronJob has started and that have not ended."""

    def scale(self, workload: Workload, replicas: int) -> None: ...

    def suspend(self, workload: Workload, suspended: bool) -> None: ...

    def autoscalers(self, namespace: str) -> tuple[Autoscaler, ...]: ...

    def pods(self, namespace: str, selector: str = "") -> tuple[Pod, ...]: ...

    # Networks

    def network_policies(self, namespace: str) -> tuple[NetworkPolicy, ...]: ...

    def put_network_policy(self, namespace: str, name: str, spec: Manifest) -> None:
        """Made, or made so again."""

    def delete_network_policy(self, namespace: str, name: str) -> None:
        """One that is gone already succeeds."""

    # What a pod leaves behind

    def pod_manifest(self, namespace: str, name: str) -> Manifest | None: ...

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool, limit: int) -> str | None:
        """Its last LOG_LINES lines, cut at `limit` bytes; None where there are none (it never ran, or not before)."""

    def events(self, namespace: str, uid: str) -> Sequence[Manifest]:
        """About the object of that uid."""
