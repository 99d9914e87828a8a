"""`k8s.revoke_tokens`: no token of a service account that was issued before is good any more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import Action, k8s
from bot.actions.switch import protected, settled
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Param, Target
from bot.errors import Denied, Rejected
from bot.ports import Cluster, Ports, ServiceAccount
from bot.ports.kubernetes import REVOKED

REMEMBERED = timedelta(seconds=10)  # so long the API server takes a token that it has just seen without looking again
LARGEST = 32 * 1024  # bytes of an account, in the record for the release
MARK = REVOKED
PROBE = "firedoor/probe"  # annotation: what became of a token from before, tried while there was no account
NOT_RESTORED = ["tokens", "token_secrets"]


class RevokeTokens(Action):
    """Deletes the Secrets with tokens of the agent's service accounts, deletes each account and makes it again: a token
    is good for the uid of one account only, so that every one issued before is refused, within ten seconds. It is
    proved with a token that is issued before and tried after, where the cluster lets the bot issue one (`create
    serviceaccounts/token`); else by the new uid. The new account has the same name, and so the same rights. Pods that
    run as it fail until they are restarted, or until their kubelet fetches a token of the new account for them, which
    it does within the hour. With `keep_deleted` there is no account until the release, and nothing can start as it;
    that is read back (verified-config). k8s.scale_to_zero stops the pods themselves. Releasing makes a deleted account
    again; old tokens never come back."""

    id = "k8s.revoke_tokens"
    params = (
        k8s.AGENT,
        Param("keep_deleted", "boolean", required=False, default=False, doc="leave no account until the release"),
        k8s.CONNECTION,
    )
    outputs = (
        *("account", "uid", "token_secrets", "probe", "pods", "renewal", "alive_until", "not_restored"),
        *("target", "why"),
    )
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "kubernetes": (
            *(f"{verb} serviceaccounts" for verb in ("get", "delete", "create")),
            "create serviceaccounts/token",
            "list secrets",
            "delete secrets",
            "list pods",
        )
    }
    example = 'uses: k8s.revoke_tokens\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    containing = True
    best_grade = Grade.EFFECT

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = k8s.identity(params, agent)
        if known is None or agent is None:
            return ()
        shared = {
            "agent": agent.id,
            "connection": known.connection,
            "keep_deleted": bool(params.get("keep_deleted")),
        }
        return tuple(
            Target(
                f"k8s-account:{known.connection}/{namespace}/{name}",
                {**shared, "namespace": namespace, "name": name},
                known.connection,
            )
            for namespace, name in k8s.accounts(agent)
        )

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        account = k8s.user(params["namespace"], params["name"])
        if why := protected(ports, params["agent"], account):
            return Skipped(why)
        cluster, now = k8s.cluster(params, ports), ports.clock.now()
        if so_far is None:
            return _begin(params, cluster) or Pending(now, _saved(params, cluster), f"saved how {account} was")
        undo = {"manifest": so_far["manifest"]}
        if "since" not in so_far:
            _hold(params, cluster, so_far["uid"])
            so_far = {**so_far, **_delete_secrets(params, cluster)}
        accepted: bool | None = None
        try:
            if found := _deleted(params, cluster, so_far["uid"]):
                accepted = False if found.uid != so_far["uid"] else None
            else:
                accepted = cluster.token_accepted(so_far["uid"], now)
                if not accepted and not params["keep_deleted"]:
                    found = _made(cluster, so_far["manifest"], {MARK: key, PROBE: _word(accepted)})
        except (Denied, Rejected) as refused:
            retryable = isinstance(refused, Rejected) and refused.retryable
            return Failed(retryable, str(refused), undo=undo)
        if found and found.uid == so_far["uid"]:
            waits = f", which waits for {', '.join(found.finalizers)}" if found.finalizers else ""
            why = f"{account} was deleted and is still there{waits}"
        else:
            why = f"a token of {account} from before is still taken" if accepted else ""
        done = None if why else Done(_grade(found), _evidence(params, cluster, found, so_far, accepted))
        if done:
            done = replace(done, evidence={**done.evidence, "alive_until": f"{now + REMEMBERED:%Y-%m-%dT%H:%M:%SZ}"})
        return settled(done, now, so_far, undo, account, why)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """By the mark on the account, which says that it is a new one; or by there being none."""
        found = k8s.cluster(params, ports).service_account(params["namespace"], params["name"])
        named = f"{params['namespace']}/{params['name']}"
        if found is None:
            return Done(Grade.CONFIG, {"account": named, "uid": ""}) if params["keep_deleted"] else None
        marked = MARK in found.annotations and not params["keep_deleted"]
        return Done(_grade(found), {"account": named, "uid": found.uid}) if marked else None

    def undo(self, params: Mapping[str, Any], ports: Ports, *, undo: Mapping[str, Any], key: str) -> Outcome:
        cluster = k8s.cluster(params, ports)
        found = cluster.service_account(params["namespace"], params["name"])
        if found and found.finalizers:
            return Failed(True, f"{params['name']} is being deleted and waits for {', '.join(found.finalizers)}")
        made = found or cluster.create_service_account(undo["manifest"])
        evidence = {"account": f"{made.namespace}/{made.name}", "uid": made.uid, "not_restored": NOT_RESTORED}
        return Done(Grade.CONFIG, evidence)


def _begin(params: Mapping[str, Any], cluster: Cluster) -> Done | Failed | None:
    """Why there is nothing to do, or nothing that may be done."""
    account = k8s.user(params["namespace"], params["name"])
    if refused := k8s.off_limits(params["namespace"], [account], cluster):
        return refused
    found = cluster.service_account(params["namespace"], params["name"])
    if found is None:
        named = f"{params['namespace']}/{params['name']}"
        return Done(Grade.CONFIG, {"account": named}, nothing_held=f"there is no service account {named}")
    if len(json.dumps(found.manifest)) > LARGEST:
        return Failed(False, f"{account} has annotations too large to be kept for the release: do it by hand")
    return None


def _saved(params: Mapping[str, Any], cluster: Cluster) -> Mapping[str, Any]:
    found = cluster.service_account(params["namespace"], params["name"])
    if found is None:
        raise Rejected(params["connection"], f"{params['name']} was there, and is not any more", retryable=True)
    return {"uid": found.uid, "manifest": dict(found.manifest)}


def _hold(params: Mapping[str, Any], cluster: Cluster, uid: str) -> None:
    """A token to prove it by. After a crash the account may be a new one already: then there is nothing to hold."""
    found = cluster.service_account(params["namespace"], params["name"])
    if found and found.uid == uid:
        cluster.hold_token(params["namespace"], params["name"], uid)


def _delete_secrets(params: Mapping[str, Any], cluster: Cluster) -> Mapping[str, Any]:
    """Deleting the account ends their tokens as well; the bot may be kept from the Secrets of a namespace."""
    try:
        found = cluster.token_secrets(params["namespace"], params["name"])
        for name in found:
            cluster.delete_secret(params["namespace"], name)
    except Denied:
        return {}
    return {"token_secrets": len(found)}


def _deleted(params: Mapping[str, Any], cluster: Cluster, uid: str) -> ServiceAccount | None:
    """What is there once the account of that uid is deleted: nothing, as a rule."""
    where = params["namespace"], params["name"]
    found = cluster.service_account(*where)
    if found and found.uid == uid:
        cluster.delete_service_account(*where, uid)
        return cluster.service_account(*where)
    if found and params["keep_deleted"]:  # whoever else makes it, an operator as a rule, is to be undone by hand
        raise Rejected(
            params["connection"], f"{params['name']} was deleted, and somebody made it again", retryable=True
        )
    return found


def _made(cluster: Cluster, manifest: Mapping[str, Any], marks: Mapping[str, str]) -> ServiceAccount:
    meta = manifest["metadata"]
    notes = {**meta.get("annotations", {}), **marks}
    return cluster.create_service_account({**manifest, "metadata": {**meta, "annotations": notes}})


def _word(accepted: bool | None) -> str:
    return "none at hand" if accepted is None else "refused"


def _grade(found: ServiceAccount | None) -> Grade:
    """By what the account itself says, so that whoever looks later says the same: a uid never comes back, and what was
    refused once stays refused as long as this account is there."""
    return Grade.EFFECT if found and found.annotations.get(PROBE) == "refused" else Grade.CONFIG


def _evidence(
    params: Mapping[str, Any],
    cluster: Cluster,
    found: ServiceAccount | None,
    so_far: Mapping[str, Any],
    accepted: bool | None,
) -> dict[str, Any]:
    evidence = {
        "account": f"{params['namespace']}/{params['name']}",
        "uid": found.uid if found else "",
        "probe": found.annotations.get(PROBE, _word(None)) if found else _word(accepted),
        "not_restored": NOT_RESTORED,
    } | {key: so_far[key] for key in ("token_secrets",) if key in so_far}
    try:
        pods = [pod for pod in cluster.pods(params["namespace"]) if pod.service_account == params["name"] and pod.runs]
    except Denied:
        return evidence
    fresh = {"renewal": "a pod gets a token of the new account within the hour"} if pods and found else {}
    return evidence | {"pods": len(pods)} | fresh
