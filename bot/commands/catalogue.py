"""What there is: the actions that playbooks can use, and the payloads that no source could read."""

from __future__ import annotations

import inspect
from argparse import ArgumentParser, Namespace
from typing import Any

from bot.actions import Action, registry
from bot.commands import policy
from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.records import records
from bot.commands.terminal import as_json, block, heading, moment, say, table
from bot.config.reading import suggestion
from bot.errors import Refused

Json = dict[str, Any]


def list_actions(asked: Namespace) -> int:
    if asked.json:
        as_json([facts(action) for action in registry().values()])
        return Exit.OK
    table(
        [
            (
                action.id,
                "contains" if action.containing else "",
                f"at best {action.best_grade.label}",
                "undoable" if action.undoable else "irreversible",
                summary(action),
            )
            for action in registry().values()
        ],
        "",
    )
    return Exit.OK


def show_action(asked: Namespace) -> int:
    action = registry().get(asked.action)
    if action is None:
        raise Refused("no_such_action", f"There is no action {asked.action!r}. {suggestion(asked.action, registry())}")
    if asked.json:
        as_json(facts(action))
        return Exit.OK
    told = facts(action)
    say(f"{action.id}, version {action.version}")
    print(block(told["about"]))
    heading("Parameters")
    table(
        [
            (one["name"], one["kind"], "required" if one["required"] else f"default: {one['default']}", one["doc"])
            for one in told["params"]
        ]
    )
    heading("Facts")
    table(
        [
            ("contains", "yes" if action.containing else "no"),
            ("best grade", action.best_grade.label),
            ("can be undone", "yes" if action.undoable else "no: say irreversible: true"),
            ("outputs", ", ".join(action.outputs)),
            *((f"needs in {system}", ", ".join(names)) for system, names in action.permissions.items()),
        ]
    )
    heading("Example")
    print(block(action.example.strip("\n")))
    return Exit.OK


def list_quarantine(asked: Namespace) -> int:
    with records(asked.config) as kept:
        found = kept.tx.quarantined()
    if asked.json:
        as_json([{"id": one.id, "source": one.source, "at": one.at, "reason": one.reason} for one in found])
    elif found:
        table([(one.id, moment(one.at), one.source, one.reason) for one in found], "")
    else:
        say("Nothing is in quarantine.")
    return Exit.OK


def show_quarantined(asked: Namespace) -> int:
    with records(asked.config) as kept:
        found = next((one for one in kept.tx.quarantined() if one.id == asked.id), None)
    if found is None:
        raise Refused("not_quarantined", f"Nothing in quarantine is called {asked.id!r}. See: firedoor quarantine list")
    say(f"{found.id} of {found.source}, {moment(found.at)}: {found.reason}")
    print(block(found.body.decode("utf-8", "replace")))
    return Exit.OK


def facts(action: Action) -> Json:
    return {
        "id": action.id,
        "version": action.version,
        "about": inspect.cleandoc(action.__doc__ or ""),
        "params": [
            {
                "name": param.name,
                "kind": param.kind,
                "required": param.required,
                "default": param.default,
                "choices": list(param.choices),
                "doc": param.doc,
            }
            for param in action.params
        ],
        "contains": action.containing,
        "best_grade": action.best_grade.label,
        "undoable": action.undoable,
        "outputs": list(action.outputs),
        "permissions": {system: list(names) for system, names in action.permissions.items()},
        "example": action.example.strip("\n"),
    }


def summary(action: Action) -> str:
    """The first sentence of its help."""
    text = " ".join(inspect.cleandoc(action.__doc__ or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".") + "."


def _action_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="its id, like vault.revoke_agent")
    with_json(parser)


def _quarantine_arguments(parser: ArgumentParser) -> None:
    with_config(parser)
    with_json(parser)


def _quarantined_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="as `quarantine list` says it")
    with_config(parser)


COMMANDS = (
    Command(
        "quarantine list",
        "list payloads that no source could read",
        "Lists what came in and could not be read, with the reason. Fix the source's map and have it sent again.",
        "firedoor quarantine list",
        list_quarantine,
        _quarantine_arguments,
    ),
    Command(
        "quarantine show",
        "print one of them",
        "Prints a payload from quarantine, as it came, without secrets.",
        "firedoor quarantine show sqs:guardduty:5fea7756",
        show_quarantined,
        _quarantined_arguments,
    ),
    Command(
        "actions list",
        "list the actions that playbooks can use",
        "Lists every action: whether it contains, the best proof it can reach, and whether it can be undone.",
        "firedoor actions list",
        list_actions,
        with_json,
    ),
    Command(
        "actions show",
        "one action: parameters, outputs, permissions, example",
        "Shows what an action does, what it takes and gives, the least permissions it needs, and an example step.",
        "firedoor actions show vault.revoke_agent",
        show_action,
        _action_arguments,
    ),
    *policy.COMMANDS,
)
