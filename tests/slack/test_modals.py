"""Every modal, whatever is in it, is one that Slack takes; and what a person answers is what is meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bot.config import EXAMPLE, load
from bot.config.people import Person
from bot.domain.alert import Sev
from bot.domain.events import ApprovalsAudited, Status, TextRef
from bot.domain.incident import Incident
from bot.domain.playbook import Manual, Step
from bot.domain.state import Task
from bot.sandbox.blocks import view_problems
from bot.slack import answers, fields
from bot.slack.blocks import SlackVoice
from bot.slack.command import QUESTIONS, SPOKEN, VERBS, Command
from bot.slack.home import home, pages_of, tasks_of
from bot.slack.modals import MEMO_MAX, Memo, Scene, ask, menu, message, open_forms, picker, read
from bot.slack.said import (
    Decide,
    FillForm,
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
    Update,
)
from tests.domain.incidents import PLAYBOOK, SHADOWED, SMALL, Story, begin
from tests.slack.test_blocks import ACTIVE, texts

CONFIG = load(EXAMPLE)
PEOPLE = CONFIG.people
EVIL = "<!channel> <https://evil.example|bank> @here {{7*7}} `*_~ \u202e\x00"
LONG = (EVIL + "x" * 5000)[:6000]
ASKING = [
    "new", "update", "status", "sev", "role", "task", "note", "page", "silence", "approve", "refuse", "form", "release",
    "merge", "why",
]  # fmt: skip

FORM = replace(
    SMALL,
    steps={
        **SMALL.steps,
        "impact": Step(
            "impact",
            manual=Manual(
                "incident_commander", {"hit": "boolean", "count": "number", "notes": "text", "kind": ("a", "b c")}
            ),
        ),
    },
)


def crowded() -> Any:
    """More persons than one list of Slack holds, with names as bad as they get."""
    many = {f"p-{n}": Person(f"p-{n}", LONG[:900], slack=f"U{n}") for n in range(250)}
    return replace(PEOPLE, persons={**PEOPLE.persons, **many})


def busy(story: Story) -> Incident:
    ref, state = TextRef("a", "d"), story.incident
    tasks = {f"T{n}": Task(f"T{n}", ref, "p-1", state.start, "p-2") for n in range(1, 80)}
    return replace(state, tasks=tasks, roles={"scribe": "p-1", "communications": "nobody"})


def scenes() -> Iterator[Scene]:
    others = {f"INC-{n}": {"severity": "SEV1", "type": LONG, "agent": LONG} for n in range(1, 140)}
    asking = begin(PLAYBOOK, agent_uid=EVIL)
    asking.settle("shadow", SHADOWED)
    for story, people in ((asking, PEOPLE), (begin(FORM), crowded()), (begin(SMALL), PEOPLE)):
        state = busy(story)
        plain = Scene(
            people, state, types=[*CONFIG.matrices, LONG], others=others, texts={f"T{n}": LONG for n in range(80)}
        )
        yield plain
        yield replace(plain, incident=replace(state, tasks={}, status=Status.RESOLVED), others={})
        for asked in state.approvals.values():
            yield replace(plain, asked=asked, plan=[*map(dict, SlackVoice(people).approval(state, asked).blocks)])


SCENES = list(scenes())


def check(view: dict[str, Any], kind: str = "modal") -> None:
    assert view_problems(view, kind) == ()
    for text in texts(shown(view)):
        assert not ACTIVE.search(text), text
    for block in view["blocks"]:
        if block["type"] == "input" and "options" in block["element"]:
            values = [option["value"] for option in block["element"]["options"]]
            assert len(values) == len({*values})


def shown(value: Any) -> Any:
    """Without what only we read, and what people typed themselves."""
    if isinstance(value, dict):
        return {k: shown(item) for k, item in value.items() if k not in ("private_metadata", "initial_value", "value")}
    return [*map(shown, value)] if isinstance(value, list) else value


@pytest.mark.parametrize("verb", ASKING)
@pytest.mark.parametrize("given", ["", "12.0", EVIL, LONG])
def test_every_modal_is_one_that_slack_takes(verb: str, given: str) -> None:
    for scene in SCENES:
        step = "impact" if verb == "form" else ""
        memo = Memo(verb, "INC-7", "C0ROOM", step, given)
        check(ask(memo, scene if verb != "new" else replace(scene, incident=None)))


def test_menus_pickers_and_texts_too() -> None:
    memo = Memo("menu", "INC-7", "C1")
    for scene in SCENES:
        check(menu(memo, scene.state))
        check(menu(memo, replace(scene.state, acked_by="p-1")))
        check(picker(replace(memo, given=LONG), scene.others))
    check(picker(replace(memo, given=EVIL), {}))
    check(message("What /inc understands", [], answers.help_blocks()))
    check(message("Firedoor", ["one line"]))


def test_what_everybody_has_on_their_home_is_taken_by_slack() -> None:
    states = [replace(scene.state, id=f"INC-{n}") for n, scene in enumerate(SCENES * 9)]
    mine = tasks_of("p-1", states)
    assert len(mine) > 100
    check(home("p-1", crowded(), states, mine, {f"{s.id}|{t.id}": LONG for s, t in mine}), "home")
    check(home("p-1", PEOPLE, [], [], {}), "home")
    assert pages_of("p-1", states) == []


def test_a_memo_keeps_within_slacks_limit_and_comes_back() -> None:
    memo = Memo("task", "INC-7", "C1", "SEV1", LONG)
    assert len(memo.dump()) <= MEMO_MAX
    back = Memo.load(memo.dump())
    assert (back.verb, back.incident, back.channel, back.shown) == ("task", "INC-7", "C1", "SEV1")
    assert LONG.startswith(back.given)
    assert Memo.load("") == Memo("")
    assert Memo.load(json.dumps({"verb": "ack", "more": 1})) == Memo("ack")


@pytest.mark.parametrize(
    ("memo", "given", "meant"),
    [
        (Memo("new"), {"title": "Odd", "severity": "SEV2", "type": "-", "agent": "agent-7", "message": "m"},
         New("Odd", "m", Sev.SEV2, "", "agent-7")),
        (Memo("update"), {"conditions": "c", "actions": "", "needs": "n"}, Update("c", "", "n")),
        (Memo("status"), {"to": "recovering"}, SetStatus(Status.RECOVERING)),
        (Memo("sev"), {"to": "SEV1"}, SetSeverity(Sev.SEV1)),
        (Memo("role"), {"role": "scribe", "who": "@me"}, TakeRole("scribe", "@me")),
        (Memo("task"), {"text": "t", "owner": "", "due": "60"}, NewTask("t", "", 60)),
        (Memo("note"), {"text": "t"}, Note("t")),
        (Memo("page"), {"who": "dpo"}, Summon("dpo")),
        (Memo("silence"), {"minutes": "30"}, Silence(30)),
        (Memo("approve", shown="INC-7/3.0|abc"), {}, Decide(True, "INC-7/3.0", "", "INC-7/3.0|abc")),
        (Memo("approve", shown="r|h"), {"code": "123456"}, Decide(True, "r", "", "r|h", "123456")),
        (Memo("refuse", shown="r|h"), {"why": "no"}, Decide(False, "r", "no", "r|h")),
        (Memo("approve", "INC-7"), {"request": "INC-7/3.0"}, Command("approve", "INC-7", None, "INC-7/3.0")),
        (Memo("form", "INC-7"), {"step": "impact"}, Command("form", "INC-7", None, "impact")),
        (Memo("form", shown="step"), {"form:hit": "yes", "form:n": "3"}, FillForm("step", {"hit": "yes", "n": "3"})),
        (Memo("release"), {"step": "shadow"}, Release("shadow")),
        (Memo("merge"), {"into": "INC-8"}, Merge("INC-8")),
        (Memo("why"), {"question": "paged"}, Look("why", "paged")),
        (Memo("pick", given="ack"), {"incident": "INC-9"}, Command("ack", "INC-9", Plain("ack"))),
        (Memo("pick", given="sev 1"), {"incident": "INC-9"}, Command("sev", "INC-9", SetSeverity(Sev.SEV1), "1")),
    ],
)  # fmt: skip
def test_what_a_modal_says(memo: Memo, given: dict[str, str], meant: Said | Command) -> None:
    assert read(memo, given, ["agent-7"]) == meant


@pytest.mark.parametrize(
    ("memo", "given", "field"),
    [
        (Memo("new"), {"title": "Odd", "severity": "SEV2", "agent": LONG}, "agent"),
        (Memo("new"), {"title": "", "severity": "SEV2"}, "title"),
        (Memo("new"), {"title": "x", "severity": "SEV9"}, "severity"),
        (Memo("update"), {"needs": "x"}, "conditions"),
        (Memo("status"), {"to": "gone"}, "to"),
        (Memo("sev"), {"to": "8"}, "to"),
        (Memo("silence"), {"minutes": "x"}, "minutes"),
        (Memo("approve", shown="r|h"), {"code": "12345"}, "code"),
        (Memo("form", shown="impact"), {"form:hit": ""}, "form:hit"),
        (Memo("why"), {"question": "x"}, "question"),
        (Memo("pick", given="akc"), {"incident": "INC-9"}, "incident"),
    ],
)
def test_what_is_wrong_is_said_at_its_input(memo: Memo, given: dict[str, str], field: str) -> None:
    errors = read(memo, given, ["agent-7"])
    assert isinstance(errors, dict)
    assert [*errors] == [field]
    assert 0 < len(errors[field]) <= 250


def test_what_was_filled_in_is_read_back() -> None:
    state = {
        "title": {"field": {"type": "plain_text_input", "value": " Odd "}},
        "severity": {"field": {"type": "static_select", "selected_option": {"value": "SEV2"}}},
        "agent": {"field": {"type": "plain_text_input", "value": None}},
        "type": {"field": {"type": "static_select", "selected_option": None}},
    }
    given = fields.given({"state": {"values": state}})
    assert given == {"title": "Odd", "severity": "SEV2", "agent": "", "type": ""}
    assert fields.given({}) == {}


def test_a_manual_step_is_a_form_of_its_own() -> None:
    story = begin(FORM)
    assert [*open_forms(story.incident)] == ["impact"]
    view = ask(Memo("form", "INC-7", shown="impact"), Scene(PEOPLE, story.incident))
    kinds = {block["block_id"]: block["element"]["type"] for block in view["blocks"] if block["type"] == "input"}
    assert kinds == {
        "form:hit": "static_select",
        "form:count": "number_input",
        "form:notes": "plain_text_input",
        "form:kind": "static_select",
    }


def test_what_the_audit_found_stands_beside_the_question() -> None:
    memo = Memo("form", "INC-7", shown="impact")
    state = begin(FORM).incident
    assert "Approval path" not in str(ask(memo, Scene(PEOPLE, state)))
    audited = ApprovalsAudited("INC-7/9.0", TextRef("a", "d"), valid=2, bypassed=1, misapplied=0, unknown=0, policy="p")
    for found, words in (
        (audited, "Approval path: 1 bypassed, 2 valid"),
        (replace(audited, why=EVIL), "Approval path: "),
    ):
        view = ask(memo, Scene(PEOPLE, replace(state, audited=found)))
        check(view)
        kinds = [block["type"] for block in view["blocks"]]
        assert [kinds[n] for n, block in enumerate(view["blocks"]) if words in str(block)] == ["context"]
        assert kinds.index("context") < kinds.index("input")
        whole = menu(Memo("menu", "INC-7"), replace(state, audited=found))
        check(whole)
        assert "menu:audit" in str(whole)


def test_every_verb_that_a_person_can_say_has_a_form_or_needs_none() -> None:
    assert {*ASKING} | {
        *("ack", "unack", "escalate", "contain", "resolve", "reopen", "private", "audit"),
        *("timeline", "oncall", "postmortem", "drill", "help", "rollback", "replay", "return"),
    } == {*VERBS}
    assert {*QUESTIONS} == {"deduplicated", "paged", "contained"}
    assert Status.MERGED not in SPOKEN


@pytest.mark.parametrize("role", ["incident_commander", "communications", "scribe", "sre"])
def test_every_role_has_instructions(role: str) -> None:
    text = answers.role_text(EXAMPLE / "templates", role)
    assert 100 < len(text) < 1200
    check(message("Role", [], answers.role_blocks(begin(SMALL).incident, role, text)))
    assert answers.role_text(EXAMPLE / "templates", "../../etc/passwd") == ""
