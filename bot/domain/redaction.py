"""Secrets are found and taken out: by shape where alerts come in, by value where anything leaves the process.

A secret becomes `[redacted:<kind>:<8 hex>]`. The digits are of a salted HMAC, so that one installation can see that two
places held the same secret, and nobody can test a guess without the salt. Access key ids, ARNs, accessors and principal
ids are not secrets: containment needs them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import quote

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

DEEPEST = 100  # levels; below it a value is replaced unread
SHORTEST = 6  # characters; a shorter known value would blank out ordinary words


@dataclass(frozen=True, slots=True)
class Found:
    """A secret that was taken out. `path` is where it stood (`detail.env[2].value`), `digest` the salted 8 hex."""

    kind: str
    path: str
    digest: str


def redact(value: Json, *, salt: bytes) -> tuple[Json, tuple[Found, ...]]:
    """A copy without secrets, keys of objects included, and what was found. Any JSON goes in, however deep. Again:
    nothing more is found."""
    search = _Search(salt)
    return search.walk(value, "", 0, under_secret=False), tuple(search.found)


def redactions(value: Json) -> tuple[Found, ...]:
    """What was taken out of a value that is clean: `path` is the JSON pointer (RFC 6901) of the text that holds the
    mark, in the value as it is now. A mark in a key counts at its object."""
    found: list[Found] = []
    _marked(value, "", found, DEEPEST + 1)
    return tuple(found)


def _marked(value: Json, path: str, found: list[Found], depth: int) -> None:
    if isinstance(value, str):
        found += (Found(mark.split(":")[1], path, mark[-9:-1]) for mark in _IS_PLACEHOLDER.findall(value))
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            _marked(key, path, found, 0)
            _marked(item, f"{path}/{key.replace('~', '~0').replace('/', '~1')}", found, depth - 1)
    elif depth and isinstance(value, list):
        for number, item in enumerate(value):
            _marked(item, f"{path}/{number}", found, depth - 1)


def redact_text(text: str, *, salt: bytes) -> str:
    """One string without the secrets that show by their shape or by `name=value`."""
    return _Search(salt).text(text, "")


def _mark(kind: str, secret: str, salt: bytes) -> tuple[str, str]:
    digest = hmac.new(salt, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:8]
    return f"[redacted:{kind}:{digest}]", digest


# Shapes ---------------------------------------------------------------------------------------------------------------

_PLACEHOLDER = r"\[redacted:[a-z_]+:[0-9a-f]{8}\]"
_IS_PLACEHOLDER = re.compile(_PLACEHOLDER)
_START = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"  # not inside a word, or after an escaped line break
_DONE = rf"(?!{_PLACEHOLDER}(?:[\s\\\"',;&@]|\Z))"
_KEY_ID = r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,32}(?![A-Za-z0-9/+=])"
_ARN = r"arn:aws[a-z-]*:[a-z0-9-]+:[a-z0-9-]*:\d*:\S+"
_IS_IDENTIFIER = re.compile(rf"{_KEY_ID}|{_ARN}")
_SENSITIVE_WORD = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret|token|api[_-]?key|apikey|secret[_-]?(?:access[_-]?)?key|secretaccesskey"
    r"|private[_-]?key|client[_-]?secret|access[_-]?key|credentials?)"
)

# (kind, marks, pattern): a pattern is only tried where one of its marks stands in the lower-cased text, because a plain
# `in` is many times cheaper than a search and most strings hold none. The group `secret`, if any, is what is taken out.
_SHAPES: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = tuple(
    (kind, marks, re.compile(pattern, flags))
    for kind, marks, pattern, flags in (
        (
            "pem",
            ("private key",),
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?"
            r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
            re.DOTALL,
        ),
        ("jwt", ("eyj",), rf"{_START}eyJ[A-Za-z0-9_-]{{6,}}\.eyJ[A-Za-z0-9_-]{{6,}}\.[A-Za-z0-9_-]*", 0),
        ("vault", ("hvs.", "hvb.", "hvr."), r"\bhv[sbr]\.[A-Za-z0-9_.-]{20,}", 0),
        (
            "github",
            ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
            r"(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})",
            0,
        ),
        ("gitlab", ("glpat-",), r"glpat-[A-Za-z0-9_-]{20,}", 0),
        (
            "slack",
            ("xox", "xapp-"),
            r"(?:xox[abdeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,})",
            0,
        ),
        (
            "slack_hook",
            ("hooks.slack",),
            r"(?i:hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers))/[A-Za-z0-9/_-]+",
            0,
        ),
        (
            "aws_session",
            ("fwogzxivyxdz", "fqogzxivyxdz", "iqojb3jpz2lu", "aqodyxdz"),
            r"(?:F[wQ]oGZXIvYXdz|IQoJb3JpZ2lu|AQoDYXdz)[A-Za-z0-9/+=_-]{40,}",
            0,
        ),
        ("model_api", ("sk-",), r"(?<![A-Za-z0-9])sk-(?:[a-z]+-)?[A-Za-z0-9_-]{20,}", 0),
        ("google_api", ("aiza",), r"AIza[A-Za-z0-9_-]{35}", 0),
        ("stripe", ("k_live_", "k_test_"), r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}", 0),
        (
            "authorization",
            ("authorization",),
            r"authorization[\\\"']*\s*[:=]\s*[\\\"']*(?:(?:bearer|basic|token|digest|negotiate|apikey)\s+)?"
            rf"(?P<secret>{_DONE}(?!(?:bearer|basic|token|digest|negotiate|apikey)\s)[^\s\\\"',]{{3,}})",
            re.IGNORECASE,
        ),
        ("bearer", ("bearer",), r"\bbearer\s+(?P<secret>(?=\S*[0-9])[A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE),
        ("url_userinfo", ("://",), rf"://[^\s/:@]{{0,256}}:(?P<secret>{_DONE}[^\s/@]+)@", 0),
        ("user_option", ("-u",), rf"(?<!\S)(?:-u|--user)[\s=]+[^\s:]{{1,128}}:(?P<secret>{_DONE}[^\s\\\"']+)", 0),
        (
            "option",
            ("--pass", "--token", "--secret", "--api", "--pwd"),
            r"--(?:password|passwd|pwd|token|secret|api-?key)\s+[\\\"']*"
            rf"(?P<secret>{_DONE}[^\s\\\"'-][^\s\\\"']{{2,}})",
            re.IGNORECASE,
        ),
        (  # not the `:secret:` of an ARN
            "assigned",
            ("pass", "pwd", "secret", "token", "key", "credential"),
            rf"(?<![0-9]{{12}}:){_SENSITIVE_WORD}[\\\"']*\s*(?:[:=]|%3d)\s*(?P<quote>\\*[\"'])?"
            rf"(?P<secret>{_DONE}(?!{_KEY_ID}|{_ARN})"
            r"(?(quote)(?:(?!(?P=quote)).){1,4096}|[^\s\\\"',;&][^\s\"',;&]{2,}))",
            re.IGNORECASE,
        ),
    )
)
_ALL_MARKS = {mark for _, marks, _ in _SHAPES for mark in marks} | {"cookie"}
_FEWEST_MARKS = tuple(mark for mark in _ALL_MARKS if not any(other in mark for other in _ALL_MARKS - {mark}))
_MAYBE_ASSIGNED = re.compile(_SENSITIVE_WORD + r"[\\\"']*\s*(?:[:=]|%3d)")  # of case-folded text: six times faster
_MAYBE_VAULT_LEGACY = re.compile(r"\.[A-Za-z0-9]{24}")  # begins with what is rare: thirty times faster
_VAULT_LEGACY = re.compile(r"(?<![A-Za-z0-9._-])[sbr]\.[A-Za-z0-9]{24}(?![A-Za-z0-9])")
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
# A key is sensitive by how it ends: `dbPassword` and `token` are, `secretName` and `token_accessor` are not.
_ENDINGS = (
    *(("password",), ("passwd",), ("pwd",), ("passphrase",), ("passcode",), ("secret",), ("token",), ("apikey",)),
    *(("api", "key"), ("private", "key"), ("secret", "key"), ("secret", "access", "key"), ("secretaccesskey",)),
    *(("authorization",), ("credential",), ("cookie",), ("encryption", "key"), ("signing", "key"), ("access", "key")),
)
_PASSWORDS = ("password", "passwd", "pwd", "passphrase", "passcode")


def _words(key: str) -> tuple[str, ...]:
    """`dbPasswords` is (db, password)."""
    words = tuple(word.lower() for word in _WORDS.findall(key))
    return (*words[:-1], words[-1].removesuffix("s")) if words else ()


@lru_cache(maxsize=4096)
def _sensitive(key: str) -> bool:
    words = _words(key)
    return any(words[-len(ending) :] == ending for ending in _ENDINGS)


@lru_cache(maxsize=1024)
def _names_secret_id(key: str) -> bool:
    """Of Vault's AppRole it is a secret; of Secrets Manager a name."""
    return _words(key)[-2:] == ("secret", "id")


@lru_cache(maxsize=4096)
def _plain(key: str) -> bool:
    """Whether a key is free of secrets. Sources send the same keys again and again."""
    return len(key) < SHORTEST or (len(key) <= 64 and redact_text(key, salt=b"") == key)


def _marks(text: str, among: Sequence[str] = _FEWEST_MARKS) -> list[str]:
    """Those that it holds. A plain `in` for each is half the cost of one pattern of them all."""
    lowered = text.casefold()
    return [mark for mark in among if mark in lowered]


@lru_cache(maxsize=4096)
def _says_nothing(key: str) -> bool:
    """Whether a key is free of secrets and calls for no look at what it holds."""
    known = key in ("value", "Value") or key.lower() != "value"
    return known and _plain(key) and not _sensitive(key) and not _names_secret_id(key)


def _name(value: Mapping[str, Json]) -> Json:
    """{"name": "DB_PASSWORD", "value": "..."}: how containers and tasks list their environment."""
    return value.get("name", value.get("Name", value.get("key", value.get("Key"))))


def _entropy(text: str) -> float:
    """Bits a character, Shannon."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values()) if text else 0.0


def _looks_random(text: str) -> bool:
    return len(text) >= 16 and not _IS_IDENTIFIER.fullmatch(text) and " " not in text and _entropy(text) >= 3.5


def _looks_like_aws_secret(text: str) -> bool:
    """Random, and not Base64 of a text (a bundle's revision, say)."""
    kinds = (str.isupper, str.islower, str.isdigit)
    if not all(any(kind(c) for c in text) for kind in kinds) or _entropy(text) < 4.2:
        return False
    return not all(32 <= byte < 127 for byte in base64.b64decode(text))


class _Strings:
    """All strings of a value, to be looked through at once: a search costs its start many times over what a character
    does, and most alerts hold nothing."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.values: list[str] = []
        self.names: list[str] = []  # what a `value` beside them is called

    def hold_nothing(self) -> bool:
        """Whether a walk would leave them all as they are. False is only a maybe."""
        if not all(len(key) <= 64 and _says_nothing(key) for key in self.keys):
            return False
        if any(_sensitive(name[-80:]) for name in self.names):
            return False
        text = "\n".join(self.values)
        if _MAYBE_VAULT_LEGACY.search(text) or _AWS_SECRET.search(text):
            return False
        marks = _marks(text)
        return not marks or all(redact_text(value, salt=b"") == value for value in self.values if _marks(value, marks))

    def hold_any(self, wanted: Iterable[str]) -> bool:
        text = "\n".join((*self.keys, *self.values))
        return any(one in text for one in wanted)


def _strings(value: Json) -> _Strings | None:
    """None where it is nested too deep to say."""
    found = _Strings()
    level: list[Json] = [value]
    for _ in range(DEEPEST):
        below: list[Json] = []
        for one in level:
            if isinstance(one, str):
                found.values.append(one)
            elif isinstance(one, dict):
                found.keys += one
                if "value" in one or "Value" in one:
                    found.names += [name] if isinstance(name := _name(one), str) else []
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return found
        level = below
    return None


class _Search:
    def __init__(self, salt: bytes) -> None:
        self.salt = salt
        self.found: list[Found] = []

    def take(self, kind: str, secret: str, path: str) -> str:
        placeholder, digest = _mark(kind, secret, self.salt)
        self.found.append(Found(kind, path, digest))
        return placeholder

    def walk(self, value: Json, path: str, depth: int, *, under_secret: bool) -> Json:
        """`under_secret`: a key above is sensitive, and what it holds is an object: its random-looking strings go."""
        if isinstance(value, str):
            clean_text = self.text(value, path)
            if under_secret and _looks_random(_IS_PLACEHOLDER.sub("", clean_text)):
                return self.take("keyed", value, path)
            return clean_text
        if not isinstance(value, dict | list):
            return value
        if depth >= DEEPEST:
            return self.take("depth", "", path)
        if isinstance(value, list):
            return [
                self.walk(item, f"{path}[{n}]", depth + 1, under_secret=under_secret) for n, item in enumerate(value)
            ]
        clean: dict[str, Json] = {}
        name = _name(value)
        named_secret = isinstance(name, str) and _sensitive(name[-80:])
        for key, item in value.items():
            shown = key if _plain(key) else self.text(key, f"{path}.<key>".lstrip("."))
            where = f"{path}.{shown}" if path else shown
            tail = key[-80:]
            if _sensitive(tail) or (named_secret and key.lower() == "value"):
                clean[shown] = self.keyed(item, where, depth + 1)
            elif isinstance(item, str) and _names_secret_id(tail) and _UUID.fullmatch(item):
                clean[shown] = self.take("approle", item, where)
            else:
                clean[shown] = self.walk(item, where, depth + 1, under_secret=under_secret)
        return clean

    def keyed(self, value: Json, path: str, depth: int) -> Json:
        """What a sensitive key holds: every string, alone or in a list, whatever it looks like; a number only where
        it is a password, because `max_tokens` is a count."""
        if isinstance(value, bool) or value is None or value == "":
            return value
        if isinstance(value, str):
            if _IS_PLACEHOLDER.fullmatch(value) or _IS_IDENTIFIER.fullmatch(value):
                return value
            kind = next((kind for kind, _, pattern in _SHAPES if pattern.fullmatch(value)), "keyed")
            return self.take(kind, value, path)
        if isinstance(value, int | float):
            is_password = path.rstrip("0123456789[]").lower().rstrip("s").endswith(_PASSWORDS)
            return self.take("keyed", repr(value), path) if is_password else value
        if isinstance(value, list) and depth < DEEPEST:
            return [self.keyed(item, f"{path}[{n}]", depth + 1) for n, item in enumerate(value)]
        return self.walk(value, path, depth, under_secret=True)

    def text(self, text: str, path: str) -> str:
        if len(text) < SHORTEST:
            return text
        if "[redacted:" in text:  # what is done stays: only what stands between is searched
            pieces = _IS_PLACEHOLDER.split(text)
            done = [*_IS_PLACEHOLDER.findall(text), ""]
            return "".join(self._search(piece, path) + mark for piece, mark in zip(pieces, done, strict=True))
        return self._search(text, path)

    def _search(self, text: str, path: str) -> str:
        if _marks(text):
            lowered = text.casefold()
            for kind, marks, pattern in _SHAPES:
                if any(mark in lowered for mark in marks) and (kind != "assigned" or _MAYBE_ASSIGNED.search(lowered)):
                    text = pattern.sub(self._taker(kind, path), text)
        if _MAYBE_VAULT_LEGACY.search(text):
            text = _VAULT_LEGACY.sub(self._taker("vault", path), text)
        if len(text) >= 40 and not text.startswith("arn:"):
            text = _AWS_SECRET.sub(self._aws_taker(path), text)
        return text

    def _taker(self, kind: str, path: str) -> Callable[[re.Match[str]], str]:
        def replace(match: re.Match[str]) -> str:
            if "secret" not in match.re.groupindex:
                return self.take(kind, match.group(), path)
            start, end = match.span("secret")
            whole, offset = match.group(), match.start()
            return whole[: start - offset] + self.take(kind, match["secret"], path) + whole[end - offset :]

        return replace

    def _aws_taker(self, path: str) -> Callable[[re.Match[str]], str]:
        return lambda match: (
            self.take("aws", match.group(), path) if _looks_like_aws_secret(match.group()) else match.group()
        )


# By value -------------------------------------------------------------------------------------------------------------


class Redactor:
    """Takes known secrets out of any text, in the forms they travel in: plain, URL-quoted, JSON-escaped, Base64; and
    then whatever shows by its shape. One per process; registering replaces one reference, so threads may read along."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt
        self._kinds: dict[str, tuple[str, str]] = {}  # a form of a secret -> (kind, the secret)
        self._pattern: re.Pattern[str] | None = None

    def register(self, kind: str, secret: str) -> None:
        """From now on `secret` is `[redacted:<kind>:...]`. `kind`: lower-case letters and `_` (`vault`, `slack_bot`).
        A secret under 6 characters raises ValueError: it stands in ordinary words, and guards nothing."""
        if len(secret) < SHORTEST:
            raise ValueError(f"the {kind} secret is shorter than {SHORTEST} characters: use a longer one")
        forms = dict.fromkeys(_forms(secret), (kind, secret))
        self._kinds = {**self._kinds, **forms}
        longest_first = sorted(self._kinds, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def text(self, text: str) -> str:
        return redact_text(self._without_known(text), salt=self._salt)

    def json(self, value: Json) -> Json:
        """The same for every string and key of a value, which comes back itself where nothing is in it."""
        strings = _strings(value)
        if self._pattern is not None and (strings is None or strings.hold_any(self._kinds)):
            value = self._known(value, 0)
        elif strings and strings.hold_nothing():
            return value
        return redact(value, salt=self._salt)[0]

    def _without_known(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: _mark(*self._kinds[match.group()], self._salt)[0], text)

    def _known(self, value: Json, depth: int) -> Json:
        if isinstance(value, str):
            return self._without_known(value)
        if depth >= DEEPEST:
            return None
        if isinstance(value, list):
            return [self._known(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {self._without_known(key): self._known(item, depth + 1) for key, item in value.items()}
        return value


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    raw = secret.encode()
    # Inside a longer Base64 text a secret may start at any of three offsets; only whole 6-bit groups are constant.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        inner = encoded[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
        if len(inner) >= SHORTEST + 2:
            yield inner
            yield inner.replace("+", "-").replace("/", "_")
