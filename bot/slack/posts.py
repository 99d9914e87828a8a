"""What is said once in the thread of the card, by the purpose of the post: one or two sentences, as true as the record.

A post may leave late. It says what happened, and what has changed since.
"""

from __future__ import annotations

from bot.domain.decisions import Notify, Page
from bot.domain.events import Status
from bot.domain.incident import Incident, StepStatus
from bot.domain.outcome import Done
from bot.domain.wording import aftermath_text, audit_text, listed, topic_text
from bot.slack.mrkdwn import plain
from bot.slack.standing import (
    WHY_MAX,
    Crowd,
    alive_until,
    cuts,
    group,
    headline,
    moment,
    severity,
    since_opening,
    spoken,
    title,
)


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
        case "audited":
            return _audited(incident)
        case "form":
            return _form(incident, rest, crowd)
        case "nobody_on_call":
            return f"NOBODY is on call for {plain(rest, 60)}: the next level is paged at once. See people.yaml."
        case "unreachable":
            return f"Nobody of {plain(rest, 60)} could be reached by any way: the next level is paged at once."
        case "page_failed":
            return _page_failed(incident, rest, crowd)
        case "severity":
            return f"Severity is now {severity(incident, crowd)}."
        case "role":
            return _role(incident, rest, crowd)
        case "task":
            return _task(incident, rest, crowd)
        case "escalated":
            return "The next level is paged now, on a person's word."
        case "summoned":
            return f"{crowd.name(rest)} is called in and paged now."
        case "silenced":
            until = incident.silenced_until
            return f"Nobody is paged again{f' before {moment(incident, until)}' if until else ''}; " + _goes_on(
                incident
            )
        case "merged":
            return _merged(incident)
        case "private":
            return "This incident is private now: only those who are let into its channel read on."
        case "reminder":
            return _reminder(incident)
        case "update":
            return _update(incident, rest, crowd)
        case "pinned":
            return _pinned(incident, crowd)
        case "false_positive":
            return _false_positive(incident)
        case "roles":
            return f"Who does what in {plain(incident.id, 40)}? Take a role; what it asks of you is told to you alone."
        case "files":
            return f"{title(incident)}: what happened when, as a picture, the report, and what was cut."
        case "channel_failed":
            return _channel_failed(incident)
        case "announcement":
            return announcement(incident)
        case "replayed":
            last = incident.replay
            found = "; ".join(plain(each, 200) for each in last.findings[:3]) if last else ""
            return f"The replay was NOT clean: {found}." if last and not last.clean else "The replay was clean."
        case "recovery":
            return _recovery(incident, rest)
        case "undone" | "used" | "unread" | "unused":
            return _looked_at(incident, kind, rest)
        case "moved" | "closed":
            return f"{plain(incident.id, 40)} is private and goes on elsewhere."
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


def announcement(incident: Incident) -> str:
    """Of a private one nothing but that it is there."""
    if incident.private:
        return f"{plain(incident.id, 40)} {incident.severity.name}: private."
    return f"{title(incident)}: {spoken(incident.status)}. {headline(incident)}"


def _goes_on(incident: Incident) -> str:
    return "new levels are." if incident.containment == "contained" else "new levels and containment are."


def _role(incident: Incident, role: str, crowd: Crowd) -> str:
    who = incident.roles.get(role)
    return f"{crowd.name(who)} is now {spoken(role)}." if who else f"Nobody is {spoken(role)} any more."


def _task(incident: Incident, id: str, crowd: Crowd) -> str:
    task = incident.tasks.get(id)
    if task is None:
        return f"Task {plain(id, 20)} changed."
    if task.done:
        return f"Task {plain(id, 20)} is done, says {crowd.name(task.done_by)}."
    whose = f"for {crowd.name(task.owner)}" if task.owner else "for NOBODY yet"
    return f"Task {plain(id, 20)} {whose}" + (f", due {moment(incident, task.due)}." if task.due else ".")


def _merged(incident: Incident) -> str:
    if incident.status is Status.MERGED:
        return f"This incident goes on in {plain(incident.merged_into, 40)}. What it holds stays held."
    return f"{plain(incident.absorbed[-1], 40) if incident.absorbed else 'Another incident'} goes on here."


def _reminder(incident: Incident) -> str:
    last = incident.said[-1].at if incident.said else None
    since = f"the last was {since_opening(incident, last)}" if last else "there was none so far"
    return f"A status update is due: {since}."


def _update(incident: Incident, number: str, crowd: Crowd) -> str:
    at = int(number) - 1 if number.isdigit() else -1
    if not 0 <= at < len(incident.said):
        return "Status update."
    given = incident.said[at]
    due = incident.timers.get("update")
    following = f" The next is due {moment(incident, due)}." if due else ""
    return f"Status update {at + 1} by {crowd.name(given.by)} at {moment(incident, given.at)}.{following}"


def _pinned(incident: Incident, crowd: Crowd) -> str:
    pin = list(incident.pins.values())[-1] if incident.pins else None
    if pin is None:
        return "A message was put on the timeline."
    return f"{crowd.name(pin.by)} put a message of {crowd.name(pin.author)} on the timeline."


def _false_positive(incident: Incident) -> str:
    held = sum(run.holding for run in incident.steps.values())
    if incident.status is not Status.FALSE_POSITIVE:
        return f"It was taken for a false alarm, and is {spoken(incident.status)} by now."
    if not held:
        return "A false alarm, and nothing is held any more."
    return f"A false alarm. {held} step{'s' * (held != 1)} still hold{'s' * (held == 1)}: release what is not needed."


def _channel_failed(incident: Incident) -> str:
    if incident.private:
        return f"{announcement(incident)} Its channel could not be opened: read on with firedoor incident show."
    return f"{plain(incident.id, 40)} has no channel of its own, Slack did not open one: it is told of here."


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


def _looked_at(incident: Incident, found: str, step: str) -> str:
    name, run = plain(step, 60), incident.steps.get(step)
    afters = [call.after for call in run.calls.values() if call.after] if run else []
    told = plain("; ".join(aftermath_text(after) for after in afters), WHY_MAX)
    match found:
        case "undone":
            return f"LOST: {name} was in force and was taken away. It is put back. {headline(incident)}"
        case "used":
            return f"STILL ALIVE: what {name} cut was used since ({told}). It is cut again. {headline(incident)}"
        case "unread":
            return f"NOT VERIFIED any more: nobody could look at {name} for a while. {headline(incident)}"
    return f"{name}: {told}."


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
    how = f"Answer with: /inc form {plain(incident.id, 40)} {plain(step, 60)}"
    found = f" Approval path: {plain(audit_text(incident.audited), 200)}." if incident.audited else ""
    return f"{plain(step, 60)} waits for the {group(spec.manual.assignee)}{names}{due}: {asked}.{found} {how}"


def _audited(incident: Incident) -> str:
    """The finding, and who is waited for to judge it."""
    found = plain(audit_text(incident.audited), 200) if incident.audited else "not audited"
    asking = [run.id for run in incident.steps.values() if run.status is StepStatus.AWAITING_FORM]
    asked = f" {listed([plain(one, 60) for one in asking])} asks for it." if asking else ""
    how = f"Each finding, with its proof: firedoor investigate approvals {plain(incident.id, 40)}"
    return f"Approval path: {found}.{asked} {how}"


def _page_failed(incident: Incident, what: str, crowd: Crowd) -> str:
    """`what` is `way:decision`. Who did not get it, and whether any way of theirs is left."""
    way, _, decision = what.partition(":")
    pages = [state for state in incident.pages.values() if state.state == "failed" and state.page.way == way]
    failed = [state for state in pages if state.page.id == decision] if decision else pages
    reached = {_errand(s.page) for s in incident.pages.values() if s.state in ("sent", "queued")}
    left = list(dict.fromkeys(s.page.person for s in failed if _errand(s.page) not in reached))
    who = crowd.names(list(dict.fromkeys(s.page.person for s in failed))) if failed else "somebody"
    told = {plain(topic_text(s.page.topic), 80) for s in failed if isinstance(s.page, Notify)} if decision else set()
    what = f"notice ({listed(sorted(told))})" if told else "page"
    nobody = f" {crowd.names(left)}: NOT REACHED by any way, call them." if left else " Their next way is being tried."
    return f"A {what} by {plain(way, 20)} to {who} did not leave.{nobody}"


def _recovery(incident: Incident, id: str) -> str:
    run, measure = incident.steps.get(id), incident.measures.get(id)
    if run is None or measure is None:
        return f"{plain(id, 60)} changed."
    if measure.stopped:
        return f"{plain(id, 60)} no longer counts: the agent was heard of again, and what was let go is cut anew."
    held = {str(call.outcome.evidence.get("held_by")) for call in run.calls.values() if isinstance(call.outcome, Done)}
    others = ", ".join(sorted(held - {"None"}))
    stricter = f" {plain(others, 60)} holds it stricter, and that stays in force." if others else ""
    why = f": {plain(run.why, 300)}" if run.why else ""
    return f"{plain(id, 60)} is {spoken(run.status)}{why}.{stricter}"


def _errand(page: Page | Notify) -> str:
    """What a page's ways have in common: its key without the way."""
    return page.key.rpartition("/")[0]
