from datetime import UTC, datetime
from typing import Any

import pytest

from bot.actions.http_call import HttpCall
from bot.domain.outcome import Done, Failed, Grade, Unknown
from bot.errors import Denied, Unavailable
from bot.ports import Ports
from bot.sandbox.clock import SimClock
from bot.sandbox.people import Request, SimEndpoint
from tests.actions.driver import drive
from tests.actions.estate import Enrolled

KEY = "prod.1/INC-7/12.0"
ACTION = HttpCall()
LOST = Unavailable("deploy_api", "no answer to POST", sent=True)


class Desk:
    def __init__(self) -> None:
        self.clock = SimClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
        self.endpoint = SimEndpoint("deploy_api")
        self.ports = Ports(self.clock, Enrolled(), endpoints={"deploy_api": self.endpoint})

    def call(self, **params: Any) -> Any:
        asked = {"connection": "deploy_api", "path": "/rollback"} | params
        (target,) = ACTION.targets(asked, None)
        return drive(ACTION, target.params, self.ports, self.clock, KEY)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_target_is_the_connection():
    (target,) = ACTION.targets({"connection": "deploy_api", "path": "/rollback"}, None)
    assert (target.id, target.system) == ("endpoint:deploy_api", "deploy_api")


@pytest.mark.parametrize("path", ["rollback", "https://elsewhere/", ""])
def test_a_path_is_below_the_connection(path: str):
    with pytest.raises(ValueError, match="must begin with /"):
        ACTION.targets({"connection": "deploy_api", "path": path}, None)


def test_a_call_carries_the_key_and_keeps_only_the_fields_it_names(desk: Desk):
    desk.endpoint.answers["POST", "/rollback"] = (202, {"id": 7, "note": "x" * 500, "secret": "s", "by": {"a": 1}})
    done = desk.call(body={"release": "previous"}, keep=["id", "note", "by", "absent"])
    assert done == Done(Grade.UNVERIFIED, {"status": 202, "body": {"id": 7, "note": "x" * 200, "by": "{'a': 1}"}})
    assert desk.endpoint.received == [Request("POST", "/rollback", {"release": "previous"}, KEY)]


def test_the_same_key_again_is_carried_out_once(desk: Desk):
    assert desk.call() == desk.call()
    assert (len(desk.endpoint.received), len(desk.endpoint.performed)) == (2, 1)


def test_only_expected_statuses_succeed(desk: Desk):
    desk.endpoint.answers["GET", "/rollback"] = (404, {})
    assert desk.call(method="GET") == Failed(False, "deploy_api answered 404 to GET /rollback")
    assert desk.call(method="GET", expect=[404]).evidence["status"] == 404


@pytest.mark.parametrize(
    ("method", "status", "idempotent", "retryable"),
    [
        ("GET", 500, False, True),
        ("POST", 500, False, False),
        ("POST", 500, True, True),
        ("POST", 425, False, True),
        ("PATCH", 409, True, False),
    ],
)
def test_what_may_be_tried_again(desk: Desk, method: str, status: int, idempotent: bool, retryable: bool):
    desk.endpoint.answers[method, "/rollback"] = (status, {})
    assert desk.call(method=method, idempotent=idempotent).retryable is retryable


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_lost_answer_is_unknown_and_put_to_a_human(desk: Desk, method: str):
    desk.endpoint.faults.add("request", LOST, after=True)
    outcome = desk.call(method=method)
    assert isinstance(outcome, Unknown)
    assert outcome.why.startswith(f"{method} /rollback may have been carried out: ")
    assert len(desk.endpoint.received) == 1


@pytest.mark.parametrize("how", [{"idempotent": True}, {"method": "PUT"}, {"method": "GET"}])
def test_a_lost_answer_is_asked_for_again_where_that_is_safe(desk: Desk, how: dict[str, Any]):
    desk.endpoint.faults.add("request", LOST, after=True)
    assert desk.call(**how).evidence["status"] == 200
    assert (len(desk.endpoint.received), len(desk.endpoint.performed)) == (2, 1)
    assert ACTION.repeatable(how)


def test_a_call_that_never_left_is_made_later(desk: Desk):
    desk.endpoint.faults.add("request", Unavailable("deploy_api", "cannot connect"), times=3)
    assert desk.call().evidence["status"] == 200
    assert len(desk.endpoint.received) == 1
    assert not ACTION.repeatable({"connection": "deploy_api", "path": "/"})


def test_a_refused_credential_and_a_missing_connection_are_failures(desk: Desk):
    desk.endpoint.faults.add("request", Denied("deploy_api", "answered 401"))
    assert desk.call() == Failed(False, "deploy_api: answered 401")
    assert "no connection of this name is configured" in desk.call(connection="elsewhere").why
