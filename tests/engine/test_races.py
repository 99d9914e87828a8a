"""Many people at one request at the same moment, straight into the engine, on both kinds of store."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from bot.domain.alert import Severity
from bot.domain.approval import ApprovalState, missing
from bot.domain.events import Acknowledged, ApprovalGiven, Status
from bot.domain.incident import StepStatus
from bot.engine import verbs
from bot.errors import Refused
from tests.engine.desk import PATIENCE, Desk

STEP = "quarantine_role"
FIVE = ("sre-1", "security-ops-2", "head-of-security", "infra-owner-1", "infra-owner-2")
CLICKS = 50


def test_fifty_approvals_by_five_people_are_one_each_and_the_right_quorum(store_url: str) -> None:
    desk = Desk(store_url, threads=True)
    together = Barrier(10)
    try:
        with desk.serving():
            desk.receive(severity_id=Severity.CRITICAL)
            desk.until(lambda: desk.status(STEP) is StepStatus.AWAITING_APPROVAL)
            asked = desk.incident().approvals[desk.incident().steps[STEP].request]

            def click(number: int) -> str:
                together.wait(PATIENCE)
                job = verbs.approve(asked.request, FIVE[number % 5], "slack", asked.hash)
                try:
                    desk.engine.submit(job).result(PATIENCE)
                except Refused as refused:
                    return refused.code
                return "recorded"

            with ThreadPoolExecutor(10) as crowd:
                said = Counter(crowd.map(click, range(CLICKS)))
            given = [event.by for event in desk.events(ApprovalGiven)]
            assert said["recorded"] == len(given) == len({*given})
            assert said.total() == CLICKS
            assert set(said) <= {"recorded", "already_given", "closed"}, said
            after = desk.incident().approvals[asked.request]
            assert after.state is ApprovalState.GRANTED
            assert [who for who, _ in after.given] == given
            assert missing(after.each, after.given[:-1]), "nobody was asked beyond the quorum"
            desk.until(lambda: desk.status(STEP) is StepStatus.DONE)
    finally:
        desk.stop()


def test_an_ack_and_a_resolve_at_the_same_moment_leave_one_story(store_url: str) -> None:
    desk = Desk(store_url, threads=True)
    try:
        with desk.serving(), ThreadPoolExecutor(10) as crowd:
            desk.receive(severity_id=Severity.CRITICAL)
            jobs = [verbs.acknowledge("INC-1", person, "slack") for person in FIVE]
            jobs += [verbs.status("INC-1", Status.RESOLVED, "head-of-security", "slack") for _ in FIVE]
            together = Barrier(10)

            def say(job: verbs.Job) -> str:
                together.wait(PATIENCE)
                try:
                    desk.engine.submit(job).result(PATIENCE)
                except Refused as refused:
                    return refused.code
                return "recorded"

            said = Counter(crowd.map(say, jobs))
            acks = desk.events(Acknowledged)
            assert len(acks) <= 1
            assert said["recorded"] == len(acks) + 1
            assert set(said) <= {"recorded", "already_acknowledged", "already_over", "already"}, said
            assert desk.incident().status is Status.RESOLVED
    finally:
        desk.stop()
