"""One page that tells a drill, or an incident, from its verdict down to every sentence: self-contained, no script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

from markdown_it import MarkdownIt

from bot.documents import ERASED, Document
from bot.documents.facts import Facts, Proof, facts
from bot.documents.markdown import plain
from bot.domain.events import Phase, Surveyed, TextRef
from bot.domain.incident import Incident
from bot.domain.measures import Measures, Verdict
from bot.domain.reach import Alive, Held, named, radius
from bot.domain.record import Entry
from bot.domain.timeline import Line
from bot.domain.wording import clock, listed, span

# Nothing is fetched, nothing runs, nothing is sent: whatever slipped through every escape still could not do anything.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Score:
    """One line of the score, in words: what was measured, against what, what came of it."""

    measure: str
    target: str
    result: str
    verdict: Verdict


def scores(measures: Measures) -> tuple[Score, ...]:
    """The four measures as the first lines of a score."""
    return tuple(
        Score(
            f"Time to {one.name}" + (f" ({one.note})" if one.note else ""),
            span(one.target),
            "not reached" if one.result is None else span(one.result),
            one.verdict,
        )
        for one in measures
    )


def report_html(
    incident: Incident,
    entries: Sequence[Entry],
    documents: Sequence[Document],
    score: Sequence[Score],
    slack_html: str,
    svg: str,
    read_text: Callable[[TextRef], str | None] | None = None,
) -> str:
    """`slack_html` and `svg` are markup made here and go in as they are; everything else is escaped. Without
    `read_text` the free text of the timeline is left out."""
    seen = facts(incident, entries)
    opened = incident.begun
    title = f"{incident.id}: {opened.severity.name} {opened.type.replace('_', ' ')}"
    met = sum(one.verdict is Verdict.MET for one in score)
    good = met == len(score) and incident.containment == "contained"
    sections = [
        _section("Score", _table(("Measure", "Target", "Result", "Verdict"), map(_score_row, score))),
        _section("What happened, as a picture", f'<div class="picture">{svg}</div>'),
        _section("Containment, and its proof", _proofs(seen)),
        _section("What it holds, and what is left alive", _holds(incident, entries)) if incident.reach else "",
        _section("Approvals", _approvals(seen)) if seen.approvals else "",
        _section("Pages and notices", _pages(seen)),
        _section(
            "Timeline", _table(("Time (UTC)", "", "What happened"), (_line_row(one, read_text) for one in seen.lines))
        ),
        _section("Slack as people saw it", f'<div class="slack">{slack_html}</div>') if slack_html else "",
        *(_section(f"Document: {plain(one.title)}", _document(one)) for one in documents),
    ]
    return _PAGE.format(
        policy=_POLICY,
        style=_STYLE,
        title=_safe(title),
        mode="" if opened.mode == "live" else f'<p class="mode">{_safe(opened.mode)} record: nothing in it is live</p>',
        verdict="good" if good else "bad",
        headline=_safe(_headline(seen)),
        summary=_safe(f"{met} of {len(score)} targets met. Opened {incident.start:%Y-%m-%d %H:%M:%S} UTC."),
        sections="\n".join(filter(None, sections)),
    )


def _headline(seen: Facts) -> str:
    """The verdict in one sentence."""
    incident, contain = seen.incident, seen.measures.contain
    match str(incident.containment):
        case "contained" if contain.result is not None:
            sure = "Contained and verified" if seen.verified else "Contained, in part on trust alone,"
            left = (
                f"; {len(seen.remains)} thing{'s' if len(seen.remains) > 1 else ''} left to look at"
                if seen.remains
                else ""
            )
            return f"{sure} in {span(contain.result)}{left}."
        case "partial":
            failing = listed(
                list(dict.fromkeys(proof.step for proof in seen.containing if not proof.holds)) or ["a step"]
            )
            return f"Only partly contained: {failing} did not hold."
        case "unknown":
            return "Nobody knows whether it is contained: a call may or may not have happened."
        case "running":
            return "Containment is still running."
    return "Nothing was contained." if not seen.containing else "Nothing is held any more: every hold was released."


def _section(title: str, body: str) -> str:
    return f"<section><h2>{_safe(title)}</h2>{body}</section>"


def _table(heads: Sequence[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{_safe(each)}</th>" for each in heads)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(*cells: str, kind: str = "") -> str:
    """`cells` are escaped already."""
    return f'<tr class="{kind}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _score_row(one: Score) -> str:
    sign = {Verdict.MET: "✓ met", Verdict.MISSED: "✗ missed", Verdict.OPEN: "… open"}[one.verdict]
    badge = f'<span class="badge {one.verdict}">{sign}</span>'
    return _row(_safe(one.measure), _safe(one.target), f"<b>{_safe(one.result)}</b>", badge)


def _proofs(seen: Facts) -> str:
    if not seen.containing:
        return "<p>No containing step was planned: people had to contain this by hand.</p>"
    heads = ("Step", "Target", "Required", "Grade", "What was read back", "Took")
    table = _table(heads, map(_proof_row, seen.containing))
    if not seen.remains:
        return table
    remains = "".join(f"<li>{_safe(sentence)}</li>" for sentence in seen.remains)
    return f'{table}<div class="remains"><h3>Unverified, or still alive</h3><ul>{remains}</ul></div>'


def _proof_row(proof: Proof) -> str:
    took = span(proof.settled - proof.began) if proof.settled and proof.began else ""
    grade = f'<span class="badge {"met" if proof.holds else "missed"}">{_safe(proof.result)}</span>'
    step = f'<span class="short"><code>{_safe(proof.step)}</code><br><small>{_safe(proof.action)}</small></span>'
    return _row(
        step, f"<code>{_safe(proof.target)}</code>", _short(proof.required), grade, _safe(proof.read_back), _short(took)
    )


def _holds(incident: Incident, entries: Sequence[Entry]) -> str:
    """Every look in a sentence, and by name what the last one found."""
    looks = [(entry.at, entry.event) for entry in entries if isinstance(entry.event, Surveyed)]
    who, last = incident.agent.id if incident.agent else "The agent", looks[-1][1].reach
    said = "".join(f"<li>{_short(clock(at))} {_safe(_looked(who, event))}</li>" for at, event in looks)
    table = _table(("", "What", "Whose", "How it stands"), map(_held_row, last.held)) if last.held else ""
    more = sum(last.counts.get(kind, 0) for kind in last.counts if kind != "chained-role") - len(last.held)
    notes = [f"{more} more, which are no worse, are not listed."] if more > 0 else []
    notes += [f"Not read: {why}" for why in last.unread] + list(last.limits)
    listed_notes = "".join(f"<li>{_safe(each)}</li>" for each in notes)
    return f"<ul>{said}</ul>{table}" + (f'<div class="remains"><ul>{listed_notes}</ul></div>' if notes else "")


def _looked(who: str, event: Surveyed) -> str:
    found = f"{event.reach.alive} of it alive" if event.reach.alive else "nothing of it alive that was found"
    return f"{who} {'held' if event.phase is Phase.BEFORE else 'then held'} {radius(event.reach)}; {found}."


def _held_row(held: Held) -> str:
    state, word = {
        Alive.YES: ("missed", "✗ alive"),
        Alive.UNKNOWN: ("open", "? perhaps alive"),
        Alive.NO: ("met", "✓ dead"),
    }[held.alive]
    uncut = "agents.yaml does not let it be cut" if held.chained and not held.allowed else ""
    facts = (held.why, f"got with {held.via}" if held.via else "", uncut)
    what = f"<code>{_safe(named(replace(held, why='', alive=Alive.YES)))}</code>"
    badge = f'<span class="badge {state}">{word}</span>'
    return _row(badge, what, _safe(f"{held.agent}, {held.system}"), _safe("; ".join(filter(None, facts))))


def _approvals(seen: Facts) -> str:
    rows = []
    for asked in seen.approvals:
        who = "<br>".join(
            _safe(f"{one.by} ({', '.join(one.groups)}) {'approved' if one.approved else 'refused'} at {clock(one.at)}")
            for one in asked.decisions
        )
        plan = f"<code>{_safe(asked.hash[:16])}</code>"
        rows.append(
            _row(f"<code>{_safe(asked.step)}</code>", _safe(asked.needs), _safe(asked.state), who or "nobody", plan)
        )
    return _table(("Step", "Needed", "State", "Decided by", "Plan hash"), rows)


def _pages(seen: Facts) -> str:
    if not seen.pages:
        return "<p>Nobody was paged.</p>"
    rows = []
    for page in seen.pages:
        notes = [f"late by {page.late:.0f} s"] if page.late else []
        notes += ["may repeat an earlier one"] if page.may_repeat else []
        notes += [f"did not leave: {page.failed}"] if page.failed else []
        cells = (page.person, page.way, page.about, "; ".join(notes))
        rows.append(_row(_short(clock(page.at)), *map(_safe, cells), kind="bad" if notes else ""))
    table = _table(("Time (UTC)", "Who", "Way", "What for", "Notes"), rows)
    said = f"{seen.may_repeat} of {len(seen.pages)} may repeat an earlier one: nobody knows whether that had left."
    return f"<p>{_safe(said)}</p>{table}" if seen.may_repeat else table


def _line_row(line: Line, read_text: Callable[[TextRef], str | None] | None) -> str:
    quotes = ""
    for ref in line.refs.values() if read_text else ():
        found = read_text(ref) if read_text else None
        quotes += f"<q>{_safe(ERASED if found is None else found)}</q>"
    kind = f'<span class="kind">{_safe(line.kind)}</span>'
    return _row(_short(clock(line.at)), kind, f"{_safe(line.text)}{quotes}", kind=line.severity)


def _document(document: Document) -> str:
    """CommonMark with tables; no HTML and no pictures, whatever the text says."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_block", "html_inline"])
    missing = "".join(f"<li>{_safe(each)}</li>" for each in document.missing)
    left = f"<details><summary>{len(document.missing)} left to people</summary><ul>{missing}</ul></details>"
    return f'<article class="paper">{reader.render(document.markdown)}</article>{left if missing else ""}'


def _short(value: str) -> str:
    return f'<span class="short">{_safe(value)}</span>'


def _safe(value: str) -> str:
    return escape(plain(value))


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header class="{verdict}">{mode}<h1>{title}</h1><p class="headline">{headline}</p><p>{summary}</p></header>
<main>
{sections}
</main>
</body>
</html>
"""

_STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --paper: #fff; --desk: #f3f5f8; --rule: #dfe5ec; --good: #127a4b;
  --bad: #c62f2f; --open: #a86b00; --decision: #3b5bdb; --tint: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ef; --soft: #9fb0c0; --paper: #1b2229; --desk: #12171c;
  --rule: #303b46; --good: #4cc38a; --bad: #ff7b72; --open: #e3a83b; --decision: #8ea8ff; --tint: #222b34; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--desk); color: var(--ink);
  font: 15px/1.5 Inter, "Segoe UI", Helvetica, Arial, sans-serif; }
header { padding: 36px max(24px, calc(50vw - 640px)) 28px; background: var(--paper);
  border-bottom: 1px solid var(--rule); border-top: 6px solid var(--bad); }
header.good { border-top-color: var(--good); }
header p { margin: 4px 0; color: var(--soft); }
header .headline { font-size: 19px; font-weight: 600; color: var(--bad); }
header.good .headline { color: var(--good); }
header .mode { display: inline-block; padding: 2px 10px; border: 1px solid var(--open); border-radius: 99px;
  color: var(--open); font-size: 13px; }
h1 { margin: 0 0 6px; font-size: 26px; line-height: 1.25; }
h2 { margin: 0 0 14px; font-size: 18px; }
h3 { margin: 18px 0 6px; font-size: 15px; }
main { max-width: 1328px; margin: 24px auto; padding: 0 24px; }
main > section { background: var(--paper); border: 1px solid var(--rule); border-radius: 10px;
  padding: 22px 24px; margin: 0 0 20px; }
.wide, .picture { overflow-x: auto; }
.picture svg { display: block; width: 100%; height: auto; min-width: 900px; border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: 12px; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--rule); vertical-align: top; overflow-wrap: anywhere; }
th, .short, .kind { white-space: nowrap; font-variant-numeric: tabular-nums; }
tbody tr:last-child td { border-bottom: 0; }
tr.bad td:last-child { color: var(--bad); }
tr.good td:last-child { color: var(--good); }
tr.decision td:last-child { color: var(--decision); }
code { font: 13px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
small, .kind { color: var(--soft); font-size: 12px; }
q { display: block; white-space: pre-line; margin-top: 3px; padding-left: 10px; border-left: 3px solid var(--rule);
  color: var(--ink); quotes: none; }
.badge { display: inline-block; padding: 1px 9px; border: 1px solid currentColor; border-radius: 99px; font-size: 13px;
  font-weight: 600; white-space: nowrap; color: var(--open); }
.badge.met { color: var(--good); }
.badge.missed { color: var(--bad); }
.remains { margin-top: 16px; padding: 2px 18px 10px; border-left: 4px solid var(--open); background: var(--tint); }
.paper { padding: 4px 28px 14px; background: var(--tint); border-radius: 8px; overflow-x: auto; }
.paper h1 { font-size: 21px; margin-top: 16px; }
.paper h2 { font-size: 16px; margin: 22px 0 8px; }
details { margin-top: 10px; color: var(--soft); }
@media print { body, header { background: #fff; } header { padding: 0 0 16px; }
  main { margin: 0; padding: 0; max-width: none; }
  main > section { border: 0; padding: 12px 0; break-inside: auto; } .wide, .picture, .paper { overflow: visible; }
  .picture svg { min-width: 0; } tr, .remains, svg { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""
