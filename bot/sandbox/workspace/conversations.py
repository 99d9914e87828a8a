"""conversations.*: making rooms, letting people in, naming what they are for."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bot.sandbox.workspace.memory import Args, Memory, Method, paged, required, truth
from bot.sandbox.workspace.rooms import BOT_USER, TEAM, ApiError, Channel, Person

NAME_MAX, TOPIC_MAX = 80, 250  # characters
_INVITED_MAX = 100  # users in one call


def create(room: Memory, args: Args) -> dict[str, Any]:
    private = truth(args, "is_private")
    room.require_scope("groups:write" if private else "channels:manage")
    name = _name(room, args)
    channel = Channel(
        f"C{secrets.token_hex(5).upper()}",
        name,
        frozenset((BOT_USER,)),
        is_private=private,
        creator=BOT_USER,
        created=room.seconds(),
    )
    return {"channel": room.put(channel).shown()}


def rename(room: Memory, args: Args) -> dict[str, Any]:
    channel = _managed(room, args)
    return {"channel": room.put(replace(channel, name=_name(room, args))).shown()}


def invite(room: Memory, args: Args) -> dict[str, Any]:
    channel = _managed(room, args)
    users = [user.strip() for user in required(args, "users").split(",") if user.strip()]
    if len(users) > _INVITED_MAX:
        raise ApiError("too_many_users")
    errors: list[dict[str, Any]] = [
        {"user": user, "ok": False, "error": why} for user in users if (why := _not_invited(room, channel, user))
    ]
    force = truth(args, "force")
    if errors and not (force and len(errors) < len(users)):
        raise ApiError(str(errors[0]["error"]), errors=errors)  # all or nothing
    refused = {error["user"] for error in errors}
    for user in dict.fromkeys(users):
        if user not in refused:
            channel = room.enter(channel, user, inviter=BOT_USER)
    return {"channel": channel.shown()} | ({"errors": errors} if errors else {})


def _not_invited(room: Memory, channel: Channel, user: str) -> str:
    person = room.people.get(user)
    if person is None:
        return "user_not_found"
    if user == BOT_USER:
        return "cant_invite_self"
    if user in channel.members:
        return "already_in_channel"
    return may_not_enter(room, channel, person)


def may_not_enter(room: Memory, channel: Channel, person: Person) -> str:
    """'' or Slack's reason."""
    if person.deleted:
        return "user_is_deactivated"
    if person.team_id != TEAM and not channel.is_ext_shared:
        return "user_team_not_in_channel"
    rooms = [c for c in room.channels.values() if not c.is_im and person.id in c.members]
    if person.is_ultra_restricted and rooms:
        return "ura_max_channels"
    return ""


def join(room: Memory, args: Args) -> dict[str, Any]:
    channel = room.channel_of(required(args, "channel"), member=False)
    if channel.kind != "channels":
        raise ApiError("method_not_supported_for_channel_type")
    if BOT_USER in channel.members:
        return {"channel": channel.shown(), "warning": "already_in_channel"}
    return {"channel": room.enter(channel, BOT_USER).shown()}


def leave(room: Memory, args: Args) -> dict[str, Any]:
    channel = _managed(room, args)
    room.put(replace(channel, members=channel.members - {BOT_USER}))
    return {}


def kick(room: Memory, args: Args) -> dict[str, Any]:
    channel, user = _managed(room, args), required(args, "user")
    if user == BOT_USER:
        raise ApiError("cant_kick_self")
    if room.person(user).id not in channel.members:
        raise ApiError("not_in_channel")
    room.put(replace(channel, members=channel.members - {user}))
    return {}


def set_topic(room: Memory, args: Args) -> dict[str, Any]:
    channel, topic = _managed(room, args), str(args.get("topic") or "")
    if len(topic) > TOPIC_MAX:
        raise ApiError("too_long")
    if topic != channel.topic:
        channel = room.put(replace(channel, topic=topic))
        room.notice(channel, BOT_USER, "channel_topic", f"set the channel topic: {topic}")
    return {"topic": topic, "channel": channel.shown()}


def set_purpose(room: Memory, args: Args) -> dict[str, Any]:
    channel, purpose = _managed(room, args), str(args.get("purpose") or "")
    if len(purpose) > TOPIC_MAX:
        raise ApiError("too_long")
    if purpose != channel.purpose:
        channel = room.put(replace(channel, purpose=purpose))
        room.notice(channel, BOT_USER, "channel_purpose", f"set the channel description: {purpose}")
    return {"purpose": purpose, "channel": channel.shown()}


def archive(room: Memory, args: Args) -> dict[str, Any]:
    channel = room.channel_of(required(args, "channel"), living=False)
    if channel.is_im:
        raise ApiError("method_not_supported_for_channel_type")
    room.require_scope("groups:write" if channel.is_private else "channels:manage")
    if channel.is_archived:
        raise ApiError("already_archived")
    room.notice(channel, BOT_USER, "channel_archive", "archived the channel")
    room.put(replace(channel, is_archived=True))
    return {}


def unarchive(room: Memory, args: Args) -> dict[str, Any]:
    # A bot lost its membership with the archiving, so Slack takes this from people only.
    room.channel_of(required(args, "channel"), living=False)
    raise ApiError("not_allowed_token_type")


def info(room: Memory, args: Args) -> dict[str, Any]:
    channel = room.channel_of(required(args, "channel"), member=False, living=False)
    room.require_scope(f"{channel.kind}:read")
    shown = channel.shown()
    if not truth(args, "include_num_members"):
        shown.pop("num_members", None)
    return {"channel": shown}


def listed_own(room: Memory, args: Args) -> dict[str, Any]:
    """users.conversations: only those that the bot is in."""
    return listed(room, args, own=True)


def listed(room: Memory, args: Args, *, own: bool = False) -> dict[str, Any]:
    kinds = {"public_channel": "channels", "private_channel": "groups", "im": "im", "mpim": "mpim"}
    wanted = [kind.strip() for kind in str(args.get("types") or "public_channel").split(",")]
    if not set(wanted) <= set(kinds):
        raise ApiError("invalid_types")
    for kind in wanted:
        room.require_scope(f"{kinds[kind]}:read")
    names = {kinds[kind] for kind in wanted}
    here = [c for c in room.channels.values() if c.kind in names and (c.kind == "channels" or BOT_USER in c.members)]
    if own:
        here = [channel for channel in here if BOT_USER in channel.members]
    if truth(args, "exclude_archived"):
        here = [channel for channel in here if not channel.is_archived]
    found, cursor = paged(here, args)
    return {"channels": [channel.shown() for channel in found], "response_metadata": {"next_cursor": cursor}}


def members(room: Memory, args: Args) -> dict[str, Any]:
    channel = room.channel_of(required(args, "channel"), member=False, living=False)
    room.require_scope(f"{channel.kind}:read")
    found, cursor = paged(sorted(channel.members), args)
    return {"members": found, "response_metadata": {"next_cursor": cursor}}


def open_direct(room: Memory, args: Args) -> dict[str, Any]:
    if channel := str(args.get("channel") or ""):
        direct = room.channel_of(channel)
        if not direct.is_im:
            raise ApiError("channel_not_found")
    else:
        users = required(args, "users")
        if "," in users:
            raise ApiError("not_enough_users", "the stand-in opens direct messages with one person only")
        direct = room.direct_with(users)
    return {"channel": direct.shown() if truth(args, "return_im") else {"id": direct.id}}


def _managed(room: Memory, args: Args) -> Channel:
    """A living channel that the bot is in, and has the scope to manage."""
    channel = room.channel_of(required(args, "channel"))
    if channel.is_im:
        raise ApiError("method_not_supported_for_channel_type")
    room.require_scope("groups:write" if channel.is_private else "channels:manage")
    return channel


def _name(room: Memory, args: Args) -> str:
    name = str(args.get("name") or "")
    if not name:
        raise ApiError("invalid_name_required")
    if len(name) > NAME_MAX:
        raise ApiError("invalid_name_maxlength")
    if not re.fullmatch(r"[\w-]+", name) or name != name.lower():
        raise ApiError("invalid_name_specials")
    if not re.search(r"[^\W_]", name):
        raise ApiError("invalid_name_punctuation")
    if any(channel.name == name for channel in room.channels.values() if not channel.is_im):
        raise ApiError("name_taken")  # archived ones and private ones that nobody else sees keep theirs too
    return name


METHODS: Mapping[str, Method] = {
    "conversations.create": Method(create, "", 20),
    "conversations.rename": Method(rename, "", 20),
    "conversations.invite": Method(invite, "", 50),
    "conversations.join": Method(join, "channels:join", 50),
    "conversations.leave": Method(leave, "", 50),
    "conversations.kick": Method(kick, "", 50),
    "conversations.setTopic": Method(set_topic, "", 20),
    "conversations.setPurpose": Method(set_purpose, "", 20),
    "conversations.archive": Method(archive, "", 20),
    "conversations.unarchive": Method(unarchive, "", 20),
    "conversations.info": Method(info, "", 50),
    "conversations.list": Method(listed, "", 20),
    "conversations.members": Method(members, "", 100),
    "users.conversations": Method(listed_own, "", 50),
    "conversations.open": Method(open_direct, "im:write", 50),
}
