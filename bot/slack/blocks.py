"""The bot's voice: an incident's state as a page, a card, a request for approval and posts. Pure.

`Said.text` of a page is plain, because mail and webhooks carry it too; of the others it is Slack's fallback, escaped.
Alert text and systems' answers only come in through `mrkdwn`, which makes them harmless.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, assert_never

from bot.actions import registry
from bot.config.people import People
from bot.domain.approval import Approval, ApprovalState, missing
from bot.domain.incident import Incident, StepStatus, is_held
from bot.domain.playbook import OnTimeout
from bot.domain.record import Notify, Page
from bot.domain.wording import listed, span
from bot.engine.world import ReadText, Said
from bot.errors import RecordBroken
from bot.slack import blockkit as kit
from bot.slack import standing
from bot.slack.blockkit import Block
from bot.slack.mrkdwn import code, entities, line, plain
from bot.slack.posts import sentence
from bot.slack.reasons import duty_of, next_for, why_paged
from bot.slack.standing import Crowd, moment

LATE = 60.0  # seconds; a page later than this says so
CUTS_IN_TEXT = 12
ACK_BLOCK, ACKED_BLOCK, DECIDE_BLOCK = "ack", "acked", "decide"


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
        """The request in whatever state it is in: what it says is what would be, or was, done."""
        run, spec = incident.steps[approval.step], incident.spec(approval.step)
        verdict, is_open = _verdict(incident, approval, self._crowd)
        head = f"{plain(incident.id, 40)} {'asks' if is_open else 'asked'}: {plain(approval.step, 60)}"
        lines = [verdict, *self._decided(approval), *(self._wanted(incident, approval) if is_open else [])]
        superseded = run.request != approval.request  # the calls in the state are those of a newer request
        blocks = [
            *_banner(incident),
            kit.header(head),
            kit.section("\n".join([f"*{entities(lines[0])}*", *lines[1:]])),
            *([] if superseded else _plan(incident, approval.step)),
            kit.context(*map(entities, _policy(incident, approval))),
        ]
        if is_open:
            value, what = f"{approval.request}|{approval.hash}", f"{plain(spec.id, 60)} is not done"
            blocks.append(
                kit.actions(
                    DECIDE_BLOCK,
                    kit.button("Approve", "approve", value, style="primary"),
                    kit.button("Refuse", "refuse", value, style="danger", sure=("Refuse?", f"{what} then.")),
                )
            )
        targets = ", ".join(plain(call.plan.target, 120) for call in list(run.calls.values())[:10])
        text = f"{head}. {verdict} {plain(run.action, 60)} on {targets or 'nothing'}. Plan {approval.hash[:12]}."
        return Said(entities(_marked(incident) + text), tuple(blocks), head)

    def _decided(self, approval: Approval) -> list[str]:
        """mrkdwn; who said yes so far."""
        given = [
            f"{self._crowd.name(who)} ({listed([*map(standing.spoken, groups)])})" for who, groups in approval.given
        ]
        return [f"Approved so far by: {entities(', '.join(given))}"] if given else []

    def _wanted(self, incident: Incident, approval: Approval) -> Iterator[str]:
        """mrkdwn; what is missing and who can give it, mentioned so that they notice."""
        barred = {incident.begun.initiator, incident.begun.declared_by} - {""}
        for name, count in missing(approval.each, approval.given).items():
            able = self._crowd.able(name)
            if able is None:
                yield f"Missing: {count} of {entities(standing.group(name))}"
                continue
            gave = {who for who, _ in approval.given}
            left = [self._mention(who) for who in able if who not in barred | gave]
            who = ", ".join(left[: standing.NAMED]) or "*NOBODY can: add a person to this group in people.yaml*"
            yield f"Missing: {count} of {entities(standing.group(name))}: {who}"
        if barred:
            yield f"Not by {entities(self._crowd.names(sorted(barred)))}, who started this."
        until = incident.timers.get(f"approval:{approval.request}", approval.expires_at)
        then = "the next level is paged" if approval.on_timeout is OnTimeout.ESCALATE else "it counts as refused"
        yield f"Until {moment(incident, until)}; undecided by then, {then}."

    def _mention(self, person: str) -> str:
        slack = self._crowd.slack(person)
        return f"<@{slack}>" if slack.isalnum() else entities(self._crowd.name(person))

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


# The plan an approval is asked for ------------------------------------------------------------------------------


def _verdict(incident: Incident, approval: Approval, crowd: Crowd) -> tuple[str, bool]:
    """What became of it, and whether it can still be decided."""
    run = incident.steps[approval.step]
    at = f" at {moment(incident, run.settled_at)}" if run.settled_at and run.request == approval.request else ""
    match approval.state:
        case ApprovalState.GRANTED:
            return f"GRANTED by {crowd.names([who for who, _ in approval.given])}.", False
        case ApprovalState.REFUSED:
            by = approval.refused_by or run.why.removeprefix("refused by ")
            return f"REFUSED{f' by {crowd.name(by)}' if by else ''}{at}. It is not done.", False
        case ApprovalState.EXPIRED:
            return f"EXPIRED{at}: nobody decided in time. It is not done.", False
        case ApprovalState.SUPERSEDED:
            return "REPLACED: the plan changed after this was asked. Read the newer request.", False
        case ApprovalState.WITHDRAWN:
            return f"WITHDRAWN: {run.why or 'it was over first'}. It is not done.", False
        case ApprovalState.OPEN if incident.over or run.status is not StepStatus.AWAITING_APPROVAL:
            return f"CLOSED: {incident.id} is {standing.spoken(incident.status)}, nothing is asked any more.", False
        case ApprovalState.OPEN:
            return "APPROVAL NEEDED: nothing of this happens without it.", True
    assert_never(approval.state)


def _plan(incident: Incident, step: str) -> list[Block]:
    run = incident.steps[step]
    action, playbook = registry().get(run.action), incident.frozen.playbook
    about = " ".join((action.__doc__ or "").split()).partition(". ")[0] if action else ""
    of = f" Playbook: {line(playbook.description, 300)}" if playbook and playbook.description else ""
    targets = [
        f"• {code(call.plan.target, 200)} through {code(call.plan.system, 60)}{_parameters(call.plan.params)}"
        for call in run.calls.values()
    ]
    intent = f"*Intent:* {code(run.action, 60)}{f', {line(about, 300)}' if about else ''}.{of}"
    return [
        kit.section(intent),
        *kit.listing(f"Scope, frozen: {len(targets)} target{'s' if len(targets) != 1 else ''}", targets, 10),
        kit.section(f"*Impact:* {_impact(incident, step)}\n*Rollback:* {_rollback(incident, step)}"),
    ]


def _parameters(params: Mapping[str, Any]) -> str:
    """What the call carries beyond its target, as JSON."""
    shown = json.dumps(dict(params), sort_keys=True, ensure_ascii=False, default=str)
    return f" {code(shown, 240)}" if params else ""


def _impact(incident: Incident, step: str) -> str:
    run, spec = incident.steps[step], incident.spec(step)
    kinds = sorted({call.plan.target.partition(":")[0] for call in run.calls.values()})
    who = entities(plain(incident.begun.agent_uid, 80)) or "no named agent"
    what = f"{'cuts off' if is_held(incident, run) else 'changes'} {line(', '.join(kinds), 120) or 'nothing'} of {who}"
    lasts = "; stays in force until a person releases it" if is_held(incident, run) else ""
    return what + lasts + ("; *cannot be undone*" if spec.irreversible else "")


def _rollback(incident: Incident, step: str) -> str:
    run, spec = incident.steps[step], incident.spec(step)
    if spec.rollback:
        names = ", ".join(spec.rollback.arguments)
        return f"{code(spec.rollback.uses, 60)}{f' with {line(names, 200)}' if names else ''}"
    if is_held(incident, run) and incident.frozen.catalogue.undoable(run.action):
        return "a release restores what stood before"
    return "*none*"


def _policy(incident: Incident, approval: Approval) -> Iterator[str]:
    playbook = incident.frozen.playbook
    if playbook:
        yield f"playbook {plain(playbook.id, 60)} {plain(playbook.version, 20)} ({playbook.hash[:12]})"
    yield f"plan {approval.hash[:12]}"
    yield f"request {plain(approval.request, 60)}, asked {moment(incident, approval.asked_at)}"
