"""What every cluster does: the simulator, and the official client against the stand-in server in front of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import urllib3

from bot.adapters.kubernetes import KubernetesCluster, by_kubeconfig, by_token, in_cluster
from bot.errors import Denied, Rejected, Unavailable
from bot.ports.kubernetes import PodToken, selector_text, selects
from bot.sandbox.clock import SimClock
from bot.sandbox.kubernetes import SimCluster
from bot.sandbox.kubernetes_server import KubernetesServer
from tests.cluster_estate import KINDS, TOKEN, ClusterEstate, cluster_estate

HERE = "agents"


@pytest.fixture(params=KINDS)
def estate(request: pytest.FixtureRequest, clock: SimClock) -> Iterator[ClusterEstate]:
    with cluster_estate(request.param, clock) as made:
        yield made


@pytest.fixture
def server(clock: SimClock) -> Iterator[KubernetesServer]:
    with KubernetesServer(SimCluster(clock), TOKEN, hang=2) as made:
        yield made


@pytest.fixture
def client(server: KubernetesServer) -> Iterator[KubernetesCluster]:
    made = KubernetesCluster(by_token(server.url, lambda: TOKEN), connect_timeout=0.5, read_timeout=0.8)
    yield made
    made.close()


def test_an_account_is_read_deleted_and_made_anew(estate: ClusterEstate) -> None:
    uid = estate.sim.add_account(HERE, "agent-7", labels={"team": "platform"}, annotations={"role": "r"})
    held = estate.cluster.service_account(HERE, "agent-7")
    assert held is not None
    assert (held.uid, held.annotations) == (uid, {"role": "r"})
    assert held.manifest["metadata"]["labels"] == {"team": "platform"}
    with pytest.raises(Rejected, match="already exists"):
        estate.cluster.create_service_account(held.manifest)
    with pytest.raises(Rejected, match="UID in precondition") as refused:
        estate.cluster.delete_service_account(HERE, "agent-7", "another")
    assert refused.value.retryable
    for _ in range(2):
        estate.cluster.delete_service_account(HERE, "agent-7", uid)
    assert estate.cluster.service_account(HERE, "agent-7") is None
    made = estate.cluster.create_service_account(held.manifest)
    assert made.uid != uid
    assert made.manifest == held.manifest


def test_a_finalizer_holds_up_a_deletion_and_is_named(estate: ClusterEstate) -> None:
    uid = estate.sim.add_account(HERE, "agent-7", finalizers=["example.com/guard"])
    estate.cluster.delete_service_account(HERE, "agent-7", uid)
    held = estate.cluster.service_account(HERE, "agent-7")
    assert held is not None
    assert (held.uid, held.finalizers) == (uid, ("example.com/guard",))


def test_token_secrets_are_named_and_not_read(estate: ClusterEstate) -> None:
    for account in ("agent-7", "agent-8"):
        estate.sim.add_account(HERE, account)
        estate.sim.issue(HERE, account, secret=f"{account}-token")
    estate.sim.put("secrets", HERE, {"metadata": {"name": "database"}, "type": "Opaque", "data": {}})
    assert estate.cluster.token_secrets(HERE, "agent-7") == ("agent-7-token",)
    for _ in range(2):
        estate.cluster.delete_secret(HERE, "agent-7-token")
    assert estate.cluster.token_secrets(HERE, "agent-7") == ()
    assert estate.cluster.token_secrets(HERE, "agent-8") == ("agent-8-token",)


def test_a_token_that_is_kept_shows_the_cut(estate: ClusterEstate) -> None:
    uid = estate.sim.add_account(HERE, "agent-7")
    assert estate.cluster.token_accepted(uid, estate.clock.now()) is None
    assert estate.cluster.hold_token(HERE, "agent-7", uid)
    held = estate.cluster.service_account(HERE, "agent-7")
    assert held
    estate.cluster.delete_service_account(HERE, "agent-7", uid)
    estate.cluster.create_service_account(held.manifest)
    assert estate.cluster.token_accepted(uid, estate.clock.now()) is False
    estate.clock.forward(minutes=11)
    assert estate.cluster.token_accepted(uid, estate.clock.now()) is None, "it has run out: its refusal proves nothing"


def test_a_token_that_was_just_seen_is_taken_for_ten_seconds_more(estate: ClusterEstate) -> None:
    uid = estate.sim.add_account(HERE, "agent-7")
    assert estate.cluster.hold_token(HERE, "agent-7", uid)
    assert estate.cluster.token_accepted(uid, estate.clock.now()) is True
    estate.cluster.delete_service_account(HERE, "agent-7", uid)
    assert estate.cluster.token_accepted(uid, estate.clock.now()) is True
    estate.clock.forward(seconds=11)
    assert estate.cluster.token_accepted(uid, estate.clock.now()) is False


def test_without_the_right_to_issue_there_is_no_token_at_hand(estate: ClusterEstate) -> None:
    uid = estate.sim.add_account(HERE, "agent-7")
    assert not estate.cluster.hold_token(HERE, "nobody", "0")
    estate.sim.denied.add("create serviceaccounts/token")
    assert not estate.cluster.hold_token(HERE, "agent-7", uid)
    assert estate.cluster.token_accepted(uid, estate.clock.now()) is None


def test_a_pods_token_is_reviewed_for_its_audience(estate: ClusterEstate) -> None:
    estate.sim.add_workload("Deployment", HERE, "agent-7", account="agent-7")
    pod = estate.cluster.pods(HERE)[0]
    token = estate.sim.issue(HERE, "agent-7", audience="firedoor", pod=pod.name)
    user = f"system:serviceaccount:{HERE}:agent-7"
    assert estate.cluster.review_token(token, "firedoor") == PodToken(user, pod.name, pod.uid)
    unbound = estate.sim.issue(HERE, "agent-7", audience="firedoor")
    assert estate.cluster.review_token(unbound, "firedoor") == PodToken(user)
    for other in (estate.sim.issue(HERE, "agent-7", pod=pod.name), "ey.ey.ey"):
        assert estate.cluster.review_token(other, "firedoor") is None
    assert estate.cluster.review_token(token, "another") is None
    estate.sim.denied.add("create tokenreviews")
    with pytest.raises(Denied):
        estate.cluster.review_token(token, "firedoor")


def test_a_review_that_names_no_audience_is_not_believed() -> None:
    """Of a server that knows of none: it would take a token made for anybody."""
    good = {"authenticated": True, "user": {"username": "u"}}
    assert PodToken.of({**good, "audiences": ["firedoor"]}, "firedoor") == PodToken("u")
    for odd in (good, {**good, "audiences": ["other"]}, {**good, "authenticated": "yes", "audiences": ["firedoor"]}):
        assert PodToken.of(odd, "firedoor") is None


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "ReplicaSet"])
def test_a_workload_is_scaled_and_its_pods_take_their_time_to_end(estate: ClusterEstate, kind: str) -> None:
    estate.sim.add_workload(kind, HERE, "agent-7", account="agent-7", number=3)
    held = estate.cluster.workload(kind, HERE, "agent-7")
    assert held is not None
    assert (held.replicas, held.suspended, held.service_account, held.selector) == (3, None, "agent-7", "app=agent-7")
    assert len(estate.cluster.pods(HERE, held.selector)) == 3
    estate.cluster.scale(held, 0)
    assert {pod.terminating for pod in estate.cluster.pods(HERE, held.selector)} == {True}
    with pytest.raises(Rejected, match="has been modified") as refused:
        estate.cluster.scale(held, 5)
    assert refused.value.retryable
    estate.clock.forward(seconds=31)
    assert estate.cluster.pods(HERE, held.selector) == ()
    again = estate.cluster.workload(kind, HERE, "agent-7")
    assert again
    estate.cluster.scale(again, 2)
    assert len(estate.cluster.pods(HERE, held.selector)) == 2
    with pytest.raises(Rejected, match="cannot be changed so"):
        estate.cluster.suspend(again, True)


def test_a_suspended_cronjob_leaves_the_jobs_it_has_started(estate: ClusterEstate) -> None:
    estate.sim.add_workload("CronJob", HERE, "nightly", account="agent-7")
    estate.sim.start_job(HERE, "nightly", "nightly-1")
    cron = estate.cluster.workload("CronJob", HERE, "nightly")
    assert cron is not None
    assert (cron.replicas, cron.suspended, cron.selector) == (None, False, "")
    estate.cluster.suspend(cron, True)
    (job,) = estate.cluster.jobs(HERE, cron.uid)
    assert (job.owner, job.suspended, job.finished) == ("CronJob/nightly", False, False)
    assert len(estate.cluster.pods(HERE, job.selector)) == 1
    estate.cluster.suspend(job, True)
    estate.clock.forward(seconds=31)
    assert estate.cluster.pods(HERE, job.selector) == ()


def test_a_job_that_has_ended_is_not_listed(estate: ClusterEstate) -> None:
    estate.sim.add_workload("CronJob", HERE, "nightly")
    estate.sim.start_job(HERE, "nightly", "nightly-1")
    ended = {"conditions": [{"type": "Complete", "status": "True"}]}
    estate.sim.objects["jobs", HERE, "nightly-1"]["status"] = ended
    cron = estate.cluster.workload("CronJob", HERE, "nightly")
    assert cron
    assert estate.cluster.jobs(HERE, cron.uid) == ()


def test_autoscalers_say_whom_and_from_where(estate: ClusterEstate) -> None:
    estate.sim.add_autoscaler(HERE, "Deployment/one", minimum=2)
    estate.sim.add_autoscaler(HERE, "Deployment/two", minimum=0, keda=True)
    found = {each.target: (each.minimum, each.driver) for each in estate.cluster.autoscalers(HERE)}
    assert found == {"Deployment/one": (2, ""), "Deployment/two": (0, "KEDA")}


def test_network_policies_are_put_replaced_and_taken_away(estate: ClusterEstate) -> None:
    spec = {"podSelector": {"matchLabels": {"app": "agent-7"}}, "policyTypes": ["Ingress", "Egress"]}
    wide = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}
    for each in (wide, spec, spec):
        estate.cluster.put_network_policy(HERE, "deny", each)
    (held,) = estate.cluster.network_policies(HERE)
    assert (held.name, held.spec, held.allows) == ("deny", spec, False)
    assert held.selects({"app": "agent-7", "tier": "x"})
    assert not held.selects({"app": "agent-77"})
    for _ in range(2):
        estate.cluster.delete_network_policy(HERE, "deny")
    assert estate.cluster.network_policies(HERE) == ()


def test_what_a_pod_leaves_behind(estate: ClusterEstate) -> None:
    estate.sim.add_workload("Deployment", HERE, "agent-7", account="agent-7", number=1)
    (pod,) = estate.cluster.pods(HERE)
    assert (pod.containers, pod.service_account, pod.node, pod.runs) == (("agent",), "agent-7", "node-1", True)
    estate.sim.output[HERE, pod.name, "agent", False] = "one\n" * 10_001 + "äöü\n"
    estate.sim.add_event(HERE, pod.name, "BackOff", "restarting failed container")
    read = estate.cluster.logs(HERE, pod.name, "agent", previous=False, limit=1 << 20)
    assert read == "one\n" * 9_999 + "äöü\n"
    assert estate.cluster.logs(HERE, pod.name, "agent", previous=False, limit=6) == "one\non"
    assert estate.cluster.logs(HERE, pod.name, "agent", previous=True, limit=6) is None
    assert estate.cluster.logs(HERE, "gone", "agent", previous=False, limit=6) is None
    assert [each["reason"] for each in estate.cluster.events(HERE, pod.uid)] == ["BackOff"]
    assert estate.cluster.events(HERE, "another") == []
    manifest = estate.cluster.pod_manifest(HERE, pod.name)
    assert manifest is not None
    assert manifest["spec"]["containers"][0]["image"] == "registry.example.com/agent:1"
    assert estate.cluster.pod_manifest(HERE, "gone") is None


def test_the_bot_knows_its_own_name(estate: ClusterEstate) -> None:
    assert estate.cluster.identity() == "system:serviceaccount:firedoor:firedoor"


def test_what_is_not_there_is_none(estate: ClusterEstate) -> None:
    assert estate.cluster.service_account(HERE, "nobody") is None
    assert estate.cluster.workload("Deployment", HERE, "nothing") is None
    assert estate.cluster.pods("nowhere") == ()


def test_denied_and_throttled(estate: ClusterEstate) -> None:
    estate.sim.denied.add("list pods")
    with pytest.raises(Denied, match='cannot list resource "pods"'):
        estate.cluster.pods(HERE)
    estate.sim.denied.clear()
    estate.sim.faults.add("list pods", Unavailable("kubernetes", "too many requests", retry_after=7))
    with pytest.raises(Unavailable) as slowed:
        estate.cluster.pods(HERE)
    assert (slowed.value.retry_after, slowed.value.sent) == (7, False)
    estate.sim.away = True
    with pytest.raises(Unavailable):
        estate.cluster.pods(HERE)


def test_silence_after_the_effect_is_said(estate: ClusterEstate) -> None:
    estate.sim.add_workload("Deployment", HERE, "agent-7")
    held = estate.cluster.workload("Deployment", HERE, "agent-7")
    assert held
    estate.sim.faults.add("patch deployments/scale", Unavailable("kubernetes", "no answer", sent=True), after=True)
    with pytest.raises(Unavailable) as silent:
        estate.cluster.scale(held, 0)
    assert silent.value.sent
    again = estate.cluster.workload("Deployment", HERE, "agent-7")
    assert again
    assert again.replicas == 0


SELECTORS = (
    {"matchLabels": {"app": "a"}},
    {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]},
    {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]},
    {"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "old", "operator": "DoesNotExist"}]},
    {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]},
    {},
)


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda one: selector_text(one) or "all")
def test_a_selector_chooses_the_same_pods_here_and_there(estate: ClusterEstate, selector: dict[str, object]) -> None:
    for number, labels in enumerate(({"app": "a"}, {"app": "b", "old": "1"}, {"app": "a", "tier": "x"}, {})):
        pod = {"metadata": {"name": f"p{number}", "labels": labels}, "spec": {"containers": []}}
        estate.sim.put("pods", HERE, pod)
    chosen = {pod.name for pod in estate.cluster.pods(HERE, selector_text(selector))}
    assert chosen == {pod.name for pod in estate.cluster.pods(HERE) if selects(selector, pod.labels)}


# The client alone -----------------------------------------------------------------------------------------------------


def test_a_long_list_comes_page_by_page(
    server: KubernetesServer, client: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.adapters.kubernetes.PAGE", 2)
    server.sim.put("serviceaccounts", HERE, {"metadata": {"name": "default"}})
    for number in range(5):
        server.sim.put("pods", HERE, {"metadata": {"name": f"p{number}"}, "spec": {"containers": []}})
    assert [pod.name for pod in client.pods(HERE)] == ["p0", "p1", "p2", "p3", "p4"]


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (200, "<html>welcome</html>", Rejected),
        (200, "[]", Rejected),
        (200, '{"items": [{}]}', Rejected),
        (200, '{"items": null}', Rejected),
        (401, "", Denied),
        (403, "proxy says no", Denied),
        (418, "", Rejected),
        (500, '{"kind": "Status", "message": "etcdserver: request timed out"}', Rejected),
        (502, "bad gateway", Unavailable),
        (503, "", Unavailable),
    ],
)
def test_odd_answers(
    server: KubernetesServer, client: KubernetesCluster, status: int, text: str, error: type[Exception]
) -> None:
    server.answer_once(f"api/v1/namespaces/{HERE}/pods", status, text)
    with pytest.raises(error) as raised:
        client.pods(HERE)
    assert getattr(raised.value, "sent", False) is (status == 502)
    assert client.pods(HERE) == (), "the connection is good for the next call"


def test_no_redirect_is_followed_with_the_token(server: KubernetesServer, client: KubernetesCluster) -> None:
    with KubernetesServer(SimCluster(SimClock(server.sim.clock.now())), "other") as elsewhere:
        asked: list[str] = []
        elsewhere.reply = lambda *args: (asked.append(args[3]), (200, {}))[1]  # type: ignore[method-assign]  # a spy
        server.answer_once(f"api/v1/namespaces/{HERE}/pods", 307, f"{elsewhere.url}/api/v1/namespaces/{HERE}/pods")
        with pytest.raises(Unavailable, match="307"):
            client.pods(HERE)
        assert asked == []


def test_the_token_is_asked_before_every_request(server: KubernetesServer) -> None:
    tokens = ["old", TOKEN, "newer"]
    client = KubernetesCluster(by_token(server.url, lambda: tokens.pop(0)))
    with pytest.raises(Denied, match="does not know the bot's credential"):
        client.pods(HERE)
    assert client.pods(HERE) == ()
    with pytest.raises(Denied):
        client.pods(HERE)
    client.close()


def test_nobody_there_and_a_hanging_server(server: KubernetesServer, client: KubernetesCluster) -> None:
    gone = KubernetesCluster(by_token("http://127.0.0.1:1", lambda: TOKEN), connect_timeout=0.5)
    with pytest.raises(Unavailable, match="unreachable") as away:
        gone.pods(HERE)
    assert not away.value.sent
    server.sim.faults.add("list pods", Unavailable("kubernetes", "no answer", sent=True))
    with pytest.raises(Unavailable, match="no answer in time") as silent:
        client.pods(HERE)
    assert silent.value.sent


def test_names_that_are_paths_stay_names(client: KubernetesCluster) -> None:
    assert client.service_account("a/../../x", "y?watch=1") is None


def test_a_kubeconfig_leads_in(server: KubernetesServer, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    context = {"name": "there", "context": {"cluster": "c", "user": "u"}}
    known = {
        "clusters": [{"name": "c", "cluster": {"server": server.url}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [context],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **known}))
    client = KubernetesCluster(by_kubeconfig(str(path), "there"))
    assert client.pods(HERE) == ()
    client.close()
    for wrong in (by_kubeconfig(str(path), "nowhere"), by_kubeconfig(str(tmp_path / "missing")), in_cluster):
        with pytest.raises(Denied):
            KubernetesCluster(wrong).pods(HERE)


def test_no_token_is_in_the_log(
    server: KubernetesServer, client: KubernetesCluster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    uid = server.sim.add_account(HERE, "agent-7")
    assert client.hold_token(HERE, "agent-7", uid)
    assert TOKEN not in caplog.text
    assert "eyJ" not in caplog.text


def test_a_review_says_whose_a_token_is_and_refuses_a_dead_one(server: KubernetesServer, clock: SimClock) -> None:
    """The stand-in's own TokenReview, as other clients ask it."""
    uid = server.sim.add_account(HERE, "agent-7")
    token = server.sim.issue(HERE, "agent-7")
    path = "apis/authentication.k8s.io/v1/tokenreviews"
    _, good = server.reply("POST", path, {}, TOKEN, {"spec": {"token": token}}, "")
    server.sim.remove("serviceaccounts", HERE, "agent-7", uid)
    clock.forward(seconds=timedelta(seconds=11).total_seconds())
    _, bad = server.reply("POST", path, {}, TOKEN, {"spec": {"token": token}}, "")
    assert not isinstance(good, str)
    assert not isinstance(bad, str)
    assert good["status"]["user"]["username"] == "system:serviceaccount:agents:agent-7"
    assert bad["status"]["authenticated"] is False


def test_the_stand_in_refuses_what_is_no_json(server: KubernetesServer) -> None:
    """kubectl sends protobuf where it can."""
    path = f"/api/v1/namespaces/{HERE}/serviceaccounts"
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/vnd.kubernetes.protobuf"}
    answer = urllib3.PoolManager().request("POST", server.url + path, body=b"k8s\x00\n", headers=headers)
    assert answer.status == 415
    assert answer.json()["reason"] == "UnsupportedMediaType"
