"""An alert and a playbook, followed as far as they can be told before anything is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from bot.actions import Registry, registry
from bot.config import Config
from bot.config.expressions import names_of
from bot.config.people import People
from bot.domain.agent import delegates_of
from bot.domain.alert import Alert
from bot.domain.approval import missing
from bot.domain.classification import UNCLASSIFIED
from bot.domain.decisions import PlanStep
from bot.domain.events import Opened, Pins
from bot.domain.expression import ExpressionError, holds
from bot.domain.iam import STAMP, foretold
from bot.domain.incident import Frozen, Incident, StepStatus, apply, approval_rule
from bot.domain.placement import severity_of
from bot.domain.planning import plan
from bot.domain.playbook import Playbook, Rung, Step, Trigger
from bot.domain.reach import written
from bot.domain.source import SourceRules
from bot.domain.view import agent_names, alert_names
from bot.domain.wording import listed, span
from bot.engine.intake import believe, timers
from bot.engine.rulebook import Rulebook

Json = dict[str, Any]


class Outlook:
    """An incident that has just opened, as far as its steps can be told from here."""

    def __init__(
        self, config: Config, folder: Path, playbook: Playbook, alert: Alert, source: SourceRules, now: datetime
    ) -> None:
        self.config, self.playbook, self.source = config, playbook, source
        self.agent, self.alert, self.distrust = believe(config.agents, alert, source)
        self.choice = Rulebook(config, folder).choose(self.alert, alert.text, self.agent, alert.types)
        self.type = self.choice.type
        self.incident = self._opened(now)
        self.problems: list[str] = []

    def _opened(self, now: datetime) -> Incident:
        matrix = self.config.matrices.get(self.type) or self.config.matrices[UNCLASSIFIED]
        severity = severity_of(self.alert, self.source)
        opened = Opened(
            incident="INC-0",
            mode=self.config.settings.mode,
            type=self.type,
            severity=severity,
            agent_uid=self.alert.agent_uid or "",
            agent=self.agent,
            delegates=delegates_of(self.agent, self.config.agents.agent) if self.agent else (),
            alert=self.alert,
            text=None,
            pins=Pins(self.playbook.hash, "", ""),
            roster=self.config.people.roster(now),
            initiator=self.source.owner,
            contain=not self.distrust,
            timers=timers(self.config.settings, severity),
        )
        return apply(Incident("INC-0", Frozen(matrix, Registry(), self.playbook)), opened, now)

    def json(self) -> Json:
        steps = [self._step(step, wave) for wave, names in enumerate(self.waves(), 1) for step in names]
        blast = self._blast(steps)
        alert = self.alert
        chosen = self.choice.playbook
        return {
            "playbook": {"id": self.playbook.id, "version": self.playbook.version, "hash": self.playbook.hash},
            "rung": str(self.playbook.rung),
            "alert": {"source": alert.source, "rule": alert.rule, "severity": alert.severity_id.name.lower()},
            "agent": self.agent.id if self.agent else None,
            "agent_said": alert.agent_uid,
            "type": self.type,
            "severity": self.incident.severity.name,
            "type_because": self.choice.why,
            "triggers": [self._trigger(n, trigger) for n, trigger in enumerate(self.playbook.triggers, 1)],
            "would_run": chosen.id if chosen else None,
            "would_propose": list(self.choice.proposed),
            "contains_by_itself": not self.distrust and self.playbook.rung is Rung.ACT,
            "distrust": self.distrust,
            "steps": steps,
            "blast_radius": blast,
            "holds": self._holds(),
            "limits": {
                "runs": self.playbook.limits.runs,
                "per": span(self.playbook.limits.per),
                "targets": self.playbook.limits.targets,
                "targets_percent": self.playbook.limits.targets_percent,
            },
            "held_back": self._held_back(steps),
            "on_failure": [call.uses for call in self.playbook.on_failure],
            "problems": [*self.choice.errors, *self.problems],
        }

    def waves(self) -> Iterator[list[Step]]:
        """Steps that may start together, each wave after the one before has settled; in file order."""
        steps = self.playbook.steps
        order = TopologicalSorter({step.id: (*step.needs, *step.after) for step in steps.values()})
        order.prepare()
        while order.is_active():
            ready = order.get_ready()
            yield [step for step in steps.values() if step.id in ready]
            order.done(*ready)

    # Parts ------------------------------------------------------------------------------------------------------

    def _trigger(self, number: int, trigger: Trigger) -> Json:
        names = {
            "alert": alert_names(self.alert, self.alert.text),
            "agent": agent_names(self.agent) if self.agent else {"id": self.alert.agent_uid or ""},
        }
        if trigger.types and self.type not in trigger.types:
            return {"number": number, "matches": False, "why": f"it is for {listed(trigger.types)}, not {self.type}"}
        try:
            matches = trigger.condition is None or holds(trigger.condition, names)
        except ExpressionError as error:
            return {"number": number, "matches": False, "why": f"it cannot be evaluated: {error}"}
        kind = f"the type is {self.type}" if trigger.types else "it is for every type"
        condition = "" if trigger.condition is None else f"; its condition is {'true' if matches else 'false'}"
        return {"number": number, "matches": matches, "why": kind + condition}

    def _step(self, step: Step, wave: int) -> Json:
        later = {
            part: sorted(_steps_read(values))
            for part, values in {
                "condition": [step.condition],
                "inputs": [step.foreach, *(step.call.arguments.values() if step.call else ())],
            }.items()
        }
        told: Json = {
            "step": step.id,
            "wave": wave,
            "action": step.call.uses if step.call else "",
            "waits_for": [*step.needs, *step.after],
            "contains": step.contains,
            "irreversible": step.irreversible,
            "condition_known_when": later["condition"],
            "inputs_known_when": later["inputs"],
            "calls": [],
        }
        if step.call:
            best = registry()[step.call.uses].best_grade
            told |= {"requires": step.require.label if step.contains else "", "best_grade": best.label}
            told["rollback"] = step.rollback.uses if step.rollback else ""
        if step.manual:
            contacts = self.incident.contacts((step.manual.assignee,))
            told["manual"] = {
                "assignee": step.manual.assignee,
                "on_call": [contact.person for contact in contacts],
                "form": dict(step.manual.form),
                "due": span(step.manual.due),
            }
        known = replace(step, condition=None) if later["condition"] else step
        planned = None if later["inputs"] else plan(self.incident, known, f"INC-0/{wave}.0")
        told |= self._becomes(step, planned)
        return told

    def _becomes(self, step: Step, planned: PlanStep | None) -> Json:
        """`status` is what the engine would set, `unknown` where earlier steps decide."""
        status = planned.status if planned else "unknown"
        why = planned.why if planned else ""
        if status == StepStatus.FAILED:
            self.problems.append(f"{step.id} cannot be planned: {why}")
        calls = [
            {
                "target": call.target,
                "system": call.system,
                "params": dict(call.params),
                "denies": self._denies(step, call.params),
            }
            for call in (planned.calls if planned else ())
        ]
        asks = status == StepStatus.AWAITING_APPROVAL or (planned is None and step.approval is not None)
        return {"status": str(status), "why": why, "calls": calls, "approval": self._approval(step) if asks else None}

    def _denies(self, step: Step, params: Mapping[str, Any]) -> list[Json]:
        """What its policy would do to credentials, as IAM evaluates it; [] where it cuts by other means."""
        if step.call is None:
            return []
        now = self.incident.start.replace(microsecond=0)
        try:
            denials = registry()[step.call.uses].denials(params, now.strftime(STAMP))
        except ValueError as error:
            return [{"who": "", "asked_by": "", "answer": f"cannot tell: {error}", "unless": ""}]
        return [
            {"who": denial.who, "asked_by": credential, "answer": answer, "unless": denial.unless}
            for denial in denials
            for credential, answer in foretold(denial, now)
        ]

    def _approval(self, step: Step) -> Json:
        rule = approval_rule(self.incident, step.id)
        people = self.config.people
        able = {group: _able(people, group, {self.source.owner}) for group in rule.each}
        each = list(dict.fromkeys(person for persons in able.values() for person in persons))
        if missing(rule.each, [(person, tuple(people.standing(person))) for person in each]):
            self.problems.append(f"{step.id} asks {needs(rule.each)}, and people.yaml has not enough of them")
        return {
            "each": dict(rule.each),
            "able": able,
            "not": self.source.owner,
            "timeout": span(rule.timeout),
            "on_timeout": str(rule.on_timeout),
            "asks": needs(rule.each),
            "because": "the playbook says so" if step.approval else self.distrust or "the playbook only proposes",
        }

    def _blast(self, steps: list[Json]) -> list[Json]:
        touched = {call["target"]: step["contains"] for step in steps for call in step["calls"]}
        touched |= {call["target"]: True for step in steps if step["contains"] for call in step["calls"]}
        found = []
        for kind, count in Counter(target.partition(":")[0] for target in touched).items():
            enrolled = self.config.agents.count(kind)
            share = round(100 * count / enrolled) if enrolled else None
            targets = [target for target in touched if target.partition(":")[0] == kind]
            found.append({"kind": kind, "targets": targets, "enrolled": enrolled or None, "percent": share})
        return found

    def _holds(self) -> list[Json]:
        """What agents.yaml says of the agent, and of each who acts for it. firedoor reach asks the systems."""
        of = (self.agent, *self.incident.delegates) if self.agent else ()
        return [{"agent": agent.id, "counts": dict(written(agent))} for agent in of]

    def _held_back(self, steps: list[Json]) -> list[str]:
        """What the limits on containing targets would defer, as far as the targets are known."""
        limits = self.playbook.limits
        targets = {call["target"] for step in steps if step["contains"] for call in step["calls"]}
        found = []
        if len(targets) > limits.targets:
            found.append(f"{len(targets)} targets, over the limit of {limits.targets}")
        for kind, count in Counter(target.partition(":")[0] for target in targets).items():
            enrolled = self.config.agents.count(kind)
            if enrolled and count > limits.of_a_kind(enrolled):
                found.append(f"{count} of {enrolled} {kind} targets, over the limit of {limits.targets_percent} %")
        return found


def _steps_read(values: list[Any]) -> set[str]:
    return {
        "the look at what it holds" if path[0] == "reach" else path[1] if len(path) > 1 else "every step"
        for value in values
        if value is not None
        for path in names_of(value)
        if path[0] in ("steps", "reach")
    }


def _able(people: People, group: str, without: set[str]) -> list[str]:
    wanted = set(group.split("|"))
    return [person for person in people.persons if wanted & people.standing(person) and person not in without]


def needs(each: Mapping[str, int]) -> str:
    return listed([f"{count} of {group.replace('|', ' or ')}" for group, count in each.items()])
