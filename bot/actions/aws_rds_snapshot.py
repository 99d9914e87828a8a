"""`aws.rds_snapshot`: keep what is in a database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from bot.actions import Action, aws
from bot.domain.agent import Agent
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import Param, Target
from bot.ports import DatabaseSnapshot, Ports

_OURS = "firedoor-"
_POLL = timedelta(seconds=30)


class TakeDatabaseSnapshot(Action):
    """Takes a snapshot of an RDS database, tagged with the incident, and waits until it is complete. Taken twice it is
    still one: its name is made of the incident's step. It contains nothing and is not undone: delete it when the case
    is closed. On a database in one availability zone it may hold writes up for a moment. A member of an Aurora cluster
    is refused, because there the cluster has the snapshots. It harms no database, so it is not bound to the agent."""

    id = "aws.rds_snapshot"
    params = (Param("database", doc="identifier of the DB instance, or its ARN"), aws.CONNECTION)
    outputs = ("database", "snapshot", "arn")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aws": (
            "rds:DescribeDBInstances",
            "rds:DescribeDBSnapshots",
            "rds:CreateDBSnapshot",
            "rds:AddTagsToResource",
        )
    }
    example = (
        "uses: aws.rds_snapshot\n"
        "with: {database: agents-memory}\nirreversible: true\ntimeout: 60m\non_error: continue\n"
    )
    containing = False
    best_grade = Grade.CONFIG
    undoable = False

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        named = str(params.get("database", ""))
        found = re.fullmatch(r"(?:arn:[\w-]+:rds:[\w-]+:\d{12}:db:)?([A-Za-z][A-Za-z0-9-]{0,62})", named)
        if not found:
            raise ValueError(f"{named!r} is no RDS database: give its identifier or its ARN")
        connection = params.get("connection") or (agent.aws.connection if agent and agent.aws else "aws")
        return (Target(f"rds-database:{found[1]}", {"database": found[1], "connection": connection}, connection),)

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        rds, id, now = aws.account(params, ports).databases, params["database"], ports.clock.now()
        incident = key.split("/")[1] if key.count("/") == 2 else "incident"
        clean = re.sub(r"[^a-z0-9]+", "-", incident.lower()).strip("-")
        wanted = f"{_OURS}{clean}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        taken = next((each for each in rds.snapshots(id) if each.id == wanted), None)
        if taken is None:
            database = rds.database(id)
            if database is None:
                why = (
                    f"connection {params['connection']} knows no database {id}: name its own connection, or it is gone"
                )
                return Failed(False, why)
            if database.cluster:
                why = f"{id} belongs to the cluster {database.cluster}: take the cluster's snapshot by hand"
                return Failed(False, why)
            rds.take_snapshot(id, wanted, {"firedoor:incident": incident, "firedoor:decision": key})
            return Pending(now + _POLL, so_far or {}, f"snapshot {wanted} of {id} under way")
        if taken.status == "failed":
            return Failed(False, f"AWS could not complete {wanted} of {id}: take one by hand")
        if taken.status != "available":
            return Pending(now + _POLL, so_far or {}, f"snapshot {wanted} of {id} under way")
        return Done(Grade.CONFIG, _evidence(id, taken))

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """Any complete one of ours, whichever incident took it."""
        for each in aws.account(params, ports).databases.snapshots(params["database"]):
            if each.id.startswith(_OURS) and each.status == "available":
                return Done(Grade.CONFIG, _evidence(params["database"], each))
        return None


def _evidence(database: str, taken: DatabaseSnapshot) -> dict[str, Any]:
    return {"database": database, "snapshot": taken.id, "arn": taken.arn}
