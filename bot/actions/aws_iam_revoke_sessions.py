"""`aws.iam_revoke_sessions`: end the sessions that a role has now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.actions.switch import protected, settled
from bot.actions.trail import CloudTrailed
from bot.domain.agent import Agent
from bot.domain.iam import STAMP, Denial, cutoff_of, denies_everything, older_denied
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Target
from bot.ports import Ports, Role

POLICY = "AWSRevokeOlderSessions"  # the console's own name: one policy, however often it is done (they share a quota)
_MARGIN = timedelta(seconds=30)  # between AWS's clocks


class RevokeSessions(CloudTrailed, Action):
    """Ends every session that the agent's roles have now: a policy on each role denies everything to credentials issued
    before this moment. Sessions assumed later work again, so cut what lets the agent assume the role first (its access
    key, its Vault role). AWS needs up to five minutes until the last of them is refused: `alive_until`. Releasing
    restores the policy that was there before, or removes ours. Service-linked and Identity Center roles are refused."""

    id = "aws.iam_revoke_sessions"
    params = (aws.AGENT, aws.CONNECTION)
    outputs = ("role", "policy", "cutoff", "alive_until", "older_sessions", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:PutRolePolicy",
            "iam:DeleteRolePolicy",
            "cloudtrail:LookupEvents",
        )
    }
    example = 'uses: aws.iam_revoke_sessions\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
    containing = True
    best_grade = Grade.CONFIG

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        return tuple(aws.role_targets(known, agent.id)) if known and agent else ()

    def run(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        key: str,
        so_far: Mapping[str, Any] | None = None,
    ) -> Outcome:
        arn, account, now = params["role"], aws.account(params, ports), ports.clock.now()
        if why := protected(ports, f"iam-role:{arn}", params["agent"]):
            return Skipped(why)
        role, name = aws.find_role(arn, account), aws.role_name(arn)
        if not isinstance(role, Role):
            return role
        if so_far is None:
            before = account.iam.get_role_policy(name, POLICY)
            return Pending(now, {"before": before}, f"saved how {name} was")
        if "cutoff" not in so_far:  # taken now and not before: nothing issued meanwhile may slip through
            cutoff = (account.iam.server_time() + _MARGIN).strftime(STAMP)
            account.iam.put_role_policy(name, POLICY, older_denied(cutoff))
            so_far = {**so_far, "cutoff": cutoff}
        seen = self.verify(params, ports)
        if seen and seen.evidence["cutoff"] < so_far["cutoff"]:  # an older one, read from a replica that lags behind
            seen = None
        undo = {"before": so_far["before"]}
        return settled(seen, now, so_far, undo, arn, f"{POLICY} was put on {name} but cannot be read back")

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        arn = params["role"]
        document = aws.account(params, ports).iam.get_role_policy(aws.role_name(arn), POLICY)
        cutoff = cutoff_of(document)
        if document is None or cutoff is None:
            return None
        evidence = {
            "role": arn,
            "policy": POLICY,
            "cutoff": cutoff.strftime(STAMP),
            "alive_until": (cutoff - _MARGIN + aws.PROPAGATION).strftime(STAMP),
            "older_sessions": "explicitDeny",
        }
        older = {"aws:TokenIssueTime": cutoff - timedelta(seconds=1)}
        return Done(Grade.CONFIG, evidence) if denies_everything(document, older) else None

    def denials(self, params: Mapping[str, Any], cutoff: str) -> tuple[Denial, ...]:
        return aws.denial(older_denied(cutoff), params)

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        name, iam, before = aws.role_name(params["role"]), aws.account(params, ports).iam, undo["before"]
        if iam.get_role(name) is None:
            return Done(Grade.CONFIG, {"role": params["role"]}, nothing_held=f"role {name} was deleted since")
        if before is None:
            iam.delete_role_policy(name, POLICY)
        else:
            iam.put_role_policy(name, POLICY, before)
        if iam.get_role_policy(name, POLICY) != before:
            return Failed(True, f"AWS took the call, but {POLICY} of {name} is not what it was before")
        return Done(Grade.CONFIG, {"role": params["role"], "policy": POLICY})
