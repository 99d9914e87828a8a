"""Who is reached, and when: the matrix, the containment clock, failures, notices, and what is taken back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import assert_never

from bot.domain.approval import ApprovalState
from bot.domain.decisions import Notify, Page, PageKind, Post, Withdraw
from bot.domain.escalation import Contact, Reached, reached
from bot.domain.events import (
    DeadlinePassed,
    Deferred,
    Escalated,
    Opened,
    PageFailed,
    Phase,
    PostFailed,
    Standing,
    StatusChanged,
    Summoned,
    Surveyed,
    Unacknowledged,
    Verified,
)
from bot.domain.fallback import newly_unproved
from bot.domain.incident import LEFT_ALIVE, Incident, StepStatus, is_held
from bot.domain.outcome import Done, Grade
from bot.domain.playbook import OnError, OnTimeout
from bot.domain.turn import Turn

PAGE_ESCALATE = "page.escalate"  # the engine's own on_failure call


def page_people(turn: Turn) -> None:
    match turn.event:
        case Opened(notify=roles):
            _escalate(turn, turn.at)
            notify(turn, roles, "opened", turn.at)
        case DeadlinePassed(name=name, due=due):
            _clock(turn, name, due)
        case Unacknowledged():
            _escalate(turn, turn.at)
        case Escalated():
            _escalate(turn, turn.at)
            _call_more(turn)
        case Summoned(person=person, ways=ways):
            _page(turn, PageKind.SUMMONED, (Contact(person, ways),), "summoned", turn.at)
        case StatusChanged() if turn.before.over:
            _escalate(turn, turn.at)
        case PageFailed(decision=decision):
            _next_way(turn, decision)
        case Deferred(steps=steps) if any(is_held(turn.now, turn.now.steps[step]) for step in steps):
            _page(turn, PageKind.FAILURE, _responsible(turn.now), f"deferred:{','.join(steps)}", turn.at)
        case Verified():
            _page_lost(turn, turn.event)
        case Surveyed(phase=Phase.AFTER):
            _page_left_alive(turn)
        case PostFailed(purpose=purpose) if purpose.startswith("approval:"):
            _approval_unposted(turn, purpose.partition(":")[2])
    _page_failures(turn)
    for step in newly_unproved(turn.before, turn.now) if not turn.now.over else ():
        _page(turn, PageKind.FAILURE, _responsible(turn.now), f"unproved:{step}", turn.at)
    _withdraw(turn)


def _clock(turn: Turn, name: str, due: datetime) -> None:
    kind, _, rest = name.partition(":")
    match kind:
        case "escalation" | "ack":
            _escalate(turn, due)
        case "containment":
            _page_containment(turn, due)
        case "phase":
            _remind(turn, name, due)
        case "form":
            manual = turn.now.spec(rest).manual
            if manual:
                _page(turn, PageKind.FAILURE, turn.now.contacts((manual.assignee,)), name, due)
        case "approval":
            _approval_expired(turn, rest, due)
        case "task":
            _remind_owner(turn, rest, due)
        case "run":
            left = [run.id for run in turn.now.steps.values() if not turn.before.steps[run.id].settled and run.settled]
            if left:
                _page(turn, PageKind.FAILURE, _responsible(turn.now), f"run:{','.join(left)}", due)


# The matrix -----------------------------------------------------------------------------------------------------


def _stand(turn: Turn) -> Reached:
    return reached(turn.now.frozen.matrix, turn.at - turn.now.start, turn.now.floor)


def _escalate(turn: Turn, due: datetime) -> None:
    """Pages everybody on the levels the clock has reached, once a round; an empty level hands over to the next, the
    last one to everybody."""
    if turn.now.acked_by or turn.now.over:
        return
    matrix = turn.now.frozen.matrix
    while True:
        stand = _stand(turn)
        contacts: dict[str, Contact] = {}
        levels: dict[str, list[int]] = {}
        for number, level in enumerate(matrix.levels[: stand.levels]):
            for contact in turn.now.contacts(level.roles):
                contacts[contact.person] = contact
                levels.setdefault(contact.person, []).append(number)
        if stand.everybody:
            for contact in turn.now.contacts(turn.now.roster):
                contacts.setdefault(contact.person, contact)
        for person, contact in contacts.items():
            of = tuple(levels.get(person, (stand.levels - 1,)))
            if turn.now.is_silent(turn.at) and _was_paged(turn.now, person, max(of)):
                continue
            # What was said before an ack is said again after it was taken back: the round goes on.
            _page_once(turn, PageKind.ESCALATION, contact, of, stand.round + turn.now.unacks, "escalation", due)
        last = matrix.levels[stand.levels - 1]
        if stand.everybody or turn.now.contacts(last.roles):
            return
        turn.do(Post(turn.next_id, turn.now.id, f"nobody_on_call:{last.name}"))


def _was_paged(incident: Incident, person: str, level: int) -> bool:
    """For this level or a later one, in any round."""
    return any(
        isinstance(state.page, Page)
        and (state.page.kind, state.page.person) == (PageKind.ESCALATION, person)
        and max(state.page.levels) >= level
        and state.state in ("queued", "sent")
        for state in incident.pages.values()
    )


def _call_more(turn: Turn) -> None:
    """Somebody has it and wants the next level all the same: they are paged by name, since the matrix is at rest."""
    while turn.now.acked_by:
        stand = _stand(turn)
        last = turn.now.frozen.matrix.levels[stand.levels - 1]
        contacts = turn.now.contacts(turn.now.roster if stand.everybody else last.roles)
        if contacts or stand.everybody:
            _page(turn, PageKind.SUMMONED, contacts, "escalated", turn.at)
            return
        turn.do(Post(turn.next_id, turn.now.id, f"nobody_on_call:{last.name}"))


def _next_way(turn: Turn, decision: str) -> None:
    """A way failed: the next one is taken at once. When a whole level cannot be reached, the next level is."""
    failed = turn.now.pages[decision].page
    wanted = isinstance(failed, Notify) or not _unwanted(turn.now, failed)
    if failed.ways and wanted:
        way, *others = failed.ways
        key = failed.key.rpartition("/")[0] + "/" + way
        turn.do(replace(failed, id=turn.next_id, key=key, way=way, ways=tuple(others)))
    turn.do(Post(turn.next_id, turn.now.id, f"page_failed:{failed.way}:{decision}"))
    if isinstance(failed, Page) and failed.kind is PageKind.ESCALATION and not failed.ways and wanted:
        _hand_over(turn, failed)


def _hand_over(turn: Turn, failed: Page) -> None:
    """Nobody on the last level reached got any page of this round: the next level does not wait for its time."""
    stand = _stand(turn)
    last = stand.levels - 1
    if stand.everybody or last not in failed.levels:
        return
    of_round = [
        state.state
        for state in turn.now.pages.values()
        if isinstance(state.page, Page)
        and (state.page.kind, state.page.round) == (failed.kind, failed.round)
        and last in state.page.levels
    ]
    if any(state != "failed" for state in of_round):
        return
    turn.do(Post(turn.next_id, turn.now.id, f"unreachable:{turn.now.frozen.matrix.levels[last].name}"))
    _escalate(turn, turn.at)


# Everything else that needs a person ----------------------------------------------------------------------------


def _page_containment(turn: Turn, due: datetime) -> None:
    """The second clock. An ack does not stop it: the credentials are still live. First the person who took the
    incident, from the second round on everybody who was reached too."""
    now = turn.now
    taker = now.contact(now.acked_by) if now.acked_by else None
    contacts = (taker,) if taker and now.containment_round <= 1 else _responsible(now)
    for contact in contacts:
        _page_once(turn, PageKind.CONTAINMENT, contact, (), now.containment_round, "not_contained", due)


def _page_lost(turn: Turn, event: Verified) -> None:
    """A cut that stood counts no more: people hear of it at once, though it is being put back. While somebody fights
    for it, no more often than containment pages repeat. After the end of the incident it is a notice."""
    now, reason = turn.now, lost_reason(turn.before, event)
    if not reason:
        return
    last, repeat = now.warned.get(reason), timedelta(seconds=now.begun.timers.containment_repeat)
    if now.over:
        notify(turn, _roles(turn), f"{reason}:{now.version}", turn.at)
    elif last is None or turn.at - last >= repeat:
        _page(turn, PageKind.CONTAINMENT, _responsible(now), reason, turn.at)


def _page_left_alive(turn: Turn) -> None:
    """Sessions that the agent got by chaining roles, and that agents.yaml lets nobody cut, fail no step: containment is
    judged without them. People hear of them once, and again of others. After the end of the incident it is a notice."""
    now, before = turn.now, turn.before.surveys.get(Phase.AFTER)
    known = {(one.system, one.id) for one in before.uncut} if before and LEFT_ALIVE in now.warned else set()
    if not now.reach or all((one.system, one.id) in known for one in now.reach.uncut):
        return
    if now.over:
        notify(turn, _roles(turn), f"{LEFT_ALIVE}:{now.version}", turn.at)
    else:
        _page(turn, PageKind.FAILURE, _responsible(now), LEFT_ALIVE, turn.at)


def _roles(turn: Turn) -> list[str]:
    """Of the levels that the clock has reached, whoever has acknowledged."""
    stand = reached(turn.now.frozen.matrix, turn.at - turn.now.start, turn.now.floor)
    return [role for level in turn.now.frozen.matrix.levels[: stand.levels] for role in level.roles]


def lost_reason(before: Incident, event: Verified) -> str:
    """`undone:<step>`, `used:<step>` or `unread:<step>`, as pages and posts name it; '' where the cut stands."""
    if event.alive:
        return f"used:{event.step}"
    if event.standing is Standing.LOST:
        return f"undone:{event.step}"
    run = before.steps.get(event.step)
    known = run.calls[event.call].outcome if run and event.call in run.calls else None
    verified = isinstance(known, Done) and known.grade > Grade.UNVERIFIED
    return f"unread:{event.step}" if event.standing is Standing.UNREAD and verified else ""


def _page_failures(turn: Turn) -> None:
    """A containing step that ended badly, what was to mend a failure and failed itself, or a run that failed."""
    now = turn.now
    playbook = now.frozen.playbook
    escalates = playbook is not None and any(call.uses == PAGE_ESCALATE for call in playbook.on_failure)
    for run in now.steps.values():
        before = turn.before.steps.get(run.id)
        bad = run.status in (StepStatus.FAILED, StepStatus.UNKNOWN)
        if not bad or now.over or run.accepted or (before and before.status is run.status):
            continue
        if is_held(now, run) or run.status is StepStatus.UNKNOWN or run.pseudo:
            _page(turn, PageKind.FAILURE, _responsible(now), f"step:{run.id}", turn.at)
        elif escalates and not turn.now.failure_paged and now.spec(run.id).on_error is OnError.FAIL:
            _page(turn, PageKind.FAILURE, _responsible(now), "on_failure", turn.at)
    if isinstance(turn.event, Opened) and turn.event.trigger_errors:
        _page(turn, PageKind.FAILURE, _responsible(now), "trigger_error", turn.at)


def _approval_expired(turn: Turn, request: str, due: datetime) -> None:
    asked = turn.now.approvals[request]
    if asked.state is ApprovalState.OPEN and asked.on_timeout is OnTimeout.ESCALATE:
        roles = [role for level in turn.now.frozen.matrix.levels[: _stand(turn).levels + 1] for role in level.roles]
        _page(turn, PageKind.FAILURE, turn.now.contacts(roles), f"approval:{asked.step}", due)


def _approval_unposted(turn: Turn, request: str) -> None:
    """Nobody sees the request in the room, and its step would wait until it expires."""
    asked = turn.now.approvals.get(request)
    if asked and asked.state is ApprovalState.OPEN:
        _page(turn, PageKind.FAILURE, _responsible(turn.now), f"approval_unposted:{asked.step}", turn.at)


def _responsible(incident: Incident) -> tuple[Contact, ...]:
    """Who is to be told when something needs a person: the one who took it, and the levels reached so far; everybody
    where that is nobody."""
    stand = reached(incident.frozen.matrix, (incident.at or incident.start) - incident.start, incident.floor)
    roles = [role for level in incident.frozen.matrix.levels[: stand.levels] for role in level.roles]
    taker = incident.contact(incident.acked_by) if incident.acked_by else None
    found = {contact.person: contact for contact in ((taker,) if taker else ()) + incident.contacts(roles)}
    return tuple(found.values()) or incident.contacts(incident.roster)


def _page(turn: Turn, kind: PageKind, contacts: tuple[Contact, ...], reason: str, due: datetime) -> None:
    """A page that is not of the matrix; its round is the entry that caused it, so every cause pages."""
    for contact in contacts or _responsible(turn.now):
        _page_once(turn, kind, contact, (), turn.now.version, reason, due)


def _page_once(
    turn: Turn, kind: PageKind, contact: Contact, levels: tuple[int, ...], round: int, reason: str, due: datetime
) -> None:
    """Page keys are (incident, kind, level, round, person, way); a key already used is not used again."""
    stem = f"{turn.now.id}/{kind}/{max(levels, default=0) + 1}/{round}/{contact.person}/"
    if not contact.ways or any(state.page.key.startswith(stem) for state in turn.now.pages.values()):
        return
    way, *others = contact.ways
    turn.do(
        Page(
            id=turn.next_id,
            key=stem + way,
            incident=turn.now.id,
            kind=kind,
            levels=levels,
            round=round,
            person=contact.person,
            way=way,
            ways=tuple(others),
            reason=reason,
            due=due,
        )
    )


# Notices and withdrawals ----------------------------------------------------------------------------------------


def notify(turn: Turn, roles: Iterable[str], topic: str, due: datetime) -> None:
    """Tells everybody on call for these roles; no acknowledgement stops it (A4)."""
    for contact in turn.now.contacts(roles):
        way, *others = contact.ways
        key = f"{turn.now.id}/notice/{topic}/{contact.person}/{way}"
        turn.do(Notify(turn.next_id, key, turn.now.id, topic, contact.person, way, tuple(others), due))


def _remind(turn: Turn, name: str, due: datetime) -> None:
    runbook = turn.now.frozen.runbook
    phase = next((p for p in runbook.phases if f"phase:{p.name}" == name), None) if runbook else None
    if phase:
        notify(turn, (phase.role,), name, due)


def _remind_owner(turn: Turn, id: str, due: datetime) -> None:
    """By the ways that are known now, else by those known when they got the task."""
    task = turn.now.tasks[id]
    ways = contact.ways if (contact := turn.now.contact(task.owner)) else task.ways
    if ways:
        key = f"{turn.now.id}/notice/task:{id}/{turn.now.version}/{task.owner}/{ways[0]}"
        turn.do(Notify(turn.next_id, key, turn.now.id, f"task:{id}", task.owner, ways[0], tuple(ways[1:]), due))


def _unwanted(incident: Incident, page: Page) -> bool:
    """An ack, the end of the incident, containment or an override make a page superfluous."""
    if incident.over:
        return True
    match page.kind:
        case PageKind.ESCALATION:
            return bool(incident.acked_by)
        case PageKind.CONTAINMENT:
            return page.reason == "not_contained" and "containment" not in incident.timers
        case PageKind.SUMMONED:
            return page.person == incident.acked_by
        case PageKind.FAILURE:
            return False
    assert_never(page.kind)


def _withdraw(turn: Turn) -> None:
    """Pages that have not left and are no longer wanted are taken back in the same commit."""
    unsent = [(id, s.page) for id, s in turn.now.pages.items() if s.state == "queued" and isinstance(s.page, Page)]
    unwanted = tuple(id for id, page in unsent if _unwanted(turn.now, page))
    if unwanted:
        turn.do(Withdraw(turn.next_id, unwanted))
