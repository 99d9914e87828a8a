"""`firedoor reach`: what an agent holds, as the systems say right now."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from bot.commands.command import Command, Exit, with_config, with_json
from bot.commands.terminal import as_json, heading, say, table
from bot.config import Config, SecretRef, load
from bot.config.connections import Connection, VaultConnection
from bot.config.reading import suggestion
from bot.config.settings import EvidenceStore
from bot.domain.agent import Agent, delegates_of
from bot.domain.reach import KINDS, Alive, Held, Reach, radius, redacted
from bot.domain.redaction import Redactor
from bot.errors import ConfigError, Refused
from bot.ports import Ports
from bot.reach import PATIENCE, lacking, survey


def show(asked: Namespace) -> int:
    """Exit 1 where something could not be read: what is missing then is not known."""
    config = load(asked.config)
    agent = config.agents.agent(asked.agent)
    if agent is None:
        hint = suggestion(asked.agent, config.agents.agents)
        raise Refused("no_such_agent", f"There is no agent {asked.agent!r} in agents.yaml. {hint}".strip())
    delegates = delegates_of(agent, config.agents.agent)
    found = _ask(config, asked, (agent, *delegates))
    if asked.json:
        as_json(_json(agent, delegates, found))
    else:
        _print(agent, delegates, found)
    return Exit.FOUND if found.unread else Exit.OK


def _ask(config: Config, asked: Namespace, agents: tuple[Agent, ...]) -> Reach:
    # Here: it brings every client library, which no other command should wait for.
    from bot import wiring

    salt = os.urandom(16)
    redactor = Redactor(salt)
    ports, lost = _ports(
        config, asked.config, salt, partial(wiring.read_secret, folder=asked.config, redactor=redactor)
    )
    return redacted(survey(agents, ports, seconds=asked.timeout, lost=lost), redactor.text)


def _ports(
    config: Config, folder: Path, salt: bytes, secret: Callable[[SecretRef], str]
) -> tuple[Ports, dict[str, str]]:
    """Each connection by itself, and what only reading needs: one that cannot be made (a secret or a certificate is
    missing) comes back with the reason, and keeps nobody from asking the others."""
    from bot import clients
    from bot.adapters.clock import SystemClock

    bare = replace(config.settings, connections={}, ways={}, slack=None, evidence=EvidenceStore())

    def made(connections: Mapping[str, Connection]) -> Ports:
        alone = replace(config, settings=replace(bare, connections=connections))
        return clients.live_ports(alone, folder, SystemClock(), salt, secret)

    ports, lost = made({}), {}
    for name, connection in config.settings.connections.items():
        try:
            one = made(
                {name: replace(connection, audit=None) if isinstance(connection, VaultConnection) else connection}
            )
        except ConfigError as error:
            lost[name] = lacking(error)
        except OSError as error:
            lost[name] = str(error)
        else:
            more: dict[str, Any] = {kind: {**getattr(ports, kind), **getattr(one, kind)} for kind in _READ}
            ports = replace(ports, **more)
    return ports, lost


_READ = ("vaults", "aws", "clusters", "githubs", "gateways", "opas")


def _json(agent: Agent, delegates: tuple[Agent, ...], found: Reach) -> dict[str, object]:
    return {
        "agent": agent.id,
        "delegates": [child.id for child in delegates],
        "counts": dict(found.counts),
        "alive": found.alive,
        "held": [_one(held) for held in found.held],
        "unread": list(found.unread),
        "limits": list(found.limits),
    }


def _one(held: Held) -> dict[str, object]:
    return {
        "kind": held.kind,
        "id": held.id,
        "system": held.system,
        "agent": held.agent,
        "of": held.of,
        "via": held.via,
        "since": _time(held.since),
        "expires": _time(held.expires),
        "alive": str(held.alive),
        "why": held.why,
        "chained": held.chained,
        "allowed": held.allowed,
    }


def _time(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _print(agent: Agent, delegates: tuple[Agent, ...], found: Reach) -> None:
    say(f"{agent.id} holds {radius(found)}")
    for who in (agent, *delegates):
        heading(who.id if who is agent else f"{who.id}, which acts for {agent.id}")
        mine = [held for held in found.held if held.agent == who.id and held.kind != "agent"]
        table((_WORDS[held.alive], KINDS.get(held.kind, (held.kind, ""))[0], held.id, _about(held)) for held in mine)
        if not mine:
            say("  nothing was found")
    if found.unread:
        heading("Not read")
        for why in found.unread:
            say(f"  {why}")
    if found.limits:
        heading("What could be seen")
        for why in found.limits:
            say(f"  {why}")


_WORDS = {Alive.YES: "alive", Alive.NO: "dead", Alive.UNKNOWN: "?"}


def _about(held: Held) -> str:
    facts = [
        f"of {held.of}" if held.of else "",
        f"got with {held.via}" if held.via else "",
        f"until {held.expires:%Y-%m-%d %H:%M:%S}Z" if held.expires else "",
        ("chained, may be cut" if held.allowed else "chained, ONLY REPORTED") if held.chained else "",
        held.why,
        held.system,
    ]
    return ", ".join(filter(None, facts))


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("agent", metavar="AGENT", help="its id in agents.yaml")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=PATIENCE, help="for each system (default: %(default)s)"
    )
    with_config(parser)
    with_json(parser)


COMMANDS = (
    Command(
        "reach",
        "show what an agent holds, and what of it is alive",
        "Asks every system what the agent and those who act for it hold right now: credentials, live sessions, roles\n"
        "chained out of them (by CloudTrail, which lags), leases, instances. Reads only. A system that does not\n"
        "answer, or whose secret is missing, is named, the others are told, and the exit code is 1.",
        "firedoor reach agent-7",
        show,
        _arguments,
    ),
)
