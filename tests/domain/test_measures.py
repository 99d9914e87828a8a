from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.domain.decisions import Notify
from bot.domain.events import PageFailed
from bot.domain.measures import Verdict, measures, pages_sent
from bot.domain.wording import span
from tests.domain.incidents import ALERT, ROSTER, START, Story, approved, begin, contained, declared, minutes, partial


def verdicts(story: Story) -> dict[str, str]:
    return {one.name: str(one.verdict) for one in measures(story.incident, story.entries)}


def test_a_good_incident_meets_every_target() -> None:
    story = contained()
    found = measures(story.incident, story.entries)
    assert [one.result for one in found] == [
        timedelta(seconds=40),
        timedelta(seconds=6.4),
        timedelta(seconds=26.4),
        timedelta(0),
    ]
    assert set(verdicts(story).values()) == {"met"}
    assert [one.target for one in found] == [minutes(5), minutes(15), minutes(15), minutes(60)]


def test_a_bad_one_misses_and_says_who_was_not_told() -> None:
    story = partial()
    assert verdicts(story) == {"detect": "met", "contain": "missed", "acknowledge": "missed", "notify": "missed"}
    found = measures(story.incident, story.entries)
    assert found.notify.note == "nobody is on call for cto"
    assert found.contain.note == "containment is partial"
    assert found.acknowledge.result == minutes(34) + timedelta(seconds=35)


def test_what_still_has_time_is_open_until_its_deadline() -> None:
    story = approved()
    assert verdicts(story)["acknowledge"] == "open"
    at = START + minutes(15)
    assert measures(story.incident, story.entries, at - timedelta(seconds=1)).acknowledge.verdict is Verdict.OPEN
    assert measures(story.incident, story.entries, at).acknowledge.verdict is Verdict.MISSED


def test_a_declared_incident_has_nothing_to_detect() -> None:
    story = declared()
    detect = measures(story.incident, story.entries).detect
    assert (detect.result, detect.verdict) == (None, Verdict.OPEN)
    assert "declared by a person" in detect.note


def test_a_slow_source_misses_and_a_fast_clock_is_named() -> None:
    slow = begin(alert=replace(ALERT, time=START - minutes(6)))
    assert verdicts(slow)["detect"] == "missed"
    ahead = begin(alert=replace(ALERT, time=START + minutes(1)))
    assert measures(ahead.incident, ahead.entries).detect.note == "the source's clock is ahead of ours"


def test_everybody_told_means_everybody_by_whatever_way() -> None:
    roster = {**ROSTER, "cto": (replace(ROSTER["cto"][0], ways=("email", "slack")),)}
    held = {"answers": lambda page: not (isinstance(page, Notify) and page.person == "cto-1")}
    story = begin(story=held, roster=roster)
    assert measures(story.incident, story.entries).notify.note == "not told yet: cto-1"
    story.wait(minutes(2))
    email = story.pages()[0]
    story.queued.remove(email)
    story.happen(PageFailed(email.id, email.key, "cto-1", "email", "mailbox full"))
    story.wait(minutes(1)).send(story.pages()[0])
    assert measures(story.incident, story.entries).notify.result == minutes(3)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.12, "120 ms"),
        (1.4, "1.4 s"),
        (40, "40 s"),
        (252, "4 min 12 s"),
        (900, "15 min"),
        (7500, "2 h 5 min"),
        (263_000, "3 d 1 h"),
        (-40, "-40 s"),
    ],
)
def test_lengths_of_time_in_words(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_pages_that_may_repeat_an_earlier_one_are_counted() -> None:
    assert pages_sent(partial().entries) == (59, 2)  # security-1: for containment, and of the matrix
    assert pages_sent(approved().entries)[1] == 0
