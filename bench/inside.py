"""The engine within the bench's own process, as it serves: writer, performer and timers in their threads."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

from bench.company import SOURCE, TYPE, Company
from bot.actions import registry
from bot.adapters.clock import SystemClock
from bot.config import load
from bot.domain.alert import Alert, Severity
from bot.domain.redaction import Redactor
from bot.engine.engine import Engine
from bot.engine.intake import receive
from bot.engine.responder import Effects
from bot.engine.rulebook import Rulebook
from bot.engine.world import World
from bot.ports import Ports
from bot.sandbox.chat import SimChat
from bot.sandbox.estate import Estate
from bot.slack.blocks import SlackVoice
from bot.store import Signer, Store
from bot.wiring import TEMPLATES, estate_ports


@contextmanager
def inside(
    company: Company,
    watch: Callable[[int, Effects], None],
    change: Callable[[Estate, Ports], Ports] = lambda _, ports: ports,
) -> Iterator[Engine]:
    """An engine that works on a simulated estate in which the company's agents are enrolled. `watch` is called in the
    writer's thread after each commit; `change` may add to the estate, and put its systems further away."""
    os.environ.update(company.env)
    config, clock = load(company.folder), SystemClock()
    store = Store.open(
        company.store,
        install="bench",
        mode="sandbox",
        signer=Signer.fresh(),
        master_key=secrets.token_bytes(32),
        clock=clock,
    )
    estate = Estate(clock)
    for agent in config.agents.agents.values():
        estate.enrol(agent)
    ports = estate_ports(config, clock, estate, SimChat(clock, [], [""]), secrets.token_bytes(32))
    world = World(
        config=config,
        ports=change(estate, ports),
        rulebook=Rulebook(config, company.folder),
        actions=registry(),
        voice=SlackVoice(config.people),
        redactor=Redactor(secrets.token_bytes(32)),
        replica="bench",
        templates=TEMPLATES,
    )
    engine = Engine(store, world)
    engine.writer.watch = watch
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        store.close()


def tell(engine: Engine, agent: str) -> None:
    """An alert about the agent, as the intake hands it in."""
    now = engine.world.ports.clock.now() - timedelta(seconds=1)
    alert = Alert(agent, SOURCE, SOURCE, "bench/rule", Severity.HIGH, now, agent_uid=agent, types=(TYPE,))
    source = engine.world.config.sources[SOURCE].rules
    engine.submit(partial(receive, alert=alert, source=source, body=b"{}"), urgent=False)
