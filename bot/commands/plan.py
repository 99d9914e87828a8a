"""`firedoor plan`: what a playbook would do about an alert, by the rules that count in earnest."""

from __future__ import annotations

import json
import secrets
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from bot.actions import registry
from bot.adapters.clock import SystemClock
from bot.commands.command import Command, Exit, Usage, with_config, with_json
from bot.commands.outlook import Json, Outlook
from bot.commands.terminal import as_json, heading, say, table
from bot.config import Config, load
from bot.config.playbooks import load_playbook
from bot.config.reading import suggestion
from bot.domain.alert import Alert
from bot.domain.playbook import Playbook
from bot.domain.reach import counted
from bot.domain.redaction import Redactor
from bot.domain.source import SourceRules
from bot.domain.wording import listed
from bot.errors import BadAlert
from bot.sources import read
from bot.sources.body import decode


def show(asked: Namespace) -> int:
    folder: Path = asked.config
    config = load(folder)
    redactor = Redactor(secrets.token_bytes(32))  # its marks differ from run to run: nothing here is kept
    alerts, source = _read(asked, config, redactor)
    if not 1 <= asked.pick <= len(alerts):
        raise Usage(f"--pick is {asked.pick}; the delivery has {len(alerts)} alert{'s' if len(alerts) != 1 else ''}.")
    playbook = _playbook(asked.playbook, config)
    outlook = Outlook(config, folder, playbook, alerts[asked.pick - 1], source, SystemClock().now())
    plain = json.loads(json.dumps(outlook.json() | {"alerts_in_delivery": len(alerts)}, default=str))
    told: Json = {name: redactor.json(value) for name, value in plain.items()}
    if asked.json:
        as_json(told)
    else:
        _print(told)
    return Exit.FOUND if told["problems"] else Exit.OK


def _read(asked: Namespace, config: Config, redactor: Redactor) -> tuple[tuple[Alert, ...], SourceRules]:
    try:
        body = sys.stdin.buffer.read() if str(asked.alert) == "-" else asked.alert.read_bytes()
    except OSError as error:
        raise Usage(f"{asked.alert} cannot be read: {error.strerror}.") from None
    try:
        payload = redactor.json(decode(body, limit=config.settings.intake.body))
    except BadAlert as error:
        raise BadAlert(f"{asked.alert}: {error}") from None
    if asked.source:
        if asked.source not in config.sources:
            raise Usage(f"there is no source {asked.source!r}. {suggestion(asked.source, config.sources)}")
        rules = config.sources[asked.source].rules
        alerts = read(rules, payload)
        if not alerts:
            raise BadAlert(f"{asked.alert}: {rules.name} reads no news in it.")
        return alerts, rules
    readable: dict[str, tuple[Alert, ...]] = {}
    for name, source in config.sources.items():
        try:
            if alerts := read(source.rules, payload):
                readable[name] = alerts
        except BadAlert:
            continue
    if len(readable) != 1:
        could = f"{listed([*readable])} can each read it" if readable else "no source can read it"
        raise Usage(f"{asked.alert}: {could}. Say which it came from: --source NAME")
    ((name, alerts),) = readable.items()
    return alerts, config.sources[name].rules


def _playbook(asked: str, config: Config) -> Playbook:
    """By id, or a file that is not in the folder yet."""
    if asked in config.playbooks:
        return config.playbooks[asked]
    path = Path(asked)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return load_playbook(path.read_bytes(), str(path), registry())
    raise Usage(f"there is no playbook {asked!r}. {suggestion(asked, config.playbooks)}")


# Text ---------------------------------------------------------------------------------------------------------


def _print(told: Json) -> None:
    playbook, alert = told["playbook"], told["alert"]
    say(f"{playbook['id']} {playbook['version']} (rung {told['rung']}, {playbook['hash'][:12]})")
    agent = told["agent"] or (f"{told['agent_said']}, not enrolled" if told["agent_said"] else "unknown")
    more = f"; the first of {told['alerts_in_delivery']} alerts" if told["alerts_in_delivery"] > 1 else ""
    rows = [
        ("alert", f"{alert['source']}: {alert['rule']}, {alert['severity']}{more}"),
        ("agent", agent),
        ("incident", f"{told['severity']} {told['type']} ({told['type_because']})"),
    ]
    for trigger in told["triggers"]:
        matches = "matches" if trigger["matches"] else "does not match"
        rows.append((f"trigger {trigger['number']}", f"{matches}: {trigger['why']}"))
    run = told["would_run"] or "no playbook"
    rows.append(("would run", "this playbook" if run == playbook["id"] else f"{run}, not {playbook['id']}"))
    if told["would_propose"]:
        rows.append(("proposed", listed(told["would_propose"])))
    if told["distrust"]:
        rows.append(("contains", f"not by itself: {told['distrust']}"))
    table(rows)
    wave = 0
    for step in told["steps"]:
        if step["wave"] != wave:
            wave = step["wave"]
            heading("At once" if wave == 1 else f"Wave {wave}")
        _print_step(step)
    heading("Blast radius")
    table(
        (
            one["kind"],
            len(one["targets"]),
            f"{one['percent']} % of {one['enrolled']} enrolled" if one["enrolled"] else "",
        )
        for one in told["blast_radius"]
    )
    for number, one in enumerate(told["holds"]):
        who = f"{one['agent']}, which acts for it," if number else one["agent"]
        say(f"  {who} holds {counted(one['counts']) or 'nothing'}")
    if told["holds"]:
        say(f"  (as agents.yaml says; what of it is alive: firedoor reach {told['agent']})")
    for why in told["held_back"]:
        say(f"  held back until a person overrides: {why}")
    if told["on_failure"]:
        heading(f"On failure: {listed(told['on_failure'])}")
    for problem in told["problems"]:
        say(f"problem: {problem}")


def _print_step(step: Json) -> None:
    marks = [word for word in ("contains", "irreversible") if step[word]]
    what = step["action"] or "a person"
    say(f"  {step['step']}: {what}" + (f" [{', '.join(marks)}]" if marks else ""))
    rows: list[tuple[str, str]] = []
    if step["waits_for"]:
        rows.append(("after", listed(step["waits_for"])))
    if step["condition_known_when"]:
        rows.append(("if", f"known when {listed(step['condition_known_when'])} is done"))
    if step["inputs_known_when"]:
        rows.append(("targets", f"known when {listed(step['inputs_known_when'])} is done"))
    rows += [
        ("on", f"{call['target']} via {call['system'] or 'this process'}{_params(call)}") for call in step["calls"]
    ]
    rows += [("denies", line) for call in step["calls"] for line in _denied(call["denies"])]
    if step.get("requires"):
        rows.append(("proof", f"{step['requires']} required, {step['best_grade']} is the best it can reach"))
    if approval := step["approval"]:
        able = ((group.replace("|", " or "), persons) for group, persons in approval["able"].items())
        who = "; ".join(f"{group}: {', '.join(persons) or 'nobody'}" for group, persons in able)
        not_them = f", never {approval['not']}, whose source raised it" if approval["not"] else ""
        rows.append(("asks", f"{approval['asks']} within {approval['timeout']}, then {approval['on_timeout']}"))
        rows.append(("", f"({who}{not_them}; {approval['because']})"))
    if manual := step.get("manual"):
        rows.append(("asks", f"{manual['assignee']} ({listed(manual['on_call']) or 'nobody'}) within {manual['due']}"))
        rows.append(("", f"for {listed([*manual['form']])}"))
    if step.get("rollback"):
        rows.append(("rollback", step["rollback"]))
    if step["why"]:
        rows.append((step["status"].replace("_", " "), step["why"]))
    table(rows, "      ")


def _denied(denies: list[Json]) -> Iterator[str]:
    """A line for each principal."""
    for (who, unless), found in groupby(denies, key=lambda one: (one["who"], one["unless"])):
        answers = "; ".join(f"{one['asked_by']}: {one['answer']}" if who else one["answer"] for one in found)
        yield (f"{who}: " if who else "") + answers + (f" (unless {unless})" if unless else "")


def _params(call: Json) -> str:
    params = ", ".join(f"{key}={value}" for key, value in call["params"].items() if value not in ("", None))
    return f" ({params})" if params else ""


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("playbook", metavar="PLAYBOOK", help="its id, or the file of one that is not in use yet")
    parser.add_argument("--alert", metavar="FILE", type=Path, required=True, help="what the source sends; - is stdin")
    parser.add_argument("--source", metavar="NAME", help="the source it comes from, where several could read it")
    parser.add_argument("--pick", metavar="N", type=int, default=1, help="which alert of a delivery of several")
    with_config(parser)
    with_json(parser)


COMMANDS = (
    Command(
        "plan",
        "show what a playbook would do about an alert",
        "Reads an alert as its source would send it, says which triggers match, and renders every step: order,\n"
        "action, targets, parameters, approvals, grades and blast radius. Contacts no system and writes nothing.",
        "firedoor plan data-exposure --alert alert.json --source siem",
        show,
        _arguments,
    ),
)
