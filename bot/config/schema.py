"""The JSON Schema of playbooks, for editors: docs/playbook.schema.json, made from the same tables the loader uses.

An editor sees names, kinds and documentation of every action's parameters. What needs the whole file (order, names in
expressions, grades) only the loader can say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from bot.actions import Action, registry
from bot.config.playbooks import (
    API_VERSION,
    CONCURRENCY_MODES,
    ESCALATE,
    FORM_KINDS,
    GRADES,
    STEP_UPS,
    TOLD_MAX,
    Actions,
)
from bot.domain.playbook import OnError, OnTimeout, Param, Rung

Schema = dict[str, Any]

_DURATION: Schema = {
    "type": ["string", "integer"],
    "pattern": "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
    "description": "30s, 2m, 1h30m, 7d",
}
_NAME: Schema = {"type": "string", "pattern": "^[a-z][a-z0-9_-]{0,63}$"}
_EXPRESSION: Schema = {"type": ["string", "boolean", "number"], "description": "${{ ... }}"}
_NAMES: Schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
_ARGUMENTS: Schema = {"$ref": "#/$defs/arguments"}  # what `with` holds, by `uses`
_TEMPLATE_TEXT = {"type": "string", "pattern": "\\$\\{\\{"}
_JSON_TYPES = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "mapping": "object",
    "list": "array",
}


def playbook_schema(actions: Actions) -> Schema:
    trigger = {"minProperties": 1, **_object({"if": _EXPRESSION, "types": _NAMES})}
    steps = {"type": "object", "minProperties": 1, "propertyNames": _NAME, "additionalProperties": _step(actions)}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Firedoor playbook",
        "$defs": {"arguments": {"allOf": [_with_of(action) for action in actions.values()]}},
        **_object(
            {
                "apiVersion": {"const": API_VERSION},
                "kind": {"const": "Playbook"},
                "id": _NAME,
                "version": {"type": "string", "pattern": "^[0-9]+\\.[0-9]+\\.[0-9]+$"},
                "description": {"type": "string"},
                "rung": {"enum": [rung.value for rung in Rung], "default": Rung.ACT.value},
                "priority": {"type": "integer", "minimum": -1000, "maximum": 1000},
                "triggers": {"type": "array", "items": trigger},
                "concurrency": _object(
                    {"group": {"type": "string"}, "mode": {"enum": [*CONCURRENCY_MODES]}}, required=("group",)
                ),
                "limits": _object(
                    {
                        "runs": {"type": "string", "pattern": "^[0-9]+/.+$", "description": "5/1h"},
                        "targets": {"type": "integer", "minimum": 1},
                        "targets_percent": {"type": "integer", "minimum": 1, "maximum": 100},
                    }
                ),
                "defaults": _object(
                    {"timeout": _DURATION, "retry": _RETRY, "verify": {"type": "array", "items": _DURATION}}
                ),
                "timeout": _DURATION,
                "steps": steps,
                "on_failure": {"type": "array", "items": _call(actions, escalate=True)},
            },
            required=("apiVersion", "kind", "id", "version", "steps"),
        ),
    }


def playbook_schema_text(actions: Actions) -> str:
    """As it stands in docs/playbook.schema.json."""
    return json.dumps(playbook_schema(actions), indent=2, ensure_ascii=False) + "\n"


def _object(properties: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    found: Schema = {"type": "object", "properties": dict(properties), "additionalProperties": False}
    return found | ({"required": [*required]} if required else {})


_RETRY = _object(
    {
        "attempts": {"type": "integer", "minimum": 1, "maximum": 50},
        "backoff": _DURATION,
        "factor": {"type": "number", "minimum": 1, "maximum": 10},
        "max": _DURATION,
        "jitter": {"const": "full"},
    }
)
_MANUAL = _object(
    {
        "assignee": {"type": "string", "description": "a role of people.yaml"},
        "form": {
            "type": "object",
            "propertyNames": _NAME,
            "additionalProperties": {"anyOf": [{"enum": [*FORM_KINDS]}, {**_NAMES, "minItems": 1}]},
        },
        "due": _DURATION,
    },
    required=("assignee",),
)
_APPROVAL = _object(
    {
        "each": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 20},
        },
        "timeout": _DURATION,
        "on_timeout": {"enum": [each.value for each in OnTimeout]},
        "step_up": {"enum": [*STEP_UPS], "description": "what each approver proves besides: a TOTP code"},
    },
    required=("each",),
)


_MILESTONE: Schema = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 99999},
        {"type": "string", "pattern": "^([1-9][0-9]?|100)%$"},
    ]
}
_ROLLOUT = _object(
    {
        "milestones": {
            "type": "array",
            "items": _MILESTONE,
            "uniqueItems": True,
            "minItems": 1,
            "description": "how far each stage goes, each asked for anew: [1, 10%, 100%]",
        }
    },
    required=("milestones",),
)
_UNPROVED = _object(
    {
        "after": {**_DURATION, "description": "how long its proof is waited for, from its first call (60s)"},
        "then": {**_NAMES, "minItems": 1, "description": "steps that run without that proof, and are left out with it"},
    },
    required=("then",),
)
_TOLD = {
    "intent": "what it is for, in the words of whoever is asked",
    "impact": "what it does to others while it is in force",
    "cost": "what it costs, with a unit",
    "policy": "the id of the policy that asks for this approval",
}


def _step(actions: Actions) -> Schema:
    properties: dict[str, Schema] = {
        "uses": {"enum": [*actions]},
        "with": {"type": "object"},
        "manual": _MANUAL,
        "needs": {**_NAMES, "description": "steps that must have succeeded"},
        "after": {**_NAMES, "description": "steps that must be settled, either way"},
        "if": _EXPRESSION,
        "foreach": _EXPRESSION,
        "contains": {"type": "boolean"},
        "require": {"enum": [*GRADES]},
        "irreversible": {"type": "boolean"},
        "timeout": _DURATION,
        "retry": _RETRY,
        "on_error": {"enum": [each.value for each in OnError]},
        "approval": _APPROVAL,
        "rollback": _call(actions),
        "rollout": _ROLLOUT,
        "unproved": _UNPROVED,
        **{key: {"type": "string", "maxLength": TOLD_MAX, "description": said} for key, said in _TOLD.items()},
    }
    return {
        **_object(properties),
        "oneOf": [{"required": ["uses"]}, {"required": ["manual"]}],
        **_ARGUMENTS,
    }


def _call(actions: Actions, escalate: bool = False) -> Schema:
    names = [*actions, *([ESCALATE] if escalate else [])]
    properties: dict[str, Schema] = {"uses": {"enum": names}, "with": {"type": "object"}}
    return {**_object(properties, required=("uses",)), **_ARGUMENTS}


def _with_of(action: Action) -> Schema:
    """Where `uses` is this action, `with` holds its parameters."""
    params = _object(
        {param.name: _param(param) for param in action.params},
        required=tuple(param.name for param in action.params if param.required),
    )
    needed = {"required": ["with"]} if any(param.required for param in action.params) else {}
    return {
        "if": {"properties": {"uses": {"const": action.id}}, "required": ["uses"]},
        "then": {**needed, "properties": {"with": params}},
    }


def _param(param: Param) -> Schema:
    found: Schema = {"description": param.doc} if param.doc else {}
    if param.kind == "any":
        return found
    plain: Schema = {"enum": [*param.choices]} if param.choices else {"type": _JSON_TYPES[param.kind]}
    return found | {"anyOf": [plain, _TEMPLATE_TEXT]}


if __name__ == "__main__":
    sys.stdout.write(playbook_schema_text(registry()))
