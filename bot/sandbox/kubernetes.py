"""A Kubernetes cluster that fits in memory: what the sandbox, the drills and the tests contain agents in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bot.errors import Denied, Rejected
from bot.ports import Autoscaler, Clock, NetworkPolicy, Pod, PodToken, ServiceAccount, Workload
from bot.ports.kubernetes import ACCOUNT_OF_SECRET, SUSPENDED, TOKEN_SECRET, WORKLOADS, Manifest
from bot.sandbox.kubernetes_api import Answered, Object, SimApi

__all__ = ["Answered", "SimCluster"]


class SimCluster(SimApi):
    """ports.Cluster in memory, behaving as a real one where containment depends on it: a token is good as long as its
    account has the uid it was issued for, and ten seconds longer where it was just used; network policies add up, and
    hold only where the network `enforces` them; pods take their time to end; a suspended CronJob leaves its jobs."""

    def __init__(self, clock: Clock, *, system: str = "kubernetes", grace: float = 30) -> None:
        super().__init__(clock, system=system, grace=grace)
        self.enforces = True
        self._kept: dict[str, tuple[str, datetime]] = {}  # uid -> token, until when it is good

    # ports.Cluster ----------------------------------------------------------------------------------------------

    def identity(self) -> str:
        with self.call("create", "selfsubjectreviews"):
            return self.bot

    def service_account(self, namespace: str, name: str) -> ServiceAccount | None:
        found = self._asked("serviceaccounts", namespace, name)
        return ServiceAccount.of(found) if found else None

    def create_service_account(self, manifest: Manifest) -> ServiceAccount:
        return ServiceAccount.of(self.create("serviceaccounts", manifest["metadata"]["namespace"], manifest))

    def delete_service_account(self, namespace: str, name: str, uid: str) -> None:
        self._gone("serviceaccounts", namespace, name, uid)

    def token_secrets(self, namespace: str, account: str) -> tuple[str, ...]:
        found = self.find("secrets", namespace, fields=f"type={TOKEN_SECRET}")
        return tuple(
            str(each["metadata"]["name"])
            for each in found
            if each["metadata"].get("annotations", {}).get(ACCOUNT_OF_SECRET) == account
        )

    def delete_secret(self, namespace: str, name: str) -> None:
        self._gone("secrets", namespace, name)

    def hold_token(self, namespace: str, name: str, uid: str) -> bool:
        try:
            tried, _ = self.token_request(namespace, name, 600)
            kept, until = self.token_request(namespace, name, 600)
        except (Answered, Denied):
            return False
        with self.call("create", "selfsubjectreviews"):
            if self.user_of(tried) != f"system:serviceaccount:{namespace}:{name}":
                return False
        self._kept[uid] = (kept, until)
        return True

    def token_accepted(self, uid: str, now: datetime) -> bool | None:
        token, until = self._kept.get(uid, ("", now))
        if now >= until:
            return None
        with self.call("create", "selfsubjectreviews"):
            return bool(self.user_of(token))

    def review_token(self, token: str, audience: str) -> PodToken | None:
        return PodToken.of(self.token_review(token, (audience,)), audience)

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        found = self._asked(WORKLOADS[kind], namespace, name)
        return Workload.of(kind, found) if found else None

    def jobs(self, namespace: str, owner_uid: str) -> tuple[Workload, ...]:
        found = (Workload.of("Job", each) for each in self.find("jobs", namespace))
        return tuple(job for job in found if job.owner_uid == owner_uid and not job.finished)

    def scale(self, workload: Workload, replicas: int) -> None:
        self._patch(workload, {"replicas": replicas}, "/scale")

    def suspend(self, workload: Workload, suspended: bool) -> None:
        self._patch(workload, {"suspend": suspended})

    def autoscalers(self, namespace: str) -> tuple[Autoscaler, ...]:
        return tuple(map(Autoscaler.of, self.find("horizontalpodautoscalers", namespace)))

    def pods(self, namespace: str, selector: str = "") -> tuple[Pod, ...]:
        return tuple(map(Pod.of, self.find("pods", namespace, selector)))

    def network_policies(self, namespace: str) -> tuple[NetworkPolicy, ...]:
        return tuple(map(NetworkPolicy.of, self.find("networkpolicies", namespace)))

    def put_network_policy(self, namespace: str, name: str, spec: Manifest) -> None:
        made = {"metadata": {"name": name}, "spec": spec}
        if self._asked("networkpolicies", namespace, name) is None:
            self.create("networkpolicies", namespace, made)
        else:
            self.replace("networkpolicies", namespace, name, made)

    def delete_network_policy(self, namespace: str, name: str) -> None:
        self._gone("networkpolicies", namespace, name)

    def pod_manifest(self, namespace: str, name: str) -> Manifest | None:
        return self._asked("pods", namespace, name)

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool, limit: int) -> str | None:
        try:
            return self.log(namespace, pod, container, previous=previous, limit=limit)
        except Answered:
            return None

    def events(self, namespace: str, uid: str) -> Sequence[Manifest]:
        return self.find("events", namespace, fields=f"involvedObject.uid={uid}")

    # The estate, as drills and tests set it up and look at it ---------------------------------------------------

    def add_account(self, namespace: str, name: str, **more: Any) -> str:
        """Returns its uid. One that is there already stays."""
        with self.lock:
            held = self.objects.get(("serviceaccounts", namespace, name))
            made = held or self.put("serviceaccounts", namespace, {"metadata": {"name": name, **more}})
            return str(made["metadata"]["uid"])

    def add_workload(
        self,
        kind: str,
        namespace: str,
        name: str,
        *,
        account: str = "default",
        labels: Mapping[str, str] | None = None,
        number: int = 2,
        owner: Mapping[str, str] | None = None,
        host_network: bool = False,
    ) -> None:
        """`number` pods of it run, as that account (made where it is missing); a CronJob has none of its own."""
        self.add_account(namespace, account)
        worn = dict(labels or {"app": name})
        template: Object = {
            "metadata": {"labels": worn},
            "spec": {
                "serviceAccountName": account,
                "hostNetwork": host_network,
                "containers": [{"name": "agent", "image": "registry.example.com/agent:1"}],
            },
        }
        spec: Object = {"template": template, "selector": {"matchLabels": worn}}
        match kind:
            case "CronJob":
                spec = {"schedule": "*/5 * * * *", "suspend": False, "jobTemplate": {"spec": {"template": template}}}
            case "Job":
                worn |= {"batch.kubernetes.io/job-name": name}
                spec |= {"parallelism": number, "suspend": False}
            case _:
                spec |= {"replicas": number}
        owners = [{**owner, "controller": True}] if owner else []
        self.put(WORKLOADS[kind], namespace, {"metadata": {"name": name, "ownerReferences": owners}, "spec": spec})

    def start_job(self, namespace: str, cronjob: str, name: str) -> None:
        """The CronJob's hour has come."""
        held = self.objects["cronjobs", namespace, cronjob]
        owner = {"kind": "CronJob", "name": cronjob, "uid": str(held["metadata"]["uid"])}
        account = held["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]
        self.add_workload("Job", namespace, name, account=account, number=1, owner=owner)

    def add_autoscaler(self, namespace: str, target: str, *, minimum: int = 1, keda: bool = False) -> None:
        """`target` is Kind/name."""
        kind, _, name = target.partition("/")
        labels = {"scaledobject.keda.sh/name": name} if keda else {}
        spec = {"scaleTargetRef": {"kind": kind, "name": name}, "minReplicas": minimum, "maxReplicas": 9}
        self.put("horizontalpodautoscalers", namespace, {"metadata": {"name": name, "labels": labels}, "spec": spec})

    def add_policy(self, namespace: str, name: str, spec: Manifest) -> None:
        self.put("networkpolicies", namespace, {"metadata": {"name": name}, "spec": spec})

    def add_event(self, namespace: str, pod: str, reason: str, message: str) -> None:
        uid = self.objects["pods", namespace, pod]["metadata"]["uid"]
        about = {"kind": "Pod", "namespace": namespace, "name": pod, "uid": uid}
        name = f"{pod}.{next(self._numbers):x}"
        made = {"metadata": {"name": name}, "involvedObject": about, "reason": reason, "message": message}
        self.put("events", namespace, made)

    def running(self, namespace: str, account: str = "") -> list[str]:
        """Names of pods that are there, ending or not."""
        with self.lock:
            self._pass_time()
            pods = [
                Pod.of(held) for (kind, where, _), held in self.objects.items() if (kind, where) == ("pods", namespace)
            ]
            return [pod.name for pod in pods if pod.runs and account in ("", pod.service_account)]

    def reaches_out(self, namespace: str, pod: str) -> bool:
        """Whether the pod gets a new connection out."""
        with self.lock:
            who = Pod.of(self.objects["pods", namespace, pod])
            held = [
                each
                for (kind, where, _), each in self.objects.items()
                if (kind, where) == ("networkpolicies", namespace)
            ]
            rules = [each["spec"] for each in held if NetworkPolicy.of(each).selects(who.labels)]
            binding = [rule for rule in rules if "Egress" in rule.get("policyTypes", ())]
            isolated = binding and not any(rule.get("egress") for rule in binding)
            return not (isolated and self.enforces and not who.host_network)

    # Inside -----------------------------------------------------------------------------------------------------

    def _asked(self, resource: str, namespace: str, name: str) -> Object | None:
        try:
            return self.get(resource, namespace, name)
        except Answered as answer:
            if answer.code != 404:
                raise
            return None

    def _gone(self, resource: str, namespace: str, name: str, uid: str = "") -> None:
        try:
            self.remove(resource, namespace, name, uid)
        except Answered as answer:
            if answer.code != 404:
                raise

    def _patch(self, workload: Workload, spec: Manifest, part: str = "") -> None:
        if (workload.kind in SUSPENDED) is bool(part):
            raise Rejected(self.system, f"a {workload.kind} cannot be changed so")
        patch = {"metadata": {"resourceVersion": workload.version}, "spec": spec}
        self.merge(WORKLOADS[workload.kind], workload.namespace, workload.name, patch, part)
