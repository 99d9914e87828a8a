"""RDS, Lambda, ECS, Secrets Manager and Organizations of the simulated account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from bot.ports import ControlPolicy, Database, DatabaseSnapshot, Function, Tasks
from bot.sandbox.aws_core import AwsCore

Document = Mapping[str, Any]


class SimDatabases:
    """ports.Databases. A snapshot takes half a minute."""

    def __init__(self, estate: AwsCore) -> None:
        self._estate = estate
        self.databases: dict[str, Database] = {}
        self._taken: dict[str, tuple[str, datetime]] = {}  # snapshot -> (database, begun)

    def add(self, id: str, *, cluster: str = "") -> None:
        self.databases[id] = Database(id, "available", cluster)

    def database(self, id: str) -> Database | None:
        with self._estate.call("database"):
            return self.databases.get(id)

    def snapshots(self, database: str) -> tuple[DatabaseSnapshot, ...]:
        with self._estate.call("snapshots"):
            ready = self._estate.clock.now() - timedelta(seconds=30)
            where = f"arn:aws:rds:{self._estate.region}:{self._estate.id}:snapshot"
            return tuple(
                DatabaseSnapshot(id, "available" if begun <= ready else "creating", f"{where}:{id}")
                for id, (of, begun) in self._taken.items()
                if of == database
            )

    def take_snapshot(self, database: str, snapshot: str, tags: Mapping[str, str]) -> None:  # noqa: ARG002 - the port's
        with self._estate.call("take_snapshot"):
            if database not in self.databases:
                raise self._estate.refusal(f"no database {database} (DBInstanceNotFound)")
            self._taken.setdefault(snapshot, (database, self._estate.clock.now()))


class SimFunctions:
    """ports.Functions."""

    def __init__(self, estate: AwsCore) -> None:
        self._estate = estate
        self.functions: dict[str, Function] = {}
        self._reserved: dict[str, int | None] = {}

    def add(self, name: str, role: str) -> None:
        arn = f"arn:aws:lambda:{self._estate.region}:{self._estate.id}:function:{name}"
        self.functions[name] = Function(arn, role, 3)

    def runs(self, name: str) -> bool:
        """Whether an invocation would be let through."""
        return name in self.functions and self._reserved.get(name) != 0

    def function(self, name: str) -> Function | None:
        with self._estate.call("function"):
            return self.functions.get(name)

    def concurrency(self, name: str) -> int | None:
        with self._estate.call("concurrency"):
            return self._reserved.get(name)

    def set_concurrency(self, name: str, reserved: int | None) -> None:
        with self._estate.call("set_concurrency"):
            if name not in self.functions:
                raise self._estate.refusal(f"no function {name} (ResourceNotFoundException)")
            self._reserved[name] = reserved


@dataclass(frozen=True, slots=True)
class _Stopping:
    tasks: Tasks
    since: datetime


class SimContainers:
    """ports.Containers. What is to stop takes half a minute."""

    def __init__(self, estate: AwsCore) -> None:
        self._estate = estate
        self.services: dict[tuple[str, str], _Stopping] = {}
        self.tasks: dict[tuple[str, str], _Stopping] = {}

    def add_service(self, cluster: str, service: str, role: str, *, desired: int = 2, daemon: bool = False) -> None:
        made = Tasks(desired, desired, role, daemon)
        self.services[cluster, service] = _Stopping(made, self._estate.clock.now())

    def add_task(self, cluster: str, role: str) -> str:
        id = self._estate.new("task-")
        self.tasks[cluster, id] = _Stopping(Tasks(1, 1, role), self._estate.clock.now())
        return id

    def service(self, cluster: str, service: str) -> Tasks | None:
        with self._estate.call("service"):
            return self._now(self.services.get((cluster, service)))

    def set_desired(self, cluster: str, service: str, desired: int) -> None:
        with self._estate.call("set_desired"):
            self._ask(self.services, (cluster, service), desired)

    def task(self, cluster: str, task: str) -> Tasks | None:
        with self._estate.call("task"):
            return self._now(self.tasks.get((cluster, task)))

    def stop_task(self, cluster: str, task: str, reason: str) -> None:  # noqa: ARG002 - the port's
        with self._estate.call("stop_task"):
            self._ask(self.tasks, (cluster, task), 0)

    def _ask(self, among: dict[tuple[str, str], _Stopping], name: tuple[str, str], desired: int) -> None:
        held = self._now(among.get(name))
        if held is None:
            raise self._estate.refusal(f"{name[1]} is not in {name[0]} (ServiceNotFoundException)")
        if desired != held.desired:
            among[name] = _Stopping(replace(held, desired=desired), self._estate.clock.now())

    def _now(self, held: _Stopping | None) -> Tasks | None:
        if held is None or self._estate.clock.now() - held.since < timedelta(seconds=30):
            return held.tasks if held else None
        return replace(held.tasks, live=held.tasks.desired)


class SimSecrets:
    """ports.Secrets."""

    def __init__(self, estate: AwsCore) -> None:
        self._estate = estate
        self.policies: dict[str, Document] = {}  # by ARN

    def add(self, name: str) -> str:
        arn = f"arn:aws:secretsmanager:{self._estate.region}:{self._estate.id}:secret:{name}-AbCdEf"
        self.policies[arn] = {}
        return arn

    def policy(self, secret: str) -> Document | None:
        with self._estate.call("policy"):
            return self.policies.get(secret)

    def set_policy(self, secret: str, document: Document) -> None:
        with self._estate.call("set_policy"):
            if secret not in self.policies:
                raise self._estate.refusal(f"no secret {secret} (ResourceNotFoundException)")
            self.policies[secret] = json.loads(json.dumps(document))


class SimOrganization:
    """ports.Organization. The account is a member; `management` manages it, and is not reached by its policies."""

    def __init__(self, estate: AwsCore) -> None:
        self._estate = estate
        self.management = "999999999999"
        self._policies: dict[str, ControlPolicy] = {}

    def reaching(self, account: str) -> tuple[Document, ...]:
        if account == self.management:
            return ()
        return tuple(each.document for each in self._policies.values() if account in each.targets)

    def management_account(self) -> str:
        with self._estate.call("management_account"):
            return self.management

    def policy(self, name: str) -> ControlPolicy | None:
        with self._estate.call("policy"):
            return self._policies.get(name)

    def put_policy(self, name: str, document: Document) -> str:
        with self._estate.call("put_policy"):
            held = self._policies.get(name) or ControlPolicy(self._estate.new("p-"), {}, ())
            self._policies[name] = replace(held, document=json.loads(json.dumps(document)))
            return held.id

    def attach(self, policy: str, target: str) -> None:
        with self._estate.call("attach"):
            name, held = self._named(policy)
            self._policies[name] = replace(held, targets=tuple({*held.targets, target}))

    def detach(self, policy: str, target: str) -> None:
        with self._estate.call("detach"):
            name, held = self._named(policy)
            self._policies[name] = replace(held, targets=tuple({*held.targets} - {target}))

    def delete(self, policy: str) -> None:
        with self._estate.call("delete"):
            name, held = self._named(policy)
            if held.targets:
                raise self._estate.refusal(f"{policy} is attached (PolicyInUseException)")
            del self._policies[name]

    def _named(self, policy: str) -> tuple[str, ControlPolicy]:
        for name, held in self._policies.items():
            if held.id == policy:
                return name, held
        raise self._estate.refusal(f"no policy {policy} (PolicyNotFoundException)")
