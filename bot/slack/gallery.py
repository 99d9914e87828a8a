"""Every message and form that the bot can build, on one page: for whoever changes one, and for the tests. Pure.

States come from a record (the shipped drills, a test's story); what a record does not reach is staged from its states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from html import escape
from typing import Any

from bot.config.people import People
from bot.domain.approval import ApprovalState
from bot.domain.decisions import Notify, Page, Post
from bot.domain.events import Status, TextRef
from bot.domain.incident import Frozen, Incident, fold
from bot.domain.record import Entry
from bot.domain.state import Measure, MeasureKind, Pin, StepRun, StepStatus, Task, Update
from bot.engine.world import ReadText, Said, Voice
from bot.slack import answers, modals
from bot.slack.approvals import SCOPE_SHOWN, code_form
from bot.slack.blockkit import Block
from bot.slack.home import home, pages_of
from bot.slack.html import STYLE, to_html
from bot.slack.modals import Memo, Scene

# One of each kind of post that the rules know, for where no record has it: kind -> what follows the colon.
POSTS: Mapping[str, str] = {
    "acknowledged": "",
    "unacknowledged": "",
    "containment": "partial",
    "status": "investigating",
    "overridden": "shadow",
    "form": "confirm_impact",
    "audited": "",
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


def pieces(
    frozen: Frozen, entries: Sequence[Entry], voice: Voice, read: ReadText, people: People, words: str = "At 02:30"
) -> list[Piece]:
    """One of each name, the first that the record has. `words` are what people type."""
    found: dict[str, Piece] = {}
    staged: list[Piece] = []
    moments: dict[str, Incident] = {}  # when the forms have most to show
    state = Incident(entries[0].stream, frozen)
    for entry in entries:
        state = fold(state, [entry])
        for piece in (*_of_state(state, voice, read), *_of_entry(state, entry, voice, read)):
            found.setdefault(piece.name, piece)
        staged += () if staged else (*_staged(state, voice), *_recovering(state, voice, words))
        for moment in _moments(state, people):
            moments.setdefault(moment, state)
    busy = _peopled(state, people)
    for kind, rest in POSTS.items():
        then = replace(busy, status=Status.FALSE_POSITIVE) if kind == "false_positive" else busy
        staged.append(_message(f"post: {kind}", voice.post(then, f"{kind}:{rest}" if rest else kind, read)))
    for then in (*moments.values(), state):
        for piece in (*_forms(then, voice, people, words), *_read(then, entries, people, words)):
            found.setdefault(piece.name, piece)
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


def _recovering(state: Incident, voice: Voice, words: str) -> Iterator[Piece]:
    """A request of recovery, of each kind that has more to show than its targets."""
    for asked in [one for one in state.approvals.values() if one.state is ApprovalState.OPEN][:1]:
        was = state.steps[asked.step]
        diff = (f"- allow * on {words}", f"  allow s3:getobject on {words}", "+ allow sqs:sendmessage on orders")
        read = StepRun("recover:read:1", StepStatus.DONE, outputs={"diff": diff * SCOPE_SHOWN})
        for kind, prefix in ((MeasureKind.ROLLBACK, f"undo:{was.id}|"), (MeasureKind.REISSUE, "")):
            measure = Measure(f"recover:{kind}:2", kind, was.action, {}, "approver-2", (read.id,))
            calls = {f"{prefix}{name}": call for name, call in was.calls.items()}
            run = replace(was, id=measure.id, calls=calls)
            asks = replace(asked, step=measure.id)
            then = replace(
                state,
                measures={measure.id: measure},
                steps={**state.steps, read.id: read, run.id: run},
                approvals={**state.approvals, asks.request: asks},
            )
            yield _message(f"approval: open, of a {kind}", voice.approval(then, asks))


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


def _moments(state: Incident, people: People) -> Iterator[str]:
    if modals.open_requests(state):
        yield "request"
    if modals.open_forms(state):
        yield "form"
    if state.held_steps:
        yield "held"
    if any(pages_of(person, [state]) for person in people.persons):
        yield "paged"


def _forms(state: Incident, voice: Voice, people: People, words: str) -> Iterator[Piece]:
    """Every command's form, in the state that it opens in: what cannot be asked then is named so."""
    state = _peopled(state, people)
    texts = dict.fromkeys(state.tasks, words)
    others = {"INC-9": {"severity": "SEV2", "type": words, "agent": words}}
    scene = Scene(people, state, [state.type], others, texts)
    asked = next(iter(modals.open_requests(state)), None)
    shown = next(iter(modals.open_forms(state)), "")
    for verb in modals.FORMS:
        memo = Memo(verb, state.id, state.channel, shown, words)
        view = modals.ask(memo, replace(scene, incident=None) if verb == "new" else scene)
        yield Piece(f"form: {verb}" + ("" if view.get("submit") else ", which has nothing to ask"), view=view)
        if asked and verb in ("approve", "refuse"):
            plan = [*map(dict, voice.approval(state, asked).blocks)]
            yield Piece(f"form: {verb}, of one request", view=modals.ask(memo, replace(scene, asked=asked, plan=plan)))
    memo = Memo("menu", state.id, given=words)
    yield Piece(f"menu: {'over' if state.over else 'open'}", view=modals.menu(memo, state))
    yield Piece("form: which incident", view=modals.picker(memo, others))
    many = {f"INC-{number}": others["INC-9"] for number in range(10, 130)}  # Slack lists a hundred
    yield Piece("form: which incident, of many", view=modals.picker(memo, many))
    yield Piece("form: which incident, none is open", view=modals.picker(memo, {}))


def _read(state: Incident, entries: Sequence[Entry], people: People, words: str) -> Iterator[Piece]:
    """What people look at: in a message of their own, in a form that is open, in App Home."""
    state = _peopled(state, people)
    blocks = {
        "help": answers.help_blocks(),
        "on call": answers.on_call_blocks(people, state.start, state),
        "timeline": answers.timeline_blocks(state, entries),
        "role": answers.role_blocks(state, "scribe", ""),
    }
    for name, shown in blocks.items():
        yield Piece(f"answer: {name}", name, shown)
    yield Piece("answer: in a form", view=modals.message("Firedoor", ["Recorded."], blocks["timeline"]))
    person = next((one for one in people.persons if pages_of(one, [state])), next(iter(people.persons)))
    tasks = [(state, task) for task in state.tasks.values()]
    texts = {f"{state.id}|{task.id}": words for task in state.tasks.values()}
    paged = " with a page" if pages_of(person, [state]) else ""
    yield Piece(f"home: tasks and incidents{paged}", view=home(person, people, [state], tasks, texts))
    yield Piece("home: nothing to do", view=home(person, people, [], [], {}))


def _peopled(state: Incident, people: People) -> Incident:
    """With people at work in it."""
    one, other = [*people.persons, *people.persons][:2]
    text = TextRef("0" * 64, "0" * 64)
    tasks = {
        "T1": Task("T1", text, one, state.start + timedelta(minutes=30), other),
        "T2": Task("T2", text, "", None, other),
    }
    said = (Update(state.start, one, text, text, text),)
    pins = {"C0INCIDENTS/1.0": Pin("C0INCIDENTS/1.0", other, one, text, state.start)}
    return replace(state, tasks=tasks, roles={"scribe": one}, said=said, pins=pins)


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
