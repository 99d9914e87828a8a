from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import BadAlert
from bot.sources.body import BadBody, TooLarge, decode


def refused(body: bytes, encoding: str = "", **limits: int) -> tuple[int, str]:
    with pytest.raises(BadBody) as caught:
        decode(body, encoding, **limits)
    assert isinstance(caught.value, BadAlert)
    return caught.value.status, str(caught.value)


def test_plain_and_gzip():
    value = {"a": [1, 2.5, None, "é"]}
    body = json.dumps(value).encode()
    assert decode(body) == decode(body, "identity") == decode(gzip.compress(body), "GZIP") == value


@pytest.mark.parametrize(
    ("body", "encoding", "status", "why"),
    [
        (b"{}", "br", 415, "neither gzip nor identity"),
        (b"{}", "gzip, gzip", 415, "neither gzip nor identity"),
        (b"x" * (1024 * 1024 + 1), "", 413, "over 1048576 bytes"),
        (b"{}", "gzip", 400, "not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-4], "gzip", 400, "ends early"),
        (gzip.compress(b"{}", mtime=0) * 2, "gzip", 400, "goes on after its end"),
        (b'{"a": "\xff"}', "", 400, "not UTF-8"),
        (b'{"a": ', "", 400, r"not JSON (line 1, column 7)"),
        (b"", "", 400, "not JSON"),
        (b'{"a": NaN}', "", 400, "not JSON"),
        (b"[-Infinity]", "", 400, "not JSON"),
        (b"9" * 5000, "", 400, "not JSON"),
        (b"[" * 65 + b"]" * 65, "", 422, "more than 64 levels"),
        (b"[" * 500_000, "", 422, "more than 64 levels"),
        (b'{"a":' * 150_000, "", 422, "more than 64 levels"),
    ],
)
def test_what_cannot_be_read_says_why(body: bytes, encoding: str, status: int, why: str):
    assert refused(body, encoding)[0] == status
    assert why in refused(body, encoding)[1]


def test_a_bomb_is_not_unpacked():
    bomb = gzip.compress(b"0" * 100_000_000)
    assert len(bomb) < 1024 * 1024
    with pytest.raises(TooLarge):
        decode(bomb, "gzip")


def test_sixty_four_levels_are_read_and_brackets_in_strings_do_not_count():
    assert decode(b"[" * 64 + b"]" * 64)
    assert decode(json.dumps(["[" * 100, '"[{' * 50, "\\"]).encode()) == ["[" * 100, '"[{' * 50, "\\"]


def test_many_brackets_side_by_side_are_not_deep():
    assert len(decode(b"[" + b"[[]]," * 5000 + b"[]]")) == 5001


def test_of_duplicate_keys_the_last_counts():
    assert decode(b'{"a": 1, "a": 2}') == {"a": 2}


@given(st.binary(max_size=200), st.sampled_from(["", "gzip"]))
def test_any_bytes_are_read_or_refused(body: bytes, encoding: str):
    try:
        decode(body, encoding)
    except BadBody as error:
        known = error.status
    else:
        known = 400
    assert known in (400, 413, 422)


@given(
    st.recursive(
        st.text(max_size=5) | st.integers(-10, 10) | st.sampled_from(['"', "\\", "[{", '\\"']),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=30,
    ),
    st.integers(1, 4),
)
def test_depth_is_counted_exactly(value: object, limit: int):
    def depth(one: object) -> int:
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    body = json.dumps(value).encode()
    if depth(value) > limit:
        assert refused(body, depth=limit)[0] == 422
    else:
        assert decode(body, depth=limit) == value
