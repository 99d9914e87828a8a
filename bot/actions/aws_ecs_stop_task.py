"""`aws.ecs_stop_task`: end one task that no service minds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import aws
from bot.actions.aws_switch import Switch
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed
from bot.domain.playbook import Param, Target
from bot.ports import AwsAccount


class StopTask(Switch):
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
    patience = timedelta(minutes=5)

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        known, named = aws.identity(params, agent), str(params.get("task", ""))
        found = re.fullmatch(r"(?:arn:[\w-]+:ecs:[\w-]+:\d{12}:task/(?:([\w-]+)/)?)?([\w-]+)", named)
        if not found:
            raise ValueError(f"{named!r} is no ECS task: give its id or its ARN")
        if known is None or agent is None:
            return ()
        cluster = found[1] or params.get("cluster") or "default"
        concrete = {
            "agent": agent.id,
            "connection": known.connection,
            "cluster": cluster,
            "task": found[2],
            "roles": list(known.roles),
        }
        return (Target(f"ecs-task:{cluster}/{found[2]}", concrete, known.connection),)

    def name(self, params: Mapping[str, Any]) -> str:
        return f"task {params['cluster']}/{params['task']}"

    def absent(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        if account.containers.task(params["cluster"], params["task"]):
            return None
        return Failed(
            False,
            f"connection {params['connection']} knows no {self.name(params)}: it ended over an hour ago, or it is in "
            "another cluster, region or account",
        )

    def unwanted(self, params: Mapping[str, Any], account: AwsAccount) -> Done | Failed | None:
        found = account.containers.task(params["cluster"], params["task"])
        return aws.foreign_role(params, found.role if found else "", self.name(params))

    def state(self, params: Mapping[str, Any], account: AwsAccount) -> int:
        found = account.containers.task(params["cluster"], params["task"])
        return found.desired if found else 0

    def change(self, params: Mapping[str, Any], account: AwsAccount, key: str) -> Mapping[str, Any]:
        if self.state(params, account):
            account.containers.stop_task(params["cluster"], params["task"], f"Firedoor {key}"[:255])
        return {}

    def seen(
        self,
        params: Mapping[str, Any],
        account: AwsAccount,
        kept: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        found = account.containers.task(params["cluster"], params["task"])
        if found is None or found.desired or found.live:
            return None
        return {"cluster": params["cluster"], "task": params["task"], "status": "STOPPED"}
