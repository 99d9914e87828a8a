"""Reading incidents: `firedoor incident list | show | document | verify`, and `firedoor replay`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.records import Records, records
from bot.commands.terminal import as_json, block, heading, moment, plain, say, table
from bot.documents import CONTAINMENT, render
from bot.domain.approval import missing
from bot.domain.decisions import Page
from bot.domain.events import AlertReceived, AlertsCounted, Opened, PageFailed, PageSent, Verb
from bot.domain.handshake import MEANS, Stage
from bot.domain.incident import Incident, StepRun, is_held, next_deadline
from bot.domain.measures import pages_sent
from bot.domain.outcome import Done, Failed, Pending
from bot.domain.record import Entry
from bot.domain.recovery import particulars
from bot.domain.switch import switched
from bot.domain.timeline import narrate
from bot.domain.why import QUESTIONS
from bot.domain.why import why as answer
from bot.domain.wording import audit_text, listed, reason_text, span, topic_text
from bot.errors import RecordBroken, Refused

Json = dict[str, Any]
LINES_SHOWN, LINE_SHOWN = 200, 4000  # of what a measure of recovery does, under a heading


def list_incidents(asked: Namespace) -> int:
    with records(asked.config) as kept:
        rows = kept.tx.streams("incident", open=True if asked.open else None, limit=asked.limit)
        broken = {fault.stream: fault.why for fault in kept.tx.faults()}
    found = [{"incident": row.stream, "open": row.open, **row.summary, "next_deadline": row.next_due} for row in rows]
    found = [one | ({"broken": broken[one["incident"]]} if one["incident"] in broken else {}) for one in found]
    if asked.json:
        as_json(found)
        return Exit.OK
    for stream, why in broken.items():
        say(f"BROKEN {stream}: nothing is written to it any more. {why}")
    if not found:
        say("No incident is open." if asked.open else "There is no incident.")
        return Exit.OK
    names = ("incident", "severity", "type", "agent", "status", "containment", "acked_by", "opened_at")
    shown = [{**one, "opened_at": moment(datetime.fromisoformat(one["opened_at"]))} for one in found]
    table(
        [[name.replace("_", " ") for name in names], *([one.get(name) or "-" for name in names] for one in shown)], ""
    )
    return Exit.OK


def show(asked: Namespace) -> int:
    with records(asked.config) as kept:
        entries = kept.entries(asked.incident)
        told = standing(kept, kept.incident(asked.incident, entries), entries)
    if asked.json:
        as_json(told)
    else:
        _print(told)
    return Exit.OK


def answer_why(asked: Namespace) -> int:
    with records(asked.config) as kept:
        print(block(answer(kept.incident(asked.incident, kept.entries(asked.incident)), asked.question)))
    return Exit.OK


def document(asked: Namespace) -> int:
    with records(asked.config) as kept:
        entries = kept.entries(asked.incident)
        incident = kept.incident(asked.incident, entries)
        if asked.kind == CONTAINMENT:  # not drafted once: it says what stands now
            print(block(render(CONTAINMENT, incident, entries, kept.text, kept.templates).markdown))
            return Exit.OK
        ref = incident.documents.get(asked.kind)
        if ref is None:
            there = listed([*incident.documents]) or "none yet"
            raise Refused("no_document", f"{incident.id} has no document {asked.kind!r}. Drafted: {there}.")
        text = kept.text(ref)
    if text is None:
        raise Refused("erased", f"The {asked.kind} of {asked.incident} was erased.")
    print(block(text))
    return Exit.OK


def verify(asked: Namespace) -> int:
    """Every signature and every link of the chains; and what the store says stands is what the record folds to."""
    broken = 0
    with records(asked.config) as kept:
        rows = kept.tx.streams(limit=1_000_000, newest_first=False)
        rows = tuple(row for row in rows if asked.incident in (None, row.stream))
        if asked.incident and not rows:
            kept.entries(asked.incident)
        for row in rows:
            try:
                entries = kept.tx.read(row.stream)
                if row.kind == "incident":
                    incident = kept.incident(row.stream, entries)
                    found = (incident.version, str(incident.status), str(incident.containment))
                    says = (row.version, row.summary.get("status"), row.summary.get("containment"))
                else:
                    found, says = (kept.target(row.stream).version, "", ""), (row.version, "", "")
                if found != says:
                    raise RecordBroken(f"{row.stream}: the record folds to {found}, the store's view says {says}")
                say(f"{row.stream}: {len(entries)} entries, signatures and chain hold, the fold is what stands")
            except RecordBroken as error:
                broken += 1
                say(f"BROKEN {error}")
    say(f"{len(rows)} streams, {broken} broken.")
    return Exit.FOUND if broken else Exit.OK


def replay(asked: Namespace) -> int:
    with records(asked.config) as kept:
        entries = kept.entries(asked.incident)
        incident = kept.incident(asked.incident, entries)
        told = standing(kept, incident, entries)
    say(f"{incident.id}: {len(entries)} entries verified and folded; the last is {entries[-1].digest[:16]}.")
    as_json({name: value for name, value in told.items() if name != "timeline"})
    return Exit.OK


# How an incident stands ----------------------------------------------------------------------------------------------


def standing(kept: Records, incident: Incident, entries: tuple[Entry, ...]) -> Json:
    """As JSON will have it; times are datetimes yet. No free text but that of the timeline's notes."""
    opened, agent = incident.begun, incident.agent
    sent, may_repeat = pages_sent(entries)
    left = {entry.event.decision: entry.at for entry in entries if isinstance(entry.event, PageSent | PageFailed)}
    return {
        "incident": incident.id,
        "version": incident.version,
        "mode": opened.mode,
        "type": opened.type,
        "severity": incident.severity.name,
        "status": str(incident.status),
        "containment": str(incident.containment),
        "contained_at": incident.contained_at,
        "handshake": str(switched(incident) or ""),
        "opened_at": incident.start,
        "why": opened.why,
        "agent": opened.agent_uid,
        "agent_owner": agent.owner if agent else "",
        "declared_by": opened.declared_by,
        "acked_by": incident.acked_by,
        "acked_at": incident.acked_at,
        "next_deadline": next_deadline(incident),
        "deadlines": dict(sorted(incident.deadlines().items(), key=lambda one: one[1])),
        "steps": {run.id: _step(incident, run) for run in incident.steps.values()},
        "approvals": [
            {
                "request": approval.request,
                "step": approval.step,
                "state": str(approval.state),
                "plan": approval.hash,
                "missing": missing(approval.each, approval.given),
                "given": [person for person, _ in approval.given],
                "refused_by": approval.refused_by,
                "expires_at": approval.expires_at,
            }
            for approval in incident.approvals.values()
        ],
        "pages": [_page(state.page, state.state, left.get(id)) for id, state in incident.pages.items()],
        "pages_sent": sent,
        "pages_may_repeat": may_repeat,
        "holds": list(_holds(kept, incident)),
        "documents": sorted(incident.documents),
        "linked": list(incident.linked),
        "approval_path": audit_text(incident.audited) if incident.audited else "",
        "alerts": list(_alerts(entries)),
        "alerts_total": incident.alerts,
        "repeats": incident.repeats,
        "timeline": [
            {
                "at": line.at,
                "kind": line.kind,
                "actor": line.actor,
                "text": line.text,
                "texts": {name: _text(kept.text(ref)) for name, ref in line.refs.items()},
            }
            for line in narrate(entries)
        ],
    }


def _step(incident: Incident, run: StepRun) -> Json:
    spec = incident.spec(run.id)
    held = is_held(incident, run)
    outcomes = [call.outcome for call in run.calls.values() if call.final and call.verb is Verb.RUN]
    done = [outcome for outcome in outcomes if isinstance(outcome, Done)]
    grades = [outcome.grade for outcome in done if not outcome.nothing_held]
    complete = bool(run.calls) and len(done) == len(run.calls)
    return {
        "status": str(run.status),
        "action": run.action or (spec.call.uses if spec.call else ""),
        "contains": held,
        "required": spec.require.label if held else "",
        "grade": min(grades).label if complete and grades else "",
        "nothing_held": complete and not grades,
        "targets": [call.plan.target for call in run.calls.values()],
        "outputs": dict(run.outputs),
        "particulars": particulars(incident, run.id),
        "why": run.why or _waits_for(run),
        "settled_at": run.settled_at,
        "form": dict(spec.manual.form) if spec.manual else None,
    }


def _waits_for(run: StepRun) -> str:
    """What the calls that are not through yet were told last."""
    latest = [call.outcome for call in run.calls.values() if not call.final]
    return "; ".join(dict.fromkeys(told.why for told in latest if isinstance(told, Pending | Failed)))


def _page(page: Any, state: str, left: datetime | None) -> Json:
    """`at`: when it left, or was found not to; a notice's `due` is that of what it is about."""
    told = {"person": page.person, "way": page.way, "state": state, "at": left, "due": page.due, "key": page.key}
    if isinstance(page, Page):
        return {
            "kind": str(page.kind),
            "about": reason_text(page.reason),
            "levels": [n + 1 for n in page.levels],
            **told,
        }
    return {"kind": "notice", "about": topic_text(page.topic), "levels": [], **told}


def _holds(kept: Records, incident: Incident) -> Iterator[Json]:
    held = (run for run in incident.steps.values() if is_held(incident, run))
    for id in dict.fromkeys(call.plan.target for run in held for call in run.calls.values()):
        for control in kept.target(id).controls.values():
            yield {
                "target": id,
                "action": control.action,
                "in_force": control.in_force is not None,
                "by": sorted({claim.hold.incident for claim in control.claims}),
            }


def _alerts(entries: tuple[Entry, ...]) -> Iterator[Json]:
    """What came, and why it opened, was attached or only counted."""
    for entry in entries:
        match entry.event:
            case Opened(alert=alert, why=why) if alert:
                yield {"at": entry.at, "became": "opened", "source": alert.source, "rule": alert.rule, "why": why}
            case AlertReceived(alert=alert, why=why):
                yield {"at": entry.at, "became": "attached", "source": alert.source, "rule": alert.rule, "why": why}
            case AlertsCounted(count=count, first=first, last=last):
                why = f"the same product, rule, agent and resources, {count} times within {span(last - first)}"
                yield {"at": entry.at, "became": "counted", "source": "", "rule": "", "why": why}


def _handshake(stage: str) -> str:
    return f"{stage}: {MEANS[Stage(stage)]}" if stage else ""


def _text(text: str | None) -> str:
    return "erased" if text is None else text


def _print(told: Json) -> None:
    say(f"{told['incident']}  {told['severity']} {told['type']}  {told['status']}, containment: {told['containment']}")
    acked = f"{told['acked_by']} at {moment(told['acked_at'])}" if told["acked_by"] else "nobody"
    agent = told["agent"] + (f" (owner {told['agent_owner']})" if told["agent_owner"] else "")
    rows = [
        ("opened", f"{moment(told['opened_at'])}" + (f" by {told['declared_by']}" if told["declared_by"] else "")),
        ("why", told["why"]),
        ("agent", agent or "unknown"),
        ("acknowledged", f"by {acked}"),
        ("contained", moment(told["contained_at"]) or "not yet verified"),
        ("handshake", _handshake(told["handshake"]) or "no mode was ordered"),
        ("alerts", f"{told['alerts_total']}, and {told['repeats']} repeats"),
        ("pages", f"{told['pages_sent']} sent, {told['pages_may_repeat']} of them may repeat an earlier one"),
        ("linked", listed(told["linked"]) or "with nothing"),
        ("approval path", told["approval_path"] or "not yet audited"),
        ("documents", listed(told["documents"]) or "none yet"),
    ]
    table([*rows, *([("mode", told["mode"])] if told["mode"] != "live" else [])])
    _section("Containment", [_step_row(name, step) for name, step in told["steps"].items() if step["contains"]])
    _section("Other steps", [_step_row(name, step) for name, step in told["steps"].items() if not step["contains"]])
    _section(
        "Approvals",
        [
            (
                one["request"],
                one["step"],
                one["state"],
                _asked(one),
                f"until {moment(one['expires_at'])}",
                f"plan {one['plan']}",
            )
            for one in told["approvals"]
        ],
    )
    for name, step in told["steps"].items():
        for title, lines in step["particulars"].items():
            shown = [(plain(one)[:LINE_SHOWN],) for one in lines[:LINES_SHOWN]]
            rest = len(lines) - len(shown)
            _section(f"{name}, {title}", [*shown, *([(f"and {rest} more: --json has all",)] if rest else [])])
    _section("Deadlines", [(moment(at), name) for name, at in told["deadlines"].items()])
    _section(
        "Holds",
        [
            (one["target"], one["action"], "in force" if one["in_force"] else "not in force", f"by {listed(one['by'])}")
            for one in told["holds"]
        ],
    )
    _section(
        "Pages",
        [
            (moment(one["at"] or one["due"]), one["person"], one["way"], one["state"], one["about"])
            for one in told["pages"]
        ],
    )
    _section(
        "Alerts", [(moment(one["at"]), one["became"], one["source"], one["rule"], one["why"]) for one in told["alerts"]]
    )
    heading("Timeline")
    for line in told["timeline"]:
        say(f"  {moment(line['at'])}  {line['text']}")
        for text in line["texts"].values():
            print("\n".join(f"      | {part}" for part in block(text).splitlines()))


def _step_row(name: str, step: Json) -> tuple[str, ...]:
    proof = "nothing held" if step["nothing_held"] else step["grade"]
    if step["required"] and proof and not step["nothing_held"]:
        proof += f" (required: {step['required']})"
    return name, step["status"].replace("_", " "), step["action"], ", ".join(step["targets"]), proof, step["why"]


def _asked(approval: Json) -> str:
    lacking = [f"{count} of {group.replace('|', ' or ')}" for group, count in approval["missing"].items()]
    if approval["state"] == "open":
        return f"needs {listed(lacking)}" + (f"; given by {listed(approval['given'])}" if approval["given"] else "")
    return f"given by {listed(approval['given'])}" if approval["given"] else ""


def _section(title: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        heading(title)
        table(rows)


# Arguments -----------------------------------------------------------------------------------------------------------


def _list_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--open", action="store_true", help="only those that are not over")
    parser.add_argument("--limit", metavar="N", type=int, default=1000, help="the newest N (default: 1000)")
    with_config(parser)
    with_json(parser)


def _show_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    with_config(parser)
    with_json(parser)


def _why_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    parser.add_argument("question", metavar="QUESTION", choices=QUESTIONS, help=", ".join(QUESTIONS))
    with_config(parser)


def _document_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    parser.add_argument("kind", metavar="KIND", help="postmortem, containment, customer-initial, internal-brief")
    with_config(parser)


def _verify_arguments(parser: ArgumentParser) -> None:
    about = "only this one (default: the whole record)"
    parser.add_argument("incident", metavar="INCIDENT", nargs="?", type=str.upper, help=about)
    with_config(parser)


def _replay_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    with_config(parser)


def _incident(parser: ArgumentParser) -> None:
    parser.add_argument("incident", metavar="INCIDENT", help="its id, like INC-7", type=str.upper)


COMMANDS = (
    Command(
        "incident list",
        "list incidents, the newest first",
        "Lists incidents, the newest first. Reads the store; works while the server runs and while it is down.",
        "firedoor incident list --open",
        list_incidents,
        _list_arguments,
    ),
    Command(
        "incident show",
        "everything that is known of an incident",
        "Shows how an incident stands: each step with its proof, approvals with their ids, deadlines, holds, pages,\n"
        "why each alert was attached or counted, and the timeline. The record is verified while it is read.",
        "firedoor incident show INC-7 --json",
        show,
        _show_arguments,
    ),
    Command(
        "incident why",
        "why it is as it is",
        "Answers why alerts opened nothing (deduplicated), why people were paged, and why it is contained or not.",
        "firedoor incident why INC-7 contained",
        answer_why,
        _why_arguments,
    ),
    Command(
        "incident document",
        "print a drafted document, or how containment stands",
        "Prints the postmortem, the containment report, the first customer notice or the internal brief (Markdown).",
        "firedoor incident document INC-7 postmortem > postmortem.md",
        document,
        _document_arguments,
    ),
    Command(
        "incident verify",
        "verify signatures and chains, and fold the record again",
        "Verifies every entry's digest, signature and place in its chain, folds the record again and compares the\n"
        "result with what the store says stands. Says how many entries there are.",
        "firedoor incident verify INC-7",
        verify,
        _verify_arguments,
    ),
    Command(
        "replay",
        "fold an incident's record again and print the state",
        "Verifies an incident's record, folds it from its first entry and prints the state that comes out, as JSON.",
        "firedoor replay INC-7",
        replay,
        _replay_arguments,
    ),
)
