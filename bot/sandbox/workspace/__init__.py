"""The embedded stand-in for Slack: the bot's real client talks to it on loopback. SANDBOX, not Slack."""

from bot.sandbox.workspace.delivery import Delivery
from bot.sandbox.workspace.rooms import ApiError, Channel, Message, Person
from bot.sandbox.workspace.server import WorkspaceServer
from bot.sandbox.workspace.state import Workspace

__all__ = ["ApiError", "Channel", "Delivery", "Message", "Person", "Workspace", "WorkspaceServer"]
