"""A channel for each incident: what stands where, what happens when Slack does not open it, and after an outage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.adapters.clock import SystemClock
from bot.adapters.slack import SlackChat, SlackPager
from bot.domain.alert import Sev
from bot.domain.containment import Containment
from bot.domain.events import ChannelFailed, ChannelOpened, Invited, Posted, PostFailed, Status
from bot.domain.incident import Incident
from bot.engine import verbs
from bot.engine.room import attachments
from bot.errors import Denied, Refused, Rejected, Unavailable
from bot.sandbox.blocks import elements, problems
from bot.sandbox.chat import Opened, SimChat
from bot.sandbox.estate import Estate
from bot.sandbox.people import SimPager
from bot.sandbox.workspace import Channel, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER
from tests.engine.desk import Desk, desk_at, example

TOWN = "incidents"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_at(tmp_path, rooms=True) as made:
        yield made


def chat(desk: Desk) -> SimChat:
    assert isinstance(desk.chat, SimChat)
    return desk.chat


def home(desk: Desk, incident: str = "INC-1") -> Opened:
    return chat(desk).opened[desk.incident(incident).channel]


def said(desk: Desk, channel: str) -> list[str]:
    return [one.message.text for one in chat(desk).messages(channel)]


def buttons(desk: Desk, channel: str) -> set[tuple[str, str]]:
    """(action id, value) of everything that can be pressed in a channel."""
    found = [one.message.blocks for one in chat(desk).messages(channel)]
    return {
        (str(item["action_id"]), str(item.get("value", "")))
        for blocks in found
        for block in blocks
        for item in elements(block)
    }


def test_everything_stands_in_the_incidents_own_channel(desk: Desk) -> None:
    desk.receive()
    state, room = desk.incident(), home(desk)
    assert room.channel.name == "inc-1-unintended-production-change-agent-7"
    assert room.topic.startswith("[SANDBOX] INC-1 unintended production change about agent-7.")
    assert state.card
    assert [ref.ts for ref in room.pinned] == [state.card[1]]
    by_slack = {c.person for cs in state.roster.values() for c in cs if "slack" in c.ways}
    persons = desk.config.people.persons
    assert set(room.members) == {persons[person].slack for person in by_slack}
    (announced,) = said(desk, TOWN)
    assert announced.startswith("[SANDBOX] INC-1 SEV")
    assert f"<#{state.channel}>" in str(chat(desk).messages(TOWN)[0].message.blocks)
    threads = {one.thread for one in chat(desk).messages(state.channel)}
    assert threads == {"", state.card[1]}
    for channel in (TOWN, state.channel):
        for one in chat(desk).messages(channel):
            assert problems(one.message.blocks) == ()
    assert desk.queued() == 0


def test_the_announcement_is_edited_as_the_incident_goes(desk: Desk) -> None:
    desk.receive()
    before = said(desk, TOWN)
    desk.say(verbs.severity("INC-1", Sev.SEV3, "head-of-security", "slack"))
    desk.resolve()
    after = said(desk, TOWN)
    assert len(before) == len(after) == 1
    assert "SEV3" in after[0]
    assert "resolved" in after[0]


def test_the_card_offers_what_makes_sense(desk: Desk) -> None:
    desk.receive()
    room = desk.incident().channel
    assert {name for name, _ in buttons(desk, room)} >= {"ack", "escalate", "responders", "silence", "resolve", "role"}
    assert "contain" not in {name for name, _ in buttons(desk, room)}  # it runs by itself
    desk.ack("sre-1")
    now = {name for name, _ in buttons(desk, room)}
    assert "unack" in now
    assert not {"ack", "silence"} & now
    desk.resolve()
    assert not {"unack", "resolve", "escalate"} & {name for name, _ in buttons(desk, room)}


def test_what_people_do_is_told_in_the_thread_and_shown_on_the_card(desk: Desk) -> None:
    desk.receive()
    desk.say(verbs.take_role("INC-1", "scribe", "sre-2", "sre-1", "slack"))
    desk.say(verbs.add_task("INC-1", "Rotate the signing key <!channel>", "sre-2", None, "sre-1", "slack"))
    desk.say(verbs.update("INC-1", "Contained", "Looking at logs", "Nothing", "sre-1", "slack"))
    told = said(desk, desk.incident().channel)
    for part in ("SRE 2 is now scribe", "Task T1 for SRE 2", "Status update 1 by SRE 1"):
        assert any(part in text for text in told), part
    everything = str([one.message.blocks for one in chat(desk).messages(desk.incident().channel)])
    assert "<!channel>" not in everything
    assert "Looking at logs" in everything
    assert "1 open, 0 done" in everything
    assert "scribe: SRE 2" in everything


def test_who_acts_is_let_in_and_whom_slack_refuses_stops_nobody(desk: Desk) -> None:
    off_duty = desk.config.people.persons["infra-owner-2"].slack
    chat(desk).aloof = {desk.config.people.persons["dpo"].slack}
    desk.receive()
    first = desk.events(Invited)[0]
    assert first.absent == ("dpo",)
    assert len(home(desk).members) > 5
    assert off_duty not in home(desk).members
    desk.ack("infra-owner-2")
    assert off_duty in home(desk).members


def test_a_name_that_is_taken_gets_a_number(desk: Desk) -> None:
    chat(desk).taken.add("inc-1-unintended-production-change-agent-7")
    desk.receive()
    assert desk.events(ChannelOpened)[0].name == "inc-1-unintended-production-change-agent-7-2"


def test_a_lost_answer_finds_the_channel_again(desk: Desk) -> None:
    chat(desk).faults.add("open_channel", Unavailable("slack", "no answer", sent=True), after=True)
    desk.receive()
    desk.forward(seconds=20)
    assert len(chat(desk).opened) == 1
    assert desk.incident().channel


def test_what_slack_refuses_is_said_and_everything_goes_where_announcements_go(desk: Desk) -> None:
    chat(desk).faults.add("open_channel", Denied("slack", "restricted_action: ask its administrators."))
    desk.receive()
    assert "restricted_action" in desk.events(ChannelFailed)[0].why
    told = said(desk, TOWN)
    assert any("has no channel of its own" in text for text in told)
    assert desk.incident().card
    assert not desk.events(PostFailed)
    assert desk.pages  # and nobody waited for it


def test_pages_leave_while_slack_opens_no_channel(desk: Desk) -> None:
    chat(desk).faults.add("open_channel", Unavailable("slack", "down"), times=100)
    desk.receive()
    assert "sre-1" in desk.paged
    assert not said(desk, TOWN)
    desk.forward(seconds=40)
    assert desk.events(ChannelFailed)
    assert any("has no channel of its own" in text for text in said(desk, TOWN))


def test_after_an_outage_the_channel_catches_up_in_order(desk: Desk) -> None:
    for method in ("open_channel", "post", "update"):
        chat(desk).faults.add(method, Unavailable("slack", "down"), times=4)
    desk.receive()
    for person in ("sre-1", "sre-2"):
        desk.ack(person)
        desk.unack(person)
    desk.say(verbs.severity("INC-1", Sev.SEV3, "head-of-security", "slack"))
    desk.forward(minutes=3)
    room = desk.incident().channel
    assert room
    told = [event.purpose for event in desk.events(Posted) if event.channel == room]
    spoken = [one for one in told if one in ("acknowledged", "unacknowledged", "severity")]
    assert spoken == ["acknowledged", "unacknowledged"] * 2 + ["severity"]
    assert told[0] == "card"
    assert desk.queued() == 0


def test_a_channel_that_people_archived_is_left(desk: Desk) -> None:
    desk.receive()
    chat(desk).archive(desk.incident().channel)
    desk.ack("sre-1")
    assert any("Acknowledged by SRE 1" in text for text in said(desk, TOWN))
    card = desk.incident().card
    assert card
    assert card[0] == TOWN


def test_a_private_incident_says_nothing_outside(desk: Desk) -> None:
    desk.receive()
    before = desk.incident()
    desk.say(verbs.make_private("INC-1", "head-of-security", "slack"))
    after = desk.incident()
    assert home(desk).channel.private
    assert after.channel != before.channel
    assert chat(desk).opened[before.channel].channel.archived
    assert all("private" in text for text in said(desk, TOWN))
    assert "agent-7" not in str([one.message for one in chat(desk).messages(TOWN)])
    old = [
        one for one in chat(desk).messages(before.channel) if not one.thread and one.ref.ts == (before.card or "x")[1]
    ]
    assert "goes on elsewhere" in old[0].message.text
    desk.say(verbs.summon("INC-1", "infra-owner-2", "sre-1", "slack"))
    desk.ack("infra-owner-2")
    assert desk.config.people.persons["infra-owner-2"].slack not in home(desk).members


def test_of_a_private_incident_nobody_outside_can_say_a_word(desk: Desk) -> None:
    desk.receive()
    desk.say(verbs.make_private("INC-1", "head-of-security", "slack"))
    version, outsider = desk.incident().version, "infra-owner-2"
    jobs = [
        verbs.acknowledge("INC-1", outsider, "cli"),
        verbs.note("INC-1", "Hello", outsider),
        verbs.severity("INC-1", Sev.SEV1, outsider, "api"),
        verbs.status("INC-1", Status.RESOLVED, outsider, "api"),
        verbs.take_role("INC-1", "scribe", outsider, outsider, "cli"),
        verbs.merge("INC-1", "INC-1", outsider, "cli"),
        verbs.approve("INC-1/9.0", outsider, "cli"),
        verbs.said_in("C0ELSEWHERE", verbs.acknowledge("INC-1", outsider, "slack")),
    ]
    for job in jobs:
        with pytest.raises(Refused, match="There is no incident 'INC-1'") as refused:
            desk.say(job)
        assert (refused.value.code, str(refused.value)) == ("no_such_incident", _of_another(desk, outsider))
    assert desk.incident().version == version


def _of_another(desk: Desk, person: str) -> str:
    """What is said of one that there never was."""
    with pytest.raises(Refused) as refused:
        desk.ack(person, "INC-404")
    return str(refused.value).replace("INC-404", "INC-1")


def test_who_is_let_into_a_private_incident_has_a_say(desk: Desk) -> None:
    desk.receive()
    desk.say(verbs.make_private("INC-1", "head-of-security", "slack"))
    inside = verbs.said_in(desk.incident().channel, verbs.note("INC-1", "I was invited by hand", "infra-owner-2"))
    desk.say(inside)
    with pytest.raises(Refused):  # what was said in there opens no other door
        desk.say(verbs.note("INC-1", "And now from elsewhere", "infra-owner-2"))
    desk.say(verbs.summon("INC-1", "infra-owner-2", "sre-1", "slack"))  # on duty
    desk.say(verbs.note("INC-1", "I was called", "infra-owner-2"))
    desk.say(verbs.severity("INC-1", Sev.SEV4, "head-of-security", "cli"))


def test_a_private_incident_without_a_channel_is_not_told_of_elsewhere(desk: Desk) -> None:
    chat(desk).faults.add("open_channel", Rejected("slack", "no_more_channels"), times=5)
    desk.receive()
    desk.say(verbs.make_private("INC-1", "head-of-security", "slack"))
    posted = len(said(desk, TOWN))
    desk.ack("sre-1")
    assert len(said(desk, TOWN)) == posted
    card = next(one for one in chat(desk).messages(TOWN) if one.ref.ts == (desk.incident().card or "x")[1])
    assert "agent-7" not in str(card.message)


def test_a_false_alarm_offers_what_is_held_and_a_rule(desk: Desk) -> None:
    desk.receive()
    desk.say(verbs.status("INC-1", Status.FALSE_POSITIVE, "head-of-security", "slack"))
    state = desk.incident()
    held = {f"INC-1|{run.id}" for run in state.steps.values() if run.holding}
    assert held
    assert {value for name, value in buttons(desk, state.channel) if name == "release"} == held
    proposed = str([one.message.blocks for one in chat(desk).messages(state.channel)])
    assert "alert.rule == 'dropped-table'" in proposed
    step = sorted(held)[0].partition("|")[2]
    desk.release(step)
    assert ("release", f"INC-1|{step}") not in on_card(desk, state)


def on_card(desk: Desk, state: Incident) -> set[tuple[str, str]]:
    card = next(one for one in chat(desk).messages(state.channel) if (one.ref.channel, one.ref.ts) == state.card)
    return {(str(i["action_id"]), str(i.get("value", ""))) for b in card.message.blocks for i in elements(b)}


def test_picture_and_report_are_uploaded_once_it_is_resolved(desk: Desk) -> None:
    desk.receive()
    desk.resolve()
    ((_, files),) = chat(desk).uploads
    assert [file.name for file in files] == ["INC-1-timeline.svg", "INC-1-report.html", "INC-1-containment.md"]
    assert files[2].data.startswith(b"# Containment of INC-1: contained")
    assert files[0].data.startswith(b"<svg")
    asked = attachments(desk.engine.world, desk.incident(), desk.entries(), lambda _: None)
    assert [file.name for file in asked] == [file.name for file in files]


def test_containment_does_not_wait_for_slack(desk: Desk) -> None:
    chat(desk).faults.add("*", Unavailable("slack", "down"), times=1000)
    desk.receive()
    assert desk.incident().containment is Containment.CONTAINED


# The real client, and a workspace that refuses what Slack refuses ------------------------------------------------


@pytest.fixture
def slack() -> Iterator[WorkspaceServer]:
    persons = example().people.persons.values()
    everyone = [Person(p.slack, p.name, p.email) for p in persons if p.slack]
    rooms = [Channel("C0INCIDENTS", TOWN, frozenset((BOT_USER, *(p.id for p in everyone))))]
    with WorkspaceServer(Workspace(everyone, rooms, SystemClock()), environ={}) as server:
        yield server


def test_in_slack_itself(slack: WorkspaceServer, tmp_path: Path) -> None:
    clock = SystemClock()
    client = SlackChat(slack.bot_token, base_url=slack.api_url, every=0.0)
    estate = Estate(clock)
    for agent in example().agents.agents.values():
        estate.enrol(agent)
    estate.pagers |= {"slack": SlackPager(client), "email": SimPager(), "webhook": SimPager()}
    with desk_at(tmp_path, threads=True, rooms=True, estate=estate, chat=client) as desk, desk.serving():
        slack.workspace.fault("lost", "conversations.create")
        desk.receive()
        desk.until_quiet("INC-1")
        desk.resolve()
        desk.until(lambda: "files" in [event.purpose for event in desk.events((Posted, PostFailed))])
        desk.until(lambda: desk.queued() == 0)
        state = desk.incident()
        own = [room for room in slack.workspace.channels.values() if room.name.startswith("inc-1-")]
        assert [room.id for room in own] == [state.channel]
        assert len(own[0].members) > 5
        assert own[0].purpose == "Firedoor: INC-1 of example."
        assert not desk.events(PostFailed)
        mine = [m for m in slack.workspace.messages(state.channel) if m.user == BOT_USER and m.blocks]
        assert state.card
        assert {m.thread_ts for m in mine if m.thread_ts} == {state.card[1]}
        assert next(m.text for m in slack.workspace.messages("C0INCIDENTS")).startswith("[SANDBOX] INC-1 SEV")
