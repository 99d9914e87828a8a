"""Cutting an agent off from a cluster: on the simulator, and through the official client on the stand-in server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from bot.actions import Action, registry
from bot.actions.k8s_collect_pods import CollectPods
from bot.actions.k8s_deny_network import DenyNetwork
from bot.actions.k8s_revoke_tokens import MARK, PROBE, RevokeTokens
from bot.actions.k8s_scale_to_zero import ScaleToZero
from bot.domain.agent import Agent, KubernetesIdentity
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.errors import Denied, Unavailable
from bot.ports import Ports
from bot.sandbox.aws import SimEvidence
from bot.sandbox.clock import SimClock
from tests.actions.driver import drive, stage
from tests.actions.estate import Enrolled
from tests.cluster_estate import KINDS, ClusterEstate, cluster_estate

HERE, LABELS = "agents", {"app": "agent-7"}
ACCOUNT = "system:serviceaccount:agents:agent-7"
DEPLOYMENT = "agents/Deployment/agent-7"
AGENT = Agent(
    "agent-7",
    service_accounts=(ACCOUNT,),
    kubernetes=KubernetesIdentity(workloads=(DEPLOYMENT,), pod_labels=tuple(LABELS.items())),
)
ALL = (RevokeTokens(), ScaleToZero(), DenyNetwork(), CollectPods())
CUTS = ALL[:3]
THROTTLED = Unavailable("kubernetes", "too many requests", retry_after=5)
HANGING = Unavailable("kubernetes", "no answer", sent=True)
each_action = pytest.mark.parametrize("action", ALL, ids=lambda each: each.id)
each_cut = pytest.mark.parametrize("action", CUTS, ids=lambda each: each.id)


@dataclass
class Drill:
    estate: ClusterEstate
    untouchable: dict[str, str] = field(default_factory=dict)
    evidence: SimEvidence = field(default_factory=SimEvidence)

    @property
    def ports(self) -> Ports:
        clusters = {"kubernetes": self.estate.cluster}
        directory = Enrolled((), self.untouchable)
        return Ports(self.estate.clock, directory, clusters=clusters, evidence=self.evidence, salt=b"salt")

    def run(self, action: Action, agent: Agent = AGENT, *, twice: bool = False, **asked: Any) -> Outcome:
        return drive(action, params(action, agent, **asked), self.ports, self.estate.clock, KEY, twice=twice)

    def done(self, action: Action, agent: Agent = AGENT, *, twice: bool = False, **asked: Any) -> Done:
        outcome = self.run(action, agent, twice=twice, **asked)
        assert isinstance(outcome, Done), outcome
        assert set(outcome.evidence) <= set(action.outputs)
        json.dumps([outcome.evidence, outcome.undo])
        return outcome

    def verify(self, action: Action, agent: Agent = AGENT, **asked: Any) -> Done | None:
        return action.verify(params(action, agent, **asked), self.ports)

    def undo(self, action: Action, done: Done | Failed, **asked: Any) -> Outcome:
        assert done.undo is not None
        return action.undo(params(action, AGENT, **asked), self.ports, undo=done.undo, key=KEY)


KEY = "test.0/INC-7/12.0"


def params(action: Action, agent: Agent = AGENT, **asked: Any) -> Mapping[str, Any]:
    (target,) = action.targets({"agent": agent.id, **asked}, agent)
    return target.params


@pytest.fixture(params=KINDS)
def drill(request: pytest.FixtureRequest, clock: SimClock) -> Iterator[Drill]:
    """The agent's deployment of two pods runs; so does an innocent neighbour in the same namespace."""
    with cluster_estate(request.param, clock) as estate:
        estate.sim.add_workload("Deployment", HERE, "agent-7", account="agent-7", labels=LABELS)
        estate.sim.add_workload("Deployment", HERE, "payroll", account="payroll")
        yield Drill(estate)


# Every one of them ----------------------------------------------------------------------------------------------------


@each_action
def test_targets(action: Action) -> None:
    (target,) = action.targets({"agent": "agent-7"}, AGENT)
    assert target.system == target.params["connection"] == "kubernetes"
    (elsewhere,) = action.targets({"agent": "agent-7", "connection": "other"}, AGENT)
    assert elsewhere.system == "other"
    assert elsewhere.id != target.id, "the same name in another cluster is another thing"
    assert action.targets({"agent": "a"}, Agent("a")) == ()
    with pytest.raises(ValueError, match=r"no agent 'ghost' in agents\.yaml"):
        action.targets({"agent": "ghost"}, None)
    with pytest.raises(ValueError, match="is no service account"):
        action.targets({"agent": "agent-7"}, replace(AGENT, service_accounts=("agents:agent-7",)))


@each_cut
def test_the_first_stage_saves_and_changes_nothing(drill: Drill, action: Action) -> None:
    before = json.dumps([*drill.estate.sim.objects.values()])
    first = stage(action, params(action), drill.ports, key=KEY)
    assert isinstance(first, Pending)
    assert json.dumps([*drill.estate.sim.objects.values()]) == before
    assert drill.verify(action) is None


@each_cut
def test_done_again_and_undone_again(drill: Drill, action: Action) -> None:
    first = drill.done(action, twice=True)
    assert first.grade is action.best_grade
    verified = drill.verify(action)
    assert verified is not None
    assert verified.grade >= Grade.CONFIG
    assert drill.done(action).grade is action.best_grade
    for _ in range(2):
        assert isinstance(drill.undo(action, first), Done)


@each_action
def test_throttled_is_waited_out(drill: Drill, action: Action) -> None:
    drill.estate.sim.faults.add("*", THROTTLED, times=4)
    began = drill.estate.clock.now()
    assert isinstance(drill.run(action), Done)
    assert (drill.estate.clock.now() - began).total_seconds() >= 10


@each_cut
def test_away_is_pending_and_no_attempt(drill: Drill, action: Action) -> None:
    drill.estate.sim.away = True
    outcome = stage(action, params(action), drill.ports, key=KEY)
    assert isinstance(outcome, Pending)
    assert outcome.unavailable


@each_action
def test_denied_names_the_right(drill: Drill, action: Action) -> None:
    drill.estate.sim.denied.add("*")
    outcome = drill.run(action)
    assert isinstance(outcome, Failed)
    assert not outcome.retryable
    assert "cannot" in outcome.why


@pytest.mark.parametrize(
    ("action", "call"),
    [
        (RevokeTokens(), "delete serviceaccounts"),
        (RevokeTokens(), "create serviceaccounts"),
        (RevokeTokens(), "delete secrets"),
        (ScaleToZero(), "patch deployments/scale"),
        (DenyNetwork(), "create networkpolicies"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_call_that_hangs_after_its_effect_is_made_again(drill: Drill, action: Action, call: str) -> None:
    drill.estate.sim.issue(HERE, "agent-7", secret="old")
    drill.estate.sim.faults.add(call, HANGING, after=True)
    done = drill.done(action)
    assert done.grade >= Grade.CONFIG
    assert isinstance(drill.undo(action, done), Done)


@each_cut
def test_the_cluster_itself_and_the_bot_are_never_touched(drill: Drill, action: Action) -> None:
    sim = drill.estate.sim
    sim.add_workload("Deployment", "kube-system", "agent-7", account="agent-7", labels=LABELS)
    sim.add_workload("Deployment", "firedoor", "agent-7", account="firedoor", labels=LABELS)
    for namespace, account, said in (("kube-system", "agent-7", "the cluster itself"), ("firedoor", "firedoor", "own")):
        workload = (f"{namespace}/Deployment/agent-7",)
        known = KubernetesIdentity(namespaces=(namespace,), workloads=workload, pod_labels=tuple(LABELS.items()))
        agent = Agent("agent-7", service_accounts=(f"system:serviceaccount:{namespace}:{account}",), kubernetes=known)
        outcome = drill.run(action, agent)
        assert isinstance(outcome, Failed)
        assert said in outcome.why
        assert len(sim.running(namespace)) == 2


@each_cut
def test_a_protected_agent_is_left_alone(drill: Drill, action: Action) -> None:
    drill.untouchable["agent-7"] = "agents.yaml says that agent-7 is protected"
    assert isinstance(drill.run(action), Skipped)
    assert len(drill.estate.sim.running(HERE, "agent-7")) == 2


@each_cut
def test_a_connection_that_is_not_configured(clock: SimClock, action: Action) -> None:
    outcome = drive(action, params(action), Ports(clock, Enrolled()), clock, KEY)
    assert isinstance(outcome, Failed)
    assert "no connection of this name" in outcome.why


def test_the_rights_they_ask_for_are_words_of_rbac() -> None:
    for action in (each for id, each in registry().items() if id.startswith("k8s.")):
        for right in action.permissions["kubernetes"]:
            verb, _, resource = right.partition(" ")
            assert verb in ("get", "list", "create", "update", "patch", "delete")
            assert resource


# Tokens ---------------------------------------------------------------------------------------------------------------


def test_every_token_from_before_is_refused_and_that_is_proved(drill: Drill) -> None:
    sim = drill.estate.sim
    old, bound = sim.issue(HERE, "agent-7", secret="agent-7-token"), sim.issue(HERE, "agent-7")
    other = sim.issue(HERE, "payroll")
    done = drill.done(RevokeTokens())
    assert (done.grade, done.evidence["probe"], done.evidence["token_secrets"]) == (Grade.EFFECT, "refused", 1)
    assert (sim.user_of(old), sim.user_of(bound)) == ("", "")
    assert sim.user_of(other) == "system:serviceaccount:agents:payroll"
    assert ("secrets", HERE, "agent-7-token") not in sim.objects
    assert done.evidence["pods"] == 2
    assert "within the hour" in done.evidence["renewal"], "a running pod gets a new one"
    assert sim.user_of(sim.issue(HERE, "agent-7")) == ACCOUNT, "its rights go on by its name"


def test_what_makes_the_account_is_kept(drill: Drill) -> None:
    sim = drill.estate.sim
    account = sim.objects["serviceaccounts", HERE, "agent-7"]
    account["metadata"] |= {"labels": {"team": "x"}, "annotations": {"eks.amazonaws.com/role-arn": "arn"}}
    account |= {"imagePullSecrets": [{"name": "registry"}], "automountServiceAccountToken": False}
    drill.done(RevokeTokens())
    made = sim.objects["serviceaccounts", HERE, "agent-7"]
    assert made["metadata"]["labels"] == {"team": "x"}
    assert made["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn",
        MARK: KEY,
        PROBE: "refused",
    }
    assert made["imagePullSecrets"] == [{"name": "registry"}]
    assert made["automountServiceAccountToken"] is False


def test_without_a_token_at_hand_the_uid_is_read_back(drill: Drill) -> None:
    drill.estate.sim.denied.add("create serviceaccounts/token")
    done = drill.done(RevokeTokens())
    assert (done.grade, done.evidence["probe"]) == (Grade.CONFIG, "none at hand")


def test_where_secrets_are_out_of_reach_their_tokens_end_with_the_account(drill: Drill) -> None:
    sim = drill.estate.sim
    old = sim.issue(HERE, "agent-7", secret="agent-7-token")
    sim.denied |= {"list secrets", "list pods"}
    done = drill.done(RevokeTokens())
    assert done.grade is Grade.EFFECT
    assert not {"token_secrets", "pods"} & done.evidence.keys()
    assert sim.user_of(old) == ""


def test_a_token_that_was_just_used_may_live_ten_seconds_more(drill: Drill) -> None:
    sim = drill.estate.sim
    token = sim.issue(HERE, "agent-7")
    assert sim.user_of(token) == ACCOUNT
    done = drill.done(RevokeTokens())
    assert sim.user_of(token) == ACCOUNT
    assert done.evidence["alive_until"] == f"{drill.estate.clock.now():%Y-%m-%dT%H:%M}:10Z"
    drill.estate.clock.forward(seconds=10)
    assert sim.user_of(token) == ""


def test_another_process_took_over_and_has_no_token(drill: Drill) -> None:
    first = stage(RevokeTokens(), params(RevokeTokens()), drill.ports, key=KEY)
    assert isinstance(first, Pending)
    held = drill.estate.cluster.service_account(HERE, "agent-7")
    assert held
    drill.estate.cluster.delete_service_account(HERE, "agent-7", held.uid)  # and then it died
    outcome = stage(RevokeTokens(), params(RevokeTokens()), drill.ports, key=KEY, so_far=first.so_far)
    assert isinstance(outcome, Done)
    assert outcome.grade is Grade.CONFIG
    assert drill.estate.sim.objects["serviceaccounts", HERE, "agent-7"]["metadata"]["uid"] != held.uid


def test_a_finalizer_that_holds_it_up_is_told_and_never_called_done(drill: Drill) -> None:
    account = drill.estate.sim.objects["serviceaccounts", HERE, "agent-7"]
    account["metadata"]["finalizers"] = ["example.com/guard"]
    done = drill.done(RevokeTokens())
    assert done.grade is Grade.UNVERIFIED
    assert "waits for example.com/guard" in done.evidence["why"]
    assert isinstance(drill.undo(RevokeTokens(), done), Failed)
    del drill.estate.sim.objects["serviceaccounts", HERE, "agent-7"]
    assert isinstance(drill.undo(RevokeTokens(), done), Done), "the release makes it again"


def test_kept_deleted_nothing_starts_until_the_release(drill: Drill) -> None:
    sim = drill.estate.sim
    done = drill.done(RevokeTokens(), keep_deleted=True, twice=True)
    assert (done.grade, done.evidence["uid"], done.evidence["probe"]) == (Grade.CONFIG, "", "refused")
    assert "renewal" not in done.evidence
    for pod in sim.running(HERE, "agent-7"):
        sim.remove("pods", HERE, pod)
    drill.estate.clock.forward(seconds=31)
    assert sim.running(HERE, "agent-7") == []
    assert isinstance(drill.verify(RevokeTokens(), keep_deleted=True), Done)
    for _ in range(2):
        undone = drill.undo(RevokeTokens(), done, keep_deleted=True)
        assert isinstance(undone, Done)
        assert undone.evidence["not_restored"] == ["tokens", "token_secrets"]
    assert drill.verify(RevokeTokens(), keep_deleted=True) is None
    assert len(sim.running(HERE, "agent-7")) == 2


def test_an_operator_that_makes_it_again_is_told(drill: Drill) -> None:
    drill.done(RevokeTokens(), keep_deleted=True)
    first = Pending(drill.estate.clock.now(), {"uid": "old", "manifest": {"metadata": {"name": "agent-7"}}})
    drill.estate.sim.add_account(HERE, "agent-7")
    asked = params(RevokeTokens(), keep_deleted=True)
    outcome = stage(RevokeTokens(), asked, drill.ports, key=KEY, so_far=first.so_far)
    assert isinstance(outcome, Failed)
    assert "somebody made it again" in outcome.why


def test_an_account_that_may_not_be_made_again_fails_and_the_release_can(drill: Drill) -> None:
    drill.estate.sim.denied.add("create serviceaccounts")
    outcome = drill.run(RevokeTokens())
    assert isinstance(outcome, Failed)
    assert 'cannot create resource "serviceaccounts"' in outcome.why
    drill.estate.sim.denied.clear()
    assert isinstance(drill.undo(RevokeTokens(), outcome), Done)
    assert ("serviceaccounts", HERE, "agent-7") in drill.estate.sim.objects


def test_no_account_and_one_too_large(drill: Drill) -> None:
    account = drill.estate.sim.objects["serviceaccounts", HERE, "agent-7"]
    account["metadata"]["annotations"] = {"notes": "x" * 40_000}
    outcome = drill.run(RevokeTokens())
    assert isinstance(outcome, Failed)
    assert "too large" in outcome.why
    del drill.estate.sim.objects["serviceaccounts", HERE, "agent-7"]
    assert drill.done(RevokeTokens()).nothing_held == "there is no service account agents/agent-7"


# Workloads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["StatefulSet", "ReplicaSet", "Job"])
def test_each_kind_comes_to_rest_and_back(drill: Drill, kind: str) -> None:
    sim, named = drill.estate.sim, f"agents/{kind}/worker"
    sim.add_workload(kind, HERE, "worker", account="agent-7", number=3)
    began = drill.estate.clock.now()
    done = drill.done(ScaleToZero(), workload=named)
    assert done.evidence == {"workload": named, "pods": 0}
    assert (drill.estate.clock.now() - began).total_seconds() >= 30, "pods take their time"
    assert len(sim.running(HERE, "agent-7")) == 2, "those of the deployment"
    for _ in range(2):
        assert isinstance(drill.undo(ScaleToZero(), done, workload=named), Done)
    assert len(sim.running(HERE, "agent-7")) == 5


def test_a_cronjob_is_suspended_with_the_jobs_it_has_started(drill: Drill) -> None:
    sim, named = drill.estate.sim, "agents/CronJob/nightly"
    sim.add_workload("CronJob", HERE, "nightly", account="agent-7")
    for name in ("nightly-1", "nightly-2"):
        sim.start_job(HERE, "nightly", name)
    sim.objects["jobs", HERE, "nightly-2"]["spec"]["suspend"] = True
    done = drill.done(ScaleToZero(), workload=named)
    assert len(sim.running(HERE, "agent-7")) == 2, "those of the deployment"
    assert isinstance(drill.undo(ScaleToZero(), done, workload=named), Done)
    assert sim.objects["cronjobs", HERE, "nightly"]["spec"]["suspend"] is False
    assert sim.objects["jobs", HERE, "nightly-1"]["spec"]["suspend"] is False
    assert sim.objects["jobs", HERE, "nightly-2"]["spec"]["suspend"] is True, "it was so before"


def test_a_job_that_starts_while_its_cronjob_is_stopped_is_not_missed(drill: Drill) -> None:
    sim, named = drill.estate.sim, "agents/CronJob/nightly"
    sim.add_workload("CronJob", HERE, "nightly", account="agent-7")
    asked = params(ScaleToZero(), workload=named)
    first = stage(ScaleToZero(), asked, drill.ports, key=KEY)
    assert isinstance(first, Pending)
    sim.start_job(HERE, "nightly", "nightly-1")
    outcome = stage(ScaleToZero(), asked, drill.ports, key=KEY, so_far=first.so_far)
    assert isinstance(outcome, Pending), "its pod ends"
    drill.estate.clock.forward(seconds=31)
    assert isinstance(stage(ScaleToZero(), asked, drill.ports, key=KEY, so_far=outcome.so_far), Done)


def test_pods_on_a_lost_node_are_named_and_it_is_not_called_done(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScaleToZero, "patience", timedelta(seconds=40))
    drill.estate.sim.lost_nodes.add("node-1")
    done = drill.done(ScaleToZero())
    assert done.grade is Grade.UNVERIFIED
    assert [each.endswith(" on node-1") for each in done.evidence["alive"]] == [True, True]
    assert done.undo == {"before": {"replicas": 2}}, "a release must know how it was"
    assert drill.verify(ScaleToZero()) is None


def test_who_may_start_it_again_is_said(drill: Drill) -> None:
    sim = drill.estate.sim
    sim.add_autoscaler(HERE, "Deployment/payroll", keda=True)
    sim.add_autoscaler(HERE, "Deployment/agent-7", minimum=2)
    assert "may_restart" not in drill.done(ScaleToZero()).evidence, "one with a minimum rests at zero"
    scaler = sim.objects["horizontalpodautoscalers", HERE, "agent-7"]
    scaler["spec"]["minReplicas"] = 0
    (said,) = drill.done(ScaleToZero()).evidence["may_restart"]
    assert "its minimum is 0" in said
    scaler["metadata"]["labels"] = {"scaledobject.keda.sh/name": "agent-7"}
    (said,) = drill.done(ScaleToZero()).evidence["may_restart"]
    assert "KEDA" in said


def test_what_somebody_else_scaled_since_is_left_so(drill: Drill) -> None:
    done = drill.done(ScaleToZero())
    drill.estate.sim.merge("deployments", HERE, "agent-7", {"spec": {"replicas": 7}})
    undone = drill.undo(ScaleToZero(), done)
    assert isinstance(undone, Failed)
    assert "scaled to 7 since" in undone.why


def test_what_stood_at_zero_stays_there_on_release(drill: Drill) -> None:
    drill.estate.sim.merge("deployments", HERE, "agent-7", {"spec": {"replicas": 0}})
    drill.estate.clock.forward(seconds=31)
    done = drill.done(ScaleToZero())
    assert isinstance(drill.undo(ScaleToZero(), done), Done)
    assert drill.estate.sim.running(HERE, "agent-7") == []


def test_one_that_changed_meanwhile_is_tried_again(drill: Drill) -> None:
    asked = params(ScaleToZero())
    first = stage(ScaleToZero(), asked, drill.ports, key=KEY)
    assert isinstance(first, Pending)
    held = drill.estate.cluster.workload("Deployment", HERE, "agent-7")
    assert held
    drill.estate.cluster.scale(held, 4)
    assert not isinstance(stage(ScaleToZero(), asked, drill.ports, key=KEY, so_far=first.so_far), Failed)


def test_what_is_not_the_agents_or_has_an_owner_or_is_gone_is_refused(drill: Drill) -> None:
    sim = drill.estate.sim
    owner = {"kind": "Deployment", "name": "agent-7", "uid": "1"}
    sim.add_workload("ReplicaSet", HERE, "agent-7-abc", account="agent-7", owner=owner)
    for named, said in (
        ("agents/Deployment/payroll", "no account of agent-7"),
        ("agents/ReplicaSet/agent-7-abc", "belongs to Deployment/agent-7"),
        ("agents/Deployment/gone", "it was deleted"),
    ):
        outcome = drill.run(ScaleToZero(), workload=named)
        assert isinstance(outcome, Failed)
        assert said in outcome.why
        assert drill.verify(ScaleToZero(), workload=named) is None
    assert len(sim.running(HERE, "payroll")) == 2


@pytest.mark.parametrize(
    "named", ["agent-7", "agents/agent-7", "agents/Pod/x", "a/Job/b/c", "a/Job/../x", "A B/Job/x", ""]
)
def test_names_that_are_none_are_refused(named: str) -> None:
    agent = replace(AGENT, kubernetes=KubernetesIdentity(workloads=(named,)))
    with pytest.raises(ValueError, match="is no workload"):
        ScaleToZero().targets({"agent": "agent-7"}, agent)


def test_a_daemon_set_is_refused_with_another_way() -> None:
    with pytest.raises(ValueError, match=r"use k8s\.deny_network"):
        ScaleToZero().targets({"agent": "agent-7", "workload": "agents/DaemonSet/agent-7"}, AGENT)


# Networks -------------------------------------------------------------------------------------------------------------


def test_the_agents_pods_get_no_new_connection_and_the_neighbours_do(drill: Drill) -> None:
    sim = drill.estate.sim
    done = drill.done(DenyNetwork())
    assert (done.grade, done.evidence["pods"]) == (Grade.CONFIG, 2)
    assert "may live on" in done.evidence["connections"]
    assert [sim.reaches_out(HERE, pod) for pod in sim.running(HERE, "agent-7")] == [False, False]
    assert [sim.reaches_out(HERE, pod) for pod in sim.running(HERE, "payroll")] == [True, True]
    assert isinstance(drill.undo(DenyNetwork(), done), Done)
    assert all(sim.reaches_out(HERE, pod) for pod in sim.running(HERE))
    assert drill.verify(DenyNetwork()) is None


def test_a_network_that_enforces_nothing_is_never_called_an_effect(drill: Drill) -> None:
    drill.estate.sim.enforces = False
    assert drill.done(DenyNetwork()).grade is Grade.CONFIG
    assert DenyNetwork.best_grade is Grade.CONFIG


def test_policies_add_up_so_that_another_one_keeps_it_from_being_contained(drill: Drill) -> None:
    sim = drill.estate.sim
    for name, selector in (("allow-dns", {}), ("allow-payroll", {"matchLabels": {"app": "payroll"}})):
        sim.add_policy(HERE, name, {"podSelector": selector, "policyTypes": ["Egress"], "egress": [{}]})
    done = drill.done(DenyNetwork())
    assert done.grade is Grade.UNVERIFIED
    assert done.evidence["alive"] == ["policy allow-dns still lets 2 of its pods through"]
    assert all(sim.reaches_out(HERE, pod) for pod in sim.running(HERE, "agent-7"))
    sim.remove("networkpolicies", HERE, "allow-dns")
    verified = drill.verify(DenyNetwork())
    assert verified
    assert verified.grade is Grade.CONFIG


def test_pods_that_the_policy_does_not_reach_are_named(drill: Drill) -> None:
    sim = drill.estate.sim
    sim.add_workload("Job", HERE, "side", account="agent-7", labels={"app": "side"}, number=1)
    sim.add_workload(
        "StatefulSet", HERE, "host", account="agent-7", labels=LABELS | {"h": "1"}, number=1, host_network=True
    )
    done = drill.done(DenyNetwork())
    assert done.grade is Grade.UNVERIFIED
    host, side = sorted(done.evidence["alive"])
    assert "on the network of its node node-1" in host
    assert "does not wear the labels" in side


def test_a_policy_that_was_there_is_put_back(drill: Drill) -> None:
    mine = {"podSelector": {"matchLabels": {"app": "x"}}, "policyTypes": ["Ingress"]}
    drill.estate.sim.add_policy(HERE, "firedoor-deny-agent-7", mine)
    done = drill.done(DenyNetwork())
    assert isinstance(drill.undo(DenyNetwork(), done), Done)
    assert drill.estate.sim.objects["networkpolicies", HERE, "firedoor-deny-agent-7"]["spec"] == mine


def test_without_labels_the_whole_namespace_would_be_cut() -> None:
    with pytest.raises(ValueError, match=r"Add kubernetes\.pod_labels"):
        DenyNetwork().targets({"agent": "agent-7"}, replace(AGENT, kubernetes=KubernetesIdentity()))


# Evidence -------------------------------------------------------------------------------------------------------------


def test_pods_are_kept_without_their_secrets(drill: Drill) -> None:
    sim = drill.estate.sim
    one, two = sim.running(HERE, "agent-7")
    sim.output[HERE, one, "agent", False] = "asked for password=hunter2-hunter2\n"
    sim.output[HERE, one, "agent", True] = "the run before\n"
    sim.objects["pods", HERE, two]["spec"]["containers"][0]["env"] = [{"name": "API_TOKEN", "value": "s3cr3t-value"}]
    sim.add_event(HERE, two, "BackOff", "restarting")
    done = drill.done(CollectPods(), twice=True)
    assert (done.grade, done.evidence["items"], done.evidence["missing"]) == (Grade.CONFIG, 2, [])
    manifest = json.loads(drill.evidence.get(done.evidence["manifest"]) or b"")
    kept = [json.loads(drill.evidence.get(item["address"]) or b"") for item in manifest["items"]]
    assert {item["kind"] for item in manifest["items"]} == {"pod_logs"}
    assert [item["source"] for item in manifest["items"]] == [f"k8s/kubernetes/{HERE}/{pod}" for pod in (one, two)]
    until = (drill.estate.clock.now() + drill.ports.retain).isoformat()
    assert {item["locked_until"] for item in manifest["items"]} == {until} == {done.evidence["locked_until"]}
    assert done.evidence["redacted"] == sum(item["redacted"]["count"] for item in manifest["items"]) >= 2
    pointer = manifest["items"][1]["redacted"]["where"][0]
    assert pointer.endswith("/env/0/value")
    text = json.dumps(kept)
    assert "the run before" in text
    assert "BackOff" in text
    assert "[redacted:" in text
    assert "hunter2" not in text
    assert "s3cr3t-value" not in text
    assert [item["parts"] for item in manifest["items"]] == [
        ["log/agent", "manifest", "previous_log/agent"],
        ["events", "log/agent", "manifest"],
    ]


def test_what_cannot_be_read_is_named_and_the_rest_is_kept(drill: Drill) -> None:
    drill.estate.sim.denied.add("get pods/log")
    first = stage(CollectPods(), params(CollectPods()), drill.ports, key=KEY)
    assert isinstance(first, Pending)
    gone, _ = drill.estate.sim.running(HERE, "agent-7")
    del drill.estate.sim.objects["pods", HERE, gone]
    done = drill.done(CollectPods())
    assert done.evidence["items"] == 2
    assert sum('cannot get resource "pods/log"' in each for each in done.evidence["missing"]) == 4
    outcome = stage(CollectPods(), params(CollectPods()), drill.ports, key=KEY, so_far=first.so_far)
    assert isinstance(outcome, Pending)
    named = {"source": f"k8s/kubernetes/agents/{gone}", "kind": "pod_logs", "why": "it is gone"}
    assert named in outcome.so_far["missing"]


def test_it_ends_when_its_time_is_up_and_with_too_many(drill: Drill) -> None:
    sim = drill.estate.sim
    sim.add_workload("Job", HERE, "many", account="agent-7", number=60)
    first = stage(CollectPods(), params(CollectPods()), drill.ports, key=KEY)
    assert isinstance(first, Pending)
    assert len(first.so_far["todo"]) == 50
    drill.estate.clock.forward(seconds=91)
    done = stage(CollectPods(), params(CollectPods()), drill.ports, key=KEY, so_far=first.so_far)
    assert isinstance(done, Done)
    assert done.evidence["missing"][0] == "k8s/kubernetes: 12 more pods: 50 are the most"
    assert len(done.evidence["missing"]) == 51


def test_no_pods_and_no_store(drill: Drill) -> None:
    alone = replace(AGENT, service_accounts=("system:serviceaccount:agents:nobody",), kubernetes=None)
    assert drill.done(CollectPods(), alone).evidence["items"] == 0
    without = replace(drill.ports, evidence=None)
    assert isinstance(stage(CollectPods(), params(CollectPods()), without, key=KEY), Failed)


def test_a_store_that_is_away_is_waited_for(drill: Drill) -> None:
    drill.evidence.faults.add("put", Unavailable("evidence", "the disk is away"), times=2)
    assert drill.done(CollectPods()).evidence["items"] == 2
    drill.evidence.faults.add("put", Denied("evidence", "the bucket refuses"))
    assert isinstance(drill.run(CollectPods()), Failed)
