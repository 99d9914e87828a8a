"""What is said once in the thread of the card, by the purpose of the post: one or two sentences, as true as the record.

A post may leave late. It says what happened, and what has changed since.
"""

from __future__ import annotations

from bot.domain.incident import Incident
from bot.domain.record import Notify, Page
from bot.domain.wording import listed
from bot.slack.mrkdwn import plain
from bot.slack.standing import Crowd, alive_until, cuts, group, headline, moment, since_opening, spoken


def sentence(incident: Incident, purpose: str, crowd: Crowd) -> str:
    """Plain and harmless. A purpose that is not known is told by its name rather than left out."""
    kind, _, rest = purpose.partition(":")
    match kind:
        case "acknowledged":
            return _acknowledged(incident, crowd)
        case "unacknowledged":
            return _unacknowledged(incident, crowd)
        case "containment":
            return _containment(incident, rest)
        case "status":
            return _status(incident, rest)
        case "overridden":
            return _overridden(incident, rest)
        case "form":
            return _form(incident, rest, crowd)
        case "nobody_on_call":
            return f"NOBODY is on call for {plain(rest, 60)}: the next level is paged at once. See people.yaml."
        case "unreachable":
            return f"Nobody of {plain(rest, 60)} could be reached by any way: the next level is paged at once."
        case "page_failed":
            return _page_failed(incident, rest, crowd)
    return f"{plain(incident.id, 40)}: {plain(purpose, 120)}."


def _acknowledged(incident: Incident, crowd: Crowd) -> str:
    if not incident.acked_by or incident.acked_at is None:
        then = f"the incident is {spoken(incident.status)}" if incident.over else "people are paged again"
        return f"It was acknowledged, and no longer is: {then}."
    at, until = incident.acked_at, incident.timers.get("ack")
    who = f"{crowd.name(incident.acked_by)} at {moment(incident, at)}, {since_opening(incident, at)}"
    stops = f" Escalation stops until {moment(incident, until)}." if until else ""
    goes_on = "" if incident.containment == "contained" else " Containment and its pages go on."
    return f"Acknowledged by {who}.{stops}{goes_on}"


def _unacknowledged(incident: Incident, crowd: Crowd) -> str:
    if incident.acked_by:
        return f"The acknowledgement ended, and {crowd.name(incident.acked_by)} has acknowledged since."
    if incident.over:
        return f"The acknowledgement ended; the incident is {spoken(incident.status)}."
    return "NOT acknowledged any more, by a person's word or because it ran out: people are paged again."


def _containment(incident: Incident, was: str) -> str:
    now = f" Since then: {headline(incident)}" if incident.containment != was else ""
    open_cuts = [cut for cut in cuts(incident) if cut.rank == 0]
    named = listed([cut.step for cut in open_cuts[:6]]) if open_cuts else ""
    match was:
        case "contained":
            at = incident.contained_at
            when = f" at {moment(incident, at)}, {since_opening(incident, at)}" if at else ""
            until = alive_until(incident)
            late = f" What was revoked may be alive until {moment(incident, until)}." if until else ""
            return f"CONTAINED{when}: every cut holds at its required grade.{late}{now}"
        case "partial":
            missed = f" ({named})" if named and not now else ""
            return f"PARTLY CONTAINED: at least one cut does not hold{missed}. A person has to finish it.{now}"
        case "unknown":
            missed = f" ({named})" if named and not now else ""
            return f"UNKNOWN: at least one cut may or may not have happened{missed}. A person has to look.{now}"
    return f"Containment was {spoken(was)}.{now}"


def _status(incident: Incident, to: str) -> str:
    since = f" It is {spoken(incident.status)} by now." if incident.status != to else ""
    uncut = incident.containment not in ("contained", "none") and to in ("resolved", "reviewed")
    but = f" {headline(incident)}" if uncut else ""
    return f"The incident is now {spoken(to)}.{since}{but}"


def _overridden(incident: Incident, step: str) -> str:
    run = incident.steps.get(step)
    if run and run.accepted:
        return f"{plain(step, 60)} was taken as it is on a person's word: no further try. What it cuts may be alive."
    return f"{plain(step, 60)} runs on a person's word, past what held it back."


def _form(incident: Incident, step: str, crowd: Crowd) -> str:
    playbook = incident.frozen.playbook
    spec = playbook.steps.get(step) if playbook else None
    if spec is None or spec.manual is None:
        return f"{plain(step, 60)} waits for a person."
    who = [contact.person for contact in incident.roster.get(spec.manual.assignee, ())]
    names = f" ({crowd.names(who)})" if who else " (NOBODY on call)"
    until = incident.timers.get(f"form:{step}")
    due = f" by {moment(incident, until)}" if until else ""
    asked = listed([plain(name.replace("_", " "), 60) for name in spec.manual.form]) if spec.manual.form else "a word"
    how = f"firedoor incident form {plain(incident.id, 40)} {plain(step, 60)}"
    return f"{plain(step, 60)} waits for the {group(spec.manual.assignee)}{names}{due}: {asked}. Answer with: {how}"


def _page_failed(incident: Incident, way: str, crowd: Crowd) -> str:
    """Who did not get it, and who was reached by no way at all."""
    pages = list(incident.pages.values())
    failed = list(dict.fromkeys(s.page.person for s in pages if s.state == "failed" and s.page.way == way))
    reached = {_errand(s.page) for s in pages if s.state in ("sent", "queued")}
    lost = {s.page.person for s in pages if s.state == "failed" and _errand(s.page) not in reached}
    left = [person for person in failed if person in lost]
    who = crowd.names(failed) if failed else "somebody"
    nobody = f" {crowd.names(left)}: NOT REACHED by any way, call them." if left else " Their next way is being tried."
    return f"A page by {plain(way, 20)} to {who} did not leave.{nobody}"


def _errand(page: Page | Notify) -> str:
    """What a page's ways have in common: its key without the way."""
    return page.key.rpartition("/")[0]
