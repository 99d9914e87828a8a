"""What follows from an event: the one function that decides. Pure and total; time and state come in, decisions go out.

`advance` reads top to bottom: the playbook moves, people are paged, papers are drafted, the room is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

from bot.domain.approval import ApprovalState, fingerprint
from bot.domain.containment import Containment
from bot.domain.escalation import Contact, reached
from bot.domain.expression import ExpressionError, evaluate, render
from bot.domain.incident import (
    SATISFIED,
    Incident,
    StepRun,
    StepStatus,
    apply,
    facts_of_card,
    is_held,
    take,
)
from bot.domain.playbook import Call as PlaybookCall
from bot.domain.playbook import OnError, OnTimeout, Rung, Step, Target
from bot.domain.record import (
    Acknowledged,
    AgentResolved,
    AskApproval,
    AskPermit,
    DeadlinePassed,
    Decision,
    Deferred,
    DraftDocument,
    EndPermit,
    Event,
    Hold,
    Notify,
    Opened,
    Overridden,
    Page,
    PageFailed,
    PageKind,
    PlaceHold,
    PlannedCall,
    PlanStep,
    Post,
    Released,
    ReleaseHold,
    RunAction,
    Status,
    StatusChanged,
    Unacknowledged,
    Verb,
    Withdraw,
)
from bot.domain.view import agent_names, alert_names, incident_names

PAGE_ESCALATE = "page.escalate"  # the engine's own on_failure call


def advance(incident: Incident, event: Event, at: datetime) -> tuple[Incident, tuple[Decision, ...]]:
    """One event in, the new state and what is to be done out. Deterministic; ids count up from `.0`."""
    turn = _Turn(incident, apply(incident, event, at), event, at)
    _progress(turn)
    _pages(turn)
    _papers(turn)
    _room(turn)
    return turn.now, tuple(turn.decisions)


class _Turn:
    """One advance under way: `before` and `now` are the states, `do` takes a decision and folds it in at once."""

    def __init__(self, before: Incident, after: Incident, event: Event, at: datetime) -> None:
        self.before, self.now, self.event, self.at = before, after, event, at
        self.decisions: list[Decision] = []

    @property
    def next_id(self) -> str:
        return f"{self.now.id}/{self.now.version}.{len(self.decisions)}"

    def do(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self.now = take(self.now, (decision,), self.at)


# The playbook ---------------------------------------------------------------------------------------------------


def _progress(turn: _Turn) -> None:
    event = turn.event
    if isinstance(event, Released):
        _release(turn, event)
    if isinstance(event, AgentResolved):
        _replan_asked(turn)
    if not turn.now.frozen.playbook:
        return
    moved = True
    while moved:
        before = len(turn.decisions)
        if not turn.now.over:
            for run in tuple(turn.now.steps.values()):
                if run.status is StepStatus.WAITING:
                    _consider(turn, turn.now.spec(run.id))
            _ask_permits(turn)
            _fail(turn)
        for run in tuple(turn.now.steps.values()):
            if run.status is StepStatus.READY:
                _start(turn, run)
            elif run.status is StepStatus.RUNNING and not is_held(turn.now, run):
                _continue(turn, run)
        moved = len(turn.decisions) > before
    _end_permit(turn)


def _consider(turn: _Turn, step: Step) -> None:
    """A step that waits: may it go now?"""
    steps = turn.now.steps
    if any(not steps[other].settled for other in (*step.needs, *step.after)):
        return
    unmet = [other for other in step.needs if not _satisfied(turn.now, steps[other])]
    if unmet:
        why = f"needs {', '.join(unmet)}"
        turn.do(PlanStep(turn.next_id, step.id, StepStatus.SKIPPED, why=why))
        return
    turn.do(plan(turn.now, step, turn.next_id))
    if turn.now.steps[step.id].status is StepStatus.AWAITING_APPROVAL:
        turn.do(AskApproval(turn.next_id, turn.now.id, step.id, turn.now.steps[step.id].hash))
    elif turn.now.steps[step.id].status is StepStatus.AWAITING_FORM:
        turn.do(Post(turn.next_id, turn.now.id, f"form:{step.id}"))
        manual = step.manual
        if manual:
            _notify(turn, (manual.assignee,), f"form:{step.id}", turn.at + manual.due)


def _satisfied(incident: Incident, run: StepRun) -> bool:
    return run.status in SATISFIED or run.accepted or incident.spec(run.id).on_error is OnError.CONTINUE


def plan(incident: Incident, step: Step, id: str) -> PlanStep:
    """Renders a step against the state as it is: what exactly would be done, and whether somebody has to be asked."""
    names = _names(incident)
    try:
        if step.condition is not None and not evaluate(step.condition, names):
            return PlanStep(id, step.id, StepStatus.LEFT_OUT, why="its condition is false")
        if step.manual:
            return PlanStep(id, step.id, StepStatus.AWAITING_FORM)
        call = cast(PlaybookCall, step.call)
        calls = _calls(incident, step, call, names)
    except (ExpressionError, ValueError) as error:
        return PlanStep(id, step.id, StepStatus.FAILED, action=step.call.uses if step.call else "", why=str(error))
    if not calls:
        return PlanStep(
            id, step.id, StepStatus.DONE, action=call.uses, why="there is nothing here that it could act on"
        )
    digest = _digest(incident, step, call, calls, names)
    if incident.frozen.playbook and incident.frozen.playbook.rung is Rung.OBSERVE:
        return PlanStep(id, step.id, StepStatus.OBSERVED, call.uses, calls, "the playbook only observes", digest)
    status = StepStatus.AWAITING_APPROVAL if _must_ask(incident, step) else StepStatus.READY
    if status is StepStatus.READY and _permit_group(incident, step, names) is not None:
        status = StepStatus.AWAITING_PERMIT
    return PlanStep(id, step.id, status, call.uses, calls, hash=digest)


def _calls(incident: Incident, step: Step, call: PlaybookCall, names: dict[str, Any]) -> tuple[PlannedCall, ...]:
    items: Sequence[Any] = (None,)
    if step.foreach is not None:
        found = evaluate(step.foreach, names)
        if not isinstance(found, list | tuple):
            raise ExpressionError(f"{step.id}: foreach needs a list, it got {type(found).__name__}")
        items = found
    planned: dict[str, PlannedCall] = {}
    for number, item in enumerate(items):
        scope = names if step.foreach is None else {**names, "item": item}
        arguments = {key: render(value, scope) for key, value in call.arguments.items()}
        targets: tuple[Target, ...] = incident.frozen.catalogue.targets(call.uses, arguments, incident.agent)
        for target in targets:
            name = f"{number}:{target.id}"
            planned[name] = PlannedCall(name, target.id, target.params, target.system, target.level)
    return tuple(planned.values())


def _must_ask(incident: Incident, step: Step) -> bool:
    playbook = incident.frozen.playbook
    only_proposes = not incident.begun.contain or (playbook is not None and playbook.rung is Rung.PROPOSE)
    return step.approval is not None or (step.contains and only_proposes)


def _digest(
    incident: Incident, step: Step, call: PlaybookCall, calls: tuple[PlannedCall, ...], names: dict[str, Any]
) -> str:
    """What an approval binds to."""
    rollback: dict[str, Any] | None = None
    if step.rollback:
        try:
            rollback = {key: render(value, names) for key, value in step.rollback.arguments.items()}
        except ExpressionError as error:
            rollback = {"not yet known": str(error)}  # it reads outputs of this very step
        rollback["uses"] = step.rollback.uses
    return fingerprint(
        {
            "playbook": incident.begun.pins.playbook,
            "step": step.id,
            "action": call.uses,
            "version": incident.frozen.catalogue.version(call.uses),
            "calls": [{"target": c.target, "params": c.params, "system": c.system} for c in calls],
            "rollback": rollback,
            "mode": incident.begun.mode,
        }
    )


def _names(incident: Incident) -> dict[str, Any]:
    opened = incident.begun
    return {
        "alert": alert_names(opened.alert) if opened.alert else {},
        "agent": agent_names(incident.agent) if incident.agent else {"id": opened.agent_uid},
        "incident": incident_names(
            id=incident.id,
            severity=opened.severity.name,
            type=opened.type,
            status=incident.status,
            opened_at=incident.start,
        ),
        "steps": {run.id: {"status": str(run.status), "outputs": dict(run.outputs)} for run in incident.steps.values()},
    }


def _permit_group(incident: Incident, step: Step, names: dict[str, Any]) -> str | None:
    """'' for the limits that bind containing steps, a group's name for others, None where no permit is needed."""
    playbook = incident.frozen.playbook
    if step.contains:
        return ""
    if playbook is None or playbook.concurrency is None or step.id.startswith(("rollback:", "on_failure:")):
        return None
    try:
        return f"{playbook.id}:{render(playbook.concurrency.group, names)}"
    except ExpressionError:
        return f"{playbook.id}:"  # the group cannot be told apart: the strictest reading is one for all


def _ask_permits(turn: _Turn) -> None:
    """One question for all containing steps that became ready together, one for each group."""
    waiting: dict[str, list[StepRun]] = {}
    names = _names(turn.now)
    asked = {step for d in turn.decisions if isinstance(d, AskPermit) for step in d.steps}
    for run in turn.now.steps.values():
        granted = run.status is StepStatus.READY and not run.permitted
        if (run.status is StepStatus.AWAITING_PERMIT and _just_planned(turn, run.id)) or granted:
            group = _permit_group(turn.now, turn.now.spec(run.id), names)
            if group is not None and run.id not in asked:
                waiting.setdefault(group, []).append(run)
    playbook = turn.now.frozen.playbook
    for group, runs in waiting.items():
        turn.do(
            AskPermit(
                id=turn.next_id,
                incident=turn.now.id,
                steps=tuple(run.id for run in runs),
                playbook=playbook.id if playbook else "",
                agent=turn.now.begun.agent_uid,
                contains=group == "",
                group=group,
                targets=tuple(call.plan.target for run in runs for call in run.calls.values()) if group == "" else (),
            )
        )


def _just_planned(turn: _Turn, step: str) -> bool:
    return any(isinstance(d, PlanStep) and d.step == step for d in turn.decisions)


def _start(turn: _Turn, run: StepRun) -> None:
    if not is_held(turn.now, run):
        _continue(turn, run)
        return
    step = turn.now.spec(run.id)
    for call in run.calls.values():
        hold = Hold(
            incident=turn.now.id,
            step=run.id,
            action=run.action,
            params=call.plan.params,
            system=call.plan.system,
            level=call.plan.level,
            timeout=step.timeout.total_seconds(),
            attempts=step.retry.attempts,
            backoff=step.retry.backoff,
            factor=step.retry.factor,
            max_delay=step.retry.max,
        )
        turn.do(PlaceHold(turn.next_id, call.plan.target, call.plan.name, hold))


def _continue(turn: _Turn, run: StepRun) -> None:
    """Every call that is neither out nor over nor waiting for its time goes now."""
    step = turn.now.spec(run.id)
    for call in run.calls.values():
        if call.final or call.decision or (call.again_at and call.again_at > turn.at):
            continue
        id = turn.next_id
        turn.do(
            RunAction(
                id=id,
                key=call.key or id,
                incident=turn.now.id,
                step=run.id,
                call=call.plan.name,
                target=call.plan.target,
                action=run.action,
                verb=Verb.RUN,
                params=call.plan.params,
                system=call.plan.system,
                timeout=step.timeout.total_seconds(),
                so_far=call.so_far,
            )
        )


def _fail(turn: _Turn) -> None:
    """A failed run: what completed is rolled back in reverse, one at a time, then `on_failure` is called."""
    playbook = turn.now.frozen.playbook
    steps = turn.now.steps
    failed = [
        run
        for run in steps.values()
        if run.status is StepStatus.FAILED
        and not run.accepted
        and ":" not in run.id
        and turn.now.spec(run.id).on_error is OnError.FAIL
    ]
    if not failed or playbook is None:
        return
    # A cut that failed is no reason to take back what was mended: only a failed mending step rolls back.
    if any(not is_held(turn.now, run) for run in failed):
        busy = any(run.status is StepStatus.RUNNING and not is_held(turn.now, run) for run in steps.values())
        undone = [run for run in steps.values() if run.id.startswith("rollback:")]
        if busy or any(not run.settled for run in undone):
            return
        mended = [run for run in steps.values() if _can_roll_back(turn.now, run)]
        if mended:
            last = max(mended, key=lambda run: (cast(datetime, run.settled_at), list(steps).index(run.id)))
            turn.do(plan(turn.now, turn.now.spec(f"rollback:{last.id}"), turn.next_id))
            return
    if any(run.id.startswith("on_failure:") for run in steps.values()):
        return
    for number, call in enumerate(playbook.on_failure):
        if call.uses != PAGE_ESCALATE:
            turn.do(plan(turn.now, turn.now.spec(f"on_failure:{number}"), turn.next_id))


def _can_roll_back(incident: Incident, run: StepRun) -> bool:
    if ":" in run.id or run.status is not StepStatus.DONE or is_held(incident, run):
        return False
    return incident.spec(run.id).rollback is not None and f"rollback:{run.id}" not in incident.steps


def _replan_asked(turn: _Turn) -> None:
    """The agent changed while somebody was asked: what they were shown is no longer what would be done."""
    for run in tuple(turn.now.steps.values()):
        if run.status is not StepStatus.AWAITING_APPROVAL:
            continue
        fresh = plan(turn.now, turn.now.spec(run.id), turn.next_id)
        if fresh.hash != run.hash:
            turn.do(fresh)
            if turn.now.steps[run.id].status is StepStatus.AWAITING_APPROVAL:
                turn.do(AskApproval(turn.next_id, turn.now.id, run.id, fresh.hash))


def _release(turn: _Turn, event: Released) -> None:
    for call in turn.now.steps[event.step].calls.values():
        turn.do(ReleaseHold(turn.next_id, call.plan.target, turn.now.id, event.step, event.by))


def _end_permit(turn: _Turn) -> None:
    """The commit that settles the last step of a group lets the next incident in."""
    playbook = turn.now.frozen.playbook
    if playbook is None or playbook.concurrency is None:
        return
    mine = [run for run in turn.now.steps.values() if run.permitted and not is_held(turn.now, run)]
    were = [turn.before.steps[run.id] for run in mine if run.id in turn.before.steps]
    if mine and all(run.settled for run in mine) and not all(run.settled for run in were):
        group = _permit_group(turn.now, turn.now.spec(mine[0].id), _names(turn.now)) or ""
        turn.do(EndPermit(turn.next_id, turn.now.id, group))


# People ---------------------------------------------------------------------------------------------------------


def _pages(turn: _Turn) -> None:
    event = turn.event
    match event:
        case Opened():
            _escalate(turn, turn.at)
            if event.notify:
                _notify(turn, event.notify, "opened", turn.at)
        case DeadlinePassed(name="escalation" | "ack", due=due):
            _escalate(turn, due)
        case Unacknowledged():
            _escalate(turn, turn.at)
        case DeadlinePassed(name="containment", due=due):
            _page_containment(turn, due)
        case DeadlinePassed(name=name, due=due) if name.startswith("phase:"):
            _remind(turn, name, due)
        case DeadlinePassed(name=name, due=due) if name.startswith("form:"):
            step = name.partition(":")[2]
            manual = turn.now.spec(step).manual
            if manual and not turn.now.over:
                _page(turn, PageKind.FAILURE, turn.now.contacts((manual.assignee,)), name, due)
        case DeadlinePassed(name=name, due=due) if name.startswith("approval:"):
            _approval_expired(turn, name, due)
        case PageFailed(decision=decision):
            _next_way(turn, decision)
        case StatusChanged() if not turn.now.over and turn.before.over:
            _escalate(turn, turn.at)
        case Deferred(steps=steps) if any(is_held(turn.now, turn.now.steps[step]) for step in steps):
            _page(turn, PageKind.FAILURE, _responsible(turn.now), f"deferred:{','.join(steps)}", turn.at)
    _page_failures(turn)
    _withdraw(turn)


def _escalate(turn: _Turn, due: datetime) -> None:
    """Pages everybody on the levels the clock has reached, once a round; an empty level hands over to the next."""
    if turn.now.acked_by or turn.now.over:
        return
    matrix = turn.now.frozen.matrix
    while True:
        stand = reached(matrix, turn.at - turn.now.start, turn.now.skipped)
        levels_of: dict[str, list[int]] = {}
        who: dict[str, Contact] = {}
        for number, level in enumerate(matrix.levels[: stand.levels]):
            for contact in turn.now.contacts(level.roles):
                levels_of.setdefault(contact.person, []).append(number)
                who[contact.person] = contact
        if stand.everybody:
            for contact in turn.now.contacts(turn.now.roster):
                levels_of.setdefault(contact.person, [stand.levels - 1])
                who[contact.person] = contact
        for person, levels in levels_of.items():
            _page_once(turn, PageKind.ESCALATION, who[person], tuple(levels), stand.round, "escalation", due)
        last = matrix.levels[stand.levels - 1]
        if stand.levels >= len(matrix.levels) or turn.now.contacts(last.roles):
            return
        turn.do(Post(turn.next_id, turn.now.id, f"nobody_on_call:{last.name}"))


def _page_once(
    turn: _Turn, kind: PageKind, contact: Contact, levels: tuple[int, ...], round: int, reason: str, due: datetime
) -> None:
    """Page keys are (incident, kind, level, round, person, way); a key already used is not used again."""
    stem = f"{turn.now.id}/{kind}/{max(levels, default=0) + 1}/{round}/{contact.person}/"
    if any(state.page.key.startswith(stem) for state in turn.now.pages.values()):
        return
    if not contact.ways:
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


def _page(turn: _Turn, kind: PageKind, contacts: Iterable[Contact], reason: str, due: datetime) -> None:
    """A page that is not of the matrix; its round is the entry that caused it, so every cause pages."""
    for contact in contacts:
        _page_once(turn, kind, contact, (), turn.now.version, reason, due)


def _page_containment(turn: _Turn, due: datetime) -> None:
    """The second clock. An ack does not stop it: the credentials are still live. First the person who took the
    incident, from the second round on everybody who was reached too."""
    now = turn.now
    if now.containment is Containment.CONTAINED or now.overridden or now.over:
        return
    taker = now.contact(now.acked_by) if now.acked_by else None
    if taker and now.containment_round <= 1:
        contacts: tuple[Contact, ...] = (taker,)
    else:
        contacts = _responsible(now)
    for contact in contacts:
        _page_once(turn, PageKind.CONTAINMENT, contact, (), now.containment_round, "not_contained", due)


def _responsible(incident: Incident) -> tuple[Contact, ...]:
    """Who is to be told when something needs a person: the one who took it, and the levels reached so far."""
    stand = reached(incident.frozen.matrix, (incident.at or incident.start) - incident.start, incident.skipped)
    roles = [role for level in incident.frozen.matrix.levels[: stand.levels] for role in level.roles]
    taker = incident.contact(incident.acked_by) if incident.acked_by else None
    found = {contact.person: contact for contact in ((taker,) if taker else ()) + incident.contacts(roles)}
    return tuple(found.values())


def _page_failures(turn: _Turn) -> None:
    """A containing step that ended badly, or a run that failed, needs a person now."""
    playbook = turn.now.frozen.playbook
    escalates = playbook is not None and any(call.uses == PAGE_ESCALATE for call in playbook.on_failure)
    for run in turn.now.steps.values():
        before = turn.before.steps.get(run.id)
        if not run.settled or run.accepted or (before and before.status is run.status):
            continue
        bad = run.status in (StepStatus.FAILED, StepStatus.UNKNOWN)
        if bad and (is_held(turn.now, run) or run.status is StepStatus.UNKNOWN):
            _page(turn, PageKind.FAILURE, _responsible(turn.now), f"step:{run.id}", turn.at)
        elif bad and escalates and not turn.now.failure_handled and turn.now.spec(run.id).on_error is OnError.FAIL:
            _page(turn, PageKind.FAILURE, _responsible(turn.now), "on_failure", turn.at)
    if isinstance(turn.event, Opened) and turn.event.trigger_errors:
        _page(turn, PageKind.FAILURE, _responsible(turn.now), "trigger_error", turn.at)


def _approval_expired(turn: _Turn, name: str, due: datetime) -> None:
    asked = turn.now.approvals[name.partition(":")[2]]
    if asked.state is ApprovalState.OPEN and asked.on_timeout is OnTimeout.ESCALATE and not turn.now.over:
        matrix = turn.now.frozen.matrix
        stand = reached(matrix, turn.at - turn.now.start, turn.now.skipped)
        roles = [role for level in matrix.levels[: stand.levels + 1] for role in level.roles]
        _page(turn, PageKind.FAILURE, turn.now.contacts(roles), f"approval:{asked.step}", due)


def _remind(turn: _Turn, name: str, due: datetime) -> None:
    runbook = turn.now.frozen.runbook
    phase = next((p for p in runbook.phases if f"phase:{p.name}" == name), None) if runbook else None
    if phase:
        _notify(turn, (phase.role,), name, due)


def _notify(turn: _Turn, roles: Iterable[str], topic: str, due: datetime) -> None:
    for contact in turn.now.contacts(roles):
        if not contact.ways:
            continue
        way, *others = contact.ways
        key = f"{turn.now.id}/notice/{topic}/{contact.person}/{way}"
        turn.do(Notify(turn.next_id, key, turn.now.id, topic, contact.person, way, tuple(others), due))


def _next_way(turn: _Turn, decision: str) -> None:
    """A way failed: the next one is taken at once. When a whole level cannot be reached, the next level is."""
    failed = turn.now.pages[decision].page
    wanted = isinstance(failed, Notify) or not (failed.kind is PageKind.ESCALATION and turn.now.acked_by)
    if failed.ways and wanted:
        way, *others = failed.ways
        key = failed.key.rpartition("/")[0] + "/" + way
        turn.do(replace(failed, id=turn.next_id, key=key, way=way, ways=tuple(others)))
    if not any(d for d in turn.decisions if isinstance(d, Post) and d.purpose == f"page_failed:{failed.way}"):
        turn.do(Post(turn.next_id, turn.now.id, f"page_failed:{failed.way}"))
    if isinstance(failed, Page) and failed.kind is PageKind.ESCALATION and not failed.ways and wanted:
        _skip_unreachable(turn, failed)


def _skip_unreachable(turn: _Turn, failed: Page) -> None:
    matrix = turn.now.frozen.matrix
    stand = reached(matrix, turn.at - turn.now.start, turn.now.skipped)
    of_round = [
        state.state
        for state in turn.now.pages.values()
        if isinstance(state.page, Page) and (state.page.kind, state.page.round) == (failed.kind, failed.round)
    ]
    if stand.levels < len(matrix.levels) and all(state == "failed" for state in of_round):
        level = matrix.levels[stand.levels - 1]
        turn.do(Post(turn.next_id, turn.now.id, f"unreachable:{level.name}"))
        _escalate(turn, turn.at)


def _withdraw(turn: _Turn) -> None:
    """An ack, the end of the incident or containment take unsent pages back, in the same commit."""
    now = turn.now
    unwanted = []
    for id, state in now.pages.items():
        if state.state != "queued" or not isinstance(state.page, Page):
            continue
        kind = state.page.kind
        acked = kind is PageKind.ESCALATION and bool(now.acked_by)
        contained = kind is PageKind.CONTAINMENT and (now.containment is Containment.CONTAINED or now.overridden)
        if now.over or acked or contained:
            unwanted.append(id)
    if unwanted:
        turn.do(Withdraw(turn.next_id, tuple(unwanted)))


# Papers and the room --------------------------------------------------------------------------------------------


def _papers(turn: _Turn) -> None:
    """The internal brief and the first customer notice are drafted when containment has settled, at the latest when
    they are due; the postmortem when the incident is resolved."""
    settled = turn.now.containment in (Containment.CONTAINED, Containment.PARTIAL, Containment.UNKNOWN)
    late = isinstance(turn.event, DeadlinePassed) and turn.event.name == "phase:communication"
    wanted: list[str] = []
    if settled or late or turn.now.status is Status.RESOLVED:
        wanted += ["internal-brief", "customer-initial"]
    if turn.now.status is Status.RESOLVED:
        wanted.append("postmortem")
    for kind in wanted:
        if kind not in turn.now.drafted and turn.now.status is not Status.FALSE_POSITIVE:
            turn.do(DraftDocument(turn.next_id, turn.now.id, kind))


def _room(turn: _Turn) -> None:
    """The card is edited in place, one edit at a time; what changed is said once in its thread."""
    before, now, event = turn.before, turn.now, turn.event
    facts = []
    if isinstance(event, Acknowledged):
        facts.append("acknowledged")
    if isinstance(event, Unacknowledged) or (isinstance(event, DeadlinePassed) and event.name == "ack"):
        facts.append("unacknowledged")
    if now.containment is not before.containment and now.containment not in (Containment.RUNNING, Containment.NONE):
        facts.append(f"containment:{now.containment}")
    if isinstance(event, StatusChanged):
        facts.append(f"status:{now.status}")
    if isinstance(event, Overridden):
        facts.append(f"overridden:{event.step}")
    for fact in facts:
        turn.do(Post(turn.next_id, now.id, fact))
    if not turn.now.card_out and turn.now.shown != facts_of_card(turn.now):
        turn.do(Post(turn.next_id, now.id, "card"))
