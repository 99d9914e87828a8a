from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.slack.html import STYLE, mrkdwn, to_html

TAGS = {"div", "span", "h3", "hr", "br", "b", "i", "s", "code", "pre", "blockquote", "a", "button"}
TAGS |= {"select", "option", "optgroup", "input", "textarea", "fieldset", "label", "small", "p"}
ATTRIBUTES = {"class", "href", "rel", "type", "data-action-id", "data-block-id", "data-element", "data-confirm"}
ATTRIBUTES |= {"value", "name", "placeholder", "selected", "checked", "multiple", "aria-label", "role", "label"}
ATTRIBUTES |= {"data-initial", "minlength", "maxlength"}


def text(content: str, kind: str = "mrkdwn") -> dict[str, Any]:
    return {"type": kind, "text": content}


@pytest.mark.parametrize(
    ("markup", "html"),
    [
        (
            "*bold* _italic_ ~struck~ 2*3*4 snake_case_name",
            "<b>bold</b> <i>italic</i> <s>struck</s> 2*3*4 snake_case_name",
        ),
        ("*bold _both_*", "<b>bold <i>both</i></b>"),
        ("`*not bold* &lt;b&gt;`", "<code>*not bold* &lt;b&gt;</code>"),
        ("a\n```\nx *y*\n  z\n```\nb", "a<pre>x *y*\n  z</pre>b"),
        ("&gt;one\n&gt; two\nthree", "<blockquote>one<br>two</blockquote>three"),
        (">typed quote", "<blockquote>typed quote</blockquote>"),
        ("<@U1> <#C1|inc-7> <@U9>", "@lead #inc-7 @U9"),
        ("<!here> <!subteam^S1|@ops>", "@here @ops"),
        ("<!date^1767225600^{date}|1 January>", "1 January"),
        ("<javascript:alert(1)|click>", "click"),
        ("<script>", "&lt;script&gt;"),
        (":rotating_light: :unheard_of: 12:30:45", "🚨 :unheard_of: 12:30:45"),
        ('say "hi" & go', "say &quot;hi&quot; &amp; go"),
    ],
)
def test_markup(markup: str, html: str) -> None:
    made = mrkdwn(markup, {"U1": "lead"}).replace(' data-channel-id="C1"', "")
    for kind in ("mention", "shout"):
        made = made.replace(f'<span class="bk-{kind}">', "").replace("</span>", "")
    assert made == html


def test_links_are_http_or_mail() -> None:
    assert mrkdwn("<https://x.example/?a=1&amp;b=2|report>") == (
        '<a href="https://x.example/?a=1&amp;b=2" rel="noopener noreferrer nofollow">report</a>'
    )
    assert 'href="mailto:a@x.example"' in mrkdwn("<mailto:a@x.example>")


def test_a_card() -> None:
    made = to_html(
        [
            {"type": "header", "text": text("INC-7 & more", "plain_text")},
            {"type": "section", "text": text("*SEV1*"), "fields": [text("a"), text("b")]},
            {"type": "divider"},
            {
                "type": "actions",
                "block_id": 'b"1',
                "elements": [
                    {"type": "button", "text": text("Ack", "plain_text"), "action_id": "ack", "style": "primary"},
                    {"type": "button", "text": text("Open", "plain_text"), "url": "https://x.example"},
                ],
            },
            {"type": "context", "elements": [text("`sealed`"), {"type": "image", "alt_text": "a chart"}]},
            {"type": "video"},
        ],
        "fallback",
    )
    assert '<h3 class="bk-header">INC-7 &amp; more</h3>' in made
    assert 'class="bk-button bk-primary" data-action-id="ack" data-block-id="b&quot;1">Ack</button>' in made
    assert '<a class="bk-button" href="https://x.example"' in made
    assert "a chart" in made
    assert "type &#x27;video&#x27;" in made
    assert "fallback" not in made


def test_inputs_and_choices() -> None:
    options = [{"text": text("One", "plain_text"), "value": "1"}, {"text": text("Two", "plain_text"), "value": "2"}]

    def shown(element: dict[str, Any], **more: Any) -> str:
        element = {"action_id": "a", **element}
        return to_html([{"type": "input", "block_id": "b", "label": text("Why"), "element": element, **more}], "")

    said = shown({"type": "plain_text_input", "multiline": True, "max_length": 9, "initial_value": "</textarea>"})
    assert '<textarea class="bk-control" placeholder="" data-element="plain_text_input" data-action-id="a"' in said
    assert 'maxlength="9">&lt;/textarea&gt;</textarea>' in said
    assert "(optional)" not in said
    assert "(optional)" in shown({"type": "datepicker", "initial_date": "2026-01-05"}, optional=True)
    chosen = shown({"type": "static_select", "options": options, "initial_option": options[1]})
    assert '<option value="1">One</option><option value="2" selected>Two</option></select>' in chosen
    checked = shown({"type": "checkboxes", "options": options, "initial_options": options[:1]})
    assert 'value="1" checked>' in checked
    assert 'value="2">' in checked
    assert 'data-initial="U1"' in shown({"type": "users_select", "initial_user": "U1"})
    assert " multiple>" in shown({"type": "multi_users_select"})


def test_a_button_that_asks_first_says_what() -> None:
    asked = {name: text(f'{name} "it"?', "plain_text") for name in ("title", "text", "confirm", "deny")}
    button = {"type": "button", "text": text("Go", "plain_text"), "action_id": "go", "confirm": asked}
    made = to_html([{"type": "actions", "block_id": "b", "elements": [button]}], "")
    found = re.search(r'data-confirm="([^"]*)"', made)
    assert found
    assert json.loads(unescape(found[1]))["title"] == 'title "it"?'


def test_text_stands_in_for_missing_blocks() -> None:
    assert to_html([], "*plain*") == '<div class="bk"><div class="bk-text"><b>plain</b></div></div>'


def test_the_style_loads_nothing() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE


class _Reader(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES
        address = dict(attrs).get("href")
        assert address is None or address.lower().startswith(("http://", "https://", "mailto:"))


PIECES = [*"*_~`<>|&;\"'= \n:/@#!ax", "https://", "```", "&lt;", "\ue000", "0\ue001", "<https://", "<@", "|x>"]
KINDS = ("static_select", "multi_users_select", "overflow", "checkboxes", "radio_buttons", "plain_text_input")
MARKUP = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


@settings(deadline=None)
@given(MARKUP)
def test_nothing_but_our_own_tags_comes_out(content: str) -> None:
    said = text(content, "plain_text")
    option = {"text": said, "value": content, "description": said}
    blocks = [
        {"type": "section", "text": text(content), "fields": [text(content, "plain_text")]},
        {
            "type": "actions",
            "block_id": content,
            "elements": [
                {"type": "button", "text": text(content, "plain_text"), "action_id": content, "style": content},
                {"type": "button", "text": text(content, "plain_text"), "url": content},
                {"type": content},
                *({"type": kind, "action_id": content, "placeholder": said, "options": [option]} for kind in KINDS),
            ],
        },
        {
            "type": "input",
            "block_id": content,
            "label": said,
            "hint": said,
            "element": {"type": "plain_text_input", "multiline": True, "initial_value": content, "action_id": content},
        },
        {"type": "context", "elements": [text(content), {"type": "image", "alt_text": content}]},
        {"type": content},
    ]
    reader = _Reader()
    reader.feed(to_html(blocks, content, {"ax": content}))
    reader.close()
