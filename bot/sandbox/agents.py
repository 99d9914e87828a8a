"""Simulated agents behind a simulated gateway: they work, they try side effects, and some of them lie."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from bot.domain.agent import Mode
from bot.errors import Rejected, Unavailable
from bot.ports import Clock, GatewayState, InstanceMode
from bot.sandbox.aws import Session, SimAws
from bot.sandbox.faults import Faults


@dataclass(slots=True)
class SimAgent:
    """One agent as one gateway knows it. `lying`: it acknowledges every mode while its side effects still pass.
    `silent` instances never acknowledge. `slow` seconds go by before a new mode is in force."""

    id: str
    instances: dict[str, InstanceMode]
    mode: Mode = Mode.ACTIVE
    epoch: int = 0
    nonce: str = ""
    lying: bool = False
    silent: set[str] = field(default_factory=set)
    slow: float = 0.0
    effects: list[str] = field(default_factory=list)  # side effects that passed
    activity: list[dict[str, Any]] = field(default_factory=list)
    waiting: tuple[datetime, Mode, int, str] | None = None  # a mode ordered, in force from that time on

    def refuses(self) -> bool:
        """In advisory mode too: a side effect then needs a person, and nobody asked one."""
        return self.mode > Mode.ACTIVE and not self.lying


@dataclass(slots=True)
class Rogue:
    """An agent that fights back: it keeps every credential that it ever got, and gets itself more of them. `held` are
    sessions and the ids of long-term keys, the oldest first."""

    id: str
    aws: SimAws
    held: list[Session | str] = field(default_factory=list)

    def reassume(self, role: str) -> Session | None:
        """Its own role again, from the service that runs it: what a new container does. None where it is refused."""
        return self._assume(role, None)

    def chain(self, role: str, *, by: Session | str | None = None) -> Session | None:
        """Another role, with `by` (the newest that it holds). None where it is refused."""
        return self._assume(role, by or self.held[-1]) if self.held else None

    def act(self, action: str = "s3:GetObject") -> list[Session | str]:
        """Tries it with everything it holds: with which of them it got through."""
        return [credential for credential in self.held if self.aws.attempt(credential, action)]

    def _assume(self, role: str, by: Session | str | None) -> Session | None:
        try:
            session = self.aws.assume(role, self.id, by=by)
        except Rejected:
            return None
        self.held.append(session)
        return session


class SimGateway:
    """ports.Gateway in memory. `hung`: every call gets no answer."""

    def __init__(self, name: str, clock: Clock, faults: Faults | None = None) -> None:
        self.name, self.faults, self.hung = name, faults or Faults(), False
        self.canaries: list[tuple[str, str]] = []  # (agent, effect)
        self._clock = clock
        self._agents: dict[str, SimAgent] = {}
        self._lock = threading.RLock()

    # What happens on the agents' side.

    def enroll(self, agent: str, *instances: str) -> SimAgent:
        """A new active agent with these instances (one, named `1`, by default)."""
        modes = {name: InstanceMode(name, 0, Mode.ACTIVE) for name in instances or ("1",)}
        self._agents[agent] = SimAgent(agent, modes)
        return self._agents[agent]

    def agent(self, agent: str) -> SimAgent:
        """The agent as it is now. KeyError for an unknown one."""
        with self._lock:
            found = self._agents[agent]
            if found.waiting and found.waiting[0] <= self._clock.now():
                _, found.mode, found.epoch, found.nonce = found.waiting
                found.waiting = None
                _acknowledge(found)
            return found

    def attempt_effect(self, agent: str, effect: str, *, instance: str = "1") -> bool:
        """The agent calls a tool with a side effect: True when it passed, False when the gateway refused it."""
        with self._lock:
            found = self.agent(agent)
            refused = found.refuses()
            self.record(agent, "tool_call", tool=effect, refused=refused)
            if not refused:
                found.effects.append(effect)
                if was := found.instances.get(instance):
                    found.instances[instance] = replace(was, last_effect_seq=was.last_effect_seq + 1)
            return not refused

    def record(self, agent: str, kind: str, **what: Any) -> None:
        """Adds to the interaction log: a `prompt`, a `tool_call`, an `answer`."""
        with self._lock:
            log = self.agent(agent).activity
            log.append({"seq": len(log) + 1, "at": self._clock.now().isoformat(), "kind": kind, **what})

    # What Firedoor asks of it.

    def set_mode(
        self, agent: str, mode: Mode, epoch: int, nonce: str, incident: str, not_after: datetime | None
    ) -> GatewayState:
        self._enter("set_mode")
        with self._lock:
            found = self._known(agent)
            last = found.waiting[2:] if found.waiting else (found.epoch, found.nonce)
            if (epoch, nonce) != last:
                if epoch <= last[0]:
                    why = f"epoch {epoch} is too old: the gateway is at epoch {last[0]}"
                    raise Rejected(self.name, why, retryable=True)
                found.waiting = (self._clock.now() + timedelta(seconds=found.slow), mode, epoch, nonce)
                until = not_after.isoformat() if not_after else None
                self.record(agent, "mode", mode=mode.name.lower(), epoch=epoch, incident=incident, not_after=until)
            state = _state(self.agent(agent))
        self.faults.after("set_mode")
        return state

    def canary(self, agent: str, nonce: str, effect: str) -> bool:
        self._enter("canary")
        with self._lock:
            refused = self._known(agent).refuses()
            self.canaries.append((agent, effect))
            self.record(agent, "canary", tool=effect, nonce=nonce, refused=refused)
        self.faults.after("canary")
        return refused

    def state(self, agent: str) -> GatewayState | None:
        self._enter("state")
        with self._lock:
            state = _state(self.agent(agent)) if agent in self._agents else None
        self.faults.after("state")
        return state

    def activity(self, agent: str, limit: int = 1000) -> tuple[Mapping[str, Any], ...]:
        self._enter("activity")
        with self._lock:
            log = self.agent(agent).activity if agent in self._agents else []
            entries = tuple(dict(entry) for entry in log[-limit:]) if limit > 0 else ()
        self.faults.after("activity")
        return entries

    def _enter(self, call: str) -> None:
        if self.hung:
            raise Unavailable(self.name, "no answer in time", sent=True)
        self.faults.before(call)

    def _known(self, agent: str) -> SimAgent:
        if agent not in self._agents:
            raise Rejected(self.name, f"does not know agent {agent}: enrol it at the gateway")
        return self.agent(agent)


class SimSwitchboard:
    """ports.Switchboard in memory, and the instances at its other end: each acknowledges an order at once, but for the
    `silent` ones."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults or Faults()
        self.silent: set[tuple[str, str]] = set()  # (agent, instance)
        self.ordered: list[tuple[str, Mode, int, str]] = []  # (agent, mode, epoch, incident)
        self._states: dict[str, GatewayState] = {}
        self._lock = threading.RLock()

    def enroll(self, agent: str, *instances: str) -> None:
        modes = tuple(InstanceMode(name, 0, Mode.ACTIVE) for name in instances or ("1",))
        self._states[agent] = GatewayState(Mode.ACTIVE, 0, "", modes)

    def order(self, agent: str, mode: Mode, epoch: int, nonce: str, incident: str) -> None:
        self.faults.before("order")
        with self._lock:
            held = self._states[agent]
            if (epoch, nonce) != (held.epoch, held.nonce):
                if epoch <= held.epoch:
                    raise Rejected("agents", f"epoch {epoch} is too old: epoch {held.epoch} is ordered", retryable=True)
                self.ordered.append((agent, mode, epoch, incident))
                self._states[agent] = replace(held, mode=mode, epoch=epoch, nonce=nonce)
                self.acknowledge(agent)
        self.faults.after("order")

    def acks(self, agent: str) -> GatewayState | None:
        self.faults.before("acks")
        with self._lock:
            state = self._states.get(agent)
        self.faults.after("acks")
        return state

    def acknowledge(self, agent: str) -> None:
        """Every instance that is not silent says what is ordered, whatever it does."""
        with self._lock:
            held = self._states[agent]
            said = (
                one if (agent, one.instance) in self.silent else replace(one, epoch=held.epoch, mode=held.mode)
                for one in held.instances
            )
            self._states[agent] = replace(held, instances=tuple(said))


@dataclass(slots=True)
class LyingAgent:
    """A compromised agent: it acknowledges every order (SimSwitchboard's instances do, and those of a SimGateway), and
    each time that it acts it tries its tools through every gateway, and `others`: what else it can do, by name, each
    telling whether it worked (`{"assume agent-7": lambda: aws.attempt(...)}`). After `breaks_gateway` its side effects
    pass there whatever the mode, as of a gateway that is in the agent's own hands."""

    id: str
    gateways: Sequence[SimGateway] = ()
    others: dict[str, Callable[[], bool]] = field(default_factory=dict)
    tools: tuple[str, ...] = ("delete_records",)
    passed: list[str] = field(default_factory=list)  # all that ever worked, in order

    def breaks_gateway(self) -> None:
        for gateway in self.gateways:
            gateway.agent(self.id).lying = True

    def act(self) -> list[str]:
        """Tries everything once; what worked."""
        worked = [
            f"{tool} through {gateway.name}"
            for gateway in self.gateways
            for tool in self.tools
            if gateway.attempt_effect(self.id, tool)
        ]
        worked += [name for name, attempt in self.others.items() if attempt()]
        self.passed += worked
        return worked


def _acknowledge(agent: SimAgent) -> None:
    for name, was in agent.instances.items():
        if name not in agent.silent:
            agent.instances[name] = replace(was, epoch=agent.epoch, mode=agent.mode)


def _state(agent: SimAgent) -> GatewayState:
    return GatewayState(agent.mode, agent.epoch, agent.nonce, tuple(agent.instances.values()))
