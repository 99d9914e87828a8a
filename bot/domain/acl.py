"""Vault's ACL policies, read by path and capability: whether some allow less than others, proved or not believed.

For a path Vault goes by the most specific rule of all policies of a token, so dropping a policy can widen what the rest
allow. Whatever is not a plain `path "..." { capabilities = [...] }`, as HCL or as JSON, cannot be told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import zip_longest
from typing import Any

from bot.domain.scope import Unclear, Verdict

Rules = Mapping[str, frozenset[str]]  # path as written -> capabilities; `deny` stands alone
CAPABILITIES = frozenset(
    {"create", "read", "update", "patch", "delete", "list", "sudo", "deny", "subscribe", "recover"}
)
_MOST_TEXT, _MOST_RULES = 64_000, 400  # characters of a policy; rules of all that are compared

_TOKEN = re.compile(
    r"""\s+ | (?:\#|//)[^\n]* | /\*.*?\*/ | (?P<text>"[^"\\\n]*") | (?P<word>[A-Za-z_]+) | (?P<sign>[{}\[\]=,])""",
    re.VERBOSE | re.DOTALL,
)


def parse(name: str, text: str) -> Rules:
    """Raises Unclear."""
    if name == "root":
        raise Unclear("the policy root cannot be compared")
    if len(text) > _MOST_TEXT:
        raise Unclear(f"policy {name}: it has more than {_MOST_TEXT} characters")
    try:
        blocks = _json(text) if text.lstrip().startswith("{") else _hcl(text)
        found: dict[str, frozenset[str]] = {}
        for path, capabilities in blocks:
            if path in found:
                raise Unclear(f"{path!r} stands there twice")
            _Path(path)
            if unknown := sorted(capabilities - CAPABILITIES):
                raise Unclear(f"{', '.join(unknown)!r} is no capability that is known here")
            found[path] = frozenset({"deny"}) if "deny" in capabilities else capabilities
    except Unclear as error:
        raise Unclear(f"policy {name}: {error}") from None
    return found


def compare(old: Mapping[str, str], new: Mapping[str, str], beside: Mapping[str, str] | None = None) -> Verdict:
    """Of policies by name and text. `beside` are those that a token has in both cases: of its entity, `default`."""
    names = (
        *(f"- policy {name}" for name in sorted({*old} - {*new})),
        *(f"  policy {name}" for name in sorted({*old} & {*new})),
        *(f"+ policy {name}" for name in sorted({*new} - {*old})),
    )
    try:
        every = {name: parse(name, text) for name, text in {**(beside or {}), **old, **new}.items()}
        before, after = (_merged(every[name] for name in {*own, *(beside or {})}) for own in (old, new))
        shown = _diff(_merged(every[name] for name in old), _merged(every[name] for name in new))
        if len(before) + len(after) > _MOST_RULES:
            raise Unclear(f"these policies have more than {_MOST_RULES} rules")
        if why := _more(before, after):
            return Verdict("wider", why, (*names, *shown))
        if not _more(after, before):
            return Verdict("same", "it allows exactly as much", (*names, *shown))
        return Verdict("narrower", "", (*names, *shown))
    except Unclear as error:
        return Verdict("unclear", f"it cannot be told: {error}", names)


# Reading -----------------------------------------------------------------------------------------------------------


def _json(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise Unclear("a key stands there twice")
        return found

    try:
        document = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, Unclear) else Unclear("it is no JSON") from None
    if set(document) != {"path"} or not isinstance(document["path"], dict):
        raise Unclear("only `path` is understood")
    for path, block in document["path"].items():
        listed = block.get("capabilities") if isinstance(block, dict) and set(block) == {"capabilities"} else None
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise Unclear(f"of {path!r} only a list of capabilities is understood")
        yield path, frozenset(listed)


def _hcl(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    tokens = iter([*_tokens(text), "", ""])
    for first in tokens:
        if not first:
            return
        opening = [first, (path := next(tokens)), *(next(tokens, "") for _ in range(4))]
        if opening[0] != "path" or not path.startswith('"') or opening[2:] != ["{", "capabilities", "=", "["]:
            raise Unclear(f'only path "..." {{ capabilities = [...] }} is understood, not {" ".join(opening)[:80]}')
        capabilities = set()
        for token in tokens:
            if token == "]":
                break
            if not token.startswith('"'):
                raise Unclear(f"a capability stands in quotes, not {token!r}")
            capabilities.add(token[1:-1])
            after = next(tokens)
            if after == "]":
                break
            if after != ",":
                raise Unclear(f"the capabilities of {path} are no list")
        if next(tokens, "") != "}":
            raise Unclear(f"of {path} only capabilities are understood")
        yield path[1:-1], frozenset(capabilities)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise Unclear(f"{text[at : at + 20]!r} is not understood")
        if found.lastgroup:
            yield found.group()
        at = found.end()


# Comparing ---------------------------------------------------------------------------------------------------------


class _Path:
    """Where a rule applies. A template can stand for anything, slashes too: it is taken for a `*` that is not sure."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sure = "{{" not in text
        body = text if self.sure else text.partition("{{")[0] + "*"
        self.glob = body.endswith("*")
        self.parts = body.removesuffix("*").split("/")
        odd = any("+" in part and part != "+" for part in self.parts) or (self.glob and self.parts[-1] == "+")
        if not text or text.startswith("/") or "*" in "/".join(self.parts) or odd or "${" in text:
            raise Unclear(f"the path {text!r} is not understood")

    @cached_property
    def trimmed(self) -> list[str]:
        """LIST asks for a folder with and without its slash."""
        return self.parts[:-1] if not self.glob and len(self.parts) > 1 and not self.parts[-1] else self.parts

    def covers(self, other: _Path) -> bool:
        """Every path that `other` can stand for, this stands for."""
        if not self.sure:
            return self.text == other.text
        last = len(self.parts) - 1
        if len(other.parts) <= last or (not self.glob and (other.glob or len(other.parts) != last + 1)):
            return False
        for number, (own, its) in enumerate(zip(self.parts, other.parts, strict=False)):
            if self.glob and number == last:
                return its.startswith(own) and (its != "+" or not own)
            if not (own == its or (own == "+" and its)):
                return False
        return True

    def meets(self, other: _Path) -> bool:
        """Some path may be of both; with a doubt it is."""
        return self._meets(self.parts, other, other.parts) or self._meets(self.trimmed, other, other.trimmed)

    def _meets(self, own_parts: list[str], other: _Path, its_parts: list[str]) -> bool:
        for number, (own, its) in enumerate(zip_longest(own_parts, its_parts)):
            own_open, its_open = self.glob and number == len(own_parts) - 1, other.glob and number == len(its_parts) - 1
            if own is None or its is None:
                is_last = number == max(len(own_parts), len(its_parts)) - 1
                return is_last and {own, its} <= {None, "", "+"}  # LIST of `a/` goes by a rule for `a`
            if own_open or its_open:
                begins = (own_open and its.startswith(own)) or (its_open and own.startswith(its))
                return begins or "+" in (own, its)
            if own != its and "+" not in (own, its):
                return False
        return True


def _merged(policies: Iterator[Rules]) -> dict[str, frozenset[str]]:
    found: dict[str, frozenset[str]] = {}
    for rules in policies:
        for path, capabilities in rules.items():
            both = found.get(path, frozenset()) | capabilities
            found[path] = frozenset({"deny"}) if "deny" in both else both
    return found


def _more(old: Rules, new: Rules) -> str:
    """What the new rules may allow beyond the old, or ''."""
    before = [(_Path(text), capabilities - {"deny"}) for text, capabilities in old.items()]
    for text, capabilities in new.items():
        path, wanted = _Path(text), capabilities - {"deny"}
        if not wanted:
            continue
        covering = [one for one, _ in before if one.covers(path)]
        if "list" in wanted and not path.glob and not text.endswith("/"):  # Vault goes by it for a LIST of `text/` too
            folder = _Path(f"{text}/")
            covering = [one for one in covering if one.text == text or one.covers(folder)]
        if not covering:
            return f"{_listed(wanted)} on {text}: no rule for all of it stands there now"
        for one, allowed in before:
            if wanted <= allowed or not one.meets(path) or any(_overrides(other, one, path) for other in covering):
                continue
            if (
                text != one.text and text in old and one.text in new
            ):  # which of the two goes before the other stays as it is
                continue
            return f"{_listed(wanted - allowed)} on {text} is more than {one.text} allows now"
    return ""


def _overrides(this: _Path, other: _Path, path: _Path) -> bool:
    """Of two rules of which `this` covers the path: Vault never goes by the other one there. A `+` makes that unsure:
    `a/*` goes before `a/+/*`."""
    if this is other or "+" in this.parts:
        return False
    is_exact = this.text == path.text and not this.glob  # which only `path/` takes a LIST from
    return other.covers(this) or (is_exact and other.text != f"{path.text}/")


def _diff(old: Rules, new: Rules) -> Iterator[str]:
    for path in sorted({*old, *new}):
        before, after = old.get(path, frozenset()), new.get(path, frozenset())
        for sign, capabilities in (("-", before - after), (" ", before & after), ("+", after - before)):
            if capabilities:
                yield f"{sign} {_listed(capabilities)} on {path}"


def _listed(capabilities: frozenset[str]) -> str:
    return ", ".join(sorted(capabilities))
