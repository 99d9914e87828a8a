"""A whole Firedoor on a simulated company: the example's configuration, agent-7 and agent-9 enrolled, people paged.

Tests read like drills. In virtual time `forward` moves the clock and everything due happens on the way; with threads
the engine runs as it does in earnest, and `until` waits for something to become true.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

from bot.actions import Action, registry
from bot.adapters.clock import SystemClock
from bot.adapters.slack import SlackPager
from bot.config import EXAMPLE, Config, load
from bot.domain.agent import Agent
from bot.domain.alert import Alert, AlertText, Resource, Severity
from bot.domain.containment import Containment
from bot.domain.events import Event, Status
from bot.domain.incident import Incident, StepStatus
from bot.domain.outcome import Outcome
from bot.domain.record import Entry
from bot.domain.redaction import Redactor
from bot.domain.source import Auth, SourceRules
from bot.engine import verbs
from bot.engine.engine import Engine
from bot.engine.intake import Receipt, receive
from bot.engine.rulebook import Rulebook
from bot.engine.world import Voice, World
from bot.errors import Rejected
from bot.ports import PageMessage, Pager
from bot.sandbox.agents import SimGateway
from bot.sandbox.aws import SimAws
from bot.sandbox.chat import Posted, SimChat
from bot.sandbox.clock import SimClock
from bot.sandbox.estate import Estate
from bot.sandbox.people import SimEndpoint, SimPager
from bot.sandbox.vault import SimVault
from bot.slack.blocks import SlackVoice
from bot.store import Signer, Store
from bot.web.links import AckLinks
from bot.wiring import TEMPLATES, estate_ports

MONDAY = datetime(2026, 1, 5, 10, tzinfo=UTC)  # sre-1 and security-ops-1 are on call
MASTER, SALT = bytes(range(32)), bytes(range(32, 64))
PRODUCTION, EXPOSURE = "unintended_production_change", "data_exposure"
SIEM = SourceRules("siem", "generic", "security-ops-1", auth=Auth.HMAC, may_contain=True)
PATIENCE = 20.0  # seconds that `until` waits; only a failing test waits so long


@cache
def example(folder: Path = EXAMPLE) -> Config:
    return load(folder)


def limited(config: Config, **limits: Any) -> Config:
    """The same with other limits for every playbook."""
    playbooks = {id: replace(p, limits=replace(p.limits, **limits)) for id, p in config.playbooks.items()}
    return replace(config, playbooks=playbooks)


@dataclass(slots=True)
class Phone:
    """Any pager, and what left through it."""

    pager: Pager
    rang: list[PageMessage]
    deaf: set[str] = field(default_factory=set)  # persons whom nothing reaches this way

    def send(self, message: PageMessage) -> str:
        if message.person in self.deaf:
            raise Rejected("pager", f"{message.person} cannot be reached")
        receipt = self.pager.send(message)
        self.rang.append(message)
        return receipt


@dataclass
class Desk:
    """`url` of the store; `clock` a SimClock unless `threads`. `peer` makes another replica of the same company."""

    url: str
    folder: Path = EXAMPLE
    config: Any = None  # as the folder says
    threads: bool = False
    clock: Any = None
    replica: str = "r-1"
    lease: float = 4.0
    rooms: bool = False  # a channel for each incident
    actions: Mapping[str, Action] = field(default_factory=registry)
    voice: Voice | None = None
    signer: Signer = field(default_factory=Signer.fresh)
    estate: Any = None
    chat: Any = None
    rang: list[PageMessage] = field(default_factory=list)  # every page and notice that left, repeats included

    def __post_init__(self) -> None:
        self.config: Config = self.config or example(self.folder)
        self.clock = self.clock or (SystemClock() if self.threads else SimClock(MONDAY))
        channel = self.config.settings.slack.channel if self.config.settings.slack else ""
        if self.estate is None:
            self.estate = Estate(self.clock)
            for agent in self.config.agents.agents.values():
                self.estate.enrol(agent)
            people = [person.slack for person in self.config.people.persons.values() if person.slack]
            self.chat = SimChat(self.clock, people, [channel])
            for way, pager in (("slack", SlackPager(self.chat)), ("email", SimPager()), ("webhook", SimPager())):
                self.estate.pagers[way] = Phone(pager, self.rang)
        self.store = self.open_store()
        self.redactor = Redactor(SALT)
        links = AckLinks(self.config.settings.public_url, MASTER, self.clock)
        world = World(
            config=self.config,
            ports=estate_ports(self.config, self.clock, self.estate, self.chat, SALT),
            rulebook=Rulebook(self.config, self.folder),
            actions=self.actions,
            voice=self.voice or SlackVoice(self.config.people),
            redactor=self.redactor,
            replica=self.replica,
            templates=TEMPLATES,
            lease=self.lease,
            channel=channel,
            rooms=self.rooms,
            ack_link=links.url,
        )
        self.engine = Engine(self.store, world, threads=self.threads)

    def open_store(self) -> Store:
        return Store.open(
            self.url,
            install="example",
            mode="sandbox",
            signer=self.signer,
            master_key=MASTER,
            clock=self.clock,
            virtual=isinstance(self.clock, SimClock),
        )

    def peer(self, replica: str) -> Desk:
        """Another replica: its own process but for the memory they share here."""
        return replace(self, replica=replica)

    @contextmanager
    def serving(self) -> Iterator[Desk]:
        """With its threads and timers."""
        self.engine.start()
        try:
            yield self
        finally:
            self.engine.stop()

    def stop(self) -> None:
        self.store.close()

    # What happens -----------------------------------------------------------------------------------------------

    def alert(self, agent: str | None = "agent-7", type: str = PRODUCTION, **fields: Any) -> Alert:
        """A finding of the SIEM; a `uid` of its own makes it another delivery, another `rule` other news."""
        fields = {"title": "Dropped table", "message": "agent-7 dropped a table in production", **fields}
        text = AlertText(fields.pop("title"), fields.pop("message"))
        defaults: dict[str, Any] = {
            "uid": os.urandom(6).hex(),
            "source": "siem",
            "product": "siem",
            "rule": "dropped-table",
            "severity_id": Severity.HIGH,
            "time": self.clock.now(),
            "agent_uid": agent,
            "types": (type,),
            "resources": (Resource("db-orders", "AWS::RDS::DBInstance"),),
            "labels": {"env": "prod"},
            "text": text,
        }
        return Alert(**{**defaults, **fields})

    def receive(self, alert: Alert | None = None, source: SourceRules = SIEM, **fields: Any) -> Receipt:
        """An alert comes in, and what follows at once happens."""
        alert = alert or self.alert(**fields)
        receipt = self.engine.submit(partial(receive, alert=alert, source=source, body=b"{}")).result(PATIENCE)
        self._settle()
        return receipt

    def forward(self, *, seconds: float = 0, minutes: float = 0, hours: float = 0) -> None:
        """Lets time pass; everything due on the way happens at its moment."""
        end = self.clock.now() + timedelta(seconds=seconds, minutes=minutes, hours=hours)
        while (due := self.engine.next_moment()) is not None and due <= end:
            self.clock.set(max(due, self.clock.now()))
            self.engine.settle()
        self.clock.set(end)
        self.engine.settle()

    def sleep(self, *, hours: float) -> None:
        """Time passes and nobody is there: the process was down."""
        self.clock.set(self.clock.now() + timedelta(hours=hours))
        self.engine.settle()

    def until(self, true: Callable[[], object], what: str = "") -> None:
        """Waits for it, where threads run."""
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, what or "it did not come true"
            time.sleep(0.01)

    def until_quiet(self, incident: str) -> None:
        """Nothing in hand, nothing in the outbox and, as far as it goes, contained."""
        self.until(lambda: self.queued() == 0 and self.incident(incident).containment is not Containment.RUNNING)

    def _settle(self) -> None:
        if not self.threads:
            self.engine.settle()

    # What people say --------------------------------------------------------------------------------------------

    def say(self, job: verbs.Job) -> Incident:
        incident = self.engine.submit(job).result(PATIENCE)
        self._settle()
        return self.incident(incident.id)

    def ack(self, person: str, incident: str = "INC-1") -> Incident:
        return self.say(verbs.acknowledge(incident, person, "slack"))

    def unack(self, person: str, incident: str = "INC-1") -> Incident:
        return self.say(verbs.unacknowledge(incident, person, "slack"))

    def approve(self, step: str, person: str, incident: str = "INC-1") -> Incident:
        return self.say(verbs.approve(self.incident(incident).steps[step].request, person, "slack"))

    def release(self, step: str, incident: str = "INC-1", person: str = "head-of-security") -> Incident:
        return self.say(verbs.release(incident, step, person, "slack"))

    def override(self, step: str, incident: str = "INC-1", person: str = "head-of-security") -> Incident:
        return self.say(verbs.override(incident, step, person, "slack"))

    def resolve(self, incident: str = "INC-1", person: str = "head-of-security") -> Incident:
        return self.say(verbs.status(incident, Status.RESOLVED, person, "slack"))

    # What is seen -----------------------------------------------------------------------------------------------

    def incident(self, id: str = "INC-1") -> Incident:
        return self.engine.incident(id)

    def entries(self, id: str = "INC-1") -> tuple[Entry, ...]:
        return self.engine.entries(id)

    def events(self, kind: type[Event] | Any, id: str = "INC-1") -> list[Any]:
        return [entry.event for entry in self.entries(id) if isinstance(entry.event, kind)]

    def streams(self) -> list[str]:
        with self.store.reading() as tx:
            return [row.stream for row in tx.streams(newest_first=False)]

    def queued(self) -> int:
        with self.store.reading() as tx:
            return tx.backlog()[0]

    @property
    def pages(self) -> list[PageMessage]:
        """Pages that left, notices aside."""
        return [message for message in self.rang if "/notice/" not in message.key]

    @property
    def paged(self) -> list[str]:
        """Whom, in order."""
        return [message.person for message in self.pages]

    @property
    def escalated(self) -> list[str]:
        """The same of the matrix alone: no failed step, no form, no containment clock."""
        return [message.person for message in self.rang if "/escalation/" in message.key]

    def posts(self) -> tuple[Posted, ...]:
        found: tuple[Posted, ...] = self.chat.messages(self.engine.world.channel)
        return found

    def status(self, step: str, incident: str = "INC-1") -> StepStatus:
        return self.incident(incident).steps[step].status

    def outcomes(self, step: str, incident: str = "INC-1") -> list[Outcome | None]:
        return [call.outcome for call in self.incident(incident).steps[step].calls.values()]

    @property
    def vault(self) -> SimVault:
        found: SimVault = self.estate.vaults["vault"]
        return found

    @property
    def aws(self) -> SimAws:
        found: SimAws = self.estate.aws["aws"]
        return found

    @property
    def gateway(self) -> SimGateway:
        found: SimGateway = self.estate.gateways["agents"]
        return found

    @property
    def deploy_api(self) -> SimEndpoint:
        found: SimEndpoint = self.estate.endpoints["deploy_api"]
        return found

    @property
    def mail(self) -> SimPager:
        pager = self.estate.pagers["email"].pager
        assert isinstance(pager, SimPager)
        return pager

    def agent(self, id: str = "agent-7") -> Agent:
        return self.config.agents.agents[id]

    def alive(self, id: str = "agent-7") -> list[str]:
        """What the agent could still do, by trying it."""
        found: list[str] = self.estate.alive(self.agent(id))
        return found

    def everything(self) -> str:
        """Every byte that left the process or was kept of the record: where a secret must not be found."""
        kept = [entry.event for stream in self.streams() for entry in self._read(stream)]
        with self.store.reading() as tx:
            texts = [
                data.decode() for stream in self.streams() for ref in _refs(self, stream) if (data := tx.get_text(ref))
            ]
        said = [(posted.message, posted.edits) for posted in self.chat.messages(self.engine.world.channel)]
        return repr((kept, texts, said, self.rang, [self.chat.directs(user) for user in self.chat.people]))

    def _read(self, stream: str) -> tuple[Entry, ...]:
        with self.store.reading() as tx:
            return tx.read(stream)


def _refs(desk: Desk, stream: str) -> list[Any]:
    return [*desk.incident(stream).documents.values()] if stream.startswith("INC-") else []


@contextmanager
def desk_at(path: Path, **options: Any) -> Iterator[Desk]:
    """One desk on an SQLite file of its own."""
    desk = Desk(f"sqlite:///{path}/firedoor.db", **options)
    try:
        yield desk
    finally:
        desk.stop()
