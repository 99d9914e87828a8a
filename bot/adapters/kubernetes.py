"""A Kubernetes cluster through the official client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import urllib3
from urllib3 import exceptions as http

from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Autoscaler, NetworkPolicy, Pod, PodToken, ServiceAccount, Workload
from bot.ports.kubernetes import ACCOUNT_OF_SECRET, LOG_LINES, SERVED, SUSPENDED, TOKEN_SECRET, WORKLOADS, Manifest

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, Configuration

PAGE = 500  # objects of a list in one answer
PROBE_SECONDS = 600  # the shortest life that the API server gives a token
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
WHO = "apis/authentication.k8s.io/v1/selfsubjectreviews"
REVIEW = "apis/authentication.k8s.io/v1/tokenreviews"
MAY = "apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_NOT_NOW = frozenset({301, 302, 303, 307, 308, 429, 502, 503, 504})
_MAYBE_DONE = frozenset({502, 504})  # a proxy answered; the API server behind it may have acted

Configure = Callable[["Configuration"], None]
A = TypeVar("A")
T = TypeVar("T")


def by_token(url: str, token: Callable[[], str], ca: str = "") -> Configure:
    """How to reach the API server at `url`; `token` is asked before every request. `ca`: a file, or '' the system's."""

    def configure(made: Configuration) -> None:
        def renew(held: Configuration) -> None:
            held.api_key["BearerToken"] = f"Bearer {token()}"

        made.host = url.rstrip("/")
        made.ssl_ca_cert = ca or None
        made.api_key["BearerToken"] = ""  # without it the hook is never asked
        made.refresh_api_key_hook = renew  # type: ignore[assignment]  # the generator types it by its default, None

    return configure


def by_kubeconfig(path: str, context: str = "") -> Configure:
    """As the file says, its exec plugins included."""

    def configure(made: Configuration) -> None:
        from kubernetes import config

        try:
            config.load_kube_config(path, context or None, made, persist_config=False)
        except (config.ConfigException, OSError) as error:
            raise Denied("kubernetes", f"{path} gives no way into a cluster: {error}") from error

    return configure


def in_cluster(made: Configuration) -> None:
    """As the pod's own service account, whose token is read anew when it is renewed."""
    from kubernetes import config

    try:
        config.load_incluster_config(made)
    except config.ConfigException as error:
        raise Denied("kubernetes", f"this process is in no pod with a service account: {error}") from error


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found


class KubernetesCluster:
    """ports.Cluster for one API server. Timeouts in seconds. Nothing is retried here and no redirect followed: the
    caller decides what an outage means. Objects travel as the JSON they are: what a release puts back must hold fields
    that this client does not know. The library is loaded by the first call."""

    def __init__(
        self,
        configure: Configure,
        *,
        system: str = "kubernetes",
        connect_timeout: float = 3.0,
        read_timeout: float = 10.0,
    ) -> None:
        self._configure, self._system = configure, system
        self._timeout = (connect_timeout, read_timeout)
        self._lock = threading.Lock()
        self._client: ApiClient | None = None
        self._kept: dict[str, tuple[str, datetime]] = {}  # uid -> token, until when it is good
        self._identity = ""

    def close(self) -> None:
        with self._lock:
            if self._client:
                self._client.close()
                self._client.rest_client.close()
            self._client = None

    def identity(self) -> str:
        if not self._identity:
            made = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            self._identity = self._as(_user, self._ask("create", "selfsubjectreviews", "POST", f"/{WHO}", made))
        return self._identity

    def allowed(self, namespace: str, verb: str, group: str, resource: str, name: str = "") -> bool:
        """Whether the bot may, as the cluster's authorizers say; `resource` with its part (`pods/log`)."""
        plain, _, part = resource.partition("/")
        asked = {"namespace": namespace, "verb": verb, "group": group, "resource": plain}
        more = {key: value for key, value in (("subresource", part), ("name", name)) if value}
        made = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = {**made, "spec": {"resourceAttributes": asked | more}}
        found = self._call("create", "selfsubjectaccessreviews", "POST", f"/{MAY}", body=body)
        return found["status"].get("allowed") is True

    # Service accounts and their tokens --------------------------------------------------------------------------

    def service_account(self, namespace: str, name: str) -> ServiceAccount | None:
        found = self._get("serviceaccounts", namespace, name)
        return self._as(ServiceAccount.of, found) if found else None

    def create_service_account(self, manifest: Manifest) -> ServiceAccount:
        namespace = manifest["metadata"]["namespace"]
        made = self._call("create", "serviceaccounts", "POST", _path("serviceaccounts", namespace), body=manifest)
        return self._as(ServiceAccount.of, made)

    def delete_service_account(self, namespace: str, name: str, uid: str) -> None:
        self._delete("serviceaccounts", namespace, name, uid)

    def token_secrets(self, namespace: str, account: str) -> tuple[str, ...]:
        query = {"fieldSelector": f"type={TOKEN_SECRET}"}
        found = self._list("secrets", namespace, query, accept=METADATA_ONLY)
        return tuple(
            str(each["metadata"]["name"])
            for each in found
            if (each["metadata"].get("annotations") or {}).get(ACCOUNT_OF_SECRET) == account
        )

    def delete_secret(self, namespace: str, name: str) -> None:
        self._delete("secrets", namespace, name)

    def hold_token(self, namespace: str, name: str, uid: str) -> bool:
        try:
            tried, _ = self._issue(namespace, name)
            kept, until = self._issue(namespace, name)
        except (Denied, Rejected):
            return False
        # A kubeconfig's client certificate would speak first, and for the bot: then no token is ever tried.
        if self._user_of(tried) != f"system:serviceaccount:{namespace}:{name}":
            return False
        self._kept[uid] = (kept, until)
        return True

    def token_accepted(self, uid: str, now: datetime) -> bool | None:
        token, until = self._kept.get(uid, ("", now))
        return bool(self._user_of(token)) if now < until else None

    def review_token(self, token: str, audience: str) -> PodToken | None:
        made = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        body = {**made, "spec": {"token": token, "audiences": [audience]}}
        found = self._call("create", "tokenreviews", "POST", f"/{REVIEW}", body=body)
        return self._as(lambda one: PodToken.of(one["status"], audience), found)

    def _issue(self, namespace: str, name: str) -> tuple[str, datetime]:
        made = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        body = {**made, "spec": {"expirationSeconds": PROBE_SECONDS}}
        path = f"{_path('serviceaccounts', namespace, name)}/token"
        status = self._call("create", "serviceaccounts/token", "POST", path, body=body)["status"]
        return status["token"], datetime.fromisoformat(status["expirationTimestamp"])

    def _user_of(self, token: str) -> str:
        """Asks who its bearer is, as its bearer; '' where it is refused."""
        made, what = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}, "to say whose a token is"
        with self._asking(what):
            answer = self._send("POST", f"/{WHO}", made, token=token)
        if answer.status == 401:
            return ""
        if answer.status != 201:
            raise Rejected(self._system, f"the API server answered {answer.status} {what}: {_words(answer)}")
        return str(self._as(_user, answer))

    # Workloads --------------------------------------------------------------------------------------------------

    def workload(self, kind: str, namespace: str, name: str) -> Workload | None:
        found = self._get(WORKLOADS[kind], namespace, name)
        return self._as(lambda one: Workload.of(kind, one), found) if found else None

    def jobs(self, namespace: str, owner_uid: str) -> tuple[Workload, ...]:
        found = [self._as(lambda one: Workload.of("Job", one), each) for each in self._list("jobs", namespace)]
        return tuple(job for job in found if job.owner_uid == owner_uid and not job.finished)

    def scale(self, workload: Workload, replicas: int) -> None:
        self._patch(workload, {"replicas": replicas}, "/scale")

    def suspend(self, workload: Workload, suspended: bool) -> None:
        self._patch(workload, {"suspend": suspended})

    def autoscalers(self, namespace: str) -> tuple[Autoscaler, ...]:
        return tuple(self._as(Autoscaler.of, each) for each in self._list("horizontalpodautoscalers", namespace))

    def pods(self, namespace: str, selector: str = "") -> tuple[Pod, ...]:
        query = {"labelSelector": selector} if selector else {}
        return tuple(self._as(Pod.of, each) for each in self._list("pods", namespace, query))

    def _patch(self, workload: Workload, spec: Manifest, part: str = "") -> None:
        if (workload.kind in SUSPENDED) is bool(part):
            raise Rejected(self._system, f"a {workload.kind} cannot be changed so")
        resource = WORKLOADS[workload.kind]
        path = _path(resource, workload.namespace, workload.name) + part
        body = {"metadata": {"resourceVersion": workload.version}, "spec": spec}
        self._call("patch", resource + part, "PATCH", path, body=body)

    # Networks ---------------------------------------------------------------------------------------------------

    def network_policies(self, namespace: str) -> tuple[NetworkPolicy, ...]:
        return tuple(self._as(NetworkPolicy.of, each) for each in self._list("networkpolicies", namespace))

    def put_network_policy(self, namespace: str, name: str, spec: Manifest) -> None:
        resource, kind = "networkpolicies", {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        held = self._get(resource, namespace, name)
        if held is None:
            body = {**kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
            self._call("create", resource, "POST", _path(resource, namespace), body=body)
        else:
            self._call("update", resource, "PUT", _path(resource, namespace, name), body={**held, **kind, "spec": spec})

    def delete_network_policy(self, namespace: str, name: str) -> None:
        self._delete("networkpolicies", namespace, name)

    # What a pod leaves behind -----------------------------------------------------------------------------------

    def pod_manifest(self, namespace: str, name: str) -> Manifest | None:
        return self._get("pods", namespace, name)

    def logs(self, namespace: str, pod: str, container: str, *, previous: bool, limit: int) -> str | None:
        last = {"tailLines": str(LOG_LINES), "limitBytes": str(limit)}
        query = {"container": container, "previous": str(previous).lower(), **last}
        path = f"{_path('pods', namespace, pod)}/log?{urlencode(query)}"
        answer = self._ask("get", "pods/log", "GET", path, fine=(400, 404), accept="*/*")
        # 400: this container did not run, or not before; the words differ between releases.
        return answer.body.decode("utf-8", "replace") if answer.status == 200 else None

    def events(self, namespace: str, uid: str) -> Sequence[Manifest]:
        return self._list("events", namespace, {"fieldSelector": f"involvedObject.uid={uid}"})

    # Inside -----------------------------------------------------------------------------------------------------

    def _get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        answer = self._ask("get", resource, "GET", _path(resource, namespace, name), fine=(404,))
        return None if answer.status == 404 else self._as(_Answer.json, answer)

    def _list(
        self, resource: str, namespace: str, query: Mapping[str, str] | None = None, *, accept: str = ""
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        more = {"limit": str(PAGE), **(query or {})}
        while True:
            path = f"{_path(resource, namespace)}?{urlencode(more)}"
            page = self._as(_Answer.json, self._ask("list", resource, "GET", path, accept=accept))
            found += self._as(_items, page)
            more["continue"] = (page.get("metadata") or {}).get("continue") or ""
            if not more["continue"]:
                return found

    def _delete(self, resource: str, namespace: str, name: str, uid: str = "") -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions"} | ({"preconditions": {"uid": uid}} if uid else {})
        self._ask("delete", resource, "DELETE", _path(resource, namespace, name), body, fine=(404,))

    def _call(self, verb: str, resource: str, method: str, path: str, *, body: Manifest) -> dict[str, Any]:
        return self._as(_Answer.json, self._ask(verb, resource, method, path, body))

    def _ask(
        self,
        verb: str,
        resource: str,
        method: str,
        path: str,
        body: Manifest | None = None,
        *,
        fine: Sequence[int] = (),
        accept: str = "",
    ) -> _Answer:
        """One request, in the words of RBAC. Raises what is no answer to it; statuses in `fine` are one."""
        what = f"to {verb} {resource}"
        with self._asking(what):
            answer = self._send(method, path, body, accept=accept)
        if answer.status < 300 or answer.status in fine:
            return answer
        words = _words(answer)
        if answer.status == 401:
            raise Denied(self._system, f"the cluster does not know the bot's credential {what}: {words}")
        if answer.status == 403:
            raise Denied(self._system, f"the cluster refused {what}: {words}. Compare: firedoor actions policy")
        retryable = answer.status in (409, 500)
        raise Rejected(self._system, f"{what}: {words} ({answer.status})", retryable=retryable)

    def _send(
        self, method: str, path: str, body: Manifest | None = None, *, token: str = "", accept: str = ""
    ) -> _Answer:
        client = self._connected()
        patch = "merge-patch+json" if method == "PATCH" else "json"
        headers = {"Accept": accept or "application/json", "Content-Type": f"application/{patch}"}
        auth = {"type": "api_key", "in": "header", "key": "authorization", "value": f"Bearer {token}"}
        request = client.param_serialize(
            method,
            path,
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            _request_auth=auth if token else None,
        )
        answer = client.call_api(*request, _request_timeout=self._timeout).response
        wait = answer.headers.get("Retry-After", "")
        found = _Answer(answer.status, answer.read())
        answer.release_conn()
        if found.status in _NOT_NOW:
            raise Unavailable(
                self._system,
                f"HTTP {found.status} {_words(found)}",
                sent=found.status in _MAYBE_DONE,
                retry_after=float(wait) if wait.isdecimal() else None,
            )
        return found

    def _connected(self) -> ApiClient:
        with self._lock:
            if self._client is None:
                from kubernetes.client import ApiClient, Configuration

                made = Configuration()
                made.retries = urllib3.Retry(total=False)
                self._configure(made)
                self._client = ApiClient(made)
            return self._client

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException

        try:
            yield
        except http.NewConnectionError as broken:
            raise Unavailable(self._system, f"unreachable {what}") from broken
        except http.ConnectTimeoutError as silent:
            raise Unavailable(self._system, f"no connection in time {what}") from silent
        except (http.TimeoutError, http.ProtocolError) as silent:
            raise Unavailable(self._system, f"no answer in time {what}", sent=True) from silent
        except http.HTTPError as broken:
            raise Unavailable(self._system, f"{type(broken).__name__} {what}", sent=True) from broken
        except ApiException as broken:  # the client's own: TLS that is not trusted
            raise Unavailable(self._system, f"{' '.join(str(broken.reason).split())} {what}") from broken

    def _as(self, read: Callable[[A], T], found: A) -> T:
        try:
            return read(found)
        except (KeyError, TypeError, AttributeError, ValueError, StopIteration) as odd:
            raise Rejected(self._system, f"an answer that is not of the Kubernetes API: {odd!r}") from odd


def _path(resource: str, namespace: str, name: str = "") -> str:
    parts = ["", SERVED[resource], "namespaces", quote(namespace, safe=""), resource]
    return "/".join([*parts, quote(name, safe="")] if name else parts)


def _items(page: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**each} for each in page["items"]]


def _user(review: _Answer) -> str:
    return str(review.json()["status"]["userInfo"]["username"])


def _words(answer: _Answer) -> str:
    """What the Status says, or the beginning of what is none."""
    try:
        return str(answer.json()["message"])[:300]
    except (ValueError, KeyError):
        return answer.body[:200].decode("utf-8", "replace").strip()
