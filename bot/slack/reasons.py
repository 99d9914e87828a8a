"""Why somebody is paged or told, and what they are to do about it. Plain and harmless."""

from __future__ import annotations

from datetime import timedelta

from bot.domain.approval import ApprovalState
from bot.domain.decisions import Notify, Page, PageKind
from bot.domain.incident import Incident, StepRun
from bot.domain.wording import listed
from bot.slack.mrkdwn import plain
from bot.slack.standing import WHY_MAX, level_name, moment, since_opening, spoken, still_missing


def why_paged(incident: Incident, page: Page | Notify) -> str:
    """A few words, fit for a subject."""
    kind, _, rest = (page.reason if isinstance(page, Page) else page.topic).partition(":")
    step, run, looked = _steps(rest), incident.steps.get(rest), plain(rest.partition(":")[0], 60)
    match kind:
        case "escalation":
            return "nobody has acknowledged" if page_round(page) else "new incident, nobody has acknowledged"
        case "not_contained":
            limit = incident.start + timedelta(seconds=incident.begun.timers.containment)
            return f"NOT CONTAINED {since_opening(incident, max(limit, page.due))}"
        case "step":
            return f"{step} {spoken(run.status) if run else 'failed'}: a person has to look"
        case "undone":
            return f"NO LONGER CONTAINED: {looked} was taken away"
        case "used":
            return f"STILL ALIVE: what {looked} cut was used after the cut"
        case "unread":
            return f"{looked} cannot be verified any more"
        case "left_alive":
            return f"LEFT ALIVE: {_uncut(incident)} that agents.yaml does not let be cut"
        case "deferred":
            return f"HELD BACK by a limit and not cut: {step}"
        case "approval":
            return f"nobody has decided on {step}"
        case "approval_unposted":
            return f"the request to approve {step} could not be posted"
        case "form" if isinstance(page, Page):
            return f"{step} is overdue"
        case "form":
            return f"{step} is yours to complete"
        case "on_failure":
            return "the playbook failed"
        case "run":
            return f"the playbook's time is over, and {step} was not done"
        case "trigger_error":
            return "a playbook's trigger could not be evaluated"
        case "opened":
            return "incident opened, for your information"
        case "phase":
            return f"phase {spoken(rest)} is due"
    return plain(f"{kind} {rest}".strip(), 80)


def _steps(names: str) -> str:
    """`deferred:` names several."""
    return listed([plain(name, 60) for name in names.split(",")[:6]])


def page_round(page: Page | Notify) -> int:
    return page.round if isinstance(page, Page) else 0


def duty_of(incident: Incident, page: Page | Notify) -> str:
    """Why this person."""
    if isinstance(page, Notify):
        return ""
    if page.person == incident.acked_by:
        return "You have acknowledged this incident."
    if page.kind is PageKind.ESCALATION and page.levels:
        names = [f"{level_name(incident, n)} ({_roles(incident, n)})" for n in page.levels]
        return f"You are on call at {listed(names)}."
    return "You are on call for this incident."


def next_for(incident: Incident, page: Page | Notify) -> str:
    """What to do now."""
    kind, _, rest = (page.reason if isinstance(page, Page) else page.topic).partition(":")
    step, run, id = _steps(rest), incident.steps.get(rest), plain(incident.id, 40)
    match kind:
        case _ if incident.over:
            return f"nothing: {id} is {spoken(incident.status)}."
        case "escalation" if incident.acked_by:
            return "nothing: it has been acknowledged meanwhile."
        case "escalation":
            return f"acknowledge, which stops these pages, then work from the card.{_then(incident)}"
        case "not_contained":
            return "cut off by hand what is not verified above, or run it again. Acknowledging does not stop this page."
        case "step":
            return f"find out what {step} left alive{_answer(run)}. Then run it again, or take it as it is (commander)."
        case "undone":
            return f"find out who took {step} away: it is put back, and would be again. Cut what lets them do that."
        case "used":
            return f"cut what the agent came back with: the card names it. {step} is done again meanwhile."
        case "unread":
            return f"look by hand whether {step} stands{_answer(run)}, or take it as it is (commander)."
        case "left_alive":
            return (
                "cut them by hand (the role's sessions, in its account), or ask whose role it is: nothing here does it."
            )
        case "deferred":
            return f"a commander decides whether this runs now: {step}{_answer(run)}. Until then nothing of it is cut."
        case "approval":
            asked = incident.approvals.get(run.request) if run else None
            lacking = f" Still missing: {still_missing(asked)}." if asked else ""
            return f"approve or refuse {step} in the thread of the card.{lacking}"
        case "approval_unposted" if run and run.request:
            asked = incident.approvals[run.request]
            if asked.state is not ApprovalState.OPEN:
                return f"nothing: the request is {spoken(asked.state)}."
            who = f" Still missing: {still_missing(asked)}."
            return f"firedoor incident approve {plain(run.request, 60)} (or refuse): nobody sees it in Slack.{who}"
        case "form":
            return f"firedoor incident form {id} {step}"
        case "run":
            return f"do by hand what is still wanted of {step}: the playbook does no more."
        case "on_failure":
            return "see what failed on the card, and carry on by hand."
        case "trigger_error":
            named = ", ".join(plain(one, 60) for one in incident.begun.trigger_errors)
            return f"decide whether {named or 'it'} should run: it was only proposed. Then mend its trigger."
        case "opened":
            return "nothing by default: those on call are paged."
        case "phase":
            return _checklist(incident, rest)
    return "see the card."


def _then(incident: Incident) -> str:
    """Who is paged when, if this person stays silent."""
    now = (incident.at or incident.start) - incident.start
    for number, level in enumerate(incident.frozen.matrix.levels):
        if level.page_at > now:
            return (
                f" Else {level_name(incident, number)} is paged at {moment(incident, incident.start + level.page_at)}."
            )
    return ""


def _uncut(incident: Incident) -> str:
    found = incident.reach.uncut if incident.reach else ()
    roles = listed(list(dict.fromkeys(plain(one.of, 80) for one in found))[:3])
    return f"{len(found)} chained session{'s' if len(found) != 1 else ''} of {roles}" if found else "chained sessions"


def _answer(run: StepRun | None) -> str:
    return f" ({plain(run.why, WHY_MAX)})" if run and run.why else ""


def _roles(incident: Incident, number: int) -> str:
    return ", ".join(map(spoken, incident.frozen.matrix.levels[number].roles))


def _checklist(incident: Incident, name: str) -> str:
    runbook = incident.frozen.runbook
    phase = next((p for p in runbook.phases if p.name == name), None) if runbook else None
    return (
        "; ".join(plain(one, 160) for one in phase.checklist[:8]) if phase and phase.checklist else "see the runbook."
    )
