"""Every message that the bot can build, side by side on one page: for whoever changes one, and for the tests. Pure.

States come from a record (the shipped drills, a test's story); what a record does not reach is staged from its states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from bot.domain.approval import ApprovalState
from bot.domain.incident import Frozen, Incident, fold
from bot.domain.record import Entry, Notify, Page, Post
from bot.engine.world import ReadText, Said, Voice
from bot.slack.approvals import code_form
from bot.slack.blockkit import Block
from bot.slack.html import STYLE, to_html

# One of each kind of post that the rules know, for where no record has it: kind -> what follows the colon.
POSTS: Mapping[str, str] = {
    "acknowledged": "",
    "unacknowledged": "",
    "containment": "partial",
    "status": "investigating",
    "overridden": "shadow",
    "form": "confirm_impact",
    "nobody_on_call": "L2",
    "unreachable": "L1",
    "page_failed": "slack",
    "severity": "",
    "role": "scribe",
    "task": "T1",
    "escalated": "",
    "summoned": "sre-1",
    "silenced": "",
    "merged": "INC-9",
    "private": "",
    "reminder": "",
    "update": "1",
    "pinned": "",
    "false_positive": "",
    "roles": "",
    "files": "",
    "channel_failed": "",
    "announcement": "",
    "moved": "C0INCIDENTS/1.0",
    "closed": "C0INCIDENTS/1.0",
}
PAGE_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0; background: #f4f4f6; color: #1d1c1d; }
main { max-width: 92em; margin: 0 auto; padding: 24px; columns: 26em auto; column-gap: 24px; }
h1 { column-span: all; font-size: 22px; margin: 0 0 16px; }
figure { break-inside: avoid; margin: 0 0 20px; padding: 14px 16px; background: #fff; border: 1px solid #ddd;
  border-radius: 8px; }
figcaption { font-size: 12px; color: #616061; margin: 0 0 10px; padding-bottom: 6px; border-bottom: 1px solid #eee; }
.topline { font-weight: 800; margin: 0 0 8px; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; }
  figure { background: #1a1d21; border-color: #42454a; } figcaption { border-color: #42454a; color: #ababad; } }
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """`name` is `<kind>: <which>`. `view` is set for modals and App Home, whose blocks are in it."""

    name: str
    text: str = ""
    blocks: Sequence[Mapping[str, Any]] = ()
    view: Block | None = None


def pieces(frozen: Frozen, entries: Sequence[Entry], voice: Voice, read: ReadText) -> list[Piece]:
    """One of each name, the first that the record has."""
    found: dict[str, Piece] = {}
    staged: list[Piece] = []
    state = Incident(entries[0].stream, frozen)
    for entry in entries:
        state = fold(state, [entry])
        for piece in (*_of_state(state, voice, read), *_of_entry(state, entry, voice, read)):
            found.setdefault(piece.name, piece)
        staged += () if staged else _staged(state, voice)
    for kind, rest in POSTS.items():
        staged.append(_message(f"post: {kind}", voice.post(state, f"{kind}:{rest}" if rest else kind, read)))
    return list(({piece.name: piece for piece in staged} | found).values())


def _of_state(state: Incident, voice: Voice, read: ReadText) -> Iterator[Piece]:
    acked = "acknowledged" if state.acked_by else "open"
    yield _message(f"card: {state.status}, {state.containment}, {acked}", voice.card(state, read))
    for asked in state.approvals.values():
        yield _message(f"approval: {asked.state}", voice.approval(state, asked))


def _staged(state: Incident, voice: Voice) -> Iterator[Piece]:
    """What may become of a request that is open, and how one looks that asks for a code."""
    for asked in (one for one in state.approvals.values() if one.state is ApprovalState.OPEN):
        said = tuple((f"approver-{number}", (group,)) for number, group in enumerate(asked.each, 1))
        for becomes in set(ApprovalState) - {ApprovalState.OPEN}:
            given = said if becomes is ApprovalState.GRANTED else said[:1]
            closed = replace(asked, state=becomes, given=given, refused_by="approver-2")
            yield _message(f"approval: {becomes}", voice.approval(state, closed))
        coded = replace(asked, step_up="totp")
        yield _message("approval: open, with a code", voice.approval(state, coded))
        yield Piece("modal: code", view=code_form(state, coded, "private"))


def _of_entry(state: Incident, entry: Entry, voice: Voice, read: ReadText) -> Iterator[Piece]:
    for decision in entry.decisions:
        match decision:
            case Page() | Notify():
                reason = decision.reason if isinstance(decision, Page) else decision.topic
                kind = f"{type(decision).__name__.lower()}: {reason.partition(':')[0]}"
                yield _message(kind, voice.page(state, decision, late=0.0, may_repeat=False))
                if isinstance(decision, Page):
                    late = voice.page(state, decision, late=754.0, may_repeat=True)
                    yield _message("page: late, may repeat", late)
            case Post(purpose=purpose) if purpose.partition(":")[0] in POSTS:
                yield _message(f"post: {purpose.partition(':')[0]}", voice.post(state, purpose, read))


def _message(name: str, said: Said) -> Piece:
    return Piece(name, said.text, said.blocks)


def page(found: Iterable[Piece], names: Mapping[str, str] | None = None) -> str:
    """One HTML page that loads nothing."""
    figures = "".join(_figure(piece, names or {}) for piece in sorted(found, key=lambda piece: piece.name))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Firedoor: what it says in Slack</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}{PAGE_STYLE}</style></head>'
        f"<body><main><h1>What Firedoor says in Slack</h1>{figures}</main></body></html>\n"
    )


def _figure(piece: Piece, names: Mapping[str, str]) -> str:
    if piece.view is None:
        inside = to_html(piece.blocks, piece.text, names)
    else:
        title = str((piece.view.get("title") or {}).get("text", ""))
        inside = f'<p class="topline">{escape(title)}</p>' + to_html(piece.view["blocks"], "", names)
    return f"<figure><figcaption>{escape(piece.name)}</figcaption>{inside}</figure>"
