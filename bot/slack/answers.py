"""What people can read without leaving Slack: help, who is on call, the last of the timeline. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bot.config.people import COMMANDER, People
from bot.domain.incident import Incident
from bot.domain.record import Entry
from bot.domain.timeline import narrate
from bot.domain.wording import listed
from bot.slack import blockkit as kit
from bot.slack.blockkit import Block
from bot.slack.command import VERBS
from bot.slack.mrkdwn import code, entities, line, plain
from bot.slack.standing import Crowd, moment, spoken

LINES = 15
ROLE_TEXTS = "roles"  # a folder of the templates: <role>.md
ANY_ROLE = "responder"


def help_blocks() -> list[Block]:
    lines = [f"{code('/inc ' + verb.example)} {entities(verb.means)}" for verb in VERBS.values()]
    where = "In an incident's channel it is about that incident; elsewhere say which: `/inc ack INC-7`."
    return [
        *kit.listing("What /inc understands", lines, len(lines)),
        kit.context(
            where,
            "A verb that needs more than its name opens a form. Who may say what is the verb table of people.yaml.",
        ),
    ]


def on_call_blocks(people: People, now: datetime, incident: Incident | None = None) -> list[Block]:
    """Who is on call now, and who took which role of the incident."""
    crowd = Crowd(people)
    lines = []
    for role, contacts in people.roster(now).items():
        who = crowd.names([contact.person for contact in contacts]) or "NOBODY"
        lines.append(f"*{entities(spoken(role))}*: {entities(who)}")
    blocks = kit.listing("On call now", lines, 60)
    roles = incident.roles.items() if incident else ()
    taken = [f"*{entities(spoken(role))}*: {entities(crowd.name(who))}" for role, who in roles]
    return [*blocks, *(kit.listing("Roles taken in this incident", taken, 40) if taken else [])]


def timeline_blocks(incident: Incident, entries: Sequence[Entry]) -> list[Block]:
    """The last lines."""
    told = narrate(entries)
    lines = [f"{moment(incident, one.at)}  {line(one.text, 300)}" for one in told[-LINES:]]
    before = f"{len(told) - LINES} earlier lines are left out. " if len(told) > LINES else ""
    return [
        *kit.listing(f"Timeline of {entities(plain(incident.id, 24))}", lines, LINES),
        kit.context(f"{before}All of it: {code(f'firedoor incident show {incident.id}')}"),
    ]


def postmortem_due(incident: Incident, *, erased: bool) -> str:
    """Plain: when there will be one."""
    if erased:
        return f"The postmortem of {incident.id} was erased."
    if "postmortem" in incident.drafted:
        return f"The postmortem of {incident.id} is being drafted: ask again in a moment."
    return f"{incident.id} has no postmortem yet: it is drafted when the incident is resolved."


def drill_text(names: Sequence[str]) -> str:
    """Plain. A drill plays in a process of its own, against simulated systems: nothing here is touched."""
    known = listed([f"/inc drill {name}" for name in names]) or "none is there; see drills/"
    return f"A drill plays a whole incident in seconds, on simulated systems: {known}. At a terminal: firedoor drill"


def role_text(templates: Path, role: str) -> str:
    """mrkdwn written by the operator: what somebody who takes this role does first. `responder` stands for roles that
    have no text of their own."""
    folder = templates / ROLE_TEXTS
    for name in (role, ANY_ROLE):
        if (file := folder / f"{name}.md").is_file() and role.replace("_", "").replace("-", "").isalnum():
            return file.read_text("utf-8").strip()[:2800]
    return ""


def role_blocks(incident: Incident, role: str, text: str) -> list[Block]:
    where = f" Work in <#{incident.channel}>." if incident.channel.isalnum() else ""
    head = f"*You are {entities(spoken(role))} of {line(incident.id, 24)}.*{where}"
    giving_up = "the commander hands it over" if role == COMMANDER else "give it on"
    return [
        kit.section(head),
        *([kit.section(text)] if text else []),
        kit.context(f"To {giving_up}: {code(f'/inc role {role} @somebody')}"),
    ]
