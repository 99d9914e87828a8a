"""What the stand-in answers to Slack's own client, and what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from bot.errors import Unavailable
from bot.sandbox.blocks import view_problems
from bot.sandbox.clock import SimClock
from bot.sandbox.workspace import ApiError, App, WorkspaceServer
from bot.sandbox.workspace.app import SCOPES
from bot.sandbox.workspace.rooms import BOT_USER, TEAM
from tests.sandbox.workspaces import (
    GONE,
    GUEST,
    LEAD,
    OPEN,
    PARTNER,
    QUIET,
    ROOM,
    SECRET,
    SRE,
    asked,
    modal,
    plain,
    workspace,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def server() -> Iterator[WorkspaceServer]:
    with WorkspaceServer(workspace(clock=SimClock(NOON)), environ={}) as running:
        yield running


@pytest.fixture
def web(server: WorkspaceServer) -> WebClient:
    return WebClient(server.bot_token, base_url=server.api_url)


def refused(code: str, call: Callable[[], Any]) -> Any:
    with pytest.raises(SlackApiError) as error:
        call()
    assert error.value.response["error"] == code
    return error.value.response


def test_a_channel_from_its_making_to_its_archive(server: WorkspaceServer, web: WebClient) -> None:
    made = web.conversations_create(name="inc-7-leaked-key")["channel"]
    id = made["id"]
    assert (made["is_member"], made["is_private"], made["creator"]) == (True, False, BOT_USER)
    web.conversations_invite(channel=id, users=f"{LEAD},{SRE}")
    web.conversations_setTopic(channel=id, topic="SEV1")
    web.conversations_setPurpose(channel=id, purpose="agent-7")
    info = web.conversations_info(channel=id, include_num_members=True)["channel"]
    assert (info["topic"]["value"], info["purpose"]["value"], info["num_members"]) == ("SEV1", "agent-7", 3)
    assert web.conversations_members(channel=id)["members"] == sorted((LEAD, SRE, BOT_USER))
    said = [m["subtype"] for m in web.conversations_history(channel=id)["messages"]]
    assert said == ["channel_purpose", "channel_topic", "channel_join", "channel_join"]
    assert server.workspace.messages(id) == ()
    web.conversations_archive(channel=id)
    refused("is_archived", lambda: web.chat_postMessage(channel=id, text="x"))
    refused("already_archived", lambda: web.conversations_archive(channel=id))
    refused("name_taken", lambda: web.conversations_create(name="inc-7-leaked-key"))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "invalid_name_required"),
        ("x" * 81, "invalid_name_maxlength"),
        ("Inc-7", "invalid_name_specials"),
        ("inc 7", "invalid_name_specials"),
        ("--", "invalid_name_punctuation"),
        ("incidents", "name_taken"),
        ("quiet", "name_taken"),
    ],
)
def test_names_that_slack_does_not_take(name: str, code: str) -> None:
    room = workspace()
    with pytest.raises(ApiError, match=code):
        room.call("conversations.create", room.bot_token, {"name": name})


def test_who_is_not_let_in(web: WebClient) -> None:
    id = web.conversations_create(name="new", is_private=True)["channel"]["id"]
    for users, code in (
        ("U404", "user_not_found"),
        (BOT_USER, "cant_invite_self"),
        (PARTNER, "user_team_not_in_channel"),
        (GUEST, "ura_max_channels"),
        (GONE, "user_is_deactivated"),
    ):
        refused(code, lambda users=users: web.conversations_invite(channel=id, users=users))
    both = refused("user_not_found", lambda: web.conversations_invite(channel=id, users=f"{LEAD},U404"))
    assert both["errors"] == [{"user": "U404", "ok": False, "error": "user_not_found"}]
    assert web.conversations_members(channel=id)["members"] == [BOT_USER]  # all or nothing
    web.conversations_invite(channel=id, users=f"{LEAD},U404", force=True)
    refused("already_in_channel", lambda: web.conversations_invite(channel=id, users=LEAD))
    refused("too_long", lambda: web.conversations_setTopic(channel=id, topic="x" * 251))


def test_private_rooms_of_others_do_not_exist(web: WebClient) -> None:
    listed = web.conversations_list(types="public_channel,private_channel")["channels"]
    assert [channel["id"] for channel in listed] == [ROOM, SECRET, OPEN]
    for call in (web.conversations_info, web.conversations_members, web.conversations_history):
        refused("channel_not_found", lambda call=call: call(channel=QUIET))
    refused("not_in_channel", lambda: web.conversations_history(channel=OPEN))
    assert web.conversations_info(channel=OPEN)["channel"]["is_member"] is False
    web.conversations_join(channel=OPEN)
    assert web.conversations_history(channel=OPEN)["messages"][0]["subtype"] == "channel_join"
    web.conversations_kick(channel=OPEN, user=LEAD)
    assert web.conversations_members(channel=OPEN)["members"] == [BOT_USER]
    refused("invalid_types", lambda: web.conversations_list(types="all"))
    assert web.conversations_list(limit=1)["response_metadata"]["next_cursor"] == "1"


def test_messages_are_deleted_linked_pinned_and_reacted_to(server: WorkspaceServer, web: WebClient) -> None:
    ts = web.chat_postMessage(channel=ROOM, text="card")["ts"]
    reply = web.chat_postMessage(channel=ROOM, text="reply", thread_ts=ts)["ts"]
    link = web.chat_getPermalink(channel=ROOM, message_ts=reply)["permalink"]
    assert link.endswith(f"/archives/{ROOM}/p{reply.replace('.', '')}?thread_ts={ts}&cid={ROOM}")
    parent = web.conversations_history(channel=ROOM)["messages"][0]
    assert (parent["reply_count"], parent["latest_reply"]) == (1, reply)
    web.pins_add(channel=ROOM, timestamp=ts)
    refused("already_pinned", lambda: web.pins_add(channel=ROOM, timestamp=ts))
    [pinned] = web.pins_list(channel=ROOM)["items"]
    assert (pinned["message"]["ts"], pinned["created_by"]) == (ts, BOT_USER)
    web.pins_remove(channel=ROOM, timestamp=ts)
    refused("no_pin", lambda: web.pins_remove(channel=ROOM, timestamp=ts))
    web.reactions_add(channel=ROOM, timestamp=ts, name="pushpin")
    refused("already_reacted", lambda: web.reactions_add(channel=ROOM, timestamp=ts, name="pushpin"))
    refused("invalid_name", lambda: web.reactions_add(channel=ROOM, timestamp=ts, name="no such"))
    seen = web.reactions_get(channel=ROOM, timestamp=ts)["message"]["reactions"]
    assert seen == [{"name": "pushpin", "users": [BOT_USER], "count": 1}]
    web.reactions_remove(channel=ROOM, timestamp=ts, name="pushpin")
    web.chat_delete(channel=ROOM, ts=reply)
    refused("message_not_found", lambda: web.chat_delete(channel=ROOM, ts=reply))
    said = server.workspace.say(LEAD, ROOM, "mine").ts
    refused("cant_delete_message", lambda: web.chat_delete(channel=ROOM, ts=said))
    refused("cant_update_message", lambda: web.chat_update(channel=ROOM, ts=said, text="yours"))


def test_bookmarks(web: WebClient) -> None:
    web.bookmarks_add(channel_id=ROOM, title="Runbook", type="link", link="https://runbooks.example/leak")
    [bookmark] = web.bookmarks_list(channel_id=ROOM)["bookmarks"]
    assert (bookmark["title"], bookmark["link"]) == ("Runbook", "https://runbooks.example/leak")
    refused("invalid_link", lambda: web.bookmarks_add(channel_id=ROOM, title="x", type="link", link="javascript:1"))


def test_a_file_goes_up_and_comes_down(server: WorkspaceServer, web: WebClient) -> None:
    done = web.files_upload_v2(
        channel=SECRET, filename="timeline.png", content=b"\x89PNG", title="Timeline", initial_comment="as of now"
    )
    [message] = web.conversations_history(channel=SECRET)["messages"]
    assert (message["text"], message["files"][0]["title"]) == ("as of now", "Timeline")

    def fetched(url: str, token: str) -> tuple[bytes, str]:
        with urlopen(Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=10) as answer:
            return answer.read(), answer.headers["content-type"]

    url = done["file"]["url_private"]
    assert fetched(url, server.bot_token) == (b"\x89PNG", "image/png")
    assert fetched(f"{url}?viewer={LEAD}", server.control_secret)[0] == b"\x89PNG"
    for viewer, token, status in ((SRE, server.control_secret, 404), (LEAD, "guess", 401)):
        with pytest.raises(HTTPError) as no:
            fetched(f"{url}?viewer={viewer}", token)
        assert no.value.code == status
        no.value.close()
    refused("file_not_found", lambda: web.files_completeUploadExternal(files=[{"id": "F404", "title": "x"}]))
    announced = web.files_getUploadURLExternal(filename="a.txt", length=3)
    early = [{"id": announced["file_id"], "title": "a"}]
    refused("file_update_failed", lambda: web.files_completeUploadExternal(files=early, channel_id=ROOM))
    web.files_delete(file=done["file"]["id"])
    assert "files" not in web.conversations_history(channel=SECRET)["messages"][0]


def test_the_async_client_uploads_too(server: WorkspaceServer) -> None:
    async def upload() -> Any:
        client = AsyncWebClient(server.bot_token, base_url=server.api_url)
        return await client.files_upload_v2(channel=ROOM, filename="report.html", content="<script>alert(1)</script>")

    done = asyncio.run(upload())
    assert server.workspace.files[done["file"]["id"]].mimetype == "text/plain"


def test_people_and_groups(server: WorkspaceServer, web: WebClient) -> None:
    assert {member["id"] for member in web.users_list()["members"]} >= {LEAD, SRE, GUEST, BOT_USER}
    [group] = web.usergroups_list(include_users=True)["usergroups"]
    assert (group["handle"], group["users"]) == ("security", [LEAD])
    assert web.usergroups_users_list(usergroup="S1")["users"] == [LEAD]
    refused("no_such_subteam", lambda: web.usergroups_users_list(usergroup="S404"))
    assert web.team_info()["team"]["id"] == TEAM
    server.workspace.without(["users:read.email"])
    assert "email" not in web.users_info(user=LEAD)["user"]["profile"]
    refused("missing_scope", lambda: web.users_lookupByEmail(email="lead@example.com"))


def test_scopes_are_told_switched_off_and_on(server: WorkspaceServer, web: WebClient) -> None:
    assert set(web.auth_test().headers["x-oauth-scopes"].split(",")) == SCOPES
    server.workspace.without(["pins:write", "groups:write", "channels:history"])
    ts = web.chat_postMessage(channel=ROOM, text="card")["ts"]
    assert refused("missing_scope", lambda: web.pins_add(channel=ROOM, timestamp=ts))["needed"] == "pins:write"
    refused("missing_scope", lambda: web.conversations_create(name="new", is_private=True))
    refused("missing_scope", lambda: web.conversations_history(channel=ROOM))
    server.workspace.without([])
    web.pins_add(channel=ROOM, timestamp=ts)


def test_an_app_has_what_its_manifest_says() -> None:
    manifest = {
        "features": {
            "bot_user": {"display_name": "Firedoor"},
            "slash_commands": [{"command": "/inc", "usage_hint": "[new]"}],
            "shortcuts": [{"name": "Create incident", "type": "message", "callback_id": "create_incident"}],
        },
        "oauth_config": {"scopes": {"bot": ["commands"]}},
        "settings": {"event_subscriptions": {"bot_events": ["reaction_added"]}},
    }
    app = App.from_manifest(manifest)
    assert (app.commands, [one.callback_id for one in app.shortcuts]) == ({"/inc": "[new]"}, ["create_incident"])
    assert (app.scopes, app.events) == ({"commands"}, {"reaction_added"})
    assert App.from_manifest({}).scopes == frozenset()


def test_tiers_hold_where_they_are_switched_on() -> None:
    clock = SimClock(NOON)
    room = workspace(clock=clock)
    room.fault("tiers")

    def post(channel: str = ROOM) -> None:
        room.call("chat.postMessage", room.bot_token, {"channel": channel, "text": "x"})

    for _ in range(5):
        post()
    with pytest.raises(Unavailable) as limited:
        post()
    assert limited.value.retry_after == 1
    post(SECRET)  # each channel has its own second
    clock.forward(seconds=1)
    post()
    for _ in range(20):
        room.call("pins.list", room.bot_token, {"channel": ROOM})
    with pytest.raises(Unavailable) as limited:
        room.call("pins.list", room.bot_token, {"channel": ROOM})
    assert limited.value.retry_after == 3
    assert [call.error for call in room.calls][-2:] == ["", "http"]
    room.clear_faults()
    post()


def test_triggers_work_once_and_for_three_seconds() -> None:
    clock = SimClock(NOON)
    room = workspace(clock=clock)

    def open_modal(trigger: str) -> None:
        room.call("views.open", room.bot_token, {"trigger_id": trigger, "view": modal()})

    def command() -> str:
        asked = room.act("command", LEAD, channel=ROOM, command="/inc")
        return str(asked.payload["trigger_id"])

    trigger = command()
    open_modal(trigger)
    late = command()
    clock.forward(seconds=3.001)
    for given, code in ((trigger, "exchanged_trigger_id"), (late, "expired_trigger_id"), ("1.2.x", "invalid_trigger")):
        with pytest.raises(ApiError, match=code):
            open_modal(given)


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (modal(title=plain("x" * 25)), "title must be between 1 and 24"),
        (modal(title=None), "missing required field: title"),
        (modal(asked("a", {"type": "plain_text_input", "action_id": "a"}), submit=None), "needs submit"),
        (modal(*[{"type": "divider"}] * 101), "no more than 100"),
        (modal(private_metadata="x" * 3001), "private_metadata cannot exceed 3000"),
        (modal(colour="red"), "invalid additional property: colour"),
        (modal(type="home"), "must be of type modal"),
        (modal(hash="1"), "is set by Slack: hash"),
        (modal({"type": "section"}), "/blocks/0"),
    ],
)
def test_views_that_slack_does_not_take(view: dict[str, Any], why: str) -> None:
    assert why in " ".join(view_problems({key: item for key, item in view.items() if item is not None}, "modal"))
    assert view_problems(modal(), "modal") == ()


def test_app_home_keeps_its_id_and_refuses_an_old_hash(server: WorkspaceServer, web: WebClient) -> None:
    home: dict[str, Any] = {"type": "home", "blocks": [{"type": "divider"}]}
    first = web.views_publish(user_id=LEAD, view=home)["view"]
    second = web.views_publish(user_id=LEAD, view=home, hash=first["hash"])["view"]
    assert (second["id"], second["hash"] == first["hash"]) == (first["id"], False)
    refused("hash_conflict", lambda: web.views_publish(user_id=LEAD, view=home, hash=first["hash"]))
    refused("user_not_found", lambda: web.views_publish(user_id="U404", view=home))
    assert server.workspace.state(LEAD)["home"]["hash"] == second["hash"]
    assert server.workspace.state(SRE)["home"] is None
