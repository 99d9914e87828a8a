"""Alert to all credentials cut, of an agent that holds 1, 10 and 100 of them, where every system takes 50 ms a call.

Half of them are IAM roles, whose sessions are revoked, and half Vault leases; one credential is a role. From handing in
the alert to the commit with which the incident is contained: everything changed and read back.

Floor: the slowest chain of calls that need one another, made without an engine: one role read, denied and read back, or
one lease revoked and looked up, whichever takes longer.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.company import ACCOUNT, Company
from bench.figures import Row, Spread
from bench.inside import inside, tell
from bench.serving import fresh
from bot.actions import registry
from bot.adapters.clock import SystemClock
from bot.config import load
from bot.domain.containment import Containment
from bot.domain.incident import Incident
from bot.domain.outcome import Done, Pending
from bot.engine.responder import Effects
from bot.ports import Ports
from bot.sandbox.chat import SimChat
from bot.sandbox.estate import Estate
from bot.wiring import estate_ports

ANSWER = 0.05  # seconds a call
AGENT, PREFIX = "agent-1", "database/creds/agent-1/"
STEPS: Mapping[str, Any] = {
    "leases": {
        "uses": "vault.revoke_agent",
        "with": {"agent": "${{ agent.id }}"},
        "contains": True,
        "irreversible": True,
        "timeout": "10m",
    },
    "sessions": {"uses": "aws.iam_revoke_sessions", "with": {"agent": "${{ agent.id }}"}, "contains": True},
}


class Far:
    """A system of the estate with the way there and back."""

    def __init__(self, near: Any) -> None:
        self._near = near

    def __getattr__(self, name: str) -> Any:
        near = getattr(self._near, name)
        if not callable(near):
            return near

        def call(*args: Any, **named: Any) -> Any:
            time.sleep(ANSWER)
            return near(*args, **named)

        return call


def measure(kind: str, server: str, *, sizes: Sequence[int] = (1, 10, 100), runs: int = 5) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = {step: [_chain(folder / f"{step}-{n}", step) for n in range(runs)] for step in STEPS}
        rows = []
        for size in sizes:
            floor = Spread.of([max(each) for each in zip(*(alone[step] for step in _steps(size)), strict=True)])
            cuts = [_cut(fresh(kind, folder, server), folder / f"{size}-{n}", size) for n in range(runs)]
            ours, what = Spread.of(cuts), f"{size} credential{'s' * (size > 1)} cut, {kind}"
            rows.append(Row(what, str(ours), str(floor), ours.p50 / floor.p50))
    return rows


def _steps(size: int) -> Mapping[str, Any]:
    return STEPS if size > 1 else {"sessions": STEPS["sessions"]}


def _held(size: int) -> dict[str, Any]:
    """Roles and leases, as agents.yaml has them; how many leases stand under the prefix is the estate's."""
    roles = [f"arn:aws:iam::{ACCOUNT}:role/agents/{AGENT}-{n}" for n in range(size - size // 2)]
    held: dict[str, Any] = {"aws": {"connection": "aws", "account": ACCOUNT, "region": "eu-central-1", "roles": roles}}
    if size > 1:
        held["vault"] = {"connection": "vault", "entity_id": "e-1", "lease_prefixes": [PREFIX]}
    return held


def _far(estate: Estate, ports: Ports, leases: int) -> Ports:
    for _ in range(leases - 1):  # one came with the enrolment
        estate.vaults["vault"].issue_lease(PREFIX, AGENT)
    aws = {name: replace(account, iam=Far(account.iam)) for name, account in ports.aws.items()}
    return replace(ports, vaults={name: Far(vault) for name, vault in ports.vaults.items()}, aws=aws)


def _cut(store: str, folder: Path, size: int) -> float:
    """Seconds."""
    company = Company.found(folder, store, agents=[AGENT], steps=_steps(size), held=_held(size))
    over, ended = threading.Event(), 0.0

    def watch(_: int, effects: Effects) -> None:
        nonlocal ended
        for written in effects.written:
            if isinstance(written.after, Incident) and written.after.containment is Containment.CONTAINED:
                ended = ended or time.perf_counter()
                over.set()

    with inside(company, watch, partial(_far, leases=size // 2)) as engine:
        start = time.perf_counter()
        tell(engine, AGENT)
        if not over.wait(120):
            raise RuntimeError(f"not contained: {engine.incident('INC-1').containment}")
    return ended - start


def _chain(folder: Path, step: str) -> float:
    """Seconds, of one credential: its action's stages one after the other, each as soon as it may."""
    held = _held(2)
    config = load(Company.found(folder, "sqlite:///unused.db", agents=[AGENT], held=held).folder)
    agent, clock = config.agents.agents[AGENT], SystemClock()
    estate = Estate(clock)
    estate.enrol(agent)
    ports = _far(estate, estate_ports(config, clock, estate, SimChat(clock, [], []), b"s" * 32), 1)
    action = registry()[STEPS[step]["uses"]]
    target = action.targets({"agent": AGENT}, agent)[0]
    so_far, start = None, time.perf_counter()
    while not isinstance(outcome := action.run(target.params, ports, key="floor", so_far=so_far), Done):
        if not isinstance(outcome, Pending):
            raise RuntimeError(f"{step}: {outcome}")
        so_far = outcome.so_far
        time.sleep(max(0.0, (outcome.check_at - clock.now()).total_seconds()))
    return time.perf_counter() - start
