"""Everything that the bot can say is on the gallery, passes Slack's validation, and shows hostile text as text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot import domain
from bot.commands.gallery import shipped
from bot.config import EXAMPLE, load
from bot.domain.approval import ApprovalState
from bot.domain.record import TextRef
from bot.sandbox.blocks import problems, view_problems
from bot.slack.blocks import SlackVoice
from bot.slack.gallery import POSTS, Piece, page, pieces
from tests.domain.incidents import PLAYBOOK as BOOK
from tests.domain.incidents import STORIES, begin

NASTY = (
    "<!channel> <@U0CTO1> <https://evil.example|your bank> https://evil.example/a *bold* _slanted_ ~gone~ `code` "
    "{{ 7 * 7 }} ${{ alert.uid }} \u202etxt.exe\u200f zero\u200bwidth @here " + "long " * 400
)
EDITED = {"card", "request"}  # posts that are edited in place, shown as card and approval
SAME = {"asked": "approval: open", "pin": ""}  # what is shown again, or nothing


def check(piece: Piece) -> None:
    if piece.view is None:
        assert problems(piece.blocks) == (), piece.name
        assert piece.text, piece.name
    else:
        assert view_problems(piece.view, str(piece.view["type"])) == (), piece.name


def test_whatever_the_rules_can_post_is_in_it() -> None:
    sources = "\n".join(path.read_text() for path in Path(domain.__path__[0]).glob("*.py"))
    known = set(re.findall(r'Post\([\w.]+, [\w.]+, f?"([a-z_]+)', sources))
    known |= set(re.findall(r'facts\.append\(f?"([a-z_]+)', sources))
    assert known - EDITED - {*SAME} <= {*POSTS}


def test_the_shipped_drills_show_every_kind() -> None:
    found = shipped()
    for piece in found:
        check(piece)
    names = {piece.name for piece in found}
    assert {f"post: {kind}" for kind in POSTS} <= names
    assert {f"approval: {state}" for state in ApprovalState} <= names
    assert {"modal: code", "approval: open, with a code", "page: escalation", "page: late, may repeat"} <= names
    made = page(found)
    assert made.count("<figure>") == len(found)
    assert "which only Slack shows" not in made
    assert "<script" not in made


@pytest.mark.parametrize("name", [*STORIES, "hostile"])
def test_hostile_text_is_shown_and_does_nothing(name: str) -> None:
    story = begin(BOOK, agent=None, agent_uid=NASTY, linked=(NASTY,)) if name == "hostile" else STORIES[name]()

    def read(_: TextRef) -> str:
        return f"{NASTY}\n\n{NASTY}"

    found = pieces(story.frozen, story.entries, SlackVoice(load(EXAMPLE).people), read)
    for piece in found:
        check(piece)
    made = page(found).partition("</style>")[2]
    mentioned = set(re.findall(r'class="bk-mention">([^<]*)<', made))
    own = {f"@{person.slack}" for person in load(EXAMPLE).people.persons.values()}
    assert mentioned <= own - {"@U0CTO1"}, "approvers who are asked, and nobody else"
    for trace in ("<a ", "bk-shout", "<b>bold</b>", "<i>slanted</i>", "<s>gone</s>", "<code>code</code>", "\u202e"):
        assert trace not in made, trace
    assert "{{ 7 * 7 }}" in made, "no template"
