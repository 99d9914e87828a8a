"""What stopping a service of ECS and stopping a single task have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Target
from bot.ports import AwsAccount, Tasks


class TaskSwitch(Switch):
    """Tasks that are to be none."""

    patience = timedelta(minutes=5)
    one: ClassVar[str]  # the param that names it: service | task
    gone: ClassVar[str]  # what it may mean that the connection knows none

    @abstractmethod
    def tasks(self, params: Mapping[str, Any], account: AwsAccount) -> Tasks | None: ...

    def target(self, params: Mapping[str, Any], agent: Agent | None, cluster: str, name: str) -> tuple[Target, ...]:
        known = aws.identity(params, agent)
        if known is None or agent is None:
            return ()
        concrete = {
            "agent": agent.id,
            "connection": known.connection,
            "cluster": cluster,
            self.one: name,
            "roles": list(known.roles),
        }
        return (Target(f"ecs-{self.one}:{cluster}/{name}", concrete, known.connection),)

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Failed | None:
        if self.tasks(params, account):
            return None
        return Failed(False, f"connection {params['connection']} knows no {self.name(params)}: {self.gone}")

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = self.tasks(params, account)
        return aws.foreign_role(params, found.role if found else "", self.name(params))

    def seen(self, params: Mapping[str, Any], account: AwsAccount, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        found = self.tasks(params, account)
        if found is None or found.desired or found.live:
            return None
        return {"cluster": params["cluster"], self.one: params[self.one], **self.ended}

    ended: ClassVar[Mapping[str, Any]]  # what is read back then
