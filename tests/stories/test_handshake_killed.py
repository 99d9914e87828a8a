"""kill -9 of the serving process between an order and its acknowledgement, on SQLite, with a gateway that is away."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.company import BEARER, SOURCE, TYPE, Company
from bench.serving import Served
from bot import wiring
from bot.agent.link import Away, Link
from bot.agent.signature import key_bytes
from bot.domain.agent import Mode
from bot.domain.handshake import Instances
from bot.engine.switchboard import enroll

ALERT = {"id": "f-1", "rule": {"id": "r", "name": "Unusual"}, "severity": "high", "message": "m", "types": [TYPE]}


def order(link: Link, since: int) -> dict[str, Any]:
    """The first one after `since`, or the newest there is."""
    for _ in range(300):
        try:
            found = json.loads(link.ask("GET", f"/agents/v1/mode?since={since}&wait=5", patience=20).body)
        except Away:
            time.sleep(0.1)
            continue
        if found["epoch"] > since:
            return dict(found)
    raise AssertionError("nothing was ordered")


@pytest.mark.soak
def test_killed_between_order_and_acknowledgement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the restart it is the same order, though the step goes on and is tried again; its acknowledgement is taken,
    and counts once."""
    company = Company.found(tmp_path / "company", f"sqlite:///{tmp_path}/firedoor.db", agents=["agent-7"])
    for name, value in company.env.items():
        monkeypatch.setenv(name, value)
    bot = wiring.build(company.folder)
    bot.engine.submit(enroll("agent-7", "pod-1", "sre-1", "cli")).result()
    link = Link(company.url, "agent-7/pod-1", key_bytes(bot.instance_keys.of("agent-7", "pod-1", 1)))
    bot.store.close()

    served = Served(company)
    try:
        alert = {**ALERT, "agent": {"id": "agent-7"}, "timestamp": datetime.now(UTC).isoformat()}
        headers = {"authorization": f"Bearer {BEARER}"}
        assert httpx.post(f"{company.url}/v1/alerts/{SOURCE}", json=alert, headers=headers).status_code == 202
        first = order(link, 0)
        assert (first["mode"], first["epoch"]) == ("shadow", 1)
    finally:
        served.kill()
    with pytest.raises(Away):
        link.ask("GET", "/agents/v1/mode?since=0&wait=0", patience=5)

    served = Served(company)
    try:
        again = order(link, 0)
        assert {name: again[name] for name in ("mode", "epoch", "nonce", "incident")} == {
            name: first[name] for name in ("mode", "epoch", "nonce", "incident")
        }
        said = {name: first[name] for name in ("agent", "instance", "epoch", "nonce", "mode")}
        said |= {"last_effect_seq": 3, "ts": int(time.time())}
        answers = [link.ask("POST", "/agents/v1/acks", said, patience=20) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 200]
    finally:
        served.kill()
        link.close()

    bot = wiring.build(company.folder)
    kinds = Counter(type(entry.event).__name__ for entry in bot.engine.entries("instances:agent-7"))
    state: Instances = bot.engine.switchboard.read("agent-7")
    bot.store.close()
    assert kinds == {"InstanceEnrolled": 1, "ModeOrdered": 1, "ModeAcked": 1}
    (instance,) = state.enrolled
    assert (instance.epoch, instance.mode, instance.last_effect_seq) == (1, Mode.SHADOW, 3)
