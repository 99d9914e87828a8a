from __future__ import annotations

import pytest

from bot.slack.html import mrkdwn
from bot.slack.mrkdwn import code, escape, line


@pytest.mark.parametrize(
    ("hostile", "never"),
    [
        ("<!channel> <!here|x> <@U1>", "<"),
        ("<https://evil.example|your bank>", "<"),
        ("https://evil.example", "https://"),
        ("HTTP://evil.example", "HTTP://"),
        ("mailto:a@evil.example", "mailto:"),
        ("see www.evil.example", "www."),
        ("@channel and @Here", "@channel"),
        ("\u202etxt.exe", "\u202e"),
        ("a\x00b\x1b[0m", "\x1b"),
    ],
)
def test_hostile_text_does_nothing(hostile: str, never: str) -> None:
    assert never not in escape(hostile)
    assert "<a " not in mrkdwn(escape(hostile))
    assert "bk-" not in mrkdwn(escape(hostile))


def test_what_is_harmless_stays_readable() -> None:
    assert escape("a < b && c > d\nnext: 10:30") == "a &lt; b &amp;&amp; c &gt; d\nnext: 10:30"
    assert escape("https://x.example/a").replace("\u2060", "") == "https://x.example/a"
    assert mrkdwn(escape("AT&T <tag>")) == "AT&amp;T &lt;tag&gt;"


def test_a_line_is_one_line_and_cut_before_it_is_escaped() -> None:
    assert line("a\n\n b\tc") == "a b c"
    assert line("&" * 10, limit=4) == "&amp;&amp;&amp;…"


def test_code_cannot_be_left() -> None:
    assert code("a` *b* `c") == "`a' *b* 'c`"
    assert code("") == "`-`"
