"""`/inc` from end to end: typed or chosen in the sandbox workspace, through the real Bolt, into the record and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bot.domain.alert import Sev
from bot.domain.events import (
    Acknowledged,
    ApprovalsAudited,
    AuditAsked,
    Escalated,
    MadePrivate,
    Merged,
    NoteAdded,
    Opened,
    Pinned,
    Released,
    ReminderSnoozed,
    RoleTaken,
    SeverityChanged,
    Silenced,
    Status,
    Summoned,
    TaskAdded,
    UpdateGiven,
)
from bot.ports import ChatMessage
from bot.sandbox.workspace import ApiError, Message
from tests.slack.desk import GUEST, HEAD, HOSTILE, INFRA, ROOM, SECOPS, SRE, STRANGER, Desk, opened


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path, rooms=True) as desk:
        yield desk


def room(desk: Desk, id: str = "") -> tuple[str, str]:
    """An open incident and its channel, with everybody in it."""
    id = id or desk.alert()
    channel = desk.until(lambda: desk.state(id).channel, "its channel")

    def inside() -> frozenset[str]:
        return desk.server.workspace.channels[channel].members

    desk.until(lambda: HEAD in inside(), "who is on duty is let in")
    for user in {SRE, SECOPS, INFRA} - inside():
        with suppress(ApiError):  # the bot was faster
            desk.act("invite", HEAD, channel=channel, users=[user])
    return id, channel


def test_an_incident_is_declared_worked_on_and_resolved_by_commands(desk: Desk) -> None:
    desk.inc(SRE, 'new "Agent mails customer lists" sev2')
    desk.hears(SRE, "INC-1 is open, SEV2")
    _, channel = room(desk, "INC-1")

    def say(text: str, words: str, user: str = SRE) -> None:
        desk.inc(user, text, channel)
        desk.hears(user, words)

    say("ack", "You have acknowledged INC-1")
    say("sev 1", "INC-1 is now SEV1.")
    say("role scribe", "SRE 1 is scribe of INC-1")
    desk.until(lambda: any("You are scribe of INC-1" in m.text for m in desk.direct(SRE)), "its instructions")
    assert "pushpin" in str(desk.direct(SRE)[-1].blocks)
    say(f'task "Rotate {HOSTILE}" <@{INFRA}|infra> 30m', "T1 of INC-1: Infra owner 1, due")
    say("task T1 done", "T1 of INC-1: done.")
    say('update "Vault is sealed" "Unsealing"', "Recorded: update 1 of INC-1")
    say("note Restored from the backup", "Noted on the timeline")
    say(f"page <@{INFRA}>", "is being paged for INC-1")
    say("unack", "not acknowledged any more")
    say("escalate", "The next level of INC-1 is being paged.")
    say("silence 30m", "silence is for incident_commander", SECOPS)
    say("silence 30m", "No page of INC-1 is repeated until", HEAD)
    say("oncall", "Who is on call")
    say("timeline", "Timeline of INC-1")
    say("why paged", "INC-1")
    say("postmortem", "it is drafted when the incident is resolved")
    say("drill", "/inc drill dropped-table")
    say("drill no-such-drill", "/inc drill dropped-table")
    say("drill leaked-key", "plays, on simulated systems")
    desk.hears(SRE, "The drill leaked-key:")
    desk.hears(SRE, "Every target was met.")
    say("help", "What /inc understands")
    say("resolve", "INC-1 is now resolved.")
    say("ack", "INC-1 is already resolved.")
    say("reopen", "INC-1 is now investigating.", HEAD)

    kinds = (Acknowledged, SeverityChanged, RoleTaken, TaskAdded, UpdateGiven, NoteAdded, Summoned, Escalated, Silenced)
    assert [len(desk.events("INC-1", kind)) for kind in kinds] == [1] * len(kinds)
    assert {getattr(event, "via", "slack") for event in desk.events("INC-1", *kinds)} == {"slack"}
    assert desk.state("INC-1").severity is Sev.SEV1
    blocks = str([m.blocks for m in desk._messages()])
    assert "<!channel>" not in blocks


def test_the_picture_and_the_postmortem_are_sent_to_whoever_asks(desk: Desk) -> None:
    id, channel = room(desk)
    desk.inc(SRE, "timeline", channel)
    desk.until(lambda: "timeline.svg" in str(files(desk, SRE)), "the picture")
    desk.inc(HEAD, "resolve", channel)
    desk.until(lambda: "postmortem" in desk.state(id).documents, "the draft")
    desk.inc(SRE, f"postmortem {id}", ROOM)
    desk.hears(SRE, f"The postmortem of {id} is in your messages with Firedoor.")
    assert "postmortem.md" in str(files(desk, SRE))


def files(desk: Desk, user: str) -> list[Any]:
    return [message.shown().get("files") for message in desk.direct(user)]


def test_an_audit_is_asked_for_and_answered_with_the_finding(desk: Desk) -> None:
    id, channel = room(desk)
    desk.until(lambda: desk.state(id).audited, "the audit that runs by itself")
    desk.inc(SRE, "audit", channel)
    desk.hears(SRE, f"Approval path: no privileged action was seen. {id} is being audited anew")
    assert [(asked.by, asked.via) for asked in desk.events(id, AuditAsked)] == [("sre-1", "slack")]
    desk.until(lambda: len(desk.events(id, ApprovalsAudited)) == 2, "the new finding")
    desk.inc(SRE, f"approvals {id}", ROOM)
    desk.hears(SRE, f"{id} is being audited anew: what is found comes into its thread.")
    desk.inc(SRE, 'new "Nothing collected" sev4')
    desk.hears(SRE, "INC-2 is open")
    desk.inc(SRE, "audit INC-2", ROOM)
    desk.hears(SRE, "INC-2 has no evidence yet")


def test_elsewhere_it_asks_which_incident_is_meant(desk: Desk) -> None:
    id, _ = room(desk)
    desk.inc(SRE, "ack")
    assert desk.submit(SRE, "is about one incident", incident=id)["result"] == "updated"
    desk.modal(SRE, f"You have acknowledged {id}")
    assert [event.by for event in desk.events(id, Acknowledged)] == ["sre-1"]
    desk.inc(SECOPS, "sev")
    desk.submit(SECOPS, "is about one incident", incident=id)
    assert desk.submit(SECOPS, "SEV4: to be looked at", to="SEV2")["result"] == "closed"
    desk.hears(SECOPS, "lower_severity is for")
    desk.inc(HEAD, f"sev {id} 2")
    desk.hears(HEAD, f"{id} is now SEV2.")


def test_a_form_opens_for_what_is_missing_and_says_what_is_wrong_where_it_is_wrong(desk: Desk) -> None:
    desk.inc(SRE)  # outside of an incident's channel, nothing typed
    answer = desk.submit(SRE, "Open an incident", title="Odd mails", agent="agent-77", severity="SEV2")
    assert answer["result"] == "errors"
    assert "agents.yaml has no 'agent-77'. Did you mean 'agent-7'?" in answer["errors"]["agent"]
    assert desk.submit(SRE, "Open an incident", title="Odd mails", agent="agent-7")["result"] == "closed"
    desk.hears(SRE, "INC-1 is open")
    assert desk.events("INC-1", Opened)[0].declared_by == "sre-1"


FORMS: tuple[tuple[str, str, dict[str, str], str, type], ...] = (
    ("update", "Status update", {"conditions": "Sealed", "needs": "Hands"}, "Recorded: update 1", UpdateGiven),
    ("sev", "SEV4: to be looked at", {"to": "SEV3"}, "is now SEV3", SeverityChanged),
    ("role", "Who takes it", {"role": "communications", "who": "sre-2"}, "SRE 2 is communications", RoleTaken),
    ("task", "New task", {"text": "Call them", "owner": "@me", "due": "30"}, "T1 of INC-1", TaskAdded),
    ("note", "For the timeline", {"text": "Seen before"}, "Noted on the timeline", NoteAdded),
    ("page", "Page now", {"who": "dpo"}, "is being paged", Summoned),
    ("silence", "No page is repeated.", {"minutes": "15"}, "No page of INC-1 is repeated", Silenced),
)


def test_each_command_works_as_a_modal_from_the_menu(desk: Desk) -> None:
    id, channel = room(desk)
    for verb, words, values, heard, event in FORMS:
        desk.inc(HEAD, "", channel)
        view = desk.modal(HEAD, "CONTAINED")["id"]
        desk.act("click", HEAD, view=view, action_id=f"menu:{verb}", block_id=block_of(desk, HEAD, f"menu:{verb}"))
        assert desk.submit(HEAD, words, **values)["result"] == "closed"
        desk.hears(HEAD, heard)
        assert [said.by for said in desk.events(id, event)] == ["head-of-security"]


def block_of(desk: Desk, user: str, action: str) -> str:
    blocks = desk.modal(user, action)["blocks"]
    return next(str(b["block_id"]) for b in blocks if any(e.get("action_id") == action for e in b.get("elements", ())))


def test_an_approval_is_read_before_it_is_given(desk: Desk) -> None:
    id, channel = room(desk)
    desk.request(id)
    desk.inc(HEAD, "approve quarantine_role", channel)
    view = desk.modal(HEAD, "Scope, frozen")
    assert "Impact" in str(view)
    assert desk.submit(HEAD, "Scope, frozen")["result"] == "closed"
    desk.hears(HEAD, "Still missing: 1 infra owner")
    desk.inc(INFRA, 'refuse quarantine_role "it is shared"', channel)
    desk.hears(INFRA, "It is not done.")
    desk.inc(HEAD, "approve", channel)
    desk.modal(HEAD, "No approval is asked for now.")


def test_the_buttons_of_the_card(desk: Desk) -> None:
    id, _ = room(desk)
    card = desk.card(id)
    desk.click(SRE, card, "escalate")
    desk.hears(SRE, f"The next level of {id} is being paged.")
    desk.click(HEAD, desk.now(card), "silence")
    desk.submit(HEAD, "No page is repeated.", minutes="30")
    desk.hears(HEAD, f"No page of {id} is repeated")
    desk.click(SRE, desk.now(card), "responders")
    desk.submit(SRE, "Page now", who="dpo")
    desk.hears(SRE, "is being paged")
    desk.click(HEAD, desk.now(card), "resolve")
    desk.hears(HEAD, f"{id} is now resolved.")


def test_a_role_is_claimed_by_its_button_and_explained_in_private(desk: Desk) -> None:
    id, channel = room(desk)
    post = desk.until(lambda: with_action(desk, channel, "role"), "the roles")
    block = next(b["block_id"] for b in post.blocks if "communications" in str(b.get("accessory", {}).get("value")))
    desk.click(SRE, post, "role", block)
    desk.hears(SRE, f"SRE 1 is communications of {id}")
    desk.until(lambda: any("You are communications" in m.text for m in desk.direct(SRE)), "its instructions")
    assert desk.state(id).roles == {"communications": "sre-1"}


def test_the_reminder_can_be_answered_put_off_and_stopped(desk: Desk) -> None:
    id, channel = room(desk)
    said = desk.engine.world.voice.post(desk.state(id), "reminder")
    chat = desk.engine.world.ports.chat
    assert chat
    chat.post(channel, ChatMessage("reminder-1", said.text, said.blocks))
    post = desk.until(lambda: with_action(desk, channel, "snooze_60"), "the reminder")
    desk.click(SRE, post, "snooze_60")
    desk.hears(SRE, "Reminded again")
    desk.click(SRE, post, "snooze_stop")
    desk.hears(SRE, "Not reminded again before the next update.")
    desk.click(SRE, post, "update")
    desk.submit(SRE, "Status update", conditions="All is well")
    desk.hears(SRE, f"Recorded: update 1 of {id}")
    snoozed = desk.events(id, ReminderSnoozed)
    assert [one.until is None for one in snoozed] == [False, True]


def test_after_a_false_positive_the_holds_are_let_go_from_the_card(desk: Desk) -> None:
    id, channel = room(desk)
    desk.until(lambda: desk.state(id).steps["shadow"].status == "done", "it is cut")
    desk.inc(HEAD, "status false positive", channel)
    desk.hears(HEAD, f"{id} is now false positive.")
    card = desk.until(lambda: "release" in str(desk.card(id).blocks) and desk.card(id), "the card offers it")
    block = next(b["block_id"] for b in card.blocks if "|shadow" in str(b.get("accessory", {}).get("value")))
    desk.click(HEAD, card, "release", block)
    desk.hears(HEAD, f"shadow of {id} is let go")
    assert [one.step for one in desk.events(id, Released)] == ["shadow"]


def with_action(desk: Desk, channel: str, action: str) -> Message | None:
    here = desk.server.workspace.messages(channel)
    return next((m for m in here if f"'action_id': '{action}'" in str(m.blocks)), None)


def test_one_delivery_is_one_event_and_a_late_one_hears_the_truth(desk: Desk) -> None:
    id, channel = room(desk)
    desk.server.workspace.fault("duplicate", "slash_commands")
    desk.inc(SRE, "note once", channel)
    desk.until(lambda: desk.events(id, NoteAdded), "noted")
    desk.inc(SRE, "ack", channel)
    desk.inc(HEAD, "ack", channel)
    desk.hears(HEAD, f"{id} is already acknowledged by sre-1.")
    assert len(desk.events(id, NoteAdded)) == len(desk.events(id, Acknowledged)) == 1


def test_guests_and_strangers_are_told_why_not(desk: Desk) -> None:
    desk.inc(GUEST, "new Trouble")
    desk.hears(GUEST, "You are a guest")
    desk.inc(STRANGER, "help")
    desk.hears(STRANGER, "does not know you")
    desk.inc(STRANGER, "akc")
    desk.hears(STRANGER, "Did you mean /inc ack?")
    assert desk.engine.submit(lambda r: len(r.tx.streams("incident"))).result(30) == 0  # type: ignore[arg-type, return-value]  # a job that reads


def test_a_form_that_showed_another_severity_is_not_believed(desk: Desk) -> None:
    id, channel = room(desk)
    desk.inc(HEAD, "sev", channel)
    desk.inc(SECOPS, "sev", channel)
    desk.submit(HEAD, "SEV4: to be looked at", to="SEV2")
    desk.hears(HEAD, "is now SEV2")
    desk.submit(SECOPS, "SEV4: to be looked at", to="SEV1")
    desk.hears(SECOPS, f"{id} is SEV2 by now, your form showed SEV1")


def test_two_incidents_become_one_and_one_becomes_private(desk: Desk) -> None:
    first, channel = room(desk)
    desk.inc(HEAD, "new The same again")
    second = "INC-2"
    desk.hears(HEAD, f"{second} is open")
    desk.inc(HEAD, f"merge {second} {first}")
    desk.hears(HEAD, f"Merged: it goes on in {first}.")
    assert len(desk.events(second, Merged)) == 1
    assert desk.state(second).status is Status.MERGED
    desk.inc(HEAD, "private", channel)
    desk.hears(HEAD, f"{first} is private from now on.")
    assert len(desk.events(first, MadePrivate)) == 1
    desk.inc(INFRA, f"timeline {first}")
    desk.hears(INFRA, f"There is no incident '{first}'")
    desk.inc(INFRA, "ack")
    desk.modal(INFRA, "No incident is open.")


def test_home_shows_what_is_open_and_what_is_mine(desk: Desk) -> None:
    id, channel = room(desk)
    desk.inc(HEAD, 'task "Call the customers" @sre-1 30m', channel)
    desk.hears(HEAD, "T1 of INC-1")
    desk.act("home", SRE)
    home = desk.home(SRE, "Call the customers")
    assert f"incident:{id}" in str(home["blocks"])
    desk.act("click", SRE, view=home["id"], action_id="task_done", block_id=f"task:{id}|T1")
    desk.until(lambda: "Call the customers" not in str(desk.home(SRE)["blocks"]), "it is done")
    desk.act("click", SRE, view=desk.home(SRE)["id"], action_id="home_menu", block_id=f"incident:{id}")
    desk.modal(SRE, "Unacknowledge" if desk.state(id).acked_by else "Acknowledge")
    desk.act("click", SRE, view=desk.home(SRE)["id"], action_id="home_declare")
    desk.submit(SRE, "Open an incident", title="Another one")
    desk.until(lambda: "INC-2" in str(desk.home(SRE)["blocks"]), "it is listed")
    desk.act("home", GUEST)
    desk.home(GUEST, "You are a guest")


def test_my_pages_can_be_acknowledged_at_home(desk: Desk) -> None:
    id = desk.alert()
    on_call = desk.state(id).roster["sre"][0].person
    user = desk.config.people.persons[on_call].slack
    desk.until(lambda: any(one.state == "sent" for one in desk.state(id).pages.values()), "a page left")
    desk.act("home", user)
    home = desk.home(user, "Your pages")
    desk.act("click", user, view=home["id"], action_id="ack", block_id=f"page:{id}")
    desk.until(lambda: "Your pages" not in str(desk.home(user)["blocks"]), "nothing is mine any more")
    assert [said.by for said in desk.events(id, Acknowledged)] == [on_call]


def test_an_incident_is_made_of_a_message(desk: Desk) -> None:
    said = desk.server.workspace.say(SRE, ROOM, f"Look at this {HOSTILE}")
    desk.act("shortcut", SRE, callback_id="create_incident", channel=ROOM, ts=said.ts)
    view = desk.modal(SRE, "Look at this")
    assert "All that is known" in str(view)
    desk.submit(SRE, "Look at this", title="Look at this")
    desk.hears(SRE, "INC-1 is open")


def test_a_pushpin_puts_a_message_on_the_timeline_and_its_changes_behind_it(desk: Desk) -> None:
    id, channel = room(desk)
    said = desk.server.workspace.say(SRE, channel, "The backup of 02:30 is good")
    key = f"{channel}/{said.ts}"
    for name in ("thumbsup", "eyes", "pushpin", "round_pushpin"):
        desk.act("react", SRE, channel=channel, ts=said.ts, name=name)
    desk.until(lambda: key in desk.state(id).pins, "pinned")
    assert desk.events(id, Acknowledged) == []
    desk.act("edit", SRE, channel=channel, ts=said.ts, text="The backup of 02:30 is broken")
    first = desk.state(id).pins[key].text
    desk.until(lambda: desk.state(id).pins[key].text != first, "the edit is added")
    desk.act("delete", SRE, channel=channel, ts=said.ts)
    desk.until(lambda: desk.state(id).pins[key].text is None, "and the deletion")
    assert len(desk.events(id, Pinned)) == 1
