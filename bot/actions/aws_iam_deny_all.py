"""`aws.iam_deny_all`: nothing at all for a role or a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.actions.switch import protected, settled
from bot.actions.trail import CloudTrailed
from bot.domain.agent import Agent
from bot.domain.iam import DENY_ALL, Denial
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Target
from bot.ports import Ports, Role


class DenyAll(CloudTrailed, Action):
    """Attaches AWS's own policy AWSDenyAll to each of the agent's roles and users: every call of theirs is refused,
    whatever else allows it, by sessions issued before and after. Everything that uses the role stops, not the agent
    alone. AWS needs up to five minutes until it holds everywhere: `alive_until`. Releasing detaches it, unless it was
    attached before. Service-linked and Identity Center roles are refused."""

    id = "aws.iam_deny_all"
    params = (aws.AGENT, aws.CONNECTION)
    outputs = ("principal", "policy", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "iam:GetRole",
            "iam:ListAttachedRolePolicies",
            "iam:AttachRolePolicy",
            "iam:DetachRolePolicy",
            "iam:ListAccessKeys",
            "iam:ListAttachedUserPolicies",
            "iam:AttachUserPolicy",
            "iam:DetachUserPolicy",
            "cloudtrail:LookupEvents",
        )
    }
    example = (
        'uses: aws.iam_deny_all\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
        "approval: {each: {security_team: 1, infra_owner: 1}}\n"
    )
    containing = True
    best_grade = Grade.CONFIG

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        if known is None or agent is None:
            return ()
        named = tuple(aws.role_targets(known, agent.id))
        policy = f"arn:{aws.partition(known)}:iam::aws:policy/AWSDenyAll"
        roles = [
            Target(target.id, {**target.params, "principal": target.params["role"], "policy": policy}, target.system)
            for target in named
        ]
        users = [
            Target(
                f"iam-user:{principal}",
                {
                    "agent": agent.id,
                    "connection": known.connection,
                    "user": user,
                    "principal": principal,
                    "policy": policy,
                },
                known.connection,
            )
            for user in dict.fromkeys(known.users)
            for principal in [f"{known.account}:user/{user}"]
        ]
        return (*roles, *users)

    def run(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        key: str,
        so_far: Mapping[str, Any] | None = None,
    ) -> Outcome:
        if why := protected(ports, params["agent"], params["principal"], params.get("user", "")):
            return Skipped(why)
        principal, now = _Principal(params, ports), ports.clock.now()
        if absent := principal.absent():
            return absent
        if so_far is None:
            return Pending(now, {"attached": principal.is_denied()}, f"saved how {principal.name} was")
        if "since" not in so_far:
            principal.attach()
        alive_until = f"{now + aws.PROPAGATION:%Y-%m-%dT%H:%M:%SZ}"
        seen = Done(Grade.CONFIG, {**principal.evidence(), "alive_until": alive_until})
        undo, why = {"attached": so_far["attached"]}, f"AWSDenyAll was attached to {principal.name} but is not listed"
        return settled(seen if principal.is_denied() else None, now, so_far, undo, principal.name, why)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        principal = _Principal(params, ports)
        return Done(Grade.CONFIG, principal.evidence()) if principal.is_denied() else None

    def denials(self, params: Mapping[str, Any], cutoff: str) -> tuple[Denial, ...]:
        return aws.denial(DENY_ALL, params)

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        principal = _Principal(params, ports)
        if undo["attached"]:
            return Done(Grade.CONFIG, {**principal.evidence(), "why": "it was attached before the incident: left"})
        principal.detach()
        if principal.is_denied():
            return Failed(True, f"AWS took the call, but AWSDenyAll is still attached to {principal.name}")
        return Done(Grade.CONFIG, principal.evidence())


class _Principal:
    """A role or a user, by which of the two the target names."""

    def __init__(self, params: Mapping[str, Any], ports: Ports) -> None:
        self._account, self._params, self._policy = aws.account(params, ports), params, params["policy"]
        iam, self._is_role = self._account.iam, "role" in params
        self.name: str = aws.role_name(params["role"]) if self._is_role else params["user"]
        self._attach: Callable[[str, str], None] = iam.attach_role_policy if self._is_role else iam.attach_user_policy
        self._detach: Callable[[str, str], None] = iam.detach_role_policy if self._is_role else iam.detach_user_policy
        self._attached = iam.attached_role_policies if self._is_role else iam.attached_user_policies

    def absent(self) -> Done | Failed | None:
        """Why there is nothing to do or nothing that can be done; None where it is there."""
        if self._is_role:
            role = aws.find_role(self._params["role"], self._account)
            return None if isinstance(role, Role) else role
        if self._account.iam.list_access_keys(self.name) is None:
            return Done(Grade.CONFIG, self.evidence(), nothing_held=f"there is no user {self.name}: it was deleted")
        return None

    def attach(self) -> None:
        self._attach(self.name, self._policy)

    def detach(self) -> None:
        self._detach(self.name, self._policy)

    def is_denied(self) -> bool:
        return self._policy in self._attached(self.name)

    def evidence(self) -> dict[str, Any]:
        return {"principal": self._params["principal"], "policy": self._policy}
