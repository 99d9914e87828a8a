from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bot.documents import Document, render
from bot.documents.picture import timeline_svg
from bot.documents.report import report_html, scores
from bot.domain.events import NoteAdded, Surveyed, TextRef
from bot.domain.measures import measures
from bot.domain.outcome import Failed
from bot.domain.reach import Alive, Held, Reach
from tests.domain.incidents import ALERT, HOSTILE, STORIES, Story, begin, contained, partial

TEMPLATES = Path(__file__).parents[2] / "templates"
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Checks that the page is balanced, and collects its elements, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(story: Story, *documents: Document, slack: str = "<p>the card</p>", text: str | None = "text") -> str:
    incident, entries = story.incident, story.entries
    score = scores(measures(incident, entries))
    svg = timeline_svg(incident, entries)
    return report_html(incident, entries, documents, score, slack, svg, lambda _: text)


@pytest.mark.parametrize("name", STORIES)
def test_every_story_makes_a_whole_page_without_script(name: str) -> None:
    story = STORIES[name]()
    papers = [
        render(kind, story.incident, story.entries, lambda _: HOSTILE, TEMPLATES)
        for kind in ("postmortem", "internal-brief", "customer-initial")
    ]
    html = report(story, *papers)
    page = Page(html)
    assert not page.tags & {"script", "img", "iframe", "link", "a", "object", "form"}
    assert not page.attributes & {"src", "href", "srcdoc", "style", "onclick", "onerror", "onload"}
    assert "default-src 'none'" in html


def test_the_verdict_comes_first() -> None:
    assert "Contained and verified in 6.4 s." in report(contained())
    assert "4 of 4 targets met" in report(contained())
    bad = Page(report(partial())).text
    assert "Only partly contained: shadow, revoke_vault and quarantine did not hold." in bad
    assert "1 of 4 targets met" in bad
    assert "Nothing was contained." in report(STORIES["no_playbook"]())


def test_it_shows_proof_pages_and_what_was_late() -> None:
    page = Page(report(partial()))
    assert "Unverified, or still alive" in page.text
    assert "late by 125 s; may repeat an earlier one" in page.text
    assert "may repeat an earlier one: nobody knows whether that had left." in page.text
    assert "may repeat an earlier one" not in Page(report(contained())).text
    assert "refused at 12:05:35Z" in page.text
    assert "the card" in page.text


def looked(story: Story, *held: Held, unread: tuple[str, ...] = (), limits: tuple[str, ...] = ()) -> Story:
    out = story.incident.survey_out
    assert out
    return story.happen(Surveyed(out.id, out.phase, Reach.of(held, unread, limits)))


def test_it_shows_what_the_agent_holds_and_what_is_left_alive() -> None:
    key = Held("access-key", "AKIA7", "aws", "agent-7", of="agent-7", alive=Alive.YES)
    session = Held("session", "AROA:7", "aws", "agent-7", of="deploy", alive=Alive.YES, chained=True, via="AROA:1")
    before = looked(begin(), key, session)
    assert "agent-7 held 1 live session, 1 key and 0 roles (+1 chained); 2 of it alive." in Page(report(before)).text
    after = contained()
    assert "What it holds" not in report(after), "nobody has looked"
    looked(after, key)
    dead = replace(key, alive=Alive.NO, why="inactive")
    page = Page(report(looked(after, dead, session, unread=("vault: no answer",), limits=("CloudTrail is late",))))
    assert "agent-7 then held 1 live session" in page.text
    assert "session AROA:7 of deploy, chained" in page.text
    assert "got with AROA:1; agents.yaml does not let it be cut" in page.text
    assert page.text.index("✗ alive") < page.text.index("✓ dead")
    assert "Not read: vault: no answer" in page.text
    assert "CloudTrail is late" in page.text


def test_a_drill_says_that_it_is_one() -> None:
    assert "tabletop record: nothing in it is live" in report(begin(mode="tabletop"))
    assert "record: nothing in it is live" not in report(contained())


def test_hostile_values_are_text() -> None:
    story = begin(alert=replace(ALERT, rule=HOSTILE, source=HOSTILE), type=HOSTILE)
    looked(story, Held(HOSTILE, HOSTILE, HOSTILE, HOSTILE, of=HOSTILE, via=HOSTILE, why=HOSTILE), unread=(HOSTILE,))
    story.settle("shadow", Failed(False, HOSTILE)).happen(NoteAdded(HOSTILE, TextRef("note", "d")))
    page = Page(report(story, text=HOSTILE))
    assert not page.tags & {"script", "a", "img"}
    assert "<script>x</script>" in page.text


def test_a_document_cannot_bring_its_own_html_or_pictures() -> None:
    text = "# A\n\n<script>x</script>\n\n![p](https://evil.example/p.png)\n\n[x](javascript:alert(1))\n"
    page = Page(report(contained(), Document("x", "A <b>title</b>", text, ("dpo: <i>data</i>",))))
    assert not page.tags & {"script", "img", "i"}
    assert "A <b>title</b>" in page.text


def test_erased_and_unread_text() -> None:
    story = contained().happen(NoteAdded("responder-1", TextRef("note", "d")))
    assert "<q>erased</q>" in report(story, text=None)
    unread = report_html(story.incident, story.entries, (), (), "", timeline_svg(story.incident, story.entries))
    assert "<q>" not in unread
    assert "Slack as people saw it" not in unread
