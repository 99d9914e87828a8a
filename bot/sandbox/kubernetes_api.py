"""The API server of a simulated cluster: its objects, their versions, and the controllers that act on them."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Clock
from bot.ports.kubernetes import ACCOUNT_OF_SECRET, LOG_LINES, POD_OF_TOKEN, SERVED, SUSPENDED, TOKEN_SECRET, WORKLOADS
from bot.sandbox.faults import Faults

Object = dict[str, Any]
Key = tuple[str, str, str]  # resource, namespace, name

UID_OF_SECRET = "kubernetes.io/service-account.uid"
KINDS: Mapping[str, str] = {
    **{resource: kind for kind, resource in WORKLOADS.items()},
    "serviceaccounts": "ServiceAccount",
    "secrets": "Secret",
    "pods": "Pod",
    "events": "Event",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "networkpolicies": "NetworkPolicy",
}
REMEMBERED = timedelta(seconds=10)  # the API server takes a token that it has just seen without looking again
_TERM = re.compile(r"(!?)([\w./-]+)(?:\s*(==|=|!=)\s*([\w.-]*)|\s+(in|notin)\s*\(([^)]*)\))?")


class Answered(Rejected):
    """A refusal as the API server words it: `code` is the HTTP status, `reason` that of its Status."""

    def __init__(self, system: str, code: int, reason: str, why: str) -> None:
        self.code, self.reason = code, reason
        super().__init__(system, why, retryable=code == 409)


@dataclass(frozen=True, slots=True)
class _Claims:
    """What a token says of itself. `expires` None and `secret`: one of the old kind, in a Secret."""

    namespace: str
    account: str
    uid: str
    expires: datetime | None
    secret: str = ""
    audience: str = ""  # '': the API server's own
    pod: str = ""
    pod_uid: str = ""

    @property
    def user(self) -> str:
        return f"system:serviceaccount:{self.namespace}:{self.account}"


class SimApi:
    """What every verb does. Trouble by the words of RBAC, `delete serviceaccounts`, `get pods/log`: `faults` scripts
    single calls, `denied` (or "*") and `away` last until they are taken back. Pods take `grace` seconds to end, those
    on a node in `lost_nodes` never do."""

    def __init__(self, clock: Clock, *, system: str = "kubernetes", grace: float = 30) -> None:
        self.faults = Faults()
        self.denied: set[str] = set()
        self.away = False
        self.lost_nodes: set[str] = set()
        self.bot = "system:serviceaccount:firedoor:firedoor"
        self.clock, self.system = clock, system
        self.objects: dict[Key, Object] = {}
        self.output: dict[tuple[str, str, str, bool], str] = {}  # namespace, pod, container, previous -> its log
        self.lock = threading.RLock()
        self._grace = timedelta(seconds=grace)
        self._numbers = count(1)
        self._tokens: dict[str, _Claims] = {}
        self._seen: dict[str, datetime] = {}  # token -> until when it is not looked at again

    # Verbs ------------------------------------------------------------------------------------------------------

    def get(self, resource: str, namespace: str, name: str, part: str = "") -> Object:
        with self.call("get", resource + part, namespace):
            return deepcopy(self._held(resource, namespace, name))

    def find(self, resource: str, namespace: str, selector: str = "", fields: str = "") -> list[Object]:
        """Of every namespace where that is ''."""
        with self.call("list", resource, namespace):
            return [
                deepcopy(held)
                for (kind, where, _), held in sorted(self.objects.items())
                if kind == resource and namespace in ("", where) and _matches(held, selector, fields)
            ]

    def create(self, resource: str, namespace: str, made: Mapping[str, Any]) -> Object:
        with self.call("create", resource, namespace):
            return deepcopy(self.put(resource, namespace, made))

    def replace(self, resource: str, namespace: str, name: str, made: Mapping[str, Any]) -> Object:
        with self.call("update", resource, namespace):
            self._same_version(resource, namespace, name, made)
            gone = dict.fromkeys(self._held(resource, namespace, name).keys() - {"apiVersion", "kind", "metadata"})
            self._change(resource, namespace, name, gone)
            rest = {key: value for key, value in made.items() if key != "metadata"}
            return deepcopy(self._change(resource, namespace, name, rest))

    def merge(self, resource: str, namespace: str, name: str, patch: Mapping[str, Any], part: str = "") -> Object:
        """A JSON merge patch; `part` is `/scale`, through which only the number can be changed."""
        with self.call("patch", resource + part, namespace):
            self._same_version(resource, namespace, name, patch)
            rest = {key: value for key, value in patch.items() if key != "metadata"}
            if part:
                rest = {"spec": {"replicas": int(patch["spec"]["replicas"])}}
            return deepcopy(self._change(resource, namespace, name, rest))

    def remove(self, resource: str, namespace: str, name: str, uid: str = "") -> Object:
        with self.call("delete", resource, namespace):
            held = self._held(resource, namespace, name)
            meta = held["metadata"]
            if uid and meta["uid"] != uid:
                why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
                raise self._conflict(resource, name, why)
            if resource == "pods":
                self._end(held)
            elif meta.get("finalizers"):
                meta.setdefault("deletionTimestamp", self._time())
            else:
                del self.objects[resource, namespace, name]
            return deepcopy(held)

    def log(self, namespace: str, pod: str, container: str, *, previous: bool, limit: int) -> str:
        with self.call("get", "pods/log", namespace):
            self._held("pods", namespace, pod)
            text = self.output.get((namespace, pod, container, previous))
            if text is None and previous:
                why = f'previous terminated container "{container}" in pod "{pod}" not found'
                raise Answered(self.system, 400, "BadRequest", why)
            last = "".join((text or "").splitlines(keepends=True)[-LOG_LINES:])
            return last.encode()[:limit].decode("utf-8", "ignore")

    def token_request(self, namespace: str, account: str, seconds: int) -> tuple[str, datetime]:
        with self.call("create", "serviceaccounts/token", namespace):
            held = self._held("serviceaccounts", namespace, account)
            expires = self.clock.now() + timedelta(seconds=seconds)
            return self._issue(_Claims(namespace, account, held["metadata"]["uid"], expires)), expires

    # Tokens -----------------------------------------------------------------------------------------------------

    def user_of(self, token: str, audience: str = "") -> str:
        """Whose token it is, as the API server judges: '' where it refuses it."""
        with self.lock:
            self._pass_time()
            claims, now = self._tokens.get(token), self.clock.now()
            if claims is None or claims.audience != audience:
                return ""
            if self._seen.get(token, now) > now:
                return claims.user
            held = self.objects.get(("serviceaccounts", claims.namespace, claims.account))
            kept = not claims.secret or ("secrets", claims.namespace, claims.secret) in self.objects
            good = held and held["metadata"]["uid"] == claims.uid and "deletionTimestamp" not in held["metadata"]
            pod = self.objects.get(("pods", claims.namespace, claims.pod))
            if claims.pod and not (pod and pod["metadata"]["uid"] == claims.pod_uid):
                return ""
            if not (good and kept) or (claims.expires and claims.expires <= now):
                return ""
            self._seen[token] = now + REMEMBERED
            return claims.user

    def token_review(self, token: str, audiences: Sequence[str] = ()) -> Object:
        """The status of a TokenReview; without audiences the API server's own is meant."""
        with self.call("create", "tokenreviews"):
            for audience in audiences or ("",):
                if user := self.user_of(token, audience):
                    claims = self._tokens[token]
                    extra = {"name": claims.pod, "uid": claims.pod_uid} if claims.pod else {}
                    said = {f"{POD_OF_TOKEN}-{part}": [text] for part, text in extra.items()}
                    shown = {"audiences": [audience]} if audience else {}
                    return {"authenticated": True, "user": {"username": user, "extra": said}, **shown}
            return {"authenticated": False, "error": "[invalid bearer token, service account UID mismatch]"}

    def issue(
        self, namespace: str, account: str, *, secret: str = "", hours: float = 1, audience: str = "", pod: str = ""
    ) -> str:
        """A token that an agent has: from its `pod`, where that is named bound to it, or with `secret` the old kind,
        which lives in that Secret."""
        with self.lock:
            uid = self._held("serviceaccounts", namespace, account)["metadata"]["uid"]
            expires = None if secret else self.clock.now() + timedelta(hours=hours)
            bound = self._held("pods", namespace, pod)["metadata"]["uid"] if pod else ""
            token = self._issue(_Claims(namespace, account, uid, expires, secret, audience, pod, bound))
            if secret:
                notes = {ACCOUNT_OF_SECRET: account, UID_OF_SECRET: uid}
                data = {"token": base64.b64encode(token.encode()).decode()}
                meta = {"name": secret, "annotations": notes}
                self.put("secrets", namespace, {"metadata": meta, "type": TOKEN_SECRET, "data": data})
            return token

    def _issue(self, claims: _Claims) -> str:
        said = {"sub": claims.user, "jti": f"{next(self._numbers):06d}", "uid": claims.uid}
        parts = (
            base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in ({"alg": 0}, said)
        )
        token = ".".join((*parts, "sandbox"))
        self._tokens[token] = claims
        return token

    # Inside -----------------------------------------------------------------------------------------------------

    @contextmanager
    def call(self, verb: str, resource: str, namespace: str = "") -> Iterator[None]:
        name = f"{verb} {resource}"
        with self.lock:
            self._pass_time()
            if self.away:
                raise Unavailable(self.system, "the API server does not answer")
            if self.denied & {name, "*"}:
                group = SERVED.get(resource.partition("/")[0], "").removeprefix("apis/").rpartition("/")[0]
                raise Denied(
                    self.system,
                    f'{resource.partition("/")[0]} is forbidden: User "{self.bot}" cannot {verb} resource "{resource}" '
                    f'in API group "{group if group != "api" else ""}" in the namespace "{namespace}"',
                )
            self.faults.before(name)
            yield
            self._settle()
            self.faults.after(name)

    def put(self, resource: str, namespace: str, made: Mapping[str, Any]) -> Object:
        """As `create`, by whoever else works in the cluster."""
        with self.lock:
            held = self._insert(resource, namespace, made)
            self._settle()
            return held

    def _insert(self, resource: str, namespace: str, made: Mapping[str, Any]) -> Object:
        given = made["metadata"]
        name = given["name"]
        if (resource, namespace, name) in self.objects:
            raise Answered(self.system, 409, "AlreadyExists", f'{resource} "{name}" already exists')
        meta = {
            **deepcopy(dict(given)),
            "namespace": namespace,
            "uid": f"00000000-0000-4000-8000-{next(self._numbers):012d}",
            "resourceVersion": str(next(self._numbers)),
            "creationTimestamp": self._time(),
        }
        held = {"apiVersion": _version(resource), "kind": KINDS[resource], **deepcopy(dict(made)), "metadata": meta}
        self.objects[resource, namespace, name] = held
        return held

    def _held(self, resource: str, namespace: str, name: str) -> Object:
        held = self.objects.get((resource, namespace, name))
        if held is None:
            raise Answered(self.system, 404, "NotFound", f'{resource} "{name}" not found')
        return held

    def _change(self, resource: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        held = self._held(resource, namespace, name)
        _merge(held, patch)
        held["metadata"]["resourceVersion"] = str(next(self._numbers))
        self._settle()
        return held

    def _same_version(self, resource: str, namespace: str, name: str, made: Mapping[str, Any]) -> None:
        wanted = made.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != self._held(resource, namespace, name)["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise self._conflict(resource, name, why)

    def _conflict(self, resource: str, name: str, why: str) -> Answered:
        return Answered(self.system, 409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": {why}')

    def _time(self, later: timedelta = timedelta()) -> str:
        return f"{self.clock.now() + later:%Y-%m-%dT%H:%M:%SZ}"

    # Controllers ------------------------------------------------------------------------------------------------

    def _pass_time(self) -> None:
        now = self.clock.now()
        for key, held in self._all("pods"):
            ends = held["metadata"].get("deletionTimestamp")
            if ends and datetime.fromisoformat(ends) <= now and held["spec"].get("nodeName") not in self.lost_nodes:
                del self.objects[key]
        self._settle()

    def _settle(self) -> None:
        """What the controllers do by themselves, at once."""
        for key, held in self._all("secrets"):
            notes = held["metadata"].get("annotations", {})
            if held.get("type") == TOKEN_SECRET:
                account = self.objects.get(("serviceaccounts", key[1], notes[ACCOUNT_OF_SECRET]))
                if account is None or account["metadata"]["uid"] != notes[UID_OF_SECRET]:
                    del self.objects[key]
        for resource in WORKLOADS.values():
            for _, held in self._all(resource):
                self._reconcile(held)

    def _reconcile(self, workload: Object) -> None:
        meta, spec = workload["metadata"], workload["spec"]
        if workload["kind"] == "CronJob":
            return
        if workload["kind"] in SUSPENDED:
            wanted = 0 if spec.get("suspend") else spec.get("parallelism", 1)
        else:
            wanted = spec.get("replicas", 1)
        owned = [pod for _, pod in self._all("pods") if _owner(pod) == meta["uid"]]
        here = [pod for pod in owned if "deletionTimestamp" not in _meta(pod)]
        for pod in here[wanted:]:
            self._end(pod)
        for _number in range(wanted - len(here)):
            self._start_pod(workload)

    def _start_pod(self, workload: Object) -> None:
        meta, template = workload["metadata"], workload["spec"]["template"]
        account = template["spec"].get("serviceAccountName", "default")
        if ("serviceaccounts", meta["namespace"], account) not in self.objects:
            return  # admission refuses a pod without its account
        self._insert(
            "pods",
            meta["namespace"],
            {
                "metadata": {
                    "name": f"{meta['name']}-{next(self._numbers):05d}",
                    "labels": template.get("metadata", {}).get("labels", {}),
                    "ownerReferences": [
                        {"kind": workload["kind"], "name": meta["name"], "uid": meta["uid"], "controller": True}
                    ],
                },
                "spec": {"nodeName": "node-1", **deepcopy(template["spec"])},
                "status": {"phase": "Running"},
            },
        )

    def _end(self, pod: Object) -> None:
        _meta(pod).setdefault("deletionTimestamp", self._time(self._grace))

    def _all(self, resource: str) -> list[tuple[Key, Object]]:
        return [(key, held) for key, held in self.objects.items() if key[0] == resource]


def _meta(held: Object) -> Object:
    meta: Object = held["metadata"]
    return meta


def _owner(held: Object) -> str:
    return next((str(each["uid"]) for each in _meta(held).get("ownerReferences", ()) if each.get("controller")), "")


def _version(resource: str) -> str:
    return SERVED[resource].removeprefix("apis/").removeprefix("api/")


def _merge(held: Object, patch: Mapping[str, Any]) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            held.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(held.get(key), dict):
            _merge(held[key], value)
        else:
            held[key] = deepcopy(value)


def _matches(held: Object, selector: str, fields: str) -> bool:
    labels = _meta(held).get("labels") or {}
    terms = re.findall(r"[^,(]+(?:\([^)]*\))?", selector)
    return all(_holds(term.strip(), labels) for term in terms) and all(
        _field(held, *one.replace("==", "=").partition("=")[::2]) for one in filter(None, fields.split(","))
    )


def _holds(term: str, labels: Mapping[str, str]) -> bool:
    found = _TERM.fullmatch(term)
    if found is None:
        raise Answered("kubernetes", 400, "BadRequest", f"unable to parse requirement: {term!r}")
    absent, key, sign, value, among, values = found.groups()
    if among:
        within = labels.get(key, "") in [each.strip() for each in values.split(",")] and key in labels
        return within is (among == "in")
    tests: Mapping[str | None, Callable[[], bool]] = {
        None: lambda: (key in labels) is not bool(absent),
        "=": lambda: labels.get(key) == value,
        "==": lambda: labels.get(key) == value,
        "!=": lambda: labels.get(key) != value,
    }
    return tests[sign]()


def _field(held: Object, path: str, value: str) -> bool:
    found: Any = held
    for part in path.split("."):
        found = found.get(part, {}) if isinstance(found, dict) else {}
    return bool(found == value)
