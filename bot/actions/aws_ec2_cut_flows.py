"""`aws.ec2_cut_flows`: end the connections that are open already, of a whole subnet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import OfInstance
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount


class CutFlows(OfInstance):
    """Gives every subnet that an instance of the agent has an interface in a network ACL that lets nothing through:
    connections end at once, those that are open already too, which aws.ec2_isolate alone cannot do. EVERYTHING else in
    the subnet is cut off with it: `interfaces` says how many. It is refused, with that number, unless `whole_subnet`
    says that this is meant. Traffic inside one subnet does not pass its ACL and goes on: isolate the instance as well.
    Releasing gives each subnet its ACL back; where somebody chose another meanwhile, that is left and said."""

    id = "aws.ec2_cut_flows"
    params = (
        aws.AGENT,
        aws.INSTANCE,
        Param("whole_subnet", "boolean", required=False, default=False, doc="yes, everything in the subnet is cut off"),
        aws.CONNECTION,
    )
    outputs = ("instance", "subnets", "interfaces", "acl", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "ec2:DescribeInstances",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeNetworkAcls",
            "ec2:CreateNetworkAcl",
            "ec2:CreateTags",
            "ec2:DeleteNetworkAclEntry",
            "ec2:ReplaceNetworkAclAssociation",
        )
    }
    example = (
        "uses: aws.ec2_cut_flows\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {agent: "${{ agent.id }}", instance: "${{ item.uid }}", whole_subnet: true}\ncontains: true\n'
        "approval: {each: {security_team: 1, infra_owner: 1}}\n"
    )

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        meant = params.get("whole_subnet") is True
        return tuple(
            replace(each, params={**each.params, "whole_subnet": meant}) for each in super().targets(params, agent)
        )

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        if foreign := super().unwanted(params, account):
            return foreign
        if params["whole_subnet"]:
            return None
        hit = {subnet: account.ec2.subnet_interfaces(subnet) for subnet in self.state(params, account)}
        held = len(self.instance(params, account).interfaces)
        said = ", ".join(f"{subnet} ({count} interfaces)" for subnet, count in hit.items())
        return Failed(
            False,
            f"this cuts off all of {said}, of which {params['instance']} has {held}: say whole_subnet: true if that is "
            "meant, or use aws.ec2_isolate, which spares the others and lets open connections go on",
        )

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> dict[str, str]:
        return dict(account.ec2.network_acls(params["instance"]))

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        closed = account.ec2.closed_acl(self.instance(params, account).vpc)
        for subnet in self.state(params, account):
            account.ec2.set_network_acl(subnet, closed)
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        held = self.state(params, account)
        acls = sorted(set(held.values()))
        if not held or any(account.ec2.acl_rules(acl) != 0 for acl in acls):
            return None
        cut = sum(account.ec2.subnet_interfaces(subnet) for subnet in held)
        return {"instance": params["instance"], "subnets": sorted(held), "interfaces": cut, "acl": ", ".join(acls)}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Mapping[str, str]) -> str:
        held = self.state(params, account)
        closed = account.ec2.closed_acl(self.instance(params, account).vpc)
        others = [subnet for subnet, acl in before.items() if held.get(subnet, acl) not in (acl, closed)]
        for subnet, acl in before.items():
            if subnet not in others:
                account.ec2.set_network_acl(subnet, acl)
        if others:
            return f"somebody gave {', '.join(others)} another network ACL meanwhile: left, put back by hand"
        after = self.state(params, account)
        wrong = [subnet for subnet, acl in before.items() if after.get(subnet, acl) != acl]
        return f"AWS took the calls, but {', '.join(wrong)} does not have its ACL back" if wrong else ""
