"""Slack's text markup: hostile text made harmless before it goes in."""

from __future__ import annotations

import re

# What Slack makes a link of, or a mention, without any brackets around it.
_LINK = re.compile(r"(?i)\b(?:https?|ftp|file|slack|tel):(?=//|\d)|\bmailto:|\bwww\.(?=\w)")
_MENTION = re.compile(r"@(?=(?:here|channel|everyone)\b)", re.IGNORECASE)
_WORD_JOINER = "\u2060"
# What Slack would show bold, slanted or struck: its marks become look-alikes, so that the text still reads the same.
_FORMAT = re.compile(r"(?<!\w)([*_~`])(?=\S)([^\n]*?\S)\1(?!\w)")
_LOOKS = {"*": "\u2217", "_": "\u02cd", "~": "\u223c", "`": "'"}
# Control characters, and the marks that turn the direction of text around.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def harmless(text: str) -> str:
    """Untrusted text for a plain page or mail: no mention (`@here`), no link (addresses stay readable, cut by an
    invisible joiner), no reversed direction, nothing bold or slanted."""
    return _unformatted(_inert(text))


def visible(text: str) -> str:
    """Without control characters and turned direction, and otherwise as it was: for text that people go on editing."""
    return _UNSEEN.sub("", text)


def entities(text: str) -> str:
    """The three characters that start Slack's own markup, escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def escape(text: str) -> str:
    """Untrusted text as mrkdwn that shows it and does nothing."""
    return entities(harmless(text))


def plain(text: str, limit: int = 200) -> str:
    """Harmless, on one line, at most `limit` characters of the original; not escaped."""
    return harmless(_flat(text, limit))


def line(text: str, limit: int = 200) -> str:
    """`plain`, escaped: for titles and names."""
    return entities(plain(text, limit))


def code(text: str, limit: int = 200) -> str:
    """Escaped in a code span, which it cannot leave."""
    inside = entities(_inert(_flat(text.replace("`", "'"), limit)))  # marks mean nothing in there
    return f"`{inside or '-'}`"


def _flat(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _inert(text: str) -> str:
    seen = _LINK.sub(lambda found: _cut(found.group()), visible(text))
    return _MENTION.sub("@" + _WORD_JOINER, seen)


def _unformatted(text: str) -> str:
    changed = 1
    while changed:
        text, changed = _FORMAT.subn(lambda found: _LOOKS[found[1]] + found[2] + _LOOKS[found[1]], text)
    return text


def _cut(start: str) -> str:
    """`https:` or `www.` with a joiner before its last character, so that no client takes it for an address."""
    return start[:-1] + _WORD_JOINER + start[-1]
