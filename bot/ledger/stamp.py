"""RFC 3161: somebody outside says that a checkpoint was there by a certain time. The ledger needs nobody for order and
completeness; a timestamp is what makes its dates more than the bot's own word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import httpx
from cryptography import x509

from bot.errors import ConfigError, RecordBroken, Rejected, Unavailable

SYSTEM = "timestamps"
TIMEOUT = 15.0  # seconds
MOST = 64 * 1024  # bytes of an answer


@dataclass(frozen=True, slots=True)
class Authority:
    """A timestamp authority by HTTP. `roots`: the certificates that its answers must lead to."""

    url: str
    roots: tuple[x509.Certificate, ...]

    def stamp(self, data: bytes) -> bytes:
        """The authority's answer, DER, over the SHA-256 of `data`. Raises Unavailable; Rejected where it answers with
        something that does not verify: nothing is kept that an auditor would refuse."""
        from rfc3161_client import TimestampRequestBuilder  # its start-up is not everybody's

        request = TimestampRequestBuilder().data(data).nonce(nonce=True).cert_request(cert_request=True).build()
        try:
            answer = httpx.post(
                self.url,
                content=request.as_bytes(),
                headers={"Content-Type": "application/timestamp-query"},
                timeout=TIMEOUT,
            )
        except httpx.HTTPError as error:
            raise Unavailable(SYSTEM, f"{self.url}: {error or type(error).__name__}") from error
        if answer.status_code != httpx.codes.OK or len(answer.content) > MOST:
            raise Unavailable(SYSTEM, f"{self.url} answered {answer.status_code}, {len(answer.content)} bytes")
        try:
            verified(answer.content, data, self.roots, nonce=request.nonce)
        except RecordBroken as error:
            raise Rejected(SYSTEM, f"{self.url}: {error}") from error
        return answer.content


def verified(response: bytes, data: bytes, roots: Sequence[x509.Certificate], *, nonce: int | None = None) -> datetime:
    """When the authority says that it saw `data`. Raises RecordBroken where these bytes do not show it."""
    from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

    try:
        answer = decode_timestamp_response(response)
        VerifierBuilder(roots=list(roots), nonce=nonce).build().verify_message(answer, data)
    except (VerificationError, ValueError) as error:
        raise RecordBroken(f"no valid timestamp of these bytes: {error}") from error
    return answer.tst_info.gen_time


def read_roots(pem: bytes, named: str) -> tuple[x509.Certificate, ...]:
    """Raises ConfigError where there is no certificate in it."""
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except ValueError as error:
        raise ConfigError(named, f"it holds no certificates in PEM: {error}") from error
