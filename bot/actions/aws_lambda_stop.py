"""`aws.lambda_stop`: a function is not called any more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount


class StopFunction(Switch):
    """Reserves a Lambda function of the agent no concurrency at all: every new call of it is throttled, whoever makes
    it. Calls under way go on to their end, at most `still_running` seconds. Only a function that runs as one of the
    agent's roles (`aws.roles` of agents.yaml) is stopped, whatever an alert names. Credentials that it has leaked stay
    good: aws.iam_revoke_sessions. Releasing restores the reservation that was there before, or removes ours. AWS
    refuses it where provisioned concurrency is configured: take that away by hand first."""

    id = "aws.lambda_stop"
    params = (aws.AGENT, Param("function", doc="name of the function, or its ARN"), aws.CONNECTION)
    outputs = ("function", "concurrency", "still_running", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "lambda:GetFunctionConfiguration",
            "lambda:GetFunctionConcurrency",
            "lambda:PutFunctionConcurrency",
            "lambda:DeleteFunctionConcurrency",
        )
    }
    example = (
        "uses: aws.lambda_stop\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::Lambda::Function') }}\n"
        'with: {agent: "${{ agent.id }}", function: "${{ item.uid }}"}\ncontains: true\n'
    )

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known, named = aws.identity(params, agent), str(params.get("function", ""))
        found = re.fullmatch(r"(?:arn:[\w-]+:lambda:[\w-]+:\d{12}:function:)?([\w-]{1,64})(?::[\w$-]+)?", named)
        if not found:
            raise ValueError(f"{named!r} is no Lambda function: give its name or its ARN")
        if known is None or agent is None:
            return ()
        concrete = {
            "agent": agent.id,
            "connection": known.connection,
            "function": found[1],
            "roles": list(known.roles),
        }
        return (Target(f"lambda-function:{found[1]}", concrete, known.connection),)

    def name(self, params: Mapping[str, Any]) -> str:
        return str(params["function"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Failed | None:
        if account.functions.function(params["function"]):
            return None
        return Failed(
            False,
            f"connection {params['connection']} knows no function {params['function']}: it was deleted, or it is in "
            "another region or account (then name its connection)",
        )

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = account.functions.function(params["function"])
        return aws.foreign_role(params, found.role if found else "", self.name(params))

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> int | None:
        return account.functions.concurrency(params["function"])

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.functions.set_concurrency(params["function"], 0)
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        found = account.functions.function(params["function"])
        if found is None or self.state(params, account) != 0:
            return None
        return {"function": params["function"], "concurrency": 0, "still_running": found.timeout}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: int | None) -> str:
        if self.state(params, account) != before:
            account.functions.set_concurrency(params["function"], before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but {params['function']} does not have its reservation back"
