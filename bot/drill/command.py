"""`firedoor drill`: plays a scenario, tells it as it happens, and leaves a report."""

from __future__ import annotations

import html
import json
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bot.config import EXAMPLE, Config, load
from bot.documents import Document, ReadText, render
from bot.documents.markdown import flowing
from bot.documents.picture import timeline_svg
from bot.documents.report import report_html
from bot.domain.events import TextRef
from bot.domain.incident import Incident
from bot.domain.measures import Verdict
from bot.domain.timeline import Line
from bot.drill.rehearsal import Rehearsal
from bot.drill.scenario import Scenario, load_scenario
from bot.drill.scorecard import Scorecard, score
from bot.sandbox.chat import Posted, SimChat
from bot.slack.html import STYLE, to_html

DRILLS = EXAMPLE / "drills"
DEFAULT = "dropped-table"
PAPERS = ("postmortem", "containment", "customer-initial", "internal-brief")

Say = Callable[[str], None]
Wire = Callable[[Scenario, Config, Path, str], Rehearsal]


def drill(scenario: Path | None, out: Path, config: Path | None, say: Say, wire: Wire) -> int:
    """Exit code: 0 when every target was met, 1 when one was missed. `wire` builds the sandbox bot: only `wiring` knows
    how."""
    folder = config or EXAMPLE
    script = load_scenario(scenario or DRILLS / f"{DEFAULT}.yaml")
    say(
        f"{script.title}\nA drill in virtual time: simulated estate and Slack, the real engine, playbooks and matrix.\n"
    )
    with tempfile.TemporaryDirectory(prefix="firedoor-drill-") as scratch:
        rehearsal = wire(script, load(folder), folder, f"sqlite:///{scratch}/record.db")
        engine = rehearsal.engine
        incident = rehearsal.run(_teller(say, script, _reader(rehearsal)))
        verified = engine.store.verify(incident.id)
        result = score(incident, rehearsal.entries(), engine.replay(incident.id), rehearsal.alive(), verified)
        _write(out, rehearsal, incident, result, script)
    _print_score(result, out, say)
    return 0 if result.passed else 1


def _teller(say: Say, script: Scenario, read: ReadText) -> Callable[[Line], None]:
    def tell(line: Line) -> None:
        texts = (read(ref) for ref in line.refs.values())
        said = "".join(f" “{flowing(text)}”" for text in texts if text)
        say(f"  {_since(script.starts, line.at)}  {line.text}{said}")

    return tell


def _reader(rehearsal: Rehearsal) -> ReadText:
    def read(ref: TextRef) -> str | None:
        with rehearsal.engine.store.reading() as tx:
            data = tx.get_text(ref)
        return None if data is None else data.decode()

    return read


def _since(start: datetime, at: datetime) -> str:
    seconds = int((at - start).total_seconds())
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _write(out: Path, rehearsal: Rehearsal, incident: Incident, result: Scorecard, script: Scenario) -> None:
    out.mkdir(parents=True, exist_ok=True)
    entries = rehearsal.entries()
    engine = rehearsal.engine
    read = _reader(rehearsal)
    documents: list[Document] = []
    for kind in PAPERS:
        fresh = render(kind, incident, entries, read, engine.world.templates)
        documents.append(fresh)
        (out / f"{kind}.md").write_text(fresh.markdown, encoding="utf-8")
    picture = timeline_svg(incident, entries)
    (out / "timeline.svg").write_text(picture, encoding="utf-8")
    room = slack_page(rehearsal.chat, engine.world.channel, rehearsal.config)
    page = report_html(incident, entries, documents, result.lines, room, picture, read)
    (out / "report.html").write_text(page, encoding="utf-8")
    body = json.dumps(result.json(script.id, incident), indent=2)
    (out / "score.json").write_text(body + "\n", encoding="utf-8")


def slack_page(chat: SimChat, channel: str, config: Config) -> str:
    """The channels and every direct message, as people see them at the end."""
    names = {person.slack: person.name for person in config.people.persons.values() if person.slack}
    parts = [f"<style>{STYLE}</style>", *_room(f"#{channel}", chat.messages(channel), names)]
    for own in chat.opened.values():
        parts += _room(f"#{own.channel.name}", chat.messages(own.channel.id), names)
    for person in config.people.persons.values():
        directs = chat.directs(person.slack)
        if directs:
            parts += _room(f"Direct messages to {person.name}", directs, names)
    return "".join(parts)


def _room(title: str, messages: tuple[Posted, ...], names: dict[str, str]) -> Iterator[str]:
    yield f'<section class="room"><h3>{html.escape(title)}</h3>'
    for posted in messages:
        at = datetime.fromtimestamp(float(posted.ref.ts), UTC).strftime("%H:%M:%S UTC")
        indent = ' style="margin-left:2.5rem"' if posted.thread else ""
        edited = " (edited)" if posted.edits else ""
        yield f"<div{indent}><p><b>Firedoor</b> <small>{at}{edited}</small></p>"
        yield to_html(posted.message.blocks, posted.message.text, names)
        yield "</div>"
    yield "</section>"


def _print_score(result: Scorecard, out: Path, say: Say) -> None:
    say("\nScore")
    width = max(len(line.measure) for line in result.lines)
    for line in result.lines:
        mark = {Verdict.MET: "met   ", Verdict.MISSED: "MISSED", Verdict.OPEN: "open  "}[line.verdict]
        say(f"  {mark}  {line.measure:<{width}}  {line.result}  (target: {line.target})")
    say(f"\n{'Every target was met.' if result.passed else 'A target was missed.'}")
    for name in ("report.html", *(f"{kind}.md" for kind in PAPERS), "timeline.svg", "score.json"):
        say(f"  {out / name}")
