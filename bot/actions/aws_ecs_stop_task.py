"""`aws.ecs_stop_task`: end one task that no service minds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_ecs import TaskSwitch
from bot.domain.agent import Agent
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount, Tasks


class StopTask(TaskSwitch):
    """Stops one ECS task of the agent, and waits up to five minutes until it has ended. What it held in memory is lost,
    and it cannot be undone: AWS starts no stopped task again. A service starts another in its place: for that there is
    aws.ecs_stop. Only a task that runs as one of the agent's roles (`aws.roles` of agents.yaml) is stopped."""

    id = "aws.ecs_stop_task"
    params = (
        aws.AGENT,
        Param("task", doc="id of the task, or its ARN"),
        Param("cluster", required=False, default="default", doc="name of its cluster; its ARN names it"),
        aws.CONNECTION,
    )
    outputs = ("cluster", "task", "status", "target", "why")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": ("ecs:DescribeTasks", "ecs:DescribeTaskDefinition", "ecs:StopTask")
    }
    example = (
        "uses: aws.ecs_stop_task\n"
        "foreach: ${{ alert.resources | selectattr('type', 'eq', 'AWS::ECS::Task') }}\n"
        'with: {agent: "${{ agent.id }}", task: "${{ item.uid }}"}\ncontains: true\nirreversible: true\n'
    )
    undoable = False
    one = "task"
    gone = "it ended over an hour ago, or it is in another cluster, region or account"
    ended: ClassVar[Mapping[str, Any]] = {"status": "STOPPED"}

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        named = str(params.get("task", ""))
        found = re.fullmatch(r"(?:arn:[\w-]+:ecs:[\w-]+:\d{12}:task/(?:([\w-]+)/)?)?([\w-]+)", named)
        if not found:
            raise ValueError(f"{named!r} is no ECS task: give its id or its ARN")
        return self.target(params, agent, found[1] or params.get("cluster") or "default", found[2])

    def name(self, params: Mapping[str, Any]) -> str:
        return f"task {params['cluster']}/{params['task']}"

    def tasks(self, params: Mapping[str, Any], account: AwsAccount) -> Tasks | None:
        return account.containers.task(params["cluster"], params["task"])

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> int:
        found = self.tasks(params, account)
        return found.desired if found else 0

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        if self.state(params, account):
            account.containers.stop_task(params["cluster"], params["task"], f"Firedoor {key}"[:255])
        return {}
