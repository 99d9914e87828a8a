"""A whole Firedoor on a simulated estate behind its web application."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pyotp

from bot.adapters.signing import sign
from bot.config import EXAMPLE, Config, SecretRef, load
from bot.domain.incident import Incident
from bot.domain.source import Auth
from bot.engine.engine import Engine
from bot.ports import Clock
from bot.sandbox.chat import SimChat
from bot.sandbox.estate import Estate
from bot.web.agents import AgentsApi
from bot.web.app import application
from bot.web.doors import Doors
from bot.web.http import App
from bot.web.intake import Intake, source_secrets
from bot.web.links import AckLinks
from bot.web.metrics import Metrics
from bot.wiring import Bot, rehearse

TOTP = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def secret_of(ref: SecretRef) -> str:
    """Every secret that the example names: Base32 for codes, else something long and its own."""
    return TOTP if "TOTP" in ref.name else f"{ref.name.lower()}-of-this-test"


@dataclass(slots=True, repr=False)
class Desk:
    bot: Bot
    engine: Engine
    intake: Intake
    metrics: Metrics
    links: AckLinks
    app: App
    clock: Clock
    runner: asyncio.Runner
    path: Path
    instances: AgentsApi
    sent: int = 0

    def __repr__(self) -> str:
        return f"Desk({self.path})"

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Over ASGI, without a socket."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type]  # httpx names its own message types
            async with httpx.AsyncClient(transport=transport, base_url="http://firedoor.test") as client:
                return await client.request(method, path, **how)

        return self.runner.run(asked())

    def raw(self, method: str, path: str, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> int:
        """What no client would send, but a server may hand on. Returns the status."""
        incoming = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        incoming.append({"type": "http.request", "body": b""})
        sent: list[Any] = []

        async def receive() -> Any:
            return incoming.pop(0) if incoming else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        async def asked() -> None:
            await self.app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)

        self.runner.run(asked())
        return int(sent[0]["status"])

    def alert(self, source: str, payload: Any, **headers: str) -> httpx.Response:
        """As the source itself would send it."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return self.ask("POST", f"/v1/alerts/{source}", content=body, headers={**self.signed(source, body), **headers})

    def signed(self, source: str, body: bytes, id: str = "") -> dict[str, str]:
        found = self.bot.config.sources[source]
        self.sent += 1
        secret = secret_of(found.secrets[0]) if found.secrets else ""
        match found.rules.auth:
            case Auth.BEARER:
                return {"authorization": f"Bearer {secret}"}
            case Auth.GRAFANA:
                return {"x-grafana-alerting-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}
            case Auth.HMAC:
                return sign([secret], id or f"msg-{self.sent}", self.clock.now(), body)
        return {}

    def says(self, person: str, path: str, code: str = "", **fields: Any) -> httpx.Response:
        """A person at the command line, with the code that their phone shows now."""
        return self.ask("POST", path, json={"person": person, "code": code or self.code(), **fields})

    def code(self) -> str:
        return pyotp.TOTP(TOTP).at(self.clock.now())

    def opened(self, **fields: Any) -> str:
        answer = self.alert("siem", finding(self.clock, **fields))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["alerts"][0]["incident"])

    def incident(self, id: str) -> Incident:
        return self.engine.incident(id)

    def kept(self) -> tuple[int, int, int]:
        """Streams, alerts and signed deliveries in the store: what a refused delivery must leave alone."""
        with self.engine.store.reading() as tx:
            counts = [tx._row(f"SELECT count(*) FROM {table}") for table in ("entries", "alerts", "seen")]
        return tuple(row[0] for row in counts if row)  # type: ignore[return-value]  # three of them

    def bytes_on_disk(self) -> bytes:
        return b"".join(file.read_bytes() for file in self.path.parent.glob(f"{self.path.name}*"))

    def stop(self) -> None:
        self.runner.close()
        self.engine.store.close()


def finding(clock: Clock, **fields: Any) -> dict[str, Any]:
    """What the example's SIEM sends."""
    return {
        "id": "f-1",
        "rule": {"id": "exfiltration", "name": "Unusual download"},
        "severity": "high",
        "timestamp": clock.now().isoformat(),
        "agent": {"id": "agent-7"},
        "message": "agent-7 read 40 GB from the customer database",
        "types": ["data_exposure"],
        **fields,
    }


@cache
def example() -> Config:
    return load(EXAMPLE)


def config_with(**intake: Any) -> Config:
    """The example, with other bounds for what comes in."""
    config = example()
    settings = config.settings
    return replace(config, settings=replace(settings, intake=replace(settings.intake, **intake)))


def make_desk(
    path: Path, clock: Clock, *, threads: bool = False, secrets: Mapping[str, Any] | None = None, **intake: Any
) -> Desk:
    config = config_with(**intake)
    estate = Estate(clock)
    for agent in config.agents.agents.values():
        estate.enrol(agent)
    slack = [person.slack for person in config.people.persons.values() if person.slack]
    bot = rehearse(config, EXAMPLE, clock, estate, SimChat(clock, slack, ["incidents"]), url=f"sqlite:///{path}")
    engine = Engine(bot.store, bot.engine.world, threads=True) if threads else bot.engine
    metrics = Metrics(engine)
    known = source_secrets(config, secret_of) if secrets is None else secrets
    taking = Intake(engine, known, metrics, monotonic=lambda: clock.now().timestamp())
    instances = AgentsApi(engine, bot.instance_keys, monotonic=lambda: clock.now().timestamp())
    app = application(engine, taking, Doors(engine, secret_of), bot.links, metrics, instances=instances)
    return Desk(bot, engine, taking, metrics, bot.links, app, clock, asyncio.Runner(), path, instances)
