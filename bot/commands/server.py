"""The running server, as the commands that say something speak to it: one person, one code, one answer."""

from __future__ import annotations

import getpass
import os
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bot.commands.command import Usage, with_config, with_json
from bot.commands.terminal import plain
from bot.config import load
from bot.errors import Refused, Unavailable

TIMEOUT = 40.0  # seconds; the server itself gives up after thirty
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def tell(asked: Namespace, path: str, **fields: Any) -> dict[str, Any]:
    """What the server answers. Raises Refused with the server's own reason, Unavailable, Usage."""
    url = _server(asked)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Usage(f"{url!r} is not an http(s) URL. Use --server http://HOST:PORT")
    local = parts.hostname in LOOPBACK
    if parts.scheme == "http" and not local:
        print(f"firedoor: warning: the code goes to {plain(parts.hostname)} without encryption", file=sys.stderr)
    token = _token(asked)
    who = {"person": asked.person} if token and asked.person else {}
    body = {**(who if token else {"person": _person(asked), "code": _code(asked)}), **fields}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        # A proxy has no business between this machine and itself.
        answer = httpx.post(
            f"{url.rstrip('/')}{path}", json=body, headers=headers, timeout=TIMEOUT, trust_env=not local
        )
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        hint = "Is firedoor serve running there?"
        raise Unavailable("server", f"{url} does not answer ({error}). {hint}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = f"{url} gave no answer ({error}). It may have been done: look at the incident first."
        raise Unavailable("server", why, sent=True) from None
    return _read(answer, url)


def with_server(parser: ArgumentParser) -> None:
    parser.add_argument("--as", dest="person", metavar="PERSON", help="who you are in people.yaml ($FIREDOOR_PERSON)")
    parser.add_argument("--code", metavar="CODE", help="your six-digit TOTP code ($FIREDOOR_CODE, else you are asked)")
    parser.add_argument(
        "--oidc-token-file",
        metavar="FILE",
        type=Path,
        help="instead of --as and --code: a token of your OpenID provider ($FIREDOOR_OIDC_TOKEN holds one itself)",
    )
    parser.add_argument("--server", metavar="URL", help="where it runs ($FIREDOOR_SERVER, else as firedoor.yaml says)")
    with_config(parser)
    with_json(parser)


def _server(asked: Namespace) -> str:
    if url := asked.server or os.environ.get("FIREDOOR_SERVER"):
        return str(url)
    settings = load(asked.config).settings
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return settings.public_url or f"http://{host}:{settings.port}"


def _token(asked: Namespace) -> str:
    """'' where a code is to prove who speaks. A code on the command line counts before a token in the environment."""
    if asked.oidc_token_file is None:
        return "" if asked.code else os.environ.get("FIREDOOR_OIDC_TOKEN", "").strip()
    try:
        token = str(asked.oidc_token_file.read_text("utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"the token file {asked.oidc_token_file} cannot be read: {error}") from None
    if not token or not token.isascii() or not token.isprintable():
        raise Usage(f"{asked.oidc_token_file} holds no token.")
    return token


def _person(asked: Namespace) -> str:
    person = asked.person or os.environ.get("FIREDOOR_PERSON", "")
    if not person:
        raise Usage("who is speaking? Use --as PERSON, an id from people.yaml.")
    return str(person)


def _code(asked: Namespace) -> str:
    code = asked.code or os.environ.get("FIREDOOR_CODE", "")
    if not code and sys.stdin.isatty():
        code = getpass.getpass("TOTP code: ")
    if not code:
        raise Usage("your TOTP code is missing. Use --code 123456.")
    return str(code).replace(" ", "")


def _read(answer: httpx.Response, url: str) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    if answer.is_success and isinstance(body, dict) and not {"incident", "instance"}.isdisjoint(body):
        return body
    if not isinstance(body, dict) or not {"code", "message"} <= body.keys():
        raise Unavailable("server", f"{url} answered {answer.status_code}, and not as a Firedoor does.")
    if answer.status_code >= 500:
        raise Unavailable("server", str(body["message"]))
    raise Refused(str(body["code"]), str(body["message"]))
