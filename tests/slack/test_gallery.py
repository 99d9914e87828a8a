"""Everything that the bot can say is on the gallery, passes Slack's validation, and shows hostile text as text."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import CodeType, FunctionType
from typing import Any

import pytest

from bot import domain, slack
from bot.commands import gallery
from bot.config import EXAMPLE, load
from bot.domain.approval import ApprovalState
from bot.domain.events import TextRef
from bot.engine.world import Said
from bot.sandbox.blocks import problems, view_problems
from bot.slack.blocks import SlackVoice
from bot.slack.gallery import POSTS, Piece, page, pieces
from bot.slack.modals import FORMS
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


@pytest.fixture(scope="module")
def drills() -> tuple[list[Piece], set[CodeType]]:
    """The shipped gallery, and every function that was called for its pieces."""
    called: set[CodeType] = set()

    def watched(*args: Any) -> list[Piece]:
        before = sys.getprofile()
        sys.setprofile(lambda frame, what, _: called.add(frame.f_code) if what == "call" else None)
        try:
            return pieces(*args)
        finally:
            sys.setprofile(before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "pieces", watched)
        return gallery.shipped(), called


def test_every_builder_has_its_piece(drills: tuple[list[Piece], set[CodeType]]) -> None:
    """Whatever in bot/slack returns blocks, a view or a message was called for one of the pieces."""
    shown, called = drills
    assert {f"form: {verb}" for verb in FORMS} <= {piece.name for piece in shown}
    names = {f"bot.slack.{found.name}" for found in iter_modules(slack.__path__)}
    names -= {"bot.slack.html", "bot.slack.controls"}  # which only show what was built
    built = {
        f"{module.__name__}.{name}": function.__code__
        for module in map(import_module, sorted(names))
        for name, function in vars(module).items()
        if isinstance(function, FunctionType) and function.__module__ == module.__name__ and _builds(function)
    }
    assert len(built) > 30
    missing = sorted(name for name, code in built.items() if code not in called)
    assert not missing, "\n".join(missing)


def _builds(function: FunctionType) -> bool:
    """Messages, views and the blocks that they are made of; not what people say, which bears the same name."""
    returns = str(function.__annotations__.get("return"))
    return "Block" in returns or (returns == "Said" and function.__globals__.get("Said") is Said)


def test_the_shipped_drills_show_every_kind(drills: tuple[list[Piece], set[CodeType]]) -> None:
    found, _ = drills
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

    people = load(EXAMPLE).people
    found = pieces(story.frozen, story.entries, SlackVoice(people), read, people, NASTY)
    for piece in found:
        check(piece)
    made = page(found).partition("</style>")[2]
    mentioned = set(re.findall(r'class="bk-mention">([^<]*)<', made))
    own = {f"@{person.slack}" for person in people.persons.values()}
    assert mentioned <= own - {"@U0CTO1"}, "approvers who are asked, and nobody else"
    for trace in ("<a ", "bk-shout", "<b>bold</b>", "<i>slanted</i>", "<s>gone</s>", "<code>code</code>", "\u202e"):
        where = [piece.name for piece in found if trace in page([piece]).partition("</style>")[2]]
        assert where == [], (trace, where)
    assert "{{ 7 * 7 }}" in made, "no template"
