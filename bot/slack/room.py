"""What is said in an incident's room besides the card: sentences, and the few messages that offer something."""

from __future__ import annotations

from collections.abc import Iterator

from bot.domain.classification import quieting
from bot.domain.events import Status, TextRef
from bot.domain.incident import Incident
from bot.engine.world import ReadText, Said
from bot.errors import RecordBroken
from bot.slack import blockkit as kit
from bot.slack import standing
from bot.slack.blockkit import Block
from bot.slack.card import releases
from bot.slack.mrkdwn import entities, escape, plain
from bot.slack.posts import sentence
from bot.slack.standing import Crowd

ROLES = {
    "incident_commander": "decides, and keeps everybody on one plan",
    "communications": "writes the status updates, and speaks to those outside",
    "scribe": "keeps notes, and pins what matters to the timeline",
}
SNOOZES = (30, 60, 90)  # minutes
TEXT_MAX = 2500
TOPIC_MAX = 250  # Slack's


def unread(_: TextRef) -> str | None:
    """For whoever has no record at hand: free text is left out."""
    return None


def marked(incident: Incident) -> str:
    """In front of a text that may be all that is read."""
    return "" if incident.begun.mode == "live" else f"[{incident.begun.mode.upper()}] "


def topic(incident: Incident) -> str:
    """What does not change: the card says the rest."""
    about = f" about {plain(incident.begun.agent_uid, 60)}" if incident.begun.agent_uid else ""
    kind = "" if incident.private else f" {standing.spoken(incident.type)}{about}"
    said = f"{marked(incident)}{plain(incident.id, 40)}{kind}. The pinned card says how it stands."
    return said[:TOPIC_MAX]


def post(incident: Incident, purpose: str, crowd: Crowd, read: ReadText) -> Said:
    said = entities(marked(incident) + sentence(incident, purpose, crowd))
    kind, _, rest = purpose.partition(":")
    link = f" <#{incident.channel}>" if kind == "announcement" and incident.channel and not incident.private else ""
    blocks = [kit.section(said + link), *_more(incident, kind, rest, read)]
    subject = plain(incident.id, 40) if incident.private else standing.title(incident)
    return Said(said, tuple(blocks), subject)


def _more(incident: Incident, kind: str, rest: str, read: ReadText) -> Iterator[Block]:
    match kind:
        case "roles":
            for role, duty in ROLES.items():
                button = kit.button("I take it", "role", f"{incident.id}|{role}")
                yield kit.section(f"*{standing.spoken(role)}* {duty}", block_id=f"role:{role}", accessory=button)
        case "reminder" if not incident.over:
            buttons = [kit.button("Send update", "update", incident.id, style="primary")]
            buttons += [kit.button(f"Snooze {m} min", f"snooze_{m}", incident.id) for m in SNOOZES]
            yield kit.actions("reminder", *buttons, kit.button("Stop", "snooze_stop", incident.id))
        case "update" if rest.isdigit() and 0 < int(rest) <= len(incident.said):
            given = incident.said[int(rest) - 1]
            for label, ref in (("Conditions", given.conditions), ("Actions", given.actions), ("Needs", given.needs)):
                yield from _quoted(ref, read, f"*{label}*\n")
        case "task" if task := incident.tasks.get(rest):
            yield from _quoted(task.text, read)
        case "pinned" if incident.pins:
            if text := list(incident.pins.values())[-1].text:
                yield from _quoted(text, read)
        case "false_positive" if incident.status is Status.FALSE_POSITIVE:
            yield from releases(incident)
            yield from _quieter(incident)


def _quoted(ref: TextRef, read: ReadText, label: str = "") -> Iterator[Block]:
    try:
        text = read(ref)
    except RecordBroken:
        text = "(this text does not match the record and is not shown)"
    lines = [escape(one) for one in (text or "").strip()[:TEXT_MAX].splitlines() if one.strip()]
    if lines:
        yield kit.section(label + "\n".join(f"> {one}" for one in lines))


def _quieter(incident: Incident) -> Iterator[Block]:
    """A rule to copy, and what it would have meant: nothing is changed by itself."""
    if incident.alert is None:
        return
    rule = quieting(incident.alert, incident.begun.agent_uid, incident.type, incident.id)
    diff = "\n".join(("  classification:", *(f"+ {line}" for line in rule)))
    said = "With this rule in front, in sources.yaml, no playbook of this type would have run on the alert:"
    matched = f"Why this type and playbook: {plain(incident.begun.why, 600)}." if incident.begun.why else ""
    yield kit.section(f"*Proposed rule.* {said}\n```{escape(diff).replace('`', chr(39))}```")
    yield kit.context(entities(matched), "Nothing is changed by itself: put it in by review, and run firedoor check.")
