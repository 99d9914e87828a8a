"""The Slack app that Firedoor is: what `firedoor slack manifest` prints, and why it asks for each right.

Least privilege, held by a test: every method that the code calls is covered, and no scope is asked for that no method,
event or feature needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

REQUEST_PATH = "/slack/events"  # where web.app mounts Slack
COMMANDS: Mapping[str, str] = {
    "/inc": "Incidents: declare, see, steer",
    "/incident": "The same as /inc",
}
USAGE = "[new | status | ack | page | contain | resolve | help ...]"
SHORTCUT = ("create_incident", "Create incident", "Opens an incident from this message")

# Web API method -> the scopes that each use of it here needs, as docs.slack.dev says of the method. The conversation
# methods need one for each kind of conversation that they are used on. () is: none but a token.
METHODS: Mapping[str, tuple[str, ...]] = {
    "apps.connections.open": (),  # the app token's own: connections:write
    "auth.test": (),
    "bookmarks.add": ("bookmarks:write",),
    "bookmarks.list": ("bookmarks:read",),
    "chat.postEphemeral": ("chat:write",),
    "chat.postMessage": ("chat:write",),
    "chat.update": ("chat:write",),
    "conversations.archive": ("channels:manage", "groups:write"),
    "conversations.create": ("channels:manage", "groups:write"),
    "conversations.history": ("channels:history", "groups:history", "im:history"),
    "conversations.info": ("channels:read", "groups:read"),  # of direct messages nobody asks
    "conversations.invite": ("channels:manage", "groups:write"),
    "conversations.open": ("im:write",),
    "conversations.replies": ("channels:history", "groups:history", "im:history"),
    "conversations.setPurpose": ("channels:manage", "groups:write"),
    "conversations.setTopic": ("channels:manage", "groups:write"),
    "files.completeUploadExternal": ("files:write",),
    "files.getUploadURLExternal": ("files:write",),
    "pins.add": ("pins:write",),
    "reactions.add": ("reactions:write",),
    "users.conversations": ("channels:read", "groups:read"),
    "users.info": ("users:read", "users:read.email"),  # without the second, nobody's e-mail address can be compared
    "views.open": (),
    "views.publish": (),
    "views.update": (),
}
EVENTS: Mapping[str, tuple[str, ...]] = {
    "app_home_opened": (),
    "message.channels": ("channels:history",),
    "message.groups": ("groups:history",),
    "reaction_added": ("reactions:read",),
}
FEATURES: Mapping[str, tuple[str, ...]] = {"slash commands and shortcuts": ("commands",)}


def scopes() -> tuple[str, ...]:
    """Of the bot token, sorted. The app token of Socket Mode needs `connections:write` alone."""
    needs = (*METHODS.values(), *EVENTS.values(), *FEATURES.values())
    return tuple(sorted({scope for each in needs for scope in each}))


def manifest(url: str = "", name: str = "Firedoor") -> dict[str, Any]:
    """For https://api.slack.com/apps, `Create New App`, `From a manifest`. `url` is the public address where Slack
    reaches Firedoor; '' is Socket Mode."""
    request_url = f"{url.rstrip('/')}{REQUEST_PATH}"
    over_http = {"request_url": request_url} if url else {}
    callback, title, about = SHORTCUT
    return {
        "display_information": {
            "name": name,
            "description": "Incident response for AI agents",
            "background_color": "#7a1f1f",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": True,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": True,
            },
            "bot_user": {"display_name": name, "always_online": True},
            "shortcuts": [{"name": title, "type": "message", "callback_id": callback, "description": about}],
            "slash_commands": [
                {
                    "command": command,
                    "description": meaning,
                    "usage_hint": USAGE,
                    "should_escape": True,  # else a mention comes as a name that nobody can look up
                    **({"url": request_url} if url else {}),
                }
                for command, meaning in COMMANDS.items()
            ],
        },
        "oauth_config": {"scopes": {"bot": list(scopes())}},
        "settings": {
            "event_subscriptions": {**over_http, "bot_events": list(EVENTS)},
            "interactivity": {"is_enabled": True, **over_http},
            "org_deploy_enabled": False,
            "socket_mode_enabled": not url,
            "token_rotation_enabled": False,
        },
    }
