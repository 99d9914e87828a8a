"""The card: one message that says how an incident stands and offers what makes sense now. Edited in place."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from bot.domain.containment import Containment
from bot.domain.events import Status
from bot.domain.incident import Incident, StepRun, StepStatus
from bot.domain.wording import audit_text, span
from bot.engine.world import ReadText, Said
from bot.errors import RecordBroken
from bot.slack import blockkit as kit
from bot.slack import reached, standing
from bot.slack.blockkit import Block
from bot.slack.mrkdwn import code, entities, line, plain
from bot.slack.standing import Crowd, moment

ACK_BLOCK = "ack"
RELEASES = 12  # offered by a button; the command line has them all


def card(incident: Incident, read: ReadText, crowd: Crowd) -> Said:
    due = standing.deadlines(incident)
    facts = {
        "State": f"{standing.spoken(incident.status)}, opened {moment(incident, incident.start)}",
        "Severity": standing.severity(incident, crowd),
        "Acknowledged": standing.acknowledged(incident, crowd),
        "Agent": standing.agent(incident, crowd),
        "Handshake": standing.handshake(incident),
        "Holds": reached.holds(incident),
        "Next deadline": "; ".join(due) or "none",
        "Roles": standing.roles(incident, crowd),
        "Tasks": standing.tasks(incident),
    }
    head = standing.headline(incident)
    blocks = [
        *banner(incident),
        kit.header(standing.title(incident)),
        *containment(incident, head),
        *left_alive(incident),
        kit.fields({label: entities(said) for label, said in facts.items()}),
        *_quote(incident, read),
        *overrides(incident),
        kit.divider(),
        *_others(incident),
        *kit.listing("On call", [entities(one) for one in standing.duty(incident, crowd)]),
        kit.context(*map(entities, _origin(incident))),
        *releases(incident),
        *_buttons(incident),
    ]
    lines = [standing.title(incident), head, *(f"{label}: {said}" for label, said in facts.items() if said)]
    text = entities("\n".join([*filter(None, (standing.mode(incident),)), *lines]))
    return Said(text, tuple(blocks), standing.title(incident))


# Parts that pages have too --------------------------------------------------------------------------------------


def banner(incident: Incident) -> list[Block]:
    mode = standing.mode(incident)
    return [kit.context(f"*{entities(mode)}*")] if mode else []


def containment(incident: Incident, head: str = "") -> list[Block]:
    cuts = [_line(cut) for cut in standing.cuts(incident)]
    return kit.listing(entities(head or standing.headline(incident)), cuts)


def left_alive(incident: Incident) -> list[Block]:
    """What of the agent's still works, whatever was cut; nothing while nobody has looked."""
    lines = reached.alive(incident)
    return kit.listing(entities(reached.alive_head(incident)), [entities(one) for one in lines]) if lines else []


def ack_button(incident: Incident) -> Block:
    if incident.acked_by:
        return kit.button("Unacknowledge", "unack", incident.id)
    return kit.button("Acknowledge", "ack", incident.id, style="primary")


def overrides(incident: Incident) -> Iterator[Block]:
    """One block a step, because action ids are unique within a block. The first five; the command line has them all."""
    for run in standing.overridable(incident)[:5]:
        step = plain(run.id, 60)
        word = "Run now" if run.status is StepStatus.DEFERRED else "Run again"
        question = f"{step} runs {plain(run.action, 60)} on {len(run.calls)} target(s), in your name."
        button = kit.button(word, "override", f"{incident.id}|{run.id}", style="danger", sure=(f"{word}?", question))
        yield kit.section(
            f"*{entities(step)}* needs the commander's word:", block_id=f"override:{run.id}"[:255], accessory=button
        )


def releases(incident: Incident) -> Iterator[Block]:
    """After a false alarm everything that is still held is offered back, one block a step."""
    if incident.status is not Status.FALSE_POSITIVE:
        return
    held = [run for run in incident.steps.values() if is_releasable(incident, run)]
    for run in held[:RELEASES]:
        step, targets = plain(run.id, 60), [call.plan.target for call in run.calls.values()]
        question = f"{step} ({plain(run.action, 60)}) is undone on {len(targets)} target(s), in your name."
        sure = ("Release?", question)
        button = kit.button("Release", "release", f"{incident.id}|{run.id}", style="danger", sure=sure)
        shown = ", ".join(code(target, 120) for target in targets[:3])
        more = f" and {len(targets) - 3} more" if len(targets) > 3 else ""
        yield kit.section(
            f"*{entities(step)}* still holds {shown}{more}", block_id=f"release:{run.id}"[:255], accessory=button
        )
    if len(held) > RELEASES:
        yield kit.context(f"and {len(held) - RELEASES} more: firedoor incident release {entities(incident.id)} STEP")


def is_releasable(incident: Incident, run: StepRun) -> bool:
    holds = run.holding and run.status is not StepStatus.RELEASING
    return holds and incident.frozen.catalogue.undoable(run.action)


# Its own --------------------------------------------------------------------------------------------------------


def _buttons(incident: Incident) -> list[Block]:
    """Only what makes sense now; who may press each is looked up when it is pressed."""
    if incident.over:
        return []
    buttons = [ack_button(incident), kit.button("Escalate", "escalate", incident.id)]
    if standing.can_contain(incident):
        book = plain(incident.frozen.playbook.id, 60) if incident.frozen.playbook else ""
        sure = ("Contain?", f"Playbook {book} runs, and you stand behind its cuts.")
        buttons.append(kit.button("Contain", "contain", incident.id, style="danger", sure=sure))
    buttons.append(kit.button("Responders", "responders", incident.id))
    if not incident.acked_by:
        buttons.append(kit.button("Silence", "silence", incident.id))
    unproved = incident.containment is not Containment.CONTAINED
    doubt = ("Resolve all the same?", standing.headline(incident)) if unproved else None
    buttons.append(kit.button("Resolve", "resolve", incident.id, sure=doubt))
    return [kit.actions(ACK_BLOCK, *buttons)]


def _others(incident: Incident) -> list[Block]:
    lines = [_line(cut) for cut in standing.others(incident)]
    return kit.listing("Other steps", lines, 8) if lines else []


def _line(cut: standing.Cut) -> str:
    what = f"\n      {code(cut.what, 200)}" if cut.what else ""
    return f"{cut.glyph} *{entities(cut.step)}*  {entities(cut.said)}{what}"


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
    if incident.audited:
        yield f"approval path: {plain(audit_text(incident.audited), 200)}"
    if linked := incident.linked:
        yield f"linked with {', '.join(plain(other, 40) for other in linked[:5])}"
    if absorbed := incident.absorbed:
        yield f"goes on here: {', '.join(plain(other, 40) for other in absorbed[:5])}"
