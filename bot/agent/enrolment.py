"""How a pod gets the key of its instance: by its own service account's token, once.

The token is projected into the pod for Firedoor alone (docs/how-to/put-an-agent-under-firedoor.md has the volume).
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

TOKEN = "/var/run/secrets/firedoor/token"
CONNECT = 10.0  # seconds, for the answer too
AGAIN = 1.0  # seconds between tries
MOST = 64 * 1024  # bytes of an answer
HERE = ("127.0.0.1", "::1", "localhost")


class NotEnrolled(Exception):
    """There is no key. `code` is Firedoor's word for why, '' where it was not heard."""

    def __init__(self, why: str, code: str = "") -> None:
        self.code = code
        super().__init__(why)


class Enrolled(NamedTuple):
    """What `Firedoor(url, *enrolled)` takes."""

    instance: str  # AGENT/POD
    key: str


def enrol(
    url: str,
    agent: str,
    *,
    token_file: str | os.PathLike[str] = TOKEN,
    keep: str | os.PathLike[str] | None = None,
    tls: ssl.SSLContext | None = None,
    patience: float = 60.0,
) -> Enrolled:
    """Asks for this pod's key, for `patience` seconds while Firedoor is away or busy. A pod gets it once: `keep` is a
    file, on a volume that outlives the container, where it is kept for the container's next start, readable for its
    owner alone. Raises NotEnrolled, and ValueError for a URL that would show the token to others."""
    line = _Line.to(url, tls)
    kept = Path(keep) if keep is not None else None
    if kept is not None and (found := _kept(kept, agent)):
        return found
    if kept is not None:  # before the key is given: it could not be asked for again
        _write(kept, "")
    until = time.monotonic() + patience
    while True:
        try:
            status, answer = line.post({"agent": agent, "token": _token(token_file)})
        except (OSError, http.client.HTTPException, ValueError) as error:
            status, answer = 0, {"message": f"Firedoor is not heard: {str(error) or type(error).__name__}"}
        if status == 200:
            break
        if status not in (0, 429, 502, 503, 504) or time.monotonic() + AGAIN > until:
            why = str(answer.get("message") or f"Firedoor answered {status}")
            raise NotEnrolled(why, str(answer.get("code") or ""))
        time.sleep(AGAIN)
    enrolled = Enrolled(f"{answer['agent']}/{answer['instance']}", str(answer["key"]))
    if kept is not None:
        _write(kept, json.dumps(enrolled._asdict()))
    return enrolled


@dataclass(frozen=True, slots=True)
class _Line:
    https: bool
    host: str
    port: int | None
    path: str
    tls: ssl.SSLContext | None

    @classmethod
    def to(cls, url: str, tls: ssl.SSLContext | None) -> _Line:
        parts = urlsplit(url.rstrip("/"))
        host = parts.hostname or ""
        if not host or not (parts.scheme == "https" or (parts.scheme == "http" and host in HERE)):
            raise ValueError(
                f"{url!r} is not the https address of Firedoor: neither token nor key may be read by others"
            )
        return cls(parts.scheme == "https", host, parts.port, f"{parts.path}/agents/v1/enrol", tls)

    def post(self, said: dict[str, str]) -> tuple[int, dict[str, object]]:
        """No redirect is followed. Raises OSError, HTTPException, ValueError."""
        connection = (
            http.client.HTTPSConnection(
                self.host, self.port, timeout=CONNECT, context=self.tls or ssl.create_default_context()
            )
            if self.https
            else http.client.HTTPConnection(self.host, self.port, timeout=CONNECT)
        )
        try:
            headers = {"content-type": "application/json", "user-agent": "firedoor-agent"}
            connection.request("POST", self.path, json.dumps(said), headers)
            response = connection.getresponse()
            content = response.read(MOST + 1)
        finally:
            connection.close()
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict) or (response.status == 200 and not {"agent", "instance", "key"} <= found.keys()):
            if response.status == 200:
                raise ValueError("the answer is not Firedoor's")
            found = {}
        return response.status, found


def _token(file: str | os.PathLike[str]) -> str:
    """Read anew for each try: the kubelet renews it."""
    try:
        return Path(file).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        raise NotEnrolled(f"no token can be read from {os.fspath(file)}: {error}") from error


def _kept(file: Path, agent: str) -> Enrolled | None:
    try:
        found = json.loads(file.read_text())
        enrolled = Enrolled(str(found["instance"]), str(found["key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return enrolled if enrolled.instance.startswith(f"{agent}/") else None


def _write(file: Path, text: str) -> None:
    """Raises NotEnrolled."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise NotEnrolled(f"the key cannot be kept in {file}: {error}") from error
