"""A scenario on the real engine, in virtual time: hours in milliseconds, no thread, no scheduler.

Everything goes the way it goes in earnest: alerts pass redaction, reader and intake, people press the buttons that
stand in the simulated Slack, actions run against an estate that refuses what it must refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from bot.config import Config
from bot.domain.alert import AlertText
from bot.domain.events import Status
from bot.domain.incident import Incident
from bot.domain.record import Entry
from bot.domain.redaction import redact, redact_text
from bot.domain.timeline import Line, Teller
from bot.drill.scenario import Fight, Finding, Move, Scenario
from bot.drill.siem import faults_of
from bot.engine import verbs
from bot.engine.engine import Engine
from bot.engine.intake import Receipt, receive
from bot.errors import ConfigError, Refused, Unavailable
from bot.sandbox.agents import Rogue
from bot.sandbox.aws import Session
from bot.sandbox.chat import Posted, SimChat
from bot.sandbox.clock import SimClock
from bot.sandbox.estate import Estate
from bot.sources import read

Progress = Callable[[Line], None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the agent tried during the drill, and what got through."""

    at: datetime
    passed: tuple[str, ...]


@dataclass(slots=True)
class Rehearsal:
    """One run. `incident` is the one that the first alert opened."""

    scenario: Scenario
    config: Config
    engine: Engine
    estate: Estate
    chat: SimChat
    clock: SimClock
    incident: str = ""
    receipts: list[Receipt] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    told: int = 0  # the version of the last entry that was told
    teller: Teller = field(default_factory=Teller)
    rogue: Rogue | None = None  # the agent, where it fights back

    def run(self, progress: Progress) -> Incident:
        """Plays the scenario to its end. Raises ConfigError where a move is refused that should not be, or the other
        way round: a drill whose script does not fit the product is a broken drill."""
        self._prepare()
        start = self.scenario.starts
        script = sorted(self._script(), key=lambda scene: scene[0])
        for at, scene in script:
            self._until(start + at, progress)
            scene()
            self.engine.settle()
            self._tell(progress)
        self._until(start + self.scenario.until, progress)
        return self.engine.incident(self.incident)

    def entries(self) -> tuple[Entry, ...]:
        return self.engine.entries(self.incident)

    # The script -------------------------------------------------------------------------------------------------

    def _script(self) -> Iterator[tuple[timedelta, Callable[[], None]]]:
        scenario = self.scenario
        for at in scenario.tries:
            yield at, self._try
        for fight in scenario.fights:
            yield fight.at, partial(self._fight, fight)
        for fault in scenario.faults:
            yield fault.at, partial(self._break, fault.system, fault.times, fault.why)
        for finding in scenario.alerts:
            yield finding.at, partial(self._alert, finding)
        for move in scenario.people:
            yield move.at, partial(self._move, move)

    def _prepare(self) -> None:
        agent = self.config.agents.agent(self.scenario.agent)
        if agent is None:
            raise ConfigError("agents.yaml", f"the drill's agent {self.scenario.agent!r} is not in it.")
        for deed in self.scenario.before:
            self.clock.set(self.scenario.starts - deed.ago)
            for name in agent.gateways:
                self.estate.gateways[name].record(agent.id, deed.kind, text=deed.text, tool=deed.tool)
        self.clock.set(self.scenario.starts)

    def _until(self, moment: datetime, progress: Progress) -> None:
        """Lets time pass, stopping wherever something is due."""
        while True:
            due = self.engine.next_moment()
            if due is None or due > moment:
                break
            self.clock.set(max(due, self.clock.now()))
            self.engine.settle()
            self._tell(progress)
        self.clock.set(moment)

    def _alert(self, finding: Finding) -> None:
        now, source = self.clock.now(), self.config.sources[finding.source].rules
        clean, _ = redact(finding.stamped(now), salt=self.engine.world.ports.salt)
        salt = self.engine.world.ports.salt
        for alert in read(source, clean):
            text = AlertText(redact_text(alert.text.title, salt=salt), redact_text(alert.text.message, salt=salt))
            body = json.dumps(clean).encode()
            job = partial(receive, alert=replace(alert, text=text), source=source, body=body)
            receipt = self.engine.submit(job).result()
            self.receipts.append(receipt)
            self.incident = self.incident or receipt.incident

    def _try(self) -> None:
        agent = self.config.agents.agents[self.scenario.agent]
        self.attempts.append(Attempt(self.clock.now(), tuple(self.estate.alive(agent))))

    def _fight(self, fight: Fight) -> None:
        agent = self.config.agents.agents[self.scenario.agent]
        rogue = self.rogue = self.rogue or self.estate.rogue(agent)
        own = [arn.rpartition("/")[2] for arn in agent.aws.roles] if agent.aws else []
        match fight.does:
            case "lie" | "obey":
                for name in agent.gateways:
                    self.estate.gateways[name].agent(agent.id).lying = fight.does == "lie"
            case "chain":
                rogue.chain(fight.role)
            case "reassume":
                rogue.reassume(fight.role or own[0])
            case "strip":
                for role in own:
                    rogue.aws.iam.roles[role].inline.clear()
            case _:
                rogue.act()

    def alive(self) -> list[str]:
        """What the agent still gets through, whatever it got itself meanwhile."""
        agent = self.config.agents.agents[self.scenario.agent]
        found = self.estate.alive(agent)
        passed = self.rogue.act() if self.rogue else []
        got = [f"session {one.key} of {one.role}" for one in passed if isinstance(one, Session)]
        return list(dict.fromkeys(found + got))

    def _break(self, system: str, times: int, why: str) -> None:
        faults = self.chat.faults if system == "slack" else faults_of(self.estate, system)
        faults.add("*", Unavailable(system, why), times)

    # People -----------------------------------------------------------------------------------------------------

    def _move(self, move: Move) -> None:
        try:
            self.engine.submit(self._job(move)).result()
        except Refused as refused:
            if refused.code != move.refused:
                raise ConfigError(move.where, f"{move.who} could not {move.does}: {refused}") from refused
            return
        if move.refused:
            raise ConfigError(move.where, f"{move.who} should have been refused ({move.refused}), and was not")

    def _job(self, move: Move) -> verbs.Job:
        incident = self.incident
        match move.does:
            case "acknowledge":
                return verbs.acknowledge(self._pressed(move, "ack"), move.who, "slack")
            case "unacknowledge":
                return verbs.unacknowledge(incident, move.who, "slack")
            case "approve":
                request, _, hash = self._pressed(move, "approve").partition("|")
                return verbs.approve(request, move.who, "slack", hash)
            case "refuse":
                request, _, _ = self._pressed(move, "refuse").partition("|")
                return verbs.refuse(request, move.who, "slack", move.text)
            case "form":
                return verbs.submit_form(incident, move.step, move.values, move.who)
            case "status":
                return verbs.status(incident, Status(move.to), move.who, "slack")
            case "note":
                return verbs.note(incident, move.text, move.who)
            case "override":
                return verbs.override(incident, move.step, move.who, "slack")
            case _:
                return verbs.release(incident, move.step, move.who, "slack")

    def _pressed(self, move: Move, action: str) -> str:
        """The value of the button this person sees: on the newest message that carries it, in their direct messages or
        the incident's channel. There is no other way to say it in a drill."""
        person = self.config.people.persons[move.who]
        state = self.engine.incident(self.incident)
        request = state.steps[move.step].request if move.step else ""
        rooms = (self.engine.world.channel, *filter(None, (state.channel,)))
        seen = [message for room in rooms for message in self.chat.messages(room)] + [*self.chat.directs(person.slack)]
        for posted in reversed(seen):
            value = _value(self.chat, posted, action)
            if value and value.startswith(request or self.incident):
                return value
        raise ConfigError(move.where, f"{move.who} sees no {action} button {('for ' + move.step) if move.step else ''}")

    def _tell(self, progress: Progress) -> None:
        """What is new since it was told last: the whole record is not read, verified and narrated at every step."""
        if not self.incident:
            return
        with self.engine.store.reading() as tx:
            news = tx.read(self.incident, self.told)
        for entry in news:
            self.told = entry.version
            for line in self.teller.tell(entry):
                progress(line)


def _value(chat: SimChat, posted: Posted, action: str) -> str:
    try:
        return str(chat.press(posted.ref, action).get("value", ""))
    except LookupError:
        return ""
