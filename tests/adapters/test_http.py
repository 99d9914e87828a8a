import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from bot.adapters.http import MIB, HttpEndpoint, Site
from bot.errors import Denied, Rejected, Unavailable
from tests.adapters.listener import Listener, listening


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def endpoint(listener: Listener) -> Iterator[HttpEndpoint]:
    tokens = iter(["first", "second", "third"])
    with closing(
        HttpEndpoint("deploy_api", f"{listener.url}/api/", lambda: {"authorization": f"Bearer {next(tokens)}"})
    ) as endpoint:
        yield endpoint


def ask(endpoint: HttpEndpoint, path: str = "/rollback", method: str = "POST"):
    return endpoint.request(method, path, {"a": 1}, key="prod.1/INC-7/12.0", timeout=2)


def test_a_request_goes_below_the_base_with_key_and_a_credential_asked_each_time(
    listener: Listener, endpoint: HttpEndpoint
):
    listener.answer = (201, {}, b'{"id": 7}')
    assert ask(endpoint, "/rollback?dry=1") == (201, {"id": 7})
    method, target, headers, body = listener.got[0]
    assert (method, target, json.loads(body)) == ("POST", "/api/rollback?dry=1", {"a": 1})
    assert (headers["idempotency-key"], headers["authorization"]) == ("prod.1/INC-7/12.0", "Bearer first")
    assert endpoint.request("GET", "/", None, key="k", timeout=2)[0] == 201
    assert listener.got[1][2]["authorization"] == "Bearer second"
    assert "content-type" not in listener.got[1][2]


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_empty(listener: Listener, endpoint: HttpEndpoint, content: bytes):
    listener.answer = (404, {}, content)
    assert ask(endpoint) == (404, {})


@pytest.mark.parametrize(
    "path",
    [
        *("rollback", "//evil.test/x", "https://evil.test/", "@evil.test/"),
        *("/a/../../admin", "/%2e%2e/admin", "/a%2f..%2fb", "/./a"),
        *("/a\\b", "/a#b", "/a\r\nx: y"),
    ],
)
def test_no_path_leaves_the_base(listener: Listener, endpoint: HttpEndpoint, path: str):
    with pytest.raises(Rejected):
        ask(endpoint, path)
    assert listener.got == []


@pytest.mark.parametrize("url", ["ftp://a/", "deploy.test", "https://user:secret@a/", "https://a/?q=1", "https://a/#f"])
def test_what_is_no_base_url(url: str):
    with pytest.raises(ValueError, match="deploy_api"):
        Site("deploy_api", url)


def test_a_redirect_is_never_followed(listener: Listener, endpoint: HttpEndpoint):
    listener.answer = (307, {"location": f"{listener.url}/elsewhere"}, b"")
    with pytest.raises(Rejected, match="307, a redirect"):
        ask(endpoint)
    assert len(listener.got) == 1


def test_an_answer_ends_at_one_mebibyte(listener: Listener, endpoint: HttpEndpoint):
    listener.answer = (200, {}, b'"' + b"x" * (MIB - 2) + b'"')
    assert ask(endpoint)[0] == 200
    listener.answer = (200, {}, b"x" * (MIB + 1))
    with pytest.raises(Rejected, match="larger than 1024 KiB"):
        ask(endpoint)


@pytest.mark.parametrize(
    ("status", "error", "sent"),
    [
        *((429, Unavailable, False), (503, Unavailable, False)),
        *((502, Unavailable, True), (504, Unavailable, True)),
        *((401, Denied, None), (403, Denied, None)),
    ],
)
def test_statuses_that_are_trouble(
    listener: Listener, endpoint: HttpEndpoint, status: int, error: type[Exception], sent: bool | None
):
    listener.answer = (status, {"retry-after": "17"}, b"")
    with pytest.raises(error) as caught:
        ask(endpoint)
    assert getattr(caught.value, "sent", None) is sent
    if status == 429:
        assert getattr(caught.value, "retry_after", None) == 17


def test_a_server_that_hangs_up_may_have_done_it(listener: Listener, endpoint: HttpEndpoint):
    listener.dead = True
    with pytest.raises(Unavailable) as caught:
        ask(endpoint)
    assert caught.value.sent


def test_nobody_listens():
    with (
        closing(HttpEndpoint("deploy_api", "http://127.0.0.1:1")) as endpoint,
        pytest.raises(Unavailable, match="cannot connect") as caught,
    ):
        ask(endpoint)
    assert not caught.value.sent
