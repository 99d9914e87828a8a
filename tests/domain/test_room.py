"""An incident's own channel: opened first, moved when it becomes private, and what stands where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from bot.config.expressions import parse
from bot.domain.alert import Sev
from bot.domain.classification import Rule, classify, quieting
from bot.domain.decisions import Invite, OpenChannel, Post
from bot.domain.events import (
    Acknowledged,
    ChannelFailed,
    ChannelOpened,
    Invited,
    MadePrivate,
    Opened,
    Posted,
    PostFailed,
    SeverityChanged,
    Status,
    StatusChanged,
)
from bot.domain.incident import Incident
from bot.domain.room import NAME_MAX, channel_name
from bot.domain.view import alert_names
from tests.domain.desk import Desk, playbook, step
from tests.domain.incidents import HOSTILE, opened

BOOK = playbook(step("shadow", "mode", contains=True))


def room(desk: Desk, **changes: Any) -> str:
    return desk.open(BOOK, room=True, **changes)


def purposes(desk: Desk, id: str = "INC-1") -> list[str]:
    return [d.purpose for entry in desk.entries[id] for d in entry.decisions if isinstance(d, Post)]


def waiting(desk: Desk, kind: type) -> list[Any]:
    return [d for _, d in desk.queue.values() if isinstance(d, kind)]


def test_the_channel_is_the_first_decision_and_the_card_stands_in_it() -> None:
    desk = Desk()
    room(desk)
    first = desk.entries["INC-1"][0].decisions[0]
    assert isinstance(first, OpenChannel)
    assert (first.name, first.private) == ("inc-1-unintended-production-change-agent-7", False)
    state = desk.incidents["INC-1"]
    assert state.channel == f"C-{first.name}"
    assert [one for one in purposes(desk) if one in ("announcement", "card")].count("announcement") == 1
    assert desk.folded("INC-1") == state


def test_without_a_channel_of_its_own_everything_is_as_it_was() -> None:
    desk = Desk()
    desk.open(BOOK)
    assert not {"announcement", "roles", "pin", "files"} & set(purposes(desk))
    assert not desk.incidents["INC-1"].members


def test_the_card_is_pinned_and_the_roles_are_offered_once() -> None:
    desk = Desk(eager=False)
    room(desk)
    desk.answer(waiting(desk, OpenChannel)[0])
    card = next(post for post in waiting(desk, Post) if post.purpose == "card")
    home = desk.incidents["INC-1"].channel
    del desk.queue[card.id]
    desk.happen("INC-1", Posted(card.id, "card", home, "1.0"))
    told = [post.purpose for post in waiting(desk, Post)]
    assert (told.count("pin"), told.count("roles")) == (1, 1)
    desk.happen("INC-1", SeverityChanged(Sev.SEV2, "commander-1"))
    again = [post for post in waiting(desk, Post) if post.purpose == "card"][-1]
    desk.happen("INC-1", Posted(again.id, "card", home, "1.0"))
    assert [post.purpose for post in waiting(desk, Post)].count("pin") == 1


def test_a_burst_of_changes_is_one_edit_of_the_card_and_of_the_announcement() -> None:
    desk = Desk(eager=False)
    room(desk)
    desk.answer(waiting(desk, OpenChannel)[0])
    for severity in (Sev.SEV3, Sev.SEV2, Sev.SEV4, Sev.SEV3):
        desk.happen("INC-1", SeverityChanged(severity, "commander-1"))
    posts = [post.purpose for post in waiting(desk, Post)]
    assert (posts.count("card"), posts.count("announcement")) == (1, 1)
    desk.answer(next(post for post in waiting(desk, Post) if post.purpose == "announcement"))
    assert [post.purpose for post in waiting(desk, Post)].count("announcement") == 1  # the four in one
    desk.answer(next(post for post in waiting(desk, Post) if post.purpose == "announcement"))
    assert "announcement" not in [post.purpose for post in waiting(desk, Post)]


def test_who_is_on_duty_by_slack_is_let_in_and_who_acts_later() -> None:
    desk = Desk()
    room(desk)
    (first,) = [d for e in desk.entries["INC-1"] for d in e.decisions if isinstance(d, Invite)]
    by_slack = {c.person for cs in opened().roster.values() for c in cs if "slack" in c.ways}
    assert set(first.persons) == by_slack
    desk.happen("INC-1", Acknowledged("helper-1", "cli"))
    desk.happen("INC-1", StatusChanged(Status.INVESTIGATING, "helper-1"))
    later = [d.persons for e in desk.entries["INC-1"] for d in e.decisions if isinstance(d, Invite)][1:]
    assert later == [("helper-1",)]


def test_a_channel_that_cannot_be_opened_is_said() -> None:
    desk = Desk(eager=False)
    room(desk)
    (asked,) = waiting(desk, OpenChannel)
    desk.happen("INC-1", ChannelFailed(asked.id, "restricted_action"))
    assert "channel_failed" in [post.purpose for post in waiting(desk, Post)]
    assert not desk.incidents["INC-1"].channel
    assert desk.refuses("INC-1", ChannelOpened(asked.id, "C9", "late")) == "already_settled"


def test_what_becomes_private_moves() -> None:
    desk = Desk()
    room(desk)
    before = desk.incidents["INC-1"]
    assert before.card
    desk.happen("INC-1", MadePrivate("commander-1"))
    state = desk.incidents["INC-1"]
    assert (state.channel_name, state.channel_private) == ("inc-1-private", True)
    assert state.channel != before.channel
    desk.happen("INC-1", Acknowledged("helper-1", "cli"))
    assert "helper-1" not in desk.incidents["INC-1"].members  # a private room lets in who is on duty
    assert purposes(desk).count("card") >= 2
    assert desk.folded("INC-1") == desk.incidents["INC-1"]


def test_the_old_card_is_covered_once_the_new_one_stands() -> None:
    desk = Desk(eager=False)
    room(desk)
    desk.answer(waiting(desk, OpenChannel)[0])
    stand(desk, "1.0")
    desk.happen("INC-1", MadePrivate("commander-1"))
    home = desk.incidents["INC-1"].channel
    desk.answer(waiting(desk, OpenChannel)[0])
    assert not [post for post in waiting(desk, Post) if post.purpose.startswith("closed:")]
    stand(desk, "2.0")
    assert [post.purpose for post in waiting(desk, Post) if post.purpose.startswith("closed:")] == [
        f"closed:{home}/1.0"
    ]


def stand(desk: Desk, ts: str) -> None:
    """The newest card decision is carried out, in the channel of then."""
    state = desk.incidents["INC-1"]
    desk.queue.pop(state.card_out, None)
    desk.happen("INC-1", Posted(state.card_out, "card", state.channel, ts))


def test_a_card_edit_from_before_the_move_changes_nothing() -> None:
    desk = Desk(eager=False)
    room(desk)
    desk.answer(waiting(desk, OpenChannel)[0])
    stand(desk, "1.0")
    desk.happen("INC-1", SeverityChanged(Sev.SEV3, "commander-1"))
    edit = desk.incidents["INC-1"].card_out
    desk.happen("INC-1", MadePrivate("commander-1"))
    desk.answer(waiting(desk, OpenChannel)[0])
    assert not desk.incidents["INC-1"].wants(edit)
    assert desk.refuses("INC-1", Posted(edit, "card", "C-old", "1.0")) == "already_settled"


def test_a_post_that_failed_leaves_the_card_where_it_stands() -> None:
    desk = Desk()
    room(desk)
    card = desk.incidents["INC-1"].card
    desk.eager = False
    desk.happen("INC-1", SeverityChanged(Sev.SEV3, "commander-1"))
    edit = desk.incidents["INC-1"].card_out
    desk.happen("INC-1", PostFailed(edit, "card", "is_archived"))
    assert (desk.incidents["INC-1"].card, desk.incidents["INC-1"].card_out) == (card, "")


@pytest.mark.parametrize("agent", ["", "agent-7", "Ägent_9 <!channel>", "x" * 300, "-", HOSTILE])
def test_names_are_what_slack_takes(agent: str) -> None:
    state = Incident("INC-12", Desk().incidents.get("") or frozen())
    name = channel_name(with_agent(state, agent))
    assert len(name) <= NAME_MAX
    assert name.startswith("inc-12-unintended-production-change")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not name.endswith("-")


def frozen() -> Any:
    desk = Desk()
    desk.open()
    return desk.incidents["INC-1"].frozen


def with_agent(state: Incident, agent: str) -> Incident:
    return replace(state, opened=opened(agent_uid=agent))


def test_nobody_is_let_in_twice() -> None:
    desk = Desk(eager=False)
    room(desk)
    desk.answer(waiting(desk, OpenChannel)[0])
    (first,) = waiting(desk, Invite)
    desk.happen("INC-1", Acknowledged(first.persons[0], "slack"))
    assert waiting(desk, Invite) == [first]
    desk.happen("INC-1", Invited(first.id, ("somebody",)))


@pytest.mark.parametrize("rule", ["plain-rule", "it's \\ odd", "a: b # c", "ünïcode \u202e", "${{ x }}"])
def test_the_proposed_rule_would_have_kept_it_quiet(rule: str) -> None:
    alert = opened().alert
    assert alert
    alert = replace(alert, rule=rule)
    lines = quieting(alert, "agent-7", "data_exposure", "INC-7")
    (made,) = yaml.safe_load("\n".join(("classification:", *lines)))["classification"]
    proposed = Rule(parse(made["if"], "sources.yaml:1"), made["type"], "sources.yaml:1")
    usual = Rule(parse("${{ true }}", "sources.yaml:9"), "data_exposure", "sources.yaml:9")
    assert classify([proposed, usual], {"alert": alert_names(alert)}).type == "unclassified"
    other = replace(alert, rule="another")
    assert classify([proposed, usual], {"alert": alert_names(other)}).type == "data_exposure"


def test_an_opening_says_whether_it_gets_a_channel() -> None:
    desk = Desk()
    room(desk)
    event = desk.entries["INC-1"][0].event
    assert isinstance(event, Opened)
    assert event.room
