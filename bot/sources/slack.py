"""Alerts that a SIEM's app posts to a Slack channel, for those that can do no better.

`map` is that of the generic source, over Slack's message event (text, attachments, blocks, username, ts, ...). `text`
says what `patterns` search (a string or a list of them; without it the message's own text), and a pattern gives a field
what its first group holds:

    map:
      text: "attachments[0].text"
      rule: "attachments[0].title"
    patterns:
      severity: 'Severity: (\\w++)'
      agent: 'host=([\\w.-]++)'
      resolved: '^RESOLVED'

Without more, uid is the channel and the message's time, time is when it was posted, title its first line.
"""

from __future__ import annotations

import html
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from bot.domain.alert import Alert
from bot.domain.redaction import Json
from bot.domain.source import SourceRules
from bot.errors import BadAlert
from bot.sources import generic
from bot.sources.fields import wrong

TEXT = 4_000  # characters that patterns search: what Slack shows of a message at once
LONGEST = 200  # characters of a pattern
MOST_CHOICES = 8  # `|` and plain `?` in one pattern
USUAL: Mapping[str, str] = {
    "uid": "join('/', [channel, ts])",
    "time": "ts",
    "title": "firedoor.title",
    "message": "firedoor.text",
}
LOOKED_FOR = frozenset({*generic.TEXTS, *generic.NEEDED, "types", "actors", "resources", "resolved"})


# Whose word it is -----------------------------------------------------------------------------------------------------


def turned_away(event: Mapping[str, Any], body: Mapping[str, Any], source: SourceRules) -> str:
    """Why a message in one of the source's channels is no alert of it; '' where it is one. `body` is the whole event
    callback. Whoever may type there, or edit, or answer in a thread, cannot make one: only an app can, which Slack
    itself names."""
    app, profile = event.get("app_id"), event.get("bot_profile")
    profile = profile if isinstance(profile, Mapping) else {}
    if event.get("subtype") not in (None, "bot_message"):
        return {"message_changed": "edited", "file_share": "file"}.get(str(event["subtype"]), "other_kind")
    if event.get("edited") or event.get("hidden"):
        return "edited"
    if event.get("files"):
        return "file"
    if event.get("thread_ts"):
        return "thread_reply"
    if not event.get("bot_id"):
        return "person"
    if body.get("is_ext_shared_channel"):
        return "shared_channel"
    teams = {event.get("team"), profile.get("team_id"), body.get("team_id")} - {None, ""}
    if len(teams) > 1:
        return "other_workspace"
    named = {event["bot_id"], app, profile.get("app_id")} - {None, ""}
    if not named & {*source.apps}:
        return "other_app"
    return ""


# What it says ---------------------------------------------------------------------------------------------------------


def read(payload: Json, source: SourceRules) -> tuple[Alert, ...]:
    if not isinstance(payload, dict):
        raise wrong("slack", "a message", payload)
    where = source.field_map.get("text", "text")
    text = seen(_joined(generic.look(payload, where, source)))[:TEXT]
    found: dict[str, Json] = {"text": text, "title": text.strip().partition("\n")[0]}
    for name, pattern in source.patterns.items():
        match = _compiled(pattern).search(text)
        if match and name == "resolved":
            found["is_resolved"] = True
        elif match:
            found[f"its_{name}"] = next((group for group in match.groups() if group is not None), match.group())
    return generic.read({**payload, "firedoor": found}, replace(source, field_map=_whole_map(source)))


def problems(source: SourceRules) -> tuple[str, ...]:
    """What is wrong with a source's map and patterns, one line each."""
    found = [*generic.problems(_whole_map(source))]
    if "text" in source.field_map:
        found += generic.problems({"rule": source.field_map["text"], "time": "ts"})
    if "alerts" in source.field_map:
        found.append("alerts: a message is one alert")
    for name, pattern in source.patterns.items():
        if name not in LOOKED_FOR:
            found.append(f"{name}: no field that a pattern finds. They are: {', '.join(sorted(LOOKED_FOR))}")
        elif name in source.field_map:
            found.append(f"{name}: stands in the map and in the patterns")
        if why := fault(pattern):
            found.append(f"{name}: {why}")
    return tuple(found)


def fault(pattern: str) -> str:
    """Why a pattern is not to be used, '' where it is. Python's `re` tries every way to share a text among repeats,
    which takes years for the wrong text, and the texts here are anybody's. So a repeat takes all it can and gives
    nothing back (`\\w++`), groups are not repeated, and there are few choices: a search is then at worst the square of
    TEXT, some milliseconds."""
    if len(pattern) > LONGEST:
        return f"a pattern of more than {LONGEST} characters"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError, Warning) as error:
        return f"not a regular expression: {error}"
    before, choices = "", 0
    for token in _TOKENS.finditer(pattern):
        kind, text = token.lastgroup or "", token.group()
        choices += kind == "bar" or text == "?"
        if kind == "special":
            return f"{text!r}: look-arounds, conditions and flags but a leading (?i) are not for hostile texts"
        if kind == "back":
            return f"{text!r}: a reference to a group is not for hostile texts"
        if kind == "repeat" and before == "close" and text != "?":
            return f"{text!r} repeats a group: repeat one character or class instead, as in [\\w.-]++"
        if kind == "repeat" and text != "?" and not (_KEEPS.fullmatch(text) or _EXACT.fullmatch(text)):
            return f"{text!r} may give back what it took: write {text.rstrip('?')}+, which keeps it"
        before = kind
    return f"more than {MOST_CHOICES} choices (| and ?)" if choices > MOST_CHOICES else ""


_TOKENS = re.compile(
    r"""(?P<back>\\[1-9]|\(\?P=)
    |(?P<escape>\\.)
    |(?P<class>\[\^?+\]?+(?:\\.|[^\]\\])*+\])
    |(?P<flag>\A\(\?i\))
    |(?P<open>\((?:\?(?::|P<\w++>)|(?!\?)))
    |(?P<special>\(\?[^)]?+)
    |(?P<close>\))
    |(?P<bar>\|)
    |(?P<repeat>(?:[*+?]|\{\d++(?:,\d*+)?\}|\{,\d++\})[+?]?)
    |(?P<one>.)""",
    re.DOTALL | re.VERBOSE,
)
_KEEPS = re.compile(r".++(?<=[*+?}]\+)")
_EXACT = re.compile(r"\{\d{1,3}\}")
_LINK = re.compile(r"<([^<>|]++)(?:\|([^<>]*+))?>")


def seen(text: str) -> str:
    """Slack's markup as people see it: a link by its label, a mention by its id, `&lt;` as `<`."""
    return html.unescape(_LINK.sub(lambda found: found[2] or found[1], text))


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    if why := fault(pattern):
        raise BadAlert(f"slack: a pattern of this source is not used: {why}")
    return re.compile(pattern, re.MULTILINE)


def _whole_map(source: SourceRules) -> dict[str, str]:
    found = {name: "firedoor.is_resolved" if name == "resolved" else f"firedoor.its_{name}" for name in source.patterns}
    return {**USUAL, **{k: v for k, v in source.field_map.items() if k != "text"}, **found}


def _joined(found: Json) -> str:
    parts = found if isinstance(found, list) else [found]
    return "\n".join(part for part in parts if isinstance(part, str))
