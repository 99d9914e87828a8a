"""Clicks, from the button in the workspace to the record and back, through the real Bolt and an engine on SQLite."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from bot.adapters.clock import SystemClock
from bot.config import EXAMPLE, load
from bot.domain.approval import ApprovalState
from bot.domain.events import Acknowledged, ApprovalGiven, ApprovalRefused, Status, Unacknowledged
from bot.engine import verbs
from bot.errors import ConfigError
from bot.sandbox.workspace import Message, WorkspaceServer
from bot.slack.app import asgi, build_app
from tests.slack.desk import (
    CONFIG,
    GONE,
    GUEST,
    HEAD,
    INFRA,
    INFRA2,
    OWNER,
    PARTNER,
    ROOM,
    SECOPS,
    SOON,
    SRE,
    STRANGER,
    Desk,
    opened,
    workspace,
)

both = pytest.mark.parametrize("desk", ["socket", "http"], indirect=True)


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    with opened(tmp_path, http=getattr(request, "param", "") == "http") as desk:
        yield desk


@both
def test_an_alert_becomes_a_card_and_one_person_takes_it(desk: Desk) -> None:
    id = desk.alert()
    card = desk.card(id)
    assert f"{id} SEV1 unintended production change" in str(card.blocks)
    assert "<!channel>" not in str(card.blocks)
    assert "&lt;!channel&gt;" in str(card.blocks)

    desk.server.workspace.fault("duplicate")
    desk.click(SRE, card, "ack")
    desk.until(lambda: "Unacknowledge" in str(desk.now(card).blocks), "the card is edited")
    [said] = desk.events(id, Acknowledged)
    assert (said.by, said.via) == ("sre-1", "slack")
    assert desk.told(SRE) == []

    body = desk.server.workspace.clicked(HEAD, ROOM, card.ts, "unack")
    body["actions"][0]["action_id"] = "ack"  # a screen that still showed the old button
    assert desk.server.deliver("interactive", body).wait(SOON)
    desk.hears(HEAD, f"{id} is already acknowledged by sre-1.")

    desk.click(HEAD, desk.now(card), "unack")
    desk.until(lambda: "'Acknowledge'" in str(desk.now(card).blocks), "the button is back")
    assert [said.by for said in desk.events(id, Unacknowledged)] == ["head-of-security"]


def test_a_page_is_acknowledged_where_it_is_read(desk: Desk) -> None:
    id = desk.alert()
    on_call = desk.state(id).roster["sre"][0].person
    user = desk.config.people.persons[on_call].slack

    def page() -> Message | None:
        directs = desk.server.workspace.messages(f"D{user.removeprefix('U')}")
        return next((m for m in directs if "'ack'" in str(m.blocks)), None)

    sent = desk.until(page, "the page")
    desk.server.click(user, sent.channel, sent.ts, "ack").wait(SOON)
    desk.until(lambda: "Unacknowledge" in str(page_now(desk, sent).blocks), "the page shows who took it")
    assert "NOBODY" not in str(page_now(desk, sent).blocks[-2:])
    assert [said.by for said in desk.events(id, Acknowledged)] == [on_call]


def page_now(desk: Desk, page: Message) -> Message:
    return next(m for m in desk.server.workspace.messages(page.channel) if m.ts == page.ts)


@both
def test_two_persons_of_the_right_groups_let_a_step_through(desk: Desk) -> None:
    id = desk.alert()
    request = desk.request(id)

    desk.click(HEAD, request, "approve")
    desk.hears(HEAD, "Still missing: 1 infra owner")
    desk.until(lambda: "Approved so far" in str(desk.now(request).blocks), "the request shows it")
    desk.click(HEAD, request, "approve")
    desk.hears(HEAD, "You approved this already")
    desk.click(SECOPS, request, "approve")  # a second of the same group fills no other seat
    desk.hears(SECOPS, "Still missing: 1 infra owner")
    desk.click(INFRA, request, "approve")
    desk.hears(INFRA, "it goes ahead")
    desk.until(lambda: "GRANTED" in str(desk.now(request).blocks), "the request shows the truth")
    assert "Approve" not in str([b for b in desk.now(request).blocks if b["type"] == "actions"])
    desk.until(lambda: desk.state(id).steps["quarantine_role"].status == "done", "the role is quarantined")


def test_who_may_not_decide_is_told_why_and_changes_nothing(desk: Desk) -> None:
    id = desk.alert()
    request = desk.request(id)
    for user, words in (
        (OWNER, "You started this incident"),
        (SRE.replace("1", "2"), "Only security_team, infra_owner may decide"),
        (GUEST, "You are a guest"),
        (PARTNER, "another workspace"),
        (GONE, "Only active human members"),
        (STRANGER, "does not know you"),
    ):
        desk.click(user, request, "approve")
        desk.hears(user, words)
    assert desk.events(id, ApprovalGiven, ApprovalRefused) == []
    desk.click(STRANGER, desk.card(id), "ack")
    desk.until(lambda: len(desk.told(STRANGER)) == 2, "the stranger is told again")
    assert desk.events(id, Acknowledged) == []


def test_when_slack_does_not_say_who_it_is_nothing_happens(desk: Desk) -> None:
    id = desk.alert()
    card = desk.card(id)
    desk.server.workspace.fault("down", "users.info", times=1)
    desk.click(SRE, card, "ack")
    desk.hears(SRE, "nothing was done")
    assert desk.events(id, Acknowledged) == []
    desk.click(SRE, card, "ack")  # and once it does, the same button works
    desk.until(lambda: desk.events(id, Acknowledged), "the second press counts")


def test_one_refusal_ends_it(desk: Desk) -> None:
    id = desk.alert()
    request = desk.request(id)
    desk.click(INFRA2, request, "refuse")
    desk.hears(INFRA2, "It is not done.")
    desk.until(lambda: "REFUSED by Infra owner 2" in str(desk.now(request).blocks), "the request shows the truth")
    assert desk.state(id).steps["quarantine_role"].status == "refused"


def test_a_click_on_another_plan_is_refused(desk: Desk) -> None:
    id = desk.alert()
    request = desk.request(id)
    for stale in ("|" + "0" * 64, "|", ""):
        body = desk.server.workspace.clicked(HEAD, ROOM, request.ts, "approve")
        shown = body["actions"][0]
        shown["value"] = shown["value"].partition("|")[0] + stale
        assert desk.server.deliver("interactive", body).wait(SOON)
    desk.until(lambda: sum("The plan changed" in text for text in desk.told(HEAD)) == 3, "each is told")
    assert desk.events(id, ApprovalGiven) == []


def test_after_the_end_nothing_can_be_said(desk: Desk) -> None:
    id = desk.alert()
    card, request = desk.card(id), desk.request(id)
    clicks = [
        desk.server.workspace.clicked(HEAD, ROOM, card.ts, "ack"),
        desk.server.workspace.clicked(HEAD, ROOM, request.ts, "approve"),
    ]
    desk.engine.submit(verbs.status(id, Status.RESOLVED, "head-of-security", "cli")).result(SOON)
    for body in clicks:
        assert desk.server.deliver("interactive", body).wait(SOON)
    desk.hears(HEAD, f"{id} is already resolved.")
    desk.hears(HEAD, "This request is already withdrawn.")
    desk.until(lambda: "WITHDRAWN" in str(desk.now(request).blocks), "the request shows the truth")
    assert desk.events(id, Acknowledged, ApprovalGiven) == []
    desk.until(lambda: "'actions'" not in str(desk.now(card).blocks), "the card has no buttons left")


@both
def test_fifty_clicks_of_five_people_are_one_ack_and_the_right_quorum(desk: Desk) -> None:
    id = desk.alert()
    card, request = desk.card(id), desk.request(id)
    people = (SRE, SECOPS, HEAD, INFRA, INFRA2)
    with ThreadPoolExecutor(16) as crowd:
        acks = crowd.map(lambda n: desk.server.workspace.clicked(people[n % 5], ROOM, card.ts, "ack"), range(25))
        yes = crowd.map(lambda n: desk.server.workspace.clicked(people[n % 5], ROOM, request.ts, "approve"), range(25))
        sent = [desk.server.deliver("interactive", body) for body in (*acks, *yes)]
        assert all(crowd.map(lambda delivery: delivery.wait(SOON), sent))
    desk.until(lambda: "GRANTED" in str(desk.now(request).blocks), "granted")
    desk.until(lambda: sum(len(desk.told(user)) for user in people) == 49, "everybody but the one is answered")
    assert len(desk.events(id, Acknowledged)) == 1
    given = Counter(said.by for said in desk.events(id, ApprovalGiven))
    assert set(given.values()) == {1}
    asked = desk.state(id).approvals[desk.state(id).steps["quarantine_role"].request]
    assert asked.state is ApprovalState.GRANTED
    assert {who for who, _ in asked.given} == set(given)


def test_a_held_back_cut_runs_on_the_commanders_word(desk: Desk) -> None:
    config = desk.config.playbooks["unintended-production-change"]
    for number in range(config.limits.runs):
        last = desk.alert(rule=f"rule-{number}")
        desk.engine.submit(verbs.status(last, Status.FALSE_POSITIVE, "head-of-security", "cli")).result(SOON)
    id = desk.alert(rule="one too many")
    desk.until(lambda: desk.state(id).steps["shadow"].status == "deferred", "held back")
    desk.until(lambda: "override:shadow" in str(desk.card(id).blocks), "the card offers it")
    desk.click(SECOPS, desk.card(id), "override", "override:shadow")
    desk.hears(SECOPS, "override is for incident_commander")
    desk.click(HEAD, desk.card(id), "override", "override:shadow")
    desk.hears(HEAD, "shadow runs on your word")
    desk.until(lambda: desk.state(id).steps["shadow"].status == "done", "it ran")


@pytest.mark.parametrize("desk", ["http"], indirect=True)
def test_http_takes_only_what_slack_signed(desk: Desk) -> None:
    url = desk.server._request_url
    assert httpx.post(url, data={"payload": "{}"}).status_code == 401
    assert httpx.get(url).status_code == 405
    assert httpx.post(url, content=b"\xff").status_code == 400
    assert httpx.post(url, content=b"x" * (1024 * 1024 + 1)).status_code == 413


def test_without_a_signing_secret_no_signature_is_right(tmp_path: Path) -> None:
    with WorkspaceServer(workspace(), environ={}) as server:
        desk = Desk(tmp_path, server)
        endpoint = asgi(build_app(desk.engine, bot_token=server.bot_token, base_url=server.api_url))

        async def ask() -> int:
            transport = httpx.ASGITransport(app=endpoint)  # type: ignore[arg-type]  # httpx names its own scope types
            async with httpx.AsyncClient(transport=transport, base_url="http://bot") as client:
                stamp = str(int(SystemClock().now().timestamp()))
                made = hmac.new(b"", f"v0:{stamp}:payload={{}}".encode(), hashlib.sha256).hexdigest()
                headers = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={made}"}
                return (await client.post("/", content="payload={}", headers=headers)).status_code

        assert asyncio.run(ask()) == 401
        desk.store.close()


def test_the_bot_token_leaves_the_machine_only_over_tls(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "config")
    file, shipped = folder / "firedoor.yaml", (EXAMPLE / "firedoor.yaml").read_text()

    def with_api(url: str) -> str:
        file.write_text(shipped.replace("  channel: incidents", f"  channel: incidents\n  api_url: {url}"))
        settings = load(folder).settings
        return settings.slack.api_url if settings.slack else ""

    assert CONFIG.settings.slack
    assert CONFIG.settings.slack.api_url == "https://slack.com/api/"
    assert with_api("http://127.0.0.1:8071/api/") == "http://127.0.0.1:8071/api/"
    with pytest.raises(ConfigError, match="'api_url' gets the bot token"):
        with_api("http://slack.example/api/")
