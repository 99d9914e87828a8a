"""A record that cannot be read: nothing is written to it any more, and those who run Firedoor hear of it, once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.config.people import Role
from bot.engine import operators
from bot.errors import FutureEntry, RecordBroken
from bot.store import Signer, seal
from tests.engine.desk import Desk, example


@contextmanager
def restarted(desk: Desk) -> Iterator[Desk]:
    """Another process, which remembers nothing."""
    other = desk.peer("r-2")
    with other.serving():
        yield other
    other.stop()


@pytest.fixture
def desk(store_url: str) -> Iterator[Desk]:
    made = Desk(store_url, threads=True)
    with made.serving():
        made.receive()
        made.until_quiet("INC-1")
    yield made
    made.stop()


def change(desk: Desk, of: Callable[[dict[str, Any]], None], *, sign: Signer | None = None) -> tuple[str, str, str]:
    """Somebody changes the last entry of INC-1 in the database; with the key too, or a newer release wrote it."""
    version = len(desk.entries())
    where = {"version": version}
    with desk.store.transaction() as tx:
        (before,) = tx._rows(
            "SELECT body, digest, signature FROM entries WHERE stream = 'INC-1' AND version = :version", where
        )
        fields = json.loads(before[0])
        of(fields)
        body = seal.canonical(fields)
        after = (seal.digest(body), sign.sign(body)) if sign else before[1:]
        write(tx, version, (body.decode(), *after))
    return before


def write(tx: Any, version: int, row: tuple[str, str, str]) -> None:
    values = dict(zip(("body", "digest", "signature"), row, strict=True)) | {"version": version}
    kind = tx._rows("SELECT type FROM entries WHERE stream = 'INC-1' AND version = :version", {"version": version})
    values["type"] = json.loads(row[0]).get("type", kind[0][0])
    tx._run(
        "UPDATE entries SET body = :body, digest = :digest, signature = :signature, type = :type "
        "WHERE stream = 'INC-1' AND version = :version",
        values,
    )


def told(desk: Desk) -> list[str]:
    return [message.person for message in desk.rang if message.key.startswith("INC-1/broken/")]


def test_a_record_that_does_not_verify_is_written_no_further_and_paged_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "LOOK", timedelta(seconds=0.2))
    version = len(desk.entries())
    before = change(desk, lambda fields: fields.update(at="2020-01-01T00:00:00.000000Z"))
    with restarted(desk) as other:
        with pytest.raises(RecordBroken, match=f"INC-1/{version}"):
            other.ack("sre-1")
        other.until(lambda: len(told(desk)) == 2)
        other.until(lambda: other.engine.operators.warnings)
        with pytest.raises(RecordBroken):
            other.ack("sre-2")
        (warning,) = other.engine.operators.warnings
        assert f"INC-1/{version}" in warning
        assert "nothing is written to INC-1 any more" in warning
        other.receive(agent="agent-9", type="data_exposure")  # the others go on
        other.until(lambda: other.incident("INC-2").card)
        assert told(desk) == ["head-of-security", "sre-1"]  # no role runs Firedoor here: the commanders
        with desk.store.transaction() as tx:
            write(tx, version, before)
        other.until(lambda: not other.engine.operators.warnings, "it can be read again")
        assert other.ack("sre-1").acked_by == "sre-1"


def test_an_entry_of_a_newer_release_is_told_to_those_who_run_it_and_until_somebody_is_reached(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "LOOK", timedelta(seconds=0.1))
    monkeypatch.setattr(operators, "AGAIN", timedelta(seconds=0.3))
    people = example().people
    desk.config = replace(
        desk.config, people=replace(people, roles={**people.roles, "operators": Role(("sre-2", "infra-owner-1"))})
    )
    desk.estate.pagers["slack"].deaf |= {"sre-2", "infra-owner-1"}
    desk.estate.pagers["email"].deaf |= {"sre-2", "infra-owner-1"}
    desk.estate.pagers["webhook"].deaf |= {"sre-2", "infra-owner-1"}
    change(desk, lambda fields: fields.update(type="Adjourned"), sign=desk.signer)
    with restarted(desk) as other:
        with pytest.raises(FutureEntry, match="Adjourned"):
            other.ack("sre-1")
        other.until(lambda: _tries(other) >= 2)
        assert told(desk) == []
        desk.estate.pagers["email"].deaf.discard("sre-2")
        other.until(lambda: told(desk))
        other.until(lambda: not _waits(other))
        assert set(told(desk)) == {"sre-2"}
        assert next(message.again for message in desk.rang if "/broken/" in message.key)


def _tries(desk: Desk) -> int:
    with desk.store.reading() as tx:
        return max((fault.tries for fault in tx.faults()), default=0)


def _waits(desk: Desk) -> bool:
    with desk.store.reading() as tx:
        return any(fault.again_at for fault in tx.faults())


def test_of_two_replicas_one_tells(desk: Desk) -> None:
    with desk.store.transaction() as tx:
        tx.note_fault("INC-1", "the first reason")
        tx.note_fault("INC-1", "another")
        (fault,) = tx.faults()
        assert fault.why == "the first reason"
        assert tx.change_fault(fault, replace(fault, tries=1))
        assert not tx.change_fault(fault, replace(fault, tries=1))
