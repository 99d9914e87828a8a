"""kill -9 in the middle of a rollback, and of an agent's return: another process goes on, and repeats nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bot.domain.agent import Mode
from bot.domain.containment import Containment
from bot.domain.incident import StepStatus
from bot.domain.state import MeasureKind
from tests.stories.crash_worker import run_of
from tests.stories.remote import AFTER, BEFORE
from tests.stories.test_crash import Company, Nursery, _check_record, company_at

ROLLBACK, SHADOW = MeasureKind.ROLLBACK, MeasureKind.SHADOW


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


def killer(
    company: Company, replica: str, kind: MeasureKind, system: str, at: str, nth: int = 1
) -> Callable[[str, str, int], None]:
    """Kills the replica at its n-th call to the system once this was asked for."""
    seen: list[int] = []

    def watch(what: str, when: str, number: int) -> None:
        if not what.startswith(system) or when != at or not company.alive(replica):
            return
        if run_of(company.desk.incident(), kind).status is not StepStatus.WAITING:
            seen.append(number)
            if len(seen) == nth:
                company.kill(replica)

    return watch


def go_on(company: Company, replica: str) -> None:
    company.town.turn = replica
    company.start(replica, recovers=True)


def check(company: Company) -> None:
    """Each was asked once, nothing was done twice, and the agent's mode is held as the stage says."""
    _check_record(company.desk)
    incident = company.desk.incident()
    assert [measure.kind for measure in incident.measures.values()] == [ROLLBACK, SHADOW]
    performed = [request.path for request in company.desk.deploy_api.received]
    assert (performed.count("/rollback"), performed.count("/rollforward")) == (1, 1)
    assert run_of(incident, SHADOW).status is StepStatus.DONE
    assert incident.steps["shadow"].status is StepStatus.RELEASED
    assert incident.containment is Containment.CONTAINED
    state = company.desk.gateway.state("agent-7")
    assert state is not None
    assert state.mode is Mode.SHADOW


@pytest.mark.parametrize("at", [AFTER, pytest.param(BEFORE, marks=pytest.mark.soak)])
def test_killed_in_the_middle_of_a_rollback_and_of_a_return(nursery: Nursery, tmp_path: Path, at: str) -> None:
    with company_at(f"sqlite:///{tmp_path}/firedoor.db", tmp_path, nursery) as company:
        company.served.watch = killer(company, "r-1", ROLLBACK, "deploy_api.", at)
        company.start("r-1", recovers=True)
        assert company.until_killed_or_done("r-1"), "it took nothing back"
        company.served.watch = killer(company, "r-2", SHADOW, "gateway.", at)
        go_on(company, "r-2")
        assert company.until_killed_or_done("r-2"), "it held nothing"
        go_on(company, "r-3")
        company.until_done()
        check(company)
        back = run_of(company.desk.incident(), ROLLBACK)
        # The answer to its POST was lost with the process: people look, nobody repeats it.
        assert back.status is StepStatus.FAILED
        assert "stopped at rollback:restore_config" in back.why


@pytest.mark.soak
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("at", [BEFORE, AFTER])
def test_killed_at_a_call_of_the_return(nursery: Nursery, tmp_path: Path, at: str, nth: int) -> None:
    with company_at(f"sqlite:///{tmp_path}/firedoor.db", tmp_path, nursery) as company:
        company.served.watch = killer(company, "r-1", SHADOW, "gateway.", at, nth)
        company.start("r-1", recovers=True)
        if company.until_killed_or_done("r-1"):
            go_on(company, "r-2")
            company.until_done()
        check(company)
        assert run_of(company.desk.incident(), ROLLBACK).status is StepStatus.DONE
