"""Values made safe for Markdown. Whatever comes from an alert, a system or a person is text and nothing else."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 4000  # characters of one value in a document

_SPECIAL = re.compile(r"([\\`*_\[\]|~{}]|(?<=\{)[%#])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^\s/?#]*)", re.IGNORECASE)
_WWW = re.compile(r"\bwww\.", re.IGNORECASE)
_MENTION = re.compile(r"@(?=\w)")
_BLOCK_START = re.compile(r"^(?:([-+=#])|(\d{1,9})([.)])(?=\s|$))")


class Markdown(str):
    """Markdown on purpose: the finalizer lets it through. Every string operation on it gives a plain, escaped str."""

    __slots__ = ()


def plain(value: object) -> str:
    """One line without control, invisible or direction-changing characters."""
    visible = "".join(" " if unicodedata.category(each) in _UNSEEN else each for each in str(value))
    text = " ".join(visible.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def flowing(text: str) -> str:
    """Paragraphs on one line: a title ends before what follows it."""
    *first, last = [part for part in map(plain, re.split(r"\n\s*\n", text)) if part] or [""]
    return " ".join([*(part if part.endswith((".", "!", "?", ":", "…")) else f"{part}." for part in first), last])


_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def escape(value: object) -> str:
    """No markup, link, mention, HTML or template syntax survives; addresses are defanged as security people do."""
    text = _URL.sub(lambda found: f"{found[1]}[:]//{found[2].replace('.', '[.]')}", plain(value))
    text = _WWW.sub("www[.]", text)
    text = _SPECIAL.sub(r"\\\1", text)
    text = re.sub("[&<>]", lambda found: _ENTITIES[found[0]], text)
    text = _MENTION.sub("@\u200b", text)  # a mention filter reads rendered text: no backslash stops it
    return _BLOCK_START.sub(_inert_start, text)


def _inert_start(found: re.Match[str]) -> str:
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def code(value: object) -> Markdown:
    """An identifier in a code span; one that could break out of it is escaped text instead."""
    text = plain(value)
    if not text or not re.fullmatch(r"[\w.:/+=,-]+", text, re.ASCII) or "://" in text:
        return Markdown(escape(value))
    return Markdown(f"`{text}`")
