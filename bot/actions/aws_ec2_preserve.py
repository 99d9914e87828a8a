"""`aws.ec2_preserve`: keep an instance from being ended, by the agent or by a helping hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfInstance
from bot.ports import AwsAccount

_KEPT = (True, "stop")


class Preserve(OfInstance):
    """Protects an instance of the agent from termination, and makes its own shutdown stop it and not end it, so that
    its disks are there when somebody looks. It contains nothing. Auto Scaling ends instances all the same: take it out
    of its group first (aws.asg_standby); so does AWS with a spot instance. Releasing restores both settings."""

    id = "aws.ec2_preserve"
    params = (aws.AGENT, aws.INSTANCE, aws.CONNECTION)
    outputs = ("instance", "termination", "shutdown", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "ec2:DescribeInstances",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeInstanceAttribute",
            "ec2:ModifyInstanceAttribute",
        )
    }
    example = (
        "uses: aws.ec2_preserve\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {agent: "${{ agent.id }}", instance: "${{ item.uid }}"}\non_error: continue\n'
    )
    containing = False

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> list[Any]:
        return list(account.ec2.preservation(params["instance"]))

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.ec2.set_preservation(params["instance"], *_KEPT)
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        if account.ec2.preservation(params["instance"]) != _KEPT:
            return None
        return {"instance": params["instance"], "termination": "refused", "shutdown": "stop"}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Sequence[Any]) -> str:
        protected, shutdown = before
        if self.state(params, account) != [protected, shutdown]:
            account.ec2.set_preservation(params["instance"], protected, shutdown)
        same = self.state(params, account) == [protected, shutdown]
        return "" if same else f"AWS took the calls, but the settings of {params['instance']} are not as they were"
