"""What one person sees: the whole screen, and what of it changed.

screen  {"sandbox", "seq", "team": {id, name}, "me": PERSON | null, "people": [PERSON], "groups": [GROUP],
         "app": {"name", "user", "commands": {command: hint}, "shortcuts": [{callback_id, name, type}]},
         "channels": [CHANNEL with "messages": [MESSAGE]], "joinable": [CHANNEL], "modals": [VIEW], "home": VIEW | null,
         "trouble": {"faults": [{name, method, left}], "scopes_missing": [...], "tiers": bool, "connections": n}}
CHANNEL as conversations.info has it, and "members": [ids], "pins": [ts], "bookmarks": [{title, link, emoji}];
         a direct message has "is_im": true and "user"
MESSAGE as conversations.history has it, and "channel", "visible_to" of an ephemeral, "pinned": true,
         "reply_count", "reply_users", "latest_reply", and "html" where the launcher gave a renderer
VIEW     as views.open answers, and "html"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bot.sandbox.workspace.memory import Change, Memory
from bot.sandbox.workspace.rooms import BOT_USER, TEAM, Channel, Message, View

# blocks, text, names of ids -> HTML
Renderer = Callable[[Sequence[Mapping[str, Any]], str, Mapping[str, str]], str]

Json = dict[str, Any]


class Screen:
    """Of `viewer`; '' sees everything."""

    def __init__(self, room: Memory, viewer: str, render: Renderer | None = None) -> None:
        if viewer:
            room.person(viewer)
        self._room, self._viewer, self._render = room, viewer, render

    def whole(self) -> Json:
        room, viewer = self._room, self._viewer
        with room.lock:
            return {
                "sandbox": "SANDBOX, not Slack",
                "seq": room.since(0)[0],
                "team": {"id": TEAM, "name": "sandbox"},
                "me": room.people[viewer].shown() if viewer else None,
                **self._people(),
                "app": {
                    "name": room.app.name,
                    "user": BOT_USER,
                    "commands": dict(room.app.commands),
                    "shortcuts": [
                        {"callback_id": one.callback_id, "name": one.name, "type": one.type}
                        for one in room.app.shortcuts
                    ],
                },
                "channels": [self._channel(c, with_messages=True) for c in room.channels.values() if self._member(c)],
                "joinable": self._joinable(),
                "modals": self._modals(),
                "home": self._home(),
                "trouble": room.trouble(),
            }

    def changes(self, changes: Sequence[Change]) -> list[Json]:
        """Of these changes what this person sees, each thing once, as it is now."""
        seen: list[Json] = []
        with self._room.lock:
            for kind, key in dict.fromkeys((change.kind, change.key) for change in changes):
                seen += ({"kind": kind, "seq": changes[-1].seq, **shown} for kind, shown in self._change(kind, key))
        return seen

    def _change(self, kind: str, key: tuple[str, ...]) -> Iterator[tuple[str, Json]]:
        room = self._room
        mine = bool(key) and key[-1] == self._viewer
        match kind:
            case "message" | "message_gone" if not self._member(room.channels[key[0]]):
                return
            case "message":
                message = room.find(*key)
                if message is not None and self._sees(message):
                    yield kind, {"message": self._message(message)}
            case "message_gone":
                if not self._viewer or key[2] in ("", self._viewer):
                    yield kind, {"channel": key[0], "ts": key[1]}
            case "channel":
                channel = room.channels[key[0]]
                if self._member(channel):
                    yield kind, {"channel": self._channel(channel)}
                elif channel.kind == "channels":
                    yield "joinable", {"joinable": self._joinable()}
            case "joined" if mine:
                if self._member(room.channels[key[0]]):
                    yield "channel", {"channel": self._channel(room.channels[key[0]], with_messages=True)}
                    yield "joinable", {"joinable": self._joinable()}
            case "left" if mine:
                if not self._member(room.channels[key[0]]):
                    yield "channel_gone", {"channel": key[0]}
                    yield "joinable", {"joinable": self._joinable()}
            case "modals" if mine:
                yield kind, {"modals": self._modals()}
            case "home" if mine:
                yield kind, {"home": self._home()}
            case "failure" if mine:
                yield kind, dict(zip(("text", "channel", "ts", "view"), key[:-1], strict=True))
            case "people":
                yield kind, self._people()
            case "trouble":
                yield kind, {"trouble": room.trouble()}

    # Parts ------------------------------------------------------------------------------------------------------

    def _member(self, channel: Channel) -> bool:
        return not self._viewer or self._viewer in channel.members

    def _sees(self, message: Message) -> bool:
        return not self._viewer or message.visible_to in ("", self._viewer)

    def _people(self) -> Json:
        room = self._room
        people = [person.shown() | {"name": person.name} for person in room.people.values()]
        return {"people": people, "groups": [group.shown() for group in room.groups.values()]}

    def _joinable(self) -> list[Json]:
        return [channel.shown() for channel in self._room.joinable(self._viewer)] if self._viewer else []

    def _channel(self, channel: Channel, *, with_messages: bool = False) -> Json:
        room = self._room
        shown = channel.shown() | {
            "name": channel.name,
            "members": sorted(channel.members),
            "pins": [pin.ts for pin in room.pins.get(channel.id, [])],
            "bookmarks": [one.shown() for one in room.bookmarks.get(channel.id, [])],
        }
        if with_messages:
            shown["messages"] = [self._message(m) for m in room.all_in(channel.id) if self._sees(m)]
        return shown

    def _message(self, message: Message) -> Json:
        room = self._room
        shown = message.shown() | {"channel": message.channel}
        if message.visible_to:
            shown["visible_to"] = message.visible_to
        if any(pin.ts == message.ts for pin in room.pins.get(message.channel, [])):
            shown["pinned"] = True
        answers = [m for m in room.replies(message) if self._sees(m)] if not message.is_reply else []
        if answers:
            users = list(dict.fromkeys(m.user for m in answers))
            shown |= {"reply_count": len(answers), "reply_users": users, "latest_reply": answers[-1].ts}
        if self._render:
            shown["html"] = self._render(message.blocks, message.text, self._names())
        return shown

    def _modals(self) -> list[Json]:
        stack = self._room.screens.modals.get(self._viewer, [])
        return [self._view(self._room.screens.views[id]) for id in stack]

    def _home(self) -> Json | None:
        home = self._room.screens.homes.get(self._viewer)
        return self._view(home) if home else None

    def _view(self, view: View) -> Json:
        html = {"html": self._render(view.blocks, "", self._names())} if self._render else {}
        return view.shown() | html

    def _names(self) -> dict[str, str]:
        """Of everything that this person may know by its id."""
        room = self._room
        channels = {c.id: c.name for c in room.channels.values() if self._member(c) or c.kind == "channels"}
        return {p.id: p.name for p in room.people.values()} | channels | {g.id: g.handle for g in room.groups.values()}
