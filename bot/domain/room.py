"""The room of an incident: its own channel, who is in it, and the messages there that are edited in place."""

from __future__ import annotations

import re
from collections.abc import Iterator

from bot.domain.approval import ApprovalState
from bot.domain.decisions import Invite, OpenChannel, Post
from bot.domain.events import (
    ChannelFailed,
    ChannelOpened,
    DocumentDrafted,
    Event,
    Opened,
    Posted,
    Status,
    StatusChanged,
)
from bot.domain.incident import Incident, facts_of_announcement, facts_of_card
from bot.domain.turn import Turn

NAME_MAX = 80  # Slack's
POSTMORTEM = "postmortem"


def open_channel(turn: Turn) -> None:
    """Before anything is said: what is posted afterwards waits for it. An incident that becomes private moves."""
    now, event = turn.now, turn.event
    asked = isinstance(event, Opened) and event.room
    moves = now.private and not now.channel_private and (isinstance(event, ChannelOpened) or not turn.before.private)
    if now.channel_out or not (asked or moves):
        return
    turn.do(OpenChannel(turn.next_id, now.id, channel_name(now), now.private))


def keep_room(turn: Turn) -> None:
    """After what is said once: who acts is let in, the announcement and the card say how things stand."""
    now, event = turn.now, turn.event
    if now.channel and (lacking := tuple(sorted(_belong(now, event) - now.members))):
        turn.do(Invite(turn.next_id, now.id, lacking))
    for purpose in _told(turn):
        turn.do(Post(turn.next_id, now.id, purpose))
    if now.channel and not now.announcement_out and now.announced != facts_of_announcement(now):
        turn.do(Post(turn.next_id, now.id, "announcement"))
    if not now.card_out and turn.now.shown != facts_of_card(turn.now):
        turn.do(Post(turn.next_id, now.id, "card"))


def _told(turn: Turn) -> Iterator[str]:
    """What follows from the room's own events, by the purpose of the post. Those of a move come after the new card."""
    before, now, event = turn.before, turn.now, turn.event
    match event:
        case ChannelFailed():
            yield "channel_failed"
        case Posted(purpose="card") if now.card and now.card != before.card and now.card[0] == now.channel:
            yield "pin"
            if before.card is None:
                yield "roles"
            if before.left:
                yield from (f"asked:{a.request}" for a in now.approvals.values() if a.state is ApprovalState.OPEN)
                yield before.left
        case _ if _papers_are_due(turn):
            yield "files"


def channel_name(incident: Incident) -> str:
    """`inc-7-data-exposure-agent-7`, as Slack takes it; of a private one nothing but its number."""
    number = incident.id.removeprefix("INC-").lower()
    if incident.private:
        return f"inc-{number}-private"
    about = re.sub(r"[^a-z0-9]+", "-", f"{incident.type} {incident.begun.agent_uid}".lower()).strip("-")
    return f"inc-{number}-{about}"[:NAME_MAX].rstrip("-")


def _on_duty(incident: Incident) -> set[str]:
    """Everybody on call whom Slack reaches."""
    return {c.person for contacts in incident.roster.values() for c in contacts if "slack" in c.ways}


def _belong(incident: Incident, event: Event) -> set[str]:
    """Who is on duty, and who acts or is called in; a private room lets in nobody who is not on duty."""
    if incident.private or not hasattr(event, "by"):
        return _on_duty(incident)
    acting = {str(getattr(event, field, "")) for field in ("by", "person", "owner")}
    return _on_duty(incident) | (acting - {""})


def _papers_are_due(turn: Turn) -> bool:
    """Once it is resolved and its postmortem drafted, in whichever order that came."""
    now, event = turn.now, turn.event
    if not now.channel or now.status is not Status.RESOLVED or POSTMORTEM not in now.documents:
        return False
    drafted = isinstance(event, DocumentDrafted) and event.kind == POSTMORTEM
    return drafted or isinstance(event, StatusChanged)
