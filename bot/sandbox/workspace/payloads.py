"""What Slack sends to the app when people do something: clicks, submissions, commands, shortcuts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bot.sandbox.workspace.memory import Memory
from bot.sandbox.workspace.rooms import APP, TEAM, Channel, Message, View

_ABOUT = {
    "api_app_id": APP,
    "token": "sandbox",
    "team": {"id": TEAM, "domain": "sandbox"},
    "enterprise": None,
    "is_enterprise_install": False,
}


def _interaction(room: Memory, kind: str, user: str, view: str = "") -> dict[str, Any]:
    return {"type": kind, "user": room.people[user].named(), **_ABOUT, "trigger_id": room.trigger(user, view)}


def message_click(
    room: Memory, user: str, channel: Channel, message: Message, action: Mapping[str, Any], state: Mapping[str, Any]
) -> dict[str, Any]:
    """block_actions of an element in a message."""
    container = {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": channel.id,
        "is_ephemeral": bool(message.visible_to),
    }
    if message.is_reply:
        container["thread_ts"] = message.thread_ts
    return _interaction(room, "block_actions", user) | {
        "container": container,
        "channel": {"id": channel.id, "name": name_for_app(channel)},
        "message": message.shown(),
        "state": {"values": dict(state)},
        "response_url": room.response_url(channel.id, message.ts, user, message.thread_ts),
        "actions": [{**action, "action_ts": room.stamp()}],
    }


def view_click(room: Memory, user: str, view: View, action: Mapping[str, Any]) -> dict[str, Any]:
    """block_actions of an element in a modal or in App Home."""
    modal = view.content["type"] == "modal"
    return _interaction(room, "block_actions", user, view.id if modal else "") | {
        "container": {"type": "view", "view_id": view.id},
        "view": view.shown(),
        "actions": [{**action, "action_ts": room.stamp()}],
    }


def suggestion(
    room: Memory, user: str, element: Mapping[str, Any], query: str, place: dict[str, Any]
) -> dict[str, Any]:
    """block_suggestion: what an external select offers."""
    asked = {"action_id": element["action_id"], "block_id": element["block_id"], "value": query}
    return {"type": "block_suggestion", "user": room.people[user].named(), **_ABOUT, **asked, **place}


def submission(room: Memory, view: View) -> dict[str, Any]:
    return _interaction(room, "view_submission", view.user, view.id) | {"view": view.shown(), "response_urls": []}


def closing(room: Memory, view: View, *, cleared: bool) -> dict[str, Any]:
    user = room.people[view.user].named()
    return {"type": "view_closed", "user": user, **_ABOUT, "view": view.shown(), "is_cleared": cleared}


def shortcut(room: Memory, user: str, callback_id: str) -> dict[str, Any]:
    return _interaction(room, "shortcut", user) | {"callback_id": callback_id, "action_ts": room.stamp()}


def message_shortcut(room: Memory, user: str, callback_id: str, channel: Channel, message: Message) -> dict[str, Any]:
    return _interaction(room, "message_action", user) | {
        "callback_id": callback_id,
        "action_ts": room.stamp(),
        "message_ts": message.ts,
        "channel": {"id": channel.id, "name": name_for_app(channel)},
        "message": message.shown(),
        "response_url": room.response_url(channel.id, message.ts, user, message.thread_ts),
    }


def command(room: Memory, user: str, channel: Channel, name: str, text: str) -> dict[str, Any]:
    return {
        "token": "sandbox",
        "team_id": TEAM,
        "team_domain": "sandbox",
        "channel_id": channel.id,
        "channel_name": name_for_app(channel),
        "user_id": user,
        "user_name": room.people[user].name,
        "command": name,
        "text": text,
        "api_app_id": APP,
        "is_enterprise_install": "false",
        "response_url": room.response_url(channel.id, "", user),
        "trigger_id": room.trigger(user),
    }


def name_for_app(channel: Channel) -> str:
    """Slack keeps the names of private conversations to itself."""
    return {"im": "directmessage", "groups": "privategroup", "channels": channel.name}[channel.kind]
