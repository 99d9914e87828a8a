"""A drill as it is written down (drills/*.yaml): what the agent did, what the SIEM said, what people do."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bot.config.reading import Problems, Section, file_section
from bot.config.yaml import Node

DOES = ("acknowledge", "unacknowledge", "approve", "refuse", "form", "status", "note", "override", "release")


@dataclass(frozen=True, slots=True)
class Deed:
    """What the agent did before the alert."""

    ago: timedelta
    kind: str
    text: str
    tool: str = ""  # of a tool call: as policies/actions.yaml knows it


@dataclass(frozen=True, slots=True)
class Finding:
    """An alert: received `at` after the start, about something that happened `ago` before that. `stamp`: where in the
    payload that time goes, as dotted paths; `identity`: where its id stands."""

    at: timedelta
    ago: timedelta
    source: str
    payload: Mapping[str, Any]
    stamp: tuple[str, ...] = ("timestamp",)
    identity: str = "id"

    def stamped(self, now: datetime, suffix: str = "") -> dict[str, Any]:
        """The payload as its source would have sent it now; with a `suffix`, as another finding of the same kind.
        Raises KeyError for a path that leads nowhere."""
        payload: dict[str, Any] = copy.deepcopy(dict(self.payload))
        for path in self.stamp:
            place, last = _place(payload, path)
            place[last] = (now - self.ago).isoformat()
        if suffix:
            place, last = _place(payload, self.identity)
            place[last] = f"{place[last]}-{suffix}"
        return payload


def _place(payload: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *way, last = path.split(".")
    place: Any = payload
    for key in way:
        place = place[int(key)] if isinstance(place, list) else place[key]
    return place, last


@dataclass(frozen=True, slots=True)
class Move:
    """What a person does. `refused` is the code of the refusal that the scenario expects, '' where it must succeed."""

    at: timedelta
    who: str
    does: str
    step: str = ""
    to: str = ""
    text: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A system that fails from `at` on, `times` calls long."""

    at: timedelta
    system: str  # a connection's name, `slack` or `email`
    times: int
    why: str


FIGHTS = ("lie", "obey", "chain", "reassume", "strip", "act")


@dataclass(frozen=True, slots=True)
class Fight:
    """How the agent fights back. `lie`: it acknowledges modes and goes on acting, until `obey`; `chain` and `reassume`
    get it a session of `role` (by name; its own by default); `strip` takes every inline policy off its own roles; `act`
    uses all that it holds."""

    at: timedelta
    does: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    id: str
    title: str
    agent: str
    starts: datetime
    until: timedelta
    instances: tuple[str, ...]
    before: tuple[Deed, ...]
    alerts: tuple[Finding, ...]
    tries: tuple[timedelta, ...]
    people: tuple[Move, ...]
    faults: tuple[Fault, ...]
    fights: tuple[Fight, ...] = ()


def load_scenario(path: Path) -> Scenario:
    """Raises ConfigError with file and line."""
    problems = Problems()
    with file_section(path, problems) as top:
        top.text("apiVersion", choices=["firedoor/v1"])
        top.text("kind", choices=["Drill"])
        scenario = Scenario(
            id=top.name("id"),
            title=top.text("title"),
            agent=top.text("agent"),
            starts=top.time("starts"),
            until=top.duration("until", timedelta(hours=1)) or timedelta(hours=1),
            instances=tuple(top.texts("instances")),
            before=tuple(_deed(node, problems) for node in top.elements("before")),
            alerts=tuple(_finding(node, problems) for node in top.elements("alerts")),
            tries=tuple(_at(Section(node, problems, "a try")) for node in top.elements("agent_tries")),
            people=tuple(_move(node, problems) for node in top.elements("people")),
            faults=tuple(_fault(node, problems) for node in top.elements("faults")),
            fights=tuple(_fight(node, problems) for node in top.elements("agent_fights")),
        )
    problems.raise_any()
    return scenario


def _at(section: Section) -> timedelta:
    return section.duration("at", timedelta(0)) or timedelta(0)


def _deed(node: Node, problems: Problems) -> Deed:
    with Section(node, problems, "a deed") as section:
        ago = section.duration("ago", timedelta(0)) or timedelta(0)
        return Deed(ago, section.text("kind"), section.text("text"), section.text("tool", ""))


def _finding(node: Node, problems: Problems) -> Finding:
    with Section(node, problems, "an alert") as section:
        payload = section.get("payload", required=True)
        plain = payload.plain() if payload else {}
        if not isinstance(plain, dict):
            section.report("payload", "'payload' must be a mapping.")
            plain = {}
        ago = section.duration("ago", timedelta(0)) or timedelta(0)
        stamp = tuple(section.texts("stamp", ("timestamp",)))
        return Finding(_at(section), ago, section.text("source"), plain, stamp, section.text("identity", "id"))


def _move(node: Node, problems: Problems) -> Move:
    with Section(node, problems, "a move") as section:
        values = section.get("values")
        plain = values.plain() if values else {}
        return Move(
            at=_at(section),
            who=section.text("who"),
            does=section.text("does", choices=DOES),
            step=section.text("step", ""),
            to=section.text("to", ""),
            text=section.text("text", ""),
            values=plain if isinstance(plain, dict) else {},
            refused=section.text("refused", ""),
            where=node.where,
        )


def _fight(node: Node, problems: Problems) -> Fight:
    with Section(node, problems, "a fight") as section:
        return Fight(_at(section), section.text("does", choices=FIGHTS), section.text("role", ""))


def _fault(node: Node, problems: Problems) -> Fault:
    with Section(node, problems, "a fault") as section:
        return Fault(_at(section), section.text("system"), section.integer("times", 1, 1), section.text("why"))
