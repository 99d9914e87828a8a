"""Speaking to an incident: the verbs, said through the running server by a person who proves it with a TOTP code."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bot.commands.command import Command, Exit, Usage
from bot.commands.records import records
from bot.commands.server import tell, with_server
from bot.commands.terminal import as_json, say
from bot.domain.alert import Sev
from bot.domain.conversation import ROLES
from bot.domain.events import Status
from bot.domain.planning import way_back
from bot.domain.state import STAGES

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
    stands = f"{answer['status']}, {answer['severity']}, containment {answer['containment']}"
    say(f"{answer['incident']}: {stands}, {acked}")
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
            read = str.upper if name in IDS else str
            parser.add_argument(name, metavar=name.upper(), help=meaning, type=read)
        with_server(parser)

    return add


IDS = ("incident", "request", "into")  # `inc-7` is INC-7
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
    parser.add_argument(*INCIDENT[:1], metavar="INCIDENT", help=INCIDENT[1], type=str.upper)
    said = [str(status) for status in Status if status is not Status.MERGED]
    parser.add_argument("to", metavar="STATUS", choices=said, help=", ".join(said))
    with_server(parser)


def _severity_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(*INCIDENT[:1], metavar="INCIDENT", help=INCIDENT[1], type=str.upper)
    names = [severity.name for severity in Sev]
    parser.add_argument("to", metavar="SEVERITY", choices=names, type=str.upper, help=", ".join(names))
    with_server(parser)


def _role_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT, ("role", f"{', '.join(ROLES)}, or one of people.yaml"))(parser)
    parser.add_argument("--to", dest="who", default="", metavar="PERSON", help="who is to do it (default: you)")
    parser.add_argument("--drop", action="store_true", help="nobody does it any more")


def _task_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT, ("text", "what is to be done"))(parser)
    _owner_and_due(parser)


def _change_task_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT, ("task", "its id, like T1"))(parser)
    parser.add_argument("--done", action="store_true", help="it is done")
    _owner_and_due(parser)


def _owner_and_due(parser: ArgumentParser) -> None:
    parser.add_argument("--owner", default="", metavar="PERSON", help="who does it")
    parser.add_argument("--due", default="", metavar="WHEN", help="2h from now, or 2026-01-05T09:00:00Z")


def _update_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT, ("conditions", "how it stands"))(parser)
    parser.add_argument("--actions", default="", metavar="TEXT", help="what is being done")
    parser.add_argument("--needs", default="", metavar="TEXT", help="what is needed")


def _snooze_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT)(parser)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--minutes", type=int, metavar="N", help="no reminder for so long")
    how.add_argument("--stop", action="store_true", help="no reminder until the next update was given")


def _silence_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT)(parser)
    parser.add_argument("--minutes", type=int, metavar="N", default=30, help="for how long, 240 at most (default: 30)")


def _override_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT, STEP)(parser)
    parser.add_argument("--accept", action="store_true", help="take its result as it is, without another try")


def _form_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(*INCIDENT[:1], metavar="INCIDENT", help=INCIDENT[1], type=str.upper)
    parser.add_argument(*STEP[:1], metavar="STEP", help=STEP[1])
    parser.add_argument("values", metavar="FIELD=VALUE", nargs="+", help="every field of the form")
    with_server(parser)


def _reissue_fields(asked: Namespace) -> dict[str, Any]:
    if asked.policies:
        params = {"path": asked.role, "policies": asked.policies.split(",")}
        return {"action": "vault.reissue_role", "params": {key: value for key, value in params.items() if value}}
    if asked.policy is None:
        raise Usage("say what is to be given: --policy FILE (an IAM policy) or --vault-policies NAME,NAME")
    try:
        policy = json.loads(asked.policy.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Usage(f"{asked.policy} cannot be read as a JSON policy: {error}") from None
    params = {"role": asked.role, "user": asked.user, "policy": policy}
    return {"action": "aws.iam_reissue", "params": {key: value for key, value in params.items() if value}}


def _reissue_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(*INCIDENT[:1], metavar="INCIDENT", help=INCIDENT[1], type=str.upper)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--policy", metavar="FILE", type=Path, help="the IAM policy that it is to have from now on")
    how.add_argument(
        "--vault-policies", dest="policies", default="", metavar="NAMES", help="the Vault role's, by comma"
    )
    parser.add_argument("--role", default="", metavar="ROLE", help="ARN or Vault path, where the agent has several")
    parser.add_argument("--user", default="", metavar="USER", help="name of an IAM user, in place of a role")
    with_server(parser)


def _rollback(asked: Namespace) -> int:
    if not asked.plan:
        return _say("rollback")(asked)
    with records(asked.config) as kept:
        incident = kept.incident(asked.incident, kept.entries(asked.incident))
    backs = way_back(incident)
    for number, back in enumerate((one for one in backs if one.run), 1):
        say(f"{number}. {back.step}: {back.action} on {', '.join(call.target for call in back.calls)}")
    for back in backs:
        if not back.run:
            say(f"by hand: {back.step}: {back.why}")
    if not backs:
        say(f"{incident.id} changed nothing but what it contains; that is released, one step at a time.")
    return Exit.OK


def _rollback_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT)(parser)
    parser.add_argument("--plan", action="store_true", help="only show what would be taken back, and in what order")


def _return_arguments(parser: ArgumentParser) -> None:
    _arguments(INCIDENT)(parser)
    stages = [str(one) for one in STAGES]
    parser.add_argument(
        "--to", default="", choices=["", *stages], metavar="STAGE", help=f"{', '.join(stages)} (default: the next)"
    )


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
    Command(
        "incident severity",
        "raise or lower the severity",
        f"Sets how bad it is. What is contained stays so; lowering it needs the right to.{PROOF}",
        "firedoor incident severity INC-7 SEV1 --as sre-1",
        _say("severity", lambda asked: {"to": asked.to}),
        _severity_arguments,
    ),
    Command(
        "incident role",
        "take a role, or give it to somebody",
        f"Says who does what. A role of people.yaml is taken, or given on, by who has it there.{PROOF}",
        "firedoor incident role INC-7 scribe --as sre-1",
        _say("role", lambda asked: {"role": asked.role, "who": asked.who, "drop": asked.drop}),
        _role_arguments,
    ),
    Command(
        "incident task",
        "add a task",
        f"Adds a task. Who owns it is reminded when it is due, after the end of the incident too.{PROOF}",
        'firedoor incident task INC-7 "Rotate the deploy key" --owner infra-owner-1 --due 2h --as sre-1',
        _say("task", lambda asked: {"text": asked.text, "owner": asked.owner, "due": asked.due}),
        _task_arguments,
    ),
    Command(
        "incident change-task",
        "give a task to somebody, move it, or say that it is done",
        f"Changes a task: its owner, when it is due, or that it is done.{PROOF}",
        "firedoor incident change-task INC-7 T1 --done --as infra-owner-1",
        _say("change-task", lambda asked: {k: getattr(asked, k) for k in ("task", "owner", "due", "done")}),
        _change_task_arguments,
    ),
    Command(
        "incident update",
        "give a status update",
        f"Says how it stands, what is being done and what is needed; the next one is due a while later.{PROOF}",
        'firedoor incident update INC-7 "Contained" --actions "Restoring" --needs "A DBA" --as sre-1',
        _say("update", lambda asked: {k: getattr(asked, k) for k in ("conditions", "actions", "needs")}),
        _update_arguments,
    ),
    Command(
        "incident snooze",
        "put off the reminder of the next status update",
        f"Puts the reminder off, or stops it until the next update was given.{PROOF}",
        "firedoor incident snooze INC-7 --minutes 30 --as sre-1",
        _say("snooze", lambda asked: {"stop": True} if asked.stop else {"minutes": asked.minutes}),
        _snooze_arguments,
    ),
    Command(
        "incident escalate",
        "page the next level now",
        f"Pages the next level at once; the matrix goes on from there.{PROOF}",
        "firedoor incident escalate INC-7 --as sre-1",
        _say("escalate"),
        _arguments(INCIDENT),
    ),
    Command(
        "incident page",
        "page a person or a role now",
        f"Pages a person, or everybody on call for a role, whatever the levels.{PROOF}",
        "firedoor incident page INC-7 infra-owner-1 --as sre-1",
        _say("page", lambda asked: {"who": asked.who}),
        _arguments(INCIDENT, ("who", "a person or a role of people.yaml")),
    ),
    Command(
        "incident silence",
        "no repeated pages for a while",
        f"Pages nobody twice for the same level for a while. Containment and new levels page all the same.{PROOF}",
        "firedoor incident silence INC-7 --minutes 60 --as head-of-security",
        _say("silence", lambda asked: {"minutes": asked.minutes}),
        _silence_arguments,
    ),
    Command(
        "incident private",
        "let only those see it who are in it",
        f"Makes the incident private: its room closes, and what is announced says nothing of it.{PROOF}",
        "firedoor incident private INC-7 --as head-of-security",
        _say("private"),
        _arguments(INCIDENT),
    ),
    Command(
        "incident rollback",
        "take back what the incident's steps changed",
        f"Asks to take back what completed, the last first, one at a time; two persons approve it.{PROOF}",
        "firedoor incident rollback INC-7 --plan",
        _rollback,
        _rollback_arguments,
    ),
    Command(
        "incident reissue",
        "give the agent its credentials again, with less scope",
        f"Asks for a narrower policy; what it takes away is shown, and two persons approve it.{PROOF}",
        "firedoor incident reissue INC-7 --policy reduced.json --as head-of-security",
        _say("reissue", _reissue_fields),
        _reissue_arguments,
    ),
    Command(
        "incident replay",
        "play the recorded alerts against the rules of now",
        f"Replays the incident's alerts in the sandbox; a stage of the return needs a clean one.{PROOF}",
        "firedoor incident replay INC-7 --as sre-1",
        _say("replay"),
        _arguments(INCIDENT),
    ),
    Command(
        "incident return",
        "bring the agent back by one stage",
        f"Asks for the next stage: shadow, advisory, active. Each needs a clean replay and two persons.{PROOF}",
        "firedoor incident return INC-7 --to advisory --as head-of-security",
        _say("return", lambda asked: {"to": asked.to}),
        _return_arguments,
    ),
    Command(
        "incident merge",
        "let it go on in another incident",
        f"Ends the first incident: what comes for its agent and type joins the second. Its holds stay its own.{PROOF}",
        "firedoor incident merge INC-8 INC-7 --as head-of-security",
        _say("merge", lambda asked: {"into": asked.into}),
        _arguments(INCIDENT, ("into", "the one that stays, like INC-7")),
    ),
)
