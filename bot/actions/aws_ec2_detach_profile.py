"""`aws.ec2_detach_profile`: an instance gets no more credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfInstance
from bot.ports import AwsAccount


class DetachProfile(OfInstance):
    """Detaches the instance profile from an instance of the agent: it gets no new credentials of its role. Those that
    it has already stay good until they expire, wherever they are by now: end them with aws.iam_revoke_sessions, after
    this. Releasing attaches the profile again; where somebody attached another one meanwhile, that is left and said.
    An agent whose instance is known by its profile alone is not recognised by it afterwards: isolate it first."""

    id = "aws.ec2_detach_profile"
    params = (aws.AGENT, aws.INSTANCE, aws.CONNECTION)
    outputs = ("instance", "profile", "issued", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "ec2:DescribeInstances",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeIamInstanceProfileAssociations",
            "ec2:DisassociateIamInstanceProfile",
            "ec2:AssociateIamInstanceProfile",
            "iam:PassRole",
        )
    }
    example = (
        "uses: aws.ec2_detach_profile\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {agent: "${{ agent.id }}", instance: "${{ item.uid }}"}\ncontains: true\n'
    )

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> str:
        return account.ec2.profile(params["instance"])

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.ec2.set_profile(params["instance"], "")
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        if self.state(params, account):
            return None
        return {"instance": params["instance"], "profile": "none", "issued": "may live on until they expire"}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: str) -> str:
        instance, held = params["instance"], self.state(params, account)
        if held == before:
            return ""
        if held:
            return f"somebody attached {held} to {instance} meanwhile: it was left, put {before or 'none'} back by hand"
        account.ec2.set_profile(instance, before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but {instance} does not have {before} back"
