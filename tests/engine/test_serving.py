"""The engine with its threads and timers: it starts, works, gives up what hangs, and stops."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bot.actions import registry
from bot.actions.vault_revoke_agent import RevokeAgent
from bot.adapters.clock import SystemClock
from bot.config import EXAMPLE
from bot.domain.containment import Containment
from bot.domain.events import PageFailed, PageSent, Posted
from bot.domain.incident import StepStatus
from bot.domain.outcome import Outcome, Pending
from bot.engine.breaker import Breaker
from bot.engine.performer import Performer
from bot.errors import ConfigError, Refused
from bot.ports import Ports
from tests.engine.desk import Desk, desk_at, example


def quick(**times: float) -> Any:
    """The example with clocks of seconds instead of minutes."""
    config = example()
    matrices = {
        type: replace(
            matrix,
            levels=tuple(
                replace(level, page_at=timedelta(seconds=number), ack_by=timedelta(seconds=number + 1))
                for number, level in enumerate(matrix.levels)
            ),
            repeat_every=timedelta(seconds=60),
        )
        for type, matrix in config.matrices.items()
    }
    steps = {
        id: replace(
            playbook,
            steps={
                name: replace(step, timeout=timedelta(seconds=times.get(name, 60)))
                for name, step in playbook.steps.items()
            },
        )
        for id, playbook in config.playbooks.items()
    }
    return replace(config, matrices=matrices, playbooks=steps)


def test_an_alert_is_contained_and_its_people_are_paged(tmp_path: Path) -> None:
    with desk_at(tmp_path, threads=True) as desk, desk.serving():
        desk.receive()
        desk.until_quiet("INC-1")
        assert desk.incident().containment is Containment.CONTAINED
        assert desk.alive() == []
        assert len(desk.pages) == 1
        assert desk.engine.faults() == ()
        assert desk.engine.replay("INC-1") == desk.incident()


def test_timers_ring_every_level(tmp_path: Path) -> None:
    with desk_at(tmp_path, threads=True, config=quick()) as desk, desk.serving():
        desk.receive()
        desk.until(lambda: {"head-of-security", "legal"} <= set(desk.escalated), "the levels were not paged")
        assert max(event.late for event in desk.events(PageSent)) < 5


def test_what_was_posted_meanwhile_stands_in_order(tmp_path: Path) -> None:
    with desk_at(tmp_path, threads=True) as desk, desk.serving():
        desk.receive()
        desk.until_quiet("INC-1")
        for person in ("sre-1", "sre-2"):
            desk.ack(person)
            desk.unack(person)
        desk.until(lambda: desk.queued() == 0)
        said = [event.purpose for event in desk.events(Posted) if event.purpose.endswith("acknowledged")]
        assert said == ["acknowledged", "unacknowledged"] * 2


class Hanging(RevokeAgent):
    """The first call never comes back."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.calls = 0

    def run(self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Any = None) -> Outcome:
        self.calls += 1
        if self.calls == 1:
            self.release.wait(60)
        return super().run(params, ports, key=key, so_far=so_far)


def test_a_hung_call_is_given_up_and_stops_nothing_else(tmp_path: Path) -> None:
    hanging = Hanging()
    actions = {**registry(), "vault.revoke_agent": hanging}
    folder = _folder(tmp_path, timeout="1s")
    with desk_at(tmp_path, threads=True, folder=folder, actions=actions) as desk, desk.serving():
        desk.receive()
        desk.until(lambda: desk.status("shadow") is StepStatus.DONE)
        desk.until(lambda: isinstance(desk.outcomes("revoke_vault")[0], Pending))
        pending = desk.outcomes("revoke_vault")[0]
        assert isinstance(pending, Pending)
        assert pending.why == "no answer within 1 s"
        desk.until_quiet("INC-1")
        assert desk.incident().containment is Containment.CONTAINED
        hanging.release.set()


class Once(Hanging):
    def repeatable(self, params: Mapping[str, Any]) -> bool:  # noqa: ARG002 - an Action's
        return False


def test_a_hung_call_that_cannot_be_repeated_is_put_to_people(tmp_path: Path) -> None:
    once = Once()
    actions = {**registry(), "vault.revoke_agent": once}
    folder = _folder(tmp_path, timeout="1s")
    with desk_at(tmp_path, threads=True, folder=folder, actions=actions) as desk, desk.serving():
        desk.receive()
        desk.until(lambda: desk.status("revoke_vault") is StepStatus.UNKNOWN)
        desk.until(lambda: any("/failure/" in page.key for page in desk.pages))
        assert desk.incident().containment is Containment.UNKNOWN
        assert once.calls == 1
        once.release.set()


def _folder(tmp_path: Path, timeout: str) -> Path:
    folder = shutil.copytree(EXAMPLE, tmp_path / "config")
    playbook = folder / "playbooks/unintended-production-change.yaml"
    playbook.write_text(playbook.read_text().replace("{timeout: 2m,", f"{{timeout: {timeout},"))
    return folder


class Full(Hanging):
    """No call ever comes back."""

    def run(self, params: Mapping[str, Any], ports: Ports, *, key: str, so_far: Any = None) -> Outcome:
        self.calls += 1
        if not self.release.is_set():
            self.release.wait(60)
        return RevokeAgent.run(self, params, ports, key=key, so_far=so_far)


def test_what_queues_behind_hung_calls_gets_a_fresh_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.engine.performer.POOL", 1)
    full = Full()
    actions = {**registry(), "vault.revoke_agent": full}
    folder = _folder(tmp_path, timeout="1s")
    with desk_at(tmp_path, threads=True, folder=folder, actions=actions) as desk, desk.serving():
        desk.receive()
        desk.receive(agent="agent-9")  # behind it, in a pool of one
        desk.until(lambda: full.calls >= 2, "what queued behind the hung call was never begun")
        full.release.set()
        desk.until_quiet("INC-1")
        desk.until_quiet("INC-2")
        assert desk.alive() == desk.alive("agent-9") == []


def test_a_page_that_hangs_is_sent_the_next_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.engine.performer.PAGE_TIMEOUT", 0.5)
    with desk_at(tmp_path, threads=True) as desk:
        slow = threading.Event()
        desk.estate.pagers["slack"].pager = Slow(slow)
        with desk.serving():
            desk.receive()
            desk.until(lambda: any("/escalation/" in e.key and e.way == "email" for e in desk.events(PageSent)))
            assert all(event.why == "no answer within 0 s" for event in desk.events(PageFailed))
            slow.set()


def test_a_way_that_keeps_failing_is_passed_over_at_once(tmp_path: Path) -> None:
    with desk_at(tmp_path, threads=True) as desk:
        slow = threading.Event()
        desk.estate.pagers["slack"].pager = Slow(slow)
        with desk.serving():
            for _ in range(5):
                desk.engine.performer._breakers.failed("pages by slack", "timed out")
            desk.receive()
            desk.until(lambda: any("/escalation/" in e.key and e.way == "email" for e in desk.events(PageSent)))
            assert all("keeps failing (timed out)" in event.why for event in desk.events(PageFailed))
            slow.set()


class Slow:
    def __init__(self, release: threading.Event) -> None:
        self.release = release

    def send(self, _: object) -> str:
        self.release.wait(60)
        return "late"


def test_a_breaker_opens_lets_one_try_and_closes() -> None:
    breaker = Breaker(limit=3, cool=10)
    for second in range(3):
        assert breaker.wait(second) == 0
        breaker.failed(second)
    assert breaker.wait(3) == 9
    assert breaker.wait(12.5) == 0  # one tries
    assert breaker.wait(12.6) > 9  # the others wait for its answer
    breaker.answered()
    assert breaker.wait(12.7) == 0


def test_a_system_that_keeps_failing_is_left_alone_for_a_while(tmp_path: Path) -> None:
    with desk_at(tmp_path, threads=True) as desk, desk.serving():
        performer: Performer = desk.engine.performer
        performer._breakers._all["aws"] = Breaker(limit=1, cool=1.0, failures=1, opened_at=time.monotonic())
        desk.receive()
        desk.until(lambda: "aws keeps failing" in getattr(desk.outcomes("disable_keys")[0], "why", ""))
        assert desk.status("shadow") is not StepStatus.FAILED
        desk.until_quiet("INC-1")
        assert desk.incident().containment is Containment.CONTAINED
        assert performer.breakers["aws"].opened_at is None


def test_what_was_under_way_is_recorded_before_it_stops(tmp_path: Path) -> None:
    slow = Hanging()
    actions = {**registry(), "vault.revoke_agent": slow}
    with desk_at(tmp_path, threads=True, actions=actions) as desk:
        with desk.serving():
            desk.receive()
            desk.until(lambda: slow.calls == 1)
            threading.Timer(0.5, slow.release.set).start()
        reopened = replace(desk, replica="r-2")
        with reopened.serving():
            reopened.until_quiet("INC-1")
            assert reopened.incident().containment is Containment.CONTAINED
            with reopened.store.reading() as tx:
                settled = [e.event for e in tx.read("vault-entity:e-7")]
            assert all(getattr(event, "reclaimed", 0) == 0 for event in settled)


def test_a_second_process_on_one_file_is_refused(tmp_path: Path) -> None:
    with desk_at(tmp_path, threads=True) as desk, desk.serving():
        other = desk.peer("r-2")
        with pytest.raises(ConfigError, match="another Firedoor process"):
            other.engine.start()
        other.store.close()


class Ahead:
    """A clock that is not right."""

    def __init__(self, by: timedelta) -> None:
        self.by, self._clock = by, SystemClock()

    def now(self) -> Any:
        return self._clock.now() + self.by


@dataclass
class Night:
    """Moves the clock that counts: on SQLite the process's, on PostgreSQL the database's; there the process is an hour
    slow, and nobody may notice."""

    url: str

    def __post_init__(self) -> None:
        self.clock = Ahead(timedelta())
        if self.on_postgres:
            self.clock.by = timedelta(hours=-1)
            self.move(timedelta())
            with self._connected() as database:  # ours before the server's own, for every connection from now on
                database.execute(f'ALTER DATABASE "{database.info.dbname}" SET search_path = public, pg_catalog')

    def move(self, by: timedelta) -> None:
        if not self.on_postgres:
            self.clock.by = by
            return
        with self._connected() as database:
            database.execute(
                "CREATE OR REPLACE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS"
                f" $$ BEGIN RETURN pg_catalog.clock_timestamp() + interval '{by.total_seconds()} seconds'; END $$"
            )

    @property
    def on_postgres(self) -> bool:
        return self.url.startswith("postgresql")

    def _connected(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url.replace("+psycopg", "", 1), autocommit=True)


@contextmanager
def desk_through(night: Night) -> Iterator[Desk]:
    desk = Desk(night.url, threads=True, clock=night.clock)
    try:
        yield desk
    finally:
        desk.stop()


def test_a_night_later_it_goes_on_where_it_stopped(store_url: str) -> None:
    night = Night(store_url)
    with desk_through(night) as desk:
        with desk.serving():
            desk.receive()
        evening = desk.entries()[0].at
        night.move(timedelta(hours=9))
        desk.rang.clear()
        later = replace(desk, replica="r-2")
        with later.serving():
            later.until(lambda: {"legal", "dpo"} <= set(later.escalated), "overdue pages did not leave")
            later.until_quiet("INC-1")
            assert len(later.escalated) == len(set(later.escalated))
            assert later.entries()[-1].at - evening >= timedelta(hours=9)
            assert later.store.verify("INC-1") == later.incident().version
        later.stop()


def test_a_clock_that_jumps_harms_nothing(store_url: str) -> None:
    night = Night(store_url)
    with desk_through(night) as desk, desk.serving():
        desk.receive()
        desk.until_quiet("INC-1")
        night.move(timedelta(minutes=-1))
        desk.ack("sre-1")
        night.move(timedelta(hours=1))
        with suppress(Refused):  # the acknowledgement ran out first
            desk.unack("sre-1")
        desk.until(lambda: "legal" in desk.escalated)
        desk.until(lambda: desk.queued() == 0)
        times = [entry.at for entry in desk.entries()]
        assert times == sorted(times)
        assert len({m.key for m in desk.rang}) == len(desk.rang)
        assert desk.engine.faults() == ()
