"""How late pages are while 100,000 incidents are open, and after a restart.

Every incident is a real one: opened through the engine, paged, signed, folded again when its time comes. Its matrix
pages the second level an hour after the opening; the openings are dated back, so that some fall due while the bot runs,
100 a second, and the others later. Lateness is from the deadline to the page's arrival at a receiver in another
process. Then the bot is killed, deadlines pass while it is down, and it is started again: how long from starting the
process until the last of their pages has arrived, each once.

Floor: bare POSTs at the same pace, which is what a page costs that nothing is decided, looked up or written for.
"""

from __future__ import annotations

import base64
import secrets
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.company import LEAD, QUIET, Company
from bench.figures import Row, Spread, Target
from bench.floor import bare_server
from bench.load import Load, send
from bench.receiver import Call, Receiver
from bench.serving import fresh, serving, until
from bot.actions import registry
from bot.config import load
from bot.domain.alert import Sev
from bot.domain.decisions import Page, Post
from bot.domain.events import PageSent, PostFailed
from bot.domain.redaction import Redactor
from bot.engine.intake import declare
from bot.engine.responder import Responder
from bot.engine.rulebook import Rulebook
from bot.engine.world import World
from bot.ports import Ports
from bot.sandbox.clock import SimClock
from bot.slack.blocks import SlackVoice
from bot.store import Signer, Store
from bot.wiring import TEMPLATES

RATE = 100  # deadlines a second
AHEAD = 25.0  # seconds that are left for starting before the first
BATCH = 500  # incidents opened in one transaction


def measure(kind: str, server: str, *, standing: int = 100_000, seconds: int = 20, overdue: int = 500) -> list[Row]:
    with tempfile.TemporaryDirectory() as name, Receiver() as receiver:
        folder = Path(name)
        store = fresh(kind, folder, server)
        company = Company.found(folder / "company", store, receiver.url)
        opening = _Opening(company)
        opening.open([datetime.now(UTC) + timedelta(seconds=LEAD)] * standing)
        start = datetime.now(UTC) + timedelta(seconds=AHEAD)
        dues = opening.open([start + timedelta(seconds=n / RATE) for n in range(RATE * seconds)])
        opening.close()
        with serving(company) as served:
            running = _arrivals(receiver, dues)
            served.kill()
        opening = _Opening(company)
        soon = datetime.now(UTC)
        missed = opening.open([soon + timedelta(seconds=n / RATE) for n in range(overdue)])
        opening.close()
        until(lambda: datetime.now(UTC) > max(missed.values()), "the deadlines passed")
        with serving(company) as served:
            late = _arrivals(receiver, missed)
        with bare_server() as port:
            count = RATE * seconds
            floor = Spread.of(send(Load(port, count, ["any"], rate=RATE, connections=8, path="/bare")).waits)
    ours = Spread.of([late for _, late in _lateness(running, dues)])
    last = max(call.wall for call in late.values())
    return [
        Row(
            f"page lateness, {standing:,} open, {kind}",
            str(ours),
            str(floor),
            ours.p50 / floor.p50,
            (Target("p99", ours.p99, 1_000, "ms"),),
        ),
        Row(
            f"{overdue} overdue pages after a restart, {kind}",
            f"{last - served.started:.1f} s from exec",
            f"{served.took:.1f} s to ready",
            None,
            (Target("the last", last - served.started, 5.0, "s"),),
        ),
    ]


def _lateness(arrived: dict[str, Call], dues: dict[str, datetime]) -> list[tuple[str, float]]:
    return [(incident, call.wall - dues[incident].timestamp()) for incident, call in arrived.items()]


def _arrivals(receiver: Receiver, dues: dict[str, datetime]) -> dict[str, Call]:
    """The one page of each incident. Raises RuntimeError for one that is missing or came twice."""
    found: dict[str, Call] = {}

    def all_there() -> bool:
        for call in receiver.calls():
            if (incident := call.id.partition("/")[0]) in found:
                raise RuntimeError(f"{incident} was paged twice")
            found[incident] = call
        return len(found) >= len(dues)

    until(all_there, "every deadline has paged", 120)
    time.sleep(0.5)
    all_there()
    if found.keys() != dues.keys():
        raise RuntimeError(f"pages of other incidents: {found.keys() ^ dues.keys()}")
    return found


class _Opening:
    """Opens incidents by the thousand, dated back, in the company's own store before the bot serves it."""

    def __init__(self, company: Company) -> None:
        config = load(company.folder)
        clock = SimClock(datetime.now(UTC))
        self._store = Store.open(
            company.store,
            install="bench",
            mode="live",
            signer=Signer.load(company.folder / "keys/record.pem"),
            master_key=base64.b64decode((company.folder / "keys/artefacts.key").read_text()),
            clock=clock,
            virtual=True,
        )
        self._world = World(
            config=config,
            ports=Ports(clock=clock, directory=config.agents),
            rulebook=Rulebook(config, company.folder),
            actions=registry(),
            voice=SlackVoice(config.people),
            redactor=Redactor(secrets.token_bytes(32)),
            replica="opening",
            templates=TEMPLATES,
        )

    def open(self, dues: Sequence[datetime]) -> dict[str, datetime]:
        """An incident for each, whose next page is due then."""
        opened: dict[str, datetime] = {}
        for start in range(0, len(dues), BATCH):
            with self._store.transaction() as tx:
                responder = Responder(tx, self._world, lambda _: None)
                for due in dues[start : start + BATCH]:
                    responder.now = due - timedelta(seconds=LEAD)
                    opened[self._declare(responder)] = due
                _settle(responder)
        return opened

    def _declare(self, responder: Responder) -> str:
        made = declare(
            responder,
            by="sre-1",
            type=QUIET,
            severity=Sev.SEV3,
            agent_id="",
            title="Declared for the bench",
            message="",
            contain=False,
        )
        return made.id

    def close(self) -> None:
        self._store.close()


def _settle(responder: Responder) -> None:
    """Carries out what the openings decided: their first page went out, their posts found no chat."""
    while claims := responder.effects.claims:
        responder.effects.claims = []
        responder.tx.dequeue([claim.decision.id for claim in claims])
        for claim in claims:
            match claim.decision:
                case Page() as page:
                    sent = PageSent(page.id, page.key, page.person, page.way, "", may_repeat=False, late=0.0)
                    responder.append(page.incident, sent)
                case Post(id=id, incident=incident, purpose=purpose):
                    responder.append(incident, PostFailed(id, purpose, "no chat is configured"))
                case other:
                    raise RuntimeError(f"an opening does not do this: {other}")
