"""What people type after `/inc`, read into what they mean. Pure: any text is read, none raises.

/inc ack                        in an incident's channel
/inc sev INC-7 1                elsewhere, with the incident's id
/inc role                       without the rest: a modal asks for it
/inc task "Rotate the key" @infra-owner-1 30m
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bot.domain.alert import Sev
from bot.domain.conversation import SILENCE_AT_MOST
from bot.domain.events import Status
from bot.slack.mrkdwn import plain
from bot.slack.said import (
    Decide,
    Look,
    Merge,
    New,
    NewTask,
    Note,
    Plain,
    Release,
    Said,
    SetSeverity,
    SetStatus,
    Silence,
    Summon,
    TakeRole,
    TaskChange,
    Update,
)

TEXT_MAX = 3000  # characters of a command that are read
MINUTES_MAX = 7 * 24 * 60
MINUTE = timedelta(minutes=1)
# What people can set it to: an incident is open by itself, and merged by /inc merge.
SPOKEN = tuple(status for status in Status if status not in (Status.OPEN, Status.MERGED))
QUESTIONS: Mapping[str, str] = {
    "deduplicated": "why alerts were counted and not opened",
    "paged": "why people were paged",
    "contained": "why it is, or is not, contained",
}


@dataclass(frozen=True, slots=True)
class Command:
    """`verb` is a name of VERBS, '' for nothing typed. `said` is None where the rest is to be asked for; `given` are
    the words that were there for it."""

    verb: str
    incident: str = ""
    said: Said | None = None
    given: str = ""


@dataclass(frozen=True, slots=True)
class Mistake:
    """Not understood; `why` says what is meant instead. Plain and harmless."""

    why: str


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    quoted: bool = False


Words = Sequence[Word]


@dataclass(frozen=True, slots=True)
class Verb:
    """`read` makes sense of the words behind the verb; None asks for more. `alone`: it is about no one incident.
    `prose`: what people write freely, where an incident's id may be part of the text."""

    name: str
    means: str
    example: str
    read: Callable[[Words], Said | None]
    aliases: tuple[str, ...] = ()
    alone: bool = False
    prose: bool = False


class _Wrong(Exception):
    """The words behind a verb do not fit."""


def parse(text: str) -> Command | Mistake:
    incident, words = _incident(_words(text[:TEXT_MAX]))
    if not words:
        return Command("", incident)
    verb = _NAMES.get(words[0].text.lower().lstrip("/"))
    if verb is None:
        return _unknown(words[0].text)
    rest = words[1:]
    if not incident and (verb.name != "merge" or len(rest) > 1):  # merge INC-7 INC-8: the first goes into the second
        incident, rest = _incident(rest)
    if not incident and not verb.prose and verb.name != "merge":
        incident, rest = _incident_last(rest)
    try:
        said = verb.read(rest)
    except _Wrong as wrong:
        return Mistake(f"{wrong} Example: /inc {verb.example}")
    return Command(verb.name, incident, said, " ".join(word.text for word in rest))


def incident_id(text: str) -> str:
    """`INC-7` of `inc-7`, `inc7` or `#7`; '' for anything else."""
    found = _INCIDENT.fullmatch(text)
    return f"INC-{found[1]}" if found else ""


def minutes_of(text: str) -> int | None:
    """`30`, `30m`, `2h`, `1h30m`, `1d` as minutes; None where it is none, or nothing, or over a week."""
    found = _MINUTES.fullmatch(text.lower())
    if not found or not text:
        return None
    bare, days, hours, minutes = (int(part or 0) for part in found.groups())
    total = bare + days * 1440 + hours * 60 + minutes
    return total if 0 < total <= MINUTES_MAX else None


# Reading --------------------------------------------------------------------------------------------------------

_INCIDENT = re.compile(r"(?i:inc-?|#)([1-9]\d{0,11})", re.ASCII)
_MINUTES = re.compile(r"(\d{1,6})|(?:(\d{1,3})d)?(?:(\d{1,4})h)?(?:(\d{1,6})m(?:in)?)?", re.ASCII)
_TASK = re.compile(r"[tT]([1-9]\d{0,5})", re.ASCII)
# Quotes open at a word's start and close at a word's end, so that "don't" is one word. Keyboards make curly ones.
_WORD = re.compile(
    r"""["“”„]([^"“”„]*)["“”](?=\s|$) | ['‘]([^'‘’]*)['’](?=\s|$) | (\S+)""",
    re.VERBOSE,
)
_MENTION = re.compile(r"<([@#!][^|>\s]*)(?:\|[^>]*)?>")
_LINK = re.compile(r"<((?:https?://|mailto:)[^|>\s]*)(?:\|[^>]*)?>")


def _words(text: str) -> list[Word]:
    """Slack writes a mention as <@U1|name>, a link as <https://x|x>, and the characters & < > as entities."""
    found = []
    for match in _WORD.finditer(_LINK.sub(r"\1", _MENTION.sub(r"\1", text))):
        quoted = match[3] is None
        bare = next(part for part in match.groups() if part is not None)
        found.append(Word(bare.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"), quoted))
    return found


def _incident(words: Words) -> tuple[str, Words]:
    """The id in front, and the words without it."""
    if words and not words[0].quoted and (id := incident_id(words[0].text)):
        return id, words[1:]
    return "", words


def _incident_last(words: Words) -> tuple[str, Words]:
    """`sev 1 INC-7`: where people put it too."""
    if words and not words[-1].quoted and (id := incident_id(words[-1].text)):
        return id, words[:-1]
    return "", words


def _unknown(word: str) -> Mistake:
    close = difflib.get_close_matches(word[:40].lower(), _NAMES, 1, 0.5)
    shown = plain(word, 40)
    if close:
        verb = _NAMES[close[0]]
        return Mistake(f"There is no /inc {shown}. Did you mean /inc {verb.name}? Example: /inc {verb.example}")
    return Mistake(f"There is no /inc {shown}. Known: {', '.join(VERBS)}. See: /inc help")


def _plain(verb: str) -> Callable[[Words], Said | None]:
    def read(words: Words) -> Said | None:
        if words:
            raise _Wrong(f"/inc {verb} needs no {plain(words[0].text, 40)!r}.")
        return Plain(verb)

    return read


def _look(verb: str) -> Callable[[Words], Said | None]:
    return lambda words: Look(verb, _joined(words))


def _new(words: Words) -> Said | None:
    title: list[str] = []
    severity, named = Sev.SEV3, {"type": "", "agent": ""}
    for word in words:
        key, _, value = word.text.partition("=")
        if not word.quoted and (given := _severity(word.text)) and word.text.lower().startswith("sev"):
            severity = given
        elif not word.quoted and key.lower() in named and value:
            named[key.lower()] = value
        else:
            title.append(word.text)
    return New(" ".join(title), "", severity, **named) if title else None


def _update(words: Words) -> Said | None:
    """Three quoted texts, or three parts with bars between, or all of it as conditions."""
    if not words:
        return None
    parts = [word.text for word in words] if all(word.quoted for word in words) else _joined(words).split("|")
    if len(parts) > 3:
        raise _Wrong("An update has three parts: conditions, actions and needs.")
    conditions, actions, needs = (*(part.strip() for part in parts), "", "")[:3]
    return Update(conditions, actions, needs) if conditions else None


def _status(words: Words) -> Said | None:
    if not words:
        return None
    word = _joined(words).lower().replace(" ", "_").replace("-", "_")
    known = {str(status): status for status in Status} | {"fp": Status.FALSE_POSITIVE, "closed": Status.RESOLVED}
    if known.get(word) not in SPOKEN:
        raise _Wrong(_no_such(word, [str(status) for status in SPOKEN], "status"))
    return SetStatus(known[word])


def _severity(word: str) -> Sev | None:
    number = word.lower().removeprefix("sev").removeprefix("-")
    return Sev(int(number)) if number in ("1", "2", "3", "4") else None


def _sev(words: Words) -> Said | None:
    if not words:
        return None
    found = _severity("".join(word.text for word in words))
    if found is None:
        raise _Wrong(f"{plain(_joined(words), 40)!r} is no severity: they are 1 to 4, and 1 is the worst.")
    return SetSeverity(found)


def _role(words: Words) -> Said | None:
    """`role communications`, `role communications @sre-1`, `role @sre-1 communications`."""
    if not words:
        return None
    texts = [word.text for word in words]
    if len(texts) > 1 and texts[0].startswith("@"):
        texts = [*texts[1:], texts[0]]
    who = texts.pop() if len(texts) > 1 and (texts[-1].startswith("@") or texts[-1].lower() == "me") else ""
    return TakeRole("_".join(texts).lower().replace("-", "_"), "" if who.lower() in ("me", "@me") else who)


def _task(words: Words) -> Said | None:
    """`task "text" @owner 30m`; `task T1 done`, `task T1 @owner`, `task done T1`."""
    if not words:
        return None
    owner, minutes, done, texts = "", None, False, []
    ids = [f"T{found[1]}" for word in words[:2] if not word.quoted and (found := _TASK.fullmatch(word.text))]
    for word in words:
        if word.quoted:
            texts.append(word.text)
        elif word.text.startswith("@") and len(word.text) > 1:
            owner = word.text
        elif word.text[-1:] in "mhdMHD" and (due := minutes_of(word.text)):
            minutes = due
        elif word.text.lower() == "me" and (texts or ids):
            owner = "@me"
        elif ids and word.text.lower() == "done":
            done = True
        elif not ids or word.text.upper() not in ids:
            texts.append(word.text)
    if not ids:
        return NewTask(" ".join(texts), owner, minutes) if texts else None
    if texts and set(texts) != {"due"} and set(texts) != {"by"}:
        raise _Wrong(f"What is to become of {ids[0]}? Say done, an owner (@...) or a time (30m).")
    return TaskChange(ids[0], owner, minutes, done) if done or owner or minutes else None


def _page(words: Words) -> Said | None:
    return Summon("_".join(word.text for word in words)) if words else None


def _silence(words: Words) -> Said | None:
    if not words:
        return None
    minutes = minutes_of("".join(word.text for word in words).removeprefix("for"))
    if minutes is None or minutes > SILENCE_AT_MOST // MINUTE:
        raise _Wrong(f"{plain(_joined(words), 40)!r} is no time: it is at most {SILENCE_AT_MOST // (60 * MINUTE)} h.")
    return Silence(minutes)


def _merge(words: Words) -> Said | None:
    if not words:
        return None
    rest = [word.text for word in words if word.text.lower() not in ("into", "with")]
    into = incident_id(rest[0]) if len(rest) == 1 else ""
    if not into:
        raise _Wrong(f"{plain(_joined(words), 40)!r} is no incident to merge into.")
    return Merge(into)


def _decide(approve: bool) -> Callable[[Words], Said | None]:
    def read(words: Words) -> Said | None:
        step = words[0].text if words else ""
        return Decide(approve, step, _joined(words[1:])) if step and not approve and words[1:] else None

    return read


def _release(words: Words) -> Said | None:
    return Release(words[0].text) if words else None


def _note(words: Words) -> Said | None:
    return Note(_joined(words)) if words else None


def _why(words: Words) -> Said | None:
    if not words:
        return None
    asked = words[-1].text.lower().rstrip("?")
    near = difflib.get_close_matches(asked[:40], _WHY, 1, 0.7)
    if not near:
        raise _Wrong(_no_such(asked, QUESTIONS, "question"))
    return Look("why", _WHY[near[0]])


_WHY = {
    **{name: name for name in QUESTIONS},
    **dict.fromkeys(("dedup", "duplicate", "attached", "merged"), "deduplicated"),
    **dict.fromkeys(("page", "pages", "paging", "escalated"), "paged"),
    **dict.fromkeys(("contain", "containment", "uncontained", "cut"), "contained"),
}


def _nothing(_: Words) -> Said | None:
    return None


def _no_such(word: str, known: Sequence[str] | Mapping[str, str], kind: str) -> str:
    close = difflib.get_close_matches(word[:40], [*known], 1, 0.5)
    meant = f"Did you mean {close[0]}?" if close else f"Known: {', '.join(known)}."
    return f"{plain(word, 40)!r} is no {kind}. {meant}"


def _joined(words: Words) -> str:
    return " ".join(word.text for word in words).strip()


_ALL = (
    Verb("new", "open an incident", 'new "Agent mails data" sev2', _new, ("declare", "create"), alone=True, prose=True),
    Verb("update", "say how it stands", 'update "Vault is sealed" "Unsealing" "An operator"', _update, prose=True),
    Verb("status", "see how it stands, or set it", "status recovering", _status),
    Verb("sev", "set the severity", "sev 1", _sev, ("severity",)),
    Verb("role", "take a role, or give it", "role communications", _role, ("lead", "commander")),
    Verb("task", "add a task, or change one", 'task "Rotate the key" @infra-owner-1 30m', _task, ("todo",), prose=True),
    Verb("note", "add a note to the timeline", 'note "Restored from the 02:30 backup"', _note, prose=True),
    Verb("timeline", "what happened so far", "timeline", _look("timeline"), ("log", "history")),
    Verb("page", "page a person, or everyone on call of a role, now", "page @sre-1", _page, ("summon", "call")),
    Verb("ack", "take it: pages stop, containment goes on", "ack", _plain("ack"), ("acknowledge",)),
    Verb("unack", "give it back: people are paged again", "unack", _plain("unack"), ("unacknowledge",)),
    Verb("escalate", "page the next level at once", "escalate", _plain("escalate")),
    Verb("silence", "no repeated pages for a while", "silence 30m", _silence, ("mute",)),
    Verb("oncall", "who is on call", "oncall", _look("oncall"), ("on-call", "roster"), alone=True),
    Verb("contain", "start the playbook, and cuts that are only proposed", "contain", _plain("contain")),
    Verb("approve", "read a request and approve it", "approve quarantine_role", _decide(True)),
    Verb("refuse", "refuse a request", 'refuse quarantine_role "shared role"', _decide(False), ("deny",), prose=True),
    Verb("form", "complete a step that asks a person", "form confirm_impact", _nothing),
    Verb("release", "let go of what a step holds", "release shadow", _release),
    Verb("rollback", "take back what its steps changed", "rollback", _plain("rollback")),
    Verb("replay", "play its alerts against the rules of now", "replay", _plain("replay")),
    Verb("return", "bring the agent back by one stage", "return", _plain("return")),
    Verb("resolve", "it is over", "resolve", _plain("resolve"), ("close",)),
    Verb("reopen", "it is not over", "reopen", _plain("reopen")),
    Verb("merge", "this incident is part of another", "merge INC-8", _merge),
    Verb("private", "only those invited see it from now on", "private", _plain("private")),
    Verb("audit", "was a human asked? look again", "audit", _plain("audit"), ("approvals", "investigate")),
    Verb("postmortem", "the drafted postmortem", "postmortem", _look("postmortem"), ("report",)),
    Verb("why", "why deduplicated, paged, or (not) contained", "why paged", _why),
    Verb("drill", "practise", "drill", _look("drill"), alone=True),
    Verb("help", "all of this", "help", _look("help"), alone=True),
)
VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _ALL}
_NAMES: Mapping[str, Verb] = {name: verb for verb in _ALL for name in (verb.name, *verb.aliases)}
