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
from bot.domain.incident import Incident, StepStatus
from bot.engine import crash, verbs
from bot.engine.intake import receive
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
    desk.engine.start()
    town.serving(order.replica)
    while not town.is_turn_of(order.replica):
        time.sleep(0.02)
    if not town.was_accepted():  # a sender that got no answer sends again
        alert = desk.alert(uid="f-1", time=desk.clock.now(), resources=(Resource(INSTANCE, "AWS::EC2::Instance"),))
        _insist(lambda: desk.engine.submit(partial(receive, alert=alert, source=SIEM, body=b"{}")).result(30))
        town.accept()
    for wait_for, job in script():
        _until(desk, wait_for)
        try:
            _insist(lambda job=job: desk.engine.submit(job).result(30))  # type: ignore[misc]  # no Future is a generic
        except Refused:
            continue  # whoever was killed had said it
    _until(desk, lambda incident: incident.status is Status.RESOLVED and desk.queued() == 0)
    town.finish()
    signal.pause()


def script() -> list[tuple[Callable[[Incident], object], verbs.Job]]:
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
        (
            lambda incident: incident.steps["restore_config"].settled and incident.steps["snapshot"].settled,
            verbs.status("INC-1", Status.RESOLVED, "head-of-security", "slack"),
        ),
    ]


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
