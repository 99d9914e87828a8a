"""`firedoor investigate approvals | timeline`: was a human asked, and what happened when."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.records import Records, records
from bot.commands.server import tell, with_server
from bot.commands.terminal import as_json, heading, moment, say, table
from bot.domain.deeds import CAVEATS
from bot.domain.investigation import Verdict
from bot.domain.wording import counts_text
from bot.engine.investigator import Folded, Investigation, investigate
from bot.errors import Refused
from bot.ports import Evidence

ROWS = 1000
SHORT = 16  # characters of a digest that a line shows
BAD = (Verdict.BYPASSED, Verdict.MISAPPLIED)


@contextmanager
def with_evidence(asked: Namespace) -> Iterator[tuple[Records, Evidence]]:
    from bot import wiring  # here: every client library comes with it

    with records(asked.config) as kept:
        yield kept, wiring.evidence_store(kept.config, asked.config)


def _approvals(asked: Namespace) -> int:
    if asked.record:
        said = tell(asked, f"/v1/incidents/{asked.incident}/audit")
        say(f"{said['incident']}: the audit was asked for; its result comes into the record and onto the card.")
        return Exit.OK
    found = _investigated(asked)
    if asked.json:
        as_json(found.as_json(rows=0))
    else:
        _print(found)
    return Exit.FOUND if any(one.verdict in BAD for one in found.findings) else Exit.OK


def _timeline(asked: Namespace) -> int:
    found = _investigated(asked)
    if asked.json:
        as_json(found.as_json(rows=asked.limit) | {"findings": []})
        return Exit.OK
    shown = found.deeds[-asked.limit :]
    if left := len(found.deeds) - len(shown):
        say(f"({left} earlier lines are left out: --limit)")
    table([(f"{one.at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z", one.source, one.text) for one in shown], "")
    heading("Whose clock a line goes by")
    for source in sorted({one.source for one in shown}):
        say(f"  {source}: {CAVEATS[source]}")
    _missing(found)
    return Exit.OK


def _investigated(asked: Namespace) -> Investigation:
    with with_evidence(asked) as (kept, evidence):
        entries = kept.entries(asked.incident)

        def other(stream: str) -> Folded | None:
            try:
                found = kept.entries(stream)
            except Refused:  # there is no such incident
                return None
            return kept.incident(stream, found), found

        return investigate(kept.incident(asked.incident, entries), entries, evidence, kept.config.policy, other)


def _print(found: Investigation) -> None:
    blind = found.missing and not found.findings and not found.why
    unread = f" in what could be read; {len(found.missing)} could not be, see below" if blind else ""
    say(f"{found.incident}: approval path: {found.why or counts_text(found.counts)}{unread}")
    for one in found.findings:
        heading(f"{one.verdict.upper()}  {one.action}  {moment(one.deed.at)}  {one.deed.name}")
        say(f"  {one.why}")
        if one.approval:
            say(f"  names approval {one.approval}, plan {one.plan[:12] or 'none'}")
        say(f"  seen in {one.deed.source}: {_where(found.incident, one.deed.where)}")
        for entry in one.shown_by:
            say(f"  shown by {entry.stream}/{entry.version} {entry.digest}")
    _missing(found)


def _where(incident: str, where: str) -> str:
    item, _, number = where.partition("#/")
    return f"record {number} of item {item[:SHORT]} (firedoor evidence show {incident} {item[:SHORT]})"


def _missing(found: Investigation) -> None:
    if not found.manifests:
        heading(f"{found.incident} has no evidence: only the record speaks.")
    if found.missing:
        heading("Not there to be read: nobody knows what it would have shown")
        for one in found.missing:
            say(f"  {one}")


def _lines(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ArgumentTypeError(f"{text!r} is no number of lines: 1 is the least")
    return int(text)


def _incident(parser: ArgumentParser) -> None:
    parser.add_argument("incident", metavar="INCIDENT", type=str.upper, help="its id, like INC-7")


def _approvals_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    parser.add_argument("--record", action="store_true", help="have the running server audit it, for the record")
    with_server(parser)


def _timeline_arguments(parser: ArgumentParser) -> None:
    _incident(parser)
    parser.add_argument("--limit", type=_lines, default=ROWS, metavar="N", help=f"the latest N lines (default: {ROWS})")
    with_config(parser)
    with_json(parser)


COMMANDS = (
    Command(
        "investigate approvals",
        "was each privileged action approved?",
        "Holds every privileged action that the logs show (policies/actions.yaml says which those are) against the\n"
        "approvals in the record: the right groups, distinct persons, in time, for this very plan, nobody their own\n"
        "request. Says valid, bypassed, misapplied or unknown of each, with the entries that show it.\n"
        "With --record the running server does it, as a person with a code, and keeps the result in the incident.",
        "firedoor investigate approvals INC-7",
        _approvals,
        _approvals_arguments,
    ),
    Command(
        "investigate timeline",
        "the logs and the record, merged by time",
        "Merges the agent's log, CloudTrail, Vault's audit log and the record by time. Whose clock each goes by, and\n"
        "what could not be read, stands below.",
        "firedoor investigate timeline INC-7 --json",
        _timeline,
        _timeline_arguments,
    ),
)
