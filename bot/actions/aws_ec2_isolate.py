"""`aws.ec2_isolate`: take an instance off the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.actions.switch import protected, settled
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped
from bot.domain.playbook import Target
from bot.errors import Denied, Rejected
from bot.ports import AwsAccount, Instance, Ports

_EFFECT = "new flows blocked; tracked connections may live on"


class Isolate(Action):
    """Puts every network interface of an instance into a security group without rules, so that no new flow goes in or
    out. Connections that are open already may live on (AWS tracks them): cutting those takes a network ACL, which hits
    the whole subnet, or stopping the instance. The instance keeps its role's credentials: end them with
    aws.iam_revoke_sessions. Releasing gives each interface its groups back.

    Only an instance of the agent is isolated, whatever an alert names: agents.yaml lists its id (`aws.instances`), or
    it has all of `aws.instance_tags`, or its instance profile is one of `aws.instance_profiles`. Any other is refused
    before anything is changed."""

    id = "aws.ec2_isolate"
    params = (aws.AGENT, aws.INSTANCE, aws.CONNECTION)
    outputs = ("instance", "interfaces", "group", "effect", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "ec2:DescribeInstances",
            "ec2:DescribeNetworkInterfaces",
            "ec2:ModifyNetworkInterfaceAttribute",
            "ec2:DescribeSecurityGroups",
            "ec2:CreateSecurityGroup",
            "ec2:CreateTags",
            "ec2:RevokeSecurityGroupIngress",
            "ec2:RevokeSecurityGroupEgress",
        )
    }
    example = (
        "uses: aws.ec2_isolate\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {agent: "${{ agent.id }}", instance: "${{ item.uid }}"}\ncontains: true\n'
    )
    containing = True
    best_grade = Grade.CONFIG

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        return (aws.own_instance_target(params, agent),)

    def run(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        key: str,
        so_far: Mapping[str, Any] | None = None,
    ) -> Outcome:
        if why := protected(ports, f"ec2-instance:{params['instance']}"):
            return Skipped(why)
        account, now = aws.account(params, ports), ports.clock.now()
        instance = aws.find_instance(params, account)
        if not isinstance(instance, Instance):
            return instance
        if so_far is None and (foreign := aws.foreign(params, instance)):
            return foreign
        saved = (so_far or {}).get("groups", {})
        if so_far is None or instance.interfaces.keys() - saved.keys():  # one may have been attached meanwhile
            groups = {each: list(held) for each, held in instance.interfaces.items()} | saved
            return Pending(now, {**(so_far or {}), "groups": groups}, f"saved the groups of {len(groups)} interfaces")
        quarantine = account.ec2.quarantine_group(instance.vpc)
        refused = _swap(account, instance, dict.fromkeys(instance.interfaces, (quarantine,)))
        seen = _read(params["instance"], account)
        if refused and seen is None and not _moved(account, instance.id, quarantine):
            raise refused[0]  # nothing changed, so nothing has to be remembered for a release
        why = "; ".join(map(str, refused)) or f"the interfaces of {instance.id} do not read as isolated"
        return settled(seen, now, so_far, {"groups": saved}, f"ec2-instance:{instance.id}", why)

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        return _read(params["instance"], aws.account(params, ports))

    def undo(
        self,
        params: Mapping[str, Any],
        ports: Ports,
        *,
        undo: Mapping[str, Any],
        key: str,
    ) -> Outcome:
        account = aws.account(params, ports)
        instance = aws.find_instance(params, account)
        if not isinstance(instance, Instance):
            return instance
        wanted = {each: tuple(undo["groups"][each]) for each in instance.interfaces if each in undo["groups"]}
        if refused := _swap(account, instance, wanted):
            raise refused[0]
        after = account.ec2.instance(instance.id)
        held = after.interfaces if after else {}
        if wrong := [each for each, groups in wanted.items() if set(held.get(each, ())) != set(groups)]:
            return Failed(True, f"AWS took the calls, but {', '.join(wrong)} does not have its groups back")
        return Done(Grade.CONFIG, {"instance": instance.id, "restored": sorted(wanted)})


def _swap(account: AwsAccount, instance: Instance, wanted: Mapping[str, tuple[str, ...]]) -> list[Denied | Rejected]:
    """One refusal does not spare the other interfaces."""
    refused: list[Denied | Rejected] = []
    for interface, groups in wanted.items():
        if instance.interfaces[interface] != groups:
            try:
                account.ec2.set_interface_groups(interface, groups)
            except (Denied, Rejected) as failure:
                refused.append(failure)
    return refused


def _read(instance_id: str, account: AwsAccount) -> Done | None:
    """Every interface in one and the same group, and that one without rules."""
    instance = account.ec2.instance(instance_id)
    if instance is None:
        return None
    if instance.state == "terminated":
        return Done(Grade.CONFIG, {"instance": instance_id, "interfaces": [], "effect": "terminated"})
    groups = set(instance.interfaces.values())
    if len(groups) != 1 or len(held := next(iter(groups))) != 1 or account.ec2.group_rules(held[0]) != (0, 0):
        return None
    evidence = {"instance": instance_id, "interfaces": sorted(instance.interfaces), "group": held[0], "effect": _EFFECT}
    return Done(Grade.CONFIG, evidence)


def _moved(account: AwsAccount, instance_id: str, quarantine: str) -> bool:
    instance = account.ec2.instance(instance_id)
    return instance is not None and (quarantine,) in instance.interfaces.values()
