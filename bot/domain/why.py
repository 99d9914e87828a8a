"""Answers to "why?", from the state alone: why an alert opened nothing, why somebody was paged, why it is contained or
not. Words of systems are in them: whoever shows an answer escapes it.
"""

from __future__ import annotations

from collections.abc import Iterator

from bot.domain.calls import Call
from bot.domain.containment import Containment, holds
from bot.domain.decisions import Notify, Page, PageKind
from bot.domain.escalation import reached
from bot.domain.events import Verb
from bot.domain.incident import Incident, StepRun, StepStatus, is_held
from bot.domain.outcome import Done, Failed, Grade, Pending, Skipped, Unknown
from bot.domain.wording import clock, listed, reason_text, times, topic_text
from bot.errors import Refused

QUESTIONS = ("deduplicated", "paged", "contained")


def why(incident: Incident, question: str) -> str:
    """Lines of plain text. Raises Refused for a question that there is no answer to."""
    match question:
        case "deduplicated":
            return "\n".join(_deduplicated(incident))
        case "paged":
            return "\n".join(_paged(incident))
        case "contained":
            return "\n".join(_contained(incident))
    raise Refused("no_such_question", f"Ask why {', '.join(QUESTIONS[:-1])} or {QUESTIONS[-1]}, not {question!r}.")


def _deduplicated(incident: Incident) -> Iterator[str]:
    opened = incident.begun
    yield f"{incident.id} was opened at {clock(incident.start)}: {opened.why}."
    about = f"of agent {opened.agent_uid}" if opened.agent_uid else "with the same signs"
    if incident.over:
        into = f" in {incident.merged_into}" if incident.merged_into else ""
        end = f"it goes on{into}" if into else f"it is {str(incident.status).replace('_', ' ')}"
        yield f"What comes {about} and type {opened.type} does not join it any more: {end}."
    else:
        yield f"While it is open, every alert {about} and type {opened.type} joins it instead of opening another."
    more = max(0, incident.alerts - (1 if opened.alert else 0))
    yield f"So far {times(more)} with news, and {times(incident.repeats)} as a repeat that was only counted."
    if incident.absorbed:
        yield f"Since they were merged into it, it also takes what comes for {listed(incident.absorbed)}."
    if incident.linked:
        yield f"Linked, since another type is another incident: {listed(incident.linked)}."


def _paged(incident: Incident) -> Iterator[str]:
    if not incident.pages:
        yield "Nobody was paged or told."
    for state in incident.pages.values():
        page, did = state.page, {"sent": "", "queued": " (on its way)", "failed": " (did not leave)"}
        if state.state in did:
            later = isinstance(page, Notify) and page.due > incident.start  # told ahead of what is due then
            when = f", due at {clock(page.due)}" if later else f" at {clock(page.due)}"
            yield f"{page.person} by {page.way}{when}: {_cause(page)}{did[state.state]}."
    yield _next_page(incident)


def _cause(page: Page | Notify) -> str:
    match page:
        case Notify(topic=topic):
            return f"to be told whoever acknowledges: {topic_text(topic)}"
        case Page(kind=PageKind.ESCALATION, levels=levels, round=round):
            again = f", asked for the {round + 1}. time" if round else ""
            return f"on level {listed([str(level + 1) for level in levels])} of the matrix{again}, unacknowledged"
        case Page(reason=reason):
            return reason_text(reason)


def _next_page(incident: Incident) -> str:
    if incident.over:
        return "No more pages: the incident is over."
    if incident.acked_by:
        return f"Escalation stopped when {incident.acked_by} acknowledged."
    stand = reached(incident.frozen.matrix, (incident.at or incident.start) - incident.start, incident.floor)
    until = incident.silenced_until
    silent = f"; repeats are silenced until {clock(until)}" if until else ""
    due = incident.timers.get("escalation")
    after = f", next at {clock(due)}" if due else ""
    where = "everybody is paged" if stand.everybody else f"level {stand.levels} is reached"
    return f"Nobody has acknowledged: {where}{after}{silent}."


def _contained(incident: Incident) -> Iterator[str]:
    yield {
        Containment.CONTAINED: "Contained: every containing step holds at its required grade.",
        Containment.RUNNING: "Not contained yet: at least one containing step is not settled.",
        Containment.PARTIAL: "Not contained: at least one containing step does not hold at its required grade.",
        Containment.UNKNOWN: "Not known: at least one call may or may not have happened.",
        Containment.NONE: "Nothing is contained.",
    }[incident.containment]
    playbook = incident.frozen.playbook
    if playbook is None:
        yield "No playbook runs for this type: people have to contain it by hand."
        return
    if not incident.started:
        yield f"The playbook {playbook.id} is at hand and not started: no trigger matched, and nobody started it."
    if not incident.contain:
        yield "Its source may not contain by itself: each containing step is put to people first."
    for run in incident.steps.values():
        if is_held(incident, run):
            yield from _step(incident, run)
    if incident.overridden and incident.containment is not Containment.CONTAINED:
        yield "A person took it as it is: the containment clock has stopped."


def _step(incident: Incident, run: StepRun) -> Iterator[str]:
    required = incident.spec(run.id).require
    if run.calls and run.status not in (StepStatus.AWAITING_APPROVAL, StepStatus.AWAITING_PERMIT):
        for call in run.calls.values():
            yield f"{run.id} on {call.plan.target}: {_call(run, call, required)}."
        return
    waits = f" by request {run.request}" if run.status is StepStatus.AWAITING_APPROVAL else ""
    because = f": {run.why}" if run.why else ""
    yield f"{run.id} is {str(run.status).replace('_', ' ')}{waits}{because}."


def _call(run: StepRun, call: Call, required: Grade) -> str:
    if call.verb is Verb.UNDO or run.status is StepStatus.RELEASED:
        return "let go by a person" if call.final else "being let go"
    match call.outcome:
        case Done(nothing_held=reason) if reason:
            return f"nothing was held there: {reason}"
        case Done(grade=grade) as done:
            enough = "as required" if holds(done, required) else f"but {required.label} is required"
            return f"in force, {grade.label}, {enough}"
        case Pending(why=because):
            return f"under way: {because}" if because else "under way"
        case Failed(why=because):
            return f"failed: {because}"
        case Skipped(why=because):
            return f"not done: {because}"
        case Unknown(why=because):
            return f"unknown whether it happened: {because}"
        case None:
            return "no answer yet"
