"""Everything that people do in Slack, and who listens to it. Each is acknowledged at once and worked on afterwards.

Slack repeats deliveries and people press twice. A delivery is taken once, in the same transaction as what it asks for;
what was decided already is refused by the record, with a sentence that only that person sees.
"""

from __future__ import annotations

from collections.abc import Callable

from slack_bolt.async_app import AsyncApp

from bot.config import SecretRef, resolve
from bot.engine.engine import Engine
from bot.slack.clicks import Clicks
from bot.slack.commands import Commands
from bot.slack.door import Door
from bot.slack.home import Home
from bot.slack.orders import Orders
from bot.slack.pins import Pins

# What the app subscribes to beside what is listened to: the rest of the channels' messages, and who comes and goes.
UNHEARD = (
    "message",
    "app_mention",
    "member_joined_channel",
    "channel_shared",
    "subteam_members_changed",
    "user_change",
)


class Listeners:
    def __init__(self, app: AsyncApp, engine: Engine, secret: Callable[[SecretRef], str] = resolve) -> None:
        door = Door(app.client, engine)
        orders = Orders(door.people, door.clean, secret)
        commands = Commands(app, door, orders)
        Clicks(app, door, orders, commands)
        Home(app, door, commands)
        Pins(app, door)
        for name in UNHEARD:
            app.event(name)(_unheard)


async def _unheard() -> None:
    """Acknowledged, for Slack sends again what nobody takes; nothing follows from it."""
