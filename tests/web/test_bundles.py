"""The agents' modes as an OPA bundle: fetched, waited for, and believed as OPA believes one."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from bot.domain.agent import Mode
from bot.engine.modes import Standing
from bot.errors import Unavailable
from bot.web.bundles import Bundle, Bundles, Signer, build, expiry
from bot.web.http import Receive, Scope, Send, TurnedAway, turned_away

NOW = datetime(2026, 1, 5, 10, 3, tzinfo=UTC)
VALID = timedelta(minutes=10)
TOKEN = {"authorization": "Bearer t0ken"}
ACTIVE = {"agent-7": Standing(), "agent-9": Standing()}
SHADOW = {**ACTIVE, "agent-7": Standing(Mode.SHADOW, 4, "INC-7")}


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(rsa.generate_private_key(65537, 2048), "firedoor")


class Served:
    """Bundles over ASGI, with modes that a test changes."""

    def __init__(self, signer: Signer) -> None:
        self.modes: Mapping[str, Standing] = ACTIVE
        self.now, self.looks, self.away, self.closing = NOW, 0, False, False
        self.bundles = Bundles(self.look, signer, lambda: ("t0ken", "0ld"), lambda: self.now, VALID, self.is_closing)

    def look(self) -> Mapping[str, Standing]:
        self.looks += 1
        if self.away:
            raise Unavailable("store", "it does not answer")
        return self.modes

    def is_closing(self) -> bool:
        return self.closing

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        try:
            answer = await self.bundles.answer(scope)
        except TurnedAway as error:
            answer = turned_away(error)
        await answer.send(send, head=scope["method"] == "HEAD")

    def client(self) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type]  # httpx names its own message types
        return httpx.AsyncClient(transport=transport, base_url="http://firedoor.test", headers=TOKEN)

    def ask(self, path: str = "/bundles/agents", method: str = "GET", **headers: str) -> httpx.Response:
        async def asked() -> httpx.Response:
            async with self.client() as client:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await client.request(method, path, headers=named)

        return asyncio.run(asked())


@pytest.fixture
def served(signer: Signer) -> Served:
    return Served(signer)


def files(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # all files


def modes(content: bytes) -> dict[str, str]:
    agents = json.loads(files(content)["data.json"])["agents"]
    return {agent: held["mode"]["mode"] for agent, held in agents.items()}


def believe(content: bytes, key: Any) -> None:
    """What OPA does with a signed bundle (v1/bundle/verify.go): one JWT, every file in it and by its digest, where a
    JSON file's digest is of its value with keys in order. Raises AssertionError."""
    held = files(content)
    (token,) = json.loads(held.pop(".signatures.json"))["signatures"]
    assert jwt.get_unverified_header(token)["kid"] == "firedoor"
    claims = jwt.decode(token, key, ["RS256"])
    assert "scope" not in claims
    listed = {one["name"]: one for one in claims["files"]}
    assert listed.keys() == held.keys()
    for name, content in held.items():
        assert listed[name]["algorithm"] == "SHA-256"
        assert listed[name]["hash"] == hashlib.sha256(_walked(json.loads(content))).hexdigest()


def _walked(value: Any) -> bytes:
    """As v1/bundle/hash.go walks it."""
    match value:
        case dict():
            inside = b",".join(_walked(key) + b":" + _walked(value[key]) for key in sorted(value))
            return b"{" + inside + b"}"
        case list():
            return b"[" + b",".join(map(_walked, value)) + b"]"
        case _:
            return json.dumps(value, ensure_ascii=False).encode()


# The bundle ----------------------------------------------------------------------------------------------------------


def test_a_bundle_is_what_opa_believes(signer: Signer) -> None:
    made = build(SHADOW, NOW, signer)
    believe(made.content, signer.key.public_key())
    held = files(made.content)
    assert json.loads(held["data.json"])["agents"]["agent-7"]["mode"] == {
        "agent": "agent-7",
        "mode": "shadow",
        "epoch": 4,
        "incident": "INC-7",
        "not_after": "2026-01-05T10:03:00Z",
    }
    manifest = json.loads(held[".manifest"])
    assert manifest["roots"] == ["agents"]
    assert manifest["rego_version"] == 1
    assert len(manifest["revision"]) == 16


@pytest.mark.parametrize("spoil", ["data", "manifest", "another", "key"])
def test_a_bundle_that_was_changed_is_not_believed(signer: Signer, spoil: str) -> None:
    made = build(SHADOW, NOW, signer)
    held, key = files(made.content), signer.key.public_key()
    match spoil:
        case "data":
            held["data.json"] = held["data.json"].replace(b"shadow", b"active")
        case "manifest":
            held[".manifest"] = held[".manifest"].replace(b'["agents"]', b'[""]')
        case "another":
            held["more/data.json"] = b"{}"
        case _:
            key = rsa.generate_private_key(65537, 2048).public_key()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in held.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    with pytest.raises((AssertionError, jwt.InvalidSignatureError)):
        believe(packed.getvalue(), key)


def test_two_replicas_make_the_same_bytes(signer: Signer) -> None:
    made = [build(SHADOW, NOW, Signer(signer.key, "firedoor")) for _ in range(2)]
    turned = dict(reversed(SHADOW.items()))
    assert {(one.etag, one.content) for one in (*made, build(turned, NOW, signer))} == {(made[0].etag, made[0].content)}
    assert gzip.decompress(made[0].content)[:9] == b"data.json"


def test_anything_else_makes_another_etag(signer: Signer) -> None:
    made = {
        build(found, until, signer).etag
        for found, until in (
            (ACTIVE, NOW),
            (SHADOW, NOW),
            (SHADOW, NOW + timedelta(minutes=5)),
            ({**SHADOW, "agent-7": Standing(Mode.SHADOW, 5, "INC-7")}, NOW),
            ({}, NOW),
        )
    }
    assert len(made) == 5


def test_a_bundle_is_good_for_half_of_its_time_at_least() -> None:
    for seconds in (0, 1, 299, 300, 301, 599):
        at = NOW + timedelta(seconds=seconds)
        assert VALID / 2 < expiry(at, VALID) - at <= VALID
    assert expiry(NOW, VALID) == datetime(2026, 1, 5, 10, 10, tzinfo=UTC)
    assert expiry(NOW + timedelta(minutes=1), VALID) == expiry(NOW, VALID)


# The door ------------------------------------------------------------------------------------------------------------


def test_a_bundle_is_fetched_and_then_not_modified(served: Served, signer: Signer) -> None:
    first = served.ask()
    assert (first.status_code, first.headers["content-type"]) == (200, "application/vnd.openpolicyagent.bundles")
    believe(first.content, signer.key.public_key())
    assert modes(first.content) == {"agent-7": "active", "agent-9": "active"}
    etag = first.headers["etag"]
    for tag in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = served.ask(if_none_match=tag)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert served.ask(if_none_match='"other"').status_code == 200
    head = served.ask(method="HEAD")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer x", "Basic t0ken", "Bearer t0ken x", "t0ken", "Bearer é"]
)
def test_without_the_token_there_is_nothing(served: Served, authorization: str) -> None:
    scope = {"path": "/bundles/agents", "method": "GET", "headers": [(b"authorization", authorization.encode())]}
    with pytest.raises(TurnedAway) as turned:
        asyncio.run(served.bundles.answer(scope))
    assert turned.value.status == 401
    assert served.looks == 0


def test_a_token_that_is_being_changed_still_opens(served: Served) -> None:
    assert served.ask(authorization="Bearer 0ld").status_code == 200


def test_other_names_and_methods(served: Served) -> None:
    assert served.ask("/bundles/others").status_code == 404
    assert served.ask("/bundles/").status_code == 404
    assert served.ask(method="POST").status_code == 405


def test_whoever_waits_hears_of_a_switch_at_once(served: Served) -> None:
    """With the header that OPA sends. A hundred wait, and the store is asked as if there were one."""

    async def story() -> tuple[list[httpx.Response], int]:
        async with served.client() as client:
            etag = (await client.get("/bundles/agents")).headers["etag"]
            wait = {"if-none-match": etag, "prefer": "modes=snapshot,delta;wait=30"}
            polls = [asyncio.create_task(client.get("/bundles/agents", headers=wait)) for _ in range(100)]
            await asyncio.sleep(0.6)
            served.modes = SHADOW
            answers = await asyncio.gather(*polls)
            return answers, served.looks

    answers, looks = asyncio.run(story())
    assert {(answer.status_code, modes(answer.content)["agent-7"]) for answer in answers} == {(200, "shadow")}
    assert looks < 30


def test_whoever_waits_in_vain_is_told_so(served: Served) -> None:
    etag = served.ask().headers["etag"]
    begun = time.monotonic()
    assert served.ask(if_none_match=etag, prefer="modes=snapshot;wait=1").status_code == 304
    assert time.monotonic() - begun >= 0.9


def test_a_new_time_of_validity_wakes_them_too(served: Served) -> None:
    etag = served.ask().headers["etag"]
    served.now += VALID
    later = served.ask(if_none_match=etag, prefer="wait=30")
    assert later.status_code == 200
    assert b"10:20:00Z" in files(later.content)["data.json"]


def test_a_process_that_stops_lets_them_go(served: Served) -> None:
    async def story() -> httpx.Response:
        async with served.client() as client:
            etag = (await client.get("/bundles/agents")).headers["etag"]
            wait = {"if-none-match": etag, "prefer": "wait=30"}
            poll = asyncio.create_task(client.get("/bundles/agents", headers=wait))
            await asyncio.sleep(0.1)
            served.closing = True
            return await asyncio.wait_for(poll, 20)

    assert asyncio.run(story()).status_code == 304


def test_where_the_store_is_away_no_validity_is_made_up(served: Served) -> None:
    etag = served.ask().headers["etag"]
    served.away = True
    time.sleep(0.45)  # older than a look that is shared
    away = served.ask(if_none_match=etag)
    assert (away.status_code, away.headers["retry-after"]) == (503, "5")
    served.away = False
    assert served.ask(if_none_match=etag).status_code == 304


@pytest.mark.parametrize("prefer", ["wait=-1", "wait=x", "await=9", "wait=1e9", "", "modes=delta", "wait=99999999"])
def test_a_preference_that_is_none_is_answered_at_once(served: Served, prefer: str) -> None:
    etag = served.ask().headers["etag"]
    assert served.ask(if_none_match=etag, prefer=prefer).status_code == 304


def test_of_many_that_ask_at_once_one_asks_the_store(served: Served) -> None:
    async def story() -> list[httpx.Response]:
        async with served.client() as client:
            return await asyncio.gather(*(client.get("/bundles/agents") for _ in range(50)))

    assert {answer.status_code for answer in asyncio.run(story())} == {200}
    assert served.looks < 5


def test_a_bundle_is_made_once_for_the_same_modes(served: Served) -> None:
    made: list[Bundle] = []
    look: Callable[[], Bundle] = served.bundles._make
    made += [look(), look()]
    assert made[0] is made[1]
