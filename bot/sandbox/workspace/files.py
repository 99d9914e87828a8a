"""files.*: an upload in three steps, as Slack has it, and who may have the bytes."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from bot.sandbox.blocks import problems
from bot.sandbox.workspace.memory import Args, Memory, Method, required
from bot.sandbox.workspace.messages import named
from bot.sandbox.workspace.rooms import BOT_USER, ApiError, Channel, File, Message

LENGTH_MAX = 64 * 1024 * 1024  # bytes; Slack's own limit is 1 GB


def upload_url(room: Memory, args: Args) -> dict[str, Any]:
    try:
        length = int(args.get("length") or 0)
    except ValueError:
        raise ApiError("invalid_arguments", "length must be a number") from None
    if length <= 0:
        raise ApiError("invalid_arguments", "length must be more than 0")
    if length > LENGTH_MAX:
        raise ApiError("file_upload_size_restricted")
    file = announce(room, required(args, "filename"), BOT_USER, length)
    ticket = secrets.token_urlsafe(16)
    room.uploads[ticket] = file
    return {"upload_url": f"{room.address}/upload/{ticket}", "file_id": file.id}


def announce(room: Memory, name: str, user: str, length: int) -> File:
    id = f"F{secrets.token_hex(5).upper()}"
    file = File(id, name, user, length, room.seconds(), url=f"{room.address}/files/{id}/{quote(name, safe='')}")
    room.files[id] = file
    return file


def receive(room: Memory, ticket: str, content: bytes) -> bool:
    """The second step: the bytes. False for a URL that nobody was given, or that was used."""
    with room.lock:
        file = room.uploads.pop(ticket, None)
        if file is None:
            return False
        file.content, file.length = content, len(content)
        return True


def complete(room: Memory, args: Args) -> dict[str, Any]:
    wanted = args.get("files")
    if not isinstance(wanted, list) or not wanted or not all(isinstance(one, dict) for one in wanted):
        raise ApiError("invalid_arguments", "missing required field: files")
    files = []
    for one in wanted:
        file = room.files.get(str(one.get("id") or ""))
        if file is None or file.user != BOT_USER:
            raise ApiError("file_not_found")
        if file.content is None:
            raise ApiError("file_update_failed", f"nothing was uploaded for {file.id}")
        if file.channels:
            raise ApiError("file_already_completed")
        files.append((file, str(one.get("title") or file.name)))
    names = [name for name in (str(args.get("channel_id") or ""), *str(args.get("channels") or "").split(",")) if name]
    blocks = args.get("blocks") or []
    if found := problems(blocks):
        raise ApiError("invalid_blocks", *found)
    channels = [room.direct_with(name) if name in room.people else room.channel_of(name) for name in names]
    thread = str(args.get("thread_ts") or "")
    if thread and any(room.find(channel.id, thread) is None for channel in channels):
        raise ApiError("invalid_thread_ts")
    for file, title in files:
        file.title = title
    for channel in channels:
        text = str(args.get("initial_comment") or "")
        share(room, channel, BOT_USER, text, [file for file, _ in files], thread, named(blocks))
    return {"files": [file.shown() for file, _ in files]}


def share(
    room: Memory,
    channel: Channel,
    user: str,
    text: str,
    files: list[File],
    thread_ts: str = "",
    blocks: list[dict[str, Any]] | None = None,
) -> Message:
    for file in files:
        file.channels = (*file.channels, channel.id)
    return room.add(channel, user, text, blocks or [], thread_ts=thread_ts, files=files)


def info(room: Memory, args: Args) -> dict[str, Any]:
    file = room.files.get(required(args, "file"))
    if file is None or not seen_by(room, file, BOT_USER):
        raise ApiError("file_not_found")
    return {"file": file.shown()}


def delete(room: Memory, args: Args) -> dict[str, Any]:
    file = room.files.get(required(args, "file"))
    if file is None:
        raise ApiError("file_not_found")
    if file.user != BOT_USER:
        raise ApiError("cant_delete_file")
    del room.files[file.id]
    for channel in file.channels:
        for message in room.all_in(channel):
            if file in message.files:
                message.files = [one for one in message.files if one is not file]
                room.changed("message", channel, message.ts)
    return {}


def seen_by(room: Memory, file: File, user: str) -> bool:
    """Its owner, and the members of the channels that it was shared in."""
    return user == file.user or any(user in room.channels[channel].members for channel in file.channels)


def download(room: Memory, id: str, viewer: str) -> File | None:
    """What this person, or the bot, may have; None where that is nothing."""
    with room.lock:
        file = room.files.get(id)
        return file if file and file.content is not None and seen_by(room, file, viewer) else None


METHODS: Mapping[str, Method] = {
    "files.getUploadURLExternal": Method(upload_url, "files:write", 100),
    "files.completeUploadExternal": Method(complete, "files:write", 100),
    "files.info": Method(info, "files:read", 100),
    "files.delete": Method(delete, "files:write", 50),
}
