"""A Firedoor process of the crash tests: the threaded engine on a store that others share, in a company that lives in
the test's process. It takes one alert and does what people would, step by step, whoever did the step before.

Run as a program it is imported once and then forks a process for each line of JSON (an `Order`) that it reads.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bot.actions import aws_ec2_snapshot
from bot.adapters.clock import SystemClock
from bot.adapters.slack import SlackPager
from bot.domain.alert import Resource
from bot.domain.containment import Containment
from bot.domain.events import Status
from bot.domain.incident import Incident, StepRun, StepStatus
from bot.domain.state import MeasureKind
from bot.engine import crash, verbs
from bot.engine.intake import receive
from bot.engine.world import Played
from bot.errors import FiredoorError, Refused, Unavailable
from bot.ports import AwsAccount
from bot.store import Signer
from tests.engine.desk import SIEM, Desk
from tests.stories.remote import Remote

INSTANCE = "i-0aaaaaaaaaaaaaaa1"
LEASE = 1.0  # seconds: short, so that the tests need not wait for long


@dataclass(frozen=True)
class Order:
    """`crash` and `log` as bot.engine.crash reads them; `ahead` is how wrong this machine's clock is, in seconds."""

    url: str
    port: int
    key: str
    replica: str
    crash: str = ""
    log: str = ""
    ahead: float = 0.0
    recovers: bool = False  # people go on: a rollback, and the first stage of the agent's return

    def text(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Clock:
    """This machine's, `ahead` of the right time."""

    ahead: timedelta = timedelta()

    def now(self) -> datetime:
        return SystemClock().now() + self.ahead


def desk_of(order: Order) -> Desk:
    def remote(name: str) -> Any:
        return Remote(order.port, name)

    account = AwsAccount(*map(remote, ("iam", "ec2", "parameters", "cloudtrail")), account="123456789012")
    chat = remote("chat")
    estate = SimpleNamespace(
        vaults={"vault": remote("vault")},
        aws={"aws": SimpleNamespace(account=lambda: account)},
        gateways={"agents": remote("gateway")},
        clusters={},
        githubs={},
        opas={},
        endpoints={"deploy_api": remote("deploy_api")},
        evidence=remote("evidence"),
        pagers={"slack": SlackPager(chat), "email": remote("mail"), "webhook": remote("hooks")},
    )
    return Desk(
        order.url,
        threads=True,
        clock=Clock(timedelta(seconds=order.ahead)),
        replica=order.replica,
        lease=LEASE,
        signer=Signer.load(Path(order.key)),
        estate=estate,
        chat=chat,
    )


def work(order: Order) -> None:
    """Serves; does its part of the script whenever it is this replica's turn; tells when all is done."""
    aws_ec2_snapshot._FIRST = aws_ec2_snapshot._POLL = timedelta(seconds=0.2)  # of this estate
    town = Remote(order.port, "town")
    desk = desk_of(order)
    object.__setattr__(desk.engine.world, "replay", lambda *_: Played(True, "d" * 64, "r" * 64))
    object.__setattr__(desk.engine.world, "rules", lambda: "r" * 64)
    desk.engine.start()
    town.serving(order.replica)
    while not town.is_turn_of(order.replica):
        time.sleep(0.02)
    if not town.was_accepted():  # a sender that got no answer sends again
        alert = desk.alert(uid="f-1", time=desk.clock.now(), resources=(Resource(INSTANCE, "AWS::EC2::Instance"),))
        _insist(lambda: desk.engine.submit(partial(receive, alert=alert, source=SIEM, body=b"{}")).result(30))
        town.accept()
    for wait_for, job in script(recovers=order.recovers):
        _until(desk, wait_for)
        try:
            _insist(lambda job=job: desk.engine.submit(job).result(30))  # type: ignore[misc]  # no Future is a generic
        except Refused:
            continue  # whoever was killed had said it
    _until(desk, lambda incident: incident.status is Status.RESOLVED and desk.queued() == 0)
    town.finish()
    signal.pause()


Part = tuple[Callable[[Incident], object], verbs.Job]


def script(*, recovers: bool = False) -> list[Part]:
    """What people do, and when."""
    form = {"customer_impact": False, "affected_systems": "orders", "approval_path": "bypassed", "roll_back": True}

    def approve(responder: Any) -> Incident:
        request = responder.incident("INC-1").steps["restore_config"].request
        return verbs.approve(request, "infra-owner-2", "slack")(responder)

    return [
        (lambda incident: incident.containment is Containment.CONTAINED, verbs.acknowledge("INC-1", "sre-1", "slack")),
        (
            lambda incident: incident.steps["confirm_impact"].status is not StepStatus.WAITING,
            verbs.submit_form("INC-1", "confirm_impact", form, "sre-1"),
        ),
        (lambda incident: _asked(incident, "restore_config"), approve),
        *(recovery() if recovers else ()),
        (
            lambda incident: incident.steps["restore_config"].settled and incident.steps["snapshot"].settled,
            verbs.status("INC-1", Status.RESOLVED, "head-of-security", "slack"),
        ),
    ]


COMMANDER = "head-of-security"


def recovery() -> list[Part]:
    """Each asks once, whoever was killed; the last part waits until all of it is settled."""
    back, shadow = MeasureKind.ROLLBACK, MeasureKind.SHADOW
    return [
        (
            lambda incident: incident.steps["restore_config"].settled,
            verbs.status("INC-1", Status.RECOVERING, COMMANDER, "slack"),
        ),
        (lambda _: True, _once(back, verbs.rollback("INC-1", COMMANDER, "slack"))),
        *_approvals(back),
        (lambda incident: run_of(incident, back).settled, verbs.replay("INC-1", "sre-1", "slack")),
        (
            lambda incident: incident.replay and not incident.replay_out,
            _once(shadow, verbs.bring_back("INC-1", "shadow", COMMANDER, "slack")),
        ),
        *_approvals(shadow),
        (lambda incident: run_of(incident, shadow).settled, verbs.note("INC-1", "it is back", "sre-1")),
    ]


def run_of(incident: Incident, kind: MeasureKind) -> StepRun:
    return next((incident.steps[id] for id, one in incident.measures.items() if one.kind is kind), StepRun(""))


def _once(kind: MeasureKind, job: verbs.Job) -> verbs.Job:
    def unless_asked(responder: Any) -> Incident:
        if run_of(responder.incident("INC-1"), kind).id:
            raise Refused("already", "it was asked for")
        return job(responder)

    return unless_asked


def _approvals(kind: MeasureKind) -> list[Part]:
    def approve(group: str) -> verbs.Job:
        def job(responder: Any) -> Incident:
            incident, people = responder.incident("INC-1"), responder.world.config.people
            person = next(p for p in people.group(group) if p not in (COMMANDER, incident.begun.initiator))
            return verbs.approve(run_of(incident, kind).request, person, "slack")(responder)

        return job

    def asked(incident: Incident) -> object:
        run = run_of(incident, kind)
        return run.settled or (run.request and run.request not in incident.outstanding)

    return [(asked, approve(group)) for group in ("security_team", "infra_owner")]


def _asked(incident: Incident, step: str) -> bool:
    """Nobody approves what they have not been shown."""
    request = incident.steps[step].request
    return bool(request) and request not in incident.outstanding


def _insist(say: Callable[[], Any]) -> Any:
    """Says it until the store takes it."""
    while True:
        try:
            return say()
        except Unavailable:
            time.sleep(0.1)


def _until(desk: Desk, true: Callable[[Incident], object]) -> None:
    while True:
        with contextlib.suppress(Unavailable):  # the store may be away; what is waited for comes all the same
            if true(desk.incident()):
                return
        time.sleep(0.02)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        pid = os.fork()
        if pid:
            print(pid, flush=True)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ |= {"FIREDOOR_CRASH": order.crash, "FIREDOOR_CRASH_LOG": order.log}
        importlib.reload(crash)  # in place: the functions that others imported read what it reads now
        try:
            work(order)
        except (FiredoorError, OSError, EOFError) as error:
            print(f"{order.replica}: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
