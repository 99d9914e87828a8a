"""Clicks, from the button in the workspace to the record and back, through the real Bolt and an engine on SQLite."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import shutil
import socket as sockets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from bot.actions import registry
from bot.adapters.clock import SystemClock
from bot.adapters.slack import SlackChat, SlackPager
from bot.config import EXAMPLE, load
from bot.domain.alert import Alert, AlertText, Severity
from bot.domain.approval import ApprovalState
from bot.domain.incident import Incident
from bot.domain.record import Acknowledged, ApprovalGiven, ApprovalRefused, Status, Unacknowledged
from bot.domain.redaction import Redactor
from bot.engine import verbs
from bot.engine.engine import Engine
from bot.engine.intake import receive
from bot.engine.rulebook import Rulebook
from bot.engine.world import World
from bot.errors import ConfigError
from bot.sandbox.estate import Estate
from bot.sandbox.workspace import Channel, Delivery, Message, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER
from bot.slack.app import asgi, build_app, socket
from bot.slack.blocks import SlackVoice
from bot.store import Signer, Store
from bot.wiring import estate_ports

ROOM = "C0INCIDENTS"
SOON = 15.0  # seconds to wait for what comes in a tenth of one
SRE, SECOPS, HEAD, INFRA, INFRA2 = "U0SRE1", "U0SECOPS2", "U0HEADSEC", "U0INFRA1", "U0INFRA2"
OWNER = "U0SECOPS1"  # owns the source that raises the alerts: never an approver of what they start
GUEST, PARTNER, GONE, STRANGER = "U0DPO", "U0EXEC", "U0LEGAL", "U0NOBODY"
HOSTILE = "<!channel> <https://evil.example|your bank> @here"


CONFIG = load(EXAMPLE)
both = pytest.mark.parametrize("desk", ["socket", "http"], indirect=True)


def workspace() -> Workspace:
    odd: dict[str, dict[str, Any]] = {
        GUEST: {"is_restricted": True},
        PARTNER: {"team_id": "T0PARTNER"},
        GONE: {"deleted": True},
    }
    users = [person.slack for person in CONFIG.people.persons.values()] + [STRANGER]
    people = [Person(user, user.lower(), **odd.get(user, {})) for user in users]
    rooms = [Channel(ROOM, "incidents", frozenset((*users, BOT_USER)), is_private=True)]
    return Workspace(people, rooms, SystemClock())


class Desk:
    """The engine, its Bolt app, and people in front of the workspace."""

    def __init__(self, folder: Path, server: WorkspaceServer) -> None:
        self.server, self.config, clock = server, CONFIG, SystemClock()
        self.estate = Estate(clock)
        for agent in self.config.agents.agents.values():
            self.estate.enrol(agent)
        chat = SlackChat(server.bot_token, base_url=server.api_url, every=0.0)
        self.estate.pagers["slack"] = SlackPager(chat)
        self.store = Store.open(
            f"sqlite:///{folder}/firedoor.db",
            install="test",
            mode="sandbox",
            signer=Signer.fresh(),
            master_key=bytes(32),
            clock=clock,
        )
        world = World(
            config=self.config,
            ports=estate_ports(self.config, clock, self.estate, chat, b"salt"),
            rulebook=Rulebook(self.config, EXAMPLE),
            actions=registry(),
            voice=SlackVoice(self.config.people),
            redactor=Redactor(b"salt"),
            replica="replica-1",
            templates=Path("templates"),
            channel="incidents",
        )
        self.engine = Engine(self.store, world)

    def alert(self, **changes: Any) -> str:
        """A critical alert of the policy engine opens an incident; returns its id."""
        fields: dict[str, Any] = {
            "uid": f"finding-{time.monotonic_ns()}",
            "source": "policy_engine",
            "product": "opa",
            "rule": "prod-change-without-approval",
            "severity_id": Severity.CRITICAL,
            "time": SystemClock().now(),
            "agent_uid": "agent-7",
            "labels": {"env": "prod"},
            "text": AlertText("Deploy without approval", HOSTILE),
        }
        alert, source = Alert(**{**fields, **changes}), self.config.sources["policy_engine"].rules
        return self.engine.submit(lambda responder: receive(responder, alert, source, b"{}")).result(SOON).incident

    def state(self, id: str) -> Incident:
        return self.engine.incident(id)

    def events(self, id: str, *kinds: type) -> list[Any]:
        return [entry.event for entry in self.engine.entries(id) if isinstance(entry.event, kinds)]

    def card(self, id: str) -> Message:
        return self.until(lambda: self._message(self.state(id).card), "the card")

    def request(self, id: str, step: str = "quarantine_role") -> Message:
        """The open request for approval, as it stands in the thread of the card."""
        return self.until(lambda: next(iter(self._requests(id, step)), None), f"the request for {step}")

    def _requests(self, id: str, step: str) -> list[Message]:
        wanted = f"{self.state(id).steps[step].request or 'none'}|"
        return [m for m in self.server.workspace.messages(ROOM) if wanted in str(m.blocks)]

    def _message(self, ref: tuple[str, str] | None) -> Message | None:
        return next((m for m in self.server.workspace.messages(ROOM) if ref == (m.channel, m.ts)), None)

    def now(self, message: Message) -> Message:
        found = self._message((message.channel, message.ts))
        assert found
        return found

    def click(self, user: str, message: Message, action: str, block_id: str = "") -> Delivery:
        delivery = self.server.click(user, message.channel, message.ts, action, block_id)
        assert delivery.wait(SOON)
        return delivery

    def told(self, user: str) -> list[str]:
        """What only this person sees, oldest first."""
        return [m.text for m in self.server.workspace.messages(ROOM) if m.visible_to == user]

    def hears(self, user: str, words: str) -> None:
        self.until(lambda: any(words in text for text in self.told(user)), f"{user} hears {words!r}: {self.told(user)}")

    @staticmethod
    def until(look: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + SOON
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(0.02)
        raise AssertionError(f"waited in vain: {what}")


class Loop:
    """An event loop in a thread of its own, as the server has one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SOON)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    loop = Loop()
    listener = sockets.create_server(("127.0.0.1", 0))
    url = (
        f"http://127.0.0.1:{listener.getsockname()[1]}/slack/events" if getattr(request, "param", "") == "http" else ""
    )
    with WorkspaceServer(workspace(), request_url=url, environ={}) as server:
        desk = Desk(tmp_path, server)
        desk.engine.start()
        door = by_http(desk, listener) if url else by_socket(desk)
        loop.run(door.__aenter__())
        yield desk
        loop.run(door.__aexit__(None, None, None))
        desk.engine.stop()
        desk.store.close()
    listener.close()
    loop.stop()


@asynccontextmanager
async def by_socket(desk: Desk) -> AsyncIterator[None]:
    app = build_app(desk.engine, bot_token=desk.server.bot_token, base_url=desk.server.api_url)
    handler = socket(app, desk.server.app_token, desk.server.api_url)
    await handler.connect_async()
    yield
    await handler.close_async()


@asynccontextmanager
async def by_http(desk: Desk, listener: sockets.socket) -> AsyncIterator[None]:
    app = build_app(
        desk.engine,
        bot_token=desk.server.bot_token,
        signing_secret=desk.server.signing_secret,
        base_url=desk.server.api_url,
    )
    config = uvicorn.Config(asgi(app), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))  # serve() would take over the signals
    yield
    server.should_exit = True
    await serving


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
