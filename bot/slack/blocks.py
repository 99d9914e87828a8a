"""The bot's voice: an incident's state as a page, a card, a request for approval and posts. Pure.

`Said.text` of a page is plain, because mail and webhooks carry it too; of the others it is Slack's fallback, escaped.
Alert text and systems' answers only come in through `mrkdwn`, which makes them harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from bot.config.people import People
from bot.domain.approval import Approval
from bot.domain.decisions import Notify, Page
from bot.domain.incident import Incident
from bot.domain.wording import listed, span
from bot.engine.world import ReadText, Said
from bot.slack import blockkit as kit
from bot.slack import reached, standing
from bot.slack.approvals import request
from bot.slack.blockkit import Block
from bot.slack.card import ACK_BLOCK, ack_button, banner, card, containment, left_alive, overrides
from bot.slack.mrkdwn import entities
from bot.slack.reasons import duty_of, next_for, why_paged
from bot.slack.room import marked, post, topic, unread
from bot.slack.standing import Crowd, moment

LATE = 60.0  # seconds; a page later than this says so
CUTS_IN_TEXT = 12
ACKED_BLOCK = "acked"


class SlackVoice:
    """engine.world.Voice. With `people` persons have names, and those who can approve are mentioned."""

    def __init__(self, people: People | None = None) -> None:
        self._crowd = Crowd(people)

    # Pages ------------------------------------------------------------------------------------------------------

    def page(self, incident: Incident, page: Page | Notify, *, late: float, may_repeat: bool) -> Said:
        crowd, reason = self._crowd, why_paged(incident, page)
        facts = {
            "Acknowledged": standing.acknowledged(incident, crowd),
            "Agent": standing.agent(incident, crowd),
            "Holds": reached.holds(incident) or "not looked at yet",
            "Opened": moment(incident, incident.start),
        }
        why = [f"{reason[0].upper()}{reason[1:]}.", duty_of(incident, page)]
        why += _lateness(incident, page, late, may_repeat)
        then = next_for(incident, page)
        cuts = [str(cut) for cut in standing.cuts(incident)]
        living, due = reached.alive(incident), standing.deadlines(incident)
        text = "\n".join(
            [
                *filter(None, (standing.mode(incident), standing.title(incident), *why)),
                f"Containment: {standing.headline(incident)}",
                *(f"  {cut}" for cut in cuts[:CUTS_IN_TEXT]),
                *([f"  and {len(cuts) - CUTS_IN_TEXT} more"] if len(cuts) > CUTS_IN_TEXT else []),
                *([f"{reached.alive_head(incident)}:", *(f"  {one}" for one in living)] if living else []),
                *(f"{label}: {said}" for label, said in facts.items()),
                *(f"Due: {one}" for one in due),
                f"Next: {then}",
            ]
        )
        first, *rest = (entities(one) for one in why if one)
        blocks = [
            *banner(incident),
            kit.header(standing.title(incident)),
            kit.section("\n".join([f"*{first}*", *rest])),
            *containment(incident),
            *left_alive(incident),
            kit.fields({label: entities(facts[label]) for label in ("Agent", "Acknowledged", "Holds")}),
            kit.section(f"*Next:* {entities(then)}"),
            kit.context(*(entities(f"Due {one}") for one in due), f"Opened {entities(facts['Opened'])}"),
        ]
        if isinstance(page, Page):
            blocks += [*overrides(incident), *ack_buttons(incident)]
        return Said(text, tuple(blocks), f"{marked(incident)}{standing.title(incident)}: {reason}")

    # The room ---------------------------------------------------------------------------------------------------

    def card(self, incident: Incident, read: ReadText) -> Said:
        return card(incident, read, self._crowd)

    def post(self, incident: Incident, purpose: str, read: ReadText = unread) -> Said:
        return post(incident, purpose, self._crowd, read)

    def topic(self, incident: Incident) -> str:
        return topic(incident)

    # Approvals --------------------------------------------------------------------------------------------------

    def approval(self, incident: Incident, approval: Approval) -> Said:
        return request(incident, approval, self._crowd)


# Parts ----------------------------------------------------------------------------------------------------------


def answered(incident: Incident, blocks: Sequence[Mapping[str, Any]], people: People) -> list[Mapping[str, Any]]:
    """A page's blocks after a click: as they were sent, with the buttons that still make sense."""
    kept = [block for block in blocks if block.get("block_id") not in (ACK_BLOCK, ACKED_BLOCK)]
    if incident.over:
        now = f"{incident.id} is {standing.spoken(incident.status)}."
    else:
        now = f"Acknowledged: {standing.acknowledged(incident, Crowd(people))}. {standing.headline(incident)}"
    return [*kept, kit.context(entities(now), block_id=ACKED_BLOCK), *ack_buttons(incident)]


def ack_buttons(incident: Incident) -> list[Block]:
    return [] if incident.over else [kit.actions(ACK_BLOCK, ack_button(incident))]


def _lateness(incident: Incident, page: Page | Notify, late: float, may_repeat: bool) -> Iterator[str]:
    said = [f"late by {span(timedelta(minutes=late // 60))}"] if late >= LATE else []
    said += ["may repeat one that left before a restart"] if may_repeat else []
    if said:
        yield f"This page is {listed(said) if late >= LATE else 'a second try: it ' + said[0]}."
    if late >= LATE and isinstance(page, Page) and len(page.levels) > 1:
        missed = listed([standing.level_name(incident, number) for number in page.levels])
        yield f"It stands for the missed pages of {missed}."
