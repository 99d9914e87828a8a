"""What the agent may do right now: the newest order, and whether anybody still stands behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from bot.agent.signature import Untrusted


class Mode(IntEnum):
    """Loosest first."""

    ACTIVE = 0
    ADVISORY = 1
    SHADOW = 2
    DISABLED = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Order:
    """`lease` and `renew` are seconds, counted from when the answer was asked for: by whatever clock, that is never
    longer than what was granted. `on_loss`: the mode that the end of the lease leads to, None keeps the last one."""

    mode: Mode
    epoch: int
    nonce: str
    incident: str
    lease: float
    renew: float
    on_loss: Mode | None


def read_order(body: bytes, agent: str, instance: str, answered_at: float) -> Order:
    """`answered_at`: the answer's signed time, Unix seconds, cut to whole ones. Raises Untrusted for anything but an
    order for this instance."""
    try:
        told = json.loads(body)
        if (told["agent"], told["instance"]) != (agent, instance):
            raise Untrusted("the order is for another instance")
        until, renew = (_unix(told["lease"][name]) - answered_at - 1 for name in ("until", "renew_after"))
        epoch, nonce = told["epoch"], told["nonce"]
        if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 0 or not isinstance(nonce, str):
            raise Untrusted("the order has no epoch and nonce")
        return Order(
            Mode[told["mode"].upper()],
            epoch,
            nonce,
            str(told.get("incident") or ""),
            until,
            renew,
            _on_loss(told),
        )
    except Untrusted:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise Untrusted(f"the answer is no order ({error!r})") from error


def _on_loss(told: Mapping[str, Any]) -> Mode | None:
    """What cannot be read means shadow."""
    return {"keep": None, "advisory": Mode.ADVISORY}.get(told.get("on_lease_loss", ""), Mode.SHADOW)


def _unix(text: str) -> float:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return at.timestamp()


@dataclass(frozen=True, slots=True)
class Standing:
    """Before any order, and after the client was closed, `shadow`. `until` is on the client's own steady clock."""

    order: Order | None = None
    until: float = 0.0
    watched: bool = True  # False once nobody listens for orders any more

    def mode(self, now: float) -> Mode:
        """The end of a lease only ever makes it stricter."""
        order = self.order
        if order is None:
            return Mode.SHADOW
        if not self.watched:
            return max(order.mode, Mode.SHADOW)
        if now < self.until or order.on_loss is None:
            return order.mode
        return max(order.mode, order.on_loss)

    def why(self, now: float) -> str:
        order = self.order
        if order is None:
            return "Firedoor has not been heard yet"
        if not self.watched:
            return "nothing listens to Firedoor any more"
        if now >= self.until:
            return f"the lease of epoch {order.epoch} has run out: Firedoor is not heard"
        return f"Firedoor ordered it with epoch {order.epoch}" + (f" for {order.incident}" if order.incident else "")

    def told(self, order: Order, asked_at: float) -> Standing:
        """After an order that was asked for at `asked_at`. Raises Untrusted for one that goes back."""
        held = self.order
        if held and order.epoch < held.epoch:
            raise Untrusted(f"epoch {order.epoch} is older than epoch {held.epoch}, which is in force")
        if held and order.epoch == held.epoch and (order.nonce, order.mode) != (held.nonce, held.mode):
            raise Untrusted(f"epoch {order.epoch} is in force with another nonce or mode")
        return Standing(order, asked_at + order.lease, self.watched)
