"""The handshake by which an agent's mode becomes true, and what its enrolled instances say of it.

How far one switch has got, from what is known of it; a word of the agent alone never gets further than `acked`:

    stage       all acked    canary refused   canary passed   all cut
    requested   acked        enforced         requested       contained
    acked       acked        enforced         requested       contained
    enforced    enforced     enforced         requested       contained
    contained   contained    contained        contained       contained

An agent's instances are a stream of their own (`instances:agent-7`), beside the holds of `agent:agent-7`: what an
instance says, and how often, never stands in the way of a hold. An acknowledgement is judged against the newest order
there: one that is late, of another order, or looser is not taken, and the first of each kind is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from bot.domain.agent import Mode
from bot.domain.events import (
    AckRefused,
    Event,
    InstanceEnrolled,
    InstanceRevoked,
    ModeAcked,
    ModeOrdered,
)
from bot.errors import Refused

STREAMS = "instances:"
SET_MODE = "agent.set_mode"


class Stage(StrEnum):
    REQUESTED = "requested"
    ACKED = "acked"
    ENFORCED = "enforced"
    CONTAINED = "contained"


MEANS: Mapping[Stage, str] = {
    Stage.REQUESTED: "ordered; nothing proves it",
    Stage.ACKED: "every instance says so; nothing proves it",
    Stage.ENFORCED: "the canary was refused",
    Stage.CONTAINED: "the canary was refused, and the credentials are cut, verified",
}


class Fact(StrEnum):
    ACKED = "acked"  # every registered instance says so
    REFUSED = "refused"  # the canary, at every gateway
    PASSED = "passed"  # the canary, at one of them
    CUT = "cut"  # the agent's credentials are revoked, and that is verified


TRANSITIONS: Mapping[Stage, Mapping[Fact, Stage]] = {
    Stage.REQUESTED: {
        Fact.ACKED: Stage.ACKED,
        Fact.REFUSED: Stage.ENFORCED,
        Fact.PASSED: Stage.REQUESTED,
        Fact.CUT: Stage.CONTAINED,
    },
    Stage.ACKED: {
        Fact.ACKED: Stage.ACKED,
        Fact.REFUSED: Stage.ENFORCED,
        Fact.PASSED: Stage.REQUESTED,
        Fact.CUT: Stage.CONTAINED,
    },
    Stage.ENFORCED: {
        Fact.ACKED: Stage.ENFORCED,
        Fact.REFUSED: Stage.ENFORCED,
        Fact.PASSED: Stage.REQUESTED,
        Fact.CUT: Stage.CONTAINED,
    },
    Stage.CONTAINED: dict.fromkeys(Fact, Stage.CONTAINED),
}


def stage(facts: Iterable[Fact]) -> Stage:
    """Where these facts lead from `requested`, in their order."""
    reached = Stage.REQUESTED
    for fact in facts:
        reached = TRANSITIONS[reached][fact]
    return reached


def sentence(evidence: Mapping[str, Any]) -> str:
    """What agent.set_mode read back, in words: `shadow enforced: 3 of 4 instances acked, pod-4 silent; gateway mcp
    refused the canary`."""
    instances, silent = evidence.get("instances", 0), list(evidence.get("silent", ()))
    parts = []
    if instances:
        parts.append(f"{evidence.get('acknowledged', 0)} of {instances} instances acked")
        if silent:
            more = f" and {len(silent) - 3} more" if len(silent) > 3 else ""
            parts[-1] += f", {', '.join(silent[:3])}{more} silent"
    if enforced := evidence.get("enforced_by"):
        parts.append(f"{', '.join(enforced)} refused the canary")
    else:
        parts.append("nothing that enforces it was tried")
    return f"{evidence.get('mode')} {evidence.get('stage', '')}".strip() + f": {'; '.join(parts)}"


# An agent's instances -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    mode: Mode = Mode.ACTIVE
    epoch: int = 0
    nonce: str = ""
    incident: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """`serial` counts its enrolments: each has a key of its own. `refused`: what was not taken of its
    acknowledgements, by (epoch, why)."""

    name: str
    serial: int
    by: str
    at: datetime
    revoked: bool = False
    epoch: int = 0
    mode: Mode = Mode.ACTIVE
    last_effect_seq: int = 0
    acked_at: datetime | None = None
    refused: frozenset[tuple[int, str]] = frozenset()
    pod: str = ""  # uid of the last pod that enrolled itself by this name

    def acts_on(self, epoch: int) -> bool:
        """It said itself that side effects went on after its acknowledgement."""
        return (epoch, Why.ACTS_ON) in self.refused


@dataclass(frozen=True, slots=True)
class Instances:
    """State of an agent's instances; the fold of their stream."""

    id: str  # `instances:<agent>`
    version: int = 0
    order: Order = Order()
    all: Mapping[str, Instance] = field(default_factory=dict)

    @property
    def agent(self) -> str:
        return self.id.removeprefix(STREAMS)

    @property
    def enrolled(self) -> tuple[Instance, ...]:
        return tuple(instance for instance in self.all.values() if not instance.revoked)


class Why(StrEnum):
    """What is wrong with an acknowledgement."""

    STALE = "stale"  # of an older order
    AHEAD = "ahead"  # of an order that was never given
    NONCE = "nonce"  # this epoch, and not this order
    LOOSER = "looser"  # in a mode looser than ordered
    ACTS_ON = "acts_on"  # side effects went on after an earlier one


SAID: Mapping[Why, str] = {
    Why.STALE: "a newer mode is ordered",
    Why.AHEAD: "no such epoch was ordered",
    Why.NONCE: "the nonce is not this order's",
    Why.LOOSER: "the mode is looser than what is ordered",
    Why.ACTS_ON: "side effects went on after the acknowledgement",
}


@dataclass(frozen=True, slots=True)
class Ack:
    """As an instance says it. `said_at` is its own clock."""

    instance: str
    epoch: int
    nonce: str
    mode: Mode
    last_effect_seq: int
    said_at: datetime


def judge(state: Instances, ack: Ack) -> Why | None:
    """What is wrong with it; None where it is good. Of an enrolled instance."""
    order, instance = state.order, state.all[ack.instance]
    if ack.epoch != order.epoch:
        return Why.STALE if ack.epoch < order.epoch else Why.AHEAD
    if ack.nonce != order.nonce:
        return Why.NONCE
    if ack.mode < order.mode:
        return Why.LOOSER
    held = min(order.mode, instance.mode) >= Mode.SHADOW and instance.acked_at is not None
    if held and instance.epoch == ack.epoch and ack.last_effect_seq > instance.last_effect_seq:
        return Why.ACTS_ON
    return None


def heard(state: Instances, ack: Ack) -> tuple[Why | None, ModeAcked | AckRefused | None]:
    """What is wrong with it, and the entry that it is worth: none where it says nothing new."""
    why, instance = judge(state, ack), state.all[ack.instance]
    if why is None:
        known = instance.acked_at is not None and (instance.epoch, instance.mode) == (ack.epoch, ack.mode)
        if known:
            return None, None
        return None, ModeAcked(state.agent, ack.instance, ack.epoch, ack.mode, ack.last_effect_seq, ack.said_at)
    if why is Why.STALE or (ack.epoch, why) in instance.refused or len(instance.refused) >= MOST_REFUSED:
        return why, None  # the late are many and harmless; of the others one of each kind tells
    return why, AckRefused(state.agent, ack.instance, ack.epoch, ack.mode, ack.last_effect_seq, why)


MOST_REFUSED = 50  # entries that one enrolment can fill with nonsense


def admit(state: Instances, event: Event) -> None:
    match event:
        case InstanceEnrolled(pod=pod):
            # Once: a token that is used again, and one of a pod whose key people revoked, get no other.
            if pod and any(instance.pod == pod for instance in state.all.values()):
                why = f"This pod of {state.agent} was enrolled before: a person can enrol it again."
                raise Refused("enrolled_before", why)
        case InstanceRevoked(instance=name):
            instance = state.all.get(name)
            if instance is None or instance.revoked:
                raise Refused("not_enrolled", f"{state.agent} has no enrolled instance {name!r}.")
        case ModeOrdered(epoch=epoch):
            if epoch <= state.order.epoch:
                raise Refused("stale", f"epoch {epoch} is too old: epoch {state.order.epoch} is ordered")
        case ModeAcked(instance=name) | AckRefused(instance=name):
            instance = state.all.get(name)
            if instance is None or instance.revoked:
                raise Refused("not_enrolled", f"{state.agent} has no enrolled instance {name!r}.")
        case _:
            raise Refused("wrong_stream", f"{type(event).__name__} does not belong to instances.")


def apply(state: Instances, event: Event, at: datetime) -> Instances:
    state = replace(state, version=state.version + 1)
    match event:
        case InstanceEnrolled(instance=name, serial=serial, by=by, pod=pod):
            was = state.all.get(name)
            return _with(state, Instance(name, serial, by, at, pod=pod or (was.pod if was else "")))
        case InstanceRevoked(instance=name):
            return _with(state, replace(state.all[name], revoked=True))
        case ModeOrdered(mode=mode, epoch=epoch, nonce=nonce, incident=incident):
            return replace(state, order=Order(mode, epoch, nonce, incident))
        case ModeAcked(instance=name, epoch=epoch, mode=mode, last_effect_seq=seq):
            said = replace(state.all[name], epoch=epoch, mode=mode, last_effect_seq=seq, acked_at=at)
            return _with(state, said)
        case AckRefused(instance=name, epoch=epoch, why=why):
            instance = state.all[name]
            return _with(state, replace(instance, refused=instance.refused | {(epoch, why)}))
        case _:
            return state


def next_serial(state: Instances, name: str) -> int:
    was = state.all.get(name)
    return was.serial + 1 if was else 1


def _with(state: Instances, instance: Instance) -> Instances:
    return replace(state, all={**state.all, instance.name: instance})
