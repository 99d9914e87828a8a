"""The embedded stand-in for Slack: the bot's real client talks to it on loopback. SANDBOX, not Slack."""

from bot.sandbox.workspace.app import App, Shortcut
from bot.sandbox.workspace.delivery import Delivery
from bot.sandbox.workspace.rooms import ApiError, Channel, Group, Message, Person
from bot.sandbox.workspace.server import WorkspaceServer
from bot.sandbox.workspace.state import Workspace

__all__ = [
    "ApiError",
    "App",
    "Channel",
    "Delivery",
    "Group",
    "Message",
    "Person",
    "Shortcut",
    "Workspace",
    "WorkspaceServer",
]
