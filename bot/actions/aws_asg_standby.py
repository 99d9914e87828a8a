"""`aws.asg_standby`: take an instance out of its Auto Scaling group's hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfInstance
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount

_OUT = ("EnteringStandby", "Standby")


class Standby(OfInstance):
    """Puts an instance of the agent into standby in its Auto Scaling group, which then neither ends it for being
    unhealthy nor sends it traffic. Do it before the instance is isolated, which the group would take for a fault, and
    answer by ending it and starting the agent anew. It contains nothing. Unless `replace` says so, the group starts no
    other in its place and runs one fewer; AWS refuses that below the group's minimum. Releasing returns it to service
    (the group then wants one more, as AWS has it)."""

    id = "aws.asg_standby"
    params = (
        aws.AGENT,
        aws.INSTANCE,
        Param("replace", "boolean", required=False, default=False, doc="let the group start another in its place"),
        aws.CONNECTION,
    )
    outputs = ("instance", "group", "lifecycle", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "ec2:DescribeInstances",
            "ec2:DescribeNetworkInterfaces",
            "autoscaling:DescribeAutoScalingInstances",
            "autoscaling:EnterStandby",
            "autoscaling:ExitStandby",
        )
    }
    example = (
        "uses: aws.asg_standby\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {agent: "${{ agent.id }}", instance: "${{ item.uid }}"}\n'
    )
    containing = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        wanted = {"replace": params.get("replace") is True}
        return tuple(replace(each, params={**each.params, **wanted}) for each in super().targets(params, agent))

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        if foreign := super().unwanted(params, account):
            return foreign
        if account.scaling.membership(params["instance"]) is None:
            evidence = {"instance": params["instance"]}
            return Done(Grade.CONFIG, evidence, nothing_held=f"{params['instance']} is in no Auto Scaling group")
        return None

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> list[str]:
        return list(account.scaling.membership(params["instance"]) or ("", ""))

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        group, lifecycle = self.state(params, account)
        if group and lifecycle not in _OUT:  # AWS refuses a second time
            account.scaling.enter_standby(group, params["instance"], replace=params["replace"])
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        group, lifecycle = self.state(params, account)
        return {"instance": params["instance"], "group": group, "lifecycle": lifecycle} if lifecycle in _OUT else None

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Sequence[str]) -> str:
        group, was = before
        if was not in _OUT and self.state(params, account)[1] in _OUT:
            account.scaling.exit_standby(group, params["instance"])
        now = self.state(params, account)[1]
        same = (now in _OUT) == (was in _OUT)
        return "" if same else f"AWS took the call, but {params['instance']} is {now or 'in no group'}, it was {was}"
