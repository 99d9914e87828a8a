"""The bot's voice: every state that can be reached is shown in full, in blocks that Slack takes, and harmlessly."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot import domain
from bot.config import EXAMPLE, load
from bot.domain.approval import ApprovalState
from bot.domain.containment import Containment
from bot.domain.decisions import Notify, Page, Post
from bot.domain.escalation import Contact
from bot.domain.events import (
    Acknowledged,
    ApprovalGiven,
    ApprovalRefused,
    Deferred,
    Overridden,
    PageFailed,
    Permitted,
    Released,
    Status,
    StatusChanged,
    TextRef,
    Unacknowledged,
)
from bot.domain.incident import Incident, fold
from bot.domain.outcome import Done, Failed, Grade, Outcome, Pending, Skipped, Unknown
from bot.domain.playbook import Manual, Step
from bot.domain.redaction import Redactor
from bot.engine.world import Said
from bot.errors import RecordBroken, Refused
from bot.sandbox.blocks import button, problems
from bot.slack.blocks import SlackVoice, answered
from bot.slack.mrkdwn import entities
from tests.domain.incidents import (
    AGENT,
    DENIED,
    HOSTILE,
    PLAYBOOK,
    REVOKED,
    ROSTER,
    SHADOWED,
    SMALL,
    START,
    STORIES,
    Story,
    begin,
    step,
)

PEOPLE = load(EXAMPLE).people
VOICE = SlackVoice()
ACTIVE = re.compile(r"<!|<https?:|<[a-z]+\||(?<!\u2060)@(?:here|channel)\b|https?://")


def read(_: TextRef) -> str:
    return f"Deploy without approval {HOSTILE}\n\n{HOSTILE}"


def texts(value: Any) -> Iterator[str]:
    """Every string in the blocks."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from texts(item)


def shown(said: Said) -> str:
    return "\n".join(texts(said.blocks))


def all_of(incident: Incident, decisions: Sequence[Any] = (), voice: SlackVoice = VOICE) -> Iterator[Said]:
    """Whatever can be said of a state. A page's text is plain, so it is escaped here as the pager for Slack does it."""
    yield voice.card(incident, read)
    for asked in incident.approvals.values():
        yield voice.approval(incident, asked)
    for number, one in enumerate(decisions):
        match one:
            case Page() | Notify():
                late, again = ((0.2, False), (7300.0, True))[number % 2]
                made = voice.page(incident, one, late=late, may_repeat=again)
                yield replace(made, text=entities(made.text))
            case Post(purpose=purpose) if purpose != "card":
                yield voice.post(incident, purpose)


def check(said: Said) -> None:
    assert problems(said.blocks) == ()
    assert said.text
    assert len(said.text) < 20_000
    assert "\n" not in said.subject
    for text in (said.text, said.subject, *texts(said.blocks)):
        assert not ACTIVE.search(text), text
        assert not re.search(r"(?<!\d)\d\d:\d\d:\d\d(?! UTC)", text), text


@pytest.mark.parametrize("name", STORIES)
def test_every_state_of_every_story_can_be_shown(name: str) -> None:
    story = STORIES[name]()
    state = Incident("INC-7", story.frozen)
    known: set[str] = set()
    for number, entry in enumerate(story.entries):
        state = fold(state, [entry])
        for said in all_of(state, entry.decisions, (VOICE, SlackVoice(PEOPLE))[number % 2]):
            if repr(said) not in known:
                known.add(repr(said))
                check(said)


PERSONS = st.sampled_from(("responder-1", "security-2", "infra-1", "head-of-security", HOSTILE))
STEPS = st.sampled_from(tuple(PLAYBOOK.steps))
WHY = st.sampled_from(("", "permission denied", HOSTILE, "x&<>*_`" * 700, "\u202e\x00`*_~ \n\n"))
OUTCOMES = st.one_of(
    st.builds(
        Done,
        st.sampled_from(Grade),
        st.builds(lambda why, until: {"why": why, "alive_until": until, "alive": [why]}, WHY, WHY)
        | st.just({"alive_until": (START + timedelta(hours=50)).isoformat()}),
        st.none(),
        st.sampled_from(("", "no lease")),
    ),
    st.builds(Failed, st.booleans(), WHY),
    st.builds(Skipped, WHY),
    st.builds(Unknown, WHY),
    st.builds(
        lambda s, why, away: Pending(START + timedelta(seconds=s), {}, why, away), st.integers(0, 9), WHY, st.booleans()
    ),
)
MOVES = st.one_of(
    st.tuples(st.just("settle"), STEPS, OUTCOMES),
    st.tuples(st.just("wait"), st.integers(1, 5000)),
    st.tuples(st.just("say"), st.builds(Acknowledged, PERSONS, st.just("slack"))),
    st.tuples(st.just("say"), st.builds(Unacknowledged, PERSONS, st.just("slack"))),
    st.tuples(st.just("say"), st.builds(StatusChanged, st.sampled_from(Status), PERSONS)),
    st.tuples(st.just("say"), st.builds(Overridden, STEPS, PERSONS, st.booleans())),
    st.tuples(st.just("say"), st.builds(Released, STEPS, PERSONS)),
    st.tuples(st.just("approve"), PERSONS, st.booleans()),
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(MOVES, max_size=14), st.booleans(), st.sampled_from(("live", "tabletop")), st.sampled_from((AGENT, None))
)
def test_whatever_happens_can_be_shown(moves: list[Any], held_back: bool, mode: str, agent: Any) -> None:
    def permits(asked: Any) -> Any:
        back = held_back and asked.contains
        return Deferred(asked.steps, HOSTILE) if back else Permitted(asked.steps, asked.group)

    uid = "agent-7" if agent else HOSTILE
    story = begin(PLAYBOOK, {"permits": permits}, mode=mode, agent=agent, agent_uid=uid, linked=("INC-5",))
    for move in moves:
        try:
            play(story, move)
        except (Refused, StopIteration):
            continue
    decisions = [d for entry in story.entries for d in entry.decisions]
    for said in all_of(story.incident, decisions[-5:]):
        check(said)


def play(story: Story, move: tuple[Any, ...]) -> None:
    match move:
        case "settle", str() as name, outcome:
            story.settle(name, outcome)
        case "wait", int() as seconds:
            story.wait(timedelta(seconds=seconds))
        case "say", event:
            story.happen(event)
        case "approve", person, yes:
            run = story.incident.steps["quarantine"]
            groups = ("security_team", "infra_owner")
            event = ApprovalGiven(run.request, person, groups, run.hash) if yes else None
            story.happen(event or ApprovalRefused(run.request, person, groups))


def test_the_purposes_of_posts_are_all_known() -> None:
    """What the rules can post, read from the rules: none is told by its bare name."""
    sources = "\n".join(path.read_text() for path in Path(domain.__path__[0]).glob("*.py"))
    found = set(re.findall(r'Post\([\w.]+, [\w.]+, f?"([a-z_]+)', sources))
    found |= set(re.findall(r'facts\.append\(f?"([a-z_]+)', sources))
    found |= set(re.findall(r'^ +yield f?"([a-z_]+)[:"]', sources, re.MULTILINE))
    found -= {"card", "request", "asked", "pin"}  # the card, an approval's message, and no message at all
    assert {"acknowledged", "containment", "severity", "task", "files", "announcement", "roles"} <= found
    story = begin(SMALL)
    for purpose in sorted(found):
        said = VOICE.post(story.incident, f"{purpose}:x")
        check(said)
        assert f"{purpose}:x" not in said.text, purpose


FORM = replace(
    SMALL,
    steps={
        **SMALL.steps,
        "impact": Step("impact", manual=Manual("incident_commander", {"customer_impact": "boolean", "notes": "text"})),
    },
)


def said(story: Story, purpose: str) -> str:
    made = VOICE.post(story.incident, purpose)
    check(made)
    return made.text


def test_posts() -> None:
    story = begin(FORM, roster={**ROSTER, "incident_commander": (Contact("commander-1", ("slack",)),)})
    assert said(story, "form:impact") == (
        "impact waits for the incident commander (commander-1) by 12:30:00 UTC: customer impact and notes. "
        "Answer with: /inc form INC-7 impact"
    )
    assert said(story, "nobody_on_call:L2").startswith("NOBODY is on call for L2: the next level is paged at once.")
    assert said(story, "unreachable:L1") == "Nobody of L1 could be reached by any way: the next level is paged at once."
    story.wait(timedelta(seconds=30)).happen(Acknowledged("responder-1", "slack"))
    assert said(story, "acknowledged") == (
        "Acknowledged by responder-1 at 12:00:30 UTC, 30 s after the opening. "
        "Escalation stops until 12:30:30 UTC. Containment and its pages go on."
    )
    assert "has acknowledged since" in said(story, "unacknowledged")
    story.settle("shadow", SHADOWED).settle("revoke_vault", Failed(False, "permission denied"))
    assert said(story, "containment:partial") == (
        "PARTLY CONTAINED: at least one cut does not hold (revoke_vault). A person has to finish it."
    )
    story.happen(Overridden("revoke_vault", "commander-1"))
    assert said(story, "overridden:revoke_vault") == "revoke_vault runs on a person's word, past what held it back."
    assert "Since then: NOT CONTAINED YET" in said(story, "containment:partial")
    story.settle("revoke_vault", Unknown("the process ended"))
    assert said(story, "containment:unknown").startswith(
        "UNKNOWN: at least one cut may or may not have happened (revoke"
    )
    story.happen(Overridden("revoke_vault", "commander-1", accept=True))
    assert "taken as it is on a person's word" in said(story, "overridden:revoke_vault")
    story.happen(StatusChanged(Status.RESOLVED, "commander-1"))
    assert said(story, "status:resolved").startswith("The incident is now resolved. UNKNOWN: 1 of 2 cuts verified")
    assert said(story, "status:investigating") == "The incident is now investigating. It is resolved by now."
    assert said(story, "something:new") == "INC-7: something:new."


def test_a_page_that_did_not_leave_names_who_was_not_reached() -> None:
    story = begin(SMALL, {"answers": lambda page: page.person != "responder-1"})
    pages = [p for p in story.pages() if isinstance(p, Page)]
    story.queued.remove(pages[0])
    story.happen(PageFailed(pages[0].id, pages[0].key, "responder-1", "slack", "not_in_channel"))
    assert said(story, "page_failed:slack") == (
        "A page by slack to responder-1 did not leave. Their next way is being tried."
    )
    retry = next(p for p in story.pages() if isinstance(p, Page) and p.way == "email")
    story.queued.remove(retry)
    story.happen(PageFailed(retry.id, retry.key, "responder-1", "email", "refused"))
    assert "responder-1: NOT REACHED by any way, call them." in said(story, "page_failed:email")
    notice = next(p for p in story.pages() if isinstance(p, Notify))
    story.queued.remove(notice)
    story.happen(PageFailed(notice.id, notice.key, notice.person, "slack", "not_in_channel"))
    assert said(story, f"page_failed:slack:{notice.id}").startswith(
        f"A notice (incident opened) by slack to {notice.person} did not leave."
    )
    assert said(story, f"page_failed:slack:{pages[0].id}").startswith("A page by slack to responder-1 did not leave.")


# Pages ----------------------------------------------------------------------------------------------------------


def first_page(story: Story, reason: str) -> Page | Notify:
    every = [d for entry in story.entries for d in entry.decisions if isinstance(d, Page | Notify)]
    return next(p for p in every if (p.reason if isinstance(p, Page) else p.topic) == reason)


def test_a_page_says_everything_in_plain_words() -> None:
    story = begin(PLAYBOOK)
    story.settle("shadow", SHADOWED).settle("revoke_vault", Failed(False, "still alive: lease-x (permission denied)"))
    page = first_page(story, "escalation")
    made = VOICE.page(story.incident, page, late=0.1, may_repeat=False)
    assert made.subject == "INC-7 SEV1 unintended production change: new incident, nobody has acknowledged"
    for part in (
        "INC-7 SEV1 unintended production change",
        "You are on call at level 1 SRE",
        "Deploy agent (agent-7), owner owner-1",
        "NOT CONTAINED YET, running: 2 of 4 cuts verified",
        "✓ shadow (agent.set_mode on agent:agent-7): in force, verified-effect",
        "✗ revoke_vault (vault.revoke_agent on vault-entity:agent-7): FAILED: still alive: lease-x (permission denied)",
        "still missing 1 security team and 1 infra owner, until 12:10:00 UTC",
        "Next: acknowledge, which stops these pages",
        "Else level 2 Head of Security is paged at 12:15:00 UTC.",
    ):
        assert part in made.text
    assert "late" not in made.text
    assert "repeat" not in made.text
    assert button(made.blocks, "ack")["value"] == "INC-7"
    assert button(made.blocks, "override")["value"] == "INC-7|revoke_vault"


def test_a_page_that_is_late_or_may_repeat_says_so() -> None:
    story = begin(SMALL)
    page = replace(first_page(story, "escalation"), levels=(0, 1))
    late = VOICE.page(story.incident, page, late=14 * 60 + 31.0, may_repeat=True).text
    assert "This page is late by 14 min and may repeat one that left before a restart." in late
    assert "It stands for the missed pages of level 1 SRE and level 2 Head of Security." in late
    again = VOICE.page(story.incident, page, late=3.0, may_repeat=True).text
    assert "This page is a second try: it may repeat one that left before a restart." in again


def test_notices_and_clock_pages() -> None:
    story = begin(SMALL).wait(timedelta(minutes=16))
    made = VOICE.page(story.incident, first_page(story, "not_contained"), late=0.0, may_repeat=False)
    assert made.subject.endswith("NOT CONTAINED 15 min after the opening")
    assert "Acknowledging does not stop this page." in made.text
    notice = VOICE.page(story.incident, first_page(story, "opened"), late=0.0, may_repeat=False)
    assert "nothing by default" in notice.text
    with pytest.raises(LookupError):
        button(notice.blocks, "ack")


def test_an_exercise_says_so_first() -> None:
    story = begin(SMALL, mode="tabletop")
    made = VOICE.page(story.incident, first_page(story, "escalation"), late=0.0, may_repeat=False)
    assert made.text.startswith("TABLETOP: an exercise.")
    assert made.subject.startswith("[TABLETOP] INC-7")
    assert "TABLETOP" in str(VOICE.card(story.incident, read).blocks[0])
    assert VOICE.post(story.incident, "acknowledged").text.startswith("[TABLETOP] ")


# The card -------------------------------------------------------------------------------------------------------


def test_the_card_says_what_holds_and_what_may_be_alive() -> None:
    story = begin(PLAYBOOK)
    until = (story.now + timedelta(minutes=5)).isoformat()
    story.settle("shadow", SHADOWED).settle("revoke_vault", REVOKED)
    for person, group in (("security-2", "security_team"), ("infra-1", "infra_owner")):
        run = story.incident.steps["quarantine"]
        story.happen(ApprovalGiven(run.request, person, (group,), run.hash))
    story.settle("quarantine", replace(DENIED, evidence={"alive_until": until}))
    assert story.incident.containment is Containment.CONTAINED
    card = shown(VOICE.card(story.incident, read))
    assert "CONTAINED: 4 of 4 cuts verified, but what was revoked may be alive until 12:05:00 UTC." in card
    assert "✓ *quarantine*  revoked, verified-config, may be alive until 12:05:00 UTC" in card
    assert "✓ *shadow*  in force, verified-effect" in card
    assert "✓ *keys*  nothing to cut" in card
    assert "NOBODY" in card


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (replace(SHADOWED, grade=Grade.CONFIG), "! *shadow*  verified-config, verified-effect is required"),
        (Done(Grade.UNVERIFIED), "! *shadow*  unverified, verified-effect is required"),
        (Failed(False, "the canary passed"), "✗ *shadow*  FAILED: the canary passed"),
        (Unknown("it ended"), "? *shadow*  UNKNOWN whether it happened: it ended"),
        (Skipped("protected"), "– *shadow*  not done: protected"),
        (
            Pending(START + timedelta(seconds=30), {}, "refused", unavailable=True),
            "… *shadow*  gateway does not answer; what it cuts may still be alive (refused)",
        ),
        (Pending(START, {}, "1 of 2 instances"), "… *shadow*  running (1 of 2 instances)"),
    ],
)
def test_the_card_never_rounds_up(outcome: Outcome, words: str) -> None:
    story = begin(SMALL).settle("revoke_vault", REVOKED).settle("shadow", outcome)
    card = shown(VOICE.card(story.incident, read))
    assert words in card
    assert "\nCONTAINED" not in card
    assert "*CONTAINED" not in card


def test_buttons_follow_the_state() -> None:
    story = begin(SMALL)
    assert button(VOICE.card(story.incident, read).blocks, "ack")["value"] == "INC-7"
    story.happen(Acknowledged("responder-1", "slack"))
    card = VOICE.card(story.incident, read)
    assert button(card.blocks, "unack")["value"] == "INC-7"
    assert "responder-1 at 12:00:00 UTC, holds until 12:30:00 UTC" in shown(card)
    story.happen(StatusChanged(Status.RESOLVED, "responder-1"))
    assert "button" not in str(VOICE.card(story.incident, read).blocks)


def test_what_approvers_refused_is_no_click_away() -> None:
    story = begin(PLAYBOOK)
    story.happen(ApprovalRefused(story.request("quarantine"), "infra-1", ("infra_owner",)))
    assert "override" not in str(VOICE.card(story.incident, read).blocks)


def test_text_that_was_erased_or_tampered_with() -> None:
    def broken(_: TextRef) -> str:
        raise RecordBroken("artefact text-alert is not what the record says")

    state = begin(SMALL).incident
    assert "(erased)" in shown(VOICE.card(state, lambda _: None))
    assert "does not match the record" in shown(VOICE.card(state, broken))
    check(VOICE.card(state, broken))


def test_a_wide_incident_fits() -> None:
    """Sixty targets, each with a long answer, in every place they are shown."""
    wide = replace(
        PLAYBOOK, steps={f"step_{n}": step(f"step_{n}", "vault.revoke_agent", contains=True) for n in range(60)}
    )
    story = begin(wide)
    state = story.incident
    runs = {
        id: replace(
            run, calls={n: replace(c, outcome=Failed(False, "&" * 4000), final=True) for n, c in run.calls.items()}
        )
        for id, run in state.steps.items()
    }
    state = replace(
        state, steps=runs, roster=dict.fromkeys(state.roster, tuple(Contact(f"person-{n}", ()) for n in range(90)))
    )
    for made in all_of(state, [first_page(story, "escalation")]):
        check(made)
    assert "and 36 more" in shown(VOICE.card(state, read))


# Approvals ------------------------------------------------------------------------------------------------------


def asked(story: Story, voice: SlackVoice = VOICE, step: str = "quarantine") -> Said:
    made = voice.approval(story.incident, story.incident.approvals[story.request(step)])
    check(made)
    return made


def test_a_request_states_what_would_be_done() -> None:
    story = begin(PLAYBOOK, initiator="security-ops-1")
    request, hash = story.request("quarantine"), story.incident.steps["quarantine"].hash
    made = asked(story, SlackVoice(PEOPLE))
    text = shown(made)
    for part in (
        "INC-7 asks: quarantine",
        "APPROVAL NEEDED",
        "Missing: 1 of security team: <@U0SECOPS2>, <@U0HEADSEC>",
        "Missing: 1 of infra owner: <@U0SRE1>, <@U0INFRA1>, <@U0INFRA2>",
        "Not by Security Ops 1, who asked for or started this.",
        "Until 12:10:00 UTC; undecided by then, it counts as refused.",
        "`aws.iam_deny_all`",
        "Attaches AWS's own policy",
        "Scope, frozen: 1 target",
        "`iam-role:agent-7` through `aws`",
        '`{"agent": "agent-7"}`',
        "cuts off iam-role of agent-7; stays in force until a person releases it",
        "a release restores what stood before",
        "playbook contain-agent 1.2.0 (pppppppppppp)",
        f"plan {hash[:12]}",
    ):
        assert part in text
    for action in ("approve", "refuse"):
        assert button(made.blocks, action)["value"] == f"{request}|{hash}"
    assert Redactor(b"salt").json(list(made.blocks)) == list(made.blocks)  # a hash is no secret


def test_a_request_shows_what_became_of_it() -> None:
    story = begin(PLAYBOOK)
    run = story.incident.steps["quarantine"]
    story.happen(ApprovalGiven(run.request, "security-2", ("security_team",), run.hash))
    assert "Approved so far by: security-2 (security team)" in shown(asked(story))
    story.happen(ApprovalGiven(run.request, "infra-1", ("infra_owner",), run.hash))
    granted = asked(story)
    assert "GRANTED by security-2, infra-1." in shown(granted)
    assert "button" not in str(granted.blocks)

    story = begin(PLAYBOOK)
    story.happen(ApprovalRefused(story.request("quarantine"), "infra-1", ("infra_owner",)))
    assert "REFUSED by infra-1 at 12:00:00 UTC. It is not done." in shown(asked(story))

    story = begin(PLAYBOOK).wait(timedelta(minutes=11))
    assert "EXPIRED at 12:10:00 UTC: nobody decided in time. It is not done." in shown(asked(story))

    story = begin(PLAYBOOK).happen(StatusChanged(Status.FALSE_POSITIVE, "commander-1"))
    assert "button" not in str(asked(story).blocks)
    assert "WITHDRAWN" in shown(asked(story))

    state = begin(PLAYBOOK).incident
    old = replace(next(iter(state.approvals.values())), request="INC-7/0.9", state=ApprovalState.SUPERSEDED)
    replaced = VOICE.approval(state, old)
    check(replaced)
    assert "SUPERSEDED: the plan changed" in shown(replaced)
    assert "Scope" not in shown(replaced)  # the targets in the state are the newer request's


def test_nobody_who_could_approve_is_said() -> None:
    lonely = SlackVoice(replace(PEOPLE, persons={}))
    assert "NOBODY can: add a person to this group in people.yaml" in shown(asked(begin(PLAYBOOK), lonely))


# After a click --------------------------------------------------------------------------------------------------


def test_a_page_is_answered_in_place_however_often() -> None:
    story = begin(SMALL)
    sent = VOICE.page(story.incident, first_page(story, "escalation"), late=0.0, may_repeat=False).blocks
    story.happen(Acknowledged("responder-1", "slack"))
    once = answered(story.incident, sent, PEOPLE)
    assert answered(story.incident, once, PEOPLE) == once
    assert button(once, "unack")["value"] == "INC-7"
    assert "Acknowledged: responder-1 at 12:00:00 UTC" in "\n".join(texts(once))
    story.happen(StatusChanged(Status.RESOLVED, "responder-1"))
    over = answered(story.incident, once, PEOPLE)
    assert problems(over) == ()
    assert "INC-7 is resolved." in "\n".join(texts(over))
    assert "button" not in str(over)
