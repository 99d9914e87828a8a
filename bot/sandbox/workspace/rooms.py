"""Who and what is in the workspace: persons, channels, messages, files, views, in the shapes of Slack's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.errors import FiredoorError

TEAM = "T0SANDBOX"
APP = "A0FIREDOOR"
BOT = "B0FIREDOOR"
BOT_USER = "U0FIREDOOR"


class ApiError(FiredoorError):
    """Slack's own answer no: `{"ok": false, "error": code, ...}`, sent with status 200."""

    def __init__(self, code: str, *messages: str, **more: Any) -> None:
        self.code = code
        self.more = more
        if messages:
            self.more["response_metadata"] = {"messages": [f"[ERROR] {message}" for message in messages]}
        super().__init__(": ".join((code, *messages)))


@dataclass(frozen=True, slots=True)
class Person:
    """`team_id` other than the workspace's: somebody from outside, in through a shared channel."""

    id: str
    name: str
    email: str = ""
    team_id: str = TEAM
    is_restricted: bool = False  # a guest
    is_ultra_restricted: bool = False  # a guest of one channel
    is_bot: bool = False
    deleted: bool = False
    title: str = ""  # what they do, as their profile says

    @property
    def is_guest(self) -> bool:
        return self.is_restricted or self.is_ultra_restricted

    def shown(self, *, with_email: bool = True) -> dict[str, Any]:
        """As users.info shows them."""
        profile = {"real_name": self.name, "display_name": self.name, "title": self.title, "team": self.team_id}
        if with_email:
            profile["email"] = self.email
        return {
            "id": self.id,
            "team_id": self.team_id,
            "name": self.name,
            "real_name": self.name,
            "deleted": self.deleted,
            "is_bot": self.is_bot,
            "is_restricted": self.is_restricted or self.is_ultra_restricted,
            "is_ultra_restricted": self.is_ultra_restricted,
            "is_stranger": self.team_id != TEAM,
            "tz": "Etc/UTC",
            "profile": profile,
        }

    def named(self) -> dict[str, Any]:
        """As the payload of an interaction names them."""
        return {"id": self.id, "username": self.name, "name": self.name, "team_id": self.team_id}


@dataclass(frozen=True, slots=True)
class Group:
    """A user group, `@handle`."""

    id: str
    handle: str
    name: str
    users: tuple[str, ...] = ()

    def shown(self, *, with_users: bool = True) -> dict[str, Any]:
        shown = {"id": self.id, "team_id": TEAM, "is_usergroup": True, "handle": self.handle, "name": self.name}
        return shown | {"user_count": len(self.users)} | ({"users": list(self.users)} if with_users else {})


@dataclass(frozen=True, slots=True)
class Channel:
    """`members` are user ids; the bot is one of them where it was invited."""

    id: str
    name: str
    members: frozenset[str] = frozenset()
    is_private: bool = False
    is_im: bool = False
    is_ext_shared: bool = False
    is_archived: bool = False
    topic: str = ""
    purpose: str = ""
    creator: str = ""
    created: int = 0  # seconds

    @property
    def kind(self) -> str:
        """As scopes and events name it: `channels`, `groups` or `im`."""
        return "im" if self.is_im else "groups" if self.is_private else "channels"

    def shown(self) -> dict[str, Any]:
        """As conversations.info shows it to the bot."""
        if self.is_im:
            user = next((member for member in self.members if member != BOT_USER), "")
            return {"id": self.id, "is_im": True, "user": user, "created": self.created, "is_archived": False}
        return {
            "id": self.id,
            "name": self.name,
            "name_normalized": self.name,
            "is_channel": not self.is_private,
            "is_group": self.is_private,
            "is_im": False,
            "is_private": self.is_private,
            "is_archived": self.is_archived,
            "is_general": False,
            "is_shared": self.is_ext_shared,
            "is_ext_shared": self.is_ext_shared,
            "is_org_shared": False,
            "is_member": BOT_USER in self.members,
            "num_members": len(self.members),
            "creator": self.creator,
            "created": self.created,
            "context_team_id": TEAM,
            "topic": {"value": self.topic, "creator": self.creator if self.topic else "", "last_set": 0},
            "purpose": {"value": self.purpose, "creator": self.creator if self.purpose else "", "last_set": 0},
        }


@dataclass(slots=True)
class File:
    """`channels` are where it was shared; () while its upload is not complete."""

    id: str
    name: str
    user: str
    length: int  # bytes announced
    created: int
    content: bytes | None = None
    title: str = ""
    channels: tuple[str, ...] = ()
    url: str = ""  # of the download

    @property
    def mimetype(self) -> str:
        return _MIMETYPES.get(self.name.rpartition(".")[2].lower(), "application/octet-stream")

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "title": self.title or self.name,
            "mimetype": self.mimetype,
            "filetype": self.name.rpartition(".")[2].lower(),
            "user": self.user,
            "size": self.length,
            "created": self.created,
            "timestamp": self.created,
            "mode": "hosted",
            "is_external": False,
            "channels": list(self.channels),
            "url_private": self.url,
            "url_private_download": self.url,
            "permalink": self.url,
        }


_MIMETYPES = {
    "png": "image/png", "jpg": "image/jpeg", "gif": "image/gif", "pdf": "application/pdf", "zip": "application/zip",
    "json": "application/json", "csv": "text/csv",
    # html and svg: never as a page of this origin, where the control secret lives.
    **dict.fromkeys(("txt", "log", "md", "html", "svg"), "text/plain"),
}  # fmt: skip


@dataclass(slots=True)
class Message:
    ts: str
    channel: str
    user: str
    text: str
    blocks: list[dict[str, Any]] = field(default_factory=list)
    metadata: Mapping[str, Any] | None = None
    thread_ts: str = ""
    visible_to: str = ""  # the one person who sees an ephemeral message
    edits: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)  # (text, blocks) before, oldest first
    edited_ts: str = ""
    subtype: str = ""  # channel_join, channel_topic, ...: said by Slack and not by a person
    reactions: dict[str, list[str]] = field(default_factory=dict)  # name -> users
    files: list[File] = field(default_factory=list)
    team: str = TEAM  # the author's

    @property
    def is_reply(self) -> bool:
        return self.thread_ts not in ("", self.ts)

    def shown(self, *, with_metadata: bool = False) -> dict[str, Any]:
        shown: dict[str, Any] = {"type": "message", "ts": self.ts, "user": self.user, "text": self.text}
        shown["team"] = self.team
        if self.subtype:
            shown["subtype"] = self.subtype
        if self.user == BOT_USER:
            shown |= {"bot_id": BOT, "app_id": APP}
        if self.blocks:
            shown["blocks"] = self.blocks
        if self.thread_ts:
            shown["thread_ts"] = self.thread_ts
        if self.edited_ts:
            shown["edited"] = {"user": self.user, "ts": self.edited_ts}
        if self.reactions:
            shown["reactions"] = self.reactions_shown()
        if self.files:
            shown["files"] = [file.shown() for file in self.files]
        if with_metadata and self.metadata:
            shown["metadata"] = dict(self.metadata)
        return shown

    def reactions_shown(self) -> list[dict[str, Any]]:
        return [{"name": name, "users": list(users), "count": len(users)} for name, users in self.reactions.items()]


@dataclass(slots=True)
class View:
    """A modal, or an App Home. `content` is what the app gave; `root` and `previous` are view ids."""

    id: str
    user: str
    content: dict[str, Any]
    hash: str
    root: str
    previous: str = ""
    values: dict[str, Any] = field(default_factory=dict)  # what stands in its inputs, as Slack sends it

    @property
    def blocks(self) -> list[dict[str, Any]]:
        return list(self.content["blocks"])

    def shown(self) -> dict[str, Any]:
        return {
            "callback_id": "",
            "private_metadata": "",
            "external_id": "",
            "clear_on_close": False,
            "notify_on_close": False,
            "title": None,
            "submit": None,
            "close": None,
            **self.content,
            "id": self.id,
            "team_id": TEAM,
            "app_id": APP,
            "bot_id": BOT,
            "app_installed_team_id": TEAM,
            "root_view_id": self.root,
            "previous_view_id": self.previous or None,
            "hash": self.hash,
            "state": {"values": self.values},
        }
