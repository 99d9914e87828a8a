"""Who holds a bearer token: an OpenID provider's word, checked with the keys that it publishes."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt

from bot.adapters.http import Site
from bot.errors import Denied, Rejected, SystemFailure, Unavailable
from bot.ports import Clock

ALGORITHMS = ("RS256", "ES256")  # never one that a shared secret signs with
LARGEST = 16 * 1024  # characters of a token
LEEWAY = 60.0  # seconds that two clocks may be apart
LONGEST = 24 * 3600.0  # seconds from `iat` to `exp`: one that is good for longer is no proof of who speaks now
FRESH, STALE = 600.0, 3600.0  # seconds: keys are asked for anew, and without an answer believed no longer
BETWEEN = 30.0  # seconds at least between two tries to fetch them, whatever tokens come
TIMEOUT = 5.0  # seconds of one request
FEWEST_BITS = 2048  # of an RSA key
DISCOVERY = "/.well-known/openid-configuration"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Issuer:
    """One provider. `claim` is the claim that holds the person's e-mail address; of `email` itself the provider must
    say that it is verified. `jwks_url` is where its keys are; '' asks its discovery document. Thread-safe; nothing is
    asked before the first token comes."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        clock: Clock,
        *,
        claim: str = "email",
        jwks_url: str = "",
        name: str = "oidc",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer, self._audience, self._clock, self._claim = issuer, audience, clock, claim
        self._jwks_url, self._name, self._monotonic = jwks_url, name, monotonic
        self._lock = threading.Lock()
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._fetched = self._tried = -math.inf

    def email(self, token: str) -> str:
        """The e-mail address that a token proves, in lower case. Raises Denied for a token that proves nothing, with
        the reason; Unavailable where the provider's keys cannot be had."""
        if len(token) > LARGEST:
            raise self._no("it is too long to be one")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise self._no("it is no JWT") from None
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm not in ALGORITHMS:
            raise self._no(f"it is not signed with {' or '.join(ALGORITHMS)}")
        claims = self._verified(token, self._key(str(kid), str(algorithm)))
        self._in_time(claims)
        email = claims.get(self._claim)
        if not isinstance(email, str) or "@" not in email:
            raise self._no(f"its claim {self._claim!r} holds no e-mail address")
        if self._claim == "email" and claims.get("email_verified") is not True:
            raise self._no("its provider does not say that the address is verified")
        return email.strip().lower()

    def reach(self) -> int:
        """How many keys it publishes that count. Raises Unavailable, Denied or Rejected."""
        return len(self._published())

    def _verified(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        # Its times are judged by the bot's clock, below; PyJWT would ask the process's.
        options: Any = {
            "require": ["exp", "iat", "aud", "iss"],
            **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False),
        }
        try:
            return jwt.decode(
                token, key, algorithms=[key.algorithm_name], audience=self._audience, issuer=self._issuer,
                options=options,
            )  # fmt: skip
        except jwt.InvalidIssuerError:
            raise self._no("another provider has issued it") from None
        except jwt.InvalidAudienceError:
            raise self._no("it was issued for another application") from None
        except jwt.MissingRequiredClaimError as error:
            raise self._no(f"its claim {error.claim!r} is missing") from None
        except jwt.PyJWTError:
            raise self._no("its signature or form is not right") from None

    def _in_time(self, claims: Mapping[str, Any]) -> None:
        now = self._clock.now().timestamp()
        exp, iat, nbf = (self._seconds(claims, name) for name in ("exp", "iat", "nbf"))
        if exp is None or now >= exp + LEEWAY:
            raise self._no("it has expired")
        if iat is None or iat > now + LEEWAY or (nbf is not None and nbf > now + LEEWAY):
            raise self._no("it is not good yet; compare the clocks")
        if exp - iat > LONGEST:
            raise self._no(f"it is good for more than {LONGEST / 3600:.0f} h")

    def _seconds(self, claims: Mapping[str, Any], name: str) -> float | None:
        value = claims.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
            raise self._no(f"its claim {name!r} is no time")
        return float(value)

    # Keys -----------------------------------------------------------------------------------------------------------

    def _key(self, kid: str, algorithm: str) -> jwt.PyJWK:
        with self._lock:
            age = self._monotonic() - self._fetched
            if kid not in self._keys or age > FRESH:
                self._refresh(must=age > STALE)
            found = self._keys.get(kid)
        if found is None:
            raise self._no("no key that its provider publishes has signed it")
        if found.algorithm_name != algorithm:
            raise self._no("it is signed in another way than its key is for")
        return found

    def _refresh(self, *, must: bool) -> None:
        """`must`: the keys at hand, if any, are too old to be believed."""
        if self._monotonic() - self._tried >= BETWEEN:
            self._tried = self._monotonic()
            try:
                self._keys, self._fetched = self._published(), self._monotonic()
                return
            except SystemFailure:
                if must:
                    self._keys = {}
                    raise
                return
        if must:
            raise Unavailable(self._name, "the provider's keys could not be fetched a moment ago", retry_after=BETWEEN)

    def _published(self) -> dict[str, jwt.PyJWK]:
        listed = self._get(self._jwks_url or self._discovered()).get("keys")
        keys: dict[str, jwt.PyJWK] = {}
        for one in listed if isinstance(listed, list) else ():
            if not isinstance(one, dict) or one.get("use", "sig") != "sig":
                continue
            try:
                key = jwt.PyJWK.from_dict(one)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue  # a kind of key that nobody here signs with
            small = key.algorithm_name.startswith("RS") and key.key.key_size < FEWEST_BITS
            if key.algorithm_name in ALGORITHMS and not small:
                keys[str(one.get("kid", ""))] = key
        if not keys:
            raise Rejected(self._name, f"the provider publishes no key for {' or '.join(ALGORITHMS)}")
        return keys

    def _discovered(self) -> str:
        said = self._get(self._issuer.rstrip("/") + DISCOVERY)
        if said.get("issuer") != self._issuer:
            raise Rejected(self._name, f"what {self._issuer} publishes names another issuer: correct oidc.issuer")
        url = said.get("jwks_uri")
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
            raise Rejected(self._name, f"{self._issuer} names no https address of its keys")
        return str(url)

    def _get(self, url: str) -> Mapping[str, Any]:
        parts = urlsplit(url)
        site = Site(self._name, f"{parts.scheme}://{parts.netloc}")
        try:
            path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            answer = site.send("GET", path, headers={}, timeout=TIMEOUT)
        finally:
            site.close()
        if answer.status != 200:
            raise Rejected(self._name, f"{parts.netloc}{parts.path} answered {answer.status}")
        try:
            value = json.loads(answer.content)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Rejected(self._name, f"{parts.netloc}{parts.path} did not answer with a JSON object")
        return value

    def _no(self, why: str) -> Denied:
        return Denied(self._name, f"the token is not accepted: {why}")
