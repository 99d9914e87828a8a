"""The incident as one picture: what moved when, drawn so that both the first seconds and the second hour read.

Time runs logarithmically from the opening: containment takes seconds, people minutes, papers hours. What lies before
the opening has a column of its own; deadlines after the last event are listed, not drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from bot.documents.drawing import (
    BAND,
    GRID,
    INK,
    PAPER,
    ROW,
    SOFT,
    Axis,
    Mark,
    Rows,
    box,
    hinted,
    labelled,
    line,
    shape,
    shortened,
    svg,
    text,
    width_of,
)
from bot.documents.facts import Asked, Facts, Proof, Reached, facts
from bot.domain.events import (
    Acknowledged,
    AlertReceived,
    AlertsCounted,
    DeadlinePassed,
    DocumentDrafted,
    Overridden,
    Released,
    StatusChanged,
    Unacknowledged,
)
from bot.domain.incident import Incident
from bot.domain.measures import Measure, Verdict
from bot.domain.record import Entry
from bot.domain.wording import span, times

WIDTH = 1240
_GUTTER = 190  # lane and row names end here
_OPENING = _GUTTER + 128  # x of the opening; between them, what came before
_RIGHT = WIDTH - 40
_HEAD = 148  # px above the axis: title and measures

_GRADES = {
    "verified-effect": "#127a4b",
    "verified-config": "#2f6fb5",
    "unverified": "#a86b00",
    "failed": "#c62f2f",
    "unknown": "#7a3fb0",
    "nothing held": "#7d8a97",
}
_WAITING = "#a8b3bf"  # neither proved nor failed
_VERDICTS = {Verdict.MET: "#127a4b", Verdict.MISSED: "#c62f2f", Verdict.OPEN: "#c47f00", None: "#8894a1"}
_SIGNS = {Verdict.MET: "✓", Verdict.MISSED: "✗", Verdict.OPEN: "…", None: ""}
_STATES = {"granted": "#127a4b", "refused": "#c62f2f", "expired": "#c47f00"}
_ALERT, _PAGE, _NOTICE, _PERSON, _PAPER_MARK = "#c62f2f", "#d9480f", "#6b7885", "#127a4b", "#3b5bdb"


def timeline_svg(incident: Incident, entries: Sequence[Entry]) -> str:
    """A self-contained SVG 1240 px wide, as high as it needs to be, on paper white in any theme."""
    return _Picture(facts(incident, entries), entries).draw()


class _Picture:
    """Lanes are drawn downwards from `_y`; `_back` lies behind `_front`."""

    def __init__(self, seen: Facts, entries: Sequence[Entry]) -> None:
        self._seen, self._entries, self._incident = seen, entries, seen.incident
        start = self._incident.start
        last = max((one.at for one in seen.lines), default=start)
        shown = max(timedelta(seconds=10), (last - start) * 1.12)
        self._axis = Axis(start, start + shown, _GUTTER + 14, _OPENING, _RIGHT)
        self._y = float(_HEAD)
        self._back: list[str] = []
        self._front: list[str] = []
        self._lanes = 0

    def draw(self) -> str:
        incident = self._incident
        title = f"{incident.id} · {incident.severity.name} · {incident.type.replace('_', ' ')}"
        verdict = f"Containment: {incident.containment}. Status: {incident.status.replace('_', ' ')}."
        head = [text(24, 38, shortened(title, 90), size=20, weight=600)]
        head += [text(24, 60, f"{verdict} Opened {incident.start:%Y-%m-%d %H:%M:%S} UTC.", size=13, colour=SOFT)]
        head += [_chip(24 + 300 * number, one) for number, one in enumerate(self._seen.measures)]
        self._deadlines()
        top = self._y
        self._marks("Alert", self._alerts())
        self._steps("Containment", self._seen.containing)
        self._steps("Other steps", [one for one in self._seen.proofs if not one.contains])
        self._approvals()
        for lane in dict.fromkeys(page.lane for page in sorted(self._seen.pages, key=_lane_order)):
            pages = [page for page in self._seen.pages if page.lane == lane]
            self._marks(_LANES.get(lane, f"Pages, {lane}"), self._reached(pages))
        self._acknowledged()
        self._marks("People decide", self._decided())
        self._marks("Documents", self._documents())
        bottom = self._y
        height = bottom + 56
        told = ". ".join(one.text.rstrip(".") for one in self._seen.lines[:60])
        parts = [box(0, 0, WIDTH, height, PAPER, radius=10), *head, *self._back, *self._grid(top, bottom)]
        return svg(WIDTH, height, title, f"{verdict} {told}.", [*parts, *self._front, *_legend(bottom + 34)])

    # The frame ----------------------------------------------------------------------------------------------------

    def _grid(self, top: float, bottom: float) -> Iterator[str]:
        for x, since in self._axis.ticks():
            yield line(x, top, x, bottom, GRID)
            yield text(x, top - 8, span(since), colour=SOFT, anchor="middle")
        yield line(_OPENING, top, _OPENING, bottom, INK, width=1.5)
        if any(x < _OPENING for mark in self._alerts() for x in mark.xs):
            yield text(self._axis.before, top - 8, "before", colour=SOFT, anchor="middle")
            yield line(self._axis.before, top + 4 + ROW / 2, _OPENING, top + 4 + ROW / 2, _ALERT, width=1.5, dash="2 4")
        yield text(_OPENING, top - 8, "opened", weight=600, anchor="middle")
        for due in self._seen.deadlines:
            if due.at <= self._axis.end:
                x = self._axis.x(due.at)
                yield line(x, top, x, bottom, _VERDICTS[due.verdict], width=1.2, dash="3 4")

    def _deadlines(self) -> None:
        """Their labels stand above the axis; the ones at the same moment share one."""
        moments: dict[datetime, list[str]] = {}
        worst: dict[datetime, Verdict | None] = {}
        for due in self._seen.deadlines:
            moments.setdefault(due.at, []).append(f"{_SIGNS[due.verdict]} {due.name}".strip())
            if due.at not in worst or due.verdict is Verdict.MISSED:
                worst[due.at] = due.verdict
        rows, placed = Rows(), []
        for at in sorted(moment for moment in moments if moment <= self._axis.end):
            label = shortened(" · ".join(moments[at]), 80)
            x, width = self._axis.x(at), width_of(label) + 6
            low = min(max(x - width / 2, _GUTTER), WIDTH - 8 - width)
            placed.append((rows.place(low, low + width + 8), low + width / 2, label, _VERDICTS[worst[at]]))
        later = [
            f"{due.name} by {span(due.at - self._axis.start)}"
            for due in self._seen.deadlines
            if due.at > self._axis.end
        ]
        self._front.append(text(24, self._y + 12, "Deadlines", size=12, weight=600))
        for row, x, label, colour in placed:
            self._front.append(text(x, self._y + 12 + row * 17, label, colour=colour, anchor="middle"))
        self._y += 17 * len(rows.taken)
        if later:
            said = shortened(f"after this picture: {', '.join(later)}", 168)
            self._front.append(text(_GUTTER, self._y + 12, said, colour=SOFT))
            self._y += 17
        self._y += 34

    def _lane(self, name: str, height: float) -> None:
        if self._lanes % 2 == 0:
            self._back.append(box(0, self._y, WIDTH, height, BAND))
        self._back.append(text(24, self._y + 20, name, size=12, weight=600))
        self._lanes += 1
        self._y += height

    def _marks(self, name: str, marks: Sequence[Mark]) -> None:
        if not marks:
            return
        drawn, rows = labelled(marks, self._y + 4, _GUTTER, WIDTH - 8)
        self._front += drawn
        self._lane(name, rows * ROW + 8)

    def _bars(self, name: str, bars: Sequence[tuple[str, str]]) -> None:
        """(row name, drawn bar), each on its own row."""
        if not bars:
            return
        top = self._y
        for number, (row, drawn) in enumerate(bars):
            y = top + 26 + number * ROW
            self._front += [text(36, y + 16, shortened(row, 23), colour=SOFT), drawn]
        self._lane(name, 26 + len(bars) * ROW + 6)

    def _bar_y(self, number: int) -> float:
        return self._y + 26 + number * ROW + 5

    def _bar(
        self,
        number: int,
        since: datetime,
        until: datetime | None,
        label: str,
        colour: str,
        hint: str,
        ticks: Iterable[datetime] = (),
    ) -> str:
        y, x1 = self._bar_y(number), self._axis.x(since)
        x2 = max(x1 + 6, self._axis.x(until) if until else _RIGHT)
        parts = [box(x1, y, x2 - x1, 14, colour, radius=3, opacity=1 if until else 0.45)]
        inside = [x for x in map(self._axis.x, ticks) if x1 + 3 < x < x2 - 3]
        parts += [line(x, y + 3, x, y + 11, PAPER, width=1.6) for x in inside]
        return hinted([*parts, *_beside(label, x1, x2, y, bool(until))], hint)

    # The lanes ----------------------------------------------------------------------------------------------------

    def _alerts(self) -> list[Mark]:
        incident, marks = self._incident, []
        if incident.alert is None:
            who = incident.begun.declared_by or "a person"
            marks.append(Mark((_OPENING,), f"declared by {who}", _ALERT, "diamond"))
        else:
            alert, delay = incident.alert, incident.start - incident.alert.time
            xs = (self._axis.x(alert.time), _OPENING) if delay > timedelta(0) else (_OPENING,)
            label = f"{alert.rule or alert.product} by {alert.source}, {span(delay)} before the opening"
            marks.append(Mark(xs, label, _ALERT))
        repeats = tuple(self._axis.x(e.at) for e in self._entries if isinstance(e.event, AlertsCounted))
        if repeats:
            marks.append(Mark(repeats, f"repeated {times(incident.repeats)}", _NOTICE, "ring"))
        for entry in self._entries:
            if isinstance(entry.event, AlertReceived):
                alert = entry.event.alert
                marks.append(
                    Mark((self._axis.x(entry.at),), f"{alert.rule or alert.product} by {alert.source}", _ALERT)
                )
        return marks

    def _steps(self, name: str, proofs: Sequence[Proof]) -> None:
        bars = []
        for number, proof in enumerate(proofs):
            colour = _GRADES.get(proof.result, _WAITING)
            took = f" · {span(proof.settled - proof.began)}" if proof.settled and proof.began else ""
            target = f" · {shortened(proof.target, 44)}" if proof.target else ""
            label = f"{proof.result}{target}{took}"
            hint = f"{proof.step} ({proof.action}): {label}. {proof.read_back}"
            if proof.began:
                drawn = self._bar(number, proof.began, proof.settled, label, colour, hint, proof.answers)
            else:
                x, y = self._axis.x(proof.settled or self._axis.start), self._bar_y(number)
                drawn = hinted([shape("ring", x, y + 7, colour), *_beside(label, x - 4, x + 4, y)], hint)
            bars.append((proof.step, drawn))
        self._bars(name, bars)

    def _approvals(self) -> None:
        bars = []
        for number, asked in enumerate(self._seen.approvals):
            colour = _STATES.get(asked.state, _WAITING)
            label = _approval_label(asked)
            ticks = [one.at for one in asked.decisions]
            closed = asked.closed_at
            bars.append((asked.step, self._bar(number, asked.asked_at, closed, label, colour, label, ticks)))
        self._bars("Approvals", bars)

    def _reached(self, pages: Sequence[Reached]) -> list[Mark]:
        """One mark a person, way and fate; its label counts."""
        together: dict[tuple[str, str, bool], list[Reached]] = {}
        for page in pages:
            together.setdefault((page.person, page.way, bool(page.failed)), []).append(page)
        marks = []
        for (person, way, failed), all_of in together.items():
            count = f" ×{len(all_of)}" if len(all_of) > 1 else ""
            late = max(page.late for page in all_of)
            notes = [f"late by {span(timedelta(seconds=late))}"] if late else []
            notes += ["may repeat"] if any(page.may_repeat for page in all_of) else []
            notes += ["did not leave"] if failed else []
            label = ", ".join((f"{person} by {way}{count}", *notes))
            is_notice = all_of[0].lane == "notice"
            kind = "cross" if failed else "ring" if is_notice else "dot"
            colour = _ALERT if failed else _NOTICE if is_notice else _PAGE
            hint = f"{label}: {'; '.join(dict.fromkeys(page.about for page in all_of))}"
            marks.append(Mark(tuple(self._axis.x(page.at) for page in all_of), label, colour, kind, hint))
        return marks

    def _acknowledged(self) -> None:
        """Who had it, from when to when."""
        periods: list[tuple[datetime, datetime | None, str]] = []
        for entry in self._entries:
            match entry.event:
                case Acknowledged(by=by):
                    periods.append((entry.at, None, by))
                case Unacknowledged() | DeadlinePassed(name="ack"):
                    if periods:
                        periods[-1] = (periods[-1][0], entry.at, periods[-1][2])
        over = self._incident.resolved_at
        bars = []
        for number, (since, until, by) in enumerate(periods):
            label = f"acknowledged after {span(since - self._axis.start)}"
            bars.append((by, self._bar(number, since, until or over, label, _PERSON, f"{by} {label}")))
        self._bars("Acknowledged", bars)

    def _decided(self) -> list[Mark]:
        marks = []
        for entry in self._entries:
            match entry.event:
                case StatusChanged(status=status, by=by):
                    label = f"{status.replace('_', ' ')}, {by}"
                case Overridden(step=step, by=by, accept=accept):
                    label = f"{'accepted' if accept else 'overrode'} {step}, {by}"
                case Released(step=step, by=by):
                    label = f"released {step}, {by}"
                case _:
                    continue
            marks.append(Mark((self._axis.x(entry.at),), label, _PERSON, "diamond"))
        return marks

    def _documents(self) -> list[Mark]:
        drafted = [(e.at, e.event.kind) for e in self._entries if isinstance(e.event, DocumentDrafted)]
        kinds: dict[datetime, list[str]] = {}
        for at, kind in drafted:
            kinds.setdefault(at, []).append(kind)
        return [
            Mark((self._axis.x(at),), f"{', '.join(names)} drafted", _PAPER_MARK, "diamond")
            for at, names in kinds.items()
        ]


_LANES = {"containment": "Pages, not contained", "failure": "Pages, needs a person", "notice": "Notices"}


def _lane_order(page: Reached) -> tuple[int, str]:
    return (list(_LANES).index(page.lane) + 1 if page.lane in _LANES else 0, page.lane)


def _approval_label(asked: Asked) -> str:
    yes = [one.by for one in asked.decisions if one.approved]
    no = [one.by for one in asked.decisions if not one.approved]
    who = "; ".join(filter(None, (f"yes: {', '.join(yes)}" if yes else "", f"no: {', '.join(no)}" if no else "")))
    return f"{asked.state} · {who or f'asked: {asked.needs}'}"


def _beside(label: str, x1: float, x2: float, y: float, solid: bool = True) -> list[str]:
    """A bar's label: after it, before it, or on it, wherever there is room."""
    width = width_of(label)
    if x2 + 8 + width <= WIDTH - 8:
        return [text(x2 + 8, y + 11, label, halo=True)]
    if x1 - 8 - width >= _GUTTER:
        return [text(x1 - 8, y + 11, label, anchor="end", halo=True)]
    fits = shortened(label, max(6, int((x2 - x1 - 12) / width_of("x"))))
    return [text(x1 + 8, y + 11, fits, colour=PAPER if solid else INK, weight=600)]


def _chip(x: float, measure: Measure) -> str:
    """One measure at the head: what it was, and what it should be."""
    colour = _VERDICTS[measure.verdict]
    result = "not reached" if measure.result is None else span(measure.result)
    shapes = [
        box(x, 78, 284, 50, BAND, radius=6),
        box(x, 78, 5, 50, colour, radius=2),
        text(x + 18, 97, f"time to {measure.name}", colour=SOFT),
        text(x + 18, 118, result, size=16, weight=600),
        text(x + 270, 97, f"{_SIGNS[measure.verdict]} {measure.verdict}", colour=colour, weight=600, anchor="end"),
        text(x + 270, 117, f"target {span(measure.target)}", colour=SOFT, anchor="end"),
    ]
    return hinted(shapes, measure.note)


def _legend(y: float) -> Iterator[str]:
    x = 24.0
    for name, colour in {**_GRADES, "waiting or not done": _WAITING}.items():
        yield box(x, y - 9, 12, 10, colour, radius=2)
        yield text(x + 17, y, name, colour=SOFT)
        x += 34 + width_of(name)
    for kind, name, colour in (("dot", "page", _PAGE), ("ring", "notice", _NOTICE), ("cross", "did not leave", _ALERT)):
        yield shape(kind, x + 5, y - 4, colour)
        yield text(x + 16, y, name, colour=SOFT)
        x += 34 + width_of(name)
    yield text(WIDTH - 24, y, "time since the opening, logarithmic", colour=SOFT, anchor="end")
