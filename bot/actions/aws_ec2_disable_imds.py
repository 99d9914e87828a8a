"""`aws.ec2_disable_imds`: an instance cannot ask for credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfInstance
from bot.ports import AwsAccount


class DisableImds(OfInstance):
    """Switches the metadata address of an instance of the agent off: no process on it can fetch credentials of its
    role any more, or anything else that is read there. Those fetched before stay good until they expire: end them with
    aws.iam_revoke_sessions, after this. Releasing switches it on again, if it was on."""

    id = "aws.ec2_disable_imds"
    params = (aws.AGENT, aws.INSTANCE, aws.CONNECTION)
    outputs = ("instance", "metadata", "issued", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": ("ec2:DescribeInstances", "ec2:DescribeNetworkInterfaces", "ec2:ModifyInstanceMetadataOptions")
    }
    example = (
        "uses: aws.ec2_disable_imds\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {agent: "${{ agent.id }}", instance: "${{ item.uid }}"}\ncontains: true\n'
    )

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> bool:
        return account.ec2.metadata(params["instance"])[0]

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.ec2.set_metadata(params["instance"], False)
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        if account.ec2.metadata(params["instance"]) != (False, True):
            return None
        return {"instance": params["instance"], "metadata": "disabled", "issued": "may live on until they expire"}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: bool) -> str:
        if self.state(params, account) != before:
            account.ec2.set_metadata(params["instance"], before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but the metadata address of {params['instance']} is not as it was"
