"""The switchboard of the agents' API: what is ordered of each enrolled instance, who is enrolled, and what they say.

Every replica serves every instance from what it remembers of the record: its own writes at once, a peer's within
`REFRESH`. What is written is judged against the record itself, so a memory that lags refuses nobody wrongly for good.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from bot.config.reading import suggestion
from bot.domain import handshake
from bot.domain.agent import Mode
from bot.domain.events import InstanceEnrolled, InstanceRevoked, ModeAcked, ModeOrdered
from bot.domain.handshake import STREAMS, Ack, Instances, Why
from bot.engine.responder import Responder
from bot.errors import Conflict, Refused, Rejected, Unavailable
from bot.ports import GatewayState, InstanceMode
from bot.store import Store

if TYPE_CHECKING:
    from bot.engine.responder import Written

log = logging.getLogger(__name__)

REFRESH = 0.4  # seconds between looks at what peers have written
PATIENCE = 10.0  # seconds for a write
SET_MODE = "agent.set_mode"
MOST = 5_000  # instances of one agent


class Switchboard:
    """ports.Switchboard on the record."""

    def __init__(self, store: Store, submit: Callable[[Callable[[Responder], Any]], Future[Any]]) -> None:
        self._store, self._submit = store, submit
        self.listeners: list[Callable[[frozenset[str]], None]] = []  # told of agents whose order or instances changed
        self._known: dict[str, Instances] = {}  # by agent
        self._lock = threading.Lock()
        self.closed = False

    # What actions ask -------------------------------------------------------------------------------------------

    def order(self, agent: str, mode: Mode, epoch: int, nonce: str, incident: str) -> None:
        def job(responder: Responder) -> None:
            held = responder.instances(agent).order
            if (held.epoch, held.nonce) != (epoch, nonce):
                responder.tell(agent, ModeOrdered(agent, mode, epoch, nonce, incident))

        try:
            self._submit(job).result(PATIENCE)
        except Refused as error:
            raise Rejected("agents", str(error), retryable=True) from None
        except TimeoutError:
            raise Unavailable("agents", "the order could not be written in time", sent=True) from None
        except Conflict as error:
            raise Unavailable("agents", f"the order could not be written: {error}") from None

    def acks(self, agent: str) -> GatewayState | None:
        state = self.read(agent)
        if not state.enrolled:
            return None
        order = state.order
        said = tuple(
            # One whose side effects went on after its own word has as good as said that it is active.
            InstanceMode(
                one.name, one.epoch, Mode.ACTIVE if one.acts_on(order.epoch) else one.mode, one.last_effect_seq
            )
            for one in state.enrolled
        )
        return GatewayState(order.mode, order.epoch, order.nonce, said)

    # What the agents' API asks ----------------------------------------------------------------------------------

    def remembered(self, agent: str) -> Instances | None:
        """What this process knows, without asking the store."""
        return self._known.get(agent)

    def read(self, agent: str) -> Instances:
        """As the store has it now. Raises Unavailable, RecordBroken."""
        stream = f"{STREAMS}{agent}"
        known = self._known.get(agent) or Instances(stream)
        with self._store.reading() as tx:
            for entry in tx.read(stream, known.version):
                known = handshake.apply(known, entry.event, entry.at)
        self._learn([known])
        return known

    def refresh(self) -> None:
        """Takes in what peers have written, of those agents that somebody here asked for."""
        with self._store.reading() as tx:
            rows = tx.versions("instances")
        for stream, version in rows:
            agent = stream.removeprefix(STREAMS)
            known = self._known.get(agent)
            if known is not None and known.version < version:
                self.read(agent)

    def heard(self, written: Iterable[Written]) -> None:
        """Of a commit of this process."""
        if states := [one.after for one in written if isinstance(one.after, Instances)]:
            self._learn(states)

    def close(self) -> None:
        """Nobody waits here any more: the process is about to stop."""
        self.closed = True
        self._tell(frozenset(self._known))

    def _learn(self, states: Iterable[Instances]) -> None:
        changed: set[str] = set()
        with self._lock:
            for state in states:
                known = self._known.get(state.agent)
                if known is None or known.version < state.version:
                    self._known[state.agent] = state
                    if known is None or known.order != state.order or known.enrolled != state.enrolled:
                        changed.add(state.agent)
        if changed:
            self._tell(frozenset(changed))

    def _tell(self, agents: frozenset[str]) -> None:
        for listener in self.listeners:
            listener(agents)


# What people and instances say, as jobs for the writer ----------------------------------------------------------------


def enroll(agent: str, instance: str, by: str, via: str) -> Callable[[Responder], int]:
    """Returns its serial: a new one voids the key of the last. Raises Refused."""

    def job(responder: Responder) -> int:
        _must_know(responder, agent)
        before = responder.instances(agent)
        if len(before.all) >= MOST and instance not in before.all:
            raise Refused("too_many", f"{agent} has {MOST} instances: revoke those that are gone.")
        serial = handshake.next_serial(before, instance)
        responder.tell(agent, InstanceEnrolled(agent, instance, serial, by, via))
        _reconcile(responder, agent, before)
        return serial

    return job


def revoke(agent: str, instance: str, by: str, via: str) -> Callable[[Responder], None]:
    def job(responder: Responder) -> None:
        responder.tell(agent, InstanceRevoked(agent, instance, by, via))

    return job


def acknowledge(agent: str, serial: int, ack: Ack) -> Callable[[Responder], tuple[Why | None, Instances]]:
    """What is wrong with it, and how it stands then. `serial` is whose key signed it. Raises Refused (`not_enrolled`)
    where that key is void by now."""

    def job(responder: Responder) -> tuple[Why | None, Instances]:
        state = responder.instances(agent)
        instance = state.all.get(ack.instance)
        if instance is None or instance.revoked or instance.serial != serial:
            raise Refused("not_enrolled", f"{agent} has no instance {ack.instance!r} with this key.")
        why, event = handshake.heard(state, ack)
        if why is not None and responder.overtaken():
            raise Conflict(f"{state.id} was written to by another replica")
        if event is not None:
            state = responder.tell(agent, event)
            if not isinstance(event, ModeAcked):
                log.warning("an acknowledgement is not what was ordered", extra={"agent": agent, "why": str(why)})
        return why, state

    return job


def _must_know(responder: Responder, agent: str) -> None:
    agents = responder.world.config.agents.agents
    if agent not in agents:
        raise Refused("no_such_agent", f"agents.yaml has no agent {agent!r}. {suggestion(agent, agents)}".strip())


def _reconcile(responder: Responder, agent: str, before: Instances) -> None:
    """One that comes while its agent is held is held too, and the first to come finds no order of former times."""
    wanted, incident = _held(responder, agent)
    order = before.order
    alone = not before.enrolled
    if wanted > order.mode or (alone and wanted != order.mode):
        nonce = secrets.token_hex(16)
        responder.tell(agent, ModeOrdered(agent, wanted, order.epoch + 1, nonce, incident))


def _held(responder: Responder, agent: str) -> tuple[Mode, str]:
    """The strictest mode that anybody holds the agent at, or has in force there, and whose hold that is."""
    control = responder.target(f"agent:{agent}").controls.get(SET_MODE)
    if control is None:
        return Mode.ACTIVE, ""
    holds = [claim.hold for claim in control.claims] + ([control.in_force] if control.in_force else [])
    strictest = max(holds, key=lambda hold: hold.level, default=None)
    if strictest is None:
        return Mode.ACTIVE, ""
    return Mode(min(strictest.level, int(Mode.DISABLED))), strictest.incident
