"""What people do, by name: each takes the room, the person and what the control API describes.

A deed that stays among people returns its answer. One that concerns the app returns an `Ask`: the payload that goes to
the app, and what its acknowledgement leads to.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from bot.sandbox.blocks import button
from bot.sandbox.workspace import files, payloads
from bot.sandbox.workspace.conversations import may_not_enter
from bot.sandbox.workspace.inputs import chosen, lacking, standing
from bot.sandbox.workspace.memory import Memory
from bot.sandbox.workspace.messages import pin, react, say_to, unpin
from bot.sandbox.workspace.rooms import BOT_USER, TEAM, ApiError, Channel, Message, Person, View
from bot.sandbox.workspace.views import submitted

Json = dict[str, Any]
Values = Mapping[str, Mapping[str, Any]]

TROUBLE = "We had some trouble connecting. Try again?"
COMMAND_TROUBLE = "{command} failed with the error “operation_timeout”"


def _nothing(_: Mapping[str, Any]) -> Json:
    return {}


@dataclass(frozen=True, slots=True)
class Ask:
    """`settle` is called with what the acknowledgement carried. `failure` is what the person sees without one, and
    `place` (channel, message, view) where."""

    kind: str
    payload: Json
    settle: Callable[[Mapping[str, Any]], Json] = _nothing
    failure: str = TROUBLE
    place: tuple[str, str, str] = ("", "", "")


# Among people ---------------------------------------------------------------------------------------------------


def say(room: Memory, user: str, channel: str, text: str, thread_ts: str = "") -> Json:
    place = _living(room.seen_by(user, channel))
    if not text.strip():
        raise ApiError("no_text")
    if thread_ts:
        _message(room, user, channel, thread_ts)
    return {"ts": room.add(place, user, text, [], thread_ts=thread_ts).ts}


def edit(room: Memory, user: str, channel: str, ts: str, text: str) -> Json:
    message = _own(room, user, channel, ts, "cant_update_message")
    room.edit(message, text, [])
    return {}


def delete(room: Memory, user: str, channel: str, ts: str) -> Json:
    room.remove(_own(room, user, channel, ts, "cant_delete_message"))
    return {}


def add_reaction(room: Memory, user: str, channel: str, ts: str, name: str) -> Json:
    react(room, _message(room, user, channel, ts), user, name)
    return {}


def remove_reaction(room: Memory, user: str, channel: str, ts: str, name: str) -> Json:
    react(room, _message(room, user, channel, ts), user, name, remove=True)
    return {}


def add_pin(room: Memory, user: str, channel: str, ts: str) -> Json:
    pin(room, _message(room, user, channel, ts), user)
    return {}


def remove_pin(room: Memory, user: str, channel: str, ts: str) -> Json:
    unpin(room, _message(room, user, channel, ts))
    return {}


def upload(
    room: Memory,
    user: str,
    channel: str,
    name: str,
    text: str = "",
    content: str = "",
    title: str = "",
    comment: str = "",
    thread_ts: str = "",
) -> Json:
    """`content` is base64; `text` where the file is one."""
    place = _living(room.seen_by(user, channel))
    try:
        body = base64.b64decode(content, validate=True) if content else text.encode()
    except binascii.Error:
        raise ApiError("invalid_arguments", "content is not base64") from None
    if not body or len(body) > files.LENGTH_MAX:
        raise ApiError("file_upload_size_restricted")
    file = files.announce(room, name, user, len(body))
    file.content, file.title = body, title
    return {"ts": files.share(room, place, user, comment, [file], thread_ts).ts, "file": file.shown()}


def join(room: Memory, user: str, channel: str) -> Json:
    found = next((one for one in room.joinable(user) if one.id == channel), None)
    if found is None:
        raise ApiError("channel_not_found")
    room.enter(found, user)
    return {}


def leave(room: Memory, user: str, channel: str) -> Json:
    place = room.seen_by(user, channel)
    if place.is_im:
        raise ApiError("method_not_supported_for_channel_type")
    place = room.put(replace(place, members=place.members - {user}))
    room.notice(place, user, "channel_leave", f"<@{user}> has left the channel")
    return {}


def invite(room: Memory, user: str, channel: str, users: list[str]) -> Json:
    place = _living(room.seen_by(user, channel))
    if room.people[user].is_guest or room.people[user].team_id != TEAM or place.is_im:
        raise ApiError("restricted_action")
    for invited in users:
        if invited in place.members:
            raise ApiError("already_in_channel")
        if why := may_not_enter(room, place, room.person(invited)):
            raise ApiError(why)
        place = room.enter(place, invited, inviter=user)
    return {}


def dm(room: Memory, user: str) -> Json:
    return {"channel": room.direct_with(user).id}


# What administrators do -----------------------------------------------------------------------------------------


def share(room: Memory, user: str, channel: str) -> Json:
    place = room.put(replace(_living(room.seen_by(user, channel)), is_ext_shared=True))
    partners = sorted({person.team_id for person in room.people.values()} - {TEAM})
    room.event("channel_shared", {"channel": place.id, "connected_team_id": partners[0] if partners else ""}, place)
    return {}


def group(room: Memory, user: str, group: str, users: list[str]) -> Json:
    if group not in room.groups:
        raise ApiError("no_such_subteam")
    before, after = room.groups[group].users, tuple(room.person(one).id for one in users)
    room.groups[group] = replace(room.groups[group], users=after)
    room.changed("people")
    told: Json = {"subteam_id": group, "team_id": TEAM, "date_update": room.seconds(), "by": user}
    told |= {"added_users": [one for one in after if one not in before]}
    told |= {"removed_users": [one for one in before if one not in after]}
    room.event("subteam_members_changed", told)
    return {}


def profile(room: Memory, user: str, person: str, **changes: Any) -> Json:  # noqa: ARG001 - whoever administers
    known = {one.name for one in fields(Person)} - {"id", "is_bot", "team_id"}
    if not changes or not set(changes) <= known or person == BOT_USER:
        raise ApiError("invalid_arguments", f"a person has {', '.join(sorted(known))}")
    room.people[person] = replace(room.person(person), **changes)
    room.changed("people")
    room.event("user_change", {"user": room.people[person].shown(), "cache_ts": room.seconds()})
    return {}


# What goes to the app -------------------------------------------------------------------------------------------


def command(room: Memory, user: str, channel: str, command: str, text: str = "", thread_ts: str = "") -> Ask:
    place = _living(room.seen_by(user, channel))
    _installed_for(room, user)
    if command not in room.app.commands:
        raise ApiError("unknown_command", f"{command} is not a valid command")
    if thread_ts:
        raise ApiError("not_in_threads", f"{command} is not supported in threads. Sorry!")
    payload = payloads.command(room, user, place, command, text)

    def answered(answer: Mapping[str, Any]) -> Json:
        if answer.get("text") or answer.get("blocks"):
            say_to(room, place, user, answer)
        return {}

    failure = COMMAND_TROUBLE.format(command=command)
    return Ask("slash_commands", payload, answered, failure, (place.id, "", ""))


def click(
    room: Memory,
    user: str,
    action_id: str,
    channel: str = "",
    ts: str = "",
    view: str = "",
    block_id: str = "",
    value: Any = None,
    values: Values | None = None,
) -> Ask:
    if view:
        shown = _view(room, user, view)
        pressed = button(shown.blocks, action_id, block_id)
        action = {**_plain(pressed), **chosen(pressed, value)}
        shown.values = standing(shown.blocks, _with(values, pressed, value))
        return Ask("interactive", payloads.view_click(room, user, shown, action), place=("", "", view))
    place, message = _living(room.seen_by(user, channel)), _message(room, user, channel, ts)
    pressed = button(message.blocks, action_id, block_id)
    action = {**_plain(pressed), **chosen(pressed, value)}
    state = standing(message.blocks, _with(values, pressed, value))
    payload = payloads.message_click(room, user, place, message, action, state)
    return Ask("interactive", payload, place=(channel, ts, ""))


def options(
    room: Memory, user: str, action_id: str, channel: str = "", ts: str = "", view: str = "", block_id: str = "",
    query: str = "",
) -> Ask:  # fmt: skip
    place: Json
    if view:
        shown = _view(room, user, view)
        blocks, place = shown.blocks, {"view": shown.shown(), "container": {"type": "view", "view_id": view}}
    else:
        message = _message(room, user, channel, ts)
        blocks, place = message.blocks, {"channel": {"id": channel}, "message": message.shown()}
    element = button(blocks, action_id, block_id)

    def answered(answer: Mapping[str, Any]) -> Json:
        groups = [option for one in answer.get("option_groups") or () for option in one.get("options", ())]
        return {"options": [*(answer.get("options") or ()), *groups]}

    return Ask("interactive", payloads.suggestion(room, user, element, query, place), answered)


def submit(room: Memory, user: str, view: str, values: Values | None = None) -> Ask | Json:
    shown = _view(room, user, view)
    if shown.content["type"] != "modal" or room.screens.modals[user][-1] != view:
        raise ApiError("not_found", "only the topmost modal can be submitted")
    shown.values = standing(shown.blocks, values or {})
    if missing := lacking(shown.blocks, shown.values):
        return {"result": "errors", "errors": missing}

    def answered(answer: Mapping[str, Any]) -> Json:
        if view not in room.screens.views:
            return {"result": "closed"}  # by the app, or by the person, in the meantime
        return submitted(room, shown, answer)

    return Ask("interactive", payloads.submission(room, shown), answered, place=("", "", view))


def close(room: Memory, user: str, view: str, all: bool = False) -> Json:
    shown = _view(room, user, view)
    stack = room.screens.modals[user]
    whole = all or bool(shown.content.get("clear_on_close"))
    gone = room.close_modals(user, keep=0 if whole else stack.index(view))
    for one in gone:
        if one.content.get("notify_on_close"):
            room.ears.told("interactive", payloads.closing(room, one, cleared=whole))
    return {}


def shortcut(room: Memory, user: str, callback_id: str, channel: str = "", ts: str = "") -> Ask:
    kind = "message" if ts else "global"
    _installed_for(room, user)
    if not any((one.callback_id, one.type) == (callback_id, kind) for one in room.app.shortcuts):
        raise ApiError("unknown_shortcut", f"the app has no {kind} shortcut {callback_id!r}")
    if not ts:
        return Ask("interactive", payloads.shortcut(room, user, callback_id))
    place, message = room.seen_by(user, channel), _message(room, user, channel, ts)
    payload = payloads.message_shortcut(room, user, callback_id, place, message)
    return Ask("interactive", payload, place=(channel, ts, ""))


def home(room: Memory, user: str) -> Json:
    """App Home is opened: the app hears of it, and publishes when it wants to."""
    _installed_for(room, user)
    shown = room.screens.homes.get(user)
    told: Json = {"user": user, "channel": room.direct_with(user).id, "tab": "home"}
    room.event("app_home_opened", told | ({"view": shown.shown()} if shown else {}))
    return {"home": shown.shown() if shown else None}


# What they share ------------------------------------------------------------------------------------------------


def _living(channel: Channel) -> Channel:
    if channel.is_archived:
        raise ApiError("is_archived", "The channel is archived: nobody can write in it any more.")
    return channel


def _message(room: Memory, user: str, channel: str, ts: str) -> Message:
    """A message that this person sees."""
    room.seen_by(user, channel)
    message = room.find(channel, ts)
    if message is None or message.visible_to not in ("", user):
        raise ApiError("message_not_found")
    return message


def _own(room: Memory, user: str, channel: str, ts: str, refusal: str) -> Message:
    _living(room.seen_by(user, channel))
    message = _message(room, user, channel, ts)
    if message.user != user or message.subtype:
        raise ApiError(refusal)
    return message


def _view(room: Memory, user: str, id: str) -> View:
    """An open modal or the App Home of this person."""
    home = room.screens.homes.get(user)
    view = home if home and home.id == id else room.screens.views.get(id)
    if view is None or view.user != user:
        raise ApiError("not_found", "no such view is open")
    return view


def _installed_for(room: Memory, user: str) -> None:
    """In a shared channel commands and shortcuts are offered to the app's own workspace only."""
    if room.person(user).team_id != TEAM:
        raise ApiError("not_available", "The app is not installed in your workspace.")


def _plain(element: Mapping[str, Any]) -> Json:
    """Of an element what Slack sends back of it."""
    kept = ("type", "action_id", "block_id", "text", "value", "style", "placeholder", "confirm", "url")
    return {key: element[key] for key in kept if key in element}


def _with(values: Values | None, element: Mapping[str, Any], value: Any) -> Values:
    given = {block: dict(actions) for block, actions in (values or {}).items()}
    if value is not None:
        given.setdefault(element["block_id"], {})[element["action_id"]] = value
    return given


DEEDS: Mapping[str, Callable[..., Ask | Json]] = {
    "say": say,
    "edit": edit,
    "delete": delete,
    "react": add_reaction,
    "unreact": remove_reaction,
    "pin": add_pin,
    "unpin": remove_pin,
    "upload": upload,
    "join": join,
    "leave": leave,
    "invite": invite,
    "dm": dm,
    "share": share,
    "group": group,
    "profile": profile,
    "command": command,
    "click": click,
    "options": options,
    "submit": submit,
    "close": close,
    "shortcut": shortcut,
    "home": home,
}
