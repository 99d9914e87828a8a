"""People in front of the sandbox workspace, the real Bolt behind it, and an engine on SQLite."""

from __future__ import annotations

import asyncio
import socket as sockets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from bot.actions import registry
from bot.adapters.clock import SystemClock
from bot.adapters.slack import SlackChat, SlackPager
from bot.config import EXAMPLE, SecretRef, load, resolve
from bot.domain.alert import Alert, AlertText, Severity
from bot.domain.incident import Incident
from bot.domain.redaction import Redactor
from bot.engine.engine import Engine
from bot.engine.intake import receive
from bot.engine.rulebook import Rulebook
from bot.engine.world import World
from bot.sandbox.estate import Estate
from bot.sandbox.workspace import Channel, Delivery, Message, Person, Workspace, WorkspaceServer
from bot.sandbox.workspace.rooms import BOT_USER
from bot.slack.app import asgi, build_app, socket
from bot.slack.blocks import SlackVoice
from bot.store import Signer, Store
from bot.wiring import estate_ports

ROOM = "C0INCIDENTS"
SOON = 30.0  # seconds to wait for what comes in a tenth of one
SRE, SECOPS, HEAD, INFRA, INFRA2 = "U0SRE1", "U0SECOPS2", "U0HEADSEC", "U0INFRA1", "U0INFRA2"
OWNER = "U0SECOPS1"  # owns the source that raises the alerts: never an approver of what they start
GUEST, PARTNER, GONE, STRANGER = "U0DPO", "U0EXEC", "U0LEGAL", "U0NOBODY"
HOSTILE = "<!channel> <https://evil.example|your bank> @here"


CONFIG = load(EXAMPLE)


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

    def __init__(
        self,
        store: Path | str,
        server: WorkspaceServer,
        *,
        rooms: bool = False,
        config: Path = EXAMPLE,
        secret: Callable[[SecretRef], str] = resolve,
        replica: str = "replica-1",
        signer: Signer | None = None,
    ) -> None:
        """`store`: a folder for a database of its own, or the URL of one."""
        self.server, self.secret, clock = server, secret, SystemClock()
        self.config = CONFIG if config == EXAMPLE else load(config)
        self.estate = Estate(clock)
        for agent in self.config.agents.agents.values():
            self.estate.enrol(agent)
        chat = SlackChat(server.bot_token, base_url=server.api_url, every=0.0)
        self.estate.pagers["slack"] = SlackPager(chat)
        self.store = Store.open(
            store if isinstance(store, str) else f"sqlite:///{store}/firedoor.db",
            install="test",
            mode="sandbox",
            signer=signer or Signer.fresh(),
            master_key=bytes(32),
            clock=clock,
        )
        world = World(
            config=self.config,
            ports=estate_ports(self.config, clock, self.estate, chat, b"salt"),
            rulebook=Rulebook(self.config, config),
            actions=registry(),
            voice=SlackVoice(self.config.people),
            redactor=Redactor(b"salt"),
            replica=replica,
            templates=Path("templates"),
            channel="incidents",
            rooms=rooms,
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
        return [m for m in self._messages() if wanted in str(m.blocks)]

    def _message(self, ref: tuple[str, str] | None) -> Message | None:
        return next((m for m in self._messages() if ref == (m.channel, m.ts)), None)

    def now(self, message: Message) -> Message:
        found = self._message((message.channel, message.ts))
        assert found
        return found

    def click(self, user: str, message: Message, action: str, block_id: str = "") -> Delivery:
        delivery = self.server.click(user, message.channel, message.ts, action, block_id)
        assert delivery.wait(SOON)
        return delivery

    def act(self, deed: str, user: str, **args: Any) -> dict[str, Any]:
        """What a person does and the bot acknowledges; what they get to see of that."""
        asked = self.server.act(deed, user, **args)
        if isinstance(asked, dict):
            return asked
        assert asked.wait(SOON)
        return asked.result

    def inc(self, user: str, text: str = "", channel: str = ROOM, command: str = "/inc") -> None:
        self.act("command", user, channel=channel, command=command, text=text)

    def modal(self, user: str, words: str) -> dict[str, Any]:
        """The topmost modal of a person, once it shows these words."""

        def look() -> dict[str, Any] | None:
            modals = self.server.workspace.state(user)["modals"]
            return modals[-1] if modals and words in str(modals[-1]) else None

        shown: dict[str, Any] = self.until(
            look, f"{user} sees {words!r}: {self.server.workspace.state(user)['modals']}"
        )
        return shown

    def submit(self, user: str, words: str, **values: str) -> dict[str, Any]:
        """Fills in and sends the modal that shows these words."""
        view = self.modal(user, words)["id"]
        given = {name: {"field": value} for name, value in values.items()}
        return self.act("submit", user, view=view, values=given)

    def home(self, user: str, words: str = "") -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            home = self.server.workspace.state(user)["home"]
            return home if home and words in str(home["blocks"]) else None

        shown: dict[str, Any] = self.until(look, f"the home of {user} shows {words!r}")
        return shown

    def told(self, user: str) -> list[str]:
        """What only this person sees, oldest first."""
        return [m.text for m in self._messages() if m.visible_to == user]

    def direct(self, user: str) -> list[Message]:
        return [m for m in self._messages() if m.channel == f"D{user.removeprefix('U')}"]

    def _messages(self) -> list[Message]:
        workspace = self.server.workspace
        return [message for channel in [*workspace.channels] for message in workspace.messages(channel)]

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


@asynccontextmanager
async def by_socket(desk: Desk) -> AsyncIterator[None]:
    server = desk.server
    app = build_app(desk.engine, bot_token=server.bot_token, base_url=server.api_url, secret=desk.secret)
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
        secret=desk.secret,
    )
    config = uvicorn.Config(asgi(app), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server._serve([listener]))  # serve() would take over the signals
    yield
    server.should_exit = True
    await serving


@contextmanager
def opened(store: Path | str, *, http: bool = False, **options: Any) -> Iterator[Desk]:
    """`http`: Slack posts to the bot, else it listens by Socket Mode. `options` as of Desk."""
    loop = Loop()
    listener = sockets.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/slack/events" if http else ""
    with WorkspaceServer(workspace(), request_url=url, environ={}) as server:
        desk = Desk(store, server, **options)
        desk.engine.start()
        door = by_http(desk, listener) if url else by_socket(desk)
        loop.run(door.__aenter__())
        yield desk
        loop.run(door.__aexit__(None, None, None))
        desk.engine.stop()
        desk.store.close()
    listener.close()
    loop.stop()
