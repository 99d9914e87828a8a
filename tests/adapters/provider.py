"""An OpenID provider on loopback: its discovery document, its keys, and the tokens that it signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.adapters.listener import Listener, listening

AUDIENCE = "firedoor"


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:  # noqa: ARG001  # what the cache tells them apart by
    """One a name: making them is slow."""
    return rsa.generate_private_key(65537, bits)


@dataclass
class Provider:
    """`keys` are those that it publishes, by kid; `key` signs."""

    listener: Listener
    keys: dict[str, Any] = field(default_factory=dict)
    kid: str = "one"

    @property
    def issuer(self) -> str:
        return f"{self.listener.url}/realms/ops"

    def publish(self, **said: Any) -> None:
        jwks = [{**_jwk(key), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]
        found = {"issuer": self.issuer, "jwks_uri": f"{self.listener.url}/keys", **said}
        self.listener.paths["/realms/ops/.well-known/openid-configuration"] = (200, {}, json.dumps(found).encode())
        self.listener.paths["/keys"] = (200, {}, json.dumps({"keys": jwks}).encode())

    def token(self, now: datetime, *, key: Any = None, algorithm: str = "", kid: str = "", **claims: Any) -> str:
        """A good one for sre-1, but for what is said; a claim of None is left out."""
        at = int(now.timestamp())
        said = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": "5f1c",
            "iat": at,
            "exp": at + 300,
            "email": "sre-1@example.com",
            "email_verified": True,
        } | claims
        key = key or self.keys[self.kid]
        algorithm = algorithm or ("ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256")
        return jwt.encode(
            {name: value for name, value in said.items() if value is not None},
            key,
            algorithm,
            headers={"kid": kid or self.kid},
        )

    @property
    def asked(self) -> int:
        """How often somebody has fetched its keys."""
        return sum(path == "/keys" for _, path, _, _ in self.listener.got)


@contextmanager
def providing() -> Iterator[Provider]:
    with listening() as listener:
        provider = Provider(listener, {"one": rsa_key("one")})
        provider.publish()
        yield provider


def _jwk(key: Any) -> dict[str, Any]:
    kind = jwt.algorithms.ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else jwt.algorithms.RSAAlgorithm
    return dict(kind.to_jwk(key.public_key(), as_dict=True))  # type: ignore[arg-type,attr-defined]  # by its kind
