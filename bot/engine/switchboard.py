"""The switchboard of the agents' API: what is ordered of each enrolled instance, who is enrolled, and what they say.

Every replica serves every instance from what it remembers of the record: its own writes at once, a peer's within
`REFRESH`. What is written is judged against the record itself, so a memory that lags refuses nobody wrongly for good.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from bot.config.reading import suggestion
from bot.domain import handshake
from bot.domain.agent import Mode
from bot.domain.events import Event, InstanceEnrolled, InstanceRevoked, ModeAcked, ModeOrdered
from bot.domain.handshake import SET_MODE, STREAMS, Ack, Instances, Why
from bot.engine.responder import Known, Responder
from bot.errors import Conflict, RecordBroken, Refused, Rejected, Unavailable
from bot.ports import GatewayState, InstanceMode
from bot.store import Store

if TYPE_CHECKING:
    from bot.engine.responder import Written

log = logging.getLogger(__name__)

REFRESH = 0.4  # seconds between looks at what peers have written
PATIENCE = 10.0  # seconds for a write
MOST = 5_000  # instances of one agent
AT_START = 200_000  # entries that are read before anybody asks
NEVER = datetime.min.replace(tzinfo=UTC)


class Switchboard:
    """ports.Switchboard on the record."""

    def __init__(self, store: Store, submit: Callable[[Callable[[Responder], Any]], Future[Any]]) -> None:
        self._store, self._submit = store, submit
        self.listeners: list[Callable[[frozenset[str]], None]] = []  # told of agents whose order or instances changed
        self._known: dict[str, Known] = {}  # by agent
        self._lock = threading.Lock()
        self._reading: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by agent
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
        known = self._known.get(agent)
        return _instances(known) if known else None

    def read_before(self, stream: str) -> Known | None:
        """What the writer need not read and verify again."""
        known = self._known.get(stream.removeprefix(STREAMS)) if stream.startswith(STREAMS) else None
        return known if known and known.state.version else None

    def read(self, agent: str) -> Instances:
        """As the store has it now: each entry is read and verified once, however many ask. Raises Unavailable,
        RecordBroken."""
        stream = f"{STREAMS}{agent}"
        with self._lock:
            reading = self._reading[agent]
        with reading:
            known = self._known.get(agent) or Known(Instances(stream), NEVER, "")
            with self._store.reading() as tx:
                entries = tx.read(stream, known.state.version)
            state = _instances(known)
            for entry in entries:
                state = handshake.apply(state, entry.event, entry.at)
            if entries:
                known = Known(state, entries[-1].at, entries[-1].digest)
            self._learn(known, (entry.event for entry in entries))
        return state

    def read_all(self, agents: Collection[str], ended: Callable[[], bool]) -> None:
        """After a start, the short streams first. What is over AT_START is read when it is asked for."""
        with self._store.reading() as tx:
            rows = tx.versions("instances")
        left = AT_START
        for stream, version in sorted(rows, key=lambda row: row[1]):
            agent = stream.removeprefix(STREAMS)
            left -= version
            if ended() or left < 0:
                return
            if agent in agents:
                try:
                    self.read(agent)
                except RecordBroken as error:  # of this agent: the others are read all the same
                    log.error("instances cannot be read: %s", error)

    def refresh(self) -> None:
        """Takes in what peers have written, of those agents that somebody here asked for."""
        with self._store.reading() as tx:
            rows = tx.versions("instances")
        for stream, version in rows:
            agent = stream.removeprefix(STREAMS)
            known = self._known.get(agent)
            if known is not None and known.state.version < version:
                self.read(agent)

    def heard(self, written: Iterable[Written]) -> None:
        """Of a commit of this process."""
        for one in written:
            if isinstance(one.after, Instances):
                self._learn(Known(one.after, one.at, one.digest), (one.event,))

    def close(self) -> None:
        """Nobody waits here any more: the process is about to stop."""
        self.closed = True
        self._tell(frozenset(self._known))

    def _learn(self, known: Known, events: Iterable[Event]) -> None:
        state = _instances(known)
        with self._lock:
            before = self._known.get(state.agent)
            if before is not None and before.state.version >= state.version:
                return
            self._known[state.agent] = known
        # A thousand who wait are not woken by each other's words.
        if any(isinstance(event, ModeOrdered | InstanceEnrolled | InstanceRevoked) for event in events):
            self._tell(frozenset({state.agent}))

    def _tell(self, agents: frozenset[str]) -> None:
        for listener in self.listeners:
            listener(agents)


def _instances(known: Known) -> Instances:
    assert isinstance(known.state, Instances)  # its stream is of no other kind
    return known.state


# What people and instances say, as jobs for the writer ----------------------------------------------------------------


def enroll(agent: str, instance: str, by: str, via: str, pod: str = "") -> Callable[[Responder], int]:
    """Returns its serial: a new one voids the key of the last. `pod`: the uid of one that enrols itself. Raises
    Refused."""

    def job(responder: Responder) -> int:
        _must_know(responder, agent)
        before = responder.instances(agent)
        if len(before.all) >= MOST and instance not in before.all:
            raise Refused("too_many", f"{agent} has {MOST} instances: revoke those that are gone.")
        serial = handshake.next_serial(before, instance)
        responder.tell(agent, InstanceEnrolled(agent, instance, serial, by, via, pod))
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
