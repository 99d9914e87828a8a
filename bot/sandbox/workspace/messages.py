"""chat.*, conversations.history and replies, reactions, pins and bookmarks; and what a response_url does."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from bot.sandbox.blocks import TEXT_MAX, problems
from bot.sandbox.workspace.memory import Args, Bookmark, Memory, Method, Pin, direct_id, paged, required, truth
from bot.sandbox.workspace.rooms import BOT_USER, ApiError, Channel, Message

_METADATA_MAX = 16_000  # bytes of JSON
_REACTIONS_MAX = 23  # different ones on one message
_PINS_MAX = 100
_EMOJI = re.compile(r"[a-z0-9_+'-]{1,100}(::skin-tone-[2-6])?")


# chat.* ---------------------------------------------------------------------------------------------------------


def post(room: Memory, args: Args) -> dict[str, Any]:
    name = required(args, "channel")
    channel = room.direct_with(name) if name in room.people else room.channel_of(name)
    text, blocks = content(args)
    thread = str(args.get("thread_ts") or "")
    # Slack takes any thread_ts and leaves the reply where nobody finds it; the stand-in says so at once.
    if thread and room.find(channel.id, thread) is None:
        raise ApiError("thread_not_found")
    message = room.add(channel, BOT_USER, text, blocks, metadata=metadata(args), thread_ts=thread)
    return {"channel": channel.id, "ts": message.ts, "message": message.shown(with_metadata=True)}


def update(room: Memory, args: Args) -> dict[str, Any]:
    channel, message = _message(room, args, "ts")
    if message.user != BOT_USER or message.subtype:
        raise ApiError("cant_update_message")
    blocks_given = args.get("blocks") is not None
    text, blocks = content(args)
    message.metadata = metadata(args) or message.metadata
    room.edit(message, text, blocks if blocks_given else message.blocks)
    return {"channel": channel.id, "ts": message.ts, "text": message.text, "message": message.shown()}


def delete(room: Memory, args: Args) -> dict[str, Any]:
    channel, message = _message(room, args, "ts")
    if message.user != BOT_USER:
        raise ApiError("cant_delete_message")
    room.remove(message)
    return {"channel": channel.id, "ts": message.ts}


def post_ephemeral(room: Memory, args: Args) -> dict[str, Any]:
    name, user = required(args, "channel"), required(args, "user")
    channel = room.direct_with(name) if name in room.people else room.channel_of(name)
    if user not in channel.members:
        raise ApiError("user_not_in_channel")
    text, blocks = content(args)
    thread = str(args.get("thread_ts") or "")
    return {"message_ts": room.add(channel, BOT_USER, text, blocks, visible_to=user, thread_ts=thread).ts}


def permalink(room: Memory, args: Args) -> dict[str, Any]:
    channel, message = _message(room, args, "message_ts", member=False)
    link = f"{room.address}/archives/{channel.id}/p{message.ts.replace('.', '')}"
    if message.is_reply:
        link += f"?thread_ts={message.thread_ts}&cid={channel.id}"
    return {"channel": channel.id, "permalink": link}


def history(room: Memory, args: Args) -> dict[str, Any]:
    channel = _readable(room, args)
    seen = [m for m in room.all_in(channel.id) if not m.visible_to and not m.is_reply]
    return _page(room, list(reversed(seen)), args)


def replies(room: Memory, args: Args) -> dict[str, Any]:
    channel, thread = _readable(room, args), required(args, "ts")
    if room.find(channel.id, thread) is None:
        raise ApiError("thread_not_found")
    inside = [m for m in room.all_in(channel.id) if not m.visible_to]
    return _page(room, [m for m in inside if thread in (m.ts, m.thread_ts)], args)


# Reactions, pins, bookmarks -------------------------------------------------------------------------------------


def reactions_add(room: Memory, args: Args) -> dict[str, Any]:
    _, message = _message(room, args, "timestamp")
    react(room, message, BOT_USER, required(args, "name"))
    return {}


def reactions_remove(room: Memory, args: Args) -> dict[str, Any]:
    _, message = _message(room, args, "timestamp")
    react(room, message, BOT_USER, required(args, "name"), remove=True)
    return {}


def reactions_get(room: Memory, args: Args) -> dict[str, Any]:
    channel, message = _message(room, args, "timestamp", member=False)
    return {"type": "message", "channel": channel.id, "message": message.shown()}


def react(room: Memory, message: Message, user: str, name: str, *, remove: bool = False) -> None:
    name = name.strip(":")
    users = message.reactions.get(name, [])
    if not _EMOJI.fullmatch(name):
        raise ApiError("invalid_name")
    if remove == (user not in users):
        raise ApiError("no_reaction" if remove else "already_reacted")
    if not remove and not users and len(message.reactions) >= _REACTIONS_MAX:
        raise ApiError("too_many_emoji")
    now = [u for u in users if u != user] if remove else [*users, user]
    message.reactions = {**message.reactions, name: now}
    if not now:
        del message.reactions[name]
    room.changed("message", message.channel, message.ts)
    item = {"type": "message", "channel": message.channel, "ts": message.ts}
    told = {"user": user, "reaction": name, "item_user": message.user, "item": item}
    room.event("reaction_removed" if remove else "reaction_added", told, room.channels[message.channel])


def pins_add(room: Memory, args: Args) -> dict[str, Any]:
    _, message = _message(room, args, "timestamp")
    pin(room, message, BOT_USER)
    return {}


def pins_remove(room: Memory, args: Args) -> dict[str, Any]:
    _, message = _message(room, args, "timestamp")
    unpin(room, message)
    return {}


def pins_list(room: Memory, args: Args) -> dict[str, Any]:
    channel = room.channel_of(required(args, "channel"), living=False)
    found = [(pin, room.find(channel.id, pin.ts)) for pin in reversed(room.pins.get(channel.id, []))]
    return {
        "items": [
            {
                "type": "message",
                "channel": channel.id,
                "message": message.shown() | {"pinned_to": [channel.id]},
                "created": pin.at,
                "created_by": pin.user,
            }
            for pin, message in found
            if message
        ]
    }


def pin(room: Memory, message: Message, user: str) -> None:
    pins = room.pins.setdefault(message.channel, [])
    if any(pin.ts == message.ts for pin in pins):
        raise ApiError("already_pinned")
    if message.subtype:
        raise ApiError("not_pinnable")
    if len(pins) >= _PINS_MAX:
        raise ApiError("too_many_pins")
    pins.append(Pin(message.ts, user, room.seconds()))
    room.changed("message", message.channel, message.ts)
    room.changed("channel", message.channel)


def unpin(room: Memory, message: Message) -> None:
    pins = room.pins.get(message.channel, [])
    if all(pin.ts != message.ts for pin in pins):
        raise ApiError("no_pin")
    room.pins[message.channel] = [pin for pin in pins if pin.ts != message.ts]
    room.changed("message", message.channel, message.ts)
    room.changed("channel", message.channel)


def bookmarks_add(room: Memory, args: Args) -> dict[str, Any]:
    channel = room.channel_of(required(args, "channel_id"))
    title, link = required(args, "title"), str(args.get("link") or "")
    if required(args, "type") != "link":
        raise ApiError("invalid_bookmark_type")
    if not re.match(r"https?://\S+$", link):
        raise ApiError("invalid_link")
    emoji = str(args.get("emoji") or "")
    made = Bookmark(f"Bk{secrets.token_hex(4).upper()}", channel.id, title, link, emoji)
    room.bookmarks.setdefault(channel.id, []).append(made)
    room.changed("channel", channel.id)
    return {"bookmark": made.shown()}


def bookmarks_list(room: Memory, args: Args) -> dict[str, Any]:
    channel = room.channel_of(required(args, "channel_id"), living=False)
    return {"bookmarks": [one.shown() for one in room.bookmarks.get(channel.id, [])]}


# response_url ---------------------------------------------------------------------------------------------------


def respond(room: Memory, key: str, body: Args) -> None:
    """A POST to a response_url: five uses within 30 minutes. Raises ApiError `used_url` or `expired_url`."""
    with room.lock:
        url = room.response_urls.get(key)
        if url is None or url.left == 0:
            raise ApiError("used_url")
        if room.clock.now() > url.expires:
            raise ApiError("expired_url")
        url.left -= 1
        original = room.find(url.channel, url.ts) if url.ts else None
        if body.get("delete_original"):
            if original is not None:
                room.remove(original)
            return
        if body.get("replace_original") and original is not None:
            room.edit(original, *content(body))
            return
        say_to(room, room.channels[url.channel], url.user, body, str(body.get("thread_ts") or ""))


def say_to(room: Memory, channel: Channel, user: str, body: Args, thread_ts: str = "") -> None:
    """The app's answer to a deed: for this person only, unless it says `in_channel`."""
    text, blocks = content(body)
    seen = "" if body.get("response_type") == "in_channel" else user
    room.add(channel, BOT_USER, text, blocks, visible_to=seen, thread_ts=thread_ts)


# What they share ------------------------------------------------------------------------------------------------


def content(args: Args) -> tuple[str, list[dict[str, Any]]]:
    text, blocks = str(args.get("text") or ""), args.get("blocks") or []
    if not isinstance(blocks, list):
        raise ApiError("invalid_blocks_format")
    if not text and not blocks:
        raise ApiError("no_text")
    if len(text) > TEXT_MAX:
        raise ApiError("msg_too_long")
    if found := problems(blocks):
        raise ApiError("invalid_blocks", *found, errors=list(found))
    return text, named(blocks)


def named(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With a block id for each, as Slack gives where the app gave none."""
    return [{**block, "block_id": block.get("block_id") or secrets.token_urlsafe(4)} for block in blocks]


def metadata(args: Args) -> Mapping[str, Any] | None:
    found = args.get("metadata")
    if found is None:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("event_payload"), dict):
        raise ApiError("invalid_metadata_format")
    if not re.fullmatch(r"[a-z0-9_]+", str(found.get("event_type"))):
        raise ApiError("invalid_metadata_schema")
    if len(str(found)) > _METADATA_MAX:
        raise ApiError("metadata_too_large")
    return found


def _message(room: Memory, args: Args, key: str, *, member: bool = True) -> tuple[Channel, Message]:
    """What `key` names in a channel; ephemerals are not to be found."""
    name = required(args, "channel")
    channel = room.channel_of(direct_id(name) if name in room.people else name, member=member, living=member)
    message = room.find(channel.id, required(args, key))
    if message is None or message.visible_to:
        raise ApiError("message_not_found")
    return channel, message


def _readable(room: Memory, args: Args) -> Channel:
    """Reading has a scope of its own for each kind of channel."""
    channel = room.channel_of(required(args, "channel"), living=False)
    room.require_scope(f"{channel.kind}:history")
    return channel


def _page(room: Memory, messages: list[Message], args: Args) -> dict[str, Any]:
    oldest, latest = float(args.get("oldest") or 0), float(args.get("latest") or "inf")
    inclusive, with_metadata = truth(args, "inclusive"), truth(args, "include_all_metadata")
    ends = (oldest, latest)
    inside = [m for m in messages if oldest < float(m.ts) < latest or (inclusive and float(m.ts) in ends)]
    found, cursor = paged(inside, args)
    return {
        "messages": [_counted(room, m, m.shown(with_metadata=with_metadata)) for m in found],
        "has_more": bool(cursor),
        "response_metadata": {"next_cursor": cursor},
    }


def _counted(room: Memory, message: Message, shown: dict[str, Any]) -> dict[str, Any]:
    """A thread's parent knows its replies."""
    answers = [] if message.is_reply else [m for m in room.replies(message) if not m.visible_to]
    if answers:
        shown |= {"thread_ts": message.ts, "reply_count": len(answers), "latest_reply": answers[-1].ts}
        shown["reply_users"] = list(dict.fromkeys(m.user for m in answers))
    return shown


METHODS: Mapping[str, Method] = {
    "chat.postMessage": Method(post, "chat:write", 0),
    "chat.update": Method(update, "chat:write", 50),
    "chat.delete": Method(delete, "chat:write", 50),
    "chat.postEphemeral": Method(post_ephemeral, "chat:write", 100),
    "chat.getPermalink": Method(permalink, "", 1000),
    "conversations.history": Method(history, "", 50),
    "conversations.replies": Method(replies, "", 50),
    "reactions.add": Method(reactions_add, "reactions:write", 50),
    "reactions.remove": Method(reactions_remove, "reactions:write", 50),
    "reactions.get": Method(reactions_get, "reactions:read", 50),
    "pins.add": Method(pins_add, "pins:write", 20),
    "pins.remove": Method(pins_remove, "pins:write", 20),
    "pins.list": Method(pins_list, "pins:read", 20),
    "bookmarks.add": Method(bookmarks_add, "bookmarks:write", 20),
    "bookmarks.list": Method(bookmarks_list, "bookmarks:read", 20),
}
