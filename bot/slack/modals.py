"""Every command as a modal: what it asks, and what a person's answer means. Pure.

`private_metadata` carries a Memo: which verb, which incident, the channel to answer in, and what was shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from bot.config.people import People
from bot.config.reading import suggestion
from bot.domain.alert import Sev
from bot.domain.approval import Approval, ApprovalState
from bot.domain.conversation import ROLES, SILENCE_AT_MOST
from bot.domain.events import Status
from bot.domain.incident import Incident, StepStatus
from bot.domain.playbook import Manual
from bot.domain.state import TRANSITIONS
from bot.domain.wording import audit_text, listed
from bot.slack import blockkit as kit
from bot.slack import fields, standing
from bot.slack.blockkit import Block
from bot.slack.command import MINUTE, QUESTIONS, VERBS, Command, Mistake, parse
from bot.slack.fields import Choice, chosen, typed
from bot.slack.mrkdwn import entities, plain
from bot.slack.said import (
    Decide,
    FillForm,
    Look,
    Merge,
    New,
    NewTask,
    Note,
    Release,
    Said,
    SetSeverity,
    SetStatus,
    Silence,
    Summon,
    TakeRole,
    Update,
)
from bot.slack.standing import Crowd, spoken

CALLBACK = "inc:"  # in front of the verb
PICK = "pick"
MEMO_MAX = 3000  # characters, Slack's
TITLE_MAX = 200
SHORT = (15, 30, 60, 120, 240)  # minutes to choose from
DUE = (15, 30, 60, 120, 240, 480, 1440)
UNCLASSIFIED = "-"  # an option's value must not be empty
SEVERITIES = {
    Sev.SEV1: "SEV1: damage now, everybody",
    Sev.SEV2: "SEV2: damage is near",
    Sev.SEV3: "SEV3: to be looked at now",
    Sev.SEV4: "SEV4: to be looked at",
}

Row = Mapping[str, object]  # of an open incident: what lists show of it
Errors = dict[str, str]  # input -> what is wrong with it


@dataclass(frozen=True, slots=True)
class Memo:
    """What a modal remembers. `shown` is what its answer is bound to: the severity or status that stood there, or
    `<request>|<plan's hash>`. `given` are the words that were typed for it."""

    verb: str
    incident: str = ""
    channel: str = ""
    shown: str = ""
    given: str = ""

    def dump(self) -> str:
        """Within Slack's limit: the words are cut first, and are always given back in the modal."""
        kept = asdict(self)
        while len(text := json.dumps(kept, ensure_ascii=False)) > MEMO_MAX:
            kept["given"] = kept["given"][: len(kept["given"]) // 2]
        return text

    @classmethod
    def load(cls, text: str) -> Memo:
        known = json.loads(text or "{}")
        return cls(**{name: str(known.get(name, "")) for name in ("verb", "incident", "channel", "shown", "given")})


@dataclass(frozen=True, slots=True)
class Scene:
    """What the modals of an incident are made of. `others` are further open incidents by id; `texts` those of its
    tasks; `plan` shows the request that `asked` is."""

    people: People
    incident: Incident | None = None
    types: Sequence[str] = ()
    others: Mapping[str, Row] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    asked: Approval | None = None
    plan: Sequence[Block] = ()

    @property
    def state(self) -> Incident:
        assert self.incident is not None
        return self.incident


# Asking ---------------------------------------------------------------------------------------------------------


def ask(memo: Memo, scene: Scene) -> Block:
    """The modal of a verb. What cannot be asked now says why, without a button to send it."""
    title, submit, blocks = FORMS[memo.verb](memo, scene)
    head = [_heading(scene.incident)] if scene.incident else []
    return fields.modal(CALLBACK + memo.verb, title, [*head, *blocks], memo=memo.dump(), submit=submit)


def picker(memo: Memo, open_incidents: Mapping[str, Row]) -> Block:
    """Which incident is meant. `memo.given` is the whole command as typed."""
    if not open_incidents:
        return message("Which incident?", ["No incident is open. `/inc new` opens one."])
    choices = [(id, row_text(id, row)) for id, row in open_incidents.items()]
    blocks = [
        kit.section(f"`/inc {entities(plain(memo.given, 200)) or 'menu'}` is about one incident: which?"),
        chosen("incident", "Incident", choices, first=choices[0][0] if len(choices) == 1 else ""),
    ]
    return fields.modal(CALLBACK + PICK, "Which incident?", blocks, memo=memo.dump(), submit="Next")


def menu(memo: Memo, incident: Incident) -> Block:
    """Every command of an incident, as buttons."""
    rows: list[Block] = [_heading(incident), kit.section(entities(standing.headline(incident)))]
    for title, verbs in _menu(incident):
        buttons = [
            kit.button(_labelled(verb), f"menu:{verb}", verb, style=_STYLES.get(verb, ""), sure=_SURE.get(verb))
            for verb in verbs
        ]
        rows += [kit.context(title), kit.actions(f"menu:{title}", *buttons)]
    return fields.modal(CALLBACK + "menu", plain(incident.id, 24), rows, memo=memo.dump())


def message(title: str, lines: Iterable[str], blocks: Sequence[Block] = ()) -> Block:
    """Only to be read. The lines are mrkdwn."""
    shown = [*(kit.section(line) for line in lines), *blocks] or [kit.section("-")]
    return fields.modal(CALLBACK + "read", title, shown, memo=Memo("read").dump())


def row_text(id: str, row: Row) -> str:
    about = f"{row.get('severity')} {spoken(str(row.get('type')))}"
    return f"{plain(id, 24)} {about}" + (f", {row.get('agent')}" if row.get("agent") else "")


def _heading(incident: Incident) -> Block:
    return kit.context(f"*{entities(standing.title(incident))}*, {entities(spoken(incident.status))}")


def _menu(incident: Incident) -> Iterator[tuple[str, list[str]]]:
    audits = ["audit"] if incident.audited else []  # by then there is evidence to be audited
    if incident.over:
        yield "After it", ["reopen", "timeline", "postmortem", "why", "note", *audits]
        return
    yield "Now", ["unack" if incident.acked_by else "ack", "escalate", "page", "silence", "contain"]
    decide = ["approve", "refuse"] if open_requests(incident) else []
    yield "Steps", [*decide, *(["form"] if open_forms(incident) else []), "release"]
    yield "Room", ["update", "task", "role", "note", "private"]
    yield "State", ["sev", "status", "merge", "resolve"]
    yield "Read", ["timeline", "why", "oncall", "postmortem", *audits]


def _labelled(verb: str) -> str:
    return _LABELS.get(verb, verb.capitalize())


_LABELS = {"ack": "Acknowledge", "unack": "Unacknowledge", "sev": "Severity", "oncall": "On call"}
_STYLES = {"ack": "primary", "contain": "danger"}
_SURE = {
    "contain": ("Contain?", "The playbook starts, with the cuts that were only proposed, in your name."),
    "resolve": ("Resolve?", "Pages and reminders stop. What is held stays held until it is released."),
    "private": ("Make it private?", "It moves to a private channel. This cannot be taken back."),
    "escalate": ("Escalate?", "The next level is paged now."),
}

Form = tuple[str, str, list[Block]]  # title, submit button ('' for none), blocks


def _new(memo: Memo, scene: Scene) -> Form:
    first, _, rest = memo.given.partition("\n")
    types = [(UNCLASSIFIED, "not known yet"), *((name, spoken(name)) for name in sorted(scene.types))]
    return (
        "Open an incident",
        "Open",
        [
            typed("title", "What happened", first=first, most=TITLE_MAX, need=True),
            chosen("severity", "Severity", _severities(), first=Sev.SEV3.name),
            chosen("type", "Type", types, first=UNCLASSIFIED, hint="Decides the playbook and who is paged."),
            typed("agent", "Agent", most=200, hint="Its id in agents.yaml, where one is concerned.", need=False),
            typed("message", "All that is known", first=rest.strip(), lines=True, need=False),
        ],
    )


def _severities() -> list[Choice]:
    return [(sev.name, shown) for sev, shown in SEVERITIES.items()]


def _update(memo: Memo, _: Scene) -> Form:
    return (
        "Status update",
        "Send",
        [
            typed("conditions", "Conditions", first=memo.given, hint="How it stands.", lines=True, need=True),
            typed("actions", "Actions", hint="What is being done.", lines=True, need=False),
            typed("needs", "Needs", hint="Who or what is missing.", lines=True, need=False),
        ],
    )


def _status(_: Memo, scene: Scene) -> Form:
    state, crowd = scene.state, Crowd(scene.people)
    facts = {
        "Acknowledged": standing.acknowledged(state, crowd),
        "Opened": standing.moment(state, state.start),
        "Agent": standing.agent(state, crowd),
        "Next": "; ".join(standing.deadlines(state)) or "none",
    }
    shown = [kit.section(entities(standing.headline(state))), kit.fields({k: entities(v) for k, v in facts.items()})]
    to = [(str(status), spoken(status)) for status in Status if status in TRANSITIONS[state.status]]
    return "Status", "Set" if to else "", [*shown, *([chosen("to", "New status", to)] if to else [])]


def _sev(_: Memo, scene: Scene) -> Form:
    return "Severity", "Set", [chosen("to", "Severity", _severities(), first=scene.state.severity.name)]


def _role(memo: Memo, scene: Scene) -> Form:
    state = scene.state
    crowd = Crowd(scene.people)
    has = {role: f" ({crowd.name(who)})" for role, who in state.roles.items()}
    known = dict.fromkeys((*ROLES, *state.roster))
    roles = [(role, spoken(role) + has.get(role, "")) for role in known]
    who = [("@me", "me"), *_persons(scene.people)]
    first = memo.given if memo.given in known else ""
    return (
        "Roles",
        "Take",
        [chosen("role", "Role", roles, first=first), chosen("who", "Who takes it", who, first="@me")],
    )


def _task(memo: Memo, scene: Scene) -> Form:
    crowd = Crowd(scene.people)
    tasks = []
    for task in [task for task in scene.state.tasks.values() if not task.done][:20]:
        owner = entities(crowd.name(task.owner)) if task.owner else "nobody yet"
        due = f", due {standing.moment(scene.state, task.due)}" if task.due else ""
        text = f"*{task.id}* {entities(plain(scene.texts.get(task.id, ''), 300))}\n{owner}{due}"
        done = kit.button("Done", "task_done", f"{scene.state.id}|{task.id}")
        tasks.append(kit.section(text, block_id=f"task:{task.id}", accessory=done))
    due_in = [(str(minutes), _span(minutes)) for minutes in DUE]
    return (
        "Tasks",
        "Add",
        [
            *tasks,
            typed("text", "New task", first=memo.given, lines=True, need=True),
            chosen("owner", "Owner", [("@me", "me"), *_persons(scene.people)], need=False),
            chosen("due", "Due", due_in, hint="Its owner is reminded then.", need=False),
        ],
    )


def _note(memo: Memo, _: Scene) -> Form:
    return "Note", "Add", [typed("text", "For the timeline", first=memo.given, lines=True, need=True)]


def _page(_: Memo, scene: Scene) -> Form:
    crowd = Crowd(scene.people)
    duty = [entities(one) for one in standing.duty(scene.state, crowd)]
    people = scene.people
    roles = [(role, f"on call: {spoken(role)}") for role in people.roles if role not in people.persons]
    return (
        "Responders",
        "Page",
        [*kit.listing("On call", duty), chosen("who", "Page now", [*roles, *_persons(people)])],
    )


def _silence(_: Memo, __: Scene) -> Form:
    spans = [(str(minutes), _span(minutes)) for minutes in SHORT if minutes <= SILENCE_AT_MOST // MINUTE]
    hint = "No page is repeated. New levels, and containment, page all the same."
    return "Silence", "Silence", [chosen("minutes", "For", spans, first="30", hint=hint)]


def _decide(memo: Memo, scene: Scene) -> Form:
    """Of the one request that was chosen, or, where several are open, which."""
    verb, state = memo.verb, scene.state
    title = _labelled(verb)
    asked = open_requests(state)
    if not asked:
        return title, "", [kit.section("No approval is asked for now.")]
    if scene.asked is None:
        return title, "Next", [chosen("request", "Request", [(one.request, plain(one.step, 70)) for one in asked])]
    more = [typed("why", "Why", lines=True, most=1000, need=False)] if verb == "refuse" else []
    return title, title, [*(block for block in scene.plan if block["type"] != "actions"), *more]


def _form(memo: Memo, scene: Scene) -> Form:
    """Of the one step that was chosen, or, where several wait, which."""
    waiting = open_forms(scene.state)
    if not waiting:
        return "Complete a step", "", [kit.section("No step waits for a person now.")]
    step = memo.shown if memo.shown in waiting else next(iter(waiting)) if len(waiting) == 1 else ""
    if not step:
        return "Complete a step", "Next", [chosen("step", "Step", [(name, spoken(name)) for name in waiting])]
    manual = waiting[step]
    inputs = [_form_input(name, kind) for name, kind in manual.form.items()]
    audited = scene.state.audited  # the finding, beside the question that asks for it
    found = [kit.context(f"Approval path: {entities(plain(audit_text(audited), 200))}")] if audited else []
    return (
        "Complete a step",
        "Complete",
        [kit.section(f"*{entities(spoken(step))}*, for the {entities(spoken(manual.assignee))}"), *found, *inputs],
    )


def _form_input(name: str, kind: str | tuple[str, ...]) -> Block:
    label, block = spoken(name), f"{_FORM}{name}"[:255]
    if kind == "boolean":
        return chosen(block, label, [("yes", "yes"), ("no", "no")])
    if kind == "number":
        return fields.number(block, label)
    if kind == "text":
        return typed(block, label, lines=True, need=True)
    return chosen(block, label, [(word, spoken(word)) for word in kind])


def _release(_: Memo, scene: Scene) -> Form:
    held = scene.state.held_steps
    if not held:
        return "Release", "", [kit.section("Nothing of this incident is held.")]
    hint = "What another incident holds too stays held."
    return "Release", "Release", [chosen("step", "Step", [(run.id, run.id) for run in held], hint=hint)]


def _merge(_: Memo, scene: Scene) -> Form:
    others = [(id, row_text(id, row)) for id, row in scene.others.items() if id != scene.state.id]
    if not others:
        return "Merge", "", [kit.section("No other incident is open.")]
    hint = f"{scene.state.id} ends here and goes on there. What it holds stays held."
    return "Merge", "Merge", [chosen("into", "Goes on in", others, hint=hint)]


def _why(_: Memo, __: Scene) -> Form:
    return "Why?", "Answer", [chosen("question", "Question", QUESTIONS.items(), first="paged")]


FORMS: Mapping[str, Callable[[Memo, Scene], Form]] = {
    "new": _new,
    "update": _update,
    "status": _status,
    "sev": _sev,
    "role": _role,
    "task": _task,
    "note": _note,
    "page": _page,
    "silence": _silence,
    "approve": _decide,
    "refuse": _decide,
    "form": _form,
    "release": _release,
    "merge": _merge,
    "why": _why,
}
assert FORMS.keys() <= VERBS.keys()


# Reading --------------------------------------------------------------------------------------------------------


def read(memo: Memo, given: Mapping[str, str], agents: Iterable[str]) -> Said | Command | Errors:
    """What a submitted modal says; a Command where more is to be asked; or what to say at which input."""
    needed = _NEEDED.get(memo.verb, ())
    lacking = {
        name: "Say it in words." for name in (*needed, *(n for n in given if _is_form(n))) if not given.get(name)
    }
    if lacking:
        return lacking
    match memo.verb:
        case "pick":
            picked = parse(memo.given)
            if isinstance(picked, Mistake):
                return {"incident": picked.why}
            return Command(picked.verb, given["incident"], picked.said, picked.given)
        case "new":
            return _read_new(given, agents)
        case "update":
            return Update(given["conditions"], given.get("actions", ""), given.get("needs", ""))
        case "status":
            return SetStatus(Status(given["to"])) if given["to"] in [*Status] else {"to": "Choose one."}
        case "sev":
            return SetSeverity(Sev[given["to"]]) if given["to"] in Sev.__members__ else {"to": "Choose one."}
        case "role":
            return TakeRole(given["role"], given.get("who", ""))
        case "task":
            return NewTask(given["text"], given.get("owner", ""), _minutes(given.get("due", "")))
        case "note":
            return Note(given["text"])
        case "page":
            return Summon(given["who"])
        case "silence":
            minutes = _minutes(given["minutes"])
            return Silence(minutes) if minutes else {"minutes": "Choose one."}
        case "approve" | "refuse" if "request" in given:
            return Command(memo.verb, memo.incident, None, given["request"])
        case "approve" if "code" in given and not (given["code"].isdecimal() and len(given["code"]) == 6):
            return {"code": "A code has six digits."}
        case "approve" | "refuse":
            request, approve = memo.shown.partition("|")[0], memo.verb == "approve"
            return Decide(approve, request, given.get("why", ""), memo.shown, given.get("code", ""))
        case "form" if "step" in given:
            return Command("form", memo.incident, None, given["step"])
        case "form":
            return FillForm(memo.shown, {name.removeprefix(_FORM): said for name, said in given.items()})
        case "release":
            return Release(given["step"])
        case "merge":
            return Merge(given["into"])
        case "why":
            return Look("why", given["question"]) if given["question"] in QUESTIONS else {"question": "Choose one."}
    return {}


_FORM = "form:"
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "pick": ("incident",),
    "new": ("title", "severity"),
    "update": ("conditions",),
    "status": ("to",),
    "sev": ("to",),
    "role": ("role",),
    "task": ("text",),
    "note": ("text",),
    "page": ("who",),
    "silence": ("minutes",),
    "release": ("step",),
    "merge": ("into",),
    "why": ("question",),
}


def _read_new(given: Mapping[str, str], agents: Iterable[str]) -> Said | Errors:
    known, agent = set(agents), given.get("agent", "")
    if agent and agent not in known:
        return {"agent": f"agents.yaml has no {plain(agent, 60)!r}. {suggestion(agent[:60], known)}".strip()[:150]}
    if given["severity"] not in Sev.__members__:
        return {"severity": "Choose one."}
    type = given.get("type", "")
    named = "" if type == UNCLASSIFIED else type
    return New(given["title"], given.get("message", ""), Sev[given["severity"]], named, agent)


def _minutes(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 7 else None


def _is_form(name: str) -> bool:
    return name.startswith(_FORM)


# What is open ---------------------------------------------------------------------------------------------------


def open_requests(incident: Incident) -> list[Approval]:
    return [asked for asked in incident.approvals.values() if asked.state is ApprovalState.OPEN and not incident.over]


def open_forms(incident: Incident) -> dict[str, Manual]:
    """Step -> its form, of those that wait for a person."""
    waiting = [run.id for run in incident.steps.values() if run.status is StepStatus.AWAITING_FORM]
    found = {step: incident.spec(step).manual for step in waiting if not incident.over}
    return {step: manual for step, manual in found.items() if manual}


def _persons(people: People) -> list[Choice]:
    return [(person.id, person.name) for person in people.persons.values()]


def _span(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return listed([f"{hours} h"] * bool(hours) + [f"{rest} min"] * bool(rest))
