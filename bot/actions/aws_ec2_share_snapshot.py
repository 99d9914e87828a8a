"""`aws.ec2_share_snapshot`: give the snapshots of an instance to those who look into it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Failed
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount

_INSTANCE = "firedoor:instance"  # aws.ec2_snapshot tags with it


class ShareSnapshot(Switch):
    """Shares the snapshots that aws.ec2_snapshot took of an instance with another account, the one where evidence is
    looked into, and locks them for `lock_days` if asked, so that nobody deletes them by mistake or on purpose
    (governance mode: who may unlock still can). Write the account into the playbook, never take it from an alert. AWS
    refuses to share what is encrypted with the account's default key: copy it under a key of your own first. It
    contains nothing. Releasing ends the sharing; a lock stays until it is over."""

    id = "aws.ec2_share_snapshot"
    params = (
        aws.INSTANCE,
        Param("account", doc="the twelve digits of the account to share with"),
        Param("lock_days", "integer", required=False, default=0, doc="days to lock them for; 0: no lock"),
        aws.CONNECTION,
    )
    outputs = ("instance", "snapshots", "shared_with", "locked", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "ec2:DescribeSnapshots",
            "ec2:DescribeSnapshotAttribute",
            "ec2:ModifySnapshotAttribute",
            "ec2:DescribeLockedSnapshots",
            "ec2:LockSnapshot",
        )
    }
    example = (
        "uses: aws.ec2_share_snapshot\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::EC2::Instance') }}\n"
        'with: {instance: "${{ item.uid }}", account: "210987654321"}\non_error: continue\n'
    )
    containing = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        target, other, days = aws.instance_target(params, agent), str(params["account"]), params.get("lock_days") or 0
        if not re.fullmatch(r"\d{12}", other):
            raise ValueError(f"{other!r} is no AWS account: give its twelve digits, in quotes")
        if not isinstance(days, int) or not 0 <= days <= 36500:
            raise ValueError(f"lock_days is {days!r}: it must be 0 (no lock) to 36500")
        concrete = {**target.params, "share_with": other, "lock_days": int(days)}
        return (replace(target, id=f"ec2-snapshots:{target.params['instance']}/{other}", params=concrete),)

    def name(self, params: Mapping[str, Any]) -> str:
        return f"the snapshots of {params['instance']}"

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Failed | None:
        if _taken(params, account):
            return None
        return Failed(False, f"there are no snapshots of {params['instance']}: take them first, with aws.ec2_snapshot")

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> dict[str, bool]:
        other = params["share_with"]
        return {each: other in account.ec2.snapshot_shares(each) for each in _taken(params, account)}

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        for each in _taken(params, account):
            account.ec2.share_snapshot(each, params["share_with"], True)
            if params["lock_days"]:
                account.ec2.lock_snapshot(each, params["lock_days"])
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        shared = self.state(params, account)
        locked = sum(account.ec2.snapshot_locked(each) for each in shared) if params["lock_days"] else 0
        if not shared or not all(shared.values()) or (params["lock_days"] and locked < len(shared)):
            return None
        return {
            "instance": params["instance"],
            "snapshots": sorted(shared),
            "shared_with": params["share_with"],
            "locked": locked,
        }

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: Mapping[str, bool]) -> str:
        other = params["share_with"]
        ours = [each for each, shared in before.items() if not shared]
        for each in ours:
            account.ec2.share_snapshot(each, other, False)
        wrong = [each for each in ours if other in account.ec2.snapshot_shares(each)]
        return f"AWS took the calls, but {', '.join(wrong)} is not shared as before" if wrong else ""


def _taken(params: Mapping[str, Any], account: AwsAccount) -> list[str]:
    return sorted(each.id for each in account.ec2.snapshots_tagged(_INSTANCE, params["instance"]))
