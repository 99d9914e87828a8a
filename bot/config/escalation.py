"""escalation.yaml: who is paged when, per incident type."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from bot.config.reading import Problems, Section, file_section
from bot.config.yaml import Node
from bot.domain.classification import UNCLASSIFIED
from bot.domain.escalation import Level, Matrix


def load_matrices(path: Path, problems: Problems) -> dict[str, Matrix]:
    """Incident type -> its matrix; one for `unclassified` is required."""
    found: dict[str, Matrix] = {}

    def read(name: str, section: Section) -> None:
        matrix = _matrix(name, section)
        for type in section.texts("types", [name]):
            if type in found:
                section.report("types", f"the type {type!r} has two matrices.")
            found[type] = matrix

    with file_section(path, problems) as top:
        top.each("matrices", "matrix", read)
        if UNCLASSIFIED not in found:
            top.report("", f"there is no matrix for {UNCLASSIFIED!r}.", "Incidents of no known type page too.")
    return found


def _matrix(name: str, section: Section) -> Matrix:
    usual = Matrix(name, "", ())
    nodes = section.elements("levels")
    levels = tuple(_level(node, section.problems) for node in nodes)
    if not levels:
        section.report("levels", f"the matrix {name!r} needs at least one level.")
    for before, level, node in zip(levels, levels[1:], nodes[1:], strict=False):
        if level.page_at < before.page_at or level.ack_by < before.ack_by:
            section.problems.add(node.where, f"the level {level.name!r} comes before the one above it.")
    return Matrix(
        id=name,
        hash=hashlib.sha256(json.dumps(section.node.plain(), sort_keys=True).encode()).hexdigest(),
        levels=levels,
        repeat_every=section.duration("repeat_every", usual.repeat_every) or usual.repeat_every,
        final_repeats=section.integer("final_repeats", usual.final_repeats, most=100),
        slow_repeat=section.duration("slow_repeat", usual.slow_repeat) or usual.slow_repeat,
    )


def _level(node: Node, problems: Problems) -> Level:
    with Section(node, problems, "a level") as section:
        level = Level(
            name=section.text("name"),
            roles=section.texts("roles"),
            page_at=section.duration("page_at"),
            ack_by=section.duration("ack_by"),
        )
        if not level.roles:
            section.report("roles", f"the level {level.name!r} names no role.")
        if level.ack_by <= level.page_at:
            section.report("ack_by", f"the level {level.name!r} must be acknowledged after it is paged.")
        return level
