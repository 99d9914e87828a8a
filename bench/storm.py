"""An alert storm over HTTP, into `firedoor serve` with everything on: performer, timers, heartbeat.

Distinct: every alert is other news (its own id, rule and resource, about 700 bytes) of one of 100 agents. An agent's
first alert opened an incident before, and was contained; the storm joins these, as a real one would. 30 alerts a
minute become entries of an incident, the rest of a flood is counted there; each alert is kept, encrypted. Paced, 2,000
a second come whether or not those before were answered; saturated, 64 connections send as fast as they are answered.

Repeats: one alert, again and again. They are counted: one incident, one page, and the count is right to the last.

Floor: the same bodies into a bare server that commits what came meanwhile as one transaction of raw inserts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.company import Company
from bench.figures import Row, Spread, Target
from bench.floor import bare_server
from bench.load import Load, Sent, send
from bench.receiver import Receiver
from bench.serving import fresh, rows, serving, until

AGENTS = 100
PACE = 2_000
SATURATED = {"sqlite": 4_000.0, "postgresql": 3_000.0}  # alerts a second, the least
REPEATS = 6_000.0


def measure(kind: str, server: str, *, seconds: float = 10, alerts: int = 30_000) -> list[Row]:
    """`seconds` of the paced storm; `alerts` at saturation, and as many repeats."""
    with tempfile.TemporaryDirectory() as name, Receiver() as receiver:
        folder = Path(name)
        store = fresh(kind, folder, server)
        agents = [f"agent-{n}" for n in range(AGENTS)]
        company = Company.found(folder / "company", store, receiver.url, [*agents, "again"])
        with serving(company):
            _take(Load(company.port, AGENTS, agents, "first", rate=50))
            until(lambda: _contained(store) == AGENTS, "every agent is contained")
            paced = _take(Load(company.port, int(PACE * seconds), agents, "paced", rate=PACE, connections=256))
            saturated = _take(Load(company.port, alerts, agents, "saturated"))
            kept = rows(store, "SELECT count(*) FROM alerts")[0][0]
            receiver.calls()
            repeated = _take(Load(company.port, alerts, ["again"], "again", news=1))
            until(lambda: _contained(store) == AGENTS + 1, "the repeated alert's agent is contained")
            pages = {call.id for call in receiver.calls() if call.path == "/page"}
        _expect("alerts kept", kept, AGENTS + len(paced.sent) + alerts)
        _expect("incidents", rows(store, "SELECT count(*) FROM streams WHERE kind = 'incident'")[0][0], AGENTS + 1)
        _expect("repeats counted", _counted(store), alerts)
        _expect("pages of the repeated alert", len(pages), 1)
        with bare_server(store) as port:
            floor_paced = send(Load(port, len(paced.sent), agents, "paced", rate=PACE, connections=256, path="/keep"))
            floor_saturated = send(Load(port, alerts, agents, "saturated", path="/keep"))
    return [
        _paced(kind, paced, floor_paced),
        _rate(f"storm, distinct, {kind}, saturated", saturated, floor_saturated, SATURATED[kind]),
        _rate(f"storm, one alert repeated, {kind}", repeated, floor_saturated, REPEATS),
    ]


def _take(load: Load) -> Sent:
    sent = send(load)
    if set(sent.statuses) != {"202"}:
        raise RuntimeError(f"not every alert was taken: {sent.statuses}")
    return sent


def _contained(store: str) -> int:
    summary = "SELECT count(*) FROM streams WHERE kind = 'incident' AND summary LIKE '%\"containment\": \"contained\"%'"
    return int(rows(store, summary.replace("%", "%%") if store.startswith("postgres") else summary)[0][0])


def _counted(store: str) -> int:
    """What the one open window of the repeated news counts."""
    incident = "SELECT incident FROM open_keys WHERE key LIKE 'again|%'"
    return int(rows(store, f"SELECT max(total) FROM dedup WHERE incident = ({incident})")[0][0])


def _expect(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise RuntimeError(f"{what}: {found}, not {wanted}")


def _paced(kind: str, ours: Sent, floor: Sent) -> Row:
    mine, least = Spread.of(ours.waits), Spread.of(floor.waits)
    target = Target("p99", mine.p99, 20.0, "ms")
    return Row(f"storm, distinct, {kind}, {PACE:,}/s", str(mine), str(least), mine.p50 / least.p50, (target,))


def _rate(what: str, ours: Sent, floor: Sent, least: float) -> Row:
    def words(sent: Sent) -> str:
        return f"{sent.rate:,.0f}/s ({Spread.of(sent.waits)})"

    target = Target("alerts", ours.rate, least, "/s", at_least=True)
    return Row(what, words(ours), words(floor), floor.rate / ours.rate, (target,))
