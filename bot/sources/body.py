"""From the bytes of a delivery to JSON, with every bound checked before it can hurt.

Of duplicate keys in an object the last counts, as the senders' own parsers have it; a duplicate cannot get round
authentication, which is over the bytes.
"""

from __future__ import annotations

import json
import re
import zlib

from bot.domain.redaction import Json
from bot.errors import BadAlert

LIMIT = 1024 * 1024  # bytes, unpacked
DEEPEST = 64  # levels of lists and objects


class BadBody(BadAlert):
    """A body that cannot be read at all: 400 not gzip, UTF-8 or JSON; 413 too large; 415 an unknown encoding;
    422 nested too deep."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(why)


class TooLarge(BadBody):
    def __init__(self, limit: int) -> None:
        super().__init__(413, f"the body is over {limit} bytes: send fewer alerts at once")


def decode(body: bytes, content_encoding: str = "", limit: int = LIMIT, depth: int = DEEPEST) -> Json:
    """`content_encoding` is the header: '', `identity` or `gzip`. Raises BadBody with the status to answer."""
    encoding = content_encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise BadBody(415, "the content encoding is neither gzip nor identity")
    if len(body) > limit:
        raise TooLarge(limit)
    if encoding.endswith("gzip"):
        body = _gunzip(body, limit)
    if _depth_exceeds(body, depth):
        raise BadBody(422, f"the body is nested more than {depth} levels deep")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadBody(400, f"the body is not UTF-8 (byte {error.start})") from error
    try:
        value: Json = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # JSONDecodeError; a number of more digits than Python reads
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BadBody(400, f"the body is not JSON{where}") from error
    return value


def _gunzip(body: bytes, limit: int) -> bytes:
    """One gzip member. Never unpacks more than `limit` bytes, whatever the packed size promises."""
    stream = zlib.decompressobj(wbits=31)
    try:
        unpacked = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadBody(400, "the body is not gzip") from error
    if len(unpacked) > limit:
        raise TooLarge(limit)
    if not stream.eof or stream.unused_data:
        raise BadBody(400, "the gzip body ends early, or goes on after its end")
    return unpacked


_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_NOT_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
_OPENS = frozenset(b"[{")


def _depth_exceeds(body: bytes, depth: int) -> bool:
    """Without recursion and before parsing. Exact for JSON; anything else fails in the parser."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    level = 0
    for bracket in _STRING.sub(b"", body).translate(None, _NOT_BRACKET):
        level += 1 if bracket in _OPENS else -1
        if level > depth:
            return True
    return False


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")
