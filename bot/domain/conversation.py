"""What people say in the room, besides deciding: how bad it is, who does what, how it stands, whom to call.

`admit` refuses what is no news or makes no sense, `heard` is what the rest means for the state. Nothing here touches a
step or a hold.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from bot.domain.alert import Sev
from bot.domain.decisions import Notify, Page, PageKind
from bot.domain.escalation import reached
from bot.domain.events import (
    Absorbed,
    Escalated,
    Event,
    MadePrivate,
    Merged,
    PinChanged,
    Pinned,
    ReminderSnoozed,
    RoleTaken,
    SeverityChanged,
    Silenced,
    Status,
    Summoned,
    TaskAdded,
    TaskChanged,
    UpdateGiven,
)
from bot.domain.state import Incident, Pin, Task, Update, timed
from bot.errors import Refused

ROLES = ("incident_commander", "communications", "scribe")  # of every room; people.yaml may know more
SILENCE_AT_MOST = timedelta(hours=4)
UPDATE = "update"  # the deadline of the next status update
TASK = "task:"  # and of a task


def admit(incident: Incident, event: Event) -> None:
    """Raises Refused."""
    match event:
        case SeverityChanged(severity=severity):
            _not_over(incident)
            if severity is incident.severity:
                raise Refused("already", f"{incident.id} is {severity.name} already.")
        case RoleTaken(role=role, person=person):
            _not_over(incident)
            known = dict.fromkeys((*ROLES, *incident.roster))
            if role not in known:
                raise Refused("no_such_role", f"There is no role {role!r}. Known: {', '.join(known)}.")
            if incident.roles.get(role, "") == person:
                raise Refused("already", f"{person or 'Nobody'} has the role {role} of {incident.id} already.")
        case TaskAdded(task=task, due=due):
            _not_merged(incident)
            if task != next_task(incident):
                raise Refused("already", f"{task} was added to {incident.id} already.")
            _ahead(incident, due)
        case TaskChanged():
            _admit_change(incident, event)
        case UpdateGiven(conditions=conditions):
            _not_merged(incident)
            if any(update.conditions == conditions for update in incident.said):
                raise Refused("already", "This update was given already.")
        case ReminderSnoozed(until=until):
            _not_over(incident)
            if until is None and UPDATE not in incident.timers:
                raise Refused("already", f"{incident.id} does not remind of status updates now.")
            if until is not None and incident.timers.get(UPDATE) == until:
                raise Refused("already", f"The reminder waits until {until:%H:%M} UTC already.")
            _ahead(incident, until)
        case Escalated(level=level):
            _not_over(incident)
            stand = reached(incident.frozen.matrix, (incident.at or incident.start) - incident.start, incident.floor)
            if stand.everybody:
                raise Refused("nobody_left", f"All levels of {incident.id} are paged: page a person by name.")
            if level and level <= stand.levels:
                raise Refused("already", f"Level {level} of {incident.id} is paged already.")
        case Summoned(person=person, ways=ways):
            _not_over(incident)
            if not ways:
                raise Refused("no_way", f"No way to reach {person} is in people.yaml.")
            if any(s.state == "queued" and _summons(s.page, person) for s in incident.pages.values()):
                raise Refused("already", f"{person} is being paged already.")
        case Silenced(until=until):
            _not_over(incident)
            if incident.acked_by:
                why = f"{incident.id} is acknowledged by {incident.acked_by}: nobody is paged again anyway."
                raise Refused("not_paging", why)
            if incident.silenced_until and incident.silence_asked and until <= incident.silence_asked:
                raise Refused("already", f"It is silent until {incident.silenced_until:%H:%M} UTC already.")
            _ahead(incident, until)
        case Pinned(message=message):
            if message in incident.pins:
                raise Refused("already", "This message is on the timeline already.")
        case PinChanged(message=message, text=text):
            pin = incident.pins.get(message)
            if pin is None:
                raise Refused("not_pinned", "This message is not on the timeline.")
            if pin.text is None or pin.text == text:
                raise Refused("already", "The timeline says so already.")
        case MadePrivate():
            _not_merged(incident)
            if incident.private:
                raise Refused("already", f"{incident.id} is private already.")
        case Merged(into=into):
            _not_over(incident)
            if into == incident.id:
                raise Refused("itself", f"{incident.id} cannot go on in itself.")
        case Absorbed(incident=other):
            _not_over(incident)
            if other == incident.id or other in incident.absorbed:
                raise Refused("already", f"{other} goes on in {incident.id} already.")
        case _:
            return


def heard(incident: Incident, event: Event, at: datetime) -> Incident:
    """The facts of one such event; any other changes nothing."""
    match event:
        case SeverityChanged(severity=severity, by=by):
            return rate(incident, severity, by, at)
        case RoleTaken(role=role, person=person):
            others = {name: who for name, who in incident.roles.items() if name != role}
            return replace(incident, roles={**others, role: person} if person else others)
        case TaskAdded(task=task, text=text, owner=owner, due=due, by=by, ways=ways):
            return _tasked(incident, Task(task, text, owner, due, by, ways))
        case TaskChanged():
            return _changed(incident, event)
        case UpdateGiven(by=by, conditions=conditions, actions=actions, needs=needs):
            said = (*incident.said, Update(at, by, conditions, actions, needs))
            return remind(replace(incident, said=said, reminders=True), at)
        case ReminderSnoozed(until=until):
            return timed(replace(incident, reminders=until is not None), UPDATE, until)
        case Escalated():
            stand = reached(incident.frozen.matrix, at - incident.start, incident.floor)
            return replace(incident, floor=stand.levels + 1, escalated_at=at)
        case Summoned(person=person):
            return replace(incident, summoned={**incident.summoned, person: at})
        case Silenced(until=until):
            return replace(incident, silenced_until=min(until, at + SILENCE_AT_MOST), silence_asked=until)
        case Pinned(message=message, author=author, by=by, text=text, said_at=said_at):
            return replace(incident, pins={**incident.pins, message: Pin(message, author, by, text, said_at)})
        case PinChanged(message=message, text=text):
            changed = replace(incident.pins[message], text=text)
            return replace(incident, pins={**incident.pins, message: changed})
        case MadePrivate():
            return replace(incident, private=True)
        case Absorbed(incident=other, severity=severity):
            if severity < incident.severity:
                incident = rate(incident, severity, "", at)
            return replace(incident, absorbed=(*incident.absorbed, other))
        case _:
            return incident


def next_task(incident: Incident) -> str:
    return f"T{len(incident.tasks) + 1}"


def rate(incident: Incident, severity: Sev, by: str, at: datetime) -> Incident:
    """By a person, or by an alert (''). A worse one is owed its next update sooner; a better one later."""
    due = incident.timers.get(UPDATE)
    incident = replace(incident, rated=severity, rated_by=by, worst=min(severity, incident.worst_severity))
    fresh = remind(incident, at)
    following = fresh.timers.get(UPDATE)
    return timed(fresh, UPDATE, min(due, following)) if due and following else fresh


def remind(incident: Incident, at: datetime) -> Incident:
    """The next status update is owed so long after this moment."""
    every = cadence(incident)
    owed = every and incident.reminders and not incident.over
    return timed(incident, UPDATE, at + every if every and owed else None)


def cadence(incident: Incident) -> timedelta | None:
    """How often this severity owes a status update; None: never."""
    seconds = dict(enumerate(incident.begun.timers.updates, 1)).get(int(incident.severity), 0)
    return timedelta(seconds=seconds) if seconds else None


def _summons(page: Page | Notify, person: str) -> bool:
    return isinstance(page, Page) and page.kind is PageKind.SUMMONED and page.person == person


def _admit_change(incident: Incident, event: TaskChanged) -> None:
    _not_merged(incident)
    task = incident.tasks.get(event.task)
    if task is None:
        known = ", ".join(incident.tasks) or "none"
        raise Refused("no_such_task", f"{incident.id} has no task {event.task!r}. Its tasks: {known}.")
    if task.done:
        raise Refused("already_done", f"{task.id} was done by {task.done_by}.")
    if not event.done and event.owner in ("", task.owner) and event.due in (None, task.due):
        raise Refused("already", f"{task.id} is like that already.")
    if event.due != task.due:
        _ahead(incident, event.due)


def _changed(incident: Incident, event: TaskChanged) -> Incident:
    task = incident.tasks[event.task]
    if event.owner:
        task = replace(task, owner=event.owner, ways=event.ways)
    if event.due:
        task = replace(task, due=event.due)
    if event.done:
        task = replace(task, done_by=event.by)
    return _tasked(incident, task, ask=event.due is not None)


def _tasked(incident: Incident, task: Task, *, ask: bool = True) -> Incident:
    incident = replace(incident, tasks={**incident.tasks, task.id: task})
    if task.done:
        return timed(incident, TASK + task.id, None)
    return timed(incident, TASK + task.id, task.due) if ask else incident


def _not_over(incident: Incident) -> None:
    if incident.over:
        raise Refused("already_over", f"{incident.id} is already {incident.status}.")


def _not_merged(incident: Incident) -> None:
    """Talk goes on after the end, but in one place."""
    if incident.status is Status.MERGED:
        raise Refused("merged", f"{incident.id} goes on in {incident.merged_into}.")


def _ahead(incident: Incident, moment: datetime | None) -> None:
    if moment and incident.at and moment <= incident.at:
        raise Refused("past", f"{moment:%Y-%m-%d %H:%M} UTC is past.")
