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
from bot.domain.incident import Incident, StepStatus
from bot.domain.record import Notify, Page
from bot.domain.wording import listed, span
from bot.engine.world import ReadText, Said
from bot.errors import RecordBroken
from bot.slack import blockkit as kit
from bot.slack import standing
from bot.slack.approvals import request
from bot.slack.blockkit import Block
from bot.slack.mrkdwn import code, entities, line, plain
from bot.slack.posts import sentence
from bot.slack.reasons import duty_of, next_for, why_paged
from bot.slack.standing import Crowd, moment

LATE = 60.0  # seconds; a page later than this says so
CUTS_IN_TEXT = 12
ACK_BLOCK, ACKED_BLOCK = "ack", "acked"


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
            "Opened": moment(incident, incident.start),
        }
        why = [f"{reason[0].upper()}{reason[1:]}.", duty_of(incident, page)]
        why += _lateness(incident, page, late, may_repeat)
        then = next_for(incident, page)
        cuts = [str(cut) for cut in standing.cuts(incident)]
        due = standing.deadlines(incident)
        text = "\n".join(
            [
                *filter(None, (standing.mode(incident), standing.title(incident), *why)),
                f"Containment: {standing.headline(incident)}",
                *(f"  {cut}" for cut in cuts[:CUTS_IN_TEXT]),
                *([f"  and {len(cuts) - CUTS_IN_TEXT} more"] if len(cuts) > CUTS_IN_TEXT else []),
                *(f"{label}: {said}" for label, said in facts.items()),
                *(f"Due: {one}" for one in due),
                f"Next: {then}",
            ]
        )
        first, *rest = (entities(one) for one in why if one)
        blocks = [
            *_banner(incident),
            kit.header(standing.title(incident)),
            kit.section("\n".join([f"*{first}*", *rest])),
            *_containment(incident),
            kit.fields({label: entities(facts[label]) for label in ("Agent", "Acknowledged")}),
            kit.section(f"*Next:* {entities(then)}"),
            kit.context(*(entities(f"Due {one}") for one in due), f"Opened {entities(facts['Opened'])}"),
        ]
        if isinstance(page, Page):
            blocks += [*_overrides(incident), *ack_buttons(incident)]
        return Said(text, tuple(blocks), f"{_marked(incident)}{standing.title(incident)}: {reason}")

    # The card ---------------------------------------------------------------------------------------------------

    def card(self, incident: Incident, read: ReadText) -> Said:
        crowd = self._crowd
        due = standing.deadlines(incident)
        facts = {
            "Acknowledged": standing.acknowledged(incident, crowd),
            "Status": f"{standing.spoken(incident.status)}, opened {moment(incident, incident.start)}",
            "Agent": standing.agent(incident, crowd),
            "Next deadline": "; ".join(due) or "none",
        }
        head = standing.headline(incident)
        blocks = [
            *_banner(incident),
            kit.header(standing.title(incident)),
            *_containment(incident, head),
            kit.fields({label: entities(said) for label, said in facts.items()}),
            *_quote(incident, read),
            *_overrides(incident),
            kit.divider(),
            *_others(incident),
            *kit.listing("On call", [entities(one) for one in standing.duty(incident, crowd)]),
            kit.context(*map(entities, _origin(incident))),
            *ack_buttons(incident),
        ]
        lines = [standing.title(incident), head, *(f"{label}: {said}" for label, said in facts.items())]
        text = entities("\n".join([*filter(None, (standing.mode(incident),)), *lines]))
        return Said(text, tuple(blocks), standing.title(incident))

    # Approvals --------------------------------------------------------------------------------------------------

    def approval(self, incident: Incident, approval: Approval) -> Said:
        return request(incident, approval, self._crowd)

    # Posts ------------------------------------------------------------------------------------------------------

    def post(self, incident: Incident, purpose: str) -> Said:
        said = entities(_marked(incident) + sentence(incident, purpose, self._crowd))
        return Said(said, (kit.section(said),), standing.title(incident))


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
    if incident.over:
        return []
    if incident.acked_by:
        return [kit.actions(ACK_BLOCK, kit.button("Unacknowledge", "unack", incident.id))]
    return [kit.actions(ACK_BLOCK, kit.button("Acknowledge", "ack", incident.id, style="primary"))]


def _banner(incident: Incident) -> list[Block]:
    mode = standing.mode(incident)
    return [kit.context(f"*{entities(mode)}*")] if mode else []


def _marked(incident: Incident) -> str:
    """In front of a text that may be all that is read."""
    return "" if incident.begun.mode == "live" else f"[{incident.begun.mode.upper()}] "


def _containment(incident: Incident, head: str = "") -> list[Block]:
    cuts = [_line(cut) for cut in standing.cuts(incident)]
    return kit.listing(entities(head or standing.headline(incident)), cuts)


def _others(incident: Incident) -> list[Block]:
    lines = [_line(cut) for cut in standing.others(incident)]
    return kit.listing("Other steps", lines, 8) if lines else []


def _line(cut: standing.Cut) -> str:
    what = f"\n      {code(cut.what, 200)}" if cut.what else ""
    return f"{cut.glyph} *{entities(cut.step)}*  {entities(cut.said)}{what}"


def _overrides(incident: Incident) -> Iterator[Block]:
    """One block a step, because action ids are unique within a block. The first five; the command line has them all."""
    for run in standing.overridable(incident)[:5]:
        step = plain(run.id, 60)
        word = "Run now" if run.status is StepStatus.DEFERRED else "Run again"
        question = f"{step} runs {plain(run.action, 60)} on {len(run.calls)} target(s), in your name."
        button = kit.button(word, "override", f"{incident.id}|{run.id}", style="danger", sure=(f"{word}?", question))
        yield kit.section(
            f"*{entities(step)}* needs the commander's word:", block_id=f"override:{run.id}"[:255], accessory=button
        )


def _quote(incident: Incident, read: ReadText) -> list[Block]:
    ref = incident.begun.text
    if ref is None:
        return []
    try:
        text = read(ref)
    except RecordBroken:
        text = "(the alert's text does not match the record and is not shown)"
    heading, _, message = (text if text is not None else "(erased)").strip().partition("\n")
    shown = [line(heading, 200)] + ([line(message, 400)] if message.strip() else [])
    return [kit.section("\n".join(f"> {one}" for one in shown if one))] if any(shown) else []


def _origin(incident: Incident) -> Iterator[str]:
    alert, playbook = incident.alert, incident.frozen.playbook
    if alert:
        delay = incident.start - alert.time
        after = f", {span(delay)} after it happened" if delay >= timedelta(0) else ""
        yield f"{plain(alert.source, 60)} reported {plain(alert.rule or alert.product, 120)}{after}"
        again = f" and {incident.repeats} repeats" if incident.repeats else ""
        yield f"{incident.alerts} alert{'s' if incident.alerts != 1 else ''}{again}"
    else:
        yield f"declared by {plain(incident.begun.declared_by, 60) or 'a person'}"
    if playbook:
        yield f"playbook {plain(playbook.id, 60)} {plain(playbook.version, 20)} ({playbook.hash[:12]})"
    if not incident.contain:
        yield "its source may only propose"
    if linked := incident.linked:
        yield f"linked with {', '.join(plain(other, 40) for other in linked[:5])}"


def _lateness(incident: Incident, page: Page | Notify, late: float, may_repeat: bool) -> Iterator[str]:
    said = [f"late by {span(timedelta(minutes=late // 60))}"] if late >= LATE else []
    said += ["may repeat one that left before a restart"] if may_repeat else []
    if said:
        yield f"This page is {listed(said) if late >= LATE else 'a second try: it ' + said[0]}."
    if late >= LATE and isinstance(page, Page) and len(page.levels) > 1:
        missed = listed([standing.level_name(incident, number) for number in page.levels])
        yield f"It stands for the missed pages of {missed}."
