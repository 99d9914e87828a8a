"""People who prove themselves with a token of their OpenID provider instead of a code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from bot.adapters.oidc import Issuer
from bot.web.app import application
from bot.web.doors import Doors
from tests.adapters.provider import AUDIENCE, Provider, providing
from tests.web.desk import Desk, secret_of


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as provider:
        yield provider


@pytest.fixture
def opened(desk: Desk, provider: Provider) -> str:
    """An incident behind doors that know the provider."""
    tokens = Issuer(provider.issuer, AUDIENCE, desk.clock)
    doors = Doors(desk.engine, secret_of, tokens)
    desk.app = application(desk.engine, desk.intake, doors, desk.links, desk.metrics)
    return desk.opened()


def says(desk: Desk, token: str, path: str, **fields: Any) -> httpx.Response:
    return desk.ask("POST", path, json=fields, headers={"authorization": f"Bearer {token}"})


def test_a_token_speaks_for_its_person_and_more_than_once(desk: Desk, provider: Provider, opened: str):
    token = provider.token(desk.clock.now())
    assert says(desk, token, f"/v1/incidents/{opened}/ack").json()["acked_by"] == "sre-1"
    assert says(desk, token, f"/v1/incidents/{opened}/unack", person="sre-1").json()["acked_by"] == ""
    again = says(desk, token, f"/v1/incidents/{opened}/ack", code="123456")
    assert (again.status_code, again.json()["code"]) == (422, "bad_field"), "a token or a code, not both"


def test_the_same_rules_count(desk: Desk, provider: Provider, opened: str):
    desk.engine.settle()
    request = next(iter(desk.incident(opened).approvals))
    token = provider.token(desk.clock.now(), email="security-ops-1@example.com")
    own = says(desk, token, f"/v1/incidents/{opened}/approve", request=request)
    assert (own.status_code, own.json()["code"]) == (403, "own_request")


@pytest.mark.parametrize(
    ("claims", "fields", "status", "code"),
    [
        ({}, {"person": "head-of-security"}, 403, "other_person"),
        ({"email": "nobody@example.com"}, {}, 403, "stranger"),
        ({"aud": "another"}, {}, 401, "wrong_token"),
        ({"email_verified": False}, {}, 401, "wrong_token"),
        ({"exp": 1}, {}, 401, "wrong_token"),
    ],
)
def test_a_token_for_nobody_or_somebody_else_is_refused(
    desk: Desk, provider: Provider, opened: str, claims: dict[str, Any], fields: dict[str, str], status: int, code: str
):
    token = provider.token(desk.clock.now(), **claims)
    answer = says(desk, token, f"/v1/incidents/{opened}/ack", **fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert desk.incident(opened).acked_by == ""


def test_an_address_of_two_persons_is_nobodys(desk: Desk, provider: Provider, opened: str):
    world = desk.engine.world
    people = world.config.people
    twin = replace(people.persons["sre-2"], email="sre-1@example.com")
    shared = replace(people, persons={**people.persons, "sre-2": twin})
    desk.engine.world = replace(world, config=replace(world.config, people=shared))
    assert says(desk, provider.token(desk.clock.now()), f"/v1/incidents/{opened}/ack").json()["code"] == "stranger"


def test_a_provider_that_is_away_says_so_and_codes_go_on(desk: Desk, provider: Provider, opened: str):
    provider.listener.dead = True
    answer = says(desk, provider.token(desk.clock.now()), f"/v1/incidents/{opened}/ack")
    assert (answer.status_code, answer.json()["code"]) == (503, "no_keys")
    assert "retry-after" in answer.headers
    assert desk.says("sre-1", f"/v1/incidents/{opened}/ack").status_code == 200


def test_without_a_provider_no_token_counts(desk: Desk):
    answer = says(desk, "e30.e30.", f"/v1/incidents/{desk.opened()}/ack")
    assert (answer.status_code, answer.json()["code"]) == (401, "no_tokens")
