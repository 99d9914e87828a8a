"""From the POST of an alert to the first call that contains, at 20 a second, in quiet and in a storm.

Each alert names another agent, so each opens an incident and contains: its playbook sets the agent to shadow. Two calls
are timed where they arrive, at a gateway in another process: the order that contains, which is judged and which leaves
after the mode before it was read and committed for the way back; and that reading, the step's first call. The storm is
2,000 other alerts a second.

Floor: one durable commit on the same database and one POST to a bare server, each alone, added up sample by sample.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.company import Company
from bench.figures import Row, Spread, Target
from bench.floor import bare_server, commits
from bench.load import Load, Sending, Sent, send
from bench.receiver import Call, Receiver
from bench.serving import fresh, serving, until

RATE = 20
STORM = 2_000


def measure(kind: str, server: str, *, alerts: int = 400, storm: int = STORM) -> list[Row]:
    with tempfile.TemporaryDirectory() as name, Receiver() as receiver:
        folder = Path(name)
        store = fresh(kind, folder, server)
        quiet, loud = ([f"{word}-{n}" for n in range(alerts)] for word in ("calm", "loud"))
        others = [f"storm-{n}" for n in range(100)]
        company = Company.found(folder / "company", store, receiver.url, ["warm", *quiet, *loud, *others])
        with serving(company):
            _contain(company, ["warm"], receiver)
            calm = _contain(company, quiet, receiver)
            _contain(company, others, receiver, rate=100)
            seconds = alerts / RATE
            sending = Sending(Load(company.port, int(storm * (seconds + 4)), others, rate=storm, connections=64))
            stormy = _contain(company, loud, receiver)
            sending.result()
        floor = _floor(store, alerts)
    return [
        *_rows(f"POST to the containing call, {kind}, {RATE}/s", calm, floor, limit=10.0, times=5.0),
        *_rows(f"POST to the containing call, {kind}, {RATE}/s in a storm", stormy, floor, limit=50.0, times=None),
    ]


def _contain(company: Company, agents: list[str], receiver: Receiver, rate: float = RATE) -> tuple[Spread, Spread]:
    """Posts an alert about each agent; the times to its first call and to its order."""
    load = Load(company.port, len(agents), agents, agents[0], rate=rate, connections=16)
    sent = send(load)
    if set(sent.statuses) != {"202"}:
        raise RuntimeError(f"not every alert was taken: {sent.statuses}")
    calls: list[Call] = []

    def all_there() -> bool:
        calls.extend(receiver.calls())
        return {_agent(call) for call in calls if call.method == "POST" and call.path.endswith("/canary")} >= {*agents}

    until(all_there, "every agent is contained")
    return _spread(sent, agents, calls, "GET"), _spread(sent, agents, calls, "PUT")


def _spread(sent: Sent, agents: list[str], calls: list[Call], method: str) -> Spread:
    first: dict[str, float] = {}
    for call in calls:
        if call.method == method:
            first.setdefault(_agent(call), call.at)
    return Spread.of([first[agent] - at for agent, at in zip(agents, sent.sent, strict=True)])


def _agent(call: Call) -> str:
    """Of `/v1/agents/AGENT/mode`."""
    parts = call.path.split("/")
    return parts[3] if len(parts) > 3 else ""


def _floor(store: str, times: int) -> Spread:
    with bare_server() as port:
        posts = send(Load(port, times, ["any"], rate=RATE * 5, connections=16, path="/bare")).waits
    return Spread.of([commit + post for commit, post in zip(commits(store, times), posts, strict=True)])


def _rows(what: str, spreads: tuple[Spread, Spread], floor: Spread, *, limit: float, times: float | None) -> list[Row]:
    first, order = spreads
    targets = [Target("p99", order.p99, limit, "ms")]
    if times:
        targets.append(Target("p99 by the floor's", order.p99 / floor.p99, times, "x"))
    return [
        Row(what, str(order), str(floor), order.p50 / floor.p50, tuple(targets), "after two commits"),
        Row("  of these to its first reading", str(first), str(floor), first.p50 / floor.p50),
    ]
