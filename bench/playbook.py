"""A durable playbook of ten steps, one after the other, whose actions take no time: what durability itself costs.

From handing in the alert to the commit that settles the tenth step. Each step is an `http.call` to a connection that
answers within the process; before the next starts, its outcome is committed. The engine runs as it serves: writer,
performer and timers in their threads, pages and posts leaving beside.

Floor: 20 durable commits one after the other (each step starts, each step ends) on the same database.
"""

from __future__ import annotations

import os
import queue
import secrets
import tempfile
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

from bench.company import SOURCE, TYPE, Company, chain
from bench.figures import Row, Spread, Target
from bench.floor import commits
from bench.serving import fresh
from bot.actions import registry
from bot.adapters.clock import SystemClock
from bot.config import load
from bot.domain.alert import Alert, Severity
from bot.domain.events import ActionSettled
from bot.domain.incident import Incident
from bot.domain.redaction import Redactor
from bot.engine.engine import Engine
from bot.engine.intake import receive
from bot.engine.responder import Effects
from bot.engine.rulebook import Rulebook
from bot.engine.world import World
from bot.sandbox.chat import SimChat
from bot.sandbox.estate import Estate
from bot.slack.blocks import SlackVoice
from bot.store import Signer, Store
from bot.wiring import TEMPLATES, estate_ports

STEPS = 10
LIMITS = {"sqlite": 20.0, "postgresql": 30.0}  # milliseconds
WARM = 5  # runs that are not counted


def measure(kind: str, server: str, *, runs: int = 100) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store_url = fresh(kind, folder, server)
        agents = [f"agent-{n}" for n in range(runs + WARM)]
        company = Company.found(folder / "company", store_url, agents=agents, steps=chain(STEPS))
        ours = Spread.of(_run(company)[WARM:])
        floor = Spread.of(commits(store_url, runs, each=2 * STEPS))
    target = Target("p50", ours.p50, LIMITS[kind], "ms")
    return [Row(f"playbook of {STEPS} steps, {kind}", str(ours), str(floor), ours.p50 / floor.p50, (target,))]


def _run(company: Company) -> list[float]:
    """Seconds from alert to the last step's settlement, for each agent in turn."""
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
    world = World(
        config=config,
        ports=estate_ports(config, clock, Estate(clock), SimChat(clock, [], []), secrets.token_bytes(32)),
        rulebook=Rulebook(config, company.folder),
        actions=registry(),
        voice=SlackVoice(config.people),
        redactor=Redactor(secrets.token_bytes(32)),
        replica="bench",
        templates=TEMPLATES,
    )
    engine = Engine(store, world)
    settled: queue.Queue[float] = queue.Queue()

    def watch(_: int, effects: Effects) -> None:
        """In the writer's thread, after each commit."""
        for written in effects.written:
            match written.event, written.after:
                case ActionSettled(step=step), Incident() if step == f"step_{STEPS}":
                    settled.put(time.perf_counter())

    engine.writer.watch = watch
    engine.start()
    taken: list[float] = []
    source = config.sources[SOURCE].rules
    try:
        for agent in company.agents:
            alert = _alert(agent, clock)
            start = time.perf_counter()
            engine.submit(partial(receive, alert=alert, source=source, body=b"{}"), urgent=False)
            taken.append(settled.get(timeout=30) - start)
            time.sleep(0.02)  # pages and papers of this one are not the next one's
        incident = engine.incident("INC-1")
        if [str(run.status) for run in incident.steps.values()] != ["done"] * STEPS:
            raise RuntimeError(f"the playbook did not run: {incident.steps}")
    finally:
        engine.stop()
        store.close()
    return taken


def _alert(agent: str, clock: SystemClock) -> Alert:
    now = clock.now() - timedelta(seconds=1)
    return Alert(agent, SOURCE, SOURCE, "bench/rule", Severity.HIGH, now, agent_uid=agent, types=(TYPE,))
