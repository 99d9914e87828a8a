"""A little SVG: a logarithmic time axis, shapes, and labels that make room for one another. Every text is escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from bot.documents.markdown import plain

INK, SOFT, GRID, BAND, PAPER = "#1f2933", "#52606d", "#dfe5ec", "#f6f8fa", "#ffffff"
FONT = "Inter, 'Segoe UI', Helvetica, Arial, sans-serif"
ROW = 24  # px, height of a row of marks or of one bar
_LETTER = 0.56  # of the font size: average width; a little generous, so that labels never touch
_LINEAR = 10.0  # seconds from the opening that are drawn nearly linearly
_TICKS = (
    1,
    2,
    5,
    10,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    14_400,
    28_800,
    43_200,
    86_400,
    172_800,
    604_800,
)
_TICK_GAP = 46  # px between two tick labels at least


@dataclass(frozen=True, slots=True)
class Axis:
    """Time to x: `left` is the opening, `right` is `end`, `before` the one place of everything earlier (px)."""

    start: datetime
    end: datetime
    before: float
    left: float
    right: float

    def x(self, moment: datetime) -> float:
        seconds = (moment - self.start).total_seconds()
        if seconds < 0:
            return self.before
        whole = math.log1p((self.end - self.start).total_seconds() / _LINEAR)
        return self.left + (self.right - self.left) * min(1.0, math.log1p(seconds / _LINEAR) / whole)

    def ticks(self) -> tuple[tuple[float, timedelta], ...]:
        """Round times that have room, the later ones first served: they are what targets are measured in."""
        found: list[tuple[float, timedelta]] = []
        for seconds in reversed(_TICKS):
            since = timedelta(seconds=seconds)
            x = self.x(self.start + since)
            inside = self.start + since <= self.end and x > self.left + _TICK_GAP
            if inside and (not found or found[-1][0] - x >= _TICK_GAP):
                found.append((x, since))
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at these x, told by one label. `shape`: dot | ring | diamond | cross | bar."""

    xs: tuple[float, ...]
    label: str
    colour: str
    shape: str = "dot"
    hint: str = ""


@dataclass(slots=True)
class Rows:
    """Puts spans side by side into as few rows as hold them without touching."""

    taken: list[list[tuple[float, float]]] = field(default_factory=list)

    def place(self, low: float, high: float) -> int:
        for number, row in enumerate(self.taken):
            if all(high < other_low or low > other_high for other_low, other_high in row):
                row.append((low, high))
                return number
        self.taken.append([(low, high)])
        return len(self.taken) - 1


def width_of(label: str, size: float = 11) -> float:
    return len(label) * size * _LETTER


def shortened(label: str, most: int) -> str:
    text = plain(label)
    return text if len(text) <= most else text[: most - 1] + "…"


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: float = 11,
    colour: str = INK,
    weight: int = 400,
    anchor: str = "start",
    halo: bool = False,
) -> str:
    """`halo` keeps lines behind a label from running through its letters."""
    edge = f' stroke="{PAPER}" stroke-width="3.5" stroke-linejoin="round" paint-order="stroke"' if halo else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" font-weight="{weight}" '
        f'text-anchor="{anchor}"{edge}>{escape(plain(content))}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: float = 1, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width}"{dashed}/>'


def box(x: float, y: float, width: float, height: float, colour: str, *, radius: float = 0, opacity: float = 1) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{max(0, width):.1f}" height="{height:.1f}" rx="{radius}"'
    return f'<rect {place} fill="{colour}" fill-opacity="{opacity}"/>'


def hinted(shapes: Iterable[str], hint: str) -> str:
    """Shapes with a text that a pointer resting on them shows, and a screen reader reads."""
    told = f"<title>{escape(plain(hint))}</title>" if hint else ""
    return f"<g>{told}{''.join(shapes)}</g>"


def shape(kind: str, x: float, y: float, colour: str) -> str:
    place = f'cx="{x:.1f}" cy="{y:.1f}"'
    match kind:
        case "ring":
            return f'<circle {place} r="4" fill="{PAPER}" stroke="{colour}" stroke-width="2"/>'
        case "diamond":
            points = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
            return f'<polygon points="{points}" fill="{colour}"/>'
        case "cross":
            path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
            return f'<path d="{path}" stroke="{colour}" stroke-width="2.4" fill="none" stroke-linecap="round"/>'
    return f'<circle {place} r="4.5" fill="{colour}"/>'


def labelled(marks: Sequence[Mark], y: float, low: float, high: float) -> tuple[list[str], int]:
    """Marks from the row at `y` downwards, inside `low`..`high`: what is drawn, and how many rows it took."""
    rows, drawn = Rows(), []
    for mark in marks:
        label = shortened(mark.label, 90)
        x, anchor, taken = _room(sorted(mark.xs), width_of(label), low, high)
        if anchor == "none":  # on neither side and in no gap: what fits
            label, anchor = shortened(label, max(4, int((high - x) / width_of("x")))), "start"
        at = y + rows.place(*taken) * ROW + ROW / 2
        shapes = [shape(mark.shape, each, at, mark.colour) for each in mark.xs]
        drawn.append(hinted([*shapes, text(x, at + 4, label, anchor=anchor, halo=True)], mark.hint or mark.label))
    return drawn, len(rows.taken)


def _room(xs: Sequence[float], width: float, low: float, high: float) -> tuple[float, str, tuple[float, float]]:
    """Where a label goes: in the first gap that holds it, after the last mark, or before the first. Also the span that
    marks and label take together."""
    first, last = xs[0], xs[-1]
    for mark, following in pairwise(xs):
        if mark + 20 + width <= following:
            return mark + 10, "start", (first - 8, last + 8)
    if last + 10 + width <= high:
        return last + 10, "start", (first - 8, last + 14 + width)
    if first - 10 - width >= low:
        return first - 10, "end", (first - 14 - width, last + 8)
    return last + 10, "none", (first - 8, high)


def svg(width: float, height: float, title: str, described: str, parts: Iterable[str]) -> str:
    """The document: no address, no script, no style sheet of anybody else."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="picture-title picture-desc" '
            f"font-family={quoteattr(FONT)}>",
            f'<title id="picture-title">{escape(plain(title))}</title>',
            f'<desc id="picture-desc">{escape(plain(described))}</desc>',
            *parts,
            "</svg>",
        )
    )
