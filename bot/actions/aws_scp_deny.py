"""`aws.scp_deny`: the organization denies an agent everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import Switch
from bot.domain.agent import Agent
from bot.domain.iam import Denial, UnknownPolicy, evaluate
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount


class DenyByOrganization(Switch):
    """Attaches a service control policy to each account of the agent that denies its roles and users everything,
    sessions issued before and after. Nobody in the account can take it off, an administrator neither, and it reaches
    roles of IAM Identity Center, which IAM cannot change. It does not reach service-linked roles, nor anything in the
    organization's management account: both are refused. `connection` must be of the management account or a delegated
    administrator, and an account holds five such policies. AWS needs up to five minutes until it holds everywhere:
    `alive_until`. Releasing detaches and deletes it."""

    id = "aws.scp_deny"
    params = (aws.AGENT, Param("connection", doc="AWS connection to the organization's management account"))
    outputs = ("account", "policy", "denied", "alive_until", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "organizations:DescribeOrganization",
            "organizations:ListPolicies",
            "organizations:DescribePolicy",
            "organizations:ListTargetsForPolicy",
            "organizations:CreatePolicy",
            "organizations:UpdatePolicy",
            "organizations:AttachPolicy",
            "organizations:DetachPolicy",
            "organizations:DeletePolicy",
        )
    }
    example = (
        'uses: aws.scp_deny\nwith: {agent: "${{ agent.id }}", connection: aws}\ncontains: true\n'
        "approval: {each: {security_team: 1, infra_owner: 1}}\n"
    )
    spreads = True

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        if known is None or agent is None:
            return ()
        held: dict[str, list[str]] = {}
        for arn in aws.principals(known, agent.id):
            held.setdefault(arn.split(":")[4], []).append(arn)
        return tuple(
            Target(
                f"scp:{owner}/{agent.id}",
                {
                    "agent": agent.id,
                    "connection": params["connection"],
                    "account": owner,
                    "principals": arns,
                    "policy": f"firedoor-{re.sub(r'[^A-Za-z0-9]+', '-', agent.id)[:80]}-{owner}",
                },
                params["connection"],
            )
            for owner, arns in held.items()
        )

    def name(self, params: Mapping[str, Any]) -> str:
        return f"account {params['account']}"

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        return None

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        for arn in params["principals"]:
            if refused := aws.service_linked(arn):
                return refused
        if params["account"] == account.organization.management_account():
            why = (
                f"{params['account']} is the organization's management account, which no service control policy reaches"
            )
            return Failed(False, f"{why}: use aws.iam_deny_all")
        return None

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> bool:
        held = account.organization.policy(params["policy"])
        return held is not None and params["account"] in held.targets

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        wanted, held = _document(params["principals"]), account.organization.policy(params["policy"])
        if held is None or held.document != wanted:
            id = account.organization.put_policy(params["policy"], wanted)
        else:
            id = held.id
        if held is None or params["account"] not in held.targets:
            account.organization.attach(id, params["account"])
        return {}

    def denials(self, params: Mapping[str, Any], cutoff: str) -> tuple[Denial, ...]:
        arns: list[str] = params["principals"]
        if refused := next(filter(None, map(aws.service_linked, arns)), None):
            raise ValueError(refused.why)
        document, unless = _document(arns), f"{params['account']} is the organization's management account"
        return tuple(
            Denial(document, arn.rpartition(":")[2].replace("/", " ", 1), {"aws:PrincipalArn": arn}, keys, unless)
            for arn in arns
            for keys in [":user/" in arn]
        )

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        held, arns = account.organization.policy(params["policy"]), params["principals"]
        if held is None or params["account"] not in held.targets:
            return None
        if not all(_denied(held.document, arn) for arn in arns):
            return None
        return {"account": params["account"], "policy": held.id, "denied": len(arns)}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: bool) -> str:
        held = account.organization.policy(params["policy"])
        if before or held is None:
            return ""
        account.organization.detach(held.id, params["account"])
        account.organization.delete(held.id)
        still = self.state(params, account)
        return f"AWS took the calls, but {params['policy']} is still attached to {self.name(params)}" if still else ""


def _document(arns: list[str]) -> dict[str, Any]:
    statement = {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": aws.deny_principals(arns)}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _denied(document: Mapping[str, Any], arn: str) -> bool:
    try:
        return evaluate([document], "any:Action", "arn:any", {"aws:PrincipalArn": arn}) == "explicitDeny"
    except UnknownPolicy:
        return False
