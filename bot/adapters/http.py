"""HTTP to systems the operator configured: no redirect, no unbounded answer, no host but the configured one."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from bot.errors import Denied, Rejected, Unavailable

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    content: bytes

    def body(self) -> Mapping[str, Any]:
        """The JSON object, or {} for anything else."""
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


class Site:
    """One base URL with its pool of connections. Safe to share between threads."""

    def __init__(self, system: str, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls` carries an own CA or a client certificate. Raises ValueError for a URL that is no base."""
        self.system = system
        self._base = httpx.URL(url.rstrip("/"))
        if self._base.scheme not in ("http", "https") or not self._base.host or self._base.userinfo:
            raise ValueError(f"{system}: {url!r} is not an http(s) URL without a user in it")
        if self._base.query or self._base.fragment:
            raise ValueError(f"{system}: a base URL has no query and no fragment")
        self._client = httpx.Client(follow_redirects=False, verify=tls or _usual_tls())

    def close(self) -> None:
        self._client.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        content: bytes = b"",
        timeout: float,
        limit: int = MIB,
    ) -> Answer:
        """One exchange of at most `timeout` seconds (connecting: at most 3 of them). Raises Unavailable for no whole
        answer and for 429, 502, 503 or 504; Denied for 401; Rejected for a redirect, for more than `limit` bytes, and
        for a path that leaves the base URL. Every other status is the caller's to judge."""
        url = self._url(path)
        ends = time.monotonic() + timeout
        waits = httpx.Timeout(timeout, connect=min(timeout, 3.0), pool=min(timeout, 3.0))
        # identity: the limit is on what arrives, so nothing may grow after it.
        asked = {"accept": "application/json", "accept-encoding": "identity", **headers}
        try:
            with self._client.stream(method, url, headers=asked, content=content, timeout=waits) as response:
                answer = Answer(response.status_code, dict(response.headers), self._read(response, limit, ends))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise Unavailable(self.system, f"cannot connect: {_reason(error)}") from error
        except httpx.TransportError as error:
            raise Unavailable(self.system, f"no answer to {method}: {_reason(error)}", sent=True) from error
        except (httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise Rejected(self.system, f"the request cannot be sent: {_reason(error)}") from error
        self._judge(answer)
        return answer

    def _url(self, path: str) -> httpx.URL:
        plain = path.partition("?")[0].lower().replace("%2e", ".")
        if not path.startswith("/") or path.startswith("//") or "\\" in path or "#" in path or not path.isprintable():
            raise Rejected(self.system, f"{path!r} is not a path under the configured URL: begin it with one slash")
        if {".", ".."} & set(plain.replace("%2f", "/").split("/")):
            raise Rejected(self.system, f"{path!r} walks out of its folder: write it without dot segments")
        try:
            return httpx.URL(str(self._base) + path)
        except httpx.InvalidURL as error:
            raise Rejected(self.system, f"{path!r} is not a path: {error}") from error

    def _read(self, response: httpx.Response, limit: int, ends: float) -> bytes:
        content = bytearray()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > limit:
                raise Rejected(self.system, f"the answer is larger than {limit // 1024} KiB")
            if time.monotonic() > ends:
                raise Unavailable(self.system, "the answer did not end in time", sent=True)
        return bytes(content)

    def _judge(self, answer: Answer) -> None:
        match answer.status:
            case 429 | 503:
                after = _seconds(answer.headers.get("retry-after", ""))
                raise Unavailable(self.system, f"answered {answer.status}: busy", retry_after=after)
            case 502 | 504:
                raise Unavailable(self.system, f"a proxy answered {answer.status}", sent=True)
            case 401:
                raise Denied(self.system, "answered 401: the bot's credential is not accepted; check its secret")
            case status if 300 <= status < 400:
                raise Rejected(self.system, f"answered {status}, a redirect: none is followed, configure its goal")


class HttpEndpoint:
    """ports.Endpoint. `headers` is asked at each request, so that a credential is resolved late and may change."""

    def __init__(
        self,
        name: str,
        url: str,
        headers: Callable[[], Mapping[str, str]] = dict,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._site, self._headers = Site(name, url, tls=tls), headers

    def close(self) -> None:
        self._site.close()

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, key: str, timeout: float
    ) -> tuple[int, Mapping[str, Any]]:
        content = b"" if body is None else json.dumps(body).encode()
        headers = {**self._headers(), "idempotency-key": key}
        if body is not None:
            headers["content-type"] = "application/json"
        answer = self._site.send(method, path, headers=headers, content=content, timeout=timeout)
        if answer.status == 403:
            raise Denied(self._site.system, f"answered 403 to {method} {path}: the bot's credential lacks the right")
        return answer.status, answer.body()


@cache
def _usual_tls() -> ssl.SSLContext:
    """One for all: reading the certificates takes 20 ms each time."""
    return httpx.create_ssl_context()


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
