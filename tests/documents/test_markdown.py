from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from bot.documents.markdown import LONGEST, Markdown, code, escape, plain
from tests.domain.incidents import HOSTILE

# A reader as trusting as they come: HTML goes through, tables are on.
TRUSTING = MarkdownIt("commonmark", {"html": True}).enable("table")

ATTACKS = [
    HOSTILE,
    "[click](https://evil.example)",
    "![img](https://evil.example/pixel.png)",
    "<https://evil.example>",
    "<img src=x onerror=alert(1)>",
    "<!-- hidden",
    "[ref]: https://evil.example",
    "# heading",
    "> quote",
    "- item",
    "+ item",
    "1. item",
    "1) item",
    "---",
    "===",
    "```\nfence",
    "~~~\nfence",
    "`code`",
    "**bold** __bold__ *it* _it_",
    "a | b | c",
    "line\n\n# second block",
    "&lt;script&gt; &#60;b&#62;",
    "\\[click\\](https://evil.example)",
    "\\",
    "trailing \\",
    "    indented code",
    "a  \nhard break",
    "\u202etxt.exe",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_stays_one_plain_paragraph(attack: str) -> None:
    html = TRUSTING.render(escape(attack))
    assert html.startswith("<p>")
    assert html.count("<") == 2, html  # <p> and </p>: no other element at all


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_stays_in_its_cell(attack: str) -> None:
    html = TRUSTING.render(f"| a | b |\n|---|---|\n| {escape(attack)} | end |\n")
    assert html.count("<td>") == 2
    assert "<td>end</td>" in html


@pytest.mark.parametrize("attack", ATTACKS)
def test_code_is_a_code_span_or_plain_text(attack: str) -> None:
    html = TRUSTING.render(f"see {code(attack)} end")
    assert "<a" not in html
    assert "<img" not in html
    assert html.count("<code>") <= 1


def test_mentions_templates_and_addresses_are_dead() -> None:
    text = escape("@here <@U1> {{ 7*7 }} {% x %} https://evil.example/a www.evil.example ftp://a.b")
    assert "@here" not in text
    assert "<@" not in text
    assert "{{" not in text
    assert "{%" not in text
    assert "://" not in text
    assert "www." not in text


def test_what_is_harmless_stays_readable() -> None:
    plain_words = "Vault refused 3 leases at 12:00, see arn:aws:iam::1:role/x (1.2.0); agent-7!"
    assert escape(plain_words) == plain_words
    assert escape("1.2.0") == "1.2.0"
    assert code("vault-entity:e-7") == "`vault-entity:e-7`"


def test_values_are_one_visible_line_of_bounded_length() -> None:
    assert plain("a\r\n\tb\u200b\u202e\x00c") == "a b c"
    assert len(plain("x" * 10_000)) == LONGEST


def test_only_markdown_itself_is_trusted() -> None:
    assert type(Markdown("**a**") + "b") is str
    assert type(Markdown("**a**").upper()) is str
