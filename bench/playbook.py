"""A durable playbook of ten steps, one after the other, whose actions take no time: what durability itself costs.

From handing in the alert to the commit that settles the tenth step. Each step is an `http.call` to a connection that
answers within the process; before the next starts, its outcome is committed. The engine runs as it serves: writer,
performer and timers in their threads, pages and posts leaving beside.

Floor: 20 durable commits one after the other (each step starts, each step ends) on the same database.
"""

from __future__ import annotations

import queue
import tempfile
import time
from pathlib import Path

from bench.company import Company, chain
from bench.figures import Row, Spread, Target
from bench.floor import commits
from bench.inside import inside, tell
from bench.serving import fresh
from bot.domain.events import ActionSettled
from bot.domain.incident import Incident
from bot.engine.responder import Effects

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
    settled: queue.Queue[float] = queue.Queue()

    def watch(_: int, effects: Effects) -> None:
        for written in effects.written:
            match written.event, written.after:
                case ActionSettled(step=step), Incident() if step == f"step_{STEPS}":
                    settled.put(time.perf_counter())

    taken: list[float] = []
    with inside(company, watch) as engine:
        for agent in company.agents:
            start = time.perf_counter()
            tell(engine, agent)
            taken.append(settled.get(timeout=30) - start)
            time.sleep(0.02)  # pages and papers of this one are not the next one's
        incident = engine.incident("INC-1")
        if [str(run.status) for run in incident.steps.values()] != ["done"] * STEPS:
            raise RuntimeError(f"the playbook did not run: {incident.steps}")
    return taken
