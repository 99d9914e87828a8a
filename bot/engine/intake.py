"""An alert finds its place: a repeat is counted, news joins the open incident, anything else opens one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from bot.config.settings import Settings
from bot.domain.agent import Agent, delegates_of
from bot.domain.alert import Alert, AlertText, Sev
from bot.domain.classification import UNCLASSIFIED
from bot.domain.events import AlertReceived, AlertsCounted, Opened, Timers
from bot.domain.incident import Incident
from bot.domain.placement import key_of, severity_of
from bot.domain.source import SourceRules
from bot.engine.responder import Responder
from bot.engine.rulebook import Choice, Rulebook
from bot.errors import Refused
from bot.ports import Directory

REMEMBERED = timedelta(hours=24)  # the answer to a signed delivery
NEWS_A_MINUTE = 30  # alerts that become entries of one incident; the rest of a flood is counted


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an alert. `status`: opened | attached | repeated | ignored. `why` answers "why deduplicated?"."""

    alert: str
    status: str
    incident: str
    why: str


@dataclass(slots=True)
class Arrival:
    """An alert as it is believed, on its way to its place; nothing was asked of the store yet. `body` is what is kept
    of the raw alert, redacted already, as is the alert's own text."""

    alert: Alert
    source: SourceRules
    body: bytes
    agent: Agent | None
    distrust: str  # why its word must not contain by itself, '' where it may
    dedup: str
    id: str
    choice: Choice | None = None

    @classmethod
    def of(cls, directory: Directory, alert: Alert, source: SourceRules, body: bytes) -> Arrival:
        agent, alert, distrust = believe(directory, alert, source)
        # A worse or a more trusted word about the same is news, whatever its weaker twin has opened before.
        dedup = f"{alert.dedup_key()}/{int(alert.severity_id)}/{'doubted' if distrust else 'trusted'}"
        return cls(alert, source, body, agent, distrust, dedup, alert_id(alert))

    def calls_for(self, rulebook: Rulebook) -> Choice:
        """Asked once, and not at all of a repeat."""
        if self.choice is None:
            self.choice = rulebook.choose(self.alert, self.alert.text, self.agent, self.alert.types)
        return self.choice

    def key(self, rulebook: Rulebook) -> str:
        return key_of(self.alert, self.calls_for(rulebook).type)

    def save(self, responder: Responder, incident: str | None) -> None:
        responder.tx.save_alert(
            self.id, self.source.name, self.dedup, incident, responder.now, self.body, self.alert.uid
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a delivery, alert by alert. `again`: it came before, and this was the answer."""

    receipts: tuple[Receipt, ...]
    again: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """Alerts that came together, ready to be written: the writer's job of one. `id`: deliveries of one id count once
    ('' is none)."""

    alerts: tuple[Arrival, ...]
    id: str = ""

    def __call__(self, responder: Responder) -> Taken:
        """All of its alerts, or none."""
        responder.writes += 1  # what is counted and remembered is no entry, and must not outlive a failure either
        if self.id:
            first = responder.tx.seen(self.id, responder.now, responder.now + REMEMBERED)
            if first is not None:
                return Taken(tuple(Receipt(*one) for one in json.loads(first)), again=True)
        receipts = tuple(place(responder, arrival) for arrival in self.alerts)
        if self.id:
            responder.tx.answered(self.id, json.dumps([(r.alert, r.status, r.incident, r.why) for r in receipts]))
        return Taken(receipts)


def foresee(responder: Responder, deliveries: Sequence[Delivery]) -> None:
    """What these will ask the store, asked at once: a statement for all costs little more than one for each."""
    tx, rulebook = responder.tx, responder.world.rulebook
    arrivals = [arrival for delivery in deliveries for arrival in delivery.alerts]
    tx.foresee_repeats(arrival.dedup for arrival in arrivals)
    keys = [arrival.key(rulebook) for arrival in arrivals if not _is_repeat(responder, arrival)]
    tx.foresee_open_keys(keys)
    tx.foresee_repeats(_flood(incident) for incident in map(tx.open_key, keys) if incident)


def receive(responder: Responder, alert: Alert, source: SourceRules, body: bytes) -> Receipt:
    """One alert by itself, as `Arrival` describes it."""
    return place(responder, Arrival.of(responder.world.ports.directory, alert, source, body))


def place(responder: Responder, arrival: Arrival) -> Receipt:
    tx, now, id, dedup = responder.tx, responder.now, arrival.id, arrival.dedup
    agent, alert, source, distrust = arrival.agent, arrival.alert, arrival.source, arrival.distrust
    if not alert.resolved and (hit := tx.repeat(dedup, now)):
        arrival.save(responder, hit.incident)
        why = (
            f"the same product, rule, agent and resources as an alert of {hit.first:%Y-%m-%d %H:%M:%S} UTC; "
            f"number {hit.count}, counted until {hit.window_end:%H:%M:%S}"
        )
        return Receipt(id, "repeated", hit.incident, why)
    choice, key = arrival.calls_for(responder.world.rulebook), arrival.key(responder.world.rulebook)
    open_incident = tx.open_key(key)
    if open_incident is None and alert.resolved:
        arrival.save(responder, None)
        return Receipt(id, "ignored", "", "the source says that it is over, and no incident is open for it")
    window_end = now + responder.world.config.settings.intake.dedup_window
    if open_incident:
        receipt = _attach(responder, open_incident, arrival)
        if not alert.resolved:
            tx.remember(dedup, open_incident, now, window_end)
        arrival.save(responder, open_incident)
        return receipt
    incident = f"INC-{tx.next_number('incident')}"
    tx.take_open_key(key, incident)
    tx.remember(dedup, incident, now, window_end)
    playbook = choice.playbook or responder.world.rulebook.for_type(choice.type)
    pins, texts = responder.world.rulebook.pins(choice.type, playbook)
    for digest, (kind, text) in texts.items():
        tx.pin(digest, kind, text)
    severity = severity_of(alert, source)
    settings = responder.world.config.settings
    opened = Opened(
        incident=incident,
        mode=settings.mode,
        type=choice.type,
        severity=severity,
        agent_uid=alert.agent_uid or "",
        agent=agent,
        alert=_factual(alert),
        text=tx.put_text(incident, _text(alert.text)),
        pins=pins,
        roster=responder.world.config.people.roster(now),
        delegates=delegates_of(agent, responder.world.ports.directory.agent) if agent else (),
        initiator=source.owner,
        contain=not distrust,
        started=choice.playbook is not None,
        proposed=choice.proposed,
        trigger_errors=tuple(error.partition(":")[0] for error in choice.errors),
        linked=_linked(responder, agent, incident),
        notify=settings.notify,
        timers=timers(settings, severity),
        why="; ".join(part for part in (choice.why, choice.because, distrust) if part),
        room=responder.world.rooms,
    )
    arrival.save(responder, incident)
    responder.open(responder.world.rulebook.frozen(pins, tx.pinned), opened)
    return Receipt(id, "opened", incident, opened.why)


def declare(
    responder: Responder, *, by: str, type: str, severity: Sev, agent_id: str, title: str, message: str, contain: bool
) -> Incident:
    """A person opens an incident; the playbook of its type runs. `contain`: this person may start cuts themselves, else
    each is put to the approvers."""
    tx, now, world = responder.tx, responder.now, responder.world
    agent = world.ports.directory.agent(agent_id) if agent_id else None
    if agent_id and agent is None:
        raise Refused("no_such_agent", f"There is no agent {agent_id!r} in agents.yaml.")
    type = type or UNCLASSIFIED
    if type not in world.config.matrices:
        raise Refused("no_such_type", f"There is no incident type {type!r}. Known: {', '.join(world.config.matrices)}.")
    key = f"{agent_id}|{type}" if agent_id else ""
    if key and (already := tx.open_key(key)):
        raise Refused("already_open", f"{already} is open for {agent_id} and {type} already.")
    incident = f"INC-{tx.next_number('incident')}"
    if key:
        tx.take_open_key(key, incident)
    playbook = world.rulebook.for_type(type)
    pins, texts = world.rulebook.pins(type, playbook)
    for digest, (kind, text) in texts.items():
        tx.pin(digest, kind, text)
    opened = Opened(
        incident=incident,
        mode=world.config.settings.mode,
        type=type,
        severity=severity,
        agent_uid=agent_id,
        agent=agent,
        alert=None,
        text=tx.put_text(incident, _text(AlertText(title, message))),
        pins=pins,
        roster=world.config.people.roster(now),
        delegates=delegates_of(agent, world.ports.directory.agent) if agent else (),
        initiator=by,
        declared_by=by,
        contain=contain and not (agent_id and world.ports.directory.protected(agent_id)),
        linked=_linked(responder, agent, incident),
        notify=world.config.settings.notify,
        timers=timers(world.config.settings, severity),
        why="declared by a person" + (f"; the playbook {playbook.id} is the one for this type" if playbook else ""),
        room=world.rooms,
    )
    return responder.open(world.rulebook.frozen(pins, tx.pinned), opened)


def tell_repeats(responder: Responder) -> None:
    """At most one summary a minute and kind of news, so that a storm is cheap and loses no count."""
    for repeats in responder.tx.unreported(responder.now - timedelta(minutes=1)):
        event = AlertsCounted(repeats.dedup_key, repeats.count, repeats.first, repeats.last, repeats.total)
        responder.append(repeats.incident, event)
        responder.tx.mark_reported(repeats.dedup_key, responder.now, repeats.incident)


def alert_id(alert: Alert) -> str:
    """The same alert delivered twice is kept once."""
    parts = (alert.source, alert.uid, alert.time.isoformat())
    return "al-" + hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:24]


def timers(settings: Settings, severity: Sev) -> Timers:
    return Timers(
        containment=settings.deadlines.containment.total_seconds(),
        containment_repeat=settings.deadlines.containment_repeat.total_seconds(),
        ack_ttl=settings.ack_ttl[severity].total_seconds(),
        updates=tuple(settings.updates.get(each, timedelta(0)).total_seconds() for each in Sev),
    )


def believe(directory: Directory, alert: Alert, source: SourceRules) -> tuple[Agent | None, Alert, str]:
    """Which agent the alert is about, and why its word must not contain by itself ('' where it may)."""
    agent = directory.agent(alert.agent_uid) if alert.agent_uid else None
    if agent is None and alert.actors:
        agent = directory.by_actor(alert.actors)
    if agent and agent.id != alert.agent_uid:
        alert = replace(alert, agent_uid=agent.id)
    named = (agent.id if agent else "", alert.agent_uid or "", *alert.actors, *(r.uid for r in alert.resources))
    protected = next((why for name in named if name and (why := directory.protected(name))), "")
    if not source.may_contain:
        return agent, alert, f"the source {source.name} may only propose"
    if protected:
        return agent, alert, f"only proposed: {protected}"
    if agent and not source.speaks_of(agent.id):
        return agent, alert, f"the source {source.name} may not speak of {agent.id}"
    return agent, alert, ""


def _attach(responder: Responder, incident: str, arrival: Arrival) -> Receipt:
    """News for an open incident; past the first of a minute a flood is counted under one key, but for an alert that
    makes it worse."""
    now, alert, id = responder.now, arrival.alert, arrival.id
    flood = _flood(incident)
    state = responder.incident(incident)
    matched = arrival.calls_for(responder.world.rulebook).playbook
    pinned = state.frozen.playbook
    start = not alert.resolved and matched is not None and pinned is not None and matched.id == pinned.id
    contain = not alert.resolved and not arrival.distrust
    severity = Sev.SEV4 if alert.resolved else severity_of(alert, arrival.source)
    worse = state.is_worsened_by(severity, contain=contain, start=start)
    minute = now - timedelta(minutes=1)
    if not worse and sum(at > minute for at in state.news[-NEWS_A_MINUTE:]) >= NEWS_A_MINUTE:
        if responder.tx.repeat(flood, now) is None:
            responder.tx.remember(flood, incident, now, now + timedelta(hours=1))
            responder.tx.repeat(flood, now)  # `remember` stands for an entry, and this one has none
        return Receipt(id, "attached", incident, "counted: more news than is told of one by one")
    why = f"{state.id} is open for this agent and type"
    if alert.resolved:
        why = "the source says that it is over"
    text = responder.tx.put_text(incident, _text(alert.text))
    if worse:
        why += ", and it makes it worse"
    responder.append(incident, AlertReceived(_factual(alert), text, why, severity, contain, start))
    return Receipt(id, "attached", incident, why)


def _is_repeat(responder: Responder, arrival: Arrival) -> bool:
    return not arrival.alert.resolved and responder.tx.is_repeat(arrival.dedup, responder.now)


def _flood(incident: str) -> str:
    """The key under which the rest of an incident's flood is counted."""
    return f"flood:{incident}"


def _linked(responder: Responder, agent: Agent | None, incident: str) -> tuple[str, ...]:
    """Other open incidents of the same agent (semantics 1)."""
    if agent is None:
        return ()
    return tuple(other for other in responder.tx.open_keys(f"{agent.id}|") if other != incident)


def _factual(alert: Alert) -> Alert:
    """Without the text, which is hostile and personal and stays in its artefact (semantics 3)."""
    return replace(alert, text=AlertText(), unmapped={})


def _text(text: AlertText) -> str:
    return f"{text.title}\n\n{text.message}".strip()
