"""What the agent holds, and what is left alive of it, in words: for the card, pages and the room. Lines as in
`standing`: plain, harmless, not yet escaped."""

from __future__ import annotations

from bot.domain.events import Phase
from bot.domain.incident import Incident
from bot.domain.reach import named, radius
from bot.slack.mrkdwn import plain

SHOWN = 8  # of what is alive; the command line has it all
UNREAD = 3


def holds(incident: Incident) -> str:
    """The blast radius at the opening; '' while nobody has looked."""
    before = incident.surveys.get(Phase.BEFORE)
    if before is None:
        return ""
    unread = f"; NOT READ: {len(before.unread)} (see the timeline)" if before.unread else ""
    return plain(radius(before), 300) + unread


def alive(incident: Incident) -> list[str]:
    """What is left alive by name, worst first, and what could not be read; [] while nobody has looked again."""
    after = incident.surveys.get(Phase.AFTER)
    if after is None:
        return []
    own = incident.agent.id if incident.agent else ""
    lines = []
    for one in after.living[:SHOWN]:
        whose = f" ({plain(one.agent, 80)})" if one.agent != own else ""
        uncut = "; NOT ALLOWED to be cut by agents.yaml: cut it by hand" if one.chained and not one.allowed else ""
        lines.append(f"! {plain(named(one), 300)}{whose}{uncut}")
    if (more := after.alive - len(lines)) > 0:
        lines.append(f"and {more} more: firedoor reach {plain(own, 80)}")
    lines += [f"? not read: {plain(why, 200)}" for why in after.unread[:UNREAD]]
    if (more := len(after.unread) - UNREAD) > 0:
        lines.append(f"? and {more} more that could not be read")
    return lines or ["✓ nothing is left alive that was found"]


def alive_head(incident: Incident) -> str:
    after = incident.surveys.get(Phase.AFTER)
    return f"Left alive ({after.alive})" if after and after.alive else "Left alive"
