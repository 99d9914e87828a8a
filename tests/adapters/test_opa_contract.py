"""The same contract on the simulated OPA and on the real client against OPA's data API on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from bot.adapters.opa import HttpOpa
from bot.errors import Denied, Rejected, Unavailable
from bot.ports import Opa
from bot.sandbox.opa import SimOpa
from bot.sandbox.opa_server import OpaServer

SHADOW = {"agent": "agent-7", "mode": "shadow", "epoch": 3, "nonce": "n", "incident": "INC-7", "expires": None}
ACTIVE = SHADOW | {"mode": "active", "epoch": 4}
CANARY = "firedoor.canary"


@pytest.fixture
def sim() -> SimOpa:
    return SimOpa("opa sim")


@pytest.fixture(params=["simulator", "client"])
def opa(request: pytest.FixtureRequest, sim: SimOpa) -> Iterator[Opa]:
    if request.param == "simulator":
        yield sim
        return
    with (
        OpaServer(sim, "t0ken") as server,
        closing(HttpOpa("opa", server.url, "firedoor/allow", lambda: "t0ken", 2.0)) as client,
    ):
        yield client


def test_a_mode_is_pushed_and_read_back(opa: Opa) -> None:
    assert opa.mode("agent-7") is None
    opa.set_mode("agent-7", SHADOW)
    opa.set_mode("agent-7", SHADOW)
    assert opa.mode("agent-7") == SHADOW
    assert opa.mode("agent-8") is None


def test_the_decision_refuses_what_the_mode_forbids(opa: Opa, sim: SimOpa) -> None:
    assert opa.refuses("agent-7", CANARY)  # nothing is known of it: denied
    opa.set_mode("agent-7", ACTIVE)
    assert not opa.refuses("agent-7", CANARY)
    opa.set_mode("agent-7", SHADOW | {"epoch": 5})
    assert opa.refuses("agent-7", CANARY)
    assert sim.asked[-1] == {"agent": "agent-7", "effect": CANARY, "side_effects": True}
    sim.lax = True
    assert not opa.refuses("agent-7", CANARY)


def test_an_undefined_decision_proves_nothing(opa: Opa, sim: SimOpa) -> None:
    sim.undefined = True
    with pytest.raises(Rejected, match="undefined") as refusal:
        opa.refuses("agent-7", CANARY)
    assert not refusal.value.retryable


@pytest.mark.parametrize(
    "roots", [["agents"], ["agents/agent-7"], ["agents/agent-7/mode/deep"], ["other", ""]], ids=str
)
def test_a_path_that_a_bundle_owns_takes_no_push(opa: Opa, sim: SimOpa, roots: list[str]) -> None:
    sim.roots = roots
    with pytest.raises(Rejected, match="owned by bundle") as refusal:
        opa.set_mode("agent-7", SHADOW)
    assert not refusal.value.retryable
    assert opa.mode("agent-7") is None


def test_another_root_is_nobodys_business(opa: Opa, sim: SimOpa) -> None:
    sim.roots = ["agent", "policies/agents"]
    opa.set_mode("agent-7", SHADOW)


def test_what_somebody_else_wrote_is_no_mode(opa: Opa, sim: SimOpa) -> None:
    sim.write(["agents", "agent-7", "mode"], "shadow")
    with pytest.raises(Rejected, match="not a mode that Firedoor wrote"):
        opa.mode("agent-7")


def test_a_replica_that_is_busy_or_away_is_unavailable(opa: Opa, sim: SimOpa) -> None:
    sim.faults.add("*", Unavailable("opa", "away"), times=1)
    with pytest.raises(Unavailable):
        opa.mode("agent-7")
    sim.faults.add("*", Denied("opa", "no"), times=1)
    with pytest.raises(Denied):
        opa.set_mode("agent-7", SHADOW)


def test_a_replica_that_was_started_again_has_lost_it(opa: Opa, sim: SimOpa) -> None:
    opa.set_mode("agent-7", ACTIVE)
    sim.restart()
    assert opa.mode("agent-7") is None


# The client alone ----------------------------------------------------------------------------------------------------


def test_a_wrong_token_is_told(sim: SimOpa) -> None:
    with OpaServer(sim, "t0ken") as server, closing(HttpOpa("opa", server.url, "firedoor/allow")) as client:
        with pytest.raises(Denied, match="401"):
            client.mode("agent-7")
        assert client.name == f"opa {server.url.removeprefix('http://')}"


def test_an_agents_name_stays_one_part_of_the_path(sim: SimOpa) -> None:
    with OpaServer(sim) as server, closing(HttpOpa("opa", server.url, "firedoor/allow")) as client:
        client.set_mode("a/b c", SHADOW)
        assert sim.data == {"agents": {"a/b c": {"mode": SHADOW}}}


def test_an_allow_in_an_object_is_a_decision_too(sim: SimOpa) -> None:
    sim.write(["team", "answer"], {"allow": False, "why": "shadow"})
    sim.write(["team", "other"], {"allowed": False})
    with OpaServer(sim) as server:
        with closing(HttpOpa("opa", server.url, "/team/answer")) as client:
            assert client.refuses("agent-7", CANARY)
        with closing(HttpOpa("opa", server.url, "team/other")) as client, pytest.raises(Rejected, match="allowed"):
            client.refuses("agent-7", CANARY)


def test_what_is_no_opa_is_told() -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.handle_request, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with closing(HttpOpa("opa", url, "x")) as client, pytest.raises(Rejected, match="does not speak"):
            client.mode("agent-7")
