from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from bot.documents.drawing import Axis, Rows, width_of
from bot.documents.picture import WIDTH, timeline_svg
from bot.domain.outcome import Failed
from tests.domain.incidents import HOSTILE, START, STORIES, begin, contained, minutes, partial

SVG = "{http://www.w3.org/2000/svg}"


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def boxes(root: ElementTree.Element) -> list[tuple[str, float, float, float]]:
    """(text, left, right, baseline) of every label; as wide as a browser draws it, by a fair estimate."""
    found = []
    for one in root.iter(f"{SVG}text"):
        label, x, size = one.text or "", float(one.attrib["x"]), float(one.attrib["font-size"])
        width = len(label) * size * 0.5
        left = {"start": x, "middle": x - width / 2, "end": x - width}[one.attrib["text-anchor"]]
        found.append((label, left, left + width, float(one.attrib["y"])))
    return found


@pytest.mark.parametrize("name", STORIES)
def test_no_label_touches_another_or_leaves_the_picture(name: str) -> None:
    story = STORIES[name]()
    labels = boxes(parse(timeline_svg(story.incident, story.entries)))
    for label, left, right, _ in labels:
        assert left >= 0, label
        assert right <= WIDTH, label
    for (a, a_left, a_right, a_y), (b, b_left, b_right, b_y) in combinations(labels, 2):
        apart = a_right <= b_left or b_right <= a_left or abs(a_y - b_y) >= 10
        assert apart, f"{a!r} touches {b!r}"


@pytest.mark.parametrize("name", STORIES)
def test_it_is_self_contained_and_described(name: str) -> None:
    story = STORIES[name]()
    svg = timeline_svg(story.incident, story.entries)
    root = parse(svg)
    assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
        *("svg", "title", "desc", "g", "rect", "line", "text", "circle", "polygon", "path")
    }
    assert not re.search(r"href|url\(|@import|<script|<style|\son\w+=", svg.replace("xmlns=", ""))
    title = root.find(f"{SVG}title")
    described = root.find(f"{SVG}desc")
    assert title is not None
    assert title.text == "INC-7 · SEV1 · unintended production change"
    assert described is not None
    assert described.text
    assert root.attrib["role"] == "img"


def test_a_good_half_minute_shows_grades_measures_and_later_deadlines() -> None:
    story = contained()
    labels = [label for label, *_ in boxes(parse(timeline_svg(story.incident, story.entries)))]
    assert "verified-effect · agent:agent-7 · 1.4 s" in labels
    assert "verified-config · vault-entity:agent-7 · 6.4 s" in labels
    assert labels.count("✓ met") == 4
    assert any(label.startswith("after this picture: contained by 15 min, level 1 ack by 15 min") for label in labels)


def test_two_bad_hours_show_what_was_late_and_missed() -> None:
    story = partial()
    labels = [label for label, *_ in boxes(parse(timeline_svg(story.incident, story.entries)))]
    assert "security-1 by slack, late by 2 min 5 s, may repeat" in labels
    assert "✗ contained · ✗ level 1 ack" in labels
    assert "refused · no: infra-1" in labels
    assert labels.count("✗ missed") == 3


def test_hostile_values_are_text() -> None:
    story = begin(type=HOSTILE, agent_uid=HOSTILE).settle("shadow", Failed(False, HOSTILE + "\x00\x0b"))
    svg = timeline_svg(story.incident, story.entries)
    root = parse(svg)  # well-formed in spite of control characters
    assert "<script" not in svg
    assert all(not one.tag.endswith("script") for one in root.iter())


def test_the_axis_gives_seconds_and_hours_room() -> None:
    axis = Axis(START, START + minutes(120), 100, 300, 1200)
    xs = [axis.x(START + minutes(at)) for at in (0, 0.5, 15, 60, 120)]
    assert xs == sorted(xs)
    assert xs[0] == 300
    assert xs[-1] == 1200
    assert xs[1] - xs[0] > 150  # half a minute of two hours
    assert axis.x(START - minutes(1)) == 100
    gaps = [b[0] - a[0] for a, b in zip(axis.ticks(), axis.ticks()[1:], strict=False)]
    assert min(gaps) >= 46


def test_rows_take_what_fits() -> None:
    rows = Rows()
    assert [rows.place(0, 10), rows.place(5, 15), rows.place(11, 20), rows.place(16, 20)] == [0, 1, 0, 1]
    assert width_of("abcd", 10) > 4 * 5
