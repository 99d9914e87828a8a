"""A bearer token proves a person or nothing, whatever is wrong with it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from bot.adapters.oidc import BETWEEN, FRESH, STALE, Issuer
from bot.errors import Denied, Rejected, Unavailable
from bot.sandbox.clock import SimClock
from tests.adapters.provider import AUDIENCE, Provider, providing, rsa_key


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as provider:
        yield provider


def issuer(provider: Provider, clock: SimClock, **options: str) -> Issuer:
    """Its seconds are the clock's."""
    return Issuer(provider.issuer, AUDIENCE, clock, monotonic=lambda: clock.now().timestamp(), **options)


def test_a_good_token_names_its_person(provider: Provider, clock: SimClock):
    tokens = issuer(provider, clock)
    assert tokens.email(provider.token(clock.now(), email="SRE-1@Example.com")) == "sre-1@example.com"
    provider.keys["two"] = ec.generate_private_key(ec.SECP256R1())
    provider.publish()
    clock.forward(seconds=BETWEEN)
    provider.kid = "two"
    assert tokens.email(provider.token(clock.now(), aud=["other", AUDIENCE])) == "sre-1@example.com"
    assert provider.asked == 2, "keys are kept; a new one is looked for"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://elsewhere.example"}, "another provider"),
        ({"aud": "another-app"}, "another application"),
        ({"aud": None}, "'aud' is missing"),
        ({"iat": None}, "'iat' is missing"),
        ({"exp": None}, "'exp' is missing"),
        ({"exp": "soon"}, "is no time"),
        ({"exp": True}, "is no time"),
        ({"email": None}, "no e-mail address"),
        ({"email": ["sre-1@example.com"]}, "no e-mail address"),
        ({"email_verified": False}, "is verified"),
        ({"email_verified": "true"}, "is verified"),
        ({"email_verified": None}, "is verified"),
    ],
)
def test_a_token_that_says_something_else_proves_nothing(
    provider: Provider, clock: SimClock, claims: dict[str, object], why: str
):
    with pytest.raises(Denied, match=why):
        issuer(provider, clock).email(provider.token(clock.now(), **claims))


@pytest.mark.parametrize(
    ("name", "seconds", "why"),
    [("exp", -61, "expired"), ("iat", 120, "not good yet"), ("nbf", 120, "not good yet"), ("exp", 90_000, "24 h")],
)
def test_its_times_are_judged_by_the_bots_clock(provider: Provider, clock: SimClock, name: str, seconds: int, why: str):
    at = int((clock.now() + timedelta(seconds=seconds)).timestamp())
    with pytest.raises(Denied, match=why):
        issuer(provider, clock).email(provider.token(clock.now(), **{name: at}))


def test_a_signature_by_anybody_else_is_none(provider: Provider, clock: SimClock):
    tokens, now = issuer(provider, clock), clock.now()
    header, body, signature = provider.token(now).split(".")
    changed = base64.urlsafe_b64encode(json.dumps({"email": "dpo@example.com"}).encode()).decode().rstrip("=")
    stranger = rsa_key("stranger")
    shared = jwt.encode({"email": "sre-1@example.com"}, "s" * 32, "HS256", headers={"kid": "one"})
    unsigned = jwt.encode({"email": "sre-1@example.com"}, None, "none", headers={"kid": "one"})
    for token in (
        f"{header}.{changed}.{signature}",
        f"{header}.{body}.",
        provider.token(now, key=stranger),
        provider.token(now, key=stranger, kid="another"),
        provider.token(now, algorithm="PS256"),
        provider.token(now, key=ec.generate_private_key(ec.SECP256R1())),
        shared,
        unsigned,
        "not.a.token",
        "",
        "x" * 20_000,
    ):
        with pytest.raises(Denied):
            tokens.email(token)


def test_small_keys_and_keys_for_encryption_are_not_believed(provider: Provider, clock: SimClock):
    provider.keys = {"one": rsa_key("small", 1024)}
    provider.publish()
    with pytest.raises(Rejected, match="publishes no key"):
        issuer(provider, clock).email(provider.token(clock.now(), key=rsa_key("one")))


def test_another_claim_needs_no_verification(provider: Provider, clock: SimClock):
    token = provider.token(clock.now(), email=None, email_verified=None, upn="sre-1@example.com")
    assert issuer(provider, clock, claim="upn").email(token) == "sre-1@example.com"


def test_unknown_keys_do_not_make_it_ask_again_and_again(provider: Provider, clock: SimClock):
    tokens = issuer(provider, clock)
    for n in range(5):
        with pytest.raises(Denied, match="no key"):
            tokens.email(provider.token(clock.now(), kid=f"unknown-{n}"))
    assert provider.asked == 1


def test_a_provider_that_is_away_is_believed_for_an_hour(provider: Provider, clock: SimClock):
    tokens = issuer(provider, clock)
    tokens.email(provider.token(clock.now()))
    provider.listener.dead = True
    clock.forward(seconds=FRESH + 1)
    assert tokens.email(provider.token(clock.now()))
    clock.forward(seconds=STALE)
    for _ in range(2):
        with pytest.raises(Unavailable):
            tokens.email(provider.token(clock.now()))
    provider.listener.dead = False
    clock.forward(seconds=BETWEEN)
    assert tokens.email(provider.token(clock.now()))


def test_a_withdrawn_key_is_believed_no_longer(provider: Provider, clock: SimClock):
    tokens = issuer(provider, clock)
    old = rsa_key("one")
    tokens.email(provider.token(clock.now()))
    provider.keys = {"two": rsa_key("two")}
    provider.publish()
    clock.forward(seconds=FRESH + 1)
    with pytest.raises(Denied, match="no key"):
        tokens.email(provider.token(clock.now(), key=old))


@pytest.mark.parametrize("said", [{"issuer": "https://elsewhere.example"}, {"jwks_uri": "http://elsewhere.example/k"}])
def test_a_discovery_that_leads_elsewhere_is_not_followed(provider: Provider, clock: SimClock, said: dict[str, str]):
    provider.publish(**said)
    with pytest.raises(Rejected):
        issuer(provider, clock).email(provider.token(clock.now()))


def test_the_address_of_the_keys_can_be_said(provider: Provider, clock: SimClock):
    provider.publish(jwks_uri="https://not.asked.example")
    tokens = issuer(provider, clock, jwks_url=f"{provider.listener.url}/keys")
    assert tokens.email(provider.token(clock.now())) == "sre-1@example.com"
