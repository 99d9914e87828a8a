"""GET /bundles/agents: the mode of every agent as an OPA bundle.

A gzip tar of `data.json` (`data.agents.<id>.mode`), `.manifest` (it owns the root `agents`, and nothing else) and
`.signatures.json`. Always a whole snapshot, since OPA cannot check the signature of a delta. The same modes make the
same bytes on every replica, so that an OPA may ask any of them. What OPA asks for and believes was read in its source
(v1/download, v1/bundle).
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import io
import json
import logging
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from bot.engine.modes import Standing
from bot.errors import FiredoorError
from bot.web.http import Answer, Header, Scope, TurnedAway, headers_of, not_found, only

log = logging.getLogger(__name__)

PATH = "/bundles"
NAME = "agents"
ROOT = "agents"
KIND: Header = (b"content-type", b"application/vnd.openpolicyagent.bundles")  # this is what makes OPA ask to wait
LONGEST = 60.0  # seconds that an OPA may wait for news
REFRESH = 0.4  # seconds between looks at what was written, while somebody asks
AGAIN = 5.0  # seconds after which an OPA may ask again where the store is away
_WAIT = re.compile(r"(?:^|[;,\s])wait=(\d{1,6})(?=$|[;,\s])")


@dataclass(frozen=True, slots=True)
class Signer:
    """`key_id` is what OPA's configuration calls the public half. RS256, since it makes the same mark each time."""

    key: RSAPrivateKey
    key_id: str

    def sign(self, claims: Mapping[str, Any]) -> str:
        return jwt.encode({**claims, "keyid": self.key_id}, self.key, "RS256", headers={"kid": self.key_id})


@dataclass(frozen=True, slots=True)
class Bundle:
    etag: str
    content: bytes


def expiry(now: datetime, valid: timedelta) -> datetime:
    """How long a bundle of now is good: from half of `valid` to all of it. It moves on in steps, the same on every
    replica, so that it does not change the bundle each time."""
    step = valid / 2
    since = datetime(1970, 1, 1, tzinfo=UTC)
    return since + ((now - since) // step + 2) * step


def build(modes: Mapping[str, Standing], not_after: datetime, signer: Signer) -> Bundle:
    """`not_after` is in whole seconds or cut to them. OPA keeps the last bundle when the bot is gone, so every mode
    says until when it may be believed."""
    until = not_after.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    agents = {agent: {"mode": _document(agent, standing, until)} for agent, standing in modes.items()}
    data = _canonical({ROOT: agents})
    revision = hashlib.sha256(data).hexdigest()[:16]
    manifest = _canonical({"revision": revision, "roots": [ROOT], "rego_version": 1})
    files = {"data.json": data, ".manifest": manifest}
    signatures = _canonical({"signatures": [signer.sign({"files": [_signed(*file) for file in files.items()]})]})
    tar = _tar({**files, ".signatures.json": signatures})
    # Of the tar and not of its compression, which may differ between builds of zlib.
    return Bundle(f'"{hashlib.sha256(tar).hexdigest()}"', gzip.compress(tar, mtime=0))


def _document(agent: str, standing: Standing, until: str) -> dict[str, Any]:
    return {
        "agent": agent,
        "mode": standing.mode.name.lower(),
        "epoch": standing.epoch,
        "incident": standing.incident,
        "not_after": until,
    }


def _canonical(value: Any) -> bytes:
    """As OPA hashes a JSON document: keys in order, no spaces, letters as they are."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _signed(name: str, content: bytes) -> dict[str, str]:
    return {"name": name, "hash": hashlib.sha256(content).hexdigest(), "algorithm": "SHA-256"}


def _tar(files: Mapping[str, bytes]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode, about.mtime = len(content), 0o644, 0
            tar.addfile(about, io.BytesIO(content))
    return held.getvalue()


class Bundles:
    """`modes` asks the record, and raises FiredoorError where it cannot know: then nobody is told anything, and no
    `not_after` moves on. `tokens`: any of them may fetch."""

    def __init__(
        self,
        modes: Callable[[], Mapping[str, Standing]],
        signer: Signer,
        tokens: Callable[[], Sequence[str]],
        now: Callable[[], datetime],
        valid: timedelta,
        closing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._modes, self._signer, self._tokens = modes, signer, tokens
        self._now, self._valid, self._closing = now, valid, closing
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bundles")
        self._made: tuple[Mapping[str, Standing], datetime, Bundle] | None = None
        self._look: asyncio.Task[Bundle] | None = None
        self._looked_at = 0.0
        self._news: asyncio.Task[None] | None = None
        self._waiting = 0

    async def answer(self, scope: Scope) -> Answer:
        """Raises TurnedAway."""
        if scope["path"] != f"{PATH}/{NAME}":
            raise not_found()
        only(scope, "GET", "HEAD")
        headers = headers_of(scope)
        self._admit(headers.get("authorization", ""))
        known = {tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")}
        try:
            bundle = await self._other_than(known, _seconds(headers.get("prefer", "")))
        except FiredoorError as error:
            log.warning("the bundle of the agents' modes cannot be made: %s", error)
            raise TurnedAway(503, "not_known", "The modes are not known just now.", retry_after=AGAIN) from None
        etag = (b"etag", bundle.etag.encode())
        if bundle.etag in known or "*" in known:
            return Answer(304, b"", (etag,))
        return Answer(200, bundle.content, (KIND, etag))

    async def _other_than(self, known: set[str], seconds: float) -> Bundle:
        """Waits so long for a bundle that is none of these."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + seconds
        while (bundle := await self._current()).etag in known:
            left = ends - loop.time()
            if left <= 0 or self._closing():
                break
            news = self._next()
            if self._made is not None and self._made[2] is not bundle:
                continue  # it came just now
            self._waiting += 1
            try:
                await asyncio.wait((news,), timeout=left)
            finally:
                self._waiting -= 1
        return bundle

    def _admit(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        right = [hmac.compare_digest(given.strip().encode(), token.encode()) for token in self._tokens() if token]
        if scheme.lower() != "bearer" or True not in right:
            raise TurnedAway(401, "no_token", "This bundle is for those who have its token: Authorization: Bearer.")

    async def _current(self) -> Bundle:
        """At most REFRESH old. Whoever asks meanwhile shares the one look at the store."""
        loop = asyncio.get_running_loop()
        if self._look is None or self._look.get_loop() is not loop or (self._look.done() and not self._is_new(loop)):
            self._look = asyncio.create_task(self._looked())
            self._look.add_done_callback(_heard)
        return await asyncio.shield(self._look)

    def _is_new(self, loop: asyncio.AbstractEventLoop) -> bool:
        return loop.time() - self._looked_at < REFRESH

    async def _looked(self) -> Bundle:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, self._make)
        finally:
            self._looked_at = loop.time()

    def _next(self) -> asyncio.Task[None]:
        """Ends with the next bundle that is another. One for all who wait."""
        if self._news is None or self._news.done() or self._news.get_loop() is not asyncio.get_running_loop():
            self._news = asyncio.create_task(self._watch(self._made))
        return self._news

    async def _watch(self, before: object) -> None:
        while self._made is before and not self._closing():
            await asyncio.sleep(REFRESH)
            if not self._waiting:
                return
            with contextlib.suppress(FiredoorError):  # the store is away: who waits hears of it at the end
                await self._current()

    def _make(self) -> Bundle:
        modes, until = self._modes(), expiry(self._now(), self._valid)
        if self._made is None or self._made[:2] != (modes, until):
            self._made = modes, until, build(modes, until, self._signer)
        return self._made[2]


def _seconds(prefer: str) -> float:
    """`modes=snapshot,delta;wait=30`, as OPA writes it."""
    found = _WAIT.search(prefer)
    return min(LONGEST, float(found[1])) if found else 0.0


def _heard(looked: asyncio.Task[Bundle]) -> None:
    """A failure that comes after everybody has gone is nobody's fault."""
    if not looked.cancelled():
        looked.exception()
