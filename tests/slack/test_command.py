from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.domain.alert import Sev
from bot.domain.events import Status
from bot.slack.command import VERBS, Command, Mistake, incident_id, minutes_of, parse
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


def said(text: str) -> Said | None:
    found = parse(text)
    assert isinstance(found, Command), found
    return found.said


def why(text: str) -> str:
    found = parse(text)
    assert isinstance(found, Mistake), found
    return found.why


@pytest.mark.parametrize("verb", ["ack", "unack", "escalate", "contain", "resolve", "reopen", "private"])
def test_verbs_that_need_no_more(verb: str) -> None:
    assert parse(verb) == Command(verb, "", Plain(verb))
    assert parse(f"  {verb.upper()}   inc-7 ") == Command(verb, "INC-7", Plain(verb))
    assert parse(f"#7 {verb}") == Command(verb, "INC-7", Plain(verb))
    assert "Example: /inc" in why(f"{verb} now")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('new "Agent mails customer lists" sev2 type=data_exposure agent=agent-9',
         New("Agent mails customer lists", "", Sev.SEV2, "data_exposure", "agent-9")),
        ("declare the agent's gone", New("the agent's gone")),
        ('update "Vault is sealed" "Unsealing" "An operator"', Update("Vault is sealed", "Unsealing", "An operator")),
        ("update it's sealed | unsealing", Update("it's sealed", "unsealing", "")),
        ("update all is “well” again", Update("all is “well” again".replace("“well”", "well"))),
        ("status recovering", SetStatus(Status.RECOVERING)),
        ("status False Positive", SetStatus(Status.FALSE_POSITIVE)),
        ("sev 1", SetSeverity(Sev.SEV1)),
        ("severity SEV-3", SetSeverity(Sev.SEV3)),
        ("role communications", TakeRole("communications")),
        ("role incident commander <@U0SRE1|sre>", TakeRole("incident_commander", "@U0SRE1")),
        ("role @sre-1 scribe", TakeRole("scribe", "@sre-1")),
        ("role scribe me", TakeRole("scribe")),
        ('task "Rotate the key" <@U0INFRA1> 1h30m', NewTask("Rotate the key", "@U0INFRA1", 90)),
        ('task "Read <https://x.example/a|x.example>" @sre-1', NewTask("Read https://x.example/a", "@sre-1", None)),
        ("task “Rotate it” me", NewTask("Rotate it", "@me")),
        ("task call 3 customers", NewTask("call 3 customers")),
        ("task T1 done", TaskChange("T1", done=True)),
        ("task done t12", TaskChange("T12", done=True)),
        ("task T1 @sre-1 due 2h", TaskChange("T1", "@sre-1", 120)),
        ("note restored &amp; checked &lt;twice&gt;", Note("restored & checked <twice>")),
        ("page @sre-1", Summon("@sre-1")),
        ("page security ops", Summon("security_ops")),
        ("silence 30", Silence(30)),
        ("silence for 2h", Silence(120)),
        ("merge INC-8", Merge("INC-8")),
        ("merge into inc8", Merge("INC-8")),
        ("release shadow", Release("shadow")),
        ('refuse quarantine "the role is shared"', Decide(False, "quarantine", "the role is shared")),
        ("why was it paged?", Look("why", "paged")),
        ("why not contained", Look("why", "contained")),
        ("timeline", Look("timeline")),
        ("oncall", Look("oncall")),
        ("postmortem", Look("postmortem")),
        ("drill", Look("drill")),
        ("help", Look("help")),
    ],
)  # fmt: skip
def test_what_is_meant(text: str, meant: Said) -> None:
    assert said(text) == meant


@pytest.mark.parametrize(
    "verb", ["new", "update", "status", "sev", "role", "task", "note", "page", "silence", "approve", "refuse", "form",
             "release", "merge", "why"],
)  # fmt: skip
def test_a_verb_alone_asks_for_the_rest(verb: str) -> None:
    assert parse(verb) == Command(verb)
    assert parse(f"INC-7 {verb}") == Command(verb, "INC-7")


def test_an_approval_is_never_given_by_typing() -> None:
    """It is bound to the plan that a form shows."""
    assert parse("approve 12.0") == Command("approve", "", None, "12.0")
    assert parse("approve INC-7 quarantine_role") == Command("approve", "INC-7", None, "quarantine_role")


def test_where_the_incident_may_stand() -> None:
    assert parse("") == Command("")
    assert parse("INC-7") == Command("", "INC-7")
    assert parse("sev INC-7 2") == parse("sev 2 INC-7") == parse("INC-7 sev 2")
    assert parse("merge INC-7 INC-8") == Command("merge", "INC-7", Merge("INC-8"), "INC-8")
    assert parse("INC-7 merge INC-8") == Command("merge", "INC-7", Merge("INC-8"), "INC-8")
    assert parse("note see INC-5") == Command("note", "", Note("see INC-5"), "see INC-5")
    assert parse('note INC-5 "INC-7 is the same"') == Command(
        "note", "INC-5", Note("INC-7 is the same"), "INC-7 is the same"
    )
    assert [incident_id(text) for text in ("inc7", "INC-07", "INC-0", "7", "#12", "INC-7x")] == [
        "INC-7", "", "", "", "INC-12", ""
    ]  # fmt: skip


def test_typing_errors_get_the_nearest_command_and_an_example() -> None:
    assert why("akc") == "There is no /inc akc. Did you mean /inc ack? Example: /inc ack"
    assert "Did you mean /inc escalate?" in why("escalte")
    assert "Known: new, update," in why("xyzzy")
    assert "Did you mean recovering?" in why("status recovring")
    assert "no severity" in why("sev 5")
    assert "at most 4 h" in why("silence 5h")
    assert "Say done, an owner" in why("task T1 quickly")
    assert "no question" in why("why me")
    assert "no incident to merge into" in why("merge that one")


@pytest.mark.parametrize(
    "text", ["<!channel> x", "<https://evil.example|bank>", "\u202eack", "{{7*7}} {% x %}", "@here"]
)
def test_hostile_text_is_shown_harmlessly(text: str) -> None:
    shown = why(text)
    assert "<!" not in shown
    assert "https://" not in shown
    assert "\u202e" not in shown
    assert "@here" not in shown


@pytest.mark.parametrize("name", VERBS)
def test_every_example_is_understood(name: str) -> None:
    found = parse(VERBS[name].example)
    assert isinstance(found, Command)
    assert found.verb == name
    assert len(VERBS[name].means) < 60


def test_the_reference_has_every_command() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "slack.md").read_text("utf-8")
    rows = [f"| `/inc {verb.example}` | {verb.means} |" for verb in VERBS.values()]
    assert [line for line in page.splitlines() if line.startswith("| `")] == rows


def test_times() -> None:
    assert [minutes_of(text) for text in ("5", "5m", "5min", "1h", "1d2h3m")] == [5, 5, 5, 60, 1563]
    assert [minutes_of(text) for text in ("", "0", "h", "-1", "8d", "1.5h", "٣m", "9" * 30)] == [None] * 8


WORDS = st.sampled_from(
    [*VERBS, "INC-7", "T1", "done", "me", "@sre-1", "30m", '"', "'", "“", "|", "sev2", "agent=", "<@"]
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(st.text(max_size=200), st.lists(WORDS | st.text(string.printable, max_size=8), max_size=12).map(" ".join))
)
@example("\ud800 ack")
@example('task "' * 500)
@example("sev ²")
@example("silence ١h")
@example("task T1" + " T1" * 1000)
def test_any_text_is_read_and_none_raises(text: str) -> None:
    found = parse(text)
    assert isinstance(found, Command | Mistake)
    if isinstance(found, Mistake):
        assert 0 < len(found.why) < 600
    elif found.verb:
        assert found.verb in VERBS
