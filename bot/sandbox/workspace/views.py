"""views.*: modals that a trigger opens, in stacks of three, App Homes, and what an acknowledged submission does."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

from bot.sandbox.blocks import view_problems
from bot.sandbox.workspace.inputs import standing
from bot.sandbox.workspace.memory import Args, Memory, Method, Trigger, required
from bot.sandbox.workspace.messages import named
from bot.sandbox.workspace.rooms import ApiError, View

STACK_MAX = 3
SIZE_MAX = 250_000  # bytes


def open_modal(room: Memory, args: Args) -> dict[str, Any]:
    content = view_content(room, args.get("view"), "modal")
    trigger = _exchanged(room, args)
    room.close_modals(trigger.user)
    return {"view": show(room, trigger.user, content).shown()}


def push(room: Memory, args: Args) -> dict[str, Any]:
    content = view_content(room, args.get("view"), "modal")
    trigger = _exchanged(room, args)
    stack = room.screens.modals.get(trigger.user, [])
    if not trigger.view or trigger.view not in stack:
        raise ApiError("not_found", "the trigger is of no open modal")
    if len(stack) >= STACK_MAX:
        raise ApiError("push_limit_reached")
    return {"view": show(room, trigger.user, content).shown()}


def update(room: Memory, args: Args) -> dict[str, Any]:
    id, external = str(args.get("view_id") or ""), str(args.get("external_id") or "")
    if bool(id) == bool(external):
        raise ApiError("invalid_arguments", "either view_id or external_id is required")
    views = room.screens.views
    view = views.get(id) if id else next((v for v in views.values() if v.content.get("external_id") == external), None)
    if view is None:
        raise ApiError("not_found")
    content = view_content(room, args.get("view"), "modal", instead_of=view)
    _refuse_old_hash(view, args)
    return {"view": change(room, view, content).shown()}


def publish(room: Memory, args: Args) -> dict[str, Any]:
    user = room.person(required(args, "user_id")).id
    content = view_content(room, args.get("view"), "home")
    home = room.screens.homes.get(user)
    if home is None:
        id = f"V{secrets.token_hex(5).upper()}"
        home = room.screens.homes[user] = View(id, user, content, _hash(room), id)
    else:
        _refuse_old_hash(home, args)
        home.content, home.hash = content, _hash(room)
    home.values = standing(home.blocks, {})
    room.changed("home", user)
    return {"view": home.shown()}


# What an acknowledged submission says ---------------------------------------------------------------------------


def submitted(room: Memory, view: View, answer: Args) -> dict[str, Any]:
    """What the submission of the topmost modal led to. Raises ApiError for an answer that Slack does not take."""
    match str(answer.get("response_action") or ""):
        case "errors":
            errors = {str(block): str(why) for block, why in (answer.get("errors") or {}).items()}
            known = {str(block.get("block_id")) for block in view.blocks if block.get("type") == "input"}
            if not errors or not set(errors) <= known:
                raise ApiError(
                    "invalid_errors", f"the errors name {', '.join(errors) or 'nothing'}; no input of that id"
                )
            return {"result": "errors", "errors": errors}
        case "update":
            change(room, view, view_content(room, answer.get("view"), "modal", instead_of=view))
            return {"result": "updated"}
        case "push":
            if len(room.screens.modals[view.user]) >= STACK_MAX:
                raise ApiError("push_limit_reached")
            show(room, view.user, view_content(room, answer.get("view"), "modal"))
            return {"result": "pushed"}
        case "clear":
            room.close_modals(view.user)
            return {"result": "cleared"}
        case "":
            room.close_modals(view.user, keep=room.screens.modals[view.user].index(view.id))
            return {"result": "closed"}
        case other:
            raise ApiError("invalid_response_action", f"{other!r} is none of errors, update, push, clear")


def show(room: Memory, user: str, content: dict[str, Any]) -> View:
    """On top of a person's stack."""
    stack = room.screens.modals.setdefault(user, [])
    id = f"V{secrets.token_hex(5).upper()}"
    view = View(id, user, content, _hash(room), stack[0] if stack else id, stack[-1] if stack else "")
    view.values = standing(view.blocks, {})
    room.screens.views[id] = view
    room.screens.modals[user] = [*stack, id]
    room.changed("modals", user)
    return view


def change(room: Memory, view: View, content: dict[str, Any]) -> View:
    """Inputs that keep their block and action ids keep what stands in them."""
    before = view.values
    view.content, view.hash = content, _hash(room)
    fresh = standing(view.blocks, {})
    view.values = {
        block: {action: before.get(block, {}).get(action, value) for action, value in actions.items()}
        for block, actions in fresh.items()
    }
    room.changed("modals", view.user)
    return view


def view_content(room: Memory, content: Any, kind: str, *, instead_of: View | None = None) -> dict[str, Any]:
    """What the app gave as a view, checked. Raises ApiError."""
    if not isinstance(content, dict):
        raise ApiError("invalid_arguments", "missing required field: view")
    if len(json.dumps(content)) > SIZE_MAX:
        raise ApiError("view_too_large")
    if found := view_problems(content, kind):
        raise ApiError("invalid_arguments", *found)
    external = content.get("external_id")
    others = [view for view in room.screens.views.values() if view is not instead_of]
    if external and any(view.content.get("external_id") == external for view in others):
        raise ApiError("duplicate_external_id")
    return {**content, "blocks": named(content["blocks"])}


def _exchanged(room: Memory, args: Args) -> Trigger:
    trigger = room.triggers.get(required(args, "trigger_id"))
    if trigger is None:
        raise ApiError("invalid_trigger_id")
    if trigger.used:
        raise ApiError("exchanged_trigger_id")
    if room.clock.now() > trigger.expires:
        raise ApiError("expired_trigger_id")
    trigger.used = True
    return trigger


def _refuse_old_hash(view: View, args: Args) -> None:
    given = str(args.get("hash") or "")
    if given and given != view.hash:
        raise ApiError("hash_conflict")


def _hash(room: Memory) -> str:
    return f"{int(float(room.stamp()))}.{secrets.token_hex(4)}"


METHODS: Mapping[str, Method] = {
    "views.open": Method(open_modal, "", 100),
    "views.push": Method(push, "", 100),
    "views.update": Method(update, "", 100),
    "views.publish": Method(publish, "", 100),
}
