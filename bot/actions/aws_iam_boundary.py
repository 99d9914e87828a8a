"""`aws.iam_boundary`: bound a role by nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfRole
from bot.actions.trail import CloudTrailed
from bot.domain.agent import Agent
from bot.domain.iam import DENY_ALL, Denial
from bot.domain.playbook import Target
from bot.ports import AwsAccount


class Boundary(CloudTrailed, OfRole):
    """Makes AWS's own policy AWSDenyAll the permissions boundary of each of the agent's roles: every call of theirs is
    refused, by sessions issued before and after. It leaves the role's own policies alone and does not count against
    their quota; where others may attach and detach policies but not touch boundaries, it is the harder one to take
    off. Everything that uses the role stops. AWS needs up to five minutes until it holds everywhere: `alive_until`.
    Releasing restores the boundary that was there before, or removes ours. Service-linked and Identity Center roles
    are refused."""

    id = "aws.iam_boundary"
    params = (aws.AGENT, aws.CONNECTION)
    outputs = ("role", "boundary", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "iam:GetRole",
            "iam:PutRolePermissionsBoundary",
            "iam:DeleteRolePermissionsBoundary",
            "cloudtrail:LookupEvents",
        )
    }
    example = (
        'uses: aws.iam_boundary\nwith: {agent: "${{ agent.id }}"}\ncontains: true\n'
        "approval: {each: {security_team: 1, infra_owner: 1}}\n"
    )

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        return tuple(
            replace(each, params={**each.params, "policy": f"arn:{arn.split(':')[1]}:iam::aws:policy/AWSDenyAll"})
            for each in super().targets(params, agent)
            for arn in [each.params["role"]]
        )

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> str:
        role = account.iam.get_role(self.name(params))
        return role.boundary if role else ""

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.iam.set_boundary(self.name(params), params["policy"])
        return {}

    def denials(self, params: Mapping[str, Any], cutoff: str) -> tuple[Denial, ...]:
        return aws.denial(DENY_ALL, params)

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        bound = self.state(params, account) == params["policy"]
        return {"role": params["role"], "boundary": params["policy"]} if bound else None

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: str) -> str:
        if self.state(params, account) != before:
            account.iam.set_boundary(self.name(params), before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but {self.name(params)} does not have its boundary back"
