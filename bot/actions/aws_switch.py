"""What the `aws.*` actions of the usual shape share: the account, the protected names, and who the thing belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from bot.actions import aws, switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade
from bot.domain.playbook import Target
from bot.errors import Rejected
from bot.ports import AwsAccount, Instance, Ports, Role


class Switch(switch.Switch[AwsAccount]):
    """Of one AWS account."""

    named = ("agent", "role", "user", "instance")
    spreads: ClassVar[bool] = False  # IAM: it takes up to five minutes to hold everywhere

    def system(self, params: Mapping[str, Any], ports: Ports) -> AwsAccount:
        return aws.account(params, ports)

    def besides(self, now: datetime) -> Mapping[str, Any]:
        return {"alive_until": f"{now + aws.PROPAGATION:%Y-%m-%dT%H:%M:%SZ}"} if self.spreads else {}


class OfRole(Switch):
    """Acts on each of the agent's roles."""

    spreads = True

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        return tuple(aws.role_targets(known, agent.id)) if known and agent else ()

    def name(self, params: Mapping[str, Any]) -> str:
        return aws.role_name(params["role"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = aws.find_role(params["role"], account)
        return None if isinstance(found, Role) else found


class OfUser(Switch):
    """Acts on each of the agent's IAM users."""

    spreads = True

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        if known is None or agent is None:
            return ()
        shared = {"agent": agent.id, "connection": known.connection}
        return tuple(
            Target(f"iam-user:{known.account}:user/{user}", {**shared, "user": user}, known.connection)
            for user in dict.fromkeys(known.users)
        )

    def name(self, params: Mapping[str, Any]) -> str:
        return str(params["user"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | None:
        if account.iam.list_access_keys(params["user"]) is not None:
            return None
        gone = f"there is no user {params['user']}: it was deleted"
        return Done(Grade.CONFIG, {"user": params["user"]}, nothing_held=gone)


class OfInstance(Switch):
    """Acts on one instance of the agent."""

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        return (aws.own_instance_target(params, agent),)

    def name(self, params: Mapping[str, Any]) -> str:
        return str(params["instance"])

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = aws.find_instance(params, account)
        return None if isinstance(found, Instance) else found

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        return aws.foreign(params, self.instance(params, account))

    def instance(self, params: Mapping[str, Any], account: AwsAccount) -> Instance:
        """Once `absent` said that it is there."""
        found = account.ec2.instance(params["instance"])
        if found is None:
            raise Rejected(params["connection"], f"{params['instance']} was there, and is not any more", retryable=True)
        return found
