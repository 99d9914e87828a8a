"""Slack's text markup: hostile text made harmless before it goes in."""

from __future__ import annotations

import re

# What Slack makes a link of, or a mention, without any brackets around it.
_LINK = re.compile(r"(?i)\b(?:https?|ftp|file|slack|tel):(?=//|\d)|\bmailto:|\bwww\.(?=\w)")
_MENTION = re.compile(r"@(?=(?:here|channel|everyone)\b)", re.IGNORECASE)
_WORD_JOINER = "\u2060"
# Control characters, and the marks that turn the direction of text around.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def harmless(text: str) -> str:
    """Untrusted text for a plain page or mail: no mention (`@here`), no link (addresses stay readable, cut by an
    invisible joiner), no reversed direction."""
    seen = _LINK.sub(lambda found: _cut(found.group()), _UNSEEN.sub("", text))
    return _MENTION.sub("@" + _WORD_JOINER, seen)


def entities(text: str) -> str:
    """The three characters that start Slack's own markup, escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape(text: str) -> str:
    """Untrusted text as mrkdwn that shows it and does nothing; its `*` and `_` may still look bold."""
    return entities(harmless(text))


def plain(text: str, limit: int = 200) -> str:
    """Harmless, on one line, at most `limit` characters of the original; not escaped."""
    flat = " ".join(text.split())
    return harmless(flat if len(flat) <= limit else flat[: limit - 1] + "…")


def line(text: str, limit: int = 200) -> str:
    """`plain`, escaped: for titles and names."""
    return entities(plain(text, limit))


def code(text: str, limit: int = 200) -> str:
    """Escaped in a code span, which it cannot leave."""
    inside = line(text.replace("`", "'"), limit)
    return f"`{inside or '-'}`"


def _cut(start: str) -> str:
    """`https:` or `www.` with a joiner before its last character, so that no client takes it for an address."""
    return start[:-1] + _WORD_JOINER + start[-1]
