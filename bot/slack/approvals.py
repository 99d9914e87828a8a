"""A request for approval as people read it: what for, on what, with what effect, how it is taken back, who may say yes
until when. And the form that asks for a code where the rule wants one. Pure.

The author's words (`intent`, `impact`, `cost`, `policy`) come from the frozen playbook, everything else from the plan
that the hash covers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, assert_never

from bot.actions import registry
from bot.domain.approval import Approval, ApprovalState, missing
from bot.domain.incident import Incident, is_held
from bot.domain.planning import rollback_of
from bot.domain.playbook import OnTimeout, Step
from bot.domain.recovery import asker, particulars
from bot.domain.wording import listed
from bot.engine.world import Said
from bot.slack import blockkit as kit
from bot.slack import standing
from bot.slack.blockkit import Block
from bot.slack.mrkdwn import code, entities, line, plain
from bot.slack.standing import Crowd, moment

DECIDE_BLOCK = "decide"
PROVE, CODE_BLOCK = "prove_approval", "code"  # the form's callback id, and its field
SCOPE_SHOWN = 10  # targets, and lines under a heading
LINE_SHOWN = 300  # characters


def request(incident: Incident, approval: Approval, crowd: Crowd) -> Said:
    """In whatever state it is in: what it says is what would be, or was, done."""
    run, spec = incident.steps[approval.step], incident.spec(approval.step)
    verdict, is_open = _verdict(incident, approval, crowd)
    head = f"{plain(incident.id, 40)} {'asks' if is_open else 'asked'}: {plain(approval.step, 60)}"
    lines = [verdict, *_decided(approval, crowd), *(_wanted(incident, approval, crowd) if is_open else [])]
    superseded = run.request != approval.request  # the calls in the state are those of a newer request
    mode = standing.mode(incident)
    blocks = [
        *([kit.context(f"*{entities(mode)}*")] if mode else []),
        kit.header(head),
        kit.section("\n".join([f"*{entities(lines[0])}*", *lines[1:]])),
        *([] if superseded else plan(incident, approval.step)),
        kit.context(*map(entities, _policy(incident, approval, spec))),
    ]
    if is_open:
        value, what = f"{approval.request}|{approval.hash}", f"{plain(spec.id, 60)} is not done"
        blocks.append(
            kit.actions(
                DECIDE_BLOCK,
                kit.button("Approve with a code" if approval.step_up else "Approve", "approve", value, style="primary"),
                kit.button("Refuse", "refuse", value, style="danger", sure=("Refuse?", f"{what} then.")),
            )
        )
    targets = ", ".join(plain(call.plan.target, 120) for call in list(run.calls.values())[:SCOPE_SHOWN])
    marked = "" if incident.begun.mode == "live" else f"[{incident.begun.mode.upper()}] "
    does = "" if superseded else f" {plain(run.action, 60)} on {targets or 'nothing'}."
    text = f"{head}. {verdict}{does} Plan {approval.hash[:12]}."
    return Said(entities(marked + text), tuple(blocks), head)


def code_form(incident: Incident, approval: Approval, private: str) -> Block:
    """The modal that asks an approver for their code. `private` comes back with it, untouched."""
    step = plain(approval.step, 60)
    label = f"The six digits that your authenticator shows now, for {step}"
    return {
        "type": "modal",
        "callback_id": PROVE,
        "private_metadata": private,
        "title": {"type": "plain_text", "text": "Approve with a code", "emoji": False},
        "submit": {"type": "plain_text", "text": "Approve", "emoji": False},
        "close": {"type": "plain_text", "text": "Cancel", "emoji": False},
        "blocks": [
            kit.section(f"*{line(incident.id, 40)} asks for your approval of {line(approval.step, 60)}.*"),
            *plan(incident, approval.step),
            {
                "type": "input",
                "block_id": CODE_BLOCK,
                "label": {"type": "plain_text", "text": label, "emoji": False},
                "element": {
                    "type": "plain_text_input",
                    "action_id": CODE_BLOCK,
                    "min_length": 6,
                    "max_length": 6,
                    "focus_on_load": True,
                },
            },
            kit.context(f"plan {approval.hash[:12]}", "A code is good once, and is kept nowhere."),
        ],
    }


def plan(incident: Incident, step: str) -> list[Block]:
    """Intent, scope, impact, rollback and cost of a step as it was planned."""
    run, spec = incident.steps[step], incident.spec(step)
    targets = [
        f"• {code(call.plan.target, 200)} through {code(call.plan.system, 60)}{_parameters(call.plan.params)}"
        for call in run.calls.values()
    ]
    effects = {
        "Impact": _impact(incident, step, spec),
        "Rollback": _rollback(incident, step),
        "Cost": line(spec.cost, 300) or "not stated",
    }
    return [
        kit.section(_intent(incident, step, spec)),
        *kit.listing(f"Scope, frozen: {_count(len(targets))}", targets, SCOPE_SHOWN),
        *_particulars(incident, step),
        kit.section("\n".join(f"*{name}:* {said}" for name, said in effects.items())),
    ]


def _particulars(incident: Incident, step: str) -> Iterator[Block]:
    """What a measure of recovery would do, as far as it fits; where all of it stands is said otherwise."""
    short = False
    for heading, lines in particulars(incident, step).items():
        short |= len(lines) > SCOPE_SHOWN or any(len(" ".join(one.split())) > LINE_SHOWN for one in lines)
        yield from kit.listing(entities(heading), [f"• {code(one, LINE_SHOWN)}" for one in lines], SCOPE_SHOWN)
    if short:
        yield kit.context(
            f"This is not all of it. Read the rest first: {code(f'firedoor incident show {incident.id}')}"
        )


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
            return "SUPERSEDED: the plan changed after this was asked. Read the newer request.", False
        case ApprovalState.WITHDRAWN:
            return f"WITHDRAWN: {plain(run.why, 200) or 'it was over first'}. It is not done.", False
        case ApprovalState.OPEN if incident.over or run.status != "awaiting_approval":
            return f"CLOSED: {incident.id} is {standing.spoken(incident.status)}, nothing is asked any more.", False
        case ApprovalState.OPEN:
            return "APPROVAL NEEDED: nothing of this happens without it.", True
    assert_never(approval.state)


def _decided(approval: Approval, crowd: Crowd) -> list[str]:
    """mrkdwn; who said yes so far."""
    given = [f"{crowd.name(who)} ({listed([*map(standing.spoken, groups)])})" for who, groups in approval.given]
    return [f"Approved so far by: {entities(', '.join(given))}"] if given else []


def _wanted(incident: Incident, approval: Approval, crowd: Crowd) -> Iterator[str]:
    """mrkdwn; what is missing and who can give it, mentioned so that they notice."""
    barred = ({incident.begun.initiator, incident.begun.declared_by} | asker(incident, approval.request)) - {""}
    for name, count in missing(approval.each, approval.given).items():
        able = crowd.able(name)
        if able is None:
            yield f"Missing: {count} of {entities(standing.group(name))}"
            continue
        gave = {who for who, _ in approval.given}
        left = [_mention(crowd, who) for who in able if who not in barred | gave]
        who = ", ".join(left[: standing.NAMED]) or "*NOBODY can: add a person to this group in people.yaml*"
        yield f"Missing: {count} of {entities(standing.group(name))}: {who}"
    if barred:
        yield f"Not by {entities(crowd.names(sorted(barred)))}, who asked for or started this."
    if approval.step_up:
        yield f"Each gives a {approval.step_up.upper()} code with it."
    until = incident.timers.get(f"approval:{approval.request}", approval.expires_at)
    then = "the next level is paged" if approval.on_timeout is OnTimeout.ESCALATE else "it counts as refused"
    yield f"Until {moment(incident, until)}; undecided by then, {then}."


def _mention(crowd: Crowd, person: str) -> str:
    slack = crowd.slack(person)
    return f"<@{slack}>" if slack.isalnum() else entities(crowd.name(person))


def _intent(incident: Incident, step: str, spec: Step) -> str:
    run, playbook = incident.steps[step], incident.frozen.playbook
    action = registry().get(run.action)
    about = " ".join((action.__doc__ or "").split()).partition(". ")[0] if action else ""
    aim = line(spec.intent, 300) or (line(playbook.description, 300) if playbook else "") or "not stated"
    does = f"*What it does:* {code(run.action, 60)}{f': {line(about, 300)}.' if about else ''}"
    stage = spec.stage
    if stage is None:
        return f"*Intent:* {aim}\n{does}"
    part = f"up to {stage.milestone} of the list; a refusal stops the rest and leaves what is done"
    return f"*Intent:* {aim}\n{does}\n*Stage {stage.number + 1} of {len(stage.milestones)}:* {part}"


def _parameters(params: Mapping[str, Any]) -> str:
    """What the call carries beyond its target, as JSON."""
    return f" {code(_json(params), 240)}" if params else ""


def _json(params: Mapping[str, Any]) -> str:
    return json.dumps(dict(params), sort_keys=True, ensure_ascii=False, default=str)


def _impact(incident: Incident, step: str, spec: Step) -> str:
    run = incident.steps[step]
    kinds = sorted({call.plan.target.partition(":")[0] for call in run.calls.values()})
    who = entities(plain(incident.begun.agent_uid, 80)) or "no named agent"
    what = f"{'cuts off' if is_held(incident, run) else 'changes'} {line(', '.join(kinds), 120) or 'nothing'} of {who}"
    lasts = "; stays in force until a person releases it" if is_held(incident, run) else ""
    fact = what + lasts + ("; *cannot be undone*" if spec.irreversible else "")
    return f"{line(spec.impact, 300).rstrip('.')}. By the plan: {fact}." if spec.impact else fact


def _rollback(incident: Incident, step: str) -> str:
    """What would take it back, with its values where they are known already."""
    run, back = incident.steps[step], rollback_of(incident, step)
    if back is not None:
        uses, arguments = back
        values = "values known once it ran" if arguments is None else _parameters(arguments).strip() or "no parameters"
        return f"{code(uses, 60)}, {values}"
    if is_held(incident, run) and incident.frozen.catalogue.undoable(run.action):
        return "a release restores what stood before"
    return "*none*"


def _policy(incident: Incident, approval: Approval, spec: Step) -> Iterator[str]:
    playbook = incident.frozen.playbook
    yield f"policy {plain(spec.policy, 300) or 'not stated'}"
    if playbook:
        yield f"playbook {plain(playbook.id, 60)} {plain(playbook.version, 20)} ({playbook.hash[:12]})"
    yield f"plan {approval.hash[:12]}"
    yield f"request {plain(approval.request, 60)}, asked {moment(incident, approval.asked_at)}"


def _count(targets: int) -> str:
    return f"{targets} target{'s' if targets != 1 else ''}"
