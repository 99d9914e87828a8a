"""kill -9 anywhere: nothing is lost, nothing is settled twice, and no system sees an effect twice that could know.

The company (Vault, AWS, gateways, Slack, mail) lives in this process and remembers; the Firedoor processes are real
ones, killed at a crash point, or inside a call to a system before or after its effect. `-m soak` takes every point.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.domain.containment import Containment
from bot.domain.decisions import Withdraw
from bot.domain.events import ActionSettled, DocumentDrafted, PageFailed, PageSent, Posted, PostFailed
from bot.domain.incident import StepStatus
from bot.domain.record import Entry
from bot.engine.responder import PRIORITY
from bot.sandbox.aws import SimEc2
from bot.store import Signer
from tests.engine.desk import Desk
from tests.stories.crash_worker import INSTANCE, LEASE, Clock, Order
from tests.stories.remote import AFTER, BEFORE, TOWN, Served

SEED = int(os.environ["FIREDOOR_SEED"])  # set by conftest
PATIENCE = 60.0  # seconds until the incident must be over; only a failing test waits so long
SETTLING = (ActionSettled, PageSent, PageFailed, Posted, PostFailed, DocumentDrafted)


@dataclass
class Town:
    """What the processes tell the test."""

    accepted: bool = False
    turn: str = "r-1"
    up: set[str] = field(default_factory=set)
    done: threading.Event = field(default_factory=threading.Event)

    def serving(self, replica: str) -> None:
        self.up.add(replica)

    def is_turn_of(self, replica: str) -> bool:
        return replica == self.turn

    def was_accepted(self) -> bool:
        return self.accepted

    def accept(self) -> None:
        self.accepted = True

    def finish(self) -> None:
        self.done.set()


class Nursery:
    """Forks Firedoor processes from one that has imported everything."""

    def __init__(self) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, "-m", "tests.stories.crash_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._line() == "ready"

    def bear(self, order: Order) -> int:
        assert self._mother.stdin
        self._mother.stdin.write(order.text() + "\n")
        self._mother.stdin.flush()
        return int(self._line())

    def close(self) -> None:
        assert self._mother.stdin
        assert self._mother.stdout
        self._mother.stdin.close()
        self._mother.wait(10)
        self._mother.stdout.close()

    def _line(self) -> str:
        assert self._mother.stdout
        return self._mother.stdout.readline().strip()


@dataclass
class Company:
    """One agent, everything it holds, and the Firedoor that guards it."""

    url: str
    key: Path
    nursery: Nursery
    town: Town = field(default_factory=Town)
    pids: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.desk = Desk(self.url, threads=True, clock=Clock(), signer=Signer.load(self.key), replica="looking-on")
        aws = self.desk.aws
        aws.ec2 = SimEc2(aws, timedelta(0))  # snapshots complete at once
        aws.ec2.add_instance(id=INSTANCE, volumes=2, tags={"agent": "agent-7"})
        self.served = Served(
            {
                TOWN: self.town,
                "vault": self.desk.vault,
                "gateway": self.desk.gateway,
                "iam": aws.iam,
                "ec2": aws.ec2,
                "parameters": aws.parameters,
                "cloudtrail": aws.cloudtrail,
                "deploy_api": self.desk.deploy_api,
                "evidence": self.desk.estate.evidence,
                "chat": self.desk.chat,
                "mail": self.desk.estate.pagers["email"],
                "hooks": self.desk.estate.pagers["webhook"],
            }
        )

    def start(self, replica: str, **how: Any) -> int:
        order = Order(self.url, self.served.port, str(self.key), replica, **how)
        self.pids[replica] = self.nursery.bear(order)
        return self.pids[replica]

    def alive(self, replica: str) -> bool:
        try:
            os.kill(self.pids[replica], 0)
        except ProcessLookupError:
            return False
        return True

    def kill(self, replica: str) -> None:
        if self.alive(replica):
            os.kill(self.pids[replica], signal.SIGKILL)
            self.until(lambda: not self.alive(replica))

    def until(self, true: Callable[[], object], what: str = "") -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, f"{what or 'it did not come true'}; FIREDOOR_SEED={SEED}"
            time.sleep(0.01)

    def until_still(self) -> None:
        """Snapshots are asked for, and nothing has been called for a while; what is being answered now is left out."""
        self.until(lambda: "ec2.snapshot_instance" in self.served.calls, "no snapshot was asked for")
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < 0.3:
            if (now := len(self.served.calls)) != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.01)

    def until_killed_or_done(self, replica: str) -> bool:
        """Whether it was killed."""
        self.until(lambda: self.town.done.is_set() or not self.alive(replica), f"{replica} did not come to an end")
        return not self.town.done.is_set()

    def until_done(self) -> None:
        self.until(self.town.done.is_set, "the incident did not come to its end")


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@contextmanager
def company_at(url: str, folder: Path, nursery: Nursery) -> Iterator[Company]:
    key = folder / f"{os.urandom(4).hex()}.pem"
    Signer.generate(key)
    made = Company(url, key, nursery)
    try:
        yield made
    finally:
        for replica in made.pids:
            made.kill(replica)
        made.served.stop()
        made.desk.stop()


# What must hold of every run ------------------------------------------------------------------------------------


def check(company: Company) -> None:
    desk = company.desk
    incident = desk.incident()
    assert incident.containment is Containment.CONTAINED
    assert desk.alive() == []
    assert desk.queued() == 0
    assert desk.streams().count("INC-1") == 1
    assert not [stream for stream in desk.streams() if stream.startswith("INC-") and stream != "INC-1"]
    _check_record(desk)
    _check_effects(company)


def _check_record(desk: Desk) -> None:
    """It verifies, folds to what is served, and every decision in it is settled exactly once or taken back."""
    assert desk.engine.replay("INC-1") == desk.incident()
    incident = desk.incident()
    with desk.store.reading() as tx:
        rows = {row.stream: row for row in tx.streams()}
        entries = {stream: tx.read(stream) for stream in rows}
    for stream, row in rows.items():
        assert row.version == len(entries[stream])
        settled = Counter(_settled(entry) for entry in entries[stream] if isinstance(entry.event, SETTLING))
        withdrawn = {
            id for entry in entries[stream] for d in entry.decisions if isinstance(d, Withdraw) for id in d.decisions
        }
        for decision in (d for entry in entries[stream] for d in entry.decisions if type(d).__name__ in PRIORITY):
            count = settled[decision.id]
            assert count <= 1, f"{decision.id} was settled {count} times"
            given_up = decision.id in withdrawn or (stream.startswith("INC-") and not incident.wants(decision.id))
            assert count or given_up, f"{decision} was never settled"


def _settled(entry: Entry) -> str:
    return str(getattr(entry.event, "decision", ""))


def _check_effects(company: Company) -> None:
    desk = company.desk
    tags = Counter((taken.volume) for taken in desk.aws.ec2.snapshots_tagged("firedoor:instance", INSTANCE))
    assert set(tags.values()) == {1}, f"snapshots: {tags}"
    assert len(tags) == 2
    performed = [request.path for request in desk.deploy_api.received]
    if desk.status("restore_config") is StepStatus.UNKNOWN:  # a POST whose answer got lost: people look, nobody repeats
        assert performed in ([], ["/rollback"])
        assert any("/failure/" in event.key for event in desk.events(PageSent))
    else:
        assert performed == ["/rollback"]
    keys = [post.message.key for post in desk.posts()]
    assert len(keys) == len(set(keys)), "a message was posted twice"
    cards = {event.ts for event in desk.events(Posted) if event.purpose == "card"}
    asked = {event.ts for event in desk.events(Posted) if event.purpose.startswith("approval:")}
    assert len(cards) == 1
    assert {post.ref.ts for post in desk.posts() if not post.thread} <= cards | asked  # no question waits for the card
    first: set[str] = set()
    for message in desk.rang:
        assert message.key not in first or message.again, f"{message.key} left twice without a word"
        first.add(message.key)
    sent = [*desk.events(PageSent)]
    for person in desk.chat.people:
        for key, times in Counter(post.message.key for post in desk.chat.directs(person)).items():
            marked = any(event.may_repeat for event in sent if event.key == key)
            assert times == 1 or (times == 2 and marked), f"{key} left {times} times without a word"


# A first run, which knows every point ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """Where a process can be killed: (crash point, nth time), and (nth call to a system, before or after it)."""

    crashes: tuple[str, ...]
    calls: tuple[tuple[int, str], ...]


@pytest.fixture(scope="module")
def points(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Points:
    folder = tmp_path_factory.mktemp("first")
    log = folder / "points"
    with company_at(f"sqlite:///{folder}/firedoor.db", folder, nursery) as company:
        company.start("r-1", log=str(log))
        company.until_done()
        company.kill("r-1")
        check(company)
        passed = Counter(log.read_text().split())
        numbers = range(1, len(company.served.calls) + 1)
    crashes = tuple(f"{name}:{turn}" for name, times in sorted(passed.items()) for turn in range(1, times + 1))
    return Points(crashes, tuple((n, when) for n in numbers for when in (BEFORE, AFTER)))


def test_every_kind_of_point_is_passed(points: Points) -> None:
    """A commit and every effect has a point before it and one after."""
    kinds = {point.rpartition(":")[0] for point in points.crashes}
    assert kinds >= {"before-commit", "after-commit"}
    for decision in ("Page", "Notify", "Post", "RunAction", "DraftDocument"):
        assert kinds >= {f"before-{decision}", f"after-{decision}", f"settled-{decision}"}
    assert "before-AskApproval" in kinds
    assert len(points.calls) > 50


# One process on SQLite: killed, started again -------------------------------------------------------------------


def survive_alone(folder: Path, nursery: Nursery, *, crash: str = "", call: tuple[int, str] | None = None) -> None:
    with company_at(f"sqlite:///{folder}/firedoor.db", folder, nursery) as company:
        if call:
            company.served.watch = _killer(company, "r-1", call)
        company.start("r-1", crash=crash)
        if company.until_killed_or_done("r-1"):
            company.town.turn = "r-2"
            company.start("r-2")
            company.until_done()
        _check_told(company, crash or str(call))


def survive_together(
    url: str, folder: Path, nursery: Nursery, *, crash: str = "", call: tuple[int, str] | None = None
) -> bool:
    """Two replicas on PostgreSQL; the other takes over, or takes what was to be the killed one's before it comes to its
    point. Whether it was killed."""
    with company_at(url, folder, nursery) as company:
        company.start("r-2")
        company.until(lambda: "r-2" in company.town.up)
        if call:
            company.served.watch = _killer(company, "r-1", call)
        company.start("r-1", crash=crash)
        killed = company.until_killed_or_done("r-1")
        if killed:
            company.town.turn = "r-2"
            company.until_done()
        _check_told(company, crash or str(call))
        return killed


def killed_together(make: Callable[[], str], folder: Path, nursery: Nursery, point: str | tuple[int, str]) -> bool:
    """Whether it was killed at this point, or at an earlier one of its kind: the peer may have taken what was to be the
    later ones."""
    pick = random.Random(f"{SEED} {point}")
    for attempt in range(4):
        if isinstance(point, str):
            name, _, turn = point.rpartition(":")
            killed = survive_together(make(), _sub(folder, attempt), nursery, crash=point)
            point = f"{name}:{pick.randint(1, int(turn))}"
        else:
            killed = survive_together(make(), _sub(folder, attempt), nursery, call=point)
            point = (pick.randint(1, point[0]), point[1])
        if killed:
            return True
    return False


def _killer(company: Company, replica: str, call: tuple[int, str]) -> Callable[[str, str, int], None]:
    def watch(_: str, when: str, number: int) -> None:
        if (number, when) == call:
            company.kill(replica)

    return watch


def _check_told(company: Company, point: str) -> None:
    try:
        check(company)
    except AssertionError as error:
        error.add_note(f"killed at {point}; FIREDOOR_SEED={SEED}")
        raise


def sample(found: tuple[Any, ...], count: int) -> list[Any]:
    return random.Random(SEED).sample(found, min(count, len(found)))


def test_killed_at_a_crash_point_and_started_again(points: Points, nursery: Nursery, tmp_path: Path) -> None:
    for number, point in enumerate(sample(points.crashes, 4)):
        survive_alone(_sub(tmp_path, number), nursery, crash=point)


def test_killed_inside_a_call_and_started_again(points: Points, nursery: Nursery, tmp_path: Path) -> None:
    for number, call in enumerate(sample(points.calls, 3)):
        survive_alone(_sub(tmp_path, number), nursery, call=call)


def test_killed_beside_a_peer(
    points: Points, nursery: Nursery, new_database: Callable[[], str], tmp_path: Path
) -> None:
    for number, point in enumerate([*sample(points.crashes, 2), *sample(points.calls, 1)]):
        assert killed_together(new_database, _sub(tmp_path, number), nursery, point), f"never at {point}"


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_crash_point(points: Points, nursery: Nursery, tmp_path: Path) -> None:
    for number, point in enumerate(points.crashes):
        survive_alone(_sub(tmp_path, number), nursery, crash=point)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_inside_every_call(points: Points, nursery: Nursery, tmp_path: Path) -> None:
    for number, call in enumerate(points.calls):
        survive_alone(_sub(tmp_path, number), nursery, call=call)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["crashes", "calls"])
def test_killed_everywhere_beside_a_peer(
    points: Points, nursery: Nursery, new_database: Callable[[], str], tmp_path: Path, kind: str
) -> None:
    every = getattr(points, kind)
    spared = [
        point
        for number, point in enumerate(every)
        if not killed_together(new_database, _sub(tmp_path, number), nursery, point)
    ]
    print(f"killed beside a peer at {len(every) - len(spared)} of {len(every)} {kind}; never at {spared}")
    assert len(spared) <= len(every) // 20


def _sub(folder: Path, number: int) -> Path:
    made = folder / str(number)
    made.mkdir()
    return made


# Nights, clocks and processes that stand still ------------------------------------------------------------------


def test_killed_and_started_hours_later(nursery: Nursery, tmp_path: Path) -> None:
    with company_at(f"sqlite:///{tmp_path}/firedoor.db", tmp_path, nursery) as company:
        company.start("r-1", crash="after-RunAction:3")
        assert company.until_killed_or_done("r-1")
        company.desk.clock.ahead = timedelta(hours=3)
        company.town.turn = "r-2"
        company.start("r-2", ahead=3 * 3600.0)
        company.until_done()
        check(company)
        late = [event.key for event in company.desk.events(PageSent) if event.late > 3600]
        missed = [key.split("/")[4] for key in late if "/escalation/" in key and key.split("/")[3] != "0"]
        assert missed
        assert len(missed) == len(set(missed)), "one page a person, however many rounds were missed"


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_one_that_hangs_loses_its_work_and_adds_nothing_when_it_wakes(
    nursery: Nursery, store_url: str, tmp_path: Path
) -> None:
    with company_at(store_url, tmp_path, nursery) as company:
        hung = threading.Event()

        def hang(what: str, when: str, _: int) -> None:
            if what == "gateway.set_mode" and when == AFTER and not hung.is_set():
                company.until_still()  # between a look and the deed that follows it, nobody could know (law 3)
                os.kill(company.pids["r-1"], signal.SIGSTOP)
                hung.set()

        company.served.watch = hang
        company.start("r-2")
        company.until(lambda: "r-2" in company.town.up)
        company.start("r-1")
        company.until(hung.is_set)
        company.town.turn = "r-2"
        company.until_done()
        before = {stream: company.desk.store.verify(stream) for stream in company.desk.streams()}

        os.kill(company.pids["r-1"], signal.SIGCONT)
        company.until(lambda: "r-1" not in company.desk.store.dead_replicas(), "it did not renew its lease")
        time.sleep(LEASE)  # it claims, and would settle now
        assert company.alive("r-1")
        assert {stream: company.desk.store.verify(stream) for stream in company.desk.streams()} == before
        check(company)
