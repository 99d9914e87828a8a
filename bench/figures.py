"""What a measurement comes to: percentiles, ratios to the floor, and whether the target was met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """Of `n` durations, in milliseconds."""

    n: int
    p50: float
    p99: float
    worst: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Raises ValueError for no durations at all: a measurement that saw nothing measured nothing."""
        if not seconds:
            raise ValueError("nothing was measured")
        ordered = sorted(seconds)

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 3)

        return cls(len(ordered), at(0.5), at(0.99), at(1.0))

    def __str__(self) -> str:
        return f"{self.p50:.1f} / {self.p99:.1f} ms"


@dataclass(frozen=True, slots=True)
class Target:
    """A figure, the most (or, with `at_least`, the least) it may be, and in what."""

    what: str
    figure: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        words = f"{self.what} {self.figure:,.1f} {self.unit}, {sign} {self.limit:,.1f}"
        if self.met:
            return f"met: {words}"
        over = self.limit / max(self.figure, 1e-9) if self.at_least else self.figure / max(self.limit, 1e-9)
        return f"MISSED {over:.1f} x: {words}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `ratio` is ours by the floor's: of times the more, of rates the less is the worse."""

    measure: str
    ours: str
    floor: str
    ratio: float | None
    targets: tuple[Target, ...] = ()
    note: str = ""

    @property
    def met(self) -> bool:
        return all(target.met for target in self.targets)


def table(rows: Sequence[Row]) -> str:
    lines = [("measure", "ours p50 / p99", "floor p50 / p99", "ratio", "target")]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.1f} x"
        verdicts = [str(target) for target in row.targets] or [row.note or "-"]
        lines.append((row.measure, row.ours, row.floor, ratio, verdicts[0]))
        lines += [("", "", "", "", verdict) for verdict in verdicts[1:]]
    widths = [max(len(line[n]) for line in lines) for n in range(5)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)
