"""`aws.iam_disable_key`: switch a long-term access key off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.actions.switch import protected, settled
from bot.actions.trail import CloudTrailed
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Param, Target
from bot.ports import AccessKey, Ports


class DisableKey(CloudTrailed, Action):
    """Makes the agent's long-term access keys inactive, or the one named by `key`. Sessions that were started with a
    key before may live on until they expire: deny the user too (aws.iam_deny_all). AWS needs up to five minutes until
    the key is refused everywhere: `alive_until`. Releasing makes a key active again, if it was active before."""

    id = "aws.iam_disable_key"
    params = (
        aws.AGENT,
        Param("key", required=False, doc="access key id (AKIA...); every key of the agent by default"),
        Param("user", required=False, doc="IAM user of `key`; the agent's users by default"),
        aws.CONNECTION,
    )
    outputs = ("key", "user", "status", "alive_until", "sessions", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": ("iam:ListAccessKeys", "iam:UpdateAccessKey", "cloudtrail:LookupEvents")
    }
    example = 'uses: aws.iam_disable_key\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    containing = True
    best_grade = Grade.CONFIG

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        if agent is None or known is None:
            return ()
        wanted = (params["key"],) if params.get("key") else tuple(dict.fromkeys(known.access_keys))
        users = [params["user"]] if params.get("user") else list(known.users)
        if short := [key for key in wanted if key.startswith("ASIA")]:
            raise ValueError(f"{short[0]} belongs to a session, not to a user: use aws.iam_revoke_sessions")
        if wanted and not users:
            raise ValueError(f"whose key is {wanted[0]}? Add its user to aws.users of {agent.id} in agents.yaml")
        return tuple(
            Target(
                f"access-key:{key}",
                {
                    "agent": agent.id,
                    "connection": known.connection,
                    "key": key,
                    "users": users,
                    "enrolled": key in known.access_keys,
                },
                known.connection,
            )
            for key in wanted
        )

    def run(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        key: str,
        so_far: Mapping[str, Any] | None = None,
    ) -> Outcome:
        id, users = params["key"], ", ".join(params["users"])
        if why := protected(ports, f"access-key:{id}", params["agent"]):
            return Skipped(why)
        found, now = _find(params, ports), ports.clock.now()
        if found is None and params["enrolled"]:
            evidence = {"key": id, "status": "deleted"}
            return Done(Grade.CONFIG, evidence, nothing_held=f"{users} has no key {id}: it was deleted")
        if found is None:
            return Failed(False, f"{id} is no key of {users}: name its `user`, or it was deleted")
        if so_far is None and not found.active:
            return _done(found, ports, undo={"user": found.user, "active": False})
        if so_far is None:
            return Pending(now, {"user": found.user, "active": True}, f"saved how key {id} was")
        if found.active and "since" not in so_far:
            aws.account(params, ports).iam.set_access_key_active(found.user, id, False)
            found = _find(params, ports)
        undo = {"user": so_far["user"], "active": so_far["active"]}
        seen = _done(found, ports) if found and not found.active else None
        return settled(seen, now, so_far, undo, f"access-key:{id}", f"key {id} was disabled but reads active")

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        found = _find(params, ports)
        if found is None:
            return Done(Grade.CONFIG, {"key": params["key"], "status": "deleted"}) if params["enrolled"] else None
        return None if found.active else Done(Grade.CONFIG, _evidence(found))

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        found = _find(params, ports)
        if found is None:
            return Done(Grade.CONFIG, {"key": params["key"]}, nothing_held=f"key {params['key']} was deleted since")
        if undo["active"] and not found.active:
            aws.account(params, ports).iam.set_access_key_active(found.user, found.id, True)
            found = _find(params, ports)
            if found is None or not found.active:
                return Failed(True, f"AWS took the call, but key {params['key']} is not active")
        return Done(Grade.CONFIG, _evidence(found))


def _find(params: Mapping[str, Any], ports: Ports) -> AccessKey | None:
    iam = aws.account(params, ports).iam
    keys = (key for user in params["users"] for key in iam.list_access_keys(user) or ())
    return next((key for key in keys if key.id == params["key"]), None)


def _done(key: AccessKey, ports: Ports, undo: Mapping[str, Any] | None = None) -> Done:
    alive_until = f"{ports.clock.now() + aws.PROPAGATION:%Y-%m-%dT%H:%M:%SZ}"
    return Done(Grade.CONFIG, {**_evidence(key), "alive_until": alive_until}, undo=undo)


def _evidence(key: AccessKey) -> dict[str, Any]:
    sessions = {} if key.active else {"sessions": "those started with it before may live on"}
    return {"key": key.id, "user": key.user, "status": "Active" if key.active else "Inactive", **sessions}
