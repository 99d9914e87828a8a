"""What people do in the workspace through the control API, with the real Bolt behind it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from slack_bolt.async_app import AsyncApp
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from bot.sandbox.workspace import WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER, TEAM, Person
from bot.sandbox.workspace.seed import GUEST as SEEDED_GUEST
from bot.sandbox.workspace.seed import INCIDENTS, PARTNER_TEAM, SECURITY, SHARED, seeded
from bot.sandbox.workspace.seed import PARTNER as SEEDED_PARTNER
from tests.sandbox.workspaces import (
    GONE,
    GUEST,
    LEAD,
    OPEN,
    PARTNER,
    PARTNERS,
    QUIET,
    ROOM,
    SECRET,
    SRE,
    Page,
    WallClock,
    actions,
    asked,
    button,
    control,
    feed,
    modal,
    options,
    plain,
    story,
    until,
    workspace,
)

TEXT = {"type": "plain_text_input", "action_id": "text"}
PICK = {"type": "static_select", "action_id": "pick", "options": options("one", "two"), "placeholder": plain("?")}


def paint(blocks: Any, text: str, names: Any) -> str:  # noqa: ARG001 - a renderer takes names
    return f"<p>{text or len(blocks)}</p>"


def greet(body: Any) -> dict[str, Any]:
    """Greets somebody"""
    return {"said": f"hello {body['name']}"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WorkspaceServer]:
    (tmp_path / "index.html").write_text("the page")
    with WorkspaceServer(
        workspace(trigger_life=60),
        environ={},
        ack_within=30.0,
        event_retries=(0.0,),
        render=paint,
        extras={"greet": greet},
        page=tmp_path,
    ) as running:
        yield running


@pytest.fixture
def web(server: WorkspaceServer) -> WebClient:
    return WebClient(server.bot_token, base_url=server.api_url)


class Bot:
    """Keeps what it is told; `answers` are what it acknowledges submissions with, in turn."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.told: list[dict[str, Any]] = []
        self._answers = [*answers]

    def listen(self, app: AsyncApp) -> None:
        for event in ("message", "reaction_added", "member_joined_channel", "app_home_opened", "app_mention"):
            app.event(event)(self._hear)
        for event in ("channel_shared", "subteam_members_changed", "user_change"):
            app.event(event)(self._hear)
        app.command("/inc")(self._command)
        for action in ("open", "pick", "deeper", "more"):
            app.action(action)(self._open)
        app.shortcut("create_incident")(self._open)
        app.shortcut("declare")(self._open)
        app.view("m")(self._submitted)
        app.view_closed("m")(self._open)
        app.options("far")(self._offer)

    async def _hear(self, body: dict[str, Any]) -> None:
        self.told.append(body["event"])

    async def _command(self, ack: Any, body: dict[str, Any], client: Any) -> None:
        self.told.append(body)
        if body["text"] == "modal":
            view = modal(asked("a", TEXT), asked("b", PICK, optional=True), notify_on_close=True)
            await client.views_open(trigger_id=body["trigger_id"], view=view)
        await (ack("Nothing is open.") if body["text"] == "status" else ack())

    async def _open(self, ack: Any, body: dict[str, Any], client: Any) -> None:
        await ack()
        self.told.append(body)
        if body.get("actions", [{}])[0].get("action_id") == "deeper":
            await client.views_push(trigger_id=body["trigger_id"], view=modal())

    async def _submitted(self, ack: Any, body: dict[str, Any]) -> None:
        self.told.append(body)
        await ack(**(self._answers.pop(0) if self._answers else {}))

    async def _offer(self, ack: Any, body: dict[str, Any]) -> None:
        await ack(options=options(body["value"]))

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [one for one in self.told if one.get("type") == kind]


# Talking --------------------------------------------------------------------------------------------------------


def test_what_people_say_reaches_each_other_and_the_bot(server: WorkspaceServer) -> None:
    bot, lead, sre = Bot(), Page(server, LEAD), Page(server, SRE)

    def play() -> None:
        ts = lead.act("say", channel=ROOM, text=f"hello <@{BOT_USER}>")["ts"]
        sre.act("say", channel=ROOM, text="in the thread", thread_ts=ts)
        lead.act("edit", channel=ROOM, ts=ts, text="hello")
        sre.act("react", channel=ROOM, ts=ts, name="pushpin")
        sre.act("pin", channel=ROOM, ts=ts)
        [parent, _] = sre.channel(ROOM)["messages"]
        assert (parent["text"], parent["reply_count"], parent["pinned"]) == ("hello", 1, True)
        assert parent["html"] == "<p>hello</p>"
        assert parent["reactions"] == [{"name": "pushpin", "users": [SRE], "count": 1}]
        assert sre.act("edit", channel=ROOM, ts=ts, text="no")["error"] == "cant_update_message"
        lead.act("say", channel=SECRET, text="between us")
        lead.act("say", channel=QUIET, text="the bot is not here")
        lead.act("delete", channel=ROOM, ts=ts)
        until(lambda: len(bot.events("message")) == 5 and len(bot.told) == 7, "what the bot heard")

    story(server, bot.listen, play)
    kinds = sorted((m.get("subtype", ""), m.get("channel_type")) for m in bot.events("message"))
    edits = [("message_changed", "channel"), ("message_deleted", "channel")]
    assert kinds == [("", "channel"), ("", "channel"), ("", "group"), *edits]
    [changed] = [m for m in bot.events("message") if m.get("subtype") == "message_changed"]
    assert (changed["message"]["text"], changed["previous_message"]["text"]) == ("hello", f"hello <@{BOT_USER}>")
    [reaction] = bot.events("reaction_added")
    assert (reaction["user"], reaction["item_user"], reaction["item"]["channel"]) == (SRE, LEAD, ROOM)


def test_each_sees_their_own_rooms_only(server: WorkspaceServer, web: WebClient) -> None:
    web.chat_postEphemeral(channel=ROOM, user=SRE, text="for you")
    web.chat_postMessage(channel=SRE, text="a page")
    rooms = {user: {c["id"] for c in Page(server, user).screen()["channels"]} for user in (LEAD, SRE, GUEST, PARTNER)}
    assert rooms == {LEAD: {ROOM, SECRET, QUIET, OPEN}, SRE: {ROOM, "D2"}, GUEST: {ROOM}, PARTNER: {ROOM}}
    assert (Page(server, SRE).messages(ROOM), Page(server, LEAD).messages(ROOM)) == (["for you"], [])
    joinable = {user: [c["id"] for c in Page(server, user).screen()["joinable"]] for user in (SRE, GUEST, PARTNER)}
    assert joinable == {SRE: [OPEN], GUEST: [], PARTNER: []}
    for user, deed, body, error in (
        (SRE, "say", {"channel": QUIET, "text": "x"}, "not_in_channel"),
        (SRE, "join", {"channel": SECRET}, "channel_not_found"),
        (GUEST, "join", {"channel": OPEN}, "channel_not_found"),
        (GUEST, "invite", {"channel": ROOM, "users": [GONE]}, "restricted_action"),
        (GONE, "say", {"channel": ROOM, "text": "x"}, "account_inactive"),
        (BOT_USER, "say", {"channel": ROOM, "text": "x"}, "account_inactive"),
        (PARTNER, "command", {"channel": ROOM, "command": "/inc"}, "not_available"),
        (LEAD, "command", {"channel": ROOM, "command": "/none"}, "unknown_command"),
        (LEAD, "command", {"channel": ROOM, "command": "/inc", "thread_ts": "1.1"}, "not_in_threads"),
        (LEAD, "shortcut", {"callback_id": "none"}, "unknown_shortcut"),
        (LEAD, "dance", {}, "unknown_deed"),
        (LEAD, "say", {"room": ROOM}, "invalid_arguments"),
        (LEAD, "submit", {"view": "V404"}, "not_found"),
    ):
        answer = Page(server, user).act(deed, **body)
        assert (answer["status"], answer["error"]) == (400, error), deed


def test_joining_sharing_and_changing_people_tell_the_bot(server: WorkspaceServer) -> None:
    bot, lead, sre = Bot(), Page(server, LEAD), Page(server, SRE)

    def play() -> None:
        lead.act("invite", channel=SECRET, users=[SRE])
        sre.act("join", channel=OPEN)  # the bot is not there
        lead.act("share", channel=SECRET)
        lead.act("group", group="S1", users=[SRE])
        lead.act("profile", person=SRE, deleted=True)
        until(lambda: len(bot.told) >= 5, "the events")

    story(server, bot.listen, play)
    [joined] = bot.events("member_joined_channel")
    assert (joined["user"], joined["inviter"], joined["channel"], joined["channel_type"]) == (SRE, LEAD, SECRET, "G")
    assert [one["connected_team_id"] for one in bot.events("channel_shared")] == [PARTNERS]
    [group] = bot.events("subteam_members_changed")
    assert (group["added_users"], group["removed_users"]) == ([SRE], [LEAD])
    assert [one["user"]["deleted"] for one in bot.events("user_change")] == [True]


def test_a_person_uploads_a_file(server: WorkspaceServer) -> None:
    content = base64.b64encode(b"\x89PNG").decode()
    done = Page(server, LEAD).act("upload", channel=ROOM, name="a.png", content=content, comment="look")
    assert (done["file"]["size"], done["file"]["mimetype"]) == (4, "image/png")
    assert Page(server, SRE).channel(ROOM)["messages"][-1]["files"][0]["id"] == done["file"]["id"]


# Asking the bot -------------------------------------------------------------------------------------------------


def test_commands_clicks_and_shortcuts_go_to_the_bot(server: WorkspaceServer, web: WebClient) -> None:
    bot, lead, guest = Bot(), Page(server, LEAD), Page(server, GUEST)
    blocks = actions(button("open"), PICK, {"type": "overflow", "action_id": "more", "options": options("x", "y")})
    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=blocks)["ts"]

    def play() -> None:
        assert lead.act("command", channel=QUIET, command="/inc", text="status") == {"ok": True}
        assert guest.act("click", channel=ROOM, ts=ts, action_id="open") == {"ok": True}
        assert lead.act("click", channel=ROOM, ts=ts, action_id="pick", value="two") == {"ok": True}
        assert lead.act("click", channel=ROOM, ts=ts, action_id="more", value="y") == {"ok": True}
        assert lead.act("click", channel=ROOM, ts=ts, action_id="pick", value="three")["error"] == "invalid_arguments"
        assert lead.act("shortcut", callback_id="create_incident", channel=ROOM, ts=ts) == {"ok": True}
        assert lead.act("shortcut", callback_id="declare") == {"ok": True}
        until(lambda: len([one for one in bot.told if one.get("type") != "message"]) == 6, "all of it")

    story(server, bot.listen, play)
    command, click, pick, more, create, declare = [one for one in bot.told if one.get("type") != "message"]
    assert (command["channel_name"], command["user_id"]) == ("privategroup", LEAD)
    assert lead.messages(QUIET) == ["Nothing is open."]  # to its author only, where the bot is not a member
    assert (click["user"]["team_id"], click["actions"][0]["value"]) == (TEAM, "v")
    assert pick["actions"][0]["selected_option"]["value"] == "two"
    assert pick["state"]["values"]["row"]["pick"]["selected_option"]["value"] == "two"
    assert more["actions"][0]["selected_option"]["value"] == "y"
    assert (create["type"], create["message"]["ts"], declare["type"]) == ("message_action", ts, "shortcut")


@pytest.fixture
def hasty() -> Iterator[WorkspaceServer]:
    with WorkspaceServer(workspace(), environ={}, ack_within=0.2) as running:
        yield running


def test_a_bot_that_does_not_answer_is_a_failure_on_the_screen(hasty: WorkspaceServer) -> None:
    server, web = hasty, WebClient(hasty.bot_token, base_url=hasty.api_url)
    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=actions(button("open")))["ts"]
    events = feed(server, LEAD)
    assert next(events)[0] == "state"
    failed = Page(server, LEAD).act("click", channel=ROOM, ts=ts, action_id="open")
    assert failed == {"ok": True, "failed": "We had some trouble connecting. Try again?"}
    told = next(data for kind, data in events if data["kind"] == "failure")
    assert (told["channel"], told["ts"], told["text"]) == (ROOM, ts, failed["failed"])
    failed = Page(server, LEAD).act("command", channel=ROOM, command="/inc", text="status")
    assert failed["failed"].startswith("/inc failed with the error")


def test_a_modal_is_filled_in_and_submitted(server: WorkspaceServer) -> None:
    again = modal(asked("a", TEXT, label=plain("Again")), actions(button("deeper"))[0])
    bot = Bot(
        {"response_action": "errors", "errors": {"a": "Say more."}},
        {"response_action": "update", "view": again},
        {"response_action": "push", "view": modal()},
        {},
        {"response_action": "clear"},
    )
    lead = Page(server, LEAD)

    def stack() -> list[dict[str, Any]]:
        return list(lead.screen()["modals"])

    def play() -> None:
        lead.act("command", channel=ROOM, command="/inc", text="modal")
        [view] = stack()
        id, filled = view["id"], {"a": {"text": "leaked key"}, "b": {"pick": "one"}}
        assert lead.act("submit", view=id)["errors"] == {"a": "Please complete this required field."}
        assert Page(server, SRE).act("submit", view=id, values=filled)["error"] == "not_found"
        assert lead.act("submit", view=id, values=filled) == {
            "ok": True,
            "result": "errors",
            "errors": {"a": "Say more."},
        }
        assert lead.act("submit", view=id, values=filled)["result"] == "updated"
        [updated] = stack()
        assert (updated["id"], updated["state"]["values"]) == (
            id,
            {"a": {"text": {"type": "plain_text_input", "value": "leaked key"}}},
        )
        assert updated["hash"] != view["hash"]
        lead.act("click", view=id, action_id="deeper", values={"a": {"text": "more"}})
        until(lambda: len(stack()) == 2, "the pushed view")
        assert lead.act("submit", view=stack()[1]["id"])["result"] == "pushed"
        assert len(stack()) == 3
        assert lead.act("submit", view=id, values=filled)["error"] == "not_found"  # not the topmost
        assert lead.act("submit", view=stack()[2]["id"])["result"] == "closed"
        assert lead.act("submit", view=stack()[1]["id"])["result"] == "cleared"
        assert stack() == []

    story(server, bot.listen, play)
    first = bot.events("view_submission")[0]["view"]["state"]["values"]
    assert first["a"]["text"]["value"] == "leaked key"
    assert first["b"]["pick"]["selected_option"]["value"] == "one"
    click = bot.events("block_actions")[0]
    assert click["container"]["type"] == "view"
    assert click["view"]["state"]["values"]["a"]["text"]["value"] == "more"


def test_a_closed_modal_is_told_and_gone(server: WorkspaceServer, web: WebClient) -> None:
    bot, lead = Bot(), Page(server, LEAD)

    def play() -> None:
        lead.act("command", channel=ROOM, command="/inc", text="modal")
        [view] = lead.screen()["modals"]
        lead.act("close", view=view["id"])
        until(lambda: bot.events("view_closed"), "the closing")
        assert lead.screen()["modals"] == []
        with pytest.raises(SlackApiError, match="not_found"):
            web.views_update(view_id=view["id"], view=modal())

    story(server, bot.listen, play)
    assert bot.events("view_closed")[0]["is_cleared"] is False


def test_an_answer_that_slack_would_not_take_leaves_the_modal(server: WorkspaceServer) -> None:
    bot, lead = Bot({"response_action": "errors", "errors": {"none": "x"}}), Page(server, LEAD)

    def play() -> None:
        lead.act("command", channel=ROOM, command="/inc", text="modal")
        [view] = lead.screen()["modals"]
        assert "failed" in lead.act("submit", view=view["id"], values={"a": {"text": "x"}})
        assert len(lead.screen()["modals"]) == 1

    story(server, bot.listen, play)


def test_an_external_select_asks_the_bot(server: WorkspaceServer, web: WebClient) -> None:
    element = {"type": "external_select", "action_id": "far", "placeholder": plain("?")}
    ts = web.chat_postMessage(channel=ROOM, text="card", blocks=actions(element))["ts"]

    def play() -> None:
        found = Page(server, LEAD).act("options", channel=ROOM, ts=ts, action_id="far", query="ab")
        assert found["options"] == options("ab")

    story(server, Bot().listen, play)


def test_app_home_is_opened_and_published(server: WorkspaceServer, web: WebClient) -> None:
    bot, lead = Bot(), Page(server, LEAD)

    def play() -> None:
        assert lead.act("home")["home"] is None
        opened = until(lambda: bot.events("app_home_opened"), "the opening")[0]
        assert (opened["user"], opened["tab"]) == (LEAD, "home")
        home = {"type": "home", "blocks": [*actions(button("open")), {"type": "divider"}]}
        web.views_publish(user_id=LEAD, view=home)
        shown = lead.screen()["home"]
        assert shown["html"] == "<p>2</p>"
        assert lead.act("click", view=shown["id"], action_id="open") == {"ok": True}
        assert Page(server, SRE).act("click", view=shown["id"], action_id="open")["error"] == "not_found"

    story(server, bot.listen, play)
    assert bot.events("block_actions")[0]["view"]["type"] == "home"


# The page -------------------------------------------------------------------------------------------------------


def test_the_feed_tells_each_person_what_they_see(server: WorkspaceServer, web: WebClient) -> None:
    events = feed(server, SRE)
    kind, screen = next(events)
    assert (kind, screen["me"]["id"], screen["app"]["commands"]) == ("state", SRE, {"/inc": "[new]"})
    ts = web.chat_postMessage(channel=ROOM, text="card")["ts"]
    web.chat_postMessage(channel=SECRET, text="not for them")
    web.chat_postEphemeral(channel=ROOM, user=LEAD, text="nor this")
    web.chat_update(channel=ROOM, ts=ts, text="contained")
    web.chat_delete(channel=ROOM, ts=ts)
    made = web.conversations_create(name="inc-7", is_private=True)["channel"]["id"]
    web.conversations_invite(channel=made, users=SRE)
    control(server, "faults", {"name": "slow", "method": "chat.delete", "times": 0, "seconds": 0.01})
    Page(server, SRE).act("leave", channel=made)
    told: list[dict[str, Any]] = []
    while not told or told[-1]["kind"] != "channel_gone":
        told.append(next(events)[1])
    assert "not for them" not in json.dumps(told)
    assert "nor this" not in json.dumps(told)
    assert {one["kind"] for one in told} >= {"channel", "message_gone", "trouble", "channel_gone"}
    assert [one["seq"] for one in told] == sorted(one["seq"] for one in told)
    [room] = [one["channel"] for one in told if one["kind"] == "channel" and "messages" in one["channel"]][:1]
    assert room["id"] == made


def test_who_falls_behind_gets_the_whole_screen(server: WorkspaceServer) -> None:
    seq, _ = server.workspace.since(0)
    for _ in range(6000):
        server.workspace.changed("people")
    assert server.workspace.since(seq)[1] is None
    assert server.workspace.since(seq + 5999) == (seq + 6000, server.workspace.since(seq + 5999)[1])


def test_faults_scopes_and_extras(server: WorkspaceServer, web: WebClient) -> None:
    control(server, "faults", {"name": "down", "method": "auth.test", "times": 0})
    answer = control(server, "scopes", {"without": ["pins:write"]})
    assert answer["trouble"]["faults"] == [{"name": "down", "method": "auth.test", "left": 0}]
    assert answer["trouble"]["scopes_missing"] == ["pins:write"]
    request = Request(f"{server.url}/sandbox/faults", headers={"Authorization": f"Bearer {server.control_secret}"})
    request.method = "DELETE"
    urlopen(request, timeout=10).close()
    assert web.auth_test()["ok"]
    assert control(server, "faults", {"name": "duplicate", "method": "chat.postMessage"})["status"] == 400
    assert control(server, "extras")["extras"] == {"greet": "Greets somebody"}
    assert control(server, "extras/greet", {"name": "you"})["said"] == "hello you"
    assert control(server, "extras/none", {})["error"] == "unknown_extra"
    assert control(server, "act/say", [])["error"] == "invalid_arguments"


def test_only_this_machines_page_with_the_secret_gets_in(server: WorkspaceServer) -> None:
    port = server.url.rpartition(":")[2]
    assert control(server, "state", Authorization="Bearer guess")["status"] == 401
    assert control(server, "state", Host=f"evil.example:{port}")["status"] == 403
    assert control(server, "state", Origin="http://127.0.0.1:1")["status"] == 403
    cookie = {"Authorization": "", "Cookie": f"sandbox_{port}={server.control_secret}"}
    assert control(server, f"state?viewer={LEAD}", **cookie)["me"]["id"] == LEAD
    assert control(server, "act/say", {"user": LEAD, "channel": ROOM, "text": "x"}, **cookie)["status"] == 401
    request = Request(f"{server.url}/sandbox/session", b"{}", {"Authorization": f"Bearer {server.control_secret}"})
    with urlopen(request, timeout=10) as answer:
        set_cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in set_cookie
    assert "SameSite=strict" in set_cookie
    with urlopen(f"{server.url}/", timeout=10) as page:
        assert page.read() == b"the page"
    for path in ("..%2fworkspaces.py", "none.js"):
        with pytest.raises(HTTPError) as none:
            urlopen(f"{server.url}/page/{path}", timeout=10)
        assert none.value.code == 404
        none.value.close()


def test_the_seeded_company() -> None:
    staff = [Person("U0SRE1", "SRE 1"), Person("U0SECOPS1", "Security Ops 1")]
    room = seeded(staff, WallClock(), groups={"security_team": ["U0SECOPS1"], "infra_owner": ["U0SRE1"]})
    assert {group.handle: group.users for group in room.groups.values()} == {
        "security-team": ("U0SECOPS1",),
        "infra-owner": ("U0SRE1",),
    }
    seen = {user: {c["id"] for c in room.state(user)["channels"]} for user in (SEEDED_GUEST.id, SEEDED_PARTNER.id)}
    assert seen == {SEEDED_GUEST.id: {SHARED}, SEEDED_PARTNER.id: {SHARED}}
    assert room.people[SEEDED_PARTNER.id].team_id == PARTNER_TEAM
    assert SECURITY not in {c["id"] for c in room.state("U0SRE1")["channels"]}
    assert room.call("chat.postMessage", room.bot_token, {"channel": "incidents", "text": "x"})["channel"] == INCIDENTS
