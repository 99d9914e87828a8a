"""Who and what is in the workspace: persons, channels, messages, in the shapes that Slack answers with."""

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

    def shown(self) -> dict[str, Any]:
        """As users.info shows them."""
        return {
            "id": self.id,
            "team_id": self.team_id,
            "name": self.name,
            "real_name": self.name,
            "deleted": self.deleted,
            "is_bot": self.is_bot,
            "is_restricted": self.is_restricted,
            "is_ultra_restricted": self.is_ultra_restricted,
            "is_stranger": self.team_id != TEAM,
            "profile": {"real_name": self.name, "display_name": self.name, "email": self.email, "team": self.team_id},
        }


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

    @property
    def is_reply(self) -> bool:
        return self.thread_ts not in ("", self.ts)

    def shown(self, *, with_metadata: bool = False) -> dict[str, Any]:
        shown: dict[str, Any] = {"type": "message", "ts": self.ts, "user": self.user, "text": self.text, "team": TEAM}
        if self.user == BOT_USER:
            shown |= {"bot_id": BOT, "app_id": APP}
        if self.blocks:
            shown["blocks"] = self.blocks
        if self.thread_ts:
            shown["thread_ts"] = self.thread_ts
        if self.edited_ts:
            shown["edited"] = {"user": self.user, "ts": self.edited_ts}
        if with_metadata and self.metadata:
            shown["metadata"] = dict(self.metadata)
        return shown
