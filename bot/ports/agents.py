"""The agents' side: their gateways, configured HTTP connections, and who is enrolled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bot.domain.agent import Agent, Mode


@dataclass(frozen=True, slots=True)
class InstanceMode:
    instance: str
    epoch: int
    mode: Mode
    last_effect_seq: int = 0


@dataclass(frozen=True, slots=True)
class GatewayState:
    mode: Mode
    epoch: int
    nonce: str
    instances: tuple[InstanceMode, ...] = ()


class Gateway(Protocol):
    """The signed HTTP contract of semantics.md (an agent's side)."""

    def set_mode(
        self, agent: str, mode: Mode, epoch: int, nonce: str, incident: str, not_after: datetime | None
    ) -> GatewayState:
        """An older epoch raises Rejected(retryable=True) whose text names the gateway's current epoch."""

    def canary(self, agent: str, nonce: str, effect: str) -> bool:
        """True when the gateway refused the harmless side effect; False when it let it pass."""

    def state(self, agent: str) -> GatewayState | None: ...

    def activity(self, agent: str, limit: int = 1000) -> tuple[Mapping[str, Any], ...]:
        """The agent's interaction log as the gateway kept it, oldest first (GET /v1/agents/{id}/activity)."""


class Switchboard(Protocol):
    """Our own agents' API: what is ordered of an agent's enrolled instances, and what they say that they do."""

    def order(self, agent: str, mode: Mode, epoch: int, nonce: str, incident: str) -> None:
        """Durable when it returns. The same epoch and nonce again changes nothing; an older epoch, or the same with
        another nonce, raises Rejected(retryable=True) whose text names the current one."""

    def acks(self, agent: str) -> GatewayState | None:
        """What is ordered, and what each enrolled instance last acknowledged: its word, and no proof. None where no
        instance is enrolled."""


class Endpoint(Protocol):
    """A configured HTTP connection (`http.call`): base URL and credential are the operator's, never an alert's."""

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, key: str, timeout: float
    ) -> tuple[int, Mapping[str, Any]]:
        """Sends `Idempotency-Key: key`; follows no redirect; answers (status, JSON body or {})."""


class Directory(Protocol):
    """The agents as they are configured right now (live, law 8)."""

    def agent(self, agent_id: str) -> Agent | None: ...

    def by_actor(self, actors: Sequence[str]) -> Agent | None:
        """The agent that one of these identifiers belongs to; None when none or more than one."""

    def protected(self, target: str) -> str:
        """Why this target (an ARN, entity id, instance id, agent id) must not be touched, or ''."""

    def count(self, kind: str) -> int:
        """How many enrolled targets of a kind (`agent`, `iam-role`, ...) there are: the base of targets_percent."""
