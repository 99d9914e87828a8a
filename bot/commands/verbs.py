"""Speaking to an incident: the verbs, said through the running server by a person who proves it with a TOTP code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from bot.commands.command import Command, Exit, Usage
from bot.commands.server import tell, with_server
from bot.commands.terminal import as_json, say
from bot.domain.alert import Sev
from bot.domain.record import Status

INCIDENTS = "/v1/incidents"
Fields = Callable[[Namespace], dict[str, Any]]


def _declare(asked: Namespace) -> int:
    fields = {name: getattr(asked, name) for name in ("title", "message", "type", "severity", "agent")}
    return _told(asked, tell(asked, INCIDENTS, **fields))


def _no_fields(_: Namespace) -> dict[str, Any]:
    return {}


def _say(verb: str, fields: Fields = _no_fields) -> Callable[[Namespace], int]:
    def run(asked: Namespace) -> int:
        return _told(asked, tell(asked, f"{INCIDENTS}/{asked.incident}/{verb}", **fields(asked)))

    return run


def _decide(verb: str, fields: Fields) -> Callable[[Namespace], int]:
    def run(asked: Namespace) -> int:
        incident, _, number = asked.request.partition("/")
        if not number:
            raise Usage(f"{asked.request!r} is no request: write it as incident show does, like INC-7/12.0")
        return _told(asked, tell(asked, f"{INCIDENTS}/{incident}/{verb}", request=asked.request, **fields(asked)))

    return run


def _told(asked: Namespace, answer: dict[str, Any]) -> int:
    if asked.json:
        as_json(answer)
        return Exit.OK
    acked = f"acknowledged by {answer['acked_by']}" if answer["acked_by"] else "not acknowledged"
    say(f"{answer['incident']}: {answer['status']}, containment {answer['containment']}, {acked}")
    for one in answer["approvals"]:
        say(f"  waits for approval: {one['request']} ({one['step']})")
    return Exit.OK


def _values(asked: Namespace) -> dict[str, Any]:
    pairs = [pair.partition("=") for pair in asked.values]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise Usage(f"{wrong[0]!r} is no field: write each as FIELD=VALUE.")
    return {"step": asked.step, "values": {name: value for name, _, value in pairs}}


# Arguments -----------------------------------------------------------------------------------------------------------


def _arguments(*positional: tuple[str, str]) -> Callable[[ArgumentParser], None]:
    def add(parser: ArgumentParser) -> None:
        for name, meaning in positional:
            parser.add_argument(name, metavar=name.upper(), help=meaning)
        with_server(parser)

    return add


INCIDENT = ("incident", "its id, like INC-7")
STEP = ("step", "the step's name in the playbook")
REQUEST = ("request", "the approval's id as incident show says it, like INC-7/12.0")


def _declare_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("title", metavar="TITLE", help="what happened, in a few words")
    parser.add_argument(
        "--type", default="", metavar="TYPE", help="its kind, as in escalation.yaml (default: unclassified)"
    )
    parser.add_argument("--agent", default="", metavar="AGENT", help="the agent it is about")
    severities = [severity.name for severity in Sev]
    parser.add_argument("--severity", choices=severities, default=Sev.SEV3.name, help="default: SEV3")
    parser.add_argument("--message", default="", metavar="TEXT", help="all that is known")
    with_server(parser)


def _approve_arguments(parser: ArgumentParser) -> None:
    _arguments(REQUEST)(parser)
    parser.add_argument(
        "--plan", default="", metavar="HASH", help="the plan that you have read: if it has changed, this is refused"
    )


def _refuse_arguments(parser: ArgumentParser) -> None:
    _arguments(REQUEST)(parser)
    parser.add_argument("--why", default="", metavar="TEXT", help="your reason, kept in the record")


def _status_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(*INCIDENT[:1], metavar="INCIDENT", help=INCIDENT[1])
    parser.add_argument("to", metavar="STATUS", choices=[str(status) for status in Status], help=", ".join(Status))
    with_server(parser)


def _override_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT, STEP)(parser)
    parser.add_argument("--accept", action="store_true", help="take its result as it is, without another try")


def _form_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(*INCIDENT[:1], metavar="INCIDENT", help=INCIDENT[1])
    parser.add_argument(*STEP[:1], metavar="STEP", help=STEP[1])
    parser.add_argument("values", metavar="FIELD=VALUE", nargs="+", help="every field of the form")
    with_server(parser)


PROOF = "\nSaid through the running server, as a person of people.yaml with a TOTP code."

COMMANDS = (
    Command(
        "incident declare",
        "open an incident by hand",
        f"Opens an incident; the playbook of its type runs and people are paged.{PROOF}",
        'firedoor incident declare "Agent mails customer lists" --type data_exposure --agent agent-9 --as sre-1',
        _declare,
        _declare_arguments,
    ),
    Command(
        "incident ack",
        "acknowledge: you take it from here",
        f"Acknowledges an incident: escalation pages stop, containment goes on.{PROOF}",
        "firedoor incident ack INC-7 --as sre-1 --code 123456",
        _say("ack"),
        _arguments(INCIDENT),
    ),
    Command(
        "incident contain",
        "start the playbook that is only at hand or proposed",
        f"Starts the incident's playbook, and the cuts that the alert's source may not start itself.{PROOF}",
        "firedoor incident contain INC-7 --as sre-1 --code 123456",
        _say("contain"),
        _arguments(INCIDENT),
    ),
    Command(
        "incident unack",
        "take an acknowledgement back",
        f"Takes the acknowledgement back: people are paged again.{PROOF}",
        "firedoor incident unack INC-7 --as sre-1",
        _say("unack"),
        _arguments(INCIDENT),
    ),
    Command(
        "incident approve",
        "approve a step that asks",
        f"Approves a step's plan as one of the persons it needs.{PROOF}",
        "firedoor incident approve INC-7/12.0 --as infra-owner-1",
        _decide("approve", lambda asked: {"hash": asked.plan}),
        _approve_arguments,
    ),
    Command(
        "incident refuse",
        "refuse a step that asks",
        f"Refuses a step's plan: it is not done.{PROOF}",
        'firedoor incident refuse INC-7/12.0 --why "The role is shared" --as infra-owner-1',
        _decide("refuse", lambda asked: {"why": asked.why}),
        _refuse_arguments,
    ),
    Command(
        "incident release",
        "let go of what one step holds",
        f"Releases this incident's hold of one containing step. What another incident holds stays held.{PROOF}",
        "firedoor incident release INC-7 shadow --as head-of-security",
        _say("release", lambda asked: {"step": asked.step}),
        _arguments(INCIDENT, STEP),
    ),
    Command(
        "incident resolve",
        "say that it is over",
        f"Resolves an incident; the postmortem is drafted. What is held stays held until it is released.{PROOF}",
        "firedoor incident resolve INC-7 --as head-of-security",
        _say("resolve"),
        _arguments(INCIDENT),
    ),
    Command(
        "incident status",
        "set the status",
        f"Sets how far people are with it.{PROOF}",
        "firedoor incident status INC-7 recovering --as head-of-security",
        _say("status", lambda asked: {"to": asked.to}),
        _status_arguments,
    ),
    Command(
        "incident note",
        "add a note to the record",
        f"Adds a note. Secrets in it are taken out; it is kept encrypted and can be erased.{PROOF}",
        'firedoor incident note INC-7 "Restored from the 02:30 backup" --as sre-1',
        _say("note", lambda asked: {"text": asked.text}),
        _arguments(INCIDENT, ("text", "what to note")),
    ),
    Command(
        "incident form",
        "complete a step that asks a person",
        f"Completes a manual step: every field of its form, as incident show lists them.{PROOF}",
        "firedoor incident form INC-7 confirm_impact customer_impact=no affected_systems=orders --as sre-1",
        _say("form", _values),
        _form_arguments,
    ),
    Command(
        "incident override",
        "run a step that was held back or failed, on your word",
        f"Lets a deferred, failed or unknown step run (again), or accepts it as it is.{PROOF}",
        "firedoor incident override INC-7 shadow --as head-of-security",
        _say("override", lambda asked: {"step": asked.step, "accept": asked.accept}),
        _override_arguments,
    ),
)
