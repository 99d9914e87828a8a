"""Playbooks from YAML: the whole language, checked before it can run. Its JSON Schema is docs/playbook.schema.json."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from bot.actions import Action
from bot.config import expressions, yaml
from bot.config.reading import Problems, Section, duration, suggestion
from bot.config.yaml import Node
from bot.domain.expression import Expression, Literal, Template
from bot.domain.outcome import Grade
from bot.domain.playbook import (
    VERIFY,
    ApprovalRule,
    Call,
    Concurrency,
    Limits,
    Manual,
    OnError,
    OnTimeout,
    Param,
    Playbook,
    Retry,
    Rung,
    Stage,
    Step,
    Trigger,
)
from bot.domain.view import AGENT, ALERT, ALERT_WITH_TEXT, INCIDENT, REACH, Shape
from bot.domain.wording import listed

API_VERSION = "firedoor/v1"
ESCALATE = "page.escalate"  # the engine's own; it stands in on_failure only
GRADES: Mapping[str, Grade] = {grade.label: grade for grade in Grade}
FORM_KINDS = ("boolean", "number", "text")
CONCURRENCY_MODES = ("queue",)  # what waits is not lost
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_RUNS = re.compile(r"(\d{1,6})/(.+)")
STEP_UPS = ("totp",)
UNPROVED = timedelta(seconds=60)  # how long a proof is waited for
SOONEST = timedelta(seconds=10)  # a fight over a cut goes no faster
TOLD = ("intent", "impact", "cost", "policy")  # what an approver reads beside the plan itself
TOLD_MAX = 300  # characters of each
_MILESTONE = re.compile(r"[1-9]\d{0,4}|(?:[1-9]\d?|100)%")
_ACTION_KEYS = (
    *("with", "foreach", "contains", "require", "irreversible", "timeout", "retry", "approval", "rollback", "rollout"),
    "unproved",
    *TOLD,
)

Actions = Mapping[str, Action]


def load_playbook(text: str | bytes, where: str, actions: Actions | None) -> Playbook:
    """`where` is the file's name in messages. Without `actions` (a text pinned by an incident, checked when it was
    pinned) it is not held against today's actions. Raises ConfigError, or ConfigErrors with all that is wrong."""
    problems = Problems()
    playbook = _Reader(text, where, actions, problems).playbook()
    problems.raise_any()
    return playbook


def load_playbooks(folder: Path, actions: Actions, problems: Problems) -> dict[str, Playbook]:
    """Every playbook of a folder, by id, which is also its file's name; what is wrong is added to `problems`."""
    found: dict[str, Playbook] = {}
    for path in sorted(folder.glob("*.y*ml")):
        where = f"{folder.name}/{path.name}"
        playbook = problems.attempt(partial(load_playbook, path.read_bytes(), where, actions), None)
        if playbook and path.name != f"{playbook.id}.yaml":
            problems.add(
                where,
                f"the file of the playbook {playbook.id!r} is named {path.name!r}.",
                f"Name it {playbook.id}.yaml.",
            )
        elif playbook:
            found[playbook.id] = playbook
    return found


class _Reader:
    def __init__(self, text: str | bytes, where: str, actions: Actions | None, problems: Problems) -> None:
        self.pinned = actions is None
        self.actions, self.problems = actions or {}, problems
        self.root = yaml.parse(text, where)
        self.hash = hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()
        self.timeout, self.retry = timedelta(minutes=2), Retry()
        self.unless: dict[str, str] = {}  # step -> the step whose proof it waits for
        self.sections: dict[str, Section] = {}  # of the steps: where their parts stand

    def playbook(self) -> Playbook:
        with Section(self.root, self.problems, "the playbook") as top:
            top.text("apiVersion", choices=[API_VERSION])
            top.text("kind", choices=["Playbook"])
            version = top.text("version")
            if version and not _VERSION.fullmatch(version):
                top.report("version", f"the version {version!r} is not like 1.2.0.")
            with top.section("defaults") as defaults:
                self.timeout = self.positive(defaults, "timeout", self.timeout)
                self.retry = self.read_retry(defaults)
                verify = self.verify(defaults)
            scope = {"alert": ALERT, "agent": AGENT, "incident": INCIDENT, "reach": REACH}
            steps = {
                name: step
                for name, node in top.entries("steps", names=True).items()
                if (step := self.step(name, node)) is not None
            }
            if not steps:
                top.report("steps", "a playbook needs at least one step.")
            steps = {name: replace(step, unless=self.unless.get(name, "")) for name, step in steps.items()}
            self.check_graph(steps)
            self.check_step_names(steps, scope)
            return Playbook(
                id=top.name("id"),
                version=version,
                hash=self.hash,
                steps=_staged(steps),
                description=top.text("description", ""),
                rung=Rung(top.text("rung", Rung.ACT, choices=list(Rung))),
                priority=top.integer("priority", 0, -1000, 1000),
                triggers=tuple(map(self.trigger, top.elements("triggers"))),
                concurrency=self.concurrency(top, scope),
                limits=self.limits(top),
                timeout=self.positive(top, "timeout", timedelta(hours=4)),
                on_failure=tuple(self.on_failure(top, {**scope, "steps": self.step_shapes(steps)})),
                verify=verify,
            )

    def verify(self, defaults: Section) -> tuple[timedelta, ...]:
        """When cuts are looked at again: rising, none within the first ten seconds. `[]`: never."""
        if defaults.get("verify") is None:
            return VERIFY
        moments = [duration(text) for text in defaults.texts("verify")]
        known = [each for each in moments if each is not None]
        if known != moments or known != sorted(known) or any(each < SOONEST for each in known):
            defaults.report("verify", "'verify' is a list of times like 1m, which rise, and none under 10s.")
            return VERIFY
        return tuple(known)

    # The parts around the steps ------------------------------------------------------------------------------------

    def trigger(self, node: Node) -> Trigger:
        with Section(node, self.problems, "a trigger") as section:
            condition = self.expression(section, "if")
            types = section.texts("types")
            if condition is None and not types:
                section.report("", "a trigger needs 'types' or 'if'.", "Without either it would match every alert.")
            if condition is not None:
                scope: Mapping[str, Shape] = {"alert": ALERT_WITH_TEXT, "agent": AGENT}
                expressions.check_names(condition, scope, section.where("if"), self.problems)
            return Trigger(types, condition, node.where)

    def concurrency(self, top: Section, scope: Mapping[str, Shape]) -> Concurrency | None:
        if "concurrency" not in top:
            return None
        with top.section("concurrency") as section:
            mode = section.text("mode", "queue", choices=CONCURRENCY_MODES)
            group = self.template(section.get("group", required=True))
            expressions.check_names(group, scope, section.where("group"), self.problems)
            return Concurrency(group, mode)

    def limits(self, top: Section) -> Limits:
        usual = Limits()
        with top.section("limits") as section:
            runs, per = usual.runs, usual.per
            if text := section.text("runs", ""):
                match = _RUNS.fullmatch(text)
                span = duration(match[2]) if match else None
                if match is None or not span or int(match[1]) < 1:
                    section.report("runs", f"'runs' is {text!r}.", "Write a number per duration, like 5/1h.")
                else:
                    runs, per = int(match[1]), span
            return Limits(
                runs,
                per,
                section.integer("targets", usual.targets, least=1),
                section.integer("targets_percent", usual.targets_percent, least=1, most=100),
            )

    def on_failure(self, top: Section, scope: Mapping[str, Shape]) -> Iterator[Call]:
        for node in top.elements("on_failure"):
            with Section(node, self.problems, "on_failure") as section:
                call = self.call(section, allow_escalate=True)
                self.check_arguments(call, scope, section.where("with"))
                yield call

    # A step --------------------------------------------------------------------------------------------------------

    def step(self, name: str, node: Node) -> Step | None:
        with Section(node, self.problems, f"step {name!r}") as section:
            self.sections[name] = section
            step = Step(
                id=name,
                needs=section.texts("needs"),
                after=section.texts("after"),
                condition=self.expression(section, "if"),
                on_error=OnError(section.text("on_error", OnError.FAIL, choices=list(OnError))),
                line=node.line,
            )
            if ("manual" in section) == ("uses" in section):
                section.report("", f"step {name!r} needs either 'uses' or 'manual'.")
                section.entries()  # what the other keys should be is unclear: do not report them as unknown too
                return None
            if "manual" in section:
                for key in _ACTION_KEYS:
                    if key in section:
                        section.report(key, f"a manual step has no {key!r}.")
                return replace(step, manual=self.manual(section))
            return self.action_step(section, step)

    def action_step(self, section: Section, step: Step) -> Step:
        call = self.call(section)
        step = replace(
            step,
            call=call,
            foreach=self.expression(section, "foreach"),
            contains=section.flag("contains"),
            require=GRADES[section.text("require", Grade.CONFIG.label, choices=GRADES)],
            irreversible=section.flag("irreversible"),
            timeout=self.positive(section, "timeout", self.timeout),
            retry=self.read_retry(section),
            approval=self.approval(section),
            rollback=self.rollback(section),
            stage=self.rollout(section),
            intent=self.told(section, "intent"),
            impact=self.told(section, "impact"),
            cost=self.told(section, "cost"),
            policy=self.told(section, "policy"),
            unproved=self.unproved(section, step.id),
        )
        if step.stage:
            self.check_rollout(section, step)
        if "require" in section and not step.contains:
            section.report("require", "'require' is for steps with 'contains: true'.")
        if step.contains and step.rollback:
            section.report("rollback", "a containing step is never rolled back.", "A person releases it; remove this.")
        if action := self.actions.get(call.uses):
            self.check_promises(section, step, action)
        return step

    def check_promises(self, section: Section, step: Step, action: Action) -> None:
        """What the step claims against what the action can do."""
        if step.contains and not action.containing:
            section.report("contains", f"{action.id!r} contains nothing.", "Remove 'contains'.")
        elif step.contains and step.require > action.best_grade:
            section.report(
                "require" if "require" in section else "uses",
                f"{action.id!r} never reaches {step.require.label!r}.",
                f"At best: require: {action.best_grade.label}.",
            )
        if not (action.undoable or step.irreversible or step.rollback):
            section.report("uses", f"{action.id!r} cannot be undone.", "Say so: add 'irreversible: true'.")

    def manual(self, section: Section) -> Manual:
        with section.section("manual", "a manual step") as manual:
            form: dict[str, str | tuple[str, ...]] = {}
            for field, node in manual.entries("form", names=True).items():
                match node.value:
                    case str() as kind if kind in FORM_KINDS:
                        form[field] = kind
                    case [_, *_] as choices if all(isinstance(each.value, str) for each in choices):
                        form[field] = tuple(each.raw for each in choices)
                    case _:
                        hint = f"Write {', '.join(FORM_KINDS)}, or a list of choices."
                        self.problems.add(node.where, f"the form field {field!r} has no known kind.", hint)
            return Manual(manual.text("assignee"), form, self.positive(manual, "due", timedelta(minutes=30)))

    def approval(self, section: Section) -> ApprovalRule | None:
        if "approval" not in section:
            return None
        with section.section("approval", "an approval") as approval:
            with approval.section("each", "an approval's 'each'") as each:
                groups = {group: each.integer(group, 1, least=1, most=20) for group in each.entries()}
            if not groups:
                approval.report("each", "an approval names its groups.", "Write each: {security_team: 1}.")
            timeout = self.positive(approval, "timeout", timedelta(minutes=10))
            on_timeout = approval.text("on_timeout", OnTimeout.ESCALATE, choices=list(OnTimeout))
            step_up = approval.text("step_up", choices=STEP_UPS) if "step_up" in approval else ""
            return ApprovalRule(groups, timeout, OnTimeout(on_timeout), step_up)

    def told(self, section: Section, key: str) -> str:
        words = " ".join(section.text(key, "").split())
        if len(words) > TOLD_MAX:
            section.report(key, f"{key!r} has {len(words)} characters; people read {TOLD_MAX} at most.")
        return words

    def unproved(self, section: Section, step: str) -> timedelta | None:
        """How long other steps wait for its proof; which ones is said to them when all are known."""
        if "unproved" not in section:
            return None
        with section.section("unproved", "'unproved'") as unproved:
            after = self.positive(unproved, "after", UNPROVED)
            then = unproved.texts("then")
            if not then:
                unproved.report("then", "'unproved' names the steps that run without proof.", "Write then: [revoke].")
            if not section.flag("contains"):
                section.report("unproved", "'unproved' is for steps with 'contains: true'.")
            for name in then:
                if name in self.unless:
                    why = f"{name!r} waits for the proof of {self.unless[name]!r} already."
                    unproved.report("then", why, "A step waits for one proof.")
                self.unless.setdefault(name, step)
            return after

    def rollout(self, section: Section) -> Stage | None:
        """The last of its stages; `_staged` makes the others of it."""
        if "rollout" not in section:
            return None
        with section.section("rollout", "a rollout") as rollout:
            milestones = rollout.texts("milestones")
            for milestone in milestones:
                if not _MILESTONE.fullmatch(milestone):
                    hint = "Write a number of elements, like 3, or a share of them, like 10%."
                    rollout.report("milestones", f"{milestone!r} is no milestone.", hint)
                    return None
            for kind in (False, True):
                counts = [int(each.rstrip("%")) for each in milestones if each.endswith("%") is kind]
                if counts != sorted(counts):
                    rollout.report("milestones", f"{listed(milestones)} do not grow.", "Each reaches further.")
            if milestones[-1:] != ("100%",):
                rollout.report("milestones", "the last milestone is 100%.", "Write milestones: [1, 10%, 100%].")
            return Stage(milestones, len(milestones) - 1) if milestones else None

    def check_rollout(self, section: Section, step: Step) -> None:
        if step.contains:
            section.report("rollout", "a containing step waits for nothing, so it has no stages.", "Remove 'rollout'.")
        for key in ("foreach", "approval"):
            if key not in section:
                section.report("rollout", f"a rollout needs {key!r}.", "It asks at each milestone of its list.")
        reads = (
            names for each in (step.rollback.arguments if step.rollback else {}).values() for names in _reads(each)
        )
        if step.id in reads:
            section.report("rollback", f"each stage is taken back alone: it cannot read steps.{step.id}.")

    def rollback(self, section: Section) -> Call | None:
        if "rollback" not in section:
            return None
        with section.section("rollback", "a rollback") as rollback:
            return self.call(rollback)

    def read_retry(self, section: Section) -> Retry:
        usual = self.retry
        with section.section("retry", "'retry'") as retry:
            retry.text("jitter", "full", choices=["full"])
            return Retry(
                retry.integer("attempts", usual.attempts, least=1, most=50),
                retry.duration("backoff", timedelta(seconds=usual.backoff)).total_seconds(),
                retry.number("factor", usual.factor, least=1, most=10),
                retry.duration("max", timedelta(seconds=usual.max)).total_seconds(),
            )

    def call(self, section: Section, allow_escalate: bool = False) -> Call:
        uses = section.text("uses")
        arguments = {name: self.template(node) for name, node in section.entries("with").items()}
        action = self.actions.get(uses)
        if action is not None:
            self.check_params(section, action, arguments)
        elif uses == ESCALATE and not allow_escalate:
            section.report("uses", f"{ESCALATE!r} stands in on_failure only.")
        elif uses == ESCALATE and arguments:
            section.report("with", f"{ESCALATE!r} takes no arguments.")
        elif uses and uses != ESCALATE and not self.pinned:
            section.report("uses", f"unknown action {uses!r}.", suggestion(uses, self.actions))
        return Call(uses, arguments)

    def check_params(self, section: Section, action: Action, arguments: Mapping[str, Template]) -> None:
        params = {param.name: param for param in action.params}
        given = section.section("with")
        for name, template in arguments.items():
            if name not in params:
                given.report(name, f"{action.id!r} has no parameter {name!r}.", suggestion(name, params))
            elif problem := _literal_problem(template, params[name]):
                given.report(name, problem)
        for name in sorted(params.keys() - arguments.keys()):
            if params[name].required:
                section.report("with" if arguments else "uses", f"{action.id!r} needs the parameter {name!r}.")

    # Names and order -----------------------------------------------------------------------------------------------

    def check_graph(self, steps: Mapping[str, Step]) -> None:
        for step in steps.values():
            section = self.sections[step.id]
            for key, names in (("needs", step.needs), ("after", step.after)):
                for before in names:
                    if before not in steps and before not in self.sections:
                        hint = suggestion(before, steps)
                        section.report(key, f"step {step.id!r} waits for an unknown step {before!r}.", hint)
            for both in sorted({*step.needs} & {*step.after}):
                section.report("after", f"step {step.id!r} names {both!r} in 'needs' and in 'after'.", "Keep one.")
        for name, other in self.unless.items():
            section = self.sections[other].section("unproved")
            if name not in steps and name not in self.sections:
                section.report("then", f"step {other!r} names an unknown step {name!r}.", suggestion(name, steps))
            elif name in steps and steps[name].stage:
                section.report("then", f"step {name!r} is rolled out in stages: it cannot wait for a proof.")
        try:
            waits = {
                step.id: (*step.needs, *step.after, *((step.unless,) if step.unless else ())) for step in steps.values()
            }
            TopologicalSorter(waits).prepare()
        except CycleError as error:
            path = error.args[1]
            self.sections[path[0]].report("", f"steps wait for each other: {' <- '.join(path)}.")

    def check_step_names(self, steps: Mapping[str, Step], scope: Mapping[str, Shape]) -> None:
        for step in steps.values():
            before = _upstream(step, steps)
            section = self.sections[step.id]
            names: Mapping[str, Shape] = {**scope, "steps": self.step_shapes(steps)}
            if step.foreach is not None:
                self.check_order(step, step.foreach, steps, before, section.where("foreach"))
                elements = expressions.shape_of(step.foreach, names, section.where("foreach"), self.problems)
                names = {**names, "item": elements[0] if isinstance(elements, tuple) else None}
            if step.condition is not None:
                self.check_order(step, step.condition, steps, before, section.where("if"))
                expressions.check_names(step.condition, names, section.where("if"), self.problems)
            for key, call, known in (("with", step.call, before), ("rollback", step.rollback, before | {step.id})):
                holder = section if key == "with" else section.section(key)
                for argument, template in (call.arguments if call else {}).items():
                    where = holder.section("with").where(argument)
                    self.check_order(step, template, steps, known, where)
                    expressions.check_names(template, names, where, self.problems)

    def check_order(
        self, step: Step, value: Expression | Template, steps: Mapping[str, Step], before: frozenset[str], where: str
    ) -> None:
        for path in sorted(expressions.names_of(value)):
            if path[0] == "steps" and len(path) > 1 and path[1] in steps and path[1] not in before:
                hint = f"Add {path[1]!r} to its 'needs' or 'after'."
                self.problems.add(where, f"step {step.id!r} reads steps.{path[1]}, which may run later.", hint)

    def step_shapes(self, steps: Mapping[str, Step]) -> Mapping[str, Shape]:
        return {name: {"status": None, "outputs": self.outputs(step)} for name, step in steps.items()}

    def outputs(self, step: Step) -> Shape:
        """A manual step's outputs are its form. Where an action made several calls, each key holds a list."""
        if step.manual:
            return dict.fromkeys(step.manual.form)
        action = self.actions.get(step.call.uses) if step.call else None
        return dict.fromkeys(action.outputs) if action else None

    def check_arguments(self, call: Call, scope: Mapping[str, Shape], where: str) -> None:
        for template in call.arguments.values():
            expressions.check_names(template, scope, where, self.problems)

    # Values --------------------------------------------------------------------------------------------------------

    def expression(self, section: Section, key: str) -> Expression | None:
        node = section.get(key)
        if node is None:
            return None
        if isinstance(node.value, dict | list):
            section.report(key, f"{key!r} must be an expression.", "Write ${{ ... }}.")
            return None
        return self.problems.attempt(lambda: expressions.parse(node.raw, node.where), None)

    def template(self, node: Node | None) -> Template:
        nothing = Template(Literal(None))
        return nothing if node is None else self.problems.attempt(lambda: expressions.template(node), nothing)

    def positive(self, section: Section, key: str, default: timedelta) -> timedelta:
        found = section.duration(key, default)
        if not found:
            section.report(key, f"{key!r} must be longer than nothing.")
        return found or default


def _upstream(step: Step, steps: Mapping[str, Step]) -> frozenset[str]:
    """Every step that is settled before this one starts."""
    found: set[str] = set()
    waiting = [*step.needs, *step.after]
    while waiting:
        name = waiting.pop()
        if name in steps and name not in found:
            found.add(name)
            waiting += [*steps[name].needs, *steps[name].after]
    return frozenset(found)


def _reads(template: Template) -> frozenset[str]:
    """The steps whose results it reads."""
    return frozenset(path[1] for path in expressions.names_of(template) if path[0] == "steps" and len(path) > 1)


def _staged(steps: Mapping[str, Step]) -> dict[str, Step]:
    """A step that is rolled out becomes one step for each milestone, each needing the one before. Its last has its id,
    so that what needs it waits for all."""
    found: dict[str, Step] = {}
    for step in steps.values():
        if step.stage is None:
            found[step.id] = step
            continue
        before: tuple[str, ...] = ()
        for number, milestone in enumerate(step.stage.milestones):
            id = step.id if number == step.stage.number else f"{step.id}@{milestone}"
            stage = replace(step, id=id, stage=replace(step.stage, number=number))
            found[id] = replace(stage, needs=before, after=()) if before else stage
            before = (id,)
    return found


_KINDS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "mapping": (Mapping,),
    "list": (tuple,),
}


def _literal_problem(template: Template, param: Param) -> str:
    """What is wrong with a value that holds no expression; an expression is only known when it is evaluated."""
    if template.parts:
        return "" if param.kind in ("string", "any") else f"{param.name!r} must be a {param.kind}, not a text."
    value: Any = template.value.value if isinstance(template.value, Literal) else template.value
    if not isinstance(template.value, Literal | Mapping | tuple) or param.kind == "any":
        return ""
    wanted = _KINDS[param.kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        return f"{param.name!r} must be {'an' if param.kind == 'integer' else 'a'} {param.kind}."
    if param.choices and value not in param.choices:
        return f"{param.name!r} is {value!r}, which is none of {', '.join(param.choices)}."
    return ""
