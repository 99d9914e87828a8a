"""The app as it was installed: its commands and shortcuts, what it may do, and which events it hears."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

SCOPES = frozenset(
    {
        *("app_mentions:read", "bookmarks:read", "bookmarks:write", "canvases:write", "chat:write", "commands"),
        *("channels:history", "channels:join", "channels:manage", "channels:read", "files:read", "files:write"),
        *("groups:history", "groups:read", "groups:write", "im:history", "im:read", "im:write", "pins:read"),
        *("pins:write", "reactions:read", "reactions:write", "team:read", "usergroups:read", "users:read"),
        "users:read.email",
    }
)
EVENTS = frozenset(
    {
        *("app_home_opened", "app_mention", "channel_shared", "member_joined_channel", "message.channels"),
        *("message.groups", "reaction_added", "subteam_members_changed", "user_change"),
    }
)


@dataclass(frozen=True, slots=True)
class Shortcut:
    """`type` is `message` (in the menu of a message) or `global`."""

    callback_id: str
    name: str
    type: str = "message"


@dataclass(frozen=True, slots=True)
class App:
    """`commands`: command -> usage hint."""

    name: str = "Firedoor"
    commands: Mapping[str, str] = field(
        default_factory=lambda: {"/inc": "[new | status | help ...]", "/incident": "[new | status | help ...]"}
    )
    shortcuts: tuple[Shortcut, ...] = (Shortcut("create_incident", "Create incident"),)
    scopes: frozenset[str] = SCOPES
    events: frozenset[str] = EVENTS

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """As Slack reads an app manifest. What is missing there, the app does not have."""
        features, settings = manifest.get("features", {}), manifest.get("settings", {})
        return cls(
            name=str(features.get("bot_user", {}).get("display_name") or "app"),
            commands={one["command"]: one.get("usage_hint", "") for one in features.get("slash_commands", ())},
            shortcuts=tuple(
                Shortcut(one["callback_id"], one["name"], one["type"]) for one in features.get("shortcuts", ())
            ),
            scopes=frozenset(manifest.get("oauth_config", {}).get("scopes", {}).get("bot", ())),
            events=frozenset(settings.get("event_subscriptions", {}).get("bot_events", ())),
        )
