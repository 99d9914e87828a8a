"""The workspace itself: the Web API with its tokens, scopes, limits and faults, and the people. No sockets here."""

from __future__ import annotations

import hmac
import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bot.errors import Denied, SystemFailure, Unavailable
from bot.ports import Clock
from bot.sandbox.faults import Faults
from bot.sandbox.workspace import conversations, deeds, directory, files, messages, views
from bot.sandbox.workspace.app import App
from bot.sandbox.workspace.deeds import DEEDS, Ask
from bot.sandbox.workspace.memory import Args, Memory, Method, direct_id
from bot.sandbox.workspace.rooms import ApiError, Channel, Group, Message, Person
from bot.sandbox.workspace.screen import Screen
from bot.sandbox.workspace.tiers import Tiers

BOT_TOKEN = "xoxb-sandbox-"
APP_TOKEN = "xapp-sandbox-"
CALLS_KEPT = 10_000
FOR_GOOD = 1_000_000_000  # times: until the faults are cleared
_DELIVERIES = ("*", "interactive", "slash_commands", "events_api")

METHODS: Mapping[str, Method] = {
    **directory.METHODS,
    **conversations.METHODS,
    **messages.METHODS,
    **files.METHODS,
    **views.METHODS,
}


@dataclass(frozen=True, slots=True)
class Call:
    """One Web API call that arrived. `error` is Slack's code, '' where it went well, `http` for a 429 or a 503."""

    at: datetime
    method: str
    channel: str
    error: str


@dataclass(slots=True)
class _Fault:
    """Of a delivery, or a delay of calls. `seconds` is for the latter."""

    name: str
    method: str
    left: int
    seconds: float = 0.0


class Workspace(Memory):
    """Thread-safe. `people` and `channels` are the seed; the bot is in a channel whose members include `BOT_USER`.
    `scopes` is what the app was granted, where that is not all that it asks for. A trigger opens a modal for
    `trigger_life` seconds. `faults` answers Web API methods by name (`chat.postMessage`, or `*`)."""

    def __init__(
        self,
        people: Iterable[Person],
        channels: Iterable[Channel],
        clock: Clock,
        *,
        scopes: frozenset[str] | None = None,
        groups: Iterable[Group] = (),
        app: App | None = None,
        trigger_life: float = 3.0,
    ) -> None:
        app = app or App()
        super().__init__(people, channels, clock, groups=groups, app=app, trigger_life=trigger_life)
        self.scopes = app.scopes if scopes is None else scopes
        self.bot_token, self.app_token = BOT_TOKEN + secrets.token_hex(16), APP_TOKEN + secrets.token_hex(16)
        self.faults = Faults()
        self.tiers = Tiers()
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)  # oldest first
        self.connections = 0  # of Socket Mode
        self._faults: list[_Fault] = []

    # The Web API ------------------------------------------------------------------------------------------------

    def call(self, method: str, token: str, args: Args) -> dict[str, Any]:
        """One Web API call. Raises ApiError for Slack's own no, and Unavailable for a 429 or a 503 that was ordered."""
        with self.lock:
            channel, error = str(args.get("channel") or args.get("channel_id") or ""), "http"
            try:
                self.faults.before(method)
                answer = self._answer(method, token, args)
                self.faults.after(method)
                error = ""
            except Denied as fault:
                error = fault.why
                needed = METHODS[method].scope if method in METHODS else ""
                raise ApiError(fault.why, needed=needed, provided=self.granted) from None
            except ApiError as refused:
                error = refused.code
                raise
            finally:
                self.calls.append(Call(self.clock.now(), method, channel, error))
            return {"ok": True, **answer}

    @property
    def granted(self) -> str:
        """As Slack's header and its missing_scope list it."""
        return ",".join(sorted(self.scopes))

    def _answer(self, method: str, token: str, args: Args) -> dict[str, Any]:
        if method not in METHODS:
            raise ApiError("unknown_method", f"the stand-in has no {method}")
        perform, scope, tier = METHODS[method]
        self._authenticate(method, token)
        self.tiers.allowed(method, tier, str(args.get("channel") or ""), self.clock.now())
        self.require_scope(scope)
        return perform(self, args)

    def _authenticate(self, method: str, token: str) -> None:
        if not token:
            raise ApiError("not_authed")
        is_bot = hmac.compare_digest(token.encode(), self.bot_token.encode())
        is_app = hmac.compare_digest(token.encode(), self.app_token.encode())
        if not is_bot and not is_app:
            raise ApiError("invalid_auth")
        if is_app != (method == "apps.connections.open"):
            raise ApiError("not_allowed_token_type")

    def respond(self, response: str, body: Args) -> None:
        """A POST to a response_url: five uses within 30 minutes. Raises ApiError `used_url` or `expired_url`."""
        messages.respond(self, response, body)

    def redeem(self, ticket: str) -> bool:
        """Whether apps.connections.open gave this out and nobody has connected with it yet."""
        with self.lock:
            known = ticket in self.tickets
            self.tickets.discard(ticket)
            return known

    # Trouble ----------------------------------------------------------------------------------------------------

    def fault(
        self, name: str, method: str = "*", times: int = 1, retry_after: float = 1.0, seconds: float = 1.0
    ) -> None:
        """Trouble by name. For the next `times` calls of a method: `ratelimited` (429), `missing_scope`, `down` (503),
        `lost` (carried out, then 503), `slow` (by `seconds`). For the next `times` deliveries (`method` is their kind,
        `*` all that people cause): `duplicate`, `disconnect` (the client is told to come back on a new connection, and
        gets the delivery there). `tiers`: Slack's rate limits hold from now on. `times` 0: until they are cleared."""
        errors: Mapping[str, SystemFailure] = {
            "ratelimited": Unavailable("slack", "ratelimited", retry_after=retry_after),
            "missing_scope": Denied("slack", "missing_scope"),
            "down": Unavailable("slack", "down"),
            "lost": Unavailable("slack", "the answer was lost", sent=True),
        }
        others = ("duplicate", "disconnect", "slow", "tiers")
        times = times or FOR_GOOD
        with self.lock:
            if name == "tiers":
                self.tiers.switch(on=True)
            elif name in errors:
                self.faults.add(method, errors[name], times, after=name == "lost")
            elif name not in others:
                raise ApiError("unknown_fault", f"{name!r} is none of {', '.join((*errors, *others))}")
            elif name != "slow" and method not in _DELIVERIES:
                raise ApiError("unknown_delivery", f"{method!r} is none of {', '.join(_DELIVERIES)}")
            else:
                self._faults.append(_Fault(name, method, times, seconds if name == "slow" else 0.0))
            self.changed("trouble")

    def clear_faults(self) -> None:
        with self.lock:
            self.faults.clear()
            self._faults.clear()
            self.tiers.switch(on=False)
            self.changed("trouble")

    def without(self, scopes: Iterable[str]) -> None:
        """From now on the app has all that it asks for but these."""
        with self.lock:
            self.scopes = self.app.scopes - frozenset(scopes)
            self.changed("trouble")

    def connected(self, change: int) -> None:
        with self.lock:
            self.connections += change
            self.changed("trouble")

    def take_delivery_fault(self, name: str, kind: str = "*", *, echo: bool = False) -> bool:
        """Whether this delivery has that trouble. `echo`: of what the bot did itself; those are hit by kind only."""
        return self._take(name, (kind,) if echo else (kind, "*")) is not None

    def take_delay(self, method: str) -> float:
        """Seconds that this call is to wait."""
        fault = self._take("slow", (method, "*"))
        return fault.seconds if fault else 0.0

    def _take(self, name: str, methods: tuple[str, ...]) -> _Fault | None:
        with self.lock:
            fault = next((one for one in self._faults if one.name == name and one.method in methods), None)
            if fault is not None:
                fault.left -= 1
                self._faults = [one for one in self._faults if one.left]
                self.changed("trouble")
            return fault

    def trouble(self) -> dict[str, Any]:
        waiting = [(getattr(error, "why", ""), call, left) for call, error, left in self.faults.waiting()]
        waiting += [(one.name, one.method, one.left) for one in self._faults]
        return {
            "faults": [
                {"name": name, "method": method, "left": 0 if left > FOR_GOOD // 2 else left}
                for name, method, left in waiting
            ],
            "scopes_missing": sorted(self.app.scopes - self.scopes),
            "tiers": self.tiers.on,
            "connections": self.connections,
        }

    # People's side ----------------------------------------------------------------------------------------------

    def act(self, deed: str, user: str, **args: Any) -> Ask | dict[str, Any]:
        """A person does something; see DEEDS. Raises ApiError for what Slack would not let them do."""
        with self.lock:
            self.person(user)
            if deed not in DEEDS:
                raise ApiError("unknown_deed", f"{deed!r} is none of {', '.join(DEEDS)}")
            return DEEDS[deed](self, user, **args)

    def say(self, user: str, channel: str, text: str, *, thread_ts: str = "") -> Message:
        """A person writes. Raises ApiError `not_in_channel` for one who is not a member."""
        with self.lock:
            ts = deeds.say(self, user, channel, text, thread_ts)["ts"]
            message = self.find(channel, ts)
            assert message is not None
            return message

    def clicked(self, user: str, channel: str, ts: str, action_id: str, block_id: str = "") -> dict[str, Any]:
        """The block_actions payload of a click on a button that this person sees. Raises ApiError
        (`not_in_channel`, `message_not_found`) or LookupError for a button that is not there."""
        with self.lock:
            return deeds.click(self, user, action_id, channel, ts, block_id=block_id).payload

    def messages(self, channel: str, viewer: str = "", *, notices: bool = False) -> tuple[Message, ...]:
        """Oldest first. For a viewer: what that person sees, with their own ephemerals only; for nobody in
        particular: everything. `notices`: also what Slack itself says (`... has joined the channel`)."""
        with self.lock:
            if viewer:
                self.seen_by(viewer, channel)
            here = [m for m in self.all_in(channel) if notices or not m.subtype]
            return tuple(replace(m) for m in here if not viewer or m.visible_to in ("", viewer))

    def direct_messages(self, user: str) -> tuple[Message, ...]:
        """Between the bot and this person."""
        return self.messages(direct_id(user))

    def state(self, viewer: str = "") -> dict[str, Any]:
        """What one viewer sees, or everything; shapes: screen.py."""
        return Screen(self, viewer).whole()
