"""`aws.ecs_stop`: a service runs no tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_ecs import TaskSwitch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount, Tasks


class StopService(TaskSwitch):
    """Sets an ECS service of the agent to no tasks, and waits up to five minutes until none is running or pending. What
    the tasks held in memory is lost. Only a service whose tasks run as one of the agent's roles (`aws.roles` of
    agents.yaml) is stopped. Where Application Auto Scaling minds the service with a minimum above zero it starts tasks
    again: suspend that by hand. Credentials that were leaked stay good: aws.iam_revoke_sessions. Releasing restores
    the number of tasks. A daemon service has no number and is refused; a task without a service: aws.ecs_stop_task."""

    id = "aws.ecs_stop"
    params = (
        aws.AGENT,
        Param("service", doc="name of the service"),
        Param("cluster", required=False, default="default", doc="name of its cluster"),
        aws.CONNECTION,
    )
    outputs = ("cluster", "service", "running", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": ("ecs:DescribeServices", "ecs:DescribeTaskDefinition", "ecs:UpdateService")
    }
    example = (
        'uses: aws.ecs_stop\nwith: {agent: "${{ agent.id }}", cluster: agents, service: "${{ agent.id }}"}\n'
        "contains: true\n"
    )
    one = "service"
    gone = "it was deleted, or it is in another region or account (then name its connection)"
    ended: ClassVar[Mapping[str, Any]] = {"running": 0}

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        return self.target(params, agent, params.get("cluster") or "default", params["service"])

    def name(self, params: Mapping[str, Any]) -> str:
        return f"service {params['cluster']}/{params['service']}"

    def tasks(self, params: Mapping[str, Any], account: AwsAccount) -> Tasks | None:
        return account.containers.service(params["cluster"], params["service"])

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = self.tasks(params, account)
        if found and found.daemon:
            why = f"{self.name(params)} is a daemon service, which has no number of tasks"
            return Failed(False, f"{why}: isolate its instances, or delete the service by hand")
        return super().unwanted(params, account)

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> int | None:
        found = self.tasks(params, account)
        return found.desired if found else None

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        account.containers.set_desired(params["cluster"], params["service"], 0)
        return {}

    def restore(self, params: Mapping[str, Any], account: AwsAccount, before: int) -> str:
        if self.state(params, account) != before:
            account.containers.set_desired(params["cluster"], params["service"], before)
        same = self.state(params, account) == before
        return "" if same else f"AWS took the call, but {self.name(params)} does not want {before} tasks"
