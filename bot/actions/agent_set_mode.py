"""agent.set_mode: shadow an agent, or switch it off, and prove it at its gateways."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any, ClassVar

from bot.actions import Action
from bot.domain import handshake
from bot.domain.agent import Agent, Mode
from bot.domain.handshake import Fact
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending
from bot.domain.playbook import Param, Target
from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import InstanceMode, Opa, Ports, Switchboard, connected

INSTANCES = "instances"  # those enrolled here, as a way; and the system of an agent that has no other
CANARY = "firedoor.canary"  # the side effect that is tried; it does nothing where it passes
ASK_AGAIN = timedelta(seconds=5)  # an unreachable system, unless it names a longer time
READ_AGAIN = timedelta(seconds=2)  # a mode that was accepted and is not in force yet
NEXT = 0.25  # seconds after which the next way is asked, whether or not this one has answered
PATIENCE = 0.5  # seconds for ways that do not say what is in force there, while others wait to be written
MOST_TURNS = 15  # of waiting for it or for its instances, or of being overtaken by newer epochs


class SetMode(Action):
    """Sets how much an agent may do: `active`, `advisory`, `shadow` (it runs and plans, its side effects are recorded
    and not carried out) or `disabled`. The mode is published every way the agent has: to its gateways, every replica of
    its OPAs, its SSM parameter and its Vault KV path, with an epoch that only grows, and read back from each. From
    `shadow` on, every gateway and every OPA is then asked for a harmless side effect. `verified-effect` needs that all
    refuse it, and that
    every instance they have registered reported the epoch and a mode as strict; where one stays silent for half a
    minute it is `verified-config`, and `silent` names it. A gateway that registers no instances is judged by the
    refusal alone. An agent without a gateway or OPA gets `verified-config`, whatever its instances say: their
    word proves nothing. Instances that are enrolled here are told too. `stage` says how far the handshake got:
    `requested`, `acked`, `enforced`."""

    id = "agent.set_mode"
    params = (
        Param("agent", doc="id of an enrolled agent"),
        Param("mode", choices=("active", "advisory", "shadow", "disabled"), doc="what it may do from now on"),
    )
    outputs = ("mode", "epoch", "ways", "enforced_by", "instances", "acknowledged", "silent", "stage")
    permissions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "gateway": ("PUT /v1/agents/{id}/mode", "POST /v1/agents/{id}/canary", "GET /v1/agents/{id}"),
        "opa": ("PUT and GET /v1/data/agents/{id}/mode", "POST /v1/data/{decision}"),
        "aws": ("ssm:GetParameter", "ssm:PutParameter"),
        "vault": ('path "agents/data/+/mode" { capabilities=["create","update","read"] }',),
    }
    example = """\
uses: agent.set_mode
with: {agent: "${{ agent.id }}", mode: shadow}
contains: true
require: verified-effect
"""
    containing = True
    best_grade = Grade.EFFECT

    def targets(self, params: Mapping[str, Any], agent: Agent | None) -> tuple[Target, ...]:
        if agent is None or agent.id != params["agent"]:
            raise ValueError(f"agent {params['agent'] or 'unknown'} is not enrolled: add it to agents.yaml")
        mode = _mode(params["mode"])
        if mode is None:
            raise ValueError(f"{params['mode']!r} is not a mode: active, advisory, shadow or disabled")
        aws, vault = agent.aws, agent.vault
        ways: dict[str, Any] = {
            "gateways": list(agent.gateways),
            "aws": aws.connection if aws and aws.mode_parameter else "",
            "parameter": aws.mode_parameter if aws else "",
            "vault": vault.connection if vault and vault.mode_path else "",
            "path": vault.mode_path if vault else "",
        }
        if agent.opas:
            ways["opas"] = list(agent.opas)
        system = next(filter(None, (*agent.gateways, *agent.opas, ways["aws"], ways["vault"])), INSTANCES)
        told = {"agent": agent.id, "mode": mode.name.lower()}
        return (Target(f"agent:{agent.id}", told | ways, system, level=int(mode)),)

    def run(
        self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Mapping[str, Any] | None = None
    ) -> Outcome:
        """First reads what is in force at each way, and saves that and the epoch to write; then writes, reads back and
        tries the canary. A way that cannot be reached holds up no other, and one that does not answer for a second at
        most: what was read by then is written first. `so_far` is {previous: {way: mode}, epochs:
        {way: epoch}, turns}; it also serves as `undo`."""
        if why := ports.directory.protected(params["agent"]):
            return Failed(retryable=False, why=f"agent {params['agent']} is protected: {why}")
        saved = {"previous": {}, "epochs": {}, "turns": 0, **(so_far or {})}
        order = _Order(params["agent"], Mode[params["mode"].upper()], 0, _nonce(key, "run"), _stream(key))
        ways = sorted(_ways(params, ports), key=lambda way: way.name not in saved["epochs"])
        if not ways:
            why = f"agent {params['agent']} has no gateway, OPA, SSM parameter, KV path or instance: nobody to tell"
            return Failed(retryable=False, why=why)
        findings = _enforced(ways, {way.name: replace(order, epoch=saved["epochs"].get(way.name, 0)) for way in ways})
        states = {one.state for one in findings}
        if _Is.READ in states or (_Is.OVERTAKEN in states and saved["turns"] < MOST_TURNS):
            return Pending(ports.clock.now(), _after(saved, findings, order.nonce), "saved what was in force before")
        outcome = _unsettled(findings, ports.clock.now(), saved)
        return outcome or _done(order.mode, findings, saved["previous"])

    def verify(self, params: Mapping[str, Any], ports: Ports) -> Done | None:
        """The mode, or a stricter one, is in force at every way, and every gateway refuses the canary."""
        mode = Mode[params["mode"].upper()]
        findings = [_look(way, way.read(), mode) for way in _ways(params, ports)]
        if not findings or any(
            one.state is _Is.PASSED or one.held.mode is None or one.held.mode < mode for one in findings
        ):
            return None
        return _done(mode, findings, None)

    def undo(self, params: Mapping[str, Any], ports: Ports, *, undo: Mapping[str, Any], key: str) -> Outcome:
        """The mode that was in force before, at each way its own, under a newer epoch."""
        ways, previous = _ways(params, ports), dict(undo["previous"])
        if known := [_mode(mode) for mode in previous.values() if _mode(mode) is not None]:
            # Instances that came while the hold stood were put into its mode then: they follow the others out of it.
            previous.setdefault(INSTANCES, max(mode for mode in known if mode is not None).name.lower())
        if not ways:
            return Failed(retryable=False, why="nobody is left who could be told")
        if lost := [way.name for way in ways if not previous.get(way.name)]:
            why = f"the mode before is not known at {', '.join(lost)}: set it with {self.id}"
            return Failed(retryable=False, why=why)
        order = _Order(params["agent"], Mode.ACTIVE, 0, _nonce(key, "undo"), _stream(key))
        findings = [_restore(way, replace(order, mode=Mode[previous[way.name].upper()])) for way in ways]
        restored = max(Mode[previous[way.name].upper()] for way in ways)
        return _unsettled(findings, ports.clock.now(), None) or _done(restored, findings, None)


# What is in force, and what is ordered ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    """`mode` is None where something stands there that is no mode."""

    mode: Mode | None = Mode.ACTIVE
    epoch: int = 0
    nonce: str = ""
    instances: tuple[InstanceMode, ...] = ()


@dataclass(frozen=True, slots=True)
class _Order:
    agent: str
    mode: Mode
    epoch: int
    nonce: str
    incident: str

    def document(self) -> dict[str, Any]:
        """`expires` is null: a hold ends when a person releases it, never by itself."""
        return {
            "agent": self.agent,
            "mode": self.mode.name.lower(),
            "epoch": self.epoch,
            "nonce": self.nonce,
            "incident": self.incident,
            "expires": None,
        }


# A way is one place where the agent's mode is published. Writing again changes nothing; a newer epoch that is in force
# raises Rejected(retryable=True).


@dataclass(frozen=True, slots=True)
class _Gateway:
    gateway: str
    agent: str
    ports: Ports

    @property
    def name(self) -> str:
        return f"gateway {self.gateway}"

    def read(self) -> _Held:
        state = connected(self.ports.gateways, self.gateway).state(self.agent)
        return _Held(state.mode, state.epoch, state.nonce, state.instances) if state else _Held()

    def write(self, order: _Order) -> None:
        gateway = connected(self.ports.gateways, self.gateway)
        gateway.set_mode(order.agent, order.mode, order.epoch, order.nonce, order.incident, None)

    def refuses(self, nonce: str) -> bool:
        return connected(self.ports.gateways, self.gateway).canary(self.agent, nonce, CANARY)


@dataclass(frozen=True, slots=True)
class _Opa:
    """One replica. `opa` is None where no such connection is configured."""

    connection: str
    opa: Opa | None
    agent: str

    @property
    def name(self) -> str:
        return f"opa {self.opa.name if self.opa else self.connection}"

    def read(self) -> _Held:
        found = self._there().mode(self.agent)
        return _held(found) if found else _Held()

    def write(self, order: _Order) -> None:
        if not _is_there(self.name, self.read(), order):
            self._there().set_mode(self.agent, order.document())

    def refuses(self, _: str) -> bool:
        return self._there().refuses(self.agent, CANARY)

    def _there(self) -> Opa:
        return self.opa or connected({}, self.connection)


@dataclass(frozen=True, slots=True)
class _Instances:
    """Those that are enrolled at our own API: each says itself what it does."""

    agent: str
    ports: Ports
    name: str = INSTANCES

    def read(self) -> _Held:
        state = self._board().acks(self.agent)
        return _Held(state.mode, state.epoch, state.nonce, state.instances) if state else _Held()

    def write(self, order: _Order) -> None:
        self._board().order(order.agent, order.mode, order.epoch, order.nonce, order.incident)

    def is_there(self) -> bool:
        return self.ports.switchboard is not None and self.ports.switchboard.acks(self.agent) is not None

    def _board(self) -> Switchboard:
        if self.ports.switchboard is None:
            raise Rejected(self.name, "there is no agents' API in this process")
        return self.ports.switchboard


@dataclass(frozen=True, slots=True)
class _Parameter:
    connection: str
    parameter: str
    ports: Ports

    @property
    def name(self) -> str:
        return f"parameter {self.parameter}"

    def read(self) -> _Held:
        found = connected(self.ports.aws, self.connection).parameters.get(self.parameter)
        return _held(found[0]) if found else _Held()

    def write(self, order: _Order) -> None:
        if not _is_there(self.name, self.read(), order):
            value = json.dumps(order.document(), sort_keys=True)
            connected(self.ports.aws, self.connection).parameters.put(self.parameter, value)


@dataclass(frozen=True, slots=True)
class _Kv:
    connection: str
    path: str
    ports: Ports

    @property
    def name(self) -> str:
        return f"kv {self.path}"

    def read(self) -> _Held:
        found = connected(self.ports.vaults, self.connection).read_kv(self.path)
        return _held(found.data) if found else _Held()

    def write(self, order: _Order) -> None:
        vault = connected(self.ports.vaults, self.connection)
        found = vault.read_kv(self.path)
        if not _is_there(self.name, _held(found.data) if found else _Held(), order):
            vault.write_kv(self.path, order.document(), cas=found.version if found else 0)


_Way = _Instances | _Gateway | _Opa | _Parameter | _Kv


def _ways(params: Mapping[str, Any], ports: Ports) -> tuple[_Way, ...]:
    instances = _Instances(params["agent"], ports)
    ways: list[_Way] = [instances] if instances.is_there() else []
    ways += [_Gateway(gateway, params["agent"], ports) for gateway in params["gateways"]]
    for name in params.get("opas", ()):
        ways += [_Opa(name, replica, params["agent"]) for replica in ports.opas.get(name, (None,))]
    if params["parameter"]:
        ways.append(_Parameter(params["aws"], params["parameter"], ports))
    if params["path"]:
        ways.append(_Kv(params["vault"], params["path"], ports))
    return tuple(ways)


def _mode(name: object) -> Mode | None:
    return Mode.__members__.get(name.upper()) if isinstance(name, str) else None


def _held(document: object) -> _Held:
    """Of a stored document, or of a bare mode word that somebody wrote by hand."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError:
            return _Held(_mode(document))
    if not isinstance(document, Mapping):
        return _Held(None)
    epoch = document.get("epoch")
    return _Held(_mode(document.get("mode")), epoch if isinstance(epoch, int) else 0, str(document.get("nonce", "")))


def _is_there(name: str, held: _Held, order: _Order) -> bool:
    if held.epoch == order.epoch and held.nonce == order.nonce:
        return True
    if held.epoch >= order.epoch:
        raise Rejected(name, f"epoch {order.epoch} is too old: epoch {held.epoch} is in force", retryable=True)
    return False


def _nonce(key: str, verb: str) -> str:
    """Of the decision's key, so that a repeat is the same order."""
    return hashlib.sha256(f"{key}\x1f{verb}".encode()).hexdigest()[:32]


def _stream(key: str) -> str:
    """`INC-7` of `install.1/INC-7/12.0`."""
    return key.rpartition("/")[0].rpartition("/")[2]


# How far it got -----------------------------------------------------------------------------------------------------


class _Is(Enum):
    READ = auto()  # what is in force is known now, and nothing written yet
    OVERTAKEN = auto()  # somebody else wrote a newer epoch
    REFUSED = auto()  # the system said no
    PASSED = auto()  # the canary passed: the mode is not enforced
    UNREACHED = auto()
    LAGGING = auto()  # accepted, not yet in force
    SILENT = auto()  # the canary was refused, and an instance has not reported the mode
    SET = auto()  # read back; nothing there enforces it, or the mode lets side effects pass
    ENFORCED = auto()  # the canary was refused


@dataclass(frozen=True, slots=True)
class _Finding:
    """How it stands with one way."""

    way: str
    state: _Is
    held: _Held = _Held()
    error: SystemFailure | None = None

    @property
    def silent(self) -> list[str]:
        """Registered instances that have not reported what is in force, or something looser."""
        held = self.held
        strict = held.mode if held.mode is not None else Mode.DISABLED
        return [each.instance for each in held.instances if each.epoch < held.epoch or each.mode < strict]

    @property
    def final(self) -> bool:
        """Asking again does not help until a person changed something."""
        return isinstance(self.error, Denied) or (isinstance(self.error, Rejected) and not self.error.retryable)

    def __str__(self) -> str:
        match self.state:
            case _Is.PASSED:
                return f"{self.way} let the canary pass: mode not enforced"
            case _Is.OVERTAKEN:
                return f"{self.way} is at epoch {self.held.epoch}, written by somebody else"
            case _Is.LAGGING:
                return f"{self.way} accepted the mode and does not have it in force yet"
            case _Is.SILENT:
                return f"{self.way}: {', '.join(self.silent)} has not acknowledged epoch {self.held.epoch}"
            case _:
                return f"{self.way}: {self.error.why}" if self.error else f"{self.way}: {self.state.name.lower()}"


def _finding(step: Callable[[_Way, _Order], _Finding]) -> Callable[[_Way, _Order], _Finding]:
    """A step whose failures are findings too."""

    @functools.wraps(step)
    def taken(way: _Way, order: _Order) -> _Finding:
        try:
            return step(way, order)
        except Unavailable as error:
            return _Finding(way.name, _Is.UNREACHED, error=error)
        except SystemFailure as error:
            return _Finding(way.name, _Is.REFUSED, error=error)

    return taken


@_finding
def _enforce(way: _Way, order: _Order) -> _Finding:
    """Without an epoch it only reads."""
    if not order.epoch:
        return _Finding(way.name, _Is.READ, way.read())
    try:
        way.write(order)
    except Rejected as refusal:
        held = way.read() if refusal.retryable else _Held()
        if held.epoch < order.epoch:
            raise
        return _Finding(way.name, _Is.OVERTAKEN, held)
    held = way.read()
    if (held.mode, held.nonce) == (order.mode, order.nonce):
        return _look(way, held, order.mode)
    overtaken = held.epoch >= order.epoch and held.nonce != order.nonce
    return _Finding(way.name, _Is.OVERTAKEN if overtaken else _Is.LAGGING, held)


def _enforced(ways: Sequence[_Way], orders: Mapping[str, _Order]) -> list[_Finding]:
    """In the order of `ways`, one after another, but none waits for a hung one for long. Those that are to be written
    are waited for; those that are only read are left where they hang, once something else was read."""
    local = {way.name: _enforce(way, orders[way.name]) for way in ways if isinstance(way, _Instances)}
    remote = [way for way in ways if way.name not in local]
    if len(ways) == 1:
        return [*local.values()] or [_enforce(remote[0], orders[remote[0].name])]
    pool = ThreadPoolExecutor(len(ways), "set-mode")
    begun: dict[str, Future[_Finding]] = {}
    for way in remote:
        begun[way.name] = pool.submit(_enforce, way, orders[way.name])
        wait([begun[way.name]], NEXT)
    pool.shutdown(wait=False)
    wait([future for name, future in begun.items() if orders[name].epoch])
    hanging = {future for future in begun.values() if not future.done()}
    while hanging:
        ended, hanging = wait(hanging, PATIENCE, FIRST_COMPLETED)
        known = [*local.values(), *(future.result() for future in begun.values() if future.done())]
        if not ended and any(one.state is _Is.READ for one in known):
            break
    return [local.get(way.name) or _ended(way, begun[way.name]) for way in ways]


def _ended(way: _Way, future: Future[_Finding]) -> _Finding:
    if future.done():
        return future.result()
    error = Unavailable(way.name, "no answer yet: the others are told first", sent=False)
    return _Finding(way.name, _Is.UNREACHED, error=error)


def _look(way: _Way, held: _Held, mode: Mode) -> _Finding:
    if mode < Mode.SHADOW or isinstance(way, _Parameter | _Kv):
        return _Finding(way.name, _Is.SET, held)
    if isinstance(way, _Instances):
        found = _Finding(way.name, _Is.SET, held)
        return replace(found, state=_Is.SILENT) if found.silent else found
    if not way.refuses(held.nonce):
        return _Finding(way.name, _Is.PASSED, held)
    refused = _Finding(way.name, _Is.ENFORCED, held)
    return replace(refused, state=_Is.SILENT) if refused.silent else refused


@_finding
def _restore(way: _Way, order: _Order) -> _Finding:
    """No canary: the mode before may well let it pass."""
    held = way.read()
    if held.nonce != order.nonce:
        way.write(replace(order, epoch=held.epoch + 1))
        held = way.read()
    done = (held.mode, held.nonce) == (order.mode, order.nonce)
    return _Finding(way.name, _Is.SET if done else _Is.LAGGING, held)


def _after(saved: Mapping[str, Any], findings: Sequence[_Finding], nonce: str) -> dict[str, Any]:
    """`so_far` with what was newly read. One epoch for all of those, above whatever is in force at any."""
    read = {one.way: one.held for one in findings if one.state in (_Is.READ, _Is.OVERTAKEN)}
    epoch = max([*saved["epochs"].values(), *(held.epoch + 1 for held in read.values())])
    before = dict(saved["previous"])
    for way, held in read.items():
        if held.nonce != nonce:
            before[way] = held.mode.name.lower() if held.mode is not None else None
        else:  # our own order is no previous mode: unless it was saved, it is lost, and undo says so
            before.setdefault(way, None)
    return {
        "previous": before,
        "epochs": {**saved["epochs"], **dict.fromkeys(read, epoch)},
        "turns": saved["turns"] + any(one.state is _Is.OVERTAKEN for one in findings),
    }


def _unsettled(findings: Sequence[_Finding], now: datetime, saved: Mapping[str, Any] | None) -> Outcome | None:
    """Why it is not done, the worst first; None where every way has the mode, and its instances too or they had their
    time. Without `saved` nobody counts the turns, and waiting for a mode is left to the retries."""
    open_ones = [one for one in findings if one.state not in (_Is.SET, _Is.ENFORCED)]
    states = {one.state for one in open_ones}
    why = "; ".join(map(str, open_ones))
    if in_force := [one.way for one in findings if one not in open_ones]:
        why += f" (in force at {', '.join(in_force)})"
    if states & {_Is.PASSED, _Is.REFUSED, _Is.OVERTAKEN}:
        return Failed(retryable=not all(one.final for one in open_ones), why=why, undo=saved)
    if _Is.UNREACHED in states:
        named = [one.error.retry_after or 0.0 for one in open_ones if isinstance(one.error, Unavailable)]
        return Pending(now + max(ASK_AGAIN, timedelta(seconds=max(named))), saved or {}, why, unavailable=True)
    if _Is.LAGGING in states:
        if saved is None or saved["turns"] >= MOST_TURNS:
            return Failed(retryable=True, why=why, undo=saved)
        return Pending(now + READ_AGAIN, {**saved, "turns": saved["turns"] + 1}, why)
    if _Is.SILENT in states and saved is not None and saved["turns"] < MOST_TURNS:
        return Pending(now + READ_AGAIN, {**saved, "turns": saved["turns"] + 1}, why)
    return None


def _done(mode: Mode, findings: Sequence[_Finding], previous: Mapping[str, str | None] | None) -> Done:
    refusing = (one for one in findings if one.state in (_Is.ENFORCED, _Is.SILENT))
    enforced = [one.way for one in refusing if one.way != INSTANCES]
    silent = [f"{name} at {one.way}" if one.way != INSTANCES else name for one in findings for name in one.silent]
    instances = sum(len(one.held.instances) for one in findings)
    evidence = {
        "mode": mode.name.lower(),
        "epoch": max(one.held.epoch for one in findings),
        "ways": [one.way for one in findings],
        "enforced_by": enforced,
        "instances": instances,
        "acknowledged": instances - len(silent),
        "silent": silent,
        "stage": str(_stage(mode, bool(enforced), heard=instances > len(silent), silent=bool(silent))),
    }
    grade = Grade.EFFECT if enforced and not silent else Grade.CONFIG
    return Done(grade, evidence, undo=None if previous is None else {"previous": dict(previous)})


def _stage(mode: Mode, enforced: bool, *, heard: bool, silent: bool) -> handshake.Stage:
    """`active` and `advisory` are proved by nothing: they are acknowledged at best."""
    facts = [Fact.ACKED] if heard and not silent else []
    return handshake.stage([*facts, Fact.REFUSED] if enforced and mode >= Mode.SHADOW else facts)
